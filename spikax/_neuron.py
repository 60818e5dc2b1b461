"""What a neuron is."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._checks import known, require
from ._synapse import drive_of, initial_filters, is_impulsive, is_synapse, require_synapse, Synapse
from ._types import State, Weight
from .constraints import Checked


class Event(eqx.Module):
    """Something that happens to a neuron whenever a condition rises through zero.

    **Arguments:**

    - `condition`: `(t, state) -> number`. The event happens as it rises through zero.
    - `jump`: `(t, state) -> state`. The state right after the event.
    """

    condition: Callable[[Float[Array, ""], State], Float[Array, ""]]
    jump: Callable[[Float[Array, ""], State], State]


class AbstractNeuron(Checked):
    """ONE neuron: how it moves, when it spikes, and what a spike does to it.

    Every method is for a single neuron, with scalars `t` and `drive` and a state of scalars (or of any small
    arrays); the framework vectorises over the neurons of a layer and over the batch. A parameter that is a number is
    a constant. A parameter that is an array, of shape `()` or one value per neuron, learns. A field made by
    [`spikax.parameter`][] says what it must be.

    `dynamics` must be smooth between events: a kink or a jump in it belongs into `internal_events`.
    """

    synapse: eqx.AbstractVar[Synapse]

    def __check_init__(self):
        require_synapse(self.synapse)

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

    def payload(self, t: Float[Array, ""], state: State, drive: Any) -> Any:
        """What a spike carries to its targets, read right before the reset: numbers in any structure; here nothing."""
        return None

    def gain(self, payload: Any) -> Any:
        """By what the weight of an arrival with this payload is multiplied; here by one.

        A number for every port of the synapse, in the structure of the synapse. It depends on the payload alone.
        """
        return None

    @property
    def is_linear(self) -> bool:
        """Whether `dynamics` and `spike_condition` are linear in state and drive, up to constants; not so by default.

        A neuron that says so can be simulated parallel in time, without a solver: see [`spikax.ParallelInTime`][]. Its
        reset may be anything that takes the condition below zero. A layer checks the claim against the methods.
        """
        return False

    def internal_events(self) -> tuple[Event, ...]:
        """Further events, which emit no spike: a dendritic spike, the end of a refractory period, a kink."""
        return ()


def events_of(neuron: AbstractNeuron) -> tuple[Event, ...]:
    """All events of a neuron; the first is its spike."""
    return (Event(neuron.spike_condition, neuron.reset), *neuron.internal_events())


def stops_at_arrivals(neuron: AbstractNeuron) -> bool:
    """Whether an arrival may change the membrane at once."""
    return is_impulsive(neuron.synapse)


def is_plain(neuron: AbstractNeuron) -> bool:
    """Whether a neuron's spikes carry nothing, and all arrivals count with their weights."""
    kind = type(neuron)
    return kind.payload is AbstractNeuron.payload and kind.gain is AbstractNeuron.gain


def require_linear(neuron: AbstractNeuron) -> None:
    """Raises `ValueError` if a neuron claims to be linear and its methods are not, as far as its parameters are known.

    A function f is linear up to a constant if f(p) + f(q) = f(p + q) + f(0), here at random points and four times.
    """
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    if any(known(leaf) is None for leaf in jax.tree.leaves(parameters)):
        return
    # Of the first neuron, in the default float type, as the points are.
    first_of = jax.tree.map(lambda leaf: np.asarray(leaf)[(0,) * min(leaf.ndim, 1)], parameters)
    floats = jax.tree.map(lambda x: x.astype(jnp.result_type(float)) if eqx.is_inexact_array_like(x) else x, first_of)
    one = eqx.combine(floats, rest)
    weight = jax.tree.map(lambda _: jnp.zeros(()), one.synapse, is_leaf=is_synapse)
    zero = jax.eval_shape(lambda: (one.initial_state(), drive_of(one.synapse, initial_filters(one.synapse, weight))))
    zero = jax.tree.map(lambda leaf: np.zeros(leaf.shape), zero)
    rng = np.random.default_rng(0)

    def values(t, point):
        # The numbers are needed now, also inside of a `jit` around it all.
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
