"""The event loop: trial steps, accepted or rejected, for many units of a layer at once, each at its own time.

One iteration tries one step for every unit. A trial that an event condition crosses, or may cross, is rejected, and a
search for the crossing begins; when it has converged, the trial is accepted as a spike. Every other trial is accepted
as a plain step, up to the next arrival or to `t1`.

Where there are cells, a unit at the start of one first tries a single step across it, whatever arrives there. Where
that step is too long, or an event may happen in the cell, the unit refines the cell: it goes to its end as above.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._held import held
from .._neuron import AbstractNeuron, events_of, stops_at_arrivals
from .._synapse import drive_of, filters_after_arrival, initial_filters
from .arrivals import Arrivals
from .cells import Cells, View
from .control import StepControl
from .crossing import Ends
from .step import AbstractStepper, conditions, sized_conditions, sway, Trial, try_step
from .units import add_scaled, cast, indices, over_units, Places, select, spread


# What an iteration did to a unit. The first six move it; all others leave it where it was. A step has ended at `t1` or
# at the end of a cell; it has spanned a cell; a cell is refined when the step across it is refused.
CAPPED, ARRIVED, ENDED, SPANNED, FIRED, FIRED_AT_ONCE, SEARCHING, CLEARED, TOO_LONG, REFINED, IDLE = range(11)

# An event is ready while its condition has been below zero since it last happened, and spent before. It is due when a
# jump took the condition above zero: then it happens at once.
READY, DUE, SPENT = range(3)


class Settings(eqx.Module):
    """How a layer is simulated."""

    stepper: AbstractStepper
    control: StepControl
    max_spikes: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    quota: int | None = eqx.field(static=True, default=None)  # how many spikes a neuron is simulated for
    cells: int = eqx.field(static=True, default=0)  # how many; with none, the loop stops at every arrival


class Problem(eqx.Module):
    """What is simulated: the neurons of a layer, and what arrives at them.

    Parameters of the neuron have the shape `()` or the leading axes `(batch, units, neurons)`, as the initial state
    has; weights have the axes `(sources, units, neurons)`. Where some units are followed by themselves, neuron and
    states are theirs, with the axes `(1, some, neurons)`; all else is that of the layer, and `places` says where in it.
    """

    neuron: AbstractNeuron
    weight: PyTree[Array]
    arrivals: Arrivals
    places: Places
    t1: Float[Array, ""]
    cells: Cells | None = None
    gains: PyTree[Array] | None = None  # the factors of the weight for every spike, of shape `(batch, lanes, spikes)`


class Standing(eqx.Module):
    """How the neurons of a layer stand at the start of a simulation, and at its end."""

    state: PyTree[Array]
    filters: PyTree[Array]
    readiness: Int[Array, "events batch units neurons"]
    h: Float[Array, "batch units 1"]  # how long the next step may be

    @classmethod
    def of(cls, neuron: AbstractNeuron, weight: PyTree[Array], state: PyTree[Array], t: Array, h: Array) -> "Standing":
        """Before any arrival; an event whose condition is above zero is due."""
        shape = jax.tree.leaves(state)[0].shape[:3]
        zeros = jax.tree.map(lambda w: jnp.zeros(shape, w.dtype), weight)
        filters = over_units(lambda neuron, w: initial_filters(neuron.synapse, w), neuron, zeros)
        clock = jnp.broadcast_to(t, shape)
        condition, size = map(jnp.stack, over_units(sized_conditions, neuron, clock, state))
        rounding = 8.0 * jnp.finfo(condition.dtype).eps * size
        readiness = jnp.where(condition > rounding, DUE, READY).astype(jnp.int32)
        return cls(state, filters, readiness, jnp.full((*shape[:2], 1), h))


class Point(eqx.Module):
    """A point of the simulation: the time of every unit, the state of its membranes, and of its synapses' filters."""

    t: Float[Array, "batch units 1"]
    state: PyTree[Array]
    filters: PyTree[Array]


class Search(eqx.Module):
    """The search for a crossing inside the present step."""

    tries: Int[Array, "batch units 1"]  # so far; 0 before a fresh step, -1 after a search that found nothing
    h: Float[Array, "batch units 1"]  # the next trial
    low: Float[Array, "events batch units neurons"]  # what is left of the step
    high: Float[Array, "events batch units neurons"]
    above: Bool[Array, "events batch units neurons"]  # the condition is above zero at `high`


class Progress(eqx.Module):
    """Where every unit stands."""

    t: Float[Array, "batch units 1"]
    state: PyTree[Array]
    filters: PyTree[Array]
    cursor: Int[Array, "batch units 1"]
    arrival: Float[Array, "batch units 1"]  # when the arrival at the cursor comes
    spike: Int[Array, "batch units 1"]  # which spike of the sources it is
    generation: Int[Array, "batch units 1"]  # of the latest arrival at the time `t`; zero where there is none
    h: Float[Array, "batch units 1"]  # how long the next step may be; zero where none is short enough
    readiness: Int[Array, "events batch units neurons"]
    count: Int[Array, "batch units neurons"]  # spikes so far
    rejected: Int[Array, "batch units 1"]  # trials rejected so far
    search: Search
    cell: Int[Array, "batch units 1"]  # where the unit is: past the start of the cell, or at it
    refines: Bool[Array, "batch units 1"]  # the unit stops at the arrivals of the cell

    def leads(self) -> "Progress":
        """How many axes lead those of batch and units, in every leaf."""

        def by_event(p):
            return p.readiness, p.search.low, p.search.high, p.search.above

        return eqx.tree_at(by_event, jax.tree.map(lambda _: 0, self), (1, 1, 1, 1))


class Trains(eqx.Module):
    """The spikes of all neurons, and what they carry."""

    times: Float[Array, "spikes batch units neurons"]
    payload: PyTree[Array]
    generation: Int[Array, "spikes batch units neurons"] | None = None  # where the order at one instant matters


class Row(eqx.Module):
    """What one iteration started from and did: all that its derivative needs."""

    t: Array
    state: PyTree[Array]
    filters: PyTree[Array]
    h: Array
    action: Array
    cursor: Array
    fired: Array
    cell: Array | None  # where there are cells


def start(problem: Problem, standing: Standing, t0: Array) -> Progress:
    """Every unit at `t0`."""
    t = jnp.full(standing.h.shape, t0)
    shape = jax.tree.leaves(standing.state)[0].shape[:3]
    cursor = jnp.zeros(t.shape, jnp.int32)
    arrival, spike = problem.arrivals.at(problem.places, cursor)
    nothing, is_due = jnp.zeros(standing.readiness.shape, t.dtype), standing.readiness == DUE
    return Progress(
        t=t,
        state=standing.state,
        filters=standing.filters,
        cursor=cursor,
        arrival=arrival,
        spike=spike,
        generation=cursor,
        h=standing.h,
        readiness=standing.readiness,
        count=jnp.zeros(shape, jnp.int32),
        rejected=cursor,
        search=Search(cursor, 0.0 * t, nothing, nothing, is_due),
        cell=cursor,
        # An event that is due waits for the arrivals at `t0`, and no cell goes past it.
        refines=_any_event(is_due) | (True if problem.cells is None else problem.cells.watched[0]),
    )


def empty_trains(problem: Problem, progress: Progress, capacity: int) -> Trains:
    """Trains with places for that many spikes of each neuron, none of which has happened."""
    payload = payload_of(problem.neuron, progress.t, progress.state, progress.filters)
    shape = capacity, *progress.count.shape
    generation = None if problem.arrivals.generation is None else jnp.zeros(shape, jnp.int32)
    payloads = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), payload)
    return Trains(jnp.full(shape, jnp.inf, progress.t.dtype), payloads, generation)


def payload_of(neuron: AbstractNeuron, t: Array, state: PyTree, filters: PyTree) -> PyTree:
    """What a spike of each neuron carries that happens at this point."""

    def one(neuron, t, state, filters):
        return cast(neuron.payload(t, state, drive_of(neuron.synapse, filters)), t.dtype)

    shape = jax.tree.leaves(state)[0].shape[:3]
    return over_units(one, neuron, jnp.broadcast_to(t, shape), state, filters)


def row_of(problem: Problem, progress: Progress, h: Array, action: Array, fired: Array) -> Row:
    """What an iteration that started from `progress` did. Many rows are stored, and so each is kept small."""
    cell = None if problem.cells is None else progress.cell
    at = progress.t, progress.state, progress.filters
    return Row(*at, h, action.astype(jnp.int8), progress.cursor, fired, cell)


def idle_row(problem: Problem, progress: Progress) -> Row:
    """A row that starts here, and does nothing."""
    nothing, never = jnp.full(progress.t.shape, IDLE), jnp.zeros(progress.readiness.shape, bool)
    return row_of(problem, progress, progress.h, nothing, never)


def is_finished(problem: Problem, settings: Settings, progress: Progress) -> Bool[Array, "batch units 1"]:
    """Whether a unit has nothing left to do."""
    at_end = (progress.t >= problem.t1) & (progress.arrival > problem.t1)
    over = is_stuck(progress) | (at_end & ~_any_event(progress.readiness == DUE))
    if settings.quota is None:
        return over
    return over | jnp.all(progress.count >= settings.quota, axis=2, keepdims=True)


def unfinished(problem: Problem, settings: Settings, progress: Progress) -> Int[Array, ""]:
    """How many units are not finished."""
    return jnp.sum(~is_finished(problem, settings, progress), dtype=jnp.int32)


def is_stuck(progress: Progress) -> Bool[Array, "batch units 1"]:
    """Whether no step is short enough for a unit."""
    return progress.h == 0.0


def is_finite(progress: Progress) -> Bool[Array, " batch"]:
    """Whether all states of a sample are finite."""
    point = lax.stop_gradient((progress.state, progress.filters))
    finite = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(point)]
    return jnp.all(jnp.stack(finite), axis=0)


def has_landed(action: Int[Array, "batch units 1"]) -> Bool[Array, "batch units 1"]:
    """Whether an iteration took a unit all the way to where its step had to stop."""
    return (action >= ARRIVED) & (action <= SPANNED)


def run(
    problem: Problem,
    settings: Settings,
    progress: Progress,
    trains: Trains,
    rows: Row | None,
    first: Array,
    limit: Array,
    few: int = 0,
) -> tuple[Progress, Trains, Row | None, Array]:
    """Iterates, from number `first` up to number `limit`, or until no more than a `few` units are unfinished.

    `rows`, if given, hold the latest iterations.

    Returns the progress, the spikes, the rows, and the number of the next iteration.
    """

    def goes_on(carry):
        k, progress, *_ = carry
        return (k < limit) & (unfinished(problem, settings, progress) > few)

    def body(carry):
        k, progress, trains, rows = carry
        new, row, spike = _iterate(problem, settings, progress)
        trains = _record(trains, progress.count, row, spike)
        if rows is not None:
            place = k % rows.t.shape[0]
            rows = jax.tree.map(lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, place, 0), rows, row)
        return k + 1, new, trains, rows

    k, progress, trains, rows = lax.while_loop(goes_on, body, (first, progress, trains, rows))
    return progress, trains, rows, k


def weight_of(problem: Problem, spike: Int[Array, "batch units 1"]) -> tuple[PyTree[Array], PyTree[Array] | None]:
    """The weights with which a spike of the sources reaches each neuron, and their factors where there are any."""
    arrivals, places = problem.arrivals, problem.places
    source = arrivals.source_of(places, spike)

    def leaf(weight):
        neurons = indices(weight.shape[2])
        return weight.at[source, places.unit, neurons].get(mode="promise_in_bounds")

    def factor(gain):
        return gain.at[(*arrivals.lane(places), spike)].get(mode="promise_in_bounds")

    return jax.tree.map(leaf, problem.weight), jax.tree.map(factor, problem.gains)


def scaled(weight: PyTree[Array], gain: PyTree[Array] | None) -> PyTree[Array]:
    """The weights times their factors."""
    return weight if gain is None else jax.tree.map(jnp.multiply, weight, gain)


def jump(problem: Problem, t: Array, state: PyTree, filters: PyTree, fired: Array, arrived: Array, weight: PyTree):
    """The state and the filters after the events of this instant, and after its arrival."""
    t = spread(t, fired[0])
    for number, happened in enumerate(fired):
        after = over_units(_after_event(number), problem.neuron, t, state)
        state = select(happened, after, state)
    if stops_at_arrivals(problem.neuron):
        received = over_units(_after_arrival, problem.neuron, t, state, weight)
        state = select(arrived, received, state)
    filtered = over_units(lambda n, x, w: filters_after_arrival(n.synapse, x, w), problem.neuron, filters, weight)
    return state, select(arrived, filtered, filters)


def _after_event(number: int):
    def after(neuron, t, state):
        return cast(events_of(neuron)[number].jump(t, state), t.dtype)

    return after


def _after_arrival(neuron, t, state, weight):
    return cast(neuron.receive(t, state, weight), t.dtype)


def _conditions(neuron: AbstractNeuron, t: Array, state: PyTree) -> Array:
    t = jnp.broadcast_to(t, jax.tree.leaves(state)[0].shape[:3])
    return jnp.stack(over_units(conditions, neuron, t, state))


def _any_event(happens: Bool[Array, "events batch units neurons"]) -> Bool[Array, "batch units 1"]:
    return jnp.any(happens, axis=(0, 3))[..., None]


def _first(times: Array, where: Array) -> Float[Array, "batch units 1"]:
    return jnp.min(jnp.where(where, times, jnp.inf), axis=(0, 3))[..., None]


def _record(trains: Trains, count: Array, row: Row, spike: Trains) -> Trains:
    place = indices(trains.times.shape[0])[:, None, None, None]
    here = (place == count) & row.fired[0]
    return jax.tree.map(lambda train, one: jnp.where(here, one, train), trains, spike)


def _iterate(problem: Problem, settings: Settings, old: Progress) -> tuple[Progress, Row, Trains]:
    """One trial step of every unit; and what a spike in it would be."""
    attempt = _attempt(problem, settings, old)
    verdict = _judge(problem, settings, old, attempt)
    new, spike = _advance(problem, settings, old, attempt, verdict)
    return new, row_of(problem, old, attempt.h, verdict.action, verdict.fired), spike


class _Attempt(eqx.Module):
    """A trial step of every unit."""

    moving: Bool[Array, "batch units 1"]  # neither finished nor held up by an event that is due
    stop: Float[Array, "batch units 1"]  # how far the unit may go
    h: Float[Array, "batch units 1"]
    trial: Trial
    ends: Ends
    ratio: Float[Array, "batch units 1"]  # the error over the allowed one
    view: View | None  # the cell


def _attempt(problem: Problem, settings: Settings, old: Progress) -> _Attempt:
    moving = ~is_finished(problem, settings, old) & ~_fires_at_once(problem, old)
    stop = jnp.minimum(old.arrival, problem.t1)
    cap = old.h
    view = None if problem.cells is None else problem.cells.view(problem.places, old.cell, moving & ~old.refines)
    if view is not None:
        stop = jnp.where(view.whole, view.end, jnp.minimum(stop, view.end))
        cap = jnp.where(view.whole, view.end - old.t, cap)
    h = jnp.where(old.search.tries > 0, old.search.h, jnp.minimum(cap, stop - old.t))
    h = held(jnp.where(moving, h, 0.0), old.t)

    def one(neuron, *arguments):
        return try_step(neuron, settings.stepper, *arguments)

    t, spread_h = spread(old.t, old.count), spread(h, old.count)
    line = () if view is None else (view.line(old.count),)
    trial = over_units(one, problem.neuron, t, old.state, old.filters, spread_h, *line)
    ratio = settings.control.error_ratio(old.state, trial.state, trial.error)
    # A state that is finite may be where its slope no longer is: no step could start there.
    ratio = jnp.where(_all_finite((trial.slope, trial.g1, trial.d1)), ratio, jnp.inf)
    g0, d0, g1, d1, size = map(jnp.stack, (trial.g0, trial.d0, trial.g1, trial.d1, trial.size))
    ends = Ends(h + jnp.zeros_like(g0), g0, d0, g1, d1, size)
    return _Attempt(moving, stop, h, trial, ends, held(ratio, old.t), view)


def _all_finite(tree: PyTree[Array]) -> Bool[Array, "batch units 1"]:
    """Whether everything is finite in a unit."""
    finite = [jnp.all(jnp.isfinite(x), axis=tuple(range(2, x.ndim)))[..., None] for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite), axis=0)


def _fires_at_once(problem: Problem, old: Progress) -> Bool[Array, "batch units 1"]:
    # Arrivals of the same instant and generation come first: a neuron sees them together. Those that a spike at this
    # instant causes come after it.
    is_last = old.arrival > old.t
    if problem.arrivals.generation is not None:
        is_last |= problem.arrivals.generation_at(problem.places, old.cursor) > old.generation
    return _any_event(old.readiness == DUE) & is_last & ~is_stuck(old)


class _Verdict(eqx.Module):
    """What becomes of a trial."""

    action: Int[Array, "batch units 1"]
    fired: Bool[Array, "events batch units neurons"]
    shift: Float[Array, "batch units 1"]  # from the end of the trial to the crossing: the last Newton step
    search: Search


def _judge(problem: Problem, settings: Settings, old: Progress, attempt: _Attempt) -> _Verdict:
    h, search = attempt.h, old.search
    # Times closer than this are one instant: what the float can tell apart at the end of the step, with a margin.
    instant = 4.0 * jnp.finfo(h.dtype).eps * (jnp.abs(old.t) + h)
    guess = _guess(old, attempt, instant)
    crosses, may_peak = guess.outlook >= _CROSSES, guess.outlook == _MAY_PEAK
    first = _first(guess.time, crosses)
    peak_first = _any_event(may_peak & (guess.low < first))
    fires = (guess.outlook == _FOUND) & (guess.time <= first + instant) & ~peak_first

    landed = h >= attempt.stop - old.t
    arrived = landed & (old.arrival <= attempt.stop)
    searches = (search.tries >= 0) & _any_event(crosses | may_peak)
    action = jnp.where(landed, jnp.where(arrived, ARRIVED, ENDED), CAPPED)
    action = jnp.where(search.tries > 0, CLEARED, action)
    action = jnp.where(searches, jnp.where(_any_event(fires), FIRED, SEARCHING), action)
    action = jnp.where(attempt.ratio <= 1.0, action, TOO_LONG)
    if attempt.view is not None:
        unseen = _any_event(_may_happen(problem, old, attempt, attempt.view))
        spans = settings.control.across_cell(attempt.ratio) & ~searches & ~unseen
        action = jnp.where(attempt.view.whole, jnp.where(spans, SPANNED, REFINED), action)
    action = jnp.where(attempt.moving, action, jnp.where(_fires_at_once(problem, old), FIRED_AT_ONCE, IDLE))
    action = held(action.astype(h.dtype), old.t).astype(jnp.int32)
    fired = (fires & (action == FIRED)) | ((old.readiness == DUE) & (action == FIRED_AT_ONCE))
    shift = held(jnp.where(action == FIRED, first - h, 0.0), old.t)

    tries = jnp.where(action == SEARCHING, search.tries + 1, jnp.where(action == CLEARED, -1, 0))
    next_h = _first(guess.time, jnp.where(peak_first, may_peak, crosses))
    search = Search(tries.astype(jnp.int32), next_h, guess.low, guess.high, guess.above)
    return _Verdict(action, fired, shift, search)


def _may_happen(
    problem: Problem, old: Progress, attempt: _Attempt, view: View
) -> Bool[Array, "events batch units neurons"]:
    """Whether an event may happen inside a cell, though the step across it does not show it.

    The step sees the line in place of the drive, and so its condition may be off on the way, and at the end by the
    error of a higher order. An event stays away where the condition does not come nearer to zero than that.
    """
    ends, line = attempt.ends, view.line(old.count)
    t, h = spread(old.t, old.count), spread(attempt.h, old.count)

    def one(neuron, t, state, end, h, line, variation):
        nothing = jax.tree.map(jnp.zeros_like, line.mean)
        start = sway(neuron, t, state, line.drive(jnp.zeros_like(h), h, nothing), h, variation)
        return start, sway(neuron, t + h, end, line.drive(h, h, nothing), h, variation)

    start, end = over_units(one, problem.neuron, t, old.state, attempt.trial.state, h, line, view.variation)
    # Twice the larger of both: the sensitivity to the drive changes on the way.
    margin = 2.0 * jnp.maximum(jnp.stack(start), jnp.stack(end))
    top = jnp.maximum(ends.g0, ends.g1)
    top = jnp.where(ends.has_peak(), jnp.maximum(top, ends.peak()[1]), top)
    # A spent event waits for its condition to fall below zero, after which it may happen again.
    near = jnp.where(old.readiness == READY, top + margin, margin - jnp.minimum(ends.g0, ends.g1))
    return (near > 0.0) & (margin > 0.0)


# What is known of an event between `low` and `high`, from less to more.
_NOTHING, _MAY_PEAK, _CROSSES, _FOUND = range(4)


class _Guess(eqx.Module):
    """Where an event condition crosses zero, or peaks, between `low` and `high`."""

    time: Float[Array, "events batch units neurons"]
    outlook: Float[Array, "events batch units neurons"]
    low: Float[Array, "events batch units neurons"]
    high: Float[Array, "events batch units neurons"]
    above: Bool[Array, "events batch units neurons"]  # the condition is above zero at `high`


def _guess(old: Progress, attempt: _Attempt, instant: Array) -> _Guess:
    search, ends, h = old.search, attempt.ends, attempt.ends.h
    is_fresh = search.tries == 0
    low = jnp.where(is_fresh, 0.0, search.low)
    high = jnp.where(is_fresh, h, search.high)
    above = jnp.where(is_fresh, ends.crosses(instant), search.above)
    # A trial cuts off what lies behind the first crossing, or behind the peak where there is no crossing.
    inside = (h > low) & (h < high)
    cuts = inside & ((ends.g1 >= 0) | (~above & (ends.d1 <= 0)))
    low = held(jnp.where(inside & ~cuts, h, low), old.t)
    high = held(jnp.where(cuts, h, high), old.t)
    above = above | (inside & ends.is_above())

    is_ready = old.readiness == READY
    crosses = is_ready & above
    newton, is_close = ends.newton(instant)
    within = (newton >= low - instant) & (newton <= high + instant)
    converged = crosses & ((is_close & within) | (high - low <= instant))
    # From a trial past the crossing the interpolant leads back to it; from one before, Newton's method leads on.
    root = jnp.where(converged | (ends.g1 < 0), newton, ends.root())

    early_h, early_g = ends.peak()
    later_h, later_g = ends.later_peak()
    falls = ends.d1 < 0
    peak_h, peak_g = jnp.where(falls, early_h, later_h), jnp.where(falls, early_g, later_g)
    # The estimate may miss the height of a peak above the ends by a few per cent: try wherever that could matter.
    margin = 0.05 * (peak_g - jnp.maximum(ends.g0, ends.g1))
    is_open = is_ready & ~above & (high - low > instant) & (ends.has_peak() | (~is_fresh & ~falls))
    may_peak = is_open & (peak_g > -margin)
    outlook = jnp.where(may_peak, _MAY_PEAK, _NOTHING)
    outlook = jnp.where(crosses, jnp.where(converged, _FOUND, _CROSSES), outlook)
    outlook = held(outlook.astype(h.dtype), old.t)
    crosses, converged = outlook >= _CROSSES, outlook == _FOUND

    time = jnp.where(crosses, root, peak_h)
    # Where an estimate leaves the bracket, and every other time in a long search, halve it: so the search ends.
    strays = ~((time > low) & (time < high)) | ((search.tries > 6) & (search.tries % 2 == 1))
    halves = ~converged & ~is_fresh & strays
    time = held(jnp.where(halves, low + 0.5 * (high - low), jnp.clip(time, low, high)), old.t)
    return _Guess(time, outlook, low, high, above)


def _advance(
    problem: Problem, settings: Settings, old: Progress, attempt: _Attempt, verdict: _Verdict
) -> tuple[Progress, Trains]:
    h, trial, action, fired = attempt.h, attempt.trial, verdict.action, verdict.fired
    arrived, landed = action == ARRIVED, has_landed(action)
    t = jnp.where(action == FIRED, jnp.minimum(old.t + h + verdict.shift, attempt.stop), old.t)
    t = held(jnp.where(landed, attempt.stop, jnp.where(action == CAPPED, old.t + h, t)), old.t)

    stepped = spread(action <= FIRED, old.count)
    before = select(stepped, add_scaled(trial.state, verdict.shift, trial.slope), old.state)
    filters = select(stepped, add_scaled(trial.filters, verdict.shift, trial.filter_slope), old.filters)
    payload = payload_of(problem.neuron, t, before, filters)
    weight = scaled(*weight_of(problem, old.spike))
    state, filters = jump(problem, t, before, filters, fired, spread(arrived, old.count), weight)
    readiness = _after_jumps(problem, old, t, before, state, fired, attempt.ends.d1)

    was_rejected = (action > FIRED_AT_ONCE) & (action < IDLE)
    cursor = old.cursor + arrived.astype(jnp.int32)
    if attempt.view is not None:
        spanned = action == SPANNED
        cursor = jnp.where(spanned, attempt.view.passed, cursor)
        filters = select(spread(spanned, old.count), attempt.view.entry.filters, filters)
    arrival, spike = problem.arrivals.at(problem.places, cursor)
    emitted, generation = _generations(problem, old, t, arrived)
    cell, refines = _place_in_cells(problem, old, t, arrival, action)
    new = Progress(
        t=t,
        state=state,
        filters=filters,
        cursor=cursor,
        arrival=arrival,
        spike=spike,
        generation=generation,
        h=_next_length(settings, old, attempt, action),
        readiness=jnp.where(action <= FIRED_AT_ONCE, readiness, old.readiness),
        count=old.count + fired[0].astype(jnp.int32),
        rejected=old.rejected + was_rejected.astype(jnp.int32),
        search=verdict.search,
        cell=cell,
        refines=refines,
    )
    return new, Trains(t, payload, emitted)


def _generations(problem: Problem, old: Progress, t: Array, arrived: Array) -> tuple[Array | None, Array]:
    """That of a spike at the time t, and that of the latest arrival at this time."""
    if problem.arrivals.generation is None:
        return None, old.generation
    before = jnp.where(t > old.t, 0, old.generation)
    return before, jnp.where(arrived, problem.arrivals.generation_at(problem.places, old.cursor), before)


def _next_length(settings: Settings, old: Progress, attempt: _Attempt, action: Array) -> Float[Array, "batch units 1"]:
    """How long the next step may be."""
    wanted = settings.control.next_length(attempt.h, attempt.ratio)
    # A step that its stop cut short says nothing against longer ones.
    wanted = jnp.where(has_landed(action), jnp.maximum(old.h, wanted), wanted)
    smallest = 16.0 * jnp.finfo(wanted.dtype).eps * jnp.maximum(jnp.abs(old.t), jnp.abs(attempt.stop))
    wanted = jnp.where((action == TOO_LONG) & (wanted < smallest), 0.0, wanted)
    if attempt.view is not None:
        # The trial across a cell has shown how long a step may be, unless an event was in the way.
        fits = settings.control.across_cell(attempt.ratio)
        wanted = jnp.where(action == REFINED, jnp.where(fits, old.h, jnp.minimum(old.h, wanted)), wanted)
    return jnp.where((action <= SPANNED) | (action == TOO_LONG) | (action == REFINED), wanted, old.h)


def _place_in_cells(problem: Problem, old: Progress, t: Array, arrival: Array, action: Array) -> tuple[Array, Array]:
    """The cell of every unit, and whether the unit refines it."""
    if problem.cells is None:
        return old.cell, old.refines
    leaves = (action <= FIRED_AT_ONCE) & (t >= problem.cells.ends[old.cell]) & (arrival > t)
    cell = jnp.where(leaves, problem.cells.after(old.cell), old.cell)
    return cell, jnp.where(leaves, problem.cells.watched[cell], old.refines | (action == REFINED))


def _after_jumps(
    problem: Problem, old: Progress, t: Array, before: PyTree, after: PyTree, fired: Array, slope: Array
) -> Int[Array, "events batch units neurons"]:
    """The readiness of every event, given the states before and after the jumps of this instant."""
    was, now = _conditions(problem.neuron, t, before), _conditions(problem.neuron, t, after)
    # An event that leaves its own condition as it was (an upward crossing that is only counted) may happen again
    # once the condition has fallen. One that lowers it, but not below zero, happens again at once.
    fell = (now < 0) & ((slope < 0) | (was >= 0))
    ready = jnp.where(fired, now != was, (old.readiness != SPENT) | fell)
    due = ready & (now > 0) & (fired | (old.readiness == DUE) | (was < 0))
    return jnp.where(due, DUE, jnp.where(ready, READY, SPENT)).astype(jnp.int32)
