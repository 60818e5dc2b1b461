"""Compaction: operations on all neurons of a layer, or on a gathered subset if only a few are active."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from ..._neuron import AbstractNeuron
from .axes import aligned, indices, Places


class All(eqx.Module):
    """All neurons."""

    def write(self, rows: PyTree[Array], number: Array, happens: Array, new: PyTree[Array]) -> PyTree[Array]:
        """The rows, with `new` written to row `number` of each neuron where `happens`."""

        def one(rows, new):
            here = (indices(rows.shape[0])[:, None, None] == number) & happens
            return jnp.where(aligned(here, rows), new, rows)

        return jax.tree.map(one, rows, new)


class Subset(eqx.Module):
    """The places of some units. Gathered arrays have the axes `(1, some)` in place of `(batch, units)`."""

    sample: Int[Array, "1 some"]
    unit: Int[Array, "1 some"]
    exists: Bool[Array, "1 some"]  # False for unused places, which come last

    @classmethod
    def first(cls, wanted: Bool[Array, "batch units"], size: int) -> "Subset":
        """The first `size` units that are wanted."""
        batch, units = wanted.shape
        so_far = jnp.cumsum(wanted.ravel(), dtype=jnp.int32)
        number = jnp.searchsorted(so_far, jnp.arange(1, size + 1, dtype=jnp.int32))[None].astype(jnp.int32)
        # Unused places are out of bounds: `gather` clips them to the last entry, and `scatter` drops them.
        return cls(number // units, number % units, number < batch * units)

    @property
    def places(self) -> Places:
        """The places of the units; unused ones point to the first unit."""
        return Places(*(jnp.where(self.exists, at, 0)[..., None] for at in (self.sample, self.unit)))

    def gather(self, tree: PyTree, leads: PyTree[int] = 0) -> PyTree[Array]:
        """The entries of these units, from arrays with the axes `(batch, units, ...)` after `leads` other axes."""

        def one(lead, part):
            place = (*(slice(None),) * lead, self.sample, self.unit)
            return jax.tree.map(lambda leaf: leaf.at[place].get(mode="clip"), part)

        return jax.tree.map(one, leads, tree)

    def scatter(self, tree: PyTree[Array], new: PyTree[Array], leads: PyTree[int]) -> PyTree[Array]:
        """The arrays with new entries for these units."""

        def one(lead, old, new):
            place = (*(slice(None),) * lead, self.sample, self.unit)
            return jax.tree.map(lambda old, new: old.at[place].set(new, mode="drop"), old, new)

        return jax.tree.map(one, leads, tree, new)

    def gather_last(self, tree: PyTree) -> PyTree:
        """The entries of these neurons, on the last two axes. Arrays with one entry for all neurons stay shared."""

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

    def scatter_last(self, tree: PyTree[Array], new: PyTree[Array]) -> PyTree[Array]:
        """The arrays of all neurons with new entries for these."""
        return jax.tree.map(lambda old, new: old.at[..., self.sample, self.unit].set(new, mode="drop"), tree, new)

    def write(self, rows: PyTree[Array], number: Array, happens: Array, new: PyTree[Array]) -> PyTree[Array]:
        """As `All.write`, into the rows of all neurons."""

        def one(rows, new):
            place = (jnp.where(happens, number, rows.shape[0]), ..., self.sample, self.unit)
            # With indices on both sides of a slice, NumPy's indexing moves their axes to the front.
            return rows.at[place].set(jnp.moveaxis(new, (-2, -1), (0, 1)), mode="drop")

        return jax.tree.map(one, rows, new)
