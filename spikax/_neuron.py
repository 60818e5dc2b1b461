"""The abstract base class of all neurons, and events."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._checks import known, require
from ._constraints import Checked
from ._synapse import drive_of, initial_filters, is_impulsive, require_synapse, Synapse
from ._types import State, Weight


class Event(eqx.Module):
    """A jump of the state, triggered whenever a condition rises through zero.

    **Arguments:**

    - `condition`: a function `(t, state) -> number`. The event happens when it rises through zero.
    - `jump`: a function `(t, state) -> state`, which returns the state right after the event.
    """

    condition: Callable[[Float[Array, ""], State], Float[Array, ""]]
    jump: Callable[[Float[Array, ""], State], State]


class AbstractNeuron(Checked):
    """A single neuron: its dynamics, spike condition and reset.

    Every method describes one neuron: `t` and `drive` are scalars, and the state is a pytree of scalars or small
    arrays. spikax vectorises over the neurons of a layer and over the batch. A parameter given as a number is a
    constant. A parameter given as an array, of shape `()` or with one value per neuron, is trainable, unless it is
    wrapped in [`spikax.Fixed`][]. Declare parameters with [`spikax.parameter`][], which states their constraints.

    `dynamics` must be smooth between events. Put kinks and jumps into `internal_events`.
    """

    synapse: eqx.AbstractVar[Synapse]

    def __check_init__(self):
        require_synapse(self.synapse)

    @abc.abstractmethod
    def initial_state(self) -> State:
        """The state at `t0`."""

    @abc.abstractmethod
    def dynamics(self, t: Float[Array, ""], state: State, drive: Any) -> State:
        """The time derivative of the state, in the structure of the state.

        `drive` is the output of the synapse at time `t`.
        """

    @abc.abstractmethod
    def spike_condition(self, t: Float[Array, ""], state: State) -> Float[Array, ""]:
        """A continuous number, such as `state.v - 1.0`. The neuron spikes when it rises through zero."""

    @abc.abstractmethod
    def reset(self, t: Float[Array, ""], state: State) -> State:
        """The state right after a spike of this neuron."""

    def receive(self, t: Float[Array, ""], state: State, weight: Weight) -> State:
        """The state right after an arrival through a `DeltaSynapse`.

        With named ports, `weight` has one entry per port.
        """
        raise TypeError(
            f"`synapse` must be a filter such as `sx.ExpSynapse()` for {type(self).__name__}, which has no `receive`; "
            "got `sx.DeltaSynapse()`. Define `receive(t, state, weight)`, which returns the state after an arrival."
        )

    def payload(self, t: Float[Array, ""], state: State, drive: Any) -> Any:
        """Numbers that a spike transmits to its targets, evaluated right before the reset. None by default.

        Any pytree of numbers.
        """
        return None

    def gain(self, payload: Any) -> Any:
        """The factors by which this payload multiplies the weights of its arrival. None, a factor of one, by default.

        One number per port, in the structure of the synapse. It depends on the payload only.
        """
        return None

    @property
    def is_linear(self) -> bool:
        """Whether `dynamics` and `spike_condition` are linear in state and drive, up to a constant. False by default.

        Such a neuron can be simulated in closed form, without a solver: see [`spikax.ClosedForm`][]. Its reset may be
        any function that leaves the spike condition below zero. [`spikax.Layer`][] checks the claim numerically.
        """
        return False

    @property
    def can_spike(self) -> bool:
        """Whether the neuron can spike at all. True by default; a readout is simulated without looking for spikes."""
        return True

    def internal_events(self) -> tuple[Event, ...]:
        """Further events that emit no spike, such as a dendritic spike, the end of a refractory period, or a kink."""
        return ()


def events_of(neuron: AbstractNeuron) -> tuple[Event, ...]:
    """All events of a neuron. The first is its spike."""
    return (Event(neuron.spike_condition, neuron.reset), *neuron.internal_events())


def stops_at_arrivals(neuron: AbstractNeuron) -> bool:
    """Whether an arrival can change the state of the neuron immediately."""
    return is_impulsive(neuron.synapse)


def require_linear(neuron: AbstractNeuron) -> None:
    """Raises `ValueError` if the methods of a neuron with `is_linear` are not linear. Skipped for traced parameters.

    A function f is linear up to a constant if f(p) + f(q) = f(p + q) + f(0). This is tested at random points p and q,
    and at four different times.
    """
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    if any(known(leaf) is None for leaf in jax.tree.leaves(parameters)):
        return
    # The first neuron only, in the default float type, like the test points.
    first_of = jax.tree.map(lambda leaf: np.asarray(leaf)[(0,) * min(leaf.ndim, 1)], parameters)
    floats = jax.tree.map(lambda x: x.astype(jnp.result_type(float)) if eqx.is_inexact_array_like(x) else x, first_of)
    one = eqx.combine(floats, rest)
    zero = jax.eval_shape(
        lambda: (one.initial_state(), drive_of(one.synapse, initial_filters(one.synapse, jnp.zeros(()))))
    )
    zero = jax.tree.map(lambda leaf: np.zeros(leaf.shape), zero)
    rng = np.random.default_rng(0)

    def values(t, point):
        # Concrete numbers are needed, also when called under `jit`.
        with jax.ensure_compile_time_eval():
            state, drive = jax.tree.map(jnp.asarray, point)
            found = one.dynamics(jnp.asarray(t), state, drive), one.spike_condition(jnp.asarray(t), state)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]

    first, second = (jax.tree.map(lambda x: x + rng.uniform(0.1, 2.0, x.shape), zero) for _ in range(2))
    both = jax.tree.map(np.add, first, second)
    points = ((0.0, first), (1.0, second), (2.0, both), (3.0, zero))
    for p, q, both_, neither in zip(*(values(*point) for point in points), strict=True):
        size = np.abs(p) + np.abs(q) + np.abs(both_) + np.abs(neither)
        holds = bool(np.all(np.abs(p + q - both_ - neither) <= 1e-4 * size))
        hint = f"`dynamics` and `spike_condition` of {type(neuron).__name__} are not linear in state and drive."
        require(holds, "is_linear", "False", True, hint)
