"""A time grid of bins, across which neurons step without stopping at the arrivals.

The drive D in a bin is replaced by the straight line with the same integral and the same first moment,

    drive(s) = mean + rise (s / h - 1/2),    mean = I0 / h,    rise = 12 I1 / h²,
    I0 = ∫ D(s) ds,    I1 = ∫ (s - h/2) D(s) ds,    s from 0 to the length h of the bin.

A step across the bin depends smoothly on weights and times. Its error is of third order in h where the drive jumps at
arrivals, and of fourth order where it is continuous: for a jump w at the fraction u of the bin it is, to leading order,
w h³ u (1-u) (u-1/2) / 6 times the second derivative of the response to the drive. This holds if the slope of the state
is linear in the drive: the mean of a nonlinear function is not the function of the mean. (With several ports the error
is of second order in h, through the product of their drives, where the order of two arrivals matters.)

A synapse is linear, so the moments of D are those of the filters at the start of the bin, plus the sum over the
arrivals in the bin of weight times the moment of one arrival. This sum is one matrix product for the whole layer.

A bin is open at its start and closed at its end: an arrival at the boundary between two bins belongs to the first one,
and enters only the filters of the second. An arrival at `t0` belongs to the first bin.
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._routing import SynapticInput
from ..._synapse import AbstractSynapse, for_each_port, is_synapse, Synapse
from .._common.axes import indices, over_units, Places


class Table(eqx.Module):
    """The line of each bin, and the filters at its end. The leaves have the axes `(bins, batch, units, neurons)`."""

    mean: PyTree[Array]
    rise: PyTree[Array]
    filters: PyTree[Array]

    def at(self, places: Places, bin: Int[Array, "batch units 1"]) -> "Table":
        """The entries of the bin of each unit."""
        return _taken(self, places, bin)

    def add(
        self, places: Places, bin: Int[Array, "batch units 1"], where: Bool[Array, "batch units 1"], bar: "Table"
    ) -> "Table":
        """The transpose of `at`: adds to the entries of each unit's bin, where `where` holds."""

        def leaf(table, bar):
            kept = where.reshape(where.shape + (1,) * (bar.ndim - where.ndim))
            return table.at[_table_entry(table, places, bin)].add(jnp.where(kept, bar, 0.0), mode="promise_in_bounds")

        return jax.tree.map(leaf, self, bar)


class Line(eqx.Module):
    """The straight-line drive of neurons in a bin. Where `whole` holds, it replaces the drive of the filters."""

    whole: Bool[Array, "*neurons"]
    mean: PyTree[Array]
    rise: PyTree[Array]

    def drive(self, elapsed: Array, h: Array, exact: PyTree[Array]) -> PyTree[Array]:
        """The drive at the time `elapsed` after the start of the bin. `exact` is the drive of the filters."""
        along = elapsed / jnp.where(self.whole, h, 1.0) - 0.5
        return jax.tree.map(
            lambda mean, rise, exact: jnp.where(self.whole, mean + rise * along, exact), self.mean, self.rise, exact
        )


class View(eqx.Module):
    """The current bin of each unit."""

    whole: Bool[Array, "batch units 1"]  # the unit tries a single step across the bin
    end: Float[Array, "batch units 1"]
    passed: Int[Array, "batch units 1"]  # arrivals up to the end
    table_entry: Table
    variation: PyTree[Array]

    def line(self, like: Array) -> Line:
        """The line for each neuron of the unit."""
        return Line(jnp.broadcast_to(self.whole, like.shape), self.table_entry.mean, self.table_entry.rise)


class Bins(eqx.Module):
    """The bins of a layer."""

    ends: Float[Array, " bins"]
    table: Table
    # An estimate of the total variation of the drive in a bin: the sum of those of its parts, from their differences
    # between the nodes of a quadrature. It misses a peak between two nodes, as that of an alpha function.
    variation: PyTree[Array]
    passed: Int[Array, "batch bins"]  # arrivals up to the end of a bin
    has_save_time: Bool[Array, " bins"]  # a state is saved inside

    def view(self, places: Places, bin: Int[Array, "batch units 1"], whole: Bool[Array, "batch units 1"]) -> View:
        """The bin of each unit."""
        passed = self.passed.at[places.sample, bin].get(mode="promise_in_bounds")
        table_entry, variation = self.table.at(places, bin), _taken(self.variation, places, bin)
        return View(whole, self.ends[bin], passed, table_entry, variation)

    def after(self, bin: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The next bin. The last bin is followed by itself."""
        return jnp.minimum(bin + 1, self.ends.shape[0] - 1)


def ends_of(t0: Array, t1: Array, n: int) -> Float[Array, " bins"]:
    """The ends of `n` equal bins. The last one is exactly `t1`."""
    number = indices(n) + 1
    share = number.astype(t0.dtype) / n
    return jnp.where(number == n, t1, t0 + (t1 - t0) * share)


def share_of_start(bin: Array, n: int, dtype: Any) -> Array:
    """The derivative of the end of a bin with respect to `t0`."""
    return 1.0 - (bin + 1).astype(dtype) / n


def bins_with_save_times(
    t0: Array, ends: Float[Array, " bins"], ts: Float[Array, " ts"] | None
) -> Bool[Array, " bins"]:
    """Whether a bin has a time of `ts` in its interior, or at `t0`, whose arrivals belong to the first bin.

    At all other boundaries of bins the state of the neuron is available.
    """
    if ts is None:
        return jnp.zeros(ends.shape, bool)
    starts = _starts(t0, ends)
    inside = (starts < ts[:, None]) & (ts[:, None] < ends)
    return jnp.any(inside | ((ts[:, None] == t0) & (starts == t0)), axis=0)


def tabulate(
    synapse: Synapse,
    received: SynapticInput,
    filters: PyTree[Array],
    t0: Array,
    ends: Array,
) -> tuple[Table, PyTree[Array]]:
    """The table of a layer, and the variation of the drive in each bin, from the filters at `t0`.

    The parameters of `synapse` have the shape `()`; the weights have the axes `(sources, units, neurons)`.
    """
    times, weight, gains = received.times, received.weight, received.gains
    if gains is None:
        gains = for_each_port(synapse, jnp.ones((), times.dtype))
    length = ends - _starts(t0, ends)
    bin = jnp.searchsorted(ends, times, side="left").astype(jnp.int32)
    comes = bin < ends.shape[0]
    bin = jnp.where(comes, bin, 0)
    age = jnp.where(comes, ends[bin] - jnp.where(comes, times, 0.0), 0.0)

    def port(synapse, weight, gain, start):
        def sums(scale, response, weight):
            # Many small products take twice as long as a large one.
            collect = _by_arrival if 2 * times.shape[2] < weight.shape[0] else _by_source
            landed = jax.tree.map(lambda x: jnp.where(comes, scale * x, 0.0)[:, 0], response)
            return collect(landed, bin[:, 0], received.source[:, 0], weight, ends.shape[0])

        response, variation = over_units(_unit_response, synapse, age, length[bin])
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


# Gauss–Legendre quadrature on [0, 1]. Its relative error for an exponential is about 2e-16 (h / tau)^12: it is exact to
# rounding for bins up to about one synaptic time constant.
_NODES, _WEIGHTS = (
    tuple(((x + shift) / 2).tolist()) for x, shift in zip(np.polynomial.legendre.leggauss(6), (1, 0), strict=True)
)


def _response(synapse: AbstractSynapse, state: Any, span: Array, fraction: Array) -> tuple[Table, PyTree[Array]]:
    """The response to a filter state during the last `fraction` of a bin, which lasts `span`."""

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
    """The response in a bin to an arrival of weight one at the time `age` before the end of the bin."""
    state = synapse.receive(synapse.initial_state(jnp.zeros_like(age)), jnp.ones_like(age))
    table, variation = _response(synapse, state, age, age / length)
    return table, jax.tree.map(lambda x, jump: x + jnp.abs(jump), variation, synapse.drive(state))


def _rest(
    synapse: AbstractSynapse, start: PyTree[Array], arrived: PyTree[Array], length: Array
) -> tuple[Table, PyTree[Array]]:
    """The response in each bin to the filters at its start. `arrived` are the filters that its arrivals add."""

    def evolved(synapse, state, length):
        return over_units(lambda synapse, state: synapse.evolve(state, length), synapse, state)

    def one(start, bin):
        arrived, length = bin
        return jax.tree.map(jnp.add, evolved(synapse, start, length), arrived), start

    _, starts = lax.scan(one, start, (arrived, length))

    def across(start, length):
        return over_units(lambda s, x: _response(s, x, length, jnp.ones_like(length)), synapse, start)

    return jax.vmap(across)(starts, length)


def _by_source(
    landed: PyTree[Array], bin: Int[Array, "batch spikes"], source: Array, weight: Array, bins: int
) -> PyTree[Array]:
    """The weighted sums of the responses in each bin: one product with the weights for the whole layer."""
    batch = bin.shape[0]
    place = indices(batch)[:, None], bin, source

    def leaf(x):
        kernel = jnp.zeros((batch, bins, weight.shape[0]), x.dtype).at[place].add(x, mode="promise_in_bounds")
        return jnp.einsum("bcs,sun->cbun", kernel, weight, precision=lax.Precision.HIGHEST)

    return jax.tree.map(leaf, landed)


def _by_arrival(
    landed: PyTree[Array], bin: Int[Array, "batch spikes"], source: Array, weight: Array, bins: int
) -> PyTree[Array]:
    """The same, if few of many sources spike: one product per sample, with the weights of its arrivals."""
    own = weight.at[jnp.broadcast_to(source, bin.shape)].get(mode="promise_in_bounds")
    here = bin[:, None, :] == indices(bins)[None, :, None]

    def leaf(x):
        kernel = jnp.where(here, x[:, None, :], 0.0)
        return jnp.einsum("bcs,bsun->cbun", kernel, own, precision=lax.Precision.HIGHEST)

    return jax.tree.map(leaf, landed)


def _starts(t0: Array, ends: Array) -> Array:
    return jnp.concatenate([t0[None], ends[:-1]])


def _taken(tree: PyTree[Array], places: Places, bin: Int[Array, "batch units 1"]) -> Any:
    return jax.tree.map(lambda leaf: leaf.at[_table_entry(leaf, places, bin)].get(mode="promise_in_bounds"), tree)


def _table_entry(leaf: Array, places: Places, bin: Int[Array, "batch units 1"]) -> tuple[Array, ...]:
    return bin, places.sample, places.unit, indices(leaf.shape[3])
