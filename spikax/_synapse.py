"""Synapse models: linear filters that turn arrivals into the drive of a neuron."""

import abc
import functools
import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import require
from ._constraints import Checked
from ._types import Scalar
from .constraints import parameter, positive


class AbstractSynapse(Checked):
    """A linear filter of the arrivals at a single neuron.

    The state follows x' = A x between arrivals. An arrival of weight w adds a multiple of w to it. The drive, the input
    of the neuron's dynamics, is a linear function of the state. All methods are for scalars; spikax vectorises.
    """

    @abc.abstractmethod
    def initial_state(self, weight: Float[Array, ""]) -> Any:
        """The state before any arrival: zero, in the float type of `weight`."""

    @abc.abstractmethod
    def evolve(self, state: Any, duration: Float[Array, ""]) -> Any:
        """The state after `duration` without arrivals, in closed form."""

    @abc.abstractmethod
    def receive(self, state: Any, weight: Float[Array, ""]) -> Any:
        """The state right after an arrival of this weight."""

    @abc.abstractmethod
    def drive(self, state: Any) -> Any:
        """The drive of the neuron."""

    @property
    def is_impulsive(self) -> bool:
        """Whether an arrival changes the state of the neuron immediately, through its `receive`. False by default."""
        return False


class ExpSynapse(AbstractSynapse):
    r"""A synapse with an exponentially decaying current. It jumps by the weight at each arrival.

    $$ \tau\, i' = -i, \qquad i \leftarrow i + w \text{ at an arrival}, \qquad \text{drive} = i. $$

    **Arguments:**

    - `tau`: the time constant of the decay, in ms.
    """

    tau: Scalar = parameter(5.0, positive)

    def initial_state(self, weight):
        return jnp.zeros_like(weight)

    def evolve(self, state, duration):
        return state * jnp.exp(-duration / self.tau)

    def receive(self, state, weight):
        return state + weight

    def drive(self, state):
        return state


class AlphaState(eqx.Module):
    """The state of an alpha synapse: two first-order filters in series."""

    rise: Array
    i: Array


class AlphaSynapse(AbstractSynapse):
    r"""A synapse whose current follows an alpha function: it peaks at the weight, a time $\tau$ after an arrival.

    $$ \tau\, x' = -x, \qquad \tau\, i' = x - i, \qquad x \leftarrow x + e\,w \text{ at an arrival},
       \qquad \text{drive} = i = w\,\frac{s}{\tau}\,e^{1 - s/\tau} \text{ after one arrival, a time } s \text{ ago}. $$

    **Arguments:**

    - `tau`: the time from an arrival to the peak of its current, in ms.
    """

    tau: Scalar = parameter(5.0, positive)

    def initial_state(self, weight):
        return AlphaState(rise=jnp.zeros_like(weight), i=jnp.zeros_like(weight))

    def evolve(self, state, duration):
        elapsed = duration / self.tau
        decay = jnp.exp(-elapsed)
        return AlphaState(rise=state.rise * decay, i=(state.i + state.rise * elapsed) * decay)

    def receive(self, state, weight):
        return AlphaState(rise=state.rise + float(jnp.e) * weight, i=state.i)

    def drive(self, state):
        return state.i


class DeltaSynapse(AbstractSynapse):
    """A synapse without a filter: each arrival changes the state of the neuron immediately, through its `receive`.

    The drive is zero. In the event loop, a step ends at every arrival.
    """

    def initial_state(self, weight):
        return jnp.zeros_like(weight)

    def evolve(self, state, duration):
        return state

    def receive(self, state, weight):
        return state

    def drive(self, state):
        return state

    @property
    def is_impulsive(self):
        return True


class HoldSynapse(AbstractSynapse):
    r"""A synapse that keeps its value: an arrival adds its weight for good.

    $$ i' = 0, \qquad i \leftarrow i + w \text{ at an arrival}, \qquad \text{drive} = i. $$

    With a [`spikax.Rectangular`][] connection, which takes each weight back after a duration, an input spike is a
    rectangular current. What remains of a weight that was added and taken back is the rounding error of the sum.
    """

    def initial_state(self, weight):
        return jnp.zeros_like(weight)

    def evolve(self, state, duration):
        return state

    def receive(self, state, weight):
        return state + weight

    def drive(self, state):
        return state


class FilteredHoldState(eqx.Module):
    """The state of a filtered hold synapse: the value that is held, and the current."""

    held: Array
    i: Array


class FilteredHoldSynapse(AbstractSynapse):
    r"""A hold synapse with a low-pass filter: the current approaches the sum of the weights.

    $$ x' = 0, \qquad \tau\, i' = x - i, \qquad x \leftarrow x + w \text{ at an arrival}, \qquad \text{drive} = i. $$

    With a [`spikax.Rectangular`][] connection, it is the response of an exponential synapse to rectangular spikes.

    **Arguments:**

    - `tau`: the time constant of the filter, in ms.
    """

    tau: Scalar = parameter(5.0, positive)

    def initial_state(self, weight):
        return FilteredHoldState(held=jnp.zeros_like(weight), i=jnp.zeros_like(weight))

    def evolve(self, state, duration):
        approached = -jnp.expm1(-duration / self.tau)
        return FilteredHoldState(held=state.held, i=state.i + (state.held - state.i) * approached)

    def receive(self, state, weight):
        return FilteredHoldState(held=state.held + weight, i=state.i)

    def drive(self, state):
        return state.i


Synapse = AbstractSynapse | dict[str, AbstractSynapse]
"""One synapse, or a dictionary of named ports. Weights, state and drive are then dictionaries with the same names."""


def is_synapse(node: Any) -> bool:
    """Whether a node of a pytree is a synapse."""
    return isinstance(node, AbstractSynapse)


def require_synapse(synapse: Any) -> None:
    """Raises `TypeError` unless `synapse` is a synapse or a dictionary of synapses."""
    ports = jax.tree.leaves(synapse, is_leaf=is_synapse)
    is_named = isinstance(synapse, dict) and len(synapse) > 0
    holds = is_synapse(synapse) or (is_named and all(map(is_synapse, ports)))
    hint = "For example `sx.ExpSynapse(tau=5.0)`."
    require(holds, "synapse", "a synapse, or a dictionary of synapses", synapse, hint, TypeError)


def is_impulsive(synapse: Synapse) -> bool:
    """Whether an arrival through some port changes the state of the neuron immediately."""
    return any(port.is_impulsive for port in jax.tree.leaves(synapse, is_leaf=is_synapse))


def for_each_port(synapse: Synapse, value: Any) -> Any:
    """The value, for every port of a synapse."""
    return jax.tree.map(lambda _: value, synapse, is_leaf=is_synapse)


def port_structure(synapse: Synapse) -> Any:
    """The structure of what has an entry for every port."""
    return jax.tree.structure(synapse, is_leaf=is_synapse)


def total(drive: Any) -> Array:
    """The sum of the drives of all ports: the current of a neuron that does not distinguish them."""
    return functools.reduce(operator.add, jax.tree.leaves(drive))


def total_impulse(synapse: Synapse, weight: Any) -> Array:
    """The sum of the weights of an arrival over the ports that change the state of the neuron immediately."""
    if not isinstance(weight, dict):
        return weight
    ports = zip(jax.tree.leaves(synapse, is_leaf=is_synapse), jax.tree.leaves(weight), strict=True)
    return functools.reduce(operator.add, [w for port, w in ports if port.is_impulsive])


def initial_filters(synapse: Synapse, like: Array) -> Any:
    """The state of every port before any arrival, in the float type and the shape of `like`."""
    zero = jnp.zeros_like(like)
    return jax.tree.map(lambda port: port.initial_state(zero), synapse, is_leaf=is_synapse)


def evolve_filters(synapse: Synapse, filters: Any, duration: Array) -> Any:
    """The state of every port after `duration` without arrivals."""
    return jax.tree.map(lambda port, x: port.evolve(x, duration), synapse, filters, is_leaf=is_synapse)


def filters_after_arrival(synapse: Synapse, filters: Any, weight: Any) -> Any:
    """The state of every port right after an arrival."""
    return jax.tree.map(lambda port, x, w: port.receive(x, w), synapse, filters, weight, is_leaf=is_synapse)


def drive_of(synapse: Synapse, filters: Any) -> Any:
    """The drive of every port."""
    return jax.tree.map(lambda port, x: port.drive(x), synapse, filters, is_leaf=is_synapse)
