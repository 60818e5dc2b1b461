"""A grid of cells, across which neurons step without a stop at the arrivals.

The drive of a cell is replaced by the straight line with the same integral and the same first moment,

    drive(s) = mean + rise (s / h - 1/2),    mean = I0 / h,    rise = 12 I1 / h²,
    I0 = ∫ D(s) ds,    I1 = ∫ (s - h/2) D(s) ds,    s from 0 to the length h of the cell,

so that a step across the cell errs in the fourth order of h, and depends smoothly on weights and times, if the slope of
the state is linear in the drive: the mean of a curved function is not that of the function of the mean. (The drives of
several ports err in the second order, by their product, where it matters which of two comes first.) Since a
synapse is linear, the moments of D are those of what the filters held at the start of the cell, and the sum over the
arrivals in it of weight times the moment of one arrival. The last is one matrix product for the whole layer.

A cell is open at its start and closed at its end: an arrival at the edge between two belongs to the first of them,
and only to the filters of the second. An arrival at `t0` belongs to the first cell.
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._synapse import AbstractSynapse, is_synapse, Synapse
from .units import indices, over_units, Places


class Table(eqx.Module):
    """The line of every cell, and the filters at its end; the leaves have the axes `(cells, batch, units, neurons)`."""

    mean: PyTree[Array]
    rise: PyTree[Array]
    filters: PyTree[Array]

    def at(self, places: Places, cell: Int[Array, "batch units 1"]) -> "Table":
        """The entries of the cell of each unit."""
        return _taken(self, places, cell)

    def add(
        self, places: Places, cell: Int[Array, "batch units 1"], where: Bool[Array, "batch units 1"], bar: "Table"
    ) -> "Table":
        """The transpose of `at`: adds to the entries of each unit's cell, where `where` holds."""

        def leaf(table, bar):
            kept = where.reshape(where.shape + (1,) * (bar.ndim - where.ndim))
            return table.at[_entry(table, places, cell)].add(jnp.where(kept, bar, 0.0), mode="promise_in_bounds")

        return jax.tree.map(leaf, self, bar)


class Line(eqx.Module):
    """The drive of one neuron across a cell; where `whole` holds it takes the place of the filters' drive."""

    whole: Bool[Array, ""]
    mean: PyTree[Array]
    rise: PyTree[Array]

    def drive(self, elapsed: Array, h: Array, exact: PyTree[Array]) -> PyTree[Array]:
        """The drive a time `elapsed` after the start; `exact` is that of the filters."""
        along = elapsed / jnp.where(self.whole, h, 1.0) - 0.5
        return jax.tree.map(
            lambda mean, rise, exact: jnp.where(self.whole, mean + rise * along, exact), self.mean, self.rise, exact
        )


class View(eqx.Module):
    """What a unit sees of its cell."""

    whole: Bool[Array, "batch units 1"]  # the unit tries a single step across the cell
    end: Float[Array, "batch units 1"]
    passed: Int[Array, "batch units 1"]  # arrivals up to the end
    entry: Table
    variation: PyTree[Array]

    def line(self, like: Array) -> Line:
        """The line for every neuron of the unit."""
        return Line(jnp.broadcast_to(self.whole, like.shape), self.entry.mean, self.entry.rise)


class Cells(eqx.Module):
    """The cells of a layer."""

    ends: Float[Array, " cells"]
    table: Table
    variation: PyTree[Array]  # the sum of all ups and downs of the drive in a cell, or more
    passed: Int[Array, "batch cells"]  # arrivals up to the end of a cell
    watched: Bool[Array, " cells"]  # a state is saved inside

    def view(self, places: Places, cell: Int[Array, "batch units 1"], whole: Bool[Array, "batch units 1"]) -> View:
        """The cell of each unit."""
        passed = self.passed.at[places.sample, cell].get(mode="promise_in_bounds")
        entry, variation = self.table.at(places, cell), _taken(self.variation, places, cell)
        return View(whole, self.ends[cell], passed, entry, variation)

    def after(self, cell: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The next cell; after the last one, itself."""
        return jnp.minimum(cell + 1, self.ends.shape[0] - 1)


def ends_of(t0: Array, t1: Array, n: int) -> Float[Array, " cells"]:
    """The ends of `n` equal cells; the last one is `t1` exactly."""
    number = indices(n) + 1
    share = number.astype(t0.dtype) / n
    return jnp.where(number == n, t1, t0 + (t1 - t0) * share)


def share_of_start(cell: Array, n: int, dtype: Any) -> Array:
    """The derivative of the end of a cell by `t0`."""
    return 1.0 - (cell + 1).astype(dtype) / n


def watched_cells(t0: Array, ends: Float[Array, " cells"], ts: Float[Array, " ts"] | None) -> Bool[Array, " cells"]:
    """Whether a cell has a time of `ts` inside, or at `t0`: the arrivals at that time belong to the first cell.

    At all other edges the state of the neuron itself is at hand.
    """
    if ts is None:
        return jnp.zeros(ends.shape, bool)
    starts = _starts(t0, ends)
    inside = (starts < ts[:, None]) & (ts[:, None] < ends)
    return jnp.any(inside | ((ts[:, None] == t0) & (starts == t0)), axis=0)


class Arriving(eqx.Module):
    """The spikes of all sources, which all units hear."""

    times: Float[Array, "batch 1 spikes"]
    source: Int[Array, "samples spikes"]
    gains: PyTree[Array] | None


def tabulate(
    synapse: Synapse,
    weight: PyTree[Array],
    arriving: Arriving,
    filters: PyTree[Array],
    t0: Array,
    ends: Array,
) -> tuple[Table, PyTree[Array]]:
    """The table of a layer, and the variation of the drive in each cell, from what the filters hold at `t0`.

    The parameters of `synapse` have the shape `()`; the weights have the axes `(sources, units, neurons)`.
    """
    times, gains = arriving.times, arriving.gains
    if gains is None:
        gains = jax.tree.map(lambda _: jnp.ones((), times.dtype), synapse, is_leaf=is_synapse)
    length = ends - _starts(t0, ends)
    cell = jnp.searchsorted(ends, times, side="left").astype(jnp.int32)
    comes = cell < ends.shape[0]
    cell = jnp.where(comes, cell, 0)
    age = jnp.where(comes, ends[cell] - jnp.where(comes, times, 0.0), 0.0)

    def port(synapse, weight, gain, start):
        def sums(scale, response, weight):
            # Many small products run at half the speed of a large one.
            collect = _by_arrival if 2 * times.shape[2] < weight.shape[0] else _by_source
            landed = jax.tree.map(lambda x: jnp.where(comes, scale * x, 0.0)[:, 0], response)
            return collect(landed, cell[:, 0], arriving.source, weight, ends.shape[0])

        response, variation = over_units(_unit_response, synapse, age, length[cell])
        arrived = sums(gain, response, weight)
        fixed = lax.stop_gradient
        varied = sums(jnp.abs(fixed(gain)), fixed(variation), jnp.abs(fixed(weight)))
        rest, rest_variation = _rest(synapse, start, arrived.filters, length)
        return jax.tree.map(jnp.add, (arrived, varied), (rest, fixed(rest_variation)))

    ports = jax.tree.map(port, synapse, weight, gains, filters, is_leaf=is_synapse)

    def part(which):
        return jax.tree.map(which, ports, is_leaf=lambda node: isinstance(node, tuple))

    table = Table(part(lambda p: p[0].mean), part(lambda p: p[0].rise), part(lambda p: p[0].filters))
    return table, part(lambda p: p[1])


# Gauss' rule on [0, 1]: exact to rounding for the drive of a cell, which is short against the synapse.
_NODES, _WEIGHTS = (
    tuple(((x + shift) / 2).tolist()) for x, shift in zip(np.polynomial.legendre.leggauss(6), (1, 0), strict=True)
)


def _response(synapse: AbstractSynapse, state: Any, span: Array, fraction: Array) -> tuple[Table, PyTree[Array]]:
    """What a filter state does during the last `fraction` of a cell, which takes the time `span`."""

    def drive(part):
        return synapse.drive(synapse.evolve(state, part * span))

    drives = [drive(node) for node in _NODES]
    places = [0.5 - fraction + fraction * node for node in _NODES]

    def mean(*drives):
        return fraction * sum(w * d for w, d in zip(_WEIGHTS, drives, strict=True))

    def rise(*drives):
        return 12.0 * fraction * sum(w * d * s for w, d, s in zip(_WEIGHTS, drives, places, strict=True))

    def variation(*drives):
        return sum(jnp.abs(after - before) for before, after in itertools.pairwise(drives))

    ups_and_downs = jax.tree.map(variation, drive(0.0), *drives, drive(1.0))
    table = Table(jax.tree.map(mean, *drives), jax.tree.map(rise, *drives), synapse.evolve(state, span))
    return table, ups_and_downs


def _unit_response(synapse: AbstractSynapse, age: Array, length: Array) -> tuple[Table, PyTree[Array]]:
    """What an arrival of weight one, a time `age` before the end of its cell, does in the cell."""
    state = synapse.receive(synapse.initial_state(jnp.zeros_like(age)), jnp.ones_like(age))
    table, variation = _response(synapse, state, age, age / length)
    return table, jax.tree.map(lambda x, jump: x + jnp.abs(jump), variation, synapse.drive(state))


def _rest(
    synapse: AbstractSynapse, start: PyTree[Array], arrived: PyTree[Array], length: Array
) -> tuple[Table, PyTree[Array]]:
    """What the filters hold at the start of each cell does in it; `arrived` is what its arrivals add at its end."""

    def evolved(synapse, state, length):
        return over_units(lambda synapse, state: synapse.evolve(state, length), synapse, state)

    def one(start, cell):
        arrived, length = cell
        return jax.tree.map(jnp.add, evolved(synapse, start, length), arrived), start

    _, starts = lax.scan(one, start, (arrived, length))

    def across(start, length):
        return over_units(lambda s, x: _response(s, x, length, jnp.ones_like(length)), synapse, start)

    return jax.vmap(across)(starts, length)


def _by_source(
    landed: PyTree[Array], cell: Int[Array, "batch spikes"], source: Array, weight: Array, cells: int
) -> PyTree[Array]:
    """The sums of what lands in each cell times its weight: one product with the weights for the whole layer."""
    batch = cell.shape[0]
    place = indices(batch)[:, None], cell, source

    def leaf(x):
        kernel = jnp.zeros((batch, cells, weight.shape[0]), x.dtype).at[place].add(x, mode="promise_in_bounds")
        return jnp.einsum("bcs,sun->cbun", kernel, weight, precision=lax.Precision.HIGHEST)

    return jax.tree.map(leaf, landed)


def _by_arrival(
    landed: PyTree[Array], cell: Int[Array, "batch spikes"], source: Array, weight: Array, cells: int
) -> PyTree[Array]:
    """The same, where few of many sources spike: a product for each sample, with the weights of its arrivals."""
    own = weight.at[jnp.broadcast_to(source, cell.shape)].get(mode="promise_in_bounds")
    here = cell[:, None, :] == indices(cells)[None, :, None]

    def leaf(x):
        kernel = jnp.where(here, x[:, None, :], 0.0)
        return jnp.einsum("bcs,bsun->cbun", kernel, own, precision=lax.Precision.HIGHEST)

    return jax.tree.map(leaf, landed)


def _starts(t0: Array, ends: Array) -> Array:
    return jnp.concatenate([t0[None], ends[:-1]])


def _taken(tree: PyTree[Array], places: Places, cell: Int[Array, "batch units 1"]) -> Any:
    return jax.tree.map(lambda leaf: leaf.at[_entry(leaf, places, cell)].get(mode="promise_in_bounds"), tree)


def _entry(leaf: Array, places: Places, cell: Int[Array, "batch units 1"]) -> tuple[Array, ...]:
    return cell, places.sample, places.unit, indices(leaf.shape[3])
