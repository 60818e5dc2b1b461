"""Neurons around neurons: a refractory period, a single spike."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._checks import require_instance
from .._neuron import AbstractNeuron, Event
from .._synapse import is_impulsive, is_synapse
from .._types import Scalar, State, Weight
from ..constraints import parameter, positive, within


class AbstractWrapper(AbstractNeuron):
    """A neuron around another one, `neuron`. What concerns the arrivals and their payload, it leaves to that one.

    Its state has that of the neuron inside as `inner`, unless it says otherwise.
    """

    neuron: eqx.AbstractVar[AbstractNeuron]

    def __check_init__(self):
        hint = "Write an instance, for example `sx.LIF()`."
        require_instance(self.neuron, AbstractNeuron, "neuron", "a neuron", hint)

    @property
    def synapse(self):
        return self.neuron.synapse

    def payload(self, t, state, drive):
        return self.neuron.payload(t, state.inner, drive)

    def gain(self, payload):
        return self.neuron.gain(payload)


class _WrapperState(eqx.Module):
    inner: State

    @property
    def v(self) -> Array:
        """The membrane voltage of the neuron inside."""
        return self.inner.v


class RefractoryState(_WrapperState):
    """The state of the neuron inside, and where its refractory period stands."""

    rests: Array  # one within the period, else zero
    ready_at: Array  # when the period ends, or the last one did
    held: Weight  # the arrivals of the period, added up; empty where no arrival reaches the membrane at once


class Refractory(AbstractWrapper):
    r"""A neuron with an absolute refractory period after each spike.

    $$ x' = \begin{cases} 0 & \text{for a time } T \text{ after each spike,} \\ f(t, x, I) & \text{else,} \end{cases}
       \qquad \text{with the neuron's own } f \text{ and reset.} $$

    Its state $x$ stays where the reset left it, and it does not spike. The end of the period is an event, exact to
    the float. Filters of the synapse go on meanwhile; what they deliver does not move the frozen state. Of the events
    inside the neuron, those that the clock sets off happen in the period too: the end of an inner refractory period.

    What arrives through a `DeltaSynapse` in the period is dropped, or held: the weights of these arrivals are added
    up, times `kept`, and reach the neuron at the end as one arrival (of weight zero if there was none, which must
    leave a neuron as it is). Dropping is the default, as in most simulators: an absolute refractory period is deaf.

    **Arguments:**

    - `neuron`: the neuron, for example `sx.LIF()`.
    - `period`: how long it rests after a spike, in ms.
    - `kept`: the share of the arrivals that is held: 0 drops them, 1 holds them.

    Raises `TypeError` or `ValueError` for a period that is not positive, and for a share outside of 0 to 1.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 1.3.
    """

    neuron: AbstractNeuron
    period: Scalar = parameter(2.0, positive)
    kept: Scalar = parameter(0.0, within(0, 1, "0 drops the arrivals of the period, 1 holds them."))

    def initial_state(self):
        zero = jnp.asarray(0.0)
        held = jax.tree.map(lambda _: zero, self.synapse, is_leaf=is_synapse) if is_impulsive(self.synapse) else ()
        return RefractoryState(self.neuron.initial_state(), rests=zero, ready_at=zero, held=held)

    def dynamics(self, t, state, drive):
        still = jax.tree.map(jnp.zeros_like, state)
        slope = self.neuron.dynamics(t, state.inner, drive)
        return dataclasses.replace(still, inner=_chosen(state.rests > 0.5, still.inner, slope))

    def spike_condition(self, t, state):
        return jnp.where(state.rests > 0.5, -1.0, self.neuron.spike_condition(t, state.inner))

    def reset(self, t, state):
        inner = self.neuron.reset(t, state.inner)
        return RefractoryState(inner, jnp.ones_like(state.rests), t + self.period, state.held)

    def receive(self, t, state, weight):
        rests = state.rests > 0.5
        inner = _chosen(rests, state.inner, self.neuron.receive(t, state.inner, weight))
        sums = jax.tree.map(lambda held, w: held + self.kept * w, state.held, weight)
        return dataclasses.replace(state, inner=inner, held=_chosen(rests, sums, state.held))

    def internal_events(self):
        # Outside of a period its condition is a negative number, and no time: before the first spike there is none.
        end = Event(lambda t, state: jnp.where(state.rests > 0.5, t - state.ready_at, -1.0), self._end)
        return (end, *map(_lifted, self.neuron.internal_events()))

    def _end(self, t, state):
        inner = self.neuron.receive(t, state.inner, state.held) if is_impulsive(self.synapse) else state.inner
        nothing = jax.tree.map(jnp.zeros_like, state.held)
        return RefractoryState(inner, jnp.zeros_like(state.rests), state.ready_at, nothing)


class SingleSpikeState(_WrapperState):
    """The state of the neuron inside, and whether it has spiked."""

    spikes: Array  # so far: zero or one


class SingleSpike(AbstractWrapper):
    r"""A neuron that spikes at most once.

    After its spike and reset the neuron stays where it is, and what arrives no longer matters; or it runs on, and only
    never spikes again.

    **Arguments:**

    - `neuron`: the neuron, for example `sx.LIF()`.
    - `freezes`: whether the neuron stays where its reset left it. Events inside the neuron that the clock sets off
      still happen.

    Raises `TypeError` for anything else.

    ??? cite "Reference"
        J. Göltz et al., *Fast and energy-efficient neuromorphic deep learning with first-spike times*, Nature Machine
        Intelligence 3, 2021.
    """

    neuron: AbstractNeuron
    freezes: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        require_instance(self.freezes, bool, "freezes", "True or False")

    def initial_state(self):
        return SingleSpikeState(self.neuron.initial_state(), spikes=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        still = jax.tree.map(jnp.zeros_like, state)
        slope = self.neuron.dynamics(t, state.inner, drive)
        return dataclasses.replace(still, inner=_chosen(self._is_frozen(state), still.inner, slope))

    def spike_condition(self, t, state):
        return jnp.where(state.spikes > 0.5, -1.0, self.neuron.spike_condition(t, state.inner))

    def reset(self, t, state):
        return SingleSpikeState(self.neuron.reset(t, state.inner), jnp.ones_like(state.spikes))

    def receive(self, t, state, weight):
        received = self.neuron.receive(t, state.inner, weight)
        return dataclasses.replace(state, inner=_chosen(self._is_frozen(state), state.inner, received))

    def internal_events(self):
        return tuple(map(_lifted, self.neuron.internal_events()))

    def _is_frozen(self, state: SingleSpikeState) -> Bool[Array, ""]:
        return (state.spikes > 0.5) & self.freezes


def _chosen(where: Array, new: Any, old: Any) -> Any:
    """`new` where `where` holds, else `old`, leaf by leaf; a constant may come in another float type."""

    def leaf(new, old):
        dtype = jnp.result_type(new) if eqx.is_array(new) else jnp.result_type(old)
        return jnp.where(where, jnp.asarray(new, dtype), jnp.asarray(old, dtype))

    return jax.tree.map(leaf, new, old)


def _lifted(event: Event) -> Event:
    """An event of the neuron inside, as one of the neuron around it."""
    return Event(
        lambda t, state: event.condition(t, state.inner),
        lambda t, state: dataclasses.replace(state, inner=event.jump(t, state.inner)),
    )
