"""All neurons of a layer, or some of them side by side: where few have something to do, others need not take part."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from .._neuron import AbstractNeuron
from .knots import aligned
from .units import indices, Places


class All(eqx.Module):
    """All neurons."""

    def write(self, rows: PyTree[Array], number: Array, happens: Array, new: PyTree[Array]) -> PyTree[Array]:
        """The rows, with a new entry in the row of each neuron's own number where it happens."""

        def one(rows, new):
            here = (indices(rows.shape[0])[:, None, None] == number) & happens
            return jnp.where(aligned(here, rows), new, rows)

        return jax.tree.map(one, rows, new)


class Some(eqx.Module):
    """The places of some units. What is taken of them has the axes `(1, some)` in place of `(batch, units)`."""

    sample: Int[Array, "1 some"]
    unit: Int[Array, "1 some"]
    exists: Bool[Array, "1 some"]  # the last ones stand for none

    @classmethod
    def first(cls, wanted: Bool[Array, "batch units"], size: int) -> "Some":
        """The first ones that are wanted."""
        batch, units = wanted.shape
        so_far = jnp.cumsum(wanted.ravel(), dtype=jnp.int32)
        number = jnp.searchsorted(so_far, jnp.arange(1, size + 1, dtype=jnp.int32))[None].astype(jnp.int32)
        # Those that stand for none are outside of every array: they take the last entry, and leave nothing.
        return cls(number // units, number % units, number < batch * units)

    @property
    def places(self) -> Places:
        """Where they are; those that stand for none, at the first."""
        return Places(*(jnp.where(self.exists, at, 0)[..., None] for at in (self.sample, self.unit)))

    def gather(self, tree: PyTree[Array], leads: PyTree[int] = 0) -> PyTree[Array]:
        """The same of these units, from arrays with the axes `(batch, units, ...)` behind so many that lead."""

        def one(lead, part):
            place = (*(slice(None),) * lead, self.sample, self.unit)
            return jax.tree.map(lambda leaf: leaf.at[place].get(mode="clip"), part)

        return jax.tree.map(one, leads, tree)

    def scatter(self, tree: PyTree[Array], new: PyTree[Array], leads: PyTree[int]) -> PyTree[Array]:
        """The same arrays, with new entries for these units."""

        def one(lead, old, new):
            place = (*(slice(None),) * lead, self.sample, self.unit)
            return jax.tree.map(lambda old, new: old.at[place].set(new, mode="drop"), old, new)

        return jax.tree.map(one, leads, tree, new)

    def take(self, tree: PyTree[Array]) -> PyTree[Array]:
        """The same of these neurons; what has one entry for all samples and units is shared."""

        def of_neuron(leaf):
            # A parameter is shared, or has the axes `(batch, units, 1)`.
            is_shared = not eqx.is_array(leaf) or leaf.ndim == 0
            return leaf if is_shared else leaf.at[self.sample, self.unit].get(mode="clip")

        def one(part):
            if isinstance(part, AbstractNeuron):
                return jax.tree.map(of_neuron, part)
            if part.ndim < 2 or part.shape[-2:] == (1, 1):
                return part
            sample, unit = part.shape[-2:]
            place = (self.sample if sample > 1 else 0, self.unit if unit > 1 else 0)
            return part.at[(..., *place)].get(mode="clip")

        return jax.tree.map(one, tree, is_leaf=lambda part: isinstance(part, AbstractNeuron))

    def put(self, tree: PyTree[Array], new: PyTree[Array]) -> PyTree[Array]:
        """An array for all neurons, with new entries for these."""
        return jax.tree.map(lambda old, new: old.at[..., self.sample, self.unit].set(new, mode="drop"), tree, new)

    def write(self, rows: PyTree[Array], number: Array, happens: Array, new: PyTree[Array]) -> PyTree[Array]:
        """As for all, into rows for all."""

        def one(rows, new):
            place = (jnp.where(happens, number, rows.shape[0]), ..., self.sample, self.unit)
            # Indices on both sides of a slice: NumPy has what they index first.
            return rows.at[place].set(jnp.moveaxis(new, (-2, -1), (0, 1)), mode="drop")

        return jax.tree.map(one, rows, new)
