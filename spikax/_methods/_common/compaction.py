"""Compaction: operations on all neurons of a layer, or on a gathered subset if only a few are active."""

import math
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from ..._neuron import AbstractNeuron
from .axes import aligned, indices, Places
from .vectorized import most_of_members


class All(eqx.Module):
    """All neurons."""

    exists: bool = eqx.field(static=True, default=True)

    def gather_last(self, tree: PyTree) -> PyTree:
        """The entries of these neurons: all."""
        return tree

    def row(self, rows: Array, number: Int[Array, "batch units"]) -> Array:
        """The row `number` of each neuron. Numbers out of bounds are clipped."""
        number = aligned(jnp.clip(number, 0, rows.shape[0] - 1)[None], rows)
        return jnp.take_along_axis(rows, number, axis=0)[0]

    def add_to_row(self, rows: Array, number: Int[Array, "batch units"], new: Array) -> Array:
        """The rows, with `new` added to row `number` of each neuron."""
        batch, units = (indices(n) for n in number.shape)
        return _add(rows, number, (batch[:, None], units), new)

    def write(self, rows: PyTree[Array], number: Array, happens: Array, new: PyTree[Array]) -> PyTree[Array]:
        """The rows, with `new` written to row `number` of each neuron where `happens`."""

        def one(rows, new):
            here = (indices(rows.shape[0])[:, None, None] == number) & happens
            return jnp.where(aligned(here, rows), new, rows)

        return jax.tree.map(one, rows, new)


ALL = All()


class Subset(eqx.Module):
    """The places of some units. Gathered arrays have the axes `(1, some)` in place of `(batch, units)`."""

    sample: Int[Array, "1 some"]
    unit: Int[Array, "1 some"]
    exists: Bool[Array, "1 some"]  # False for unused places, which come last

    @classmethod
    def first(cls, wanted: Bool[Array, "batch units"], size: int) -> "Subset":
        """The first `size` units that are wanted."""
        batch, units = wanted.shape
        number = first_places(wanted.reshape(1, -1), size)
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

    def row(self, rows: Array, number: Int[Array, "1 some"]) -> Array:
        """As `All.row`, from the rows of all neurons."""
        number = jnp.clip(number, 0, rows.shape[0] - 1)
        found = rows.at[(number, ..., *_lanes(rows, (self.sample, self.unit)))].get(mode="clip")
        return jnp.moveaxis(found, (0, 1), (-2, -1))

    def add_to_row(self, rows: Array, number: Int[Array, "1 some"], new: Array) -> Array:
        """As `All.add_to_row`, to the rows of all neurons."""
        return _add(rows, number, (self.sample, self.unit), new)

    def write(self, rows: PyTree[Array], number: Array, happens: Array, new: PyTree[Array]) -> PyTree[Array]:
        """As `All.write`, into the rows of all neurons."""

        def one(rows, new):
            place = (jnp.where(happens, number, rows.shape[0]), ..., self.sample, self.unit)
            # With indices on both sides of a slice, NumPy's indexing moves their axes to the front.
            return rows.at[place].set(jnp.moveaxis(new, (-2, -1), (0, 1)), mode="drop")

        return jax.tree.map(one, rows, new)


def first_places(wanted: Bool[Array, "*rows n"], size: int) -> Int[Array, "*rows size"]:
    """The places of the first `size` in each row that are wanted; n where there are fewer."""
    n, rows = wanted.shape[-1], math.prod(wanted.shape[:-1])
    # Groups of 32 as the bits of an integer, whose lower bits count those before a place: a cumulative sum of all
    # places takes several times as long.
    bits = jnp.pad(wanted.reshape(rows, n), ((0, 0), (0, -n % 32))).reshape(rows, -1, 32)
    bit = jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32)[None, None]
    group = jnp.sum(jnp.where(bits, bit, jnp.uint32(0)), axis=2, keepdims=True, dtype=jnp.uint32)
    each = lax.population_count(group).astype(jnp.int32)
    before = jnp.cumsum(each, axis=1, dtype=jnp.int32) - each
    rank = before + lax.population_count(group & (bit - jnp.uint32(1))).astype(jnp.int32)
    rank = rank.reshape(rows, -1)[:, :n].reshape(wanted.shape)
    row = indices(rows).reshape(*wanted.shape[:-1], 1)
    # An index out of bounds is dropped.
    to = row, jnp.where(wanted, rank, size)
    places = jnp.full((rows, size), n, jnp.int32).at[to].set(indices(n), mode="drop")
    return places.reshape(*wanted.shape[:-1], size)


_Result = TypeVar("_Result")


def of_columns(last: Int[Array, ""], columns: int, function: Callable[[int], _Result]) -> _Result:
    """`function` of a number of columns: the least of a few, up to all of them, that is not below `last`."""
    sizes = [columns]
    for ratio in _RATIOS:
        if sizes[-1] > _FEW:
            sizes.append(-(-sizes[-1] // ratio))
    fits = most_of_members(last) <= jnp.asarray(sizes[1:], jnp.int32)
    branches = [lambda _, size=size: function(size) for size in sizes]
    return lax.switch(jnp.sum(fits, dtype=jnp.int32), branches, None)


# Each size is a sort of its own, which takes time to compile. So there are few of them, each so many times smaller than
# the one before, and few columns have one size.
_RATIOS, _FEW = (4, 6), 1024


def _lanes(rows: Array, neurons: tuple[Array, Array]) -> tuple[Array, Array | int]:
    """The sample and the lane of neurons in an array whose last axes are `(batch, #units)`."""
    sample, unit = neurons
    return sample, unit if rows.shape[-1] > 1 else 0


def _add(rows: Array, number: Array, neurons: tuple[Array, Array], new: Array) -> Array:
    # With indices on both sides of a slice, NumPy's indexing moves their axes to the front.
    new = jnp.moveaxis(new, (-2, -1), (0, 1))
    return rows.at[(number, ..., *_lanes(rows, neurons))].add(new, mode="drop")
