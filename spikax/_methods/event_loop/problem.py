"""The problem of the event loop, its state, and its tape."""

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._neuron import AbstractNeuron
from .._common.arrivals import Arrivals, lane_in
from .._common.axes import indices, Places
from .bins import Bins
from .step import AbstractStepper
from .step_control import StepControl


class Action(enum.IntFlag):
    """What an iteration did to a unit: exactly one of these. `is_any` tests for a union of them."""

    CAPPED = enum.auto()  # a step whose length was limited by the error
    ARRIVED = enum.auto()  # a step to an arrival
    ENDED = enum.auto()  # a step to `t1`, or to the end of a bin
    SPANNED = enum.auto()  # a step across a bin
    FIRED = enum.auto()  # a step to an event
    FIRED_AT_ONCE = enum.auto()  # an event without a step
    SEARCHING = enum.auto()  # a trial of a search
    CLEARED = enum.auto()  # the last trial of a search that found no crossing
    TOO_LONG = enum.auto()  # a step whose error is too large
    REFINED = enum.auto()  # a rejected step across a bin
    IDLE = enum.auto()  # nothing


REACHED_STOP = Action.ARRIVED | Action.ENDED | Action.SPANNED
STEPPED = REACHED_STOP | Action.CAPPED | Action.FIRED
ACCEPTED = STEPPED | Action.FIRED_AT_ONCE
REJECTED = Action.SEARCHING | Action.CLEARED | Action.TOO_LONG | Action.REFINED


def is_any(action: Int[Array, "..."], kinds: Action) -> Bool[Array, "..."]:
    """Whether an action is one of `kinds`."""
    return (action & int(kinds)) != 0


class Settings(eqx.Module):
    """How a layer is simulated."""

    stepper: AbstractStepper
    control: StepControl
    max_spikes: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    # The number of spikes after which neurons stop; where they share a clock, that of each neuron.
    stop_after: int | tuple[int, ...] | None = eqx.field(static=True, default=None)
    bins: int = eqx.field(static=True, default=0)  # the number of bins; with zero, the loop stops at every arrival
    windows: int = eqx.field(static=True, default=1)  # of which this simulation is one


class Problem(eqx.Module):
    """The neurons of a layer and their arrivals.

    Parameters of the neuron have the shape `()` or the leading axes `(batch, units, neurons)`, like the initial state.
    Weights have the axes `(sources, units, neurons)`. In a compacted loop, neuron and states are those of the
    stragglers, with the axes `(1, stragglers, neurons)`; all else is that of the layer, indexed by `places`.
    """

    neuron: AbstractNeuron
    weight: PyTree[Array]
    arrivals: Arrivals
    places: Places
    t1: Float[Array, ""]
    bins: Bins | None = None
    gains: PyTree[Array] | None = None  # the factor of the weight for each spike, of shape `(batch, #lanes, spikes)`
    # The weights between the neurons of a unit, if its spikes reach them at once, with the axes `(neurons, neurons)`.
    inner: PyTree[Array] | None = None


class Point(eqx.Module):
    """A point of the simulation: the time, the membrane states and the synaptic filters of each unit."""

    t: Float[Array, "*ts batch units 1"]
    state: PyTree[Array]
    filters: PyTree[Array]


class Search(eqx.Module):
    """The search for a crossing inside the current step."""

    tries: Int[Array, "batch units 1"]  # the trials so far; zero before a new step
    cleared: Bool[Array, "batch units 1"]  # a search in this step found no crossing, so no second one starts
    h: Float[Array, "batch units 1"]  # the length of the next trial
    low: Float[Array, "events batch units neurons"]  # the bracket that is left of the step
    high: Float[Array, "events batch units neurons"]
    above: Bool[Array, "events batch units neurons"]  # the condition is above zero at `high`


class LoopState(eqx.Module):
    """The state of the loop: of each unit at its own time."""

    t: Float[Array, "batch units 1"]
    state: PyTree[Array]
    filters: PyTree[Array]
    cursor: Int[Array, "batch units 1"]
    arrival: Float[Array, "batch units 1"]  # the time of the arrival at the cursor
    spike: Int[Array, "batch units 1"]  # the number of its spike among those of the sources
    generation: Int[Array, "batch units 1"]  # of the latest arrival at the time `t`; zero if there is none
    h: Float[Array, "batch units 1"]  # the maximal length of the next step
    stuck: Bool[Array, "batch units 1"]  # no step is short enough
    ratios: Float[Array, "memory batch units 1"]  # the error ratios of the previous accepted steps
    readiness: Int[Array, "events batch units neurons"]
    count: Int[Array, "batch units neurons"]  # spikes so far
    rejected: Int[Array, "batch units 1"]  # trials rejected so far
    search: Search
    bin: Int[Array, "batch units 1"]  # the current bin; its start is at or before `t`
    refines: Bool[Array, "batch units 1"]  # the unit stops at the arrivals of the bin

    def leads(self) -> "LoopState":
        """The number of axes before the batch and unit axes, for each leaf."""

        def by_event(p):
            return p.ratios, p.readiness, p.search.low, p.search.high, p.search.above

        return eqx.tree_at(by_event, jax.tree.map(lambda _: 0, self), (1, 1, 1, 1, 1))


class Trains(eqx.Module):
    """The spikes of all neurons, and their payloads."""

    times: Float[Array, "*spikes batch units neurons"]
    payload: PyTree[Array]
    generation: Int[Array, "*spikes batch units neurons"] | None = None  # if the order of simultaneous spikes matters


class TapeEntry(eqx.Module):
    """The start and the action of one iteration: all that its derivative needs."""

    t: Array
    state: PyTree[Array]
    filters: PyTree[Array]
    h: Array
    action: Array
    cursor: Array
    fired: Array
    bin: Array | None  # None without bins


def weight_of(problem: Problem, spike: Int[Array, "batch units 1"]) -> tuple[PyTree[Array], PyTree[Array] | None]:
    """The weights with which a spike of the sources reaches each neuron, and their factors, if any."""
    arrivals, places = problem.arrivals, problem.places
    source = arrivals.source_of(places, spike)

    def leaf(weight):
        neurons = indices(weight.shape[2])
        return weight.at[source, places.unit, neurons].get(mode="promise_in_bounds")

    def factor(gain):
        return gain.at[(*lane_in(gain.shape, places), spike)].get(mode="promise_in_bounds")

    return jax.tree.map(leaf, problem.weight), jax.tree.map(factor, problem.gains)


def emitted(
    problem: Problem, fired: Bool[Array, "batch units neurons"], payload: PyTree[Array]
) -> PyTree[Float[Array, "batch units neurons"]]:
    """For each port, the factors of the weights of those neurons of a unit that fired; zero for the others."""
    if payload is None:
        return jax.tree.map(lambda weight: fired.astype(weight.dtype), problem.inner)
    return jax.tree.map(lambda gain: jnp.where(fired, gain, 0.0), problem.neuron.gain(payload))


def sent(problem: Problem, fired: Bool[Array, "batch units neurons"], payload: PyTree[Array]) -> PyTree[Array]:
    """The weights that the spikes of a unit add to its neurons, with the axes `(batch, units, neurons)`."""

    def port(factor, weight):
        return jnp.einsum("bus,st->but", factor, weight, precision=lax.Precision.HIGHEST)

    return jax.tree.map(port, emitted(problem, fired, payload), problem.inner)


def arriving(weight: PyTree[Array], arrived: Bool[Array, "batch units 1"]) -> PyTree[Array]:
    """The weights of the arrivals; zero in units in which nothing arrives."""
    return jax.tree.map(lambda weight: jnp.where(arrived, weight, 0.0), weight)


def scaled(weight: PyTree[Array], gain: PyTree[Array] | None) -> PyTree[Array]:
    """The weights times their factors."""
    return weight if gain is None else jax.tree.map(jnp.multiply, weight, gain)
