"""The event queue: linear neurons in closed form, from event to event of the whole group.

Neurons that receive from each other without delay cannot be simulated one after the other. Instead each sample advances
from one event to the next: an arrival from outside, a spike of one of its neurons, or a time at which its states are
saved. A spike reaches the other neurons at the same time, like an arrival.

An iteration checks all neurons up to the next known event, and finds the crossing of the neuron that seems to cross
first. This crossing is the new limit. If no other neuron may cross before the limit, the sample advances to it;
otherwise the next iteration checks that neuron. So no spike is missed, and an iteration searches only one crossing per
sample.

The log stores the order of events, which the derivative replays, see `replay`.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._common.axes import indices
from .._common.flow import AbstractFinder, AbstractFlow, Interval
from .._common.sorting import sorted_rows
from .._common.vectorized import any_member


class Pool(eqx.Module):
    """The concatenated neurons of several layers."""

    flow: AbstractFlow  # of all neurons; its `neuron` is None
    finder: AbstractFinder
    layers: tuple[AbstractFlow, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, layers: list[AbstractFlow], sizes: list[int], finder: type[AbstractFinder]) -> "Pool":
        def joined(*leaves):
            if len(leaves) == 1:
                return leaves[0]
            axes = max(2, *(leaf.ndim for leaf in leaves))
            wide = [leaf.reshape((1,) * (axes - leaf.ndim) + leaf.shape) for leaf in leaves]
            batch = max(leaf.shape[-2] for leaf in wide)
            parts = [jnp.broadcast_to(leaf, (*leaf.shape[:-2], batch, n)) for leaf, n in zip(wide, sizes, strict=True)]
            return jnp.concatenate(parts, axis=-1)

        first = layers[0]
        # What differs between layers, besides coefficients, is used for their resets alone.
        bare = [jax.tree.structure(_bare(first)).unflatten(jax.tree.leaves(_bare(flow))) for flow in layers]
        flow = jax.tree.map(joined, *bare)
        return cls(flow, finder.of(flow), tuple(layers), tuple(sizes))

    def one(self, number: Int[Array, "batch 1"]) -> tuple[AbstractFlow, AbstractFinder]:
        """The flow and the finder of one neuron of each sample."""

        def picked(leaf):
            is_shared = leaf.ndim < 2 or leaf.shape[-1] == 1
            return leaf if is_shared else of_neuron(leaf, number)

        return jax.tree.map(picked, (self.flow, self.finder))

    def reset(self, number: Int[Array, "batch 1"], t: Array, v: Array) -> Array:
        """v of one neuron of each sample, directly after its spike."""
        sample, first, after = indices(number.shape[0])[:, None], 0, v
        for layer, size in zip(self.layers, self.sizes, strict=True):
            place = sample, jnp.clip(number - first, 0, size - 1)
            parameters, rest = eqx.partition(layer.neuron, eqx.is_array)
            parameters = jax.tree.map(lambda leaf, at=place: leaf[at] if leaf.ndim else leaf, parameters)
            one = eqx.tree_at(lambda flow: flow.neuron, layer, eqx.combine(parameters, rest))
            after = jnp.where((number >= first) & (number < first + size), one.reset(t, v), after)
            first += size
        return after


def _bare(flow: AbstractFlow) -> AbstractFlow:
    """The coefficients of a flow."""
    return eqx.tree_at(lambda flow: flow.neuron, flow, None)


def of_neuron(leaf: Array, number: Int[Array, "batch 1"]) -> Array:
    """The entries of one neuron of each sample, from an array with the last axes `(batch, neurons)`."""
    whole = jnp.broadcast_to(leaf, (*leaf.shape[:-2], number.shape[0], leaf.shape[-1]))
    return jnp.take_along_axis(whole, jnp.broadcast_to(number, (*leaf.shape[:-2], *number.shape)), axis=-1)


class GroupGiven(eqx.Module):
    """The inputs on which the spikes of a group depend."""

    pool: Pool
    weight: Float[Array, "ports rows neurons"]  # from the sources outside the group, then from its own neurons
    times: Float[Array, "batch spikes"]  # of the sources outside the group
    source: Int[Array, "batch spikes"]
    v: Array  # the last axes are `(batch, neurons)`, as for `AbstractFlow`
    x: Array
    t0: Float[Array, ""]
    t1: Float[Array, ""]


class Limits(eqx.Module):
    """The limits of a simulation."""

    places: int = eqx.field(static=True)  # for the spikes of each neuron
    # A sample ends when all neurons have this number of spikes, for each layer; if None, at `t1`.
    wanted: tuple[int, ...] | None = eqx.field(static=True)
    most: tuple[int, ...] = eqx.field(static=True)  # the spikes per neuron that can be recorded, for each layer
    max_steps: int = eqx.field(static=True)  # the spikes of a neuron at which its sample ends unfinished

    def suffices(self, count: Int[Array, "batch neurons"], sizes: tuple[int, ...]) -> Bool[Array, "batch 1"]:
        """Whether all neurons of a sample have as many spikes as wanted."""
        if self.wanted is None:
            return jnp.zeros((count.shape[0], 1), bool)
        return jnp.all(count >= _each(self.wanted, sizes), axis=1, keepdims=True)

    def overflows(self, count: Int[Array, "batch neurons"], sizes: tuple[int, ...]) -> Bool[Array, "batch 1"]:
        """Whether a neuron of a sample has more spikes than can be recorded."""
        return jnp.any(count > _each(self.most, sizes), axis=1, keepdims=True)

    def exceeds_steps(self, count: Int[Array, "batch neurons"]) -> Bool[Array, "batch 1"]:
        """Whether a neuron of a sample has reached `max_steps` spikes."""
        return jnp.any(count >= self.max_steps, axis=1, keepdims=True)


def _each(numbers: tuple[int, ...], sizes: tuple[int, ...]) -> Int[Array, " neurons"]:
    """For each neuron, the number that belongs to its layer."""
    return jnp.asarray(np.repeat(np.asarray(numbers, np.int32), sizes))


class Found(eqx.Module):
    """The spikes of the group, and its states at the times to save."""

    times: Float[Array, "batch neurons places"]
    v: Array  # at the end, with the last axes `(batch, neurons)`
    x: Array
    saved: tuple[Array, Array] | None  # v and x, with the axis of the times first
    count: Int[Array, "batch neurons"]
    t: Float[Array, " batch"]  # the time at which the sample ended
    finite: Bool[Array, " batch"]
    finished: Bool[Array, " batch"]
    iterations: Int[Array, ""]


class Log(eqx.Module):
    """The events of each sample, in order.

    An index counts the spikes of the sources outside, then the neurons, then the times to save. The next index after
    these means that nothing happened.
    """

    t: Float[Array, "events batch"]
    index: Int[Array, "events batch"]
    number: Int[Array, "events batch"]  # of the spike, among those of its neuron
    at_once: Bool[Array, "events batch"]  # the neuron was above its threshold at the start of the interval


class Boundary(eqx.Module):
    """The state of each sample between two events."""

    t: Float[Array, "*segments batch 1"]
    v: Array  # the last axes are `(batch, neurons)`
    x: Array


def segment_length(log: Log) -> int:
    """The number of events in a segment, which the derivative replays as a whole: about as many as segments."""
    return max(8, math.isqrt(log.t.shape[0]))


class QueueState(eqx.Module):
    """The state of each sample, and what is known of its next event."""

    t: Float[Array, "batch 1"]
    v: Array
    x: Array
    cursor: Int[Array, "batch 1"]
    count: Int[Array, "batch neurons"]
    goes_on: Bool[Array, "batch 1"]
    finite: Bool[Array, "batch 1"]
    exceeds: Bool[Array, "batch 1"]  # ended because a neuron reached `max_steps`
    limit: Float[Array, "batch 1"]  # no known event comes before
    firing: Bool[Array, "batch neurons"]  # crosses at the limit
    cleared: Bool[Array, "batch neurons"]  # does not cross before the limit
    event: Int[Array, "batch 1"]  # the number of events so far
    log: Log
    times: Float[Array, "batch neurons places"]
    saved: tuple[Array, Array] | None
    boundaries: Boundary | None  # at the start, and after each segment of the log, or the last event so far in it
    iterations: Int[Array, ""]

    def found(self) -> Found:
        """The result, once the loop has ended."""
        t, finite, unfinished = (part[:, 0] for part in (self.t, self.finite, self.goes_on | self.exceeds))
        return Found(self.times, self.v, self.x, self.saved, self.count, t, finite, ~unfinished, self.iterations)


# The reach of the finder is at least this part of the duration. So however fast the neurons are, the iterations
# of a sample that only advance it by the reach are bounded.
_MAX_REACHES = 4096


class _Stops(eqx.Module):
    """The fixed stops of a sample: arrivals from outside, and, after simultaneous ones, times to save."""

    times: Float[Array, "batch stops"]
    spike: Int[Array, "batch stops"]  # its index, in the order of the sources
    reach: Float[Array, ""]  # the length up to which the finder tells much of an interval
    t1: Float[Array, ""]

    @classmethod
    def of(cls, given: GroupGiven, ts: Float[Array, " ts"] | None) -> "_Stops":
        times = given.times
        if ts is not None:
            # After all arrivals at the same time: a state is saved after the jump.
            times = jnp.concatenate([times, jnp.broadcast_to(ts, (times.shape[0], len(ts)))], axis=1)
        ordered, order = sorted_rows(lax.stop_gradient(times))
        # It only guides the search, so it may be longer than the finder likes.
        reach = jnp.maximum(given.pool.finder.reach, (given.t1 - given.t0) / _MAX_REACHES)
        # One more at `inf`, for cursors past the last stop.
        end = ((0, 0), (0, 1))
        return cls(jnp.pad(ordered, end, constant_values=jnp.inf), jnp.pad(order, end), reach, given.t1)

    def time(self, cursor: Int[Array, "batch 1"]) -> Array:
        return jnp.take_along_axis(self.times, cursor, axis=1)

    def number(self, cursor: Int[Array, "batch 1"]) -> Array:
        return jnp.take_along_axis(self.spike, cursor, axis=1)

    def after(self, t: Array, cursor: Int[Array, "batch 1"]) -> Array:
        """The end of the next interval to check: the next stop, or the reach of the finder."""
        # Later than t, even if t + reach rounds to t.
        ahead = jnp.maximum(t + self.reach, jnp.nextafter(t, jnp.inf))
        return jnp.minimum(jnp.minimum(self.time(cursor), self.t1), ahead)


def _places(given: GroupGiven, ts: Array | None, limits: Limits) -> int:
    """The number of events for which there is room."""
    stops = given.times.shape[1] + (0 if ts is None else len(ts))
    return stops + sum(n * k for n, k in zip(given.pool.sizes, limits.most, strict=True))


def start_of(given: GroupGiven, ts: Array | None, limits: Limits, keeps_boundaries: bool) -> QueueState:
    """The state before the first event."""
    batch, neurons = given.v.shape[-2:]
    total = given.times.shape[1] + (0 if ts is None else len(ts))
    events = _places(given, ts, limits)
    zero, none = jnp.zeros((batch, 1), jnp.int32), jnp.zeros((batch, neurons), bool)
    log = Log(
        jnp.zeros((events, batch), given.v.dtype),
        jnp.full((events, batch), total + neurons, jnp.int32),
        jnp.zeros((events, batch), jnp.int32),
        jnp.zeros((events, batch), bool),
    )
    t0 = jnp.full((batch, 1), given.t0)
    boundaries = None
    if keeps_boundaries:
        total_segments = -(-events // segment_length(log))
        first = Boundary(t0, given.v, given.x)
        boundaries = jax.tree.map(
            lambda leaf: jnp.zeros((total_segments + 1, *leaf.shape), leaf.dtype).at[0].set(leaf), first
        )
    return QueueState(
        t=t0,
        v=given.v,
        x=given.x,
        cursor=zero,
        count=jnp.zeros((batch, neurons), jnp.int32),
        goes_on=jnp.ones((batch, 1), bool),
        finite=jnp.ones((batch, 1), bool),
        exceeds=jnp.zeros((batch, 1), bool),
        limit=t0,
        firing=none,
        cleared=none,
        event=zero,
        log=log,
        times=jnp.full((batch, neurons, limits.places), jnp.inf, given.v.dtype),
        saved=None if ts is None else tuple(jnp.zeros((len(ts), *z.shape), z.dtype) for z in (given.v, given.x)),
        boundaries=boundaries,
        iterations=jnp.int32(0),
    )


def search(given: GroupGiven, ts: Array | None, limits: Limits, keeps_boundaries: bool) -> QueueState:
    """Finds all events, in order; with the boundaries, if the events will be replayed."""
    stops, events, neurons = _Stops.of(given, ts), _places(given, ts, limits), given.v.shape[-1]

    def iterate(state: QueueState) -> QueueState:
        return _moved(given, _narrowed(given.pool, state), stops, limits)

    start = start_of(given, ts, limits, keeps_boundaries)
    start = dataclasses.replace(start, limit=stops.after(start.t, start.cursor))

    # Each iteration advances a sample to its next event or by the reach, or clears a neuron, or finds an earlier spike.
    bound = min((events + 2 * _MAX_REACHES) * (neurons + 2), 2**31 - 1)

    def goes_on(state: QueueState) -> Array:
        return any_member(jnp.any(state.goes_on) & (state.iterations < bound))

    return lax.while_loop(goes_on, iterate, start)


def _interval(flow: AbstractFlow, state: QueueState, limit: Array) -> tuple[Interval, Array]:
    """The flow of all neurons up to a limit, and x at its end."""
    v_end, x_end = flow.after(state.v, state.x, limit - state.t)
    return Interval(state.t, state.v, state.x, limit, v_end), x_end


def _seems_to_cross(flow: AbstractFlow, interval: Interval) -> Array:
    """A rough estimate of when each neuron crosses, in parts of the interval, to choose which neuron to check first."""
    g0, g1 = flow.condition(interval.v), flow.condition(interval.v_end)
    return jnp.where(g0 > 0, -1.0, jnp.where(g1 > g0, -g0 / jnp.where(g1 > g0, g1 - g0, 1.0), 1.0))


def _narrowed(pool: Pool, state: QueueState) -> QueueState:
    """Checks one neuron per sample: lowers the limit to its crossing, or clears it if it does not cross."""
    interval, _ = _interval(pool.flow, state, state.limit)
    may = pool.finder.may_cross(interval) & ~state.cleared & ~state.firing
    seems = _seems_to_cross(pool.flow, interval)
    number = _first_least(jnp.where(may, seems, jnp.inf))
    v, x, v_end, suspect = (of_neuron(part, number) for part in (interval.v, interval.x, interval.v_end, may))
    _, finder = pool.one(number)
    alone = Interval(interval.start, v, x, interval.end, v_end)
    t, happens = finder.crossing(alone, suspect & state.goes_on)
    this = indices(may.shape[1]) == number
    earlier = happens & (t < state.limit)
    firing = jnp.where(earlier, this, state.firing | (happens & this))
    cleared = state.cleared | (suspect & ~happens & this)
    limit = jnp.where(earlier, t, state.limit)
    return eqx.tree_at(lambda s: (s.limit, s.firing, s.cleared), state, (limit, firing, cleared))


def _first_least(x: Array) -> Int[Array, "batch 1"]:
    """As `argmin` of each sample, whose reduction XLA does not vectorise: an iteration took a quarter longer."""
    n = x.shape[1]
    is_least = x == jnp.min(x, axis=1, keepdims=True)
    return jnp.minimum(jnp.min(jnp.where(is_least, indices(n), n), axis=1, keepdims=True), n - 1)


class NextEvent(eqx.Module):
    """The event at the limit of each sample."""

    moves: Bool[Array, "batch 1"]  # no other neuron may cross before the limit
    fires: Bool[Array, "batch 1"]
    arrives: Bool[Array, "batch 1"]  # a spike from outside, or a time to save
    number: Int[Array, "batch 1"]  # of the neuron that fires
    came: Int[Array, "batch 1"]  # the index of the arriving spike, or of the time to save

    @classmethod
    def of(cls, waits: Array, stops: "_Stops", state: QueueState) -> "NextEvent":
        moves = state.goes_on & ~waits
        fires = moves & jnp.any(state.firing, axis=1, keepdims=True)
        arrives = moves & ~fires & (stops.time(state.cursor) <= state.limit)
        number = jnp.argmax(state.firing, axis=1, keepdims=True).astype(jnp.int32)
        return cls(moves, fires, arrives, number, stops.number(state.cursor))

    def row(self, given: GroupGiven) -> Array:
        """The row of the weight matrix that arrives at all neurons; one past the last row if nothing arrives."""
        rows = given.weight.shape[1]
        own = rows - given.v.shape[-1] + self.number
        source = jnp.take_along_axis(given.source, self.came % given.times.shape[1], axis=1)
        is_spike = self.arrives & (self.came < given.times.shape[1])
        return jnp.where(self.fires, own, jnp.where(is_spike, source, rows))[:, 0]

    def index(self, given: GroupGiven) -> Array:
        """The index of the event in the log."""
        outer, neurons = given.times.shape[1], given.v.shape[-1]
        came = jnp.where(self.came < outer, self.came, self.came + neurons)
        return jnp.where(self.fires, outer + self.number, came)


def _moved(given: GroupGiven, state: QueueState, stops: "_Stops", limits: Limits) -> QueueState:
    """Advances each sample to its limit and applies the event there, unless a neuron may cross before it."""
    pool, flow, finder = given.pool, given.pool.flow, given.pool.finder
    interval, x_end = _interval(flow, state, state.limit)
    waits = jnp.any(finder.may_cross(interval) & ~state.cleared & ~state.firing, axis=1, keepdims=True)
    now = NextEvent.of(waits, stops, state)
    this = (indices(given.v.shape[-1]) == now.number) & now.fires
    each = interval.v_end, finder.starts_above(interval), state.count
    v_this, at_once, before = (of_neuron(part, now.number) for part in each)
    weight = given.weight.at[:, now.row(given)].get(mode="fill", fill_value=0.0)
    v = jnp.where(this, pool.reset(now.number, state.limit, v_this), interval.v_end)
    x = flow.jumped(x_end, weight)
    log, times, saved, boundaries = recorded(
        given, state, now, Log(state.limit, now.index(given), before, at_once & now.fires), v, x
    )

    count = state.count + this.astype(jnp.int32)
    cursor = state.cursor + now.arrives.astype(jnp.int32)
    firing = state.firing & jnp.where(now.fires, ~this, ~now.moves)
    is_left = jnp.any(firing, axis=1, keepdims=True)
    ends = now.moves & ~now.fires & ~now.arrives & (state.limit >= given.t1)
    finite = state.finite & _all_finite(v) & _all_finite(x)
    exceeds = limits.exceeds_steps(count)
    ends |= (limits.suffices(count, pool.sizes) & ~is_left) | limits.overflows(count, pool.sizes)
    return QueueState(
        t=jnp.where(now.moves, state.limit, state.t),
        v=jnp.where(now.moves, v, state.v),
        x=jnp.where(now.moves, x, state.x),
        cursor=cursor,
        count=count,
        goes_on=state.goes_on & ~ends & ~exceeds & finite,
        finite=jnp.where(state.goes_on, finite, state.finite),
        exceeds=jnp.where(state.goes_on, exceeds & ~ends, state.exceeds),
        limit=jnp.where(now.moves & ~is_left, stops.after(state.limit, cursor), state.limit),
        firing=firing,
        cleared=state.cleared & ~now.moves,
        event=state.event + (now.fires | now.arrives).astype(jnp.int32),
        log=log,
        times=times,
        saved=saved,
        boundaries=boundaries,
        iterations=state.iterations + 1,
    )


def recorded(
    given: GroupGiven, state: QueueState, now: NextEvent, entry: Log, v: Array, x: Array
) -> tuple[Log, Array, tuple[Array, Array] | None, Boundary | None]:
    """The log, the spike times, the saved states and the boundaries, updated with the event.

    Indices out of bounds are dropped.
    """
    sample, outer = indices(given.v.shape[-2]), given.times.shape[1]
    place = jnp.where(now.fires, entry.number, state.times.shape[2])[:, 0]
    times = state.times.at[sample, now.number[:, 0], place].set(state.limit[:, 0], mode="drop")
    happens = (now.fires | now.arrives)[:, 0]
    event = state.event[:, 0]
    place = jnp.where(happens, event, state.log.t.shape[0])
    log = jax.tree.map(lambda rows, new: rows.at[place, sample].set(new[:, 0], mode="drop"), state.log, entry)

    def written(rows, place, row):
        # With indices on both sides of a slice, NumPy's indexing moves their axes to the front.
        return rows.at[place, ..., sample, :].set(jnp.moveaxis(row, -2, 0), mode="drop")

    saved, boundaries = state.saved, state.boundaries
    if saved is not None:
        number = jnp.where(now.arrives & (now.came >= outer), now.came - outer, saved[0].shape[0])[:, 0]
        saved = written(saved[0], number, v), written(saved[1], number, x)
    if boundaries is not None:
        is_logged = happens & (event < log.t.shape[0])
        number = jnp.where(is_logged, event // segment_length(log) + 1, boundaries.t.shape[0])
        boundary = Boundary(state.limit, v, x)
        boundaries = jax.tree.map(lambda rows, row: written(rows, number, row), boundaries, boundary)
    return log, times, saved, boundaries


def _all_finite(part: Array) -> Bool[Array, "batch 1"]:
    """Whether all numbers of a sample are finite."""
    return jnp.all(jnp.isfinite(part), axis=(*range(part.ndim - 2), -1))[:, None]
