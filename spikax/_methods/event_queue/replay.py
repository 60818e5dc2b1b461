"""The derivative of the event queue: the events, in their known order, as a differentiable map, and its transpose.

The events are replayed in segments, without a search, the last one first. The search keeps the start of each segment.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._common.axes import indices
from .._common.differentiation import found, held, with_reverse_rule
from .._common.event_time import derivative_of_time
from .._common.trees import add
from .._common.vectorized import most_of_members
from .queue import (
    Boundary,
    Found,
    GroupGiven,
    Limits,
    Log,
    NextEvent,
    of_neuron,
    Pool,
    QueueState,
    recorded,
    search,
    segment_length,
    start_of,
)


def find_spikes(given: GroupGiven, limits: Limits, ts: Float[Array, " ts"] | None) -> Found:
    """Finds the spikes of a group."""

    def searched(smooth, keeps_boundaries):
        def known(smooth, result):
            return _replay_search(smooth, result, limits, keeps_boundaries)

        return found(lambda smooth: search(*smooth, limits, keeps_boundaries), known)(smooth)

    def run(smooth, _):
        return searched(smooth, False).found()

    def forward(smooth, _):
        end = searched(smooth, True)
        return end.found(), (end.log, end.boundaries, end.event, end.t)

    def backward(smooth, _, residual, bar):
        return backpropagate(*smooth, *residual, bar)

    return with_reverse_rule(forward, backward, run)((given, ts))


class _Event(eqx.Module):
    """One event of each sample, for the replay."""

    t: Float[Array, "*events batch 1"]
    number: Int[Array, "*events batch 1"]  # of the neuron that spikes
    fires: Bool[Array, "*events batch 1"]
    at_once: Bool[Array, "*events batch 1"]
    happens: Bool[Array, "*events batch 1"]
    weight: Float[Array, "*events ports batch neurons"]


def _replayed(pool: Pool, boundary: Boundary, event: _Event) -> Boundary:
    """The boundary after an event, as a differentiable map.

    A spike `at_once` has the time of its cause: the event before it, or the start.
    """
    flow = pool.flow
    at_once = event.fires & event.at_once
    v, x = flow.after(boundary.v, boundary.x, jnp.where(event.happens, event.t - boundary.t, 0.0))
    one, _ = pool.one(event.number)
    v_one, x_one = (of_neuron(part, event.number) for part in (v, x))
    moves = event.fires & ~event.at_once
    cause = jnp.where(at_once, boundary.t, 0.0)
    shift = derivative_of_time(one.condition(v_one), one.steepness(one.speed(v_one, x_one)), moves, cause)
    speed, fading = held((flow.speed(v, x), flow.fading(x)), boundary.v)
    v, x = v + shift * speed, x + shift * fading
    t = jnp.where(event.happens, event.t + shift, boundary.t)
    this = (indices(v.shape[-1]) == event.number) & event.fires
    after = pool.reset(event.number, t, of_neuron(v, event.number))
    return Boundary(t, jnp.where(this, after, v), flow.jumped(x, event.weight))


def _segment(given: GroupGiven, ts: Array | None, log: Log) -> _Event:
    """The events of a part of the log, as a differentiable map."""
    batch, neurons = given.v.shape[-2:]
    outer, saves = given.times.shape[1], 0 if ts is None else len(ts)
    fires = (log.index >= outer) & (log.index < outer + neurons)
    number = jnp.where(fires, log.index - outer, 0)
    arrives = log.index < outer
    place = jnp.where(arrives, log.index, 0)
    sample = indices(batch)
    rows = given.weight.shape[1]
    t, row = log.t, jnp.where(fires, rows - neurons + number, rows)
    t = jnp.where(arrives, given.times[sample, place], t)
    row = jnp.where(arrives, given.source[sample, place], row)
    if ts is not None:
        saved = log.index - outer - neurons
        t = jnp.where((saved >= 0) & (saved < saves), ts[jnp.clip(saved, 0, saves - 1)], t)
    weight = jnp.moveaxis(given.weight.at[:, row].get(mode="fill", fill_value=0.0), 0, 1)
    parts = (t, number, fires, log.at_once, log.index < outer + neurons + saves)
    return _Event(*(part[..., None] for part in parts), weight)


def _replay_search(
    smooth: tuple[GroupGiven, Array | None], known: QueueState, limits: Limits, keeps_boundaries: bool
) -> QueueState:
    """A search as a differentiable map: all events of the log, in order."""
    given, ts = smooth
    outer, neurons = given.times.shape[1], given.v.shape[-1]

    def one_event(state: QueueState) -> QueueState:
        row = jax.tree.map(lambda rows: rows[state.event[0]], known.log)
        event = jax.tree.map(lambda rows: rows[0], _segment(given, ts, row))
        after = _replayed(given.pool, Boundary(state.t, state.v, state.x), event)
        index, number = row.index[0][:, None], row.number[0][:, None]
        came = jnp.where(index < outer, index, index - neurons)
        now = NextEvent(event.happens, event.fires, event.happens & ~event.fires, event.number, came)
        entry = Log(after.t, index, number, event.at_once)
        state = dataclasses.replace(state, t=after.t, v=after.v, x=after.x, limit=after.t)
        log, times, saved, boundaries = recorded(given, state, now, entry, after.v, after.x)
        own = {"log": log, "times": times, "saved": saved, "boundaries": boundaries}
        return dataclasses.replace(state, event=state.event + 1, **own)

    start = start_of(given, ts, limits, keeps_boundaries)
    events = most_of_members(jnp.max(known.event))
    end = lax.while_loop(lambda state: state.event[0, 0] < events, one_event, start)
    v, x = _at_the_end(given, Boundary(end.t, end.v, end.x), known.t)
    own = {"times": end.times, "saved": end.saved, "boundaries": end.boundaries}
    return dataclasses.replace(known, v=v, x=x, log=dataclasses.replace(known.log, t=end.log.t), **own)


def _at_the_end(given: GroupGiven, last: Boundary, end: Array) -> tuple[Array, Array]:
    """v and x at the end of each sample, from its last event."""
    # What happens at `t1` itself moves the state there, too.
    moves = (end > last.t) | (end >= given.t1)
    return given.pool.flow.after(last.v, last.x, jnp.where(moves, end - last.t, 0.0))


def backpropagate(
    given: GroupGiven, ts: Array | None, log: Log, boundaries: Boundary, events: Array, end: Array, bar: Found
) -> tuple[GroupGiven, Float[Array, " ts"] | None]:
    """The cotangents of `given` and `ts`, from those of spike times, saved states and the states at the `end`."""
    total = log.t.shape[0]
    length = segment_length(log)
    segments = -(-total // length)
    # Of each sample, since some have fewer events. Segments without events leave everything as it is.
    needed = jnp.minimum(-(-events // length), segments)

    def boundary_before(number):
        """The boundaries before the segments of this number, or the last ones."""

        def rows_of(rows):
            place = jnp.minimum(number, needed).reshape(1, *(1,) * (rows.ndim - 3), -1, 1)
            return jnp.take_along_axis(rows, place, axis=0)[0]

        return jax.tree.map(rows_of, boundaries)

    pad = segments * length - total
    nothing = given.times.shape[1] + given.v.shape[-1] + (0 if ts is None else len(ts))
    log = jax.tree.map(lambda rows: jnp.pad(rows, ((0, pad), (0, 0))), log)
    log = eqx.tree_at(lambda log: log.index, log, log.index.at[total:].set(nothing))
    log = jax.tree.map(lambda rows: rows.reshape(segments, length, *rows.shape[1:]), log)
    floats, static = eqx.partition((given.pool, given.weight, given.times, ts), eqx.is_inexact_array)

    def segment(floats, boundary, rows):
        pool, weight, times, ts = eqx.combine(floats, static)
        here = eqx.tree_at(lambda given: (given.pool, given.weight, given.times), given, (pool, weight, times))

        def step(boundary, event):
            after = _replayed(pool, boundary, event)
            return after, (after if ts is not None else after.t)

        return lax.scan(step, boundary, _segment(here, ts, rows))

    def to_the_end(floats, boundary):
        pool, *_ = eqx.combine(floats, static)
        return _at_the_end(dataclasses.replace(given, pool=pool), boundary, end)

    def back(carry):
        i, boundary_bar, floats_bar = carry
        rows, boundary = jax.tree.map(lambda rows: rows[i - 1], log), boundary_before(i - 1)
        _, pull = jax.vjp(lambda floats, boundary: segment(floats, boundary, rows), floats, boundary)
        more, boundary_bar = pull((boundary_bar, _cotangents(given, ts, rows, bar)))
        return i - 1, boundary_bar, add(floats_bar, more)

    _, pull_end = jax.vjp(to_the_end, floats, boundary_before(needed))
    floats_bar, boundary_bar = pull_end((bar.v, bar.x))
    _, boundary_bar, floats_bar = lax.while_loop(
        lambda carry: carry[0] > 0, back, (most_of_members(jnp.max(needed)), boundary_bar, floats_bar)
    )
    pool_bar, weight_bar, times_bar, ts_bar = floats_bar
    own = {"pool": pool_bar, "weight": weight_bar, "times": times_bar, "v": boundary_bar.v, "x": boundary_bar.x}
    return dataclasses.replace(given, **own, t0=jnp.sum(boundary_bar.t), t1=jnp.zeros_like(given.t1)), ts_bar


def _cotangents(given: GroupGiven, ts: Array | None, rows: Log, bar: Found) -> Array | Boundary:
    """The cotangents of the outputs of each event of a segment: its time and, if states are saved, its states."""
    outer, neurons = given.times.shape[1], given.v.shape[-1]
    fires = (rows.index >= outer) & (rows.index < outer + neurons) & (rows.number < bar.times.shape[2])
    sample = indices(given.v.shape[-2])
    at = (sample, jnp.where(fires, rows.index - outer, 0), jnp.where(fires, rows.number, 0))
    t_bar = jnp.where(fires, bar.times[at], 0.0)[..., None]
    if ts is None or bar.saved is None:
        return t_bar
    place = rows.index - outer - neurons
    is_saved = (place >= 0) & (place < len(ts))

    def of_states(part):
        # With indices on both sides of a slice, NumPy's indexing moves their axes to the front.
        rows = part[jnp.clip(place, 0, len(ts) - 1), ..., sample, :]
        rows = jnp.moveaxis(rows, 1, -2)
        return jnp.where(is_saved.reshape(is_saved.shape[0], *(1,) * (rows.ndim - 3), -1, 1), rows, 0.0)

    return Boundary(t_bar, *map(of_states, bar.saved))
