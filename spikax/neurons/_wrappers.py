"""Wrappers of neurons: a refractory period, a single spike, a filtered bias."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._checks import require, require_instance
from .._neuron import AbstractNeuron, Event
from .._synapse import AbstractSynapse, for_each_port, is_impulsive
from .._types import Scalar, State, Weight
from ..constraints import parameter, positive, within


class AbstractWrapper(AbstractNeuron):
    """Base class of neurons that wrap another one, `neuron`. Synapse and payload are those of the wrapped neuron.

    The state of the wrapped neuron is the field `inner` of the state, unless a subclass overrides `payload`.
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
        """The membrane voltage of the wrapped neuron."""
        return self.inner.v


class RefractoryState(_WrapperState):
    """The state of the wrapped neuron, and of its refractory period."""

    rests: Array  # one during the period, otherwise zero
    ready_at: Array  # the end of the current or of the last period, in ms
    held: Weight  # the sum of the held arrivals; empty without a `DeltaSynapse`


class Refractory(AbstractWrapper):
    r"""A neuron with an absolute refractory period after each spike.

    $$ x' = \begin{cases} 0 & \text{for a time } T \text{ after each spike,} \\
       f(t, x, I) & \text{otherwise,} \end{cases} \qquad \text{with } f \text{ and the reset of the wrapped neuron.} $$

    During the period the state $x$ is held at its value after the reset, and the neuron does not spike. With `frozen`,
    only some of its variables are held, such as the voltage, while the others evolve, such as an adaptation. The end of
    the period is an event, located exactly. The filters of the synapse evolve during the period, but their drive has no
    effect on the held state. Internal events of the wrapped neuron that depend on time, such as the end of an inner
    refractory period, still happen during the period.

    By default, arrivals through a `DeltaSynapse` during the period are dropped, as in most simulators. Otherwise their
    weights are multiplied by `held_fraction` and summed, and the sum is received as one arrival at the end of the
    period. If there was no arrival, its weight is zero, so `receive` must not change the state for a weight of zero.

    **Arguments:**

    - `neuron`: the neuron to wrap, for example `sx.LIF()`.
    - `period`: the duration $T$ of the refractory period, in ms.
    - `held_fraction`: the fraction of each arrival that is held until the end of the period: 0 drops the arrivals, 1
      holds them in full.
    - `frozen`: the names of the variables that are held, such as `("v",)`; by default all of the state.

    **Raises:** `TypeError` or `ValueError` for a period that is not positive, a fraction outside of 0 to 1, and names
    that the state of the neuron does not have.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 1.3.
    """

    neuron: AbstractNeuron
    period: Scalar = parameter(2.0, positive)
    held_fraction: Scalar = parameter(0.0, within(0, 1, "0 drops the arrivals during the period, 1 holds them."))
    frozen: tuple[str, ...] | None = eqx.field(static=True, default=None, converter=lambda names: _as_names(names))

    def __check_init__(self):
        if self.frozen is None or not isinstance(self.neuron, AbstractNeuron):
            return  # the base class refuses what is no neuron
        names = _names_of(self.neuron.initial_state())
        for name in self.frozen:
            require(name in names, "frozen", f"names of variables among {names}", name)

    def initial_state(self):
        zero = jnp.asarray(0.0)
        held = for_each_port(self.synapse, zero) if is_impulsive(self.synapse) else ()
        return RefractoryState(self.neuron.initial_state(), rests=zero, ready_at=zero, held=held)

    def dynamics(self, t, state, drive):
        still = jax.tree.map(jnp.zeros_like, state)
        slope = self.neuron.dynamics(t, state.inner, drive)
        in_period = still.inner if self.frozen is None else _replaced(slope, self.frozen, still.inner)
        return dataclasses.replace(still, inner=_chosen(state.rests > 0.5, in_period, slope))

    def spike_condition(self, t, state):
        return jnp.where(state.rests > 0.5, -1.0, self.neuron.spike_condition(t, state.inner))

    def reset(self, t, state):
        inner = self.neuron.reset(t, state.inner)
        return RefractoryState(inner, jnp.ones_like(state.rests), t + self.period, state.held)

    def receive(self, t, state, weight):
        rests = state.rests > 0.5
        inner = _chosen(rests, state.inner, self.neuron.receive(t, state.inner, weight))
        sums = jax.tree.map(lambda held, w: held + self.held_fraction * w, state.held, weight)
        return dataclasses.replace(state, inner=inner, held=_chosen(rests, sums, state.held))

    def internal_events(self):
        # Outside of a period the condition is a negative constant: `ready_at` has no meaning before the first spike.
        end = Event(lambda t, state: jnp.where(state.rests > 0.5, t - state.ready_at, -1.0), self._end)
        return (end, *map(_lifted, self.neuron.internal_events()))

    def _end(self, t, state):
        inner = self.neuron.receive(t, state.inner, state.held) if is_impulsive(self.synapse) else state.inner
        nothing = jax.tree.map(jnp.zeros_like, state.held)
        return RefractoryState(inner, jnp.zeros_like(state.rests), state.ready_at, nothing)


class SingleSpikeState(_WrapperState):
    """The state of the wrapped neuron, and whether it has spiked."""

    spikes: Array  # the number of spikes so far: zero or one


class SingleSpike(AbstractWrapper):
    r"""A neuron that spikes at most once.

    After the spike, the state is held at its value after the reset and arrivals have no effect; or, with
    `freezes=False`, the dynamics continue without further spikes.

    **Arguments:**

    - `neuron`: the neuron to wrap, for example `sx.LIF()`.
    - `freezes`: whether the state is held after the spike. Internal events of the neuron that depend on time still
      happen.

    **Raises:** `TypeError` for arguments of another type.

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


class FilteredBiasState(_WrapperState):
    """The state of the wrapped neuron, and the filtered bias."""

    i: Array


class FilteredBias(AbstractWrapper):
    r"""A neuron with a constant input that passes a low-pass filter, as if through its synapse. It starts at zero.

    $$ \tau\, i' = b - i, \quad i(t_0) = 0, \qquad x' = f(t, x, I + i), $$

    with $f$ of the wrapped neuron.

    **Arguments:**

    - `neuron`: the neuron to wrap, with a single synapse, for example `sx.LIF()`.
    - `bias`: the constant $b$.
    - `tau`: the time constant of the filter, in ms.

    **Raises:** `TypeError` or `ValueError` for a neuron with named ports, and a time constant that is not positive.
    """

    neuron: AbstractNeuron
    bias: Scalar = parameter(0.0)
    tau: Scalar = parameter(5.0, positive)

    def __check_init__(self):
        require_instance(self.neuron, AbstractNeuron, "neuron", "a neuron", "For example `sx.LIF()`.")
        require_instance(self.neuron.synapse, AbstractSynapse, "neuron", "a neuron with a single synapse")

    @property
    def is_linear(self):
        return self.neuron.is_linear

    @property
    def can_spike(self):
        return self.neuron.can_spike

    def initial_state(self):
        return FilteredBiasState(self.neuron.initial_state(), i=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        slope = self.neuron.dynamics(t, state.inner, drive + state.i)
        return FilteredBiasState(slope, i=(self.bias - state.i) / self.tau)

    def spike_condition(self, t, state):
        return self.neuron.spike_condition(t, state.inner)

    def reset(self, t, state):
        return FilteredBiasState(self.neuron.reset(t, state.inner), state.i)

    def receive(self, t, state, weight):
        return FilteredBiasState(self.neuron.receive(t, state.inner, weight), state.i)

    def payload(self, t, state, drive):
        return self.neuron.payload(t, state.inner, drive + state.i)

    def internal_events(self):
        return tuple(map(_lifted, self.neuron.internal_events()))


class ThresholdState(_WrapperState):
    """The state of the wrapped neuron."""


class Threshold(AbstractWrapper):
    r"""A silent neuron that gets a threshold: it spikes as its voltage rises through it, and has no reset.

    $$ x' = f(t, x, I), \qquad \text{a spike as } v \text{ rises through } v_{threshold}, $$

    with $f$ of the wrapped neuron. The next spike comes after the voltage has been below the threshold.

    **Arguments:**

    - `neuron`: the neuron to wrap, with a voltage `v`, for example `sx.LI()`.
    - `v_threshold`: the voltage at which the neuron spikes.

    **Raises:** `TypeError` for arguments of another type.
    """

    neuron: AbstractNeuron
    v_threshold: Scalar = parameter(1.0)

    def initial_state(self):
        return ThresholdState(self.neuron.initial_state())

    def dynamics(self, t, state, drive):
        return ThresholdState(self.neuron.dynamics(t, state.inner, drive))

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return state

    def receive(self, t, state, weight):
        return ThresholdState(self.neuron.receive(t, state.inner, weight))


def _as_names(names: Any) -> tuple[str, ...] | None:
    is_list = isinstance(names, list | tuple) and len(names) > 0 and all(isinstance(name, str) for name in names)
    hint = 'For example `("v",)`.'
    require(names is None or is_list, "frozen", "a list of names, or None for all", names, hint, TypeError)
    return None if names is None else tuple(names)


def _names_of(state: Any) -> list[str]:
    """The names of the variables of a state, of a dictionary or a dataclass."""
    if isinstance(state, dict):
        return list(state)
    return [field.name for field in dataclasses.fields(state)] if dataclasses.is_dataclass(state) else []


def _replaced(state: Any, names: tuple[str, ...], other: Any) -> Any:
    """The state with the variables of these names taken from another."""
    if isinstance(state, dict):
        return state | {name: other[name] for name in names}
    return dataclasses.replace(state, **{name: getattr(other, name) for name in names})


def _chosen(where: Array, new: Any, old: Any) -> Any:
    """`new` where `where` is true, otherwise `old`, leaf by leaf. A constant `new` is cast to the dtype of `old`."""

    def leaf(new, old):
        dtype = jnp.result_type(new) if eqx.is_array(new) else jnp.result_type(old)
        return jnp.where(where, jnp.asarray(new, dtype), jnp.asarray(old, dtype))

    return jax.tree.map(leaf, new, old)


def _lifted(event: Event) -> Event:
    """An event of the wrapped neuron as an event of the wrapper."""
    return Event(
        lambda t, state: event.condition(t, state.inner),
        lambda t, state: dataclasses.replace(state, inner=event.jump(t, state.inner)),
    )
