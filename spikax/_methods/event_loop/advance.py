"""The state after a trial: the last Newton step, the jumps of events and arrivals, and the next step."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._neuron import AbstractNeuron, events_of, stops_at_arrivals
from ..._synapse import filters_after_arrival
from .._common.axes import add_scaled, cast, over_units, spread
from .._common.compute_once import compute_once
from .._common.events import conditions, DUE, payload_of, READY, SPENT
from .._common.trees import add, tree_where
from .problem import (
    ACCEPTED,
    Action,
    arriving,
    is_any,
    LoopState,
    Problem,
    REACHED_STOP,
    REJECTED,
    scaled,
    sent,
    Settings,
    STEPPED,
    Trains,
    weight_of,
)
from .trial import Attempt, Classification


def advance(
    problem: Problem, settings: Settings, old: LoopState, attempt: Attempt, classification: Classification
) -> tuple[LoopState, Trains]:
    """Returns the state after an iteration, and the spike that an event in it would emit."""
    h, trial, action, fired = attempt.h, attempt.trial, classification.action, classification.fired
    arrived, reached_stop = action == Action.ARRIVED, is_any(action, REACHED_STOP)
    t = jnp.where(action == Action.FIRED, jnp.minimum(old.t + h + classification.shift, attempt.stop), old.t)
    t = jnp.where(reached_stop, attempt.stop, jnp.where(action == Action.CAPPED, old.t + h, t))
    t = compute_once(t)

    stepped = spread(is_any(action, STEPPED), old.count)
    before = tree_where(stepped, add_scaled(trial.state, classification.shift, trial.slope), old.state)
    filters = tree_where(stepped, add_scaled(trial.filters, classification.shift, trial.filter_slope), old.filters)
    payload = payload_of(problem.neuron, t, before, filters)
    received = arriving(scaled(*weight_of(problem, old.spike)), arrived)
    state, filters = jump(problem, t, before, filters, fired, spread(arrived, old.count), received, payload)
    readiness = _after_jumps(problem, old, t, before, state, fired, attempt.ends.d1)

    cursor = old.cursor + arrived.astype(jnp.int32)
    if attempt.view is not None:
        spanned = action == Action.SPANNED
        cursor = jnp.where(spanned, attempt.view.passed, cursor)
        filters = tree_where(spread(spanned, old.count), attempt.view.table_entry.filters, filters)
    arrival, spike = problem.arrivals.at(problem.places, cursor)
    emitted, generation = _generations(problem, old, t, arrived)
    next_h, stuck, ratios = _next_length(settings, old, attempt, action)
    bin, refines = _place_in_bins(problem, old, t, arrival, action)
    new = LoopState(
        t=t,
        state=state,
        filters=filters,
        cursor=cursor,
        arrival=arrival,
        spike=spike,
        generation=generation,
        h=next_h,
        stuck=stuck,
        ratios=ratios,
        readiness=jnp.where(is_any(action, ACCEPTED), readiness, old.readiness),
        count=old.count + fired[0].astype(jnp.int32),
        rejected=old.rejected + is_any(action, REJECTED).astype(jnp.int32),
        search=classification.search,
        bin=bin,
        refines=refines,
    )
    return new, Trains(t, payload, emitted)


def jump(
    problem: Problem,
    t: Array,
    state: PyTree,
    filters: PyTree,
    fired: Array,
    arrived: Array,
    received: PyTree,
    payload: PyTree,
) -> tuple[PyTree, PyTree]:
    """The state and the filters after the events at `t`, and after the arrival at `t`.

    `received` are the weights of the arrival, zero in units without one.
    """
    for number, happened in enumerate(fired):
        after = over_units(_after_event(number), problem.neuron, t, state)
        state = tree_where(happened, after, state)
    if stops_at_arrivals(problem.neuron):
        state = tree_where(arrived, over_units(_after_arrival, problem.neuron, t, state, received), state)
    if problem.inner is not None:
        # At most one of both: an arrival at the time of a spike has an iteration of its own.
        received = add(received, sent(problem, fired[0], payload))
        arrived = arrived | jnp.any(fired[0], axis=2, keepdims=True)
    filtered = over_units(lambda n, x, w: filters_after_arrival(n.synapse, x, w), problem.neuron, filters, received)
    return state, tree_where(arrived, filtered, filters)


def _after_event(number: int):
    def after(neuron, t, state):
        return cast(events_of(neuron)[number].jump(t, state), t.dtype)

    return after


def _after_arrival(neuron, t, state, weight):
    return cast(neuron.receive(t, state, weight), t.dtype)


def _generations(problem: Problem, old: LoopState, t: Array, arrived: Array) -> tuple[Array | None, Array]:
    """The generations of a spike at the time t and of the latest arrival at this time."""
    if problem.arrivals.generation is None:
        return None, old.generation
    before = jnp.where(t > old.t, 0, old.generation)
    return before, jnp.where(arrived, problem.arrivals.generation_at(problem.places, old.cursor), before)


def _next_length(
    settings: Settings, old: LoopState, attempt: Attempt, action: Array
) -> tuple[Float[Array, "batch units 1"], Bool[Array, "batch units 1"], Float[Array, "memory batch units 1"]]:
    """The maximal length of the next step, whether the unit is stuck, and the error ratios to keep."""
    wanted = attempt.next_h
    # A step that was cut short by its stop is no reason to shorten the next one.
    wanted = jnp.where(is_any(action, REACHED_STOP), jnp.maximum(old.h, wanted), wanted)
    shortest = 16.0 * jnp.finfo(wanted.dtype).eps * jnp.maximum(jnp.abs(old.t), jnp.abs(attempt.stop))
    stuck = old.stuck | ((action == Action.TOO_LONG) & (wanted < shortest))
    if attempt.view is not None:
        # The trial across the bin shows how long a step may be, unless an event prevented the step.
        fits = settings.control.across_bin(attempt.ratio)
        wanted = jnp.where(action == Action.REFINED, jnp.where(fits, old.h, jnp.minimum(old.h, wanted)), wanted)
    # A step that was ended by an event gives no information about the next length.
    is_told = is_any(action, REACHED_STOP | Action.CAPPED | Action.TOO_LONG | Action.REFINED)
    is_told |= (action == Action.SEARCHING) & (attempt.ratio > 1.0)
    h, ratios = jnp.where(is_told, wanted, old.h), old.ratios
    if settings.control.memory:
        latest = jnp.concatenate([attempt.ratio[None], old.ratios])[: settings.control.memory]
        ratios = jnp.where(is_any(action, REACHED_STOP | Action.CAPPED), latest, old.ratios)
    return h, stuck, ratios


def _place_in_bins(problem: Problem, old: LoopState, t: Array, arrival: Array, action: Array) -> tuple[Array, Array]:
    """The bin of each unit, and whether the unit refines it."""
    if problem.bins is None:
        return old.bin, old.refines
    leaves = is_any(action, ACCEPTED) & (t >= problem.bins.ends[old.bin]) & (arrival > t)
    bin = jnp.where(leaves, problem.bins.after(old.bin), old.bin)
    return bin, jnp.where(leaves, problem.bins.has_save_time[bin], old.refines | (action == Action.REFINED))


def _conditions(neuron: AbstractNeuron, t: Array, state: PyTree) -> Array:
    return jnp.stack(over_units(conditions, neuron, t, state))


def _after_jumps(
    problem: Problem, old: LoopState, t: Array, before: PyTree, after: PyTree, fired: Array, slope: Array
) -> Int[Array, "events batch units neurons"]:
    """The readiness of each event, from the states before and after the jumps at the time `t`."""
    was, now = (_conditions(problem.neuron, t, state) for state in (before, after))
    # An event that does not change its own condition (an upward crossing that is only counted) may happen again once
    # the condition has fallen. An event that lowers its condition, but not below zero, happens again at once.
    fell = (now < 0) & ((slope < 0) | (was >= 0))
    ready = jnp.where(fired, now != was, (old.readiness != SPENT) | fell)
    due = ready & (now > 0) & (fired | (old.readiness == DUE) | (was < 0))
    return jnp.where(due, DUE, jnp.where(ready, READY, SPENT)).astype(jnp.int32)
