"""Linear neurons with one clock: from event to event of any of them, in closed form.

Neurons that listen to each other without delay cannot be simulated one after the other. Here each sample moves from one
event to the next: an arrival from outside, a spike of one of its neurons, or a time at which its states are saved. A
spike reaches the other neurons at once, as an arrival does.

An iteration looks at all neurons up to the next event that is known, takes the one that seems to cross first, finds its
crossing, and looks again up to there: if no other neuron may cross before, the sample moves on; if one may, the next
iteration finds out. So no spike is missed, and only one crossing of a sample is searched at a time.

What is written down is the order of events. The derivative replays them, without a search, in segments: forwards, to
know where each segment starts, and then backwards.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .affine import Affine
from .arrivals import in_order
from .crossing import Ends
from .motion import Stretch
from .peaks import Peaks
from .reverse import with_reverse_rule
from .units import indices


class Pool(eqx.Module):
    """The neurons of several layers, side by side."""

    all: Affine  # the coefficients of all neurons, of shape `()` or `(batch, neurons)`; of no neuron in particular
    layers: tuple[Affine, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, layers: list[Affine], sizes: list[int]) -> "Pool":
        def joined(*leaves):
            if len(leaves) == 1:
                return leaves[0]
            batch = max(leaf.shape[0] if leaf.ndim else 1 for leaf in leaves)
            return jnp.concatenate(
                [jnp.broadcast_to(leaf, (batch, n)) for leaf, n in zip(leaves, sizes, strict=True)], axis=1
            )

        bare = [Affine(None, None, of.rate, of.gain, of.push, of.decay, of.kick, of.slope, of.offset) for of in layers]
        return cls(jax.tree.map(joined, *bare), tuple(layers), tuple(sizes))

    def one(self, number: Int[Array, "batch 1"]) -> Affine:
        """The coefficients of one neuron of each sample."""

        def picked(leaf):
            return jnp.take_along_axis(jnp.broadcast_to(leaf, (number.shape[0], leaf.shape[1])), number, axis=1)

        return jax.tree.map(lambda leaf: picked(leaf) if leaf.ndim else leaf, self.all)

    def foresight(self) -> Array:
        """Within what time a cubic says well where a neuron crosses."""
        quickest = jnp.max(jnp.abs(self.all.rate) + jnp.abs(self.all.decay))
        return jnp.where(quickest > 0, 0.25 / jnp.where(quickest > 0, quickest, 1.0), jnp.inf)

    def reset(self, number: Int[Array, "batch 1"], t: Array, v: Array) -> Array:
        """v of one neuron of each sample, right after its spike."""
        sample, first, after = indices(number.shape[0])[:, None], 0, v
        for layer, size in zip(self.layers, self.sizes, strict=True):
            place = sample, jnp.clip(number - first, 0, size - 1)
            parameters, rest = eqx.partition(layer.neuron, eqx.is_array)
            parameters = jax.tree.map(lambda leaf, at=place: leaf[at] if leaf.ndim else leaf, parameters)
            one = eqx.tree_at(lambda affine: affine.neuron, layer, eqx.combine(parameters, rest))
            after = jnp.where((number >= first) & (number < first + size), one.reset(t, v), after)
            first += size
        return after


class Given(eqx.Module):
    """What the spikes of a group of layers depend on."""

    pool: Pool
    weight: Float[Array, "rows neurons"]  # of the sources outside, and of the neurons themselves
    times: Float[Array, "batch spikes"]  # of the sources outside
    source: Int[Array, "batch spikes"]
    v: Float[Array, "batch neurons"]
    x: Float[Array, "batch neurons"]
    t0: Float[Array, ""]
    t1: Float[Array, ""]


class Limits(eqx.Module):
    """How far a simulation goes."""

    places: int = eqx.field(static=True)  # for the spikes of each neuron
    # A sample ends when all neurons have spiked so often, layer by layer; without, at `t1`.
    wanted: tuple[int, ...] | None = eqx.field(static=True)
    most: tuple[int, ...] = eqx.field(static=True)  # the spikes of a neuron that can be recorded, layer by layer
    max_steps: int = eqx.field(static=True)  # the spikes of a neuron at which its sample ends unfinished

    def suffices(self, count: Int[Array, "batch neurons"], sizes: tuple[int, ...]) -> Bool[Array, "batch 1"]:
        """Whether the counts of a sample are all that is wanted."""
        if self.wanted is None:
            return jnp.zeros((count.shape[0], 1), bool)
        return jnp.all(count >= _each(self.wanted, sizes), axis=1, keepdims=True)

    def overflows(self, count: Int[Array, "batch neurons"], sizes: tuple[int, ...]) -> Bool[Array, "batch 1"]:
        """Whether a count of a sample is more than can be recorded."""
        return jnp.any(count > _each(self.most, sizes), axis=1, keepdims=True)

    def exceeds_steps(self, count: Int[Array, "batch neurons"]) -> Bool[Array, "batch 1"]:
        """Whether a neuron of a sample has spiked so often that the sample ends."""
        return jnp.any(count >= self.max_steps, axis=1, keepdims=True)


def _each(numbers: tuple[int, ...], sizes: tuple[int, ...]) -> Int[Array, " neurons"]:
    """The number of its layer, for every neuron."""
    return jnp.asarray(np.repeat(np.asarray(numbers, np.int32), sizes))


class Found(eqx.Module):
    """The spikes of the group, and its states at the times that were asked for."""

    times: Float[Array, "batch neurons places"]
    saved: tuple[Float[Array, "ts batch neurons"], Float[Array, "ts batch neurons"]] | None  # v and x
    count: Int[Array, "batch neurons"]
    t: Float[Array, " batch"]  # when the sample ended
    finite: Bool[Array, " batch"]
    finished: Bool[Array, " batch"]
    iterations: Int[Array, ""]


class _Log(eqx.Module):
    """What happened in each sample, event after event.

    An index counts through the spikes of the sources outside, then the neurons, then the times to save; the one after
    the last of them says that nothing happened.
    """

    t: Float[Array, "events batch"]
    index: Int[Array, "events batch"]
    number: Int[Array, "events batch"]  # of the spike among those of its neuron
    at_once: Bool[Array, "events batch"]  # the neuron was above its threshold before any motion


class _Sight(eqx.Module):
    """Where each sample stands, and what is known of its next event."""

    t: Float[Array, "batch 1"]
    v: Float[Array, "batch neurons"]
    x: Float[Array, "batch neurons"]
    cursor: Int[Array, "batch 1"]
    count: Int[Array, "batch neurons"]
    goes_on: Bool[Array, "batch 1"]
    finite: Bool[Array, "batch 1"]
    exceeds: Bool[Array, "batch 1"]  # ended, as a neuron took too many steps
    limit: Float[Array, "batch 1"]  # no event that is known comes before
    firing: Bool[Array, "batch neurons"]  # crosses at the limit
    cleared: Bool[Array, "batch neurons"]  # does not cross before the limit
    event: Int[Array, "batch 1"]  # how many there were
    log: _Log
    times: Float[Array, "batch neurons places"]
    saved: tuple[Array, Array] | None
    iterations: Int[Array, ""]


def find_spikes(given: Given, limits: Limits, ts: Float[Array, " ts"] | None) -> Found:
    """Simulates the neurons of a group."""
    floats, rest = eqx.partition((given, ts), eqx.is_inexact_array)
    others, static = eqx.partition(rest, eqx.is_array)

    def unpack(floats, others):
        return eqx.combine(floats, others, static)

    def found(floats, others):
        return _found(_search(*unpack(floats, others), limits))

    def forward(floats, others):
        end = _search(*unpack(floats, others), limits)
        return _found(end), (floats, others, end.log, jnp.max(end.event))

    def backward(residual, cotangent):
        floats, others, log, events = residual
        bar = _walk_back(*unpack(floats, others), log, events, cotangent)
        return eqx.filter(bar, eqx.is_inexact_array), None

    return with_reverse_rule(found, forward, backward)(floats, others)


def _found(end: _Sight) -> Found:
    t, finite, unfinished = (part[:, 0] for part in (end.t, end.finite, end.goes_on | end.exceeds))
    return Found(end.times, end.saved, end.count, t, finite, ~unfinished, end.iterations)


_LOOKS = 4096


class _Stops(eqx.Module):
    """The times at which a sample stops in any case: arrivals from outside, and times to save, behind them."""

    times: Float[Array, "batch stops"]
    spike: Int[Array, "batch stops"]  # which one it is, in the order of the sources
    reach: Float[Array, ""]  # within what time a cubic says well where a neuron crosses
    t1: Float[Array, ""]

    @classmethod
    def of(cls, given: Given, ts: Float[Array, " ts"] | None) -> "_Stops":
        times = given.times
        if ts is not None:
            # Behind all arrivals at the same time: a state is saved after the jump.
            times = jnp.concatenate([times, jnp.broadcast_to(ts, (times.shape[0], len(ts)))], axis=1)
        ordered = in_order(times[:, None], indices(times.shape[1])[None])
        # It only guides the search. Of neurons that are ever so quick no more than so many looks shall come.
        reach = jnp.maximum(given.pool.foresight(), (given.t1 - given.t0) / _LOOKS)
        return cls(ordered.times[:, 0], ordered.spike[:, 0], reach, given.t1)

    def time(self, cursor: Int[Array, "batch 1"]) -> Array:
        return jnp.take_along_axis(self.times, cursor, axis=1)

    def number(self, cursor: Int[Array, "batch 1"]) -> Array:
        return jnp.take_along_axis(self.spike, cursor, axis=1)

    def after(self, t: Array, cursor: Int[Array, "batch 1"]) -> Array:
        """How far to look: to the next stop, but no further than an estimate of a crossing is good for."""
        # Later than t, also where rounding takes all of the reach.
        ahead = jnp.maximum(t + self.reach, jnp.nextafter(t, jnp.inf))
        return jnp.minimum(jnp.minimum(self.time(cursor), self.t1), ahead)


def _search(given: Given, ts: Array | None, limits: Limits) -> _Sight:
    """All events, one after the other."""
    batch, neurons = given.v.shape
    stops = _Stops.of(given, ts)
    total = given.times.shape[1] + (0 if ts is None else len(ts))
    events = total + sum(n * k for n, k in zip(given.pool.sizes, limits.most, strict=True))

    def iterate(sight: _Sight) -> _Sight:
        return _moved(given, _narrowed(given.pool, sight), stops, limits)

    zero, none = jnp.zeros((batch, 1), jnp.int32), jnp.zeros((batch, neurons), bool)
    log = _Log(
        jnp.zeros((events, batch), given.v.dtype),
        jnp.full((events, batch), total + neurons, jnp.int32),
        jnp.zeros((events, batch), jnp.int32),
        jnp.zeros((events, batch), bool),
    )
    t0 = jnp.full((batch, 1), given.t0)
    start = _Sight(
        t=t0,
        v=given.v,
        x=given.x,
        cursor=zero,
        count=jnp.zeros((batch, neurons), jnp.int32),
        goes_on=jnp.ones((batch, 1), bool),
        finite=jnp.ones((batch, 1), bool),
        exceeds=jnp.zeros((batch, 1), bool),
        limit=stops.after(t0, zero),
        firing=none,
        cleared=none,
        event=zero,
        log=log,
        times=jnp.full((batch, neurons, limits.places), jnp.inf, given.v.dtype),
        saved=None if ts is None else (jnp.zeros((len(ts), batch, neurons), given.v.dtype),) * 2,
        iterations=jnp.int32(0),
    )

    # An iteration moves a sample to its next event or as far as it looks ahead, clears a neuron or sees another spike.
    bound = min((events + 2 * _LOOKS) * (neurons + 2), 2**31 - 1)

    def goes_on(sight: _Sight) -> Array:
        return jnp.any(sight.goes_on) & (sight.iterations < bound)

    return lax.while_loop(goes_on, iterate, start)


def _stretch(affine: Affine, sight: _Sight, limit: Array) -> tuple[Stretch, Array]:
    """The motion of all neurons up to a limit, and x at its end."""
    v_end, x_end = affine.after(sight.v, sight.x, limit - sight.t)
    return Stretch(sight.t, sight.v, sight.x, limit, v_end), x_end


def _seems_to_cross(affine: Affine, stretch: Stretch) -> Array:
    """When each neuron crosses, roughly: to choose whom to look at first."""
    h = stretch.end - stretch.start
    d0 = affine.slope * affine.speed(stretch.v, stretch.x)
    d1 = affine.slope * affine.speed(stretch.v_end, stretch.x * jnp.exp(-affine.decay * h))
    g0, g1 = affine.condition(stretch.v), affine.condition(stretch.v_end)
    return jnp.where(g0 > 0, 0.0, Ends(h, g0, d0, g1, d1, g0).root())


def _narrowed(pool: Pool, sight: _Sight) -> _Sight:
    """With a closer limit where a neuron crosses before it; with one neuron cleared where it turns out not to."""
    stretch, _ = _stretch(pool.all, sight, sight.limit)
    may = Peaks(pool.all).may_cross(stretch) & ~sight.cleared & ~sight.firing
    number = jnp.argmin(jnp.where(may, _seems_to_cross(pool.all, stretch), jnp.inf), axis=1, keepdims=True)
    number = number.astype(jnp.int32)
    v, x, v_end, suspect = (
        jnp.take_along_axis(part, number, axis=1) for part in (stretch.v, stretch.x, stretch.v_end, may)
    )
    one, alone = pool.one(number), Stretch(stretch.start, v, x, stretch.end, v_end)
    finder = Peaks(one)
    t, happens = finder.crossing(alone, suspect & finder.crosses(alone) & sight.goes_on)
    this = indices(may.shape[1]) == number
    earlier = happens & (t < sight.limit)
    firing = jnp.where(earlier, this, sight.firing | (happens & this))
    cleared = sight.cleared | (suspect & ~happens & this)
    limit = jnp.where(earlier, t, sight.limit)
    return eqx.tree_at(lambda s: (s.limit, s.firing, s.cleared), sight, (limit, firing, cleared))


class _Happening(eqx.Module):
    """What happens at the limit of each sample."""

    moves: Bool[Array, "batch 1"]  # no other neuron may cross before
    fires: Bool[Array, "batch 1"]
    arrives: Bool[Array, "batch 1"]  # a spike from outside, or a time to save
    number: Int[Array, "batch 1"]  # of the neuron that fires
    came: Int[Array, "batch 1"]  # which spike, or time to save, it is that arrives

    @classmethod
    def of(cls, waits: Array, stops: "_Stops", sight: _Sight) -> "_Happening":
        moves = sight.goes_on & ~waits
        fires = moves & jnp.any(sight.firing, axis=1, keepdims=True)
        arrives = moves & ~fires & (stops.time(sight.cursor) <= sight.limit)
        number = jnp.argmax(sight.firing, axis=1, keepdims=True).astype(jnp.int32)
        return cls(moves, fires, arrives, number, stops.number(sight.cursor))

    def row(self, given: Given) -> Array:
        """The row of the weights that arrives at all neurons; behind the last one where none does."""
        own = given.weight.shape[0] - given.v.shape[1] + self.number
        source = jnp.take_along_axis(given.source, self.came % given.times.shape[1], axis=1)
        is_spike = self.arrives & (self.came < given.times.shape[1])
        return jnp.where(self.fires, own, jnp.where(is_spike, source, given.weight.shape[0]))[:, 0]

    def index(self, given: Given) -> Array:
        """The index of the log."""
        outer, neurons = given.times.shape[1], given.v.shape[1]
        came = jnp.where(self.came < outer, self.came, self.came + neurons)
        return jnp.where(self.fires, outer + self.number, came)


def _moved(given: Given, sight: _Sight, stops: "_Stops", limits: Limits) -> _Sight:
    """Each sample at its limit, with the event there, unless a neuron may cross before."""
    pool, affine, finder = given.pool, given.pool.all, Peaks(given.pool.all)
    stretch, x_end = _stretch(affine, sight, sight.limit)
    waits = jnp.any(finder.may_cross(stretch) & ~sight.cleared & ~sight.firing, axis=1, keepdims=True)
    now = _Happening.of(waits, stops, sight)
    this = (indices(given.v.shape[1]) == now.number) & now.fires
    each = stretch.v_end, finder.starts_above(stretch), sight.count
    v_this, at_once, before = (jnp.take_along_axis(part, now.number, axis=1) for part in each)
    weight = given.weight.at[now.row(given)].get(mode="fill", fill_value=0.0)
    v = jnp.where(this, pool.reset(now.number, sight.limit, v_this), stretch.v_end)
    x = x_end + affine.kick * weight
    written = _written(given, sight, now, _Log(sight.limit, now.index(given), before, at_once & now.fires), v, x)

    count = sight.count + this.astype(jnp.int32)
    cursor = sight.cursor + now.arrives.astype(jnp.int32)
    firing = sight.firing & jnp.where(now.fires, ~this, ~now.moves)
    is_left = jnp.any(firing, axis=1, keepdims=True)
    ends = now.moves & ~now.fires & ~now.arrives & (sight.limit >= given.t1)
    finite = sight.finite & jnp.all(jnp.isfinite(v) & jnp.isfinite(x), axis=1, keepdims=True)
    exceeds = limits.exceeds_steps(count)
    ends |= (limits.suffices(count, pool.sizes) & ~is_left) | limits.overflows(count, pool.sizes)
    return _Sight(
        t=jnp.where(now.moves, sight.limit, sight.t),
        v=jnp.where(now.moves, v, sight.v),
        x=jnp.where(now.moves, x, sight.x),
        cursor=cursor,
        count=count,
        goes_on=sight.goes_on & ~ends & ~exceeds & finite,
        finite=jnp.where(sight.goes_on, finite, sight.finite),
        exceeds=jnp.where(sight.goes_on, exceeds & ~ends, sight.exceeds),
        limit=jnp.where(now.moves & ~is_left, stops.after(sight.limit, cursor), sight.limit),
        firing=firing,
        cleared=sight.cleared & ~now.moves,
        event=sight.event + (now.fires | now.arrives).astype(jnp.int32),
        log=written[0],
        times=written[1],
        saved=written[2],
        iterations=sight.iterations + 1,
    )


def _written(
    given: Given, sight: _Sight, now: _Happening, entry: _Log, v: Array, x: Array
) -> tuple[_Log, Array, tuple[Array, Array] | None]:
    """The log, the spike times and the saved states, with what happens; what does not exist is written nowhere."""
    sample, outer = indices(given.v.shape[0]), given.times.shape[1]
    place = jnp.where(now.fires, entry.number, sight.times.shape[2])[:, 0]
    times = sight.times.at[sample, now.number[:, 0], place].set(sight.limit[:, 0], mode="drop")
    event = jnp.where(now.fires | now.arrives, sight.event, sight.log.t.shape[0])[:, 0]
    log = jax.tree.map(lambda rows, new: rows.at[event, sample].set(new[:, 0], mode="drop"), sight.log, entry)
    if sight.saved is None:
        return log, times, None
    v_rows, x_rows = sight.saved
    place = jnp.where(now.arrives & (now.came >= outer), now.came - outer, v_rows.shape[0])[:, 0]
    saved = v_rows.at[place, sample].set(v, mode="drop"), x_rows.at[place, sample].set(x, mode="drop")
    return log, times, saved


class _Edge(eqx.Module):
    """Where each sample stands between two segments."""

    t: Float[Array, "batch 1"]
    v: Float[Array, "batch neurons"]
    x: Float[Array, "batch neurons"]


class _Event(eqx.Module):
    """One event of each sample, as the replay needs it."""

    t: Float[Array, "batch 1"]
    number: Int[Array, "batch 1"]  # of the neuron that spikes
    fires: Bool[Array, "batch 1"]
    at_once: Bool[Array, "batch 1"]
    happens: Bool[Array, "batch 1"]
    weight: Float[Array, "batch neurons"]


def _replayed(pool: Pool, edge: _Edge, event: _Event) -> _Edge:
    """The edge after an event, as a differentiable map.

    The time T of a spike solves g(v(T)) = 0, so that dT = -dg / g' with dg at fixed T. A spike at once has the time of
    what lifted the condition: the event before it, or the start.
    """
    fixed, affine = lax.stop_gradient, pool.all
    at_once = event.fires & event.at_once
    v, x = affine.after(edge.v, edge.x, jnp.where(event.happens, event.t - edge.t, 0.0))
    one = pool.one(event.number)
    v_one, x_one = (jnp.take_along_axis(part, event.number, axis=1) for part in (v, x))
    moves = event.fires & ~event.at_once
    slope = fixed(one.slope * one.speed(v_one, x_one))
    shift = jnp.where(moves, -one.condition(v_one) / jnp.where(moves, slope, 1.0), jnp.where(at_once, edge.t, 0.0))
    # The time is that of the crossing already: of the last Newton step only the derivative is left.
    shift = shift - fixed(shift)
    v, x = v + shift * fixed(affine.speed(v, x)), x - shift * fixed(affine.decay * x)
    t = jnp.where(event.happens, event.t + shift, edge.t)
    this = (indices(v.shape[1]) == event.number) & event.fires
    after = pool.reset(event.number, t, jnp.take_along_axis(v, event.number, axis=1))
    return _Edge(t, jnp.where(this, after, v), x + affine.kick * event.weight)


def _segment(given: Given, ts: Array | None, log: _Log) -> _Event:
    """The events of a part of the log, as a differentiable map."""
    batch, neurons = given.v.shape
    outer, saves = given.times.shape[1], 0 if ts is None else len(ts)
    fires = (log.index >= outer) & (log.index < outer + neurons)
    number = jnp.where(fires, log.index - outer, 0)
    arrives = log.index < outer
    place = jnp.where(arrives, log.index, 0)
    sample = indices(batch)
    t, row = log.t, jnp.where(fires, given.weight.shape[0] - neurons + number, given.weight.shape[0])
    t = jnp.where(arrives, given.times[sample, place], t)
    row = jnp.where(arrives, given.source[sample, place], row)
    if ts is not None:
        saved = log.index - outer - neurons
        t = jnp.where((saved >= 0) & (saved < saves), ts[jnp.clip(saved, 0, saves - 1)], t)
    weight = given.weight.at[row].get(mode="fill", fill_value=0.0)
    parts = (t, number, fires, log.at_once, log.index < outer + neurons + saves)
    return _Event(*(part[..., None] for part in parts), weight)


def _walk_back(
    given: Given, ts: Array | None, log: _Log, events: Array, bar: Found
) -> tuple[Given, Float[Array, " ts"] | None]:
    """The cotangents of `given` and `ts`, from those of the spike times and of the saved states."""
    total = log.t.shape[0]
    length = max(8, math.isqrt(total))
    segments = -(-total // length)
    pad = segments * length - total
    nothing = given.times.shape[1] + given.v.shape[1] + (0 if ts is None else len(ts))
    log = jax.tree.map(lambda rows: jnp.pad(rows, ((0, pad), (0, 0))), log)
    log = eqx.tree_at(lambda log: log.index, log, log.index.at[total:].set(nothing))
    log = jax.tree.map(lambda rows: rows.reshape(segments, length, *rows.shape[1:]), log)
    floats, static = eqx.partition((given.pool, given.weight, given.times, ts), eqx.is_inexact_array)

    def segment(floats, edge, rows):
        pool, weight, times, ts = eqx.combine(floats, static)
        here = eqx.tree_at(lambda given: (given.pool, given.weight, given.times), given, (pool, weight, times))

        def step(edge, event):
            after = _replayed(pool, edge, event)
            return after, (after if ts is not None else after.t)

        return lax.scan(step, edge, _segment(here, ts, rows))

    def ahead(carry):
        i, edge, edges = carry
        edges = jax.tree.map(lambda rows, row: rows.at[i].set(row), edges, edge)
        return i + 1, segment(floats, edge, jax.tree.map(lambda rows: rows[i], log))[0], edges

    batch = given.v.shape[0]
    start = _Edge(jnp.full((batch, 1), given.t0), given.v, given.x)
    edges = jax.tree.map(lambda leaf: jnp.zeros((segments, *leaf.shape), leaf.dtype), start)
    needed = -(-events // length)
    _, _, edges = lax.while_loop(lambda carry: carry[0] < needed, ahead, (jnp.int32(0), start, edges))

    def back(carry):
        i, edge_bar, floats_bar = carry
        rows, edge = jax.tree.map(lambda rows: rows[i - 1], (log, edges))
        _, pull = jax.vjp(lambda floats, edge: segment(floats, edge, rows), floats, edge)
        more, edge_bar = pull((edge_bar, _cotangents(given, ts, rows, bar)))
        return i - 1, edge_bar, jax.tree.map(jnp.add, floats_bar, more)

    zeros = jax.tree.map(jnp.zeros_like, (start, floats))
    _, edge_bar, floats_bar = lax.while_loop(lambda carry: carry[0] > 0, back, (needed, *zeros))
    pool_bar, weight_bar, times_bar, ts_bar = floats_bar
    here = pool_bar, weight_bar, times_bar, given.source, edge_bar.v, edge_bar.x
    return Given(*here, jnp.sum(edge_bar.t), jnp.zeros_like(given.t1)), ts_bar


def _cotangents(given: Given, ts: Array | None, rows: _Log, bar: Found) -> Array | _Edge:
    """Those of what each event of a segment gives: its time, and, where states are saved, the states."""
    outer, neurons = given.times.shape[1], given.v.shape[1]
    fires = (rows.index >= outer) & (rows.index < outer + neurons) & (rows.number < bar.times.shape[2])
    sample = indices(given.v.shape[0])
    at = (sample, jnp.where(fires, rows.index - outer, 0), jnp.where(fires, rows.number, 0))
    t_bar = jnp.where(fires, bar.times[at], 0.0)[..., None]
    if ts is None or bar.saved is None:
        return t_bar
    place = rows.index - outer - neurons
    is_saved = ((place >= 0) & (place < len(ts)))[..., None]
    v_bar, x_bar = (jnp.where(is_saved, part[jnp.clip(place, 0, len(ts) - 1), sample], 0.0) for part in bar.saved)
    return _Edge(t_bar, v_bar, x_bar)
