"""Trial steps of all units, and their classification."""

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.axes import over_units, spread
from .._common.compute_once import compute_once
from .._common.events import DUE, READY
from .._common.root_finding.hermite import Hermite
from .bins import View
from .problem import Action, LoopState, Problem, Search, Settings
from .step import drive_error_bound, Trial, try_step


class Attempt(eqx.Module):
    """A trial step of each unit."""

    moving: Bool[Array, "batch units 1"]  # neither finished nor waiting at an event that is due
    stop: Float[Array, "batch units 1"]  # the latest end of the step
    h: Float[Array, "batch units 1"]
    trial: Trial
    ends: Hermite
    ratio: Float[Array, "batch units 1"]  # the error over the allowed one
    next_h: Float[Array, "batch units 1"]  # the length of the next step, as this error suggests
    view: View | None  # the bin


def attempt_step(problem: Problem, settings: Settings, old: LoopState) -> Attempt:
    moving = ~is_finished(problem, settings, old) & ~fires_at_once(problem, old)
    stop = jnp.minimum(old.arrival, problem.t1)
    cap = old.h
    view = None if problem.bins is None else problem.bins.view(problem.places, old.bin, moving & ~old.refines)
    if view is not None:
        stop = jnp.where(view.whole, view.end, jnp.minimum(stop, view.end))
        cap = jnp.where(view.whole, view.end - old.t, cap)
    h = jnp.where(old.search.tries > 0, old.search.h, jnp.minimum(cap, stop - old.t))
    h = compute_once(jnp.where(moving, h, 0.0))

    def one(neuron, *arguments):
        return try_step(neuron, settings.stepper, *arguments)

    line = () if view is None else (view.line(old.count),)
    trial = over_units(one, problem.neuron, old.t, old.state, old.filters, h, *line)
    ratio = settings.control.error_ratio(old.state, trial.state, trial.error)
    # A finite state may have a slope that is not finite, from which no step could start.
    ratio = jnp.where(_all_finite((trial.slope, trial.g1, trial.d1)), ratio, jnp.inf)
    parts = trial.g0, trial.d0, trial.g1, trial.d1, trial.magnitude
    g0, *others = map(jnp.stack, parts)
    ends = Hermite(jnp.broadcast_to(h, g0.shape), g0, *others)
    ratio = compute_once(ratio)
    next_h = compute_once(settings.control.next_length(h, ratio, old.ratios))
    return Attempt(moving, stop, h, trial, ends, ratio, next_h, view)


def _all_finite(tree: PyTree[Array]) -> Bool[Array, "batch units 1"]:
    """Whether all values of a unit are finite."""
    finite = [jnp.all(jnp.isfinite(x), axis=tuple(range(2, x.ndim)))[..., None] for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite), axis=0)


def fires_at_once(problem: Problem, old: LoopState) -> Bool[Array, "batch units 1"]:
    # Simultaneous arrivals of the same generation come first: a neuron receives them together. Arrivals that a spike
    # causes at its own time come after it.
    is_last = old.arrival > old.t
    if problem.arrivals.generation is not None:
        is_last |= problem.arrivals.generation_at(problem.places, old.cursor) > old.generation
    return any_event(old.readiness == DUE) & is_last & ~old.stuck


class Classification(eqx.Module):
    """The classification of a trial: the action, the events, and the continued search."""

    action: Int[Array, "batch units 1"]
    fired: Bool[Array, "events batch units neurons"]
    shift: Float[Array, "batch units 1"]  # from the end of the trial to the crossing: the last Newton step
    search: Search


def classify(problem: Problem, settings: Settings, old: LoopState, attempt: Attempt) -> Classification:
    h, search = attempt.h, old.search
    # Times closer than this count as equal: the resolution of the float type at the end of the step, with a margin.
    time_tolerance = 4.0 * jnp.finfo(h.dtype).eps * (jnp.abs(old.t) + h)
    estimate = _estimate(old, attempt, time_tolerance)
    crosses, may_peak = estimate.crosses, estimate.may_peak
    first = _first(estimate.time, crosses)
    # A peak after the first crossing does not matter: what is on its way to one, above zero there, crosses as well.
    peak_first = any_event(may_peak & (estimate.time < first))
    fires = estimate.is_found & (estimate.time <= first + time_tolerance) & ~peak_first

    landed = h >= attempt.stop - old.t
    arrived = landed & (old.arrival <= attempt.stop)
    searches = ~search.cleared & any_event(crosses | may_peak)
    action = jnp.where(landed, jnp.where(arrived, Action.ARRIVED, Action.ENDED), Action.CAPPED)
    action = jnp.where(search.tries > 0, Action.CLEARED, action)
    action = jnp.where(searches, jnp.where(any_event(fires), Action.FIRED, Action.SEARCHING), action)
    next_h = _first(estimate.time, jnp.where(peak_first, may_peak, crosses))
    # A trial that is too long may begin the search for a crossing, if the next trial is then shorter than the next step
    # would be. Not that for a peak: it may be cleared for the same step alone, and the next one will be shorter.
    begins = (action == Action.SEARCHING) & (search.tries == 0) & any_event(crosses)
    begins &= (attempt.ratio < jnp.inf) & (next_h < attempt.next_h)
    action = jnp.where((attempt.ratio <= 1.0) | begins, action, Action.TOO_LONG)
    if attempt.view is not None:
        unseen = any_event(_may_happen(problem, old, attempt, attempt.view))
        spans = settings.control.across_bin(attempt.ratio) & ~searches & ~unseen
        action = jnp.where(attempt.view.whole, jnp.where(spans, Action.SPANNED, Action.REFINED), action)
    stays = jnp.where(fires_at_once(problem, old), Action.FIRED_AT_ONCE, Action.IDLE)
    action = jnp.where(attempt.moving, action, stays)
    # As a float: `compute_once` divides, and a division needs floats.
    action = compute_once(action)
    fired = (fires & (action == Action.FIRED)) | ((old.readiness == DUE) & (action == Action.FIRED_AT_ONCE))
    shift = compute_once(jnp.where(action == Action.FIRED, first - h, 0.0))

    tries = jnp.where(action == Action.SEARCHING, search.tries + 1, 0)
    search = Search(tries, action == Action.CLEARED, next_h, estimate.low, estimate.high, estimate.above)
    return Classification(action, fired, shift, search)


def _may_happen(
    problem: Problem, old: LoopState, attempt: Attempt, view: View
) -> Bool[Array, "events batch units neurons"]:
    """Whether an event may happen inside a bin although the step across the bin does not show it.

    The step uses the line in place of the drive, so its condition has an error inside the bin, and an error of higher
    order at the end. There is no event if the condition stays away from zero by more than this error.
    """
    ends, line = attempt.ends, view.line(old.count)
    t, h = spread(old.t, old.count), spread(attempt.h, old.count)

    def one(neuron, t, state, end, h, line, variation):
        nothing = jax.tree.map(jnp.zeros_like, line.mean)
        start = drive_error_bound(neuron, t, state, line.drive(jnp.zeros_like(h), h, nothing), h, variation)
        return start, drive_error_bound(neuron, t + h, end, line.drive(h, h, nothing), h, variation)

    start, end = over_units(one, problem.neuron, t, old.state, attempt.trial.state, h, line, view.variation)
    # Twice the larger of both, since the sensitivity to the drive changes within the bin.
    margin = 2.0 * jnp.maximum(jnp.stack(start), jnp.stack(end))
    top = jnp.maximum(ends.g0, ends.g1)
    top = jnp.where(ends.has_peak(), jnp.maximum(top, ends.peak()[1]), top)
    # A spent event may happen again once its condition has fallen below zero.
    near = jnp.where(old.readiness == READY, top + margin, margin - jnp.minimum(ends.g0, ends.g1))
    return (near > 0.0) & (margin > 0.0)


class _Estimate(eqx.Module):
    """Where an event condition crosses zero, or peaks, between `low` and `high`."""

    time: Float[Array, "events batch units neurons"]
    may_peak: Bool[Array, "events batch units neurons"]
    crosses: Bool[Array, "events batch units neurons"]
    is_found: Bool[Array, "events batch units neurons"]  # the crossing is precise
    low: Float[Array, "events batch units neurons"]
    high: Float[Array, "events batch units neurons"]
    above: Bool[Array, "events batch units neurons"]  # the condition is above zero at `high`


class _Status(enum.IntFlag):
    """What is known of an event between `low` and `high`. A precise crossing has `CROSSES` too."""

    NOTHING = 0
    MAY_PEAK = enum.auto()
    CROSSES = enum.auto()
    PRECISE = enum.auto()


def _estimate(old: LoopState, attempt: Attempt, time_tolerance: Array) -> _Estimate:
    search, ends, h = old.search, attempt.ends, attempt.ends.h
    is_fresh = (search.tries == 0) & ~search.cleared
    low = jnp.where(is_fresh, 0.0, search.low)
    high = jnp.where(is_fresh, h, search.high)
    above = jnp.where(is_fresh, ends.crosses(time_tolerance), search.above)
    # A trial cuts off the part after the first crossing, or after the peak if there is no crossing.
    inside = (h > low) & (h < high)
    cuts = inside & ((ends.g1 >= 0) | (~above & (ends.d1 <= 0)))
    low = compute_once(jnp.where(inside & ~cuts, h, low))
    high = compute_once(jnp.where(cuts, h, high))
    above = above | (inside & ends.is_above())

    is_ready = old.readiness == READY
    crosses = is_ready & above
    newton, is_close = ends.last_step(time_tolerance)
    within = (newton >= low - time_tolerance) & (newton <= high + time_tolerance)
    converged = crosses & ((is_close & within) | (high - low <= time_tolerance))
    # From a trial after the crossing, the root of the interpolant; from a trial before it, Newton's method.
    root = jnp.where(converged | (ends.g1 < 0), newton, ends.root())

    early_h, early_g = ends.peak()
    later_h, later_g = ends.later_peak()
    falls = ends.d1 < 0
    peak_h, peak_g = jnp.where(falls, early_h, later_h), jnp.where(falls, early_g, later_g)
    # The estimated height of a peak above the ends has an error of a few per cent: try if that could matter.
    margin = 0.05 * (peak_g - jnp.maximum(ends.g0, ends.g1))
    is_open = is_ready & ~above & (high - low > time_tolerance) & (ends.has_peak() | (~is_fresh & ~falls))
    may_peak = is_open & (peak_g > -margin)
    status = jnp.where(may_peak, _Status.MAY_PEAK, _Status.NOTHING)
    status = jnp.where(crosses, jnp.where(converged, _Status.CROSSES | _Status.PRECISE, _Status.CROSSES), status)
    # The three flags in one number, so that it alone is computed once; as a float, since a division needs floats.
    status = compute_once(status)
    may_peak, crosses, converged = (
        (status & int(kind)) != 0 for kind in (_Status.MAY_PEAK, _Status.CROSSES, _Status.PRECISE)
    )

    time = jnp.where(crosses, root, peak_h)
    # Bisect if an estimate leaves the bracket, and every other time in a long search, so that the search ends.
    strays = ~((time > low) & (time < high)) | ((search.tries > 6) & (search.tries % 2 == 1))
    halves = ~converged & ~is_fresh & strays
    time = compute_once(jnp.where(halves, low + 0.5 * (high - low), jnp.clip(time, low, high)))
    return _Estimate(time, may_peak, crosses, converged, low, high, above)


def is_finished(problem: Problem, settings: Settings, loop_state: LoopState) -> Bool[Array, "batch units 1"]:
    """Whether a unit is finished."""
    at_end = (loop_state.t >= problem.t1) & (loop_state.arrival > problem.t1)
    over = loop_state.stuck | (at_end & ~any_event(loop_state.readiness == DUE))
    if settings.stop_after is None:
        return over
    enough = jnp.asarray(settings.stop_after, jnp.int32)
    return over | jnp.all(loop_state.count >= enough, axis=2, keepdims=True)


def any_event(happens: Bool[Array, "events batch units neurons"]) -> Bool[Array, "batch units 1"]:
    return jnp.any(happens, axis=(0, 3))[..., None]


def _first(times: Array, where: Array) -> Float[Array, "batch units 1"]:
    return jnp.min(jnp.where(where, times, jnp.inf), axis=(0, 3))[..., None]
