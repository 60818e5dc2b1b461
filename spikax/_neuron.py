"""What a neuron is."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from ._synapse import is_impulsive, Synapse
from ._types import State, Weight


class Event(eqx.Module):
    """Something that happens to a neuron whenever a condition rises through zero.

    **Arguments:**

    - `condition`: `(t, state) -> number`. The event happens as it rises through zero.
    - `jump`: `(t, state) -> state`. The state right after the event.
    """

    condition: Callable[[Float[Array, ""], State], Float[Array, ""]]
    jump: Callable[[Float[Array, ""], State], State]


class AbstractNeuron(eqx.Module):
    """ONE neuron: how it moves, when it spikes, and what a spike does to it.

    Every method is for a single neuron, with scalars `t` and `drive` and a state of scalars (or of any small
    arrays); the framework vectorises over the neurons of a layer and over the batch. A parameter that is a Python
    number is a constant. A parameter that is an array, of shape `()` or one value per neuron, learns.

    `dynamics` must be smooth between events: a kink or a jump in it belongs into `internal_events`.
    """

    synapse: eqx.AbstractVar[Synapse]

    @abc.abstractmethod
    def initial_state(self) -> State:
        """The state at `t0`."""

    @abc.abstractmethod
    def dynamics(self, t: Float[Array, ""], state: State, drive: Any) -> State:
        """The derivative of the state, in the structure of the state; `drive` is what the synapse delivers at `t`."""

    @abc.abstractmethod
    def spike_condition(self, t: Float[Array, ""], state: State) -> Float[Array, ""]:
        """A number; the neuron spikes as it rises through zero."""

    @abc.abstractmethod
    def reset(self, t: Float[Array, ""], state: State) -> State:
        """The state right after the neuron's own spike."""

    def receive(self, t: Float[Array, ""], state: State, weight: Weight) -> State:
        """The state right after an arrival through a `DeltaSynapse`.

        With named ports, `weight` has an entry for every port.
        """
        raise TypeError(
            f"`synapse` must be a filter such as `sx.ExpSynapse()` for {type(self).__name__}, which has no `receive`; "
            "got `sx.DeltaSynapse()`. Define `receive(t, state, weight)` to say what an arrival does to the state."
        )

    def internal_events(self) -> tuple[Event, ...]:
        """Further events, which emit no spike: a dendritic spike, the end of a refractory period, a kink."""
        return ()


def events_of(neuron: AbstractNeuron) -> tuple[Event, ...]:
    """All events of a neuron; the first is its spike."""
    return (Event(neuron.spike_condition, neuron.reset), *neuron.internal_events())


def stops_at_arrivals(neuron: AbstractNeuron) -> bool:
    """Whether an arrival may change the membrane at once."""
    return is_impulsive(neuron.synapse)
