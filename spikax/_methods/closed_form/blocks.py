"""Linear neurons in closed form: all arrivals of a block at once, one pass per emitted spike, and the derivative.

Without its own spikes, the state of a linear neuron at all knots (the arrivals, and the start of the block) is a linear
recurrence, the free response. A spike at T adds a change that evolves independently,

    v(t) = v_free(t) + exp(A (t - T)) change,      change = reset(v(T)) - v_free(T),

with the matrix A of the membrane, which is the number -rate for one variable.

Blocks bound the memory. The run ends with the last block that holds arrivals. The backward pass goes through the blocks
in reverse order. It computes each block again as a differentiable map with known spikes, without their search.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._neuron import AbstractNeuron
from ..._routing import SynapticInput
from .._base import LayerPlan
from .._common.arrivals import Arrivals, in_order, lanes_of, Sent, taken
from .._common.axes import indices
from .._common.compaction import ALL
from .._common.differentiation import found, with_reverse_rule
from .._common.flow import AbstractFinder, AbstractFlow
from .._common.linear_neurons import flow_and_finder
from .._common.trees import add, zeros_like
from .._common.vectorized import any_member
from .free_response import Block, Boundary, free_motion, Knots
from .spike_search import is_wanted, Record, search, Searcher
from .spike_vjp import replay, replay_search


class LayerGiven(eqx.Module):
    """The inputs on which the spikes of a layer of linear neurons depend."""

    neuron: AbstractNeuron
    flow: type[AbstractFlow] = eqx.field(static=True)
    finder: type[AbstractFinder] = eqx.field(static=True)
    received: SynapticInput
    state: PyTree[Array]
    filters: PyTree[Array]
    t0: Float[Array, ""]
    t1: Float[Array, ""]

    @classmethod
    def of(cls, plan: LayerPlan, received: SynapticInput, t0: Array, t1: Array) -> "LayerGiven":
        """The inputs of a layer."""
        start = plan.start.state, plan.start.filters
        return cls(plan.neuron, *flow_and_finder(start), received, *start, t0, lax.stop_gradient(t1))

    def begin(self) -> tuple[AbstractFlow, Boundary]:
        """The flow of the neurons, and their state at `t0`."""
        flow = self.flow.of(self.neuron, self.state, self.t0)
        v, x = self.flow.pack(self.state, self.filters)
        return flow, Boundary(jnp.full((self.received.times.shape[0], self.received.lanes), self.t0), v, x)


class Limits(eqx.Module):
    """The limits of a simulation."""

    max_spikes: int = eqx.field(static=True)  # the number of spikes per neuron that can be recorded
    stop_after: int = eqx.field(static=True)  # the number of spikes after which a neuron stops
    pieces: int = eqx.field(static=True)  # the number of pieces into which additional knots divide the time, or 0


class Found(eqx.Module):
    """The spikes of a layer of linear neurons, and their states at the times to save."""

    times: Float[Array, "spikes batch units"]
    end: tuple[PyTree[Array], PyTree[Array]]  # the states and the filters
    saved: tuple[PyTree[Array], PyTree[Array]] | None  # the same at the times `ts`, on their first axis
    count: Int[Array, "batch units"]
    finite: Bool[Array, "batch units"]
    passes: Int[Array, ""]


def find_spikes(given: LayerGiven, limits: Limits, ts: Float[Array, " ts"] | None) -> Found:
    """Finds the spikes of a layer."""

    def forward(smooth, _):
        end, arrivals = _run(*smooth, limits)
        return end.found(), (end, arrivals)

    def backward(smooth, _, residual, bar):
        return _backward(*smooth, *residual, bar)

    result = with_reverse_rule(forward, backward)((given, ts))
    like = given.state, given.filters
    end, saved = (None if pair is None else given.flow.unpack(*pair, *like) for pair in (result.end, result.saved))
    return dataclasses.replace(result, end=end, saved=saved)


class _Arriving(eqx.Module):
    """What arrives in a block, and what its spikes depend on smoothly."""

    times: Float[Array, "arrivals batch lanes"]
    gains: PyTree[Float[Array, "arrivals batch lanes"]] | None


class _Arrivals(eqx.Module):
    """All arrivals in order, of which `length` are a block."""

    received: SynapticInput
    ordered: Arrivals
    t1: Float[Array, ""]
    needed: Int[Array, ""]  # the number of blocks that hold arrivals, and one that leads to `t1`
    length: int = eqx.field(static=True)
    cuts: int = eqx.field(static=True)  # the number of additional knots, before all spikes

    @classmethod
    def of(cls, given: LayerGiven, pieces: int, width: int, saves: int) -> "_Arrivals":
        """All arrivals at a layer."""
        # Simultaneous arrivals are summed, in any order.
        received = dataclasses.replace(_with_pieces(given, pieces), generation=None)
        length = _block_length(given, received.times.shape[2] + 1, width, saves)
        cuts = received.times.shape[2] - given.received.times.shape[2]
        ordered = in_order(received, multiple=length)
        most = jnp.max(jnp.sum(ordered.times <= given.t1, axis=0, dtype=jnp.int32))
        return cls(received, ordered, given.t1, most // length + 1, length, cuts)

    @property
    def blocks(self) -> int:
        """The number of blocks, if all sources emit as many spikes as there is room for."""
        return self.ordered.times.shape[0] // self.length

    @property
    def is_long(self) -> bool:
        """Whether there may be so many arrivals that few neurons spike in a block."""
        return self.ordered.times.shape[0] > 16

    def group(self, flow: AbstractFlow, neurons: int) -> int:
        """The number of spiking neurons of a block that are simulated at a time."""
        # Groups are small, so that they stay in the cache, but there are not many groups.
        return max(64, 2**15 // (self.length * flow.width), neurons // 16) if self.is_long else neurons

    def in_block(self, block: Int[Array, ""]) -> tuple[_Arriving, Int[Array, "arrivals batch lanes"]]:
        """What arrives in a block, and its sources. Arrivals after `t1` have the time `t1` and no source."""
        times = self._rows(self.ordered.times, block)
        arrives = times <= self.t1
        spike = self._rows(self.ordered.spike, block)
        source = jnp.where(arrives, taken(self.received.source, spike), _sources(self.received.weight))
        gains = jax.tree.map(lambda gain: taken(gain, spike), self.received.gains)
        return _Arriving(jnp.where(arrives, times, self.t1), gains), source

    def add_back(self, sent: Sent, bar: _Arriving, block: Int[Array, ""]) -> Sent:
        """The cotangents of what was sent, with those of the arrivals in a block."""
        spike, arrives = self._rows(self.ordered.spike, block), self._rows(self.ordered.times, block) <= self.t1
        bar = jax.tree.map(lambda leaf: jnp.where(arrives, leaf, 0.0), bar)
        return sent.add(lanes_of(spike), spike, taken(self.received.source, spike), bar.times, bar.gains)

    def _rows(self, rows: Array, block: Int[Array, ""]) -> Array:
        return lax.dynamic_slice_in_dim(rows, block * self.length, self.length)


class _Run(eqx.Module):
    """The state of the simulation before a block."""

    block: Int[Array, ""]
    passes: Int[Array, ""]
    boundary: Boundary
    count: Int[Array, "batch units"]
    record: Record
    boundaries: Boundary  # before each block
    counts: Int[Array, "blocks batch units"]
    saved: tuple[Array, Array] | None

    def found(self) -> Found:
        boundary = self.boundary
        finite = [jnp.all(jnp.isfinite(part), axis=range(part.ndim - 2)) for part in (boundary.v, boundary.x)]
        return Found(
            self.record.t, (boundary.v, boundary.x), self.saved, self.count, finite[0] & finite[1], self.passes
        )


def _with_pieces(given: LayerGiven, pieces: int) -> SynapticInput:
    """All arrivals, after additional ones without source that divide the time into equal pieces."""
    received = given.received
    if pieces == 0:
        return received
    inner = given.t0 + (given.t1 - given.t0) * jnp.arange(1, pieces, dtype=given.t0.dtype) / pieces

    def after_cuts(cuts, leaf):
        return jnp.concatenate([jnp.broadcast_to(cuts, (*leaf.shape[:2], pieces - 1)), leaf], axis=2)

    times = after_cuts(inner, received.times)
    source = after_cuts(jnp.int32(_sources(received.weight)), received.source)
    gains = jax.tree.map(lambda gain: after_cuts(jnp.ones((), gain.dtype), gain), received.gains)
    return SynapticInput(received.weight, times, source, gains, None, received.delay)


def _sources(weight: PyTree[Array]) -> int:
    return jax.tree.leaves(weight)[0].shape[0]


def _block_length(given: LayerGiven, arrivals: int, width: int, saves: int) -> int:
    """The number of arrivals per block: few enough for its arrays to stay in the cache.

    Each spike costs a pass through its block, so blocks of neurons that spike are short. Each of the `saves` times to
    save costs a look at every block. The last block is simulated as a whole, however few arrivals it holds.
    """
    numbers = given.received.times.shape[0] * jax.tree.leaves(given.received.weight)[0].shape[1] * width
    longest = 64 if given.neuron.can_spike else min(max(128, saves), 1024)
    return min(arrivals, max(8, min(longest, 2**19 // numbers)))


def _block(
    flow: AbstractFlow,
    boundary: Boundary,
    weight: PyTree[Array],
    arriving: _Arriving,
    source: Array,
    receives: Array | bool = True,
) -> Block:
    """The free response in a block. Arrivals count only for the units where `receives` holds."""

    def weight_of(weight):
        unit = () if source.shape[2] == 1 else (indices(weight.shape[1]),)
        which = source if unit else source[..., 0]
        return jnp.where(receives, weight.at[(which, *unit)].get(mode="fill", fill_value=0.0), 0.0)

    weights = jax.tree.map(weight_of, weight)
    if arriving.gains is not None:
        weights = jax.tree.map(jnp.multiply, weights, arriving.gains)
    return free_motion(flow, boundary, jnp.concatenate([boundary.t[None], arriving.times]), weights)


def _run(given: LayerGiven, ts: Array | None, limits: Limits) -> tuple[_Run, _Arrivals]:
    flow, boundary = given.begin()
    arrivals = _Arrivals.of(given, limits.pieces, flow.width, 0 if ts is None else len(ts))
    finder = given.finder.of(flow)
    total, shape = arrivals.blocks, boundary.v.shape[-2:]
    group = arrivals.group(flow, math.prod(shape))
    # If most neurons spike soon, passes for false positives of the cheap test, which is loose, cost more than it saves.
    look = given.finder.may_cross if arrivals.is_long else given.finder.crosses

    searched = found(lambda given: search(group, *given), replay_search)

    def goes_on(run: _Run) -> Array:
        return any_member((run.block < arrivals.needed) & jnp.any(is_wanted(run.count, limits.stop_after)))

    def one_block(run: _Run) -> _Run:
        i = run.block
        block = _block(flow, run.boundary, given.received.weight, *arrivals.in_block(i))
        knots = block.knots
        searcher = Searcher(ALL, flow, finder, block, limits.stop_after, look)
        end = searched((searcher, run.count, run.record))
        after = end.state
        saved = run.saved
        if saved is not None:
            parts = _saved_in(flow, knots, end.record, run.count, after.count, ts, i == arrivals.needed - 1)
            saved = add(saved, parts)
        boundaries = jax.tree.map(lambda rows, row: rows.at[i].set(row), run.boundaries, run.boundary)
        counts = run.counts.at[i].set(run.count)
        boundary = knots.leave(flow, after.change)
        return _Run(i + 1, run.passes + end.passes, boundary, after.count, end.record, boundaries, counts, saved)

    rows = jax.tree.map(
        lambda leaf: jnp.zeros((total, *leaf.shape), leaf.dtype), (boundary, jnp.zeros(shape, jnp.int32))
    )
    saved = None if ts is None else tuple(jnp.zeros((len(ts), *z.shape), z.dtype) for z in (boundary.v, boundary.x))
    record = Record.empty(limits.max_spikes, boundary.v)
    start = _Run(jnp.int32(0), jnp.int32(0), boundary, jnp.zeros(shape, jnp.int32), record, *rows, saved)
    return lax.while_loop(goes_on, one_block, start), arrivals


def _saved_in(
    flow: AbstractFlow, knots: Knots, record: Record, first: Array, after: Array, ts: Array, is_last: Array
) -> tuple[Array, Array]:
    """The states v and x at the times `ts` that lie in this block, and zero for other times.

    The spikes of the block have the numbers from `first` up to `after`, excluded.
    """
    number = indices(record.t.shape[0])[:, None, None]
    is_here = (number >= first) & (number < after)

    def at(t):
        inside = (t >= knots.t[0]) & ((t < knots.t[-1]) | is_last)
        # Elsewhere at the start, from the first knot: over a long time backwards the state would not be finite.
        t = jnp.where(inside, t, knots.t[0])
        place = jnp.maximum(jnp.sum(knots.t <= t, axis=0, dtype=jnp.int32) - 1, 0)
        place = jnp.broadcast_to(place, first.shape)
        latest = first - 1 + jnp.sum(is_here & (record.t <= t), axis=0, dtype=jnp.int32)
        change = record.change(latest, first, knots.start(first.shape))
        v, x = knots.at(place).free(flow, t)
        return jnp.where(inside, v + change.at(flow, t), 0.0), jnp.where(inside, x, 0.0)

    return jax.vmap(at)(ts)


class _BackwardState(eqx.Module):
    """The state of the backward pass over the blocks, with the cotangents so far."""

    block: Int[Array, ""]
    after: Int[Array, "batch units"]  # the number of spikes up to the end of the block
    boundary: Boundary
    floats: PyTree[Array]  # of the neurons, the weights and the times to save
    sent: Sent


def _backward(
    given: LayerGiven, ts: Array | None, end: _Run, arrivals: _Arrivals, bar: Found
) -> tuple[LayerGiven, Float[Array, " ts"] | None]:
    """The cotangents of `given` and `ts`, from those of the spike times, of the end, and of the saved states."""
    (flow, boundary), pull_start = eqx.filter_vjp(LayerGiven.begin, given)
    # Neurons that are not finite at the end have failed. Zero times infinity would be NaN, and enter sums over all
    # neurons. So here they stay at zero, without arrivals and without spikes.
    finite = end.found().finite
    boundaries = jax.tree.map(lambda rows: jnp.where(finite, rows, 0.0), (end.boundaries.v, end.boundaries.x))
    counts, count = (jnp.where(finite, part, 0) for part in (end.counts, end.count))
    floats, static = eqx.partition((flow, given.received.weight, ts), eqx.is_inexact_array)
    group = arrivals.group(flow, count.size)

    def one_block(back: _BackwardState) -> _BackwardState:
        i = back.block - 1
        boundary, first = Boundary(end.boundaries.t[i], *(rows[i] for rows in boundaries)), counts[i]
        arriving, source = arrivals.in_block(i)

        def block(floats, boundary, arriving):
            flow, weight, ts = eqx.combine(floats, static)
            knots = _block(flow, boundary, weight, arriving, source, finite).knots
            record = replay(flow, knots, end.record, first, back.after, group)
            change = record.change(back.after - 1, first, knots.start(first.shape))
            is_last = i == arrivals.needed - 1
            saved = None if ts is None else _saved_in(flow, knots, record, first, back.after, ts, is_last)
            return knots.leave(flow, change), record.t, saved

        _, pull = jax.vjp(block, floats, boundary, arriving)
        floats_bar, boundary_bar, arriving_bar = pull((back.boundary, bar.times, bar.saved))
        sent = arrivals.add_back(back.sent, arriving_bar, i)
        return _BackwardState(i, first, boundary_bar, add(back.floats, floats_bar), sent)

    floats_bar, sent_bar = zeros_like((floats, Sent.of(arrivals.received)))
    boundary_bar = Boundary(jnp.zeros_like(boundary.t), *(jnp.where(finite, part, 0.0) for part in bar.end))
    back = _BackwardState(end.block, count, boundary_bar, floats_bar, sent_bar)
    back = lax.while_loop(lambda back: back.block > 0, one_block, back)
    flow_bar, weight_bar, ts_bar = back.floats
    (start_bar,) = pull_start((flow_bar, back.boundary))
    # Additional knots come before the spikes.
    last = arrivals.cuts + given.received.times.shape[2]
    times, gains = jax.tree.map(lambda bar: bar[..., arrivals.cuts : last], (back.sent.times, back.sent.gains))
    own = {"weight": weight_bar, "times": times, "gains": gains, "delay": back.sent.delay}
    received_bar = dataclasses.replace(given.received, **own)
    return dataclasses.replace(start_bar, received=received_bar, t1=jnp.zeros_like(given.t1)), ts_bar
