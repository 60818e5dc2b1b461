"""The event loop: trial steps, accepted or rejected, for all units of a layer at once, each at its own time.

One iteration tries one step for each unit. If an event condition crosses zero in the trial, or may cross, the trial is
rejected and a search for the crossing begins. When the search has converged, the trial is accepted as a spike. All
other trials whose error is small enough are accepted as plain steps, up to the next arrival or to `t1`.

With bins, a unit at the start of a bin first tries a single step across the whole bin, including its arrivals. If that
step is too long, or if an event may happen in the bin, the unit refines the bin: it steps to its end as above.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from .._base import SimulationState
from .._common.axes import indices
from .._common.differentiation import found
from .._common.events import DUE, payload_of
from .._common.traced_once import traced_once
from .._common.vectorized import any_member
from .advance import advance
from .problem import Action, LoopState, Problem, Search, Settings, TapeEntry, Trains
from .replay import Iteration, replay_iteration
from .trial import any_event, attempt_step, classify, is_finished


def start(problem: Problem, settings: Settings, start: SimulationState, t0: Array) -> LoopState:
    """The state of the loop at `t0`."""
    t = jnp.full(start.h.shape, t0)
    shape = jax.tree.leaves(start.state)[0].shape[:3]
    cursor = jnp.zeros(t.shape, jnp.int32)
    arrival, spike = problem.arrivals.at(problem.places, cursor)
    nothing, is_due = jnp.zeros(start.readiness.shape, t.dtype), start.readiness == DUE
    return LoopState(
        t=t,
        state=start.state,
        filters=start.filters,
        cursor=cursor,
        arrival=arrival,
        spike=spike,
        generation=cursor,
        h=settings.control.first_length(start.h),
        stuck=start.stuck,
        ratios=jnp.ones((settings.control.memory, *t.shape), t.dtype),
        readiness=start.readiness,
        count=jnp.zeros(shape, jnp.int32),
        rejected=cursor,
        search=Search(cursor, cursor > 0, 0.0 * t, nothing, nothing, is_due),
        bin=cursor,
        # An event that is due waits for the arrivals at `t0`, so no step may span the bin.
        refines=any_event(is_due) | (True if problem.bins is None else problem.bins.has_save_time[0]),
    )


def empty_trains(problem: Problem, loop_state: LoopState, capacity: int) -> Trains:
    """Empty trains with `capacity` places for the spikes of each neuron."""
    payload = payload_of(problem.neuron, loop_state.t, loop_state.state, loop_state.filters)
    shape = capacity, *loop_state.count.shape
    generation = None if problem.arrivals.generation is None else jnp.zeros(shape, jnp.int32)
    payloads = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), payload)
    return Trains(jnp.full(shape, jnp.inf, loop_state.t.dtype), payloads, generation)


def entry_of(problem: Problem, loop_state: LoopState, h: Array, action: Array, fired: Array) -> TapeEntry:
    """The tape entry of an iteration that started from `loop_state`. Many are stored, so each is kept small."""
    bin = None if problem.bins is None else loop_state.bin
    at = loop_state.t, loop_state.state, loop_state.filters
    return TapeEntry(*at, h, action.astype(jnp.int16), loop_state.cursor, fired, bin)


def idle_entry(problem: Problem, loop_state: LoopState) -> TapeEntry:
    """The tape entry of an iteration that does nothing."""
    nothing, never = jnp.full(loop_state.t.shape, int(Action.IDLE)), jnp.zeros(loop_state.readiness.shape, bool)
    return entry_of(problem, loop_state, loop_state.h, nothing, never)


def unfinished(problem: Problem, settings: Settings, loop_state: LoopState) -> Int[Array, ""]:
    """The number of unfinished units."""
    return jnp.sum(~is_finished(problem, settings, loop_state), dtype=jnp.int32)


def written(tape: TapeEntry, number: Array, entry: TapeEntry, new: LoopState) -> TapeEntry:
    """The tape with the entry of an iteration, in place of that of the oldest one."""
    place = number % tape.t.shape[0]
    return jax.tree.map(lambda tape, entry: lax.dynamic_update_index_in_dim(tape, entry, place, 0), tape, entry)


def run(
    problem: Problem,
    settings: Settings,
    loop_state: LoopState,
    trains: Trains | None,
    tape: Any,
    first: Array,
    limit: Array,
    stragglers: int = 0,
    write: Callable[[Any, Array, TapeEntry, LoopState], Any] = written,
) -> tuple[LoopState, Any, Any, Array]:
    """Runs iterations `first` to `limit`, or until at most `stragglers` units are unfinished.

    Spikes are written to `trains`, and iterations to `tape`, by default the latest ones; each if given.

    Returns the state, the spikes, the tape, and the number of the next iteration.
    """

    def goes_on(carry):
        k, loop_state, *_ = carry
        return any_member((k < limit) & (unfinished(problem, settings, loop_state) > stragglers))

    def body(carry):
        k, loop_state, trains, tape = carry
        new, entry, spike = found(_iterate, replay_iteration)((problem, settings, loop_state))
        if trains is not None:
            trains = _record(trains, loop_state.count, entry, spike)
        if tape is not None:
            tape = write(tape, k, entry, new)
        return k + 1, new, trains, tape

    k, loop_state, trains, tape = lax.while_loop(goes_on, body, (first, loop_state, trains, tape))
    return loop_state, trains, tape, k


def _record(trains: Trains, count: Array, entry: TapeEntry, spike: Trains) -> Trains:
    """The trains with the spikes of an iteration. Beyond the last place they are dropped, and counted."""
    batch, units, neurons = (indices(n) for n in count.shape)
    place = jnp.where(entry.fired[0], count, trains.times.shape[0])
    where = place, batch[:, None, None], units[:, None], neurons

    def leaf(train, one):
        return train.at[where].set(jnp.broadcast_to(one, train.shape[1:]), mode="drop")

    return jax.tree.map(leaf, trains, spike)


@traced_once
def _iterate(given: tuple[Problem, Settings, LoopState]) -> Iteration:
    """One trial step of each unit: the new state, the tape entry, and the spike that an event in it emits."""
    problem, settings, old = given
    attempt = attempt_step(problem, settings, old)
    classification = classify(problem, settings, old, attempt)
    new, spike = advance(problem, settings, old, attempt, classification)
    return new, entry_of(problem, old, attempt.h, classification.action, classification.fired), spike
