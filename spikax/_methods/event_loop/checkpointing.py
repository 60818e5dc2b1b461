"""The loop in segments, each with as many iterations as the tape has room for."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.axes import indices
from .._common.trees import tree_where
from .._common.vectorized import any_member
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


class Checkpoints(eqx.Module):
    """The states of the loop at the starts of some segments: of all, or of every second, fourth, ... if there are many.

    The backward pass runs a segment again from the last state before it.
    """

    states: LoopState  # with the axis of the checkpoints first
    segments: Int[Array, " room"]  # that start with these states; -1 for places that are not in use
    stride: Int[Array, ""]  # states at the starts of its multiples are kept

    @classmethod
    def of(cls, loop_state: LoopState, memory: int) -> "Checkpoints":
        """Room for some states like this one, in a quarter of the memory."""
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(loop_state))
        room = 2 * min(max(memory // 4 // size // 2, 1), _MOST_CHECKPOINTS // 2)
        states = jax.tree.map(lambda leaf: jnp.zeros((room, *leaf.shape), leaf.dtype), loop_state)
        return cls(states, jnp.full(room, -1, jnp.int32), jnp.int32(1))

    @property
    def is_kept(self) -> Bool[Array, " room"]:
        """Which places hold a state that is still needed."""
        return (self.segments >= 0) & (self.segments % self.stride == 0)

    def added(self, segment: Int[Array, ""], loop_state: LoopState) -> "Checkpoints":
        """With the state at the start of a segment. If there is no room left, every second state is given up."""
        room = len(self.segments)
        stride = jnp.where(segment == room * self.stride, 2 * self.stride, self.stride)
        here = Checkpoints(self.states, self.segments, stride)
        # An index out of bounds is dropped.
        place = jnp.where(segment % stride == 0, jnp.argmin(here.is_kept), room)
        given = loop_state, segment
        rows = jax.tree.map(lambda rows, row: rows.at[place].set(row, mode="drop"), (self.states, self.segments), given)
        return Checkpoints(*rows, stride)

    def before(self, segment: Int[Array, ""]) -> tuple[LoopState, Int[Array, ""]]:
        """The last state at or before the start of a segment, and the segment that it starts."""
        fits = self.is_kept & (self.segments <= segment)
        place = jnp.argmax(jnp.where(fits, self.segments, -1))
        return jax.tree.map(lambda rows: rows[place], self.states), self.segments[place]


# All of them are initialised, also where the loop ends within one segment. Measured on two CPU cores: a gradient of
# Yin-Yang with QIF takes 40 ms with 32 of them, and 31.5 ms with 8.
_MOST_CHECKPOINTS = 8


def blank_tape(plan: LoopPlan) -> TapeEntry:
    """A tape for the iterations of one segment."""
    entry = loop.idle_entry(plan.problem, plan.loop_state)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(entry))
    length = _segment_length(plan, plan.memory // size)
    return jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), entry)


def run(plan: LoopPlan) -> LoopResult:
    """Runs the loop. Without times to save there is no tape, and only one segment."""
    return run_with_tape(plan, None if plan.ts is None else blank_tape(plan), None)[0]


def run_with_tape(
    plan: LoopPlan, tape: TapeEntry | None, checkpoints: Checkpoints | None
) -> tuple[LoopResult, TapeEntry | None, Checkpoints | None]:
    """Runs the loop in segments, each with as many iterations as the tape has room for.

    Returns the result, the tape of the last segment, and the checkpoints, if there are any.
    """
    problem, loop_state, settings, ts = plan.problem, plan.loop_state, plan.settings, plan.ts
    length = settings.max_steps if tape is None else tape.t.shape[0]
    found = (
        None if ts is None else jax.tree.map(lambda x: jnp.broadcast_to(x, (len(ts), *x.shape)), point_of(loop_state))
    )
    trains = loop.empty_trains(problem, loop_state, settings.max_spikes)

    def goes_on(carry):
        iterations, loop_state, *_ = carry
        return any_member(
            (iterations < plan.steps) & (loop.unfinished(problem, settings, loop_state) > plan.stragglers)
        )

    def segment(carry):
        iterations, loop_state, trains, tape, checkpoints, found = carry
        if checkpoints is not None:
            checkpoints = checkpoints.added(iterations // length, loop_state)
        limit = jnp.minimum(iterations + length, plan.steps).astype(jnp.int32)
        loop_state, trains, tape, after = loop.run(
            problem, settings, loop_state, trains, tape, iterations, limit, plan.stragglers
        )
        if found is not None:
            place, here = entries_at(ts, tape.t, after - iterations)
            found = tree_where(here, taken(point_of(tape), place), found)
        return after, loop_state, trains, tape, checkpoints, found

    carry = (jnp.int32(0), loop_state, trains, tape, checkpoints, found)
    iterations, loop_state, trains, tape, checkpoints, found = lax.while_loop(goes_on, segment, carry)
    if found is not None:
        end = point_of(loop_state)
        found = tree_where(end.t <= ts[:, None, None, None], end, found)
    return LoopResult(loop_state, trains, found, iterations), tape, checkpoints


def _segment_length(plan: LoopPlan, room: int) -> int:
    """The number of iterations of a segment, given the number of tape entries that fit into the memory."""
    # Unused memory costs time, since all of it is initialised first. So the tape is no longer than the loop is likely
    # to need, except for what is cheap: a part of the memory.
    wanted = max(likely_length(plan.problem, plan.settings), room // 256)
    return min(max(min(room, wanted), 16), plan.settings.max_steps)


def likely_length(problem: Problem, settings: Settings) -> int:
    """The number of iterations that the busiest unit is likely to need."""
    # One per arrival, and some for the steps in between. Per spike four, or two of neurons that share a clock, which
    # seldom use more than half of their places for spikes.
    arrivals, spike = problem.arrivals.times.shape[0], max(2, jax.tree.leaves(problem.weight)[0].shape[2])
    if settings.bins:
        # One per bin; per spike as many, plus the arrivals in its bin.
        arrivals, spike = settings.bins, spike + arrivals // settings.bins
    return (arrivals + spike * settings.max_spikes) // settings.windows + 32


def point_of(at: LoopState | TapeEntry) -> Point:
    return Point(at.t, at.state, at.filters)


def entries_at(ts: Array, t: Float[Array, "entries batch units 1"], length: Array) -> tuple[Array, Array]:
    """The last tape entry that starts at or before each time of `ts`, and whether there is one."""
    is_row = indices(t.shape[0])[:, None, None, None] < length
    before = jnp.sum((t <= ts[:, None, None, None, None]) & is_row, axis=1)
    return jnp.maximum(before - 1, 0), before > 0


def taken(tape: PyTree[Array], place: Int[Array, "ts batch units 1"]) -> PyTree[Array]:
    """The tape entry at each place."""

    def leaf(tape):
        index = place.reshape(place.shape + (1,) * (tape.ndim - place.ndim))
        return jnp.take_along_axis(tape, index, axis=0)

    return jax.tree.map(leaf, tape)
