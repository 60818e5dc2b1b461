"""The loop in segments, each with as many iterations as the tape has room for."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from .._common.axes import indices
from .._common.trees import tree_where
from . import loop
from .problem import LoopState, Point, Problem, Settings, TapeEntry, Trains


class LoopPlan(eqx.Module):
    """The start and the limits of the loop."""

    problem: Problem
    loop_state: LoopState
    ts: Float[Array, " ts"] | None
    steps: Int[Array, ""]  # the maximal number of iterations
    settings: Settings
    memory: int = eqx.field(static=True)
    stragglers: int = eqx.field(static=True)  # the number of units that may be left unfinished


class LoopResult(eqx.Module):
    """The result of the loop. Of the state, only the point is differentiated."""

    loop_state: LoopState
    trains: Trains
    found: Point | None
    iterations: Int[Array, ""]


def blank_tape(plan: LoopPlan) -> TapeEntry:
    """A tape for the iterations of one segment."""
    entry = loop.idle_entry(plan.problem, plan.loop_state)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(entry))
    length = _segment_length(plan, plan.memory // size)
    return jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), entry)


def run(plan: LoopPlan) -> LoopResult:
    """Runs the loop. Without times to save there is no tape, and only one segment."""
    return run_with_tape(plan, None if plan.ts is None else blank_tape(plan))[0]


def run_with_tape(plan: LoopPlan, tape: TapeEntry | None) -> tuple[LoopResult, TapeEntry | None]:
    """Runs the loop in segments, each with as many iterations as the tape has room for.

    Returns the result and the tape of the last segment.
    """
    problem, loop_state, settings, ts = plan.problem, plan.loop_state, plan.settings, plan.ts
    length = settings.max_steps if tape is None else tape.t.shape[0]
    found = (
        None if ts is None else jax.tree.map(lambda x: jnp.broadcast_to(x, (len(ts), *x.shape)), point_of(loop_state))
    )
    trains = loop.empty_trains(problem, loop_state, settings.max_spikes)

    def goes_on(carry):
        iterations, loop_state, *_ = carry
        return (iterations < plan.steps) & (loop.unfinished(problem, settings, loop_state) > plan.stragglers)

    def segment(carry):
        iterations, loop_state, trains, tape, found = carry
        limit = jnp.minimum(iterations + length, plan.steps).astype(jnp.int32)
        loop_state, trains, tape, after = loop.run(
            problem, settings, loop_state, trains, tape, iterations, limit, plan.stragglers
        )
        if found is not None:
            place, here = entries_at(ts, tape.t, after - iterations)
            found = tree_where(here, _take(point_of(tape), place), found)
        return after, loop_state, trains, tape, found

    carry = (jnp.int32(0), loop_state, trains, tape, found)
    iterations, loop_state, trains, tape, found = lax.while_loop(goes_on, segment, carry)
    if found is not None:
        end = point_of(loop_state)
        found = tree_where(end.t <= ts[:, None, None, None], end, found)
    return LoopResult(loop_state, trains, found, iterations), tape


def _segment_length(plan: LoopPlan, room: int) -> int:
    """The number of iterations of a segment, given the number of tape entries that fit into the memory."""
    most, likely = plan.settings.max_steps, likely_length(plan.problem, plan.settings)
    # Unused memory costs time, since all of it is initialised first. So a tape of large entries is no longer than the
    # loop is likely to need.
    wanted = max(likely, min(most, _SMALL)) if room >= min(most, _SMALL) else min(room, likely)
    return min(max(min(room, wanted), 16), most)


# A tape of this many entries is cheap if the memory has room for it.
_SMALL = 1024


def likely_length(problem: Problem, settings: Settings) -> int:
    """The number of iterations that the busiest unit is likely to need."""
    # One per arrival, four per spike, and some for the steps in between.
    arrivals, spike = problem.arrivals.times.shape[2], 4 * jax.tree.leaves(problem.weight)[0].shape[2]
    if settings.bins:
        # One per bin; per spike four, plus the arrivals in its bin.
        arrivals, spike = settings.bins, spike + arrivals // settings.bins
    return arrivals + spike * settings.max_spikes + 32


def point_of(at: LoopState | TapeEntry) -> Point:
    return Point(at.t, at.state, at.filters)


def entries_at(ts: Array, t: Float[Array, "entries batch units 1"], length: Array) -> tuple[Array, Array]:
    """The last tape entry that starts at or before each time of `ts`, and whether there is one."""
    is_row = (indices(t.shape[0]) < length)[:, None, None, None]
    before = jnp.sum((t <= ts[:, None, None, None, None]) & is_row, axis=1)
    return jnp.maximum(before - 1, 0), before > 0


def _take(tape: PyTree[Array], place: Int[Array, "ts batch units 1"]) -> PyTree[Array]:
    """The tape entry at each place."""

    def leaf(tape):
        index = place.reshape(place.shape + (1,) * (tape.ndim - place.ndim))
        return jnp.take_along_axis(tape, index, axis=0)

    return jax.tree.map(leaf, tape)
