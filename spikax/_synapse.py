"""Synapses: linear filters between an arrival and the membrane."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import require
from ._types import Scalar
from .constraints import Checked, parameter, positive


class AbstractSynapse(Checked):
    """A linear filter of the arrivals at ONE neuron.

    Its state follows x' = A x between arrivals, and an arrival of weight w adds a multiple of w to it. The drive, a
    linear function of the state, is what the membrane sees. All methods are for scalars; the framework vectorises.
    """

    @abc.abstractmethod
    def initial_state(self, weight: Float[Array, ""]) -> Any:
        """The state before any arrival, zero, in the float type of `weight`."""

    @abc.abstractmethod
    def evolve(self, state: Any, duration: Float[Array, ""]) -> Any:
        """The state after a time without arrivals, exactly."""

    @abc.abstractmethod
    def receive(self, state: Any, weight: Float[Array, ""]) -> Any:
        """The state after an arrival of the given weight."""

    @abc.abstractmethod
    def drive(self, state: Any) -> Any:
        """What the membrane sees."""


class ExpSynapse(AbstractSynapse):
    r"""A current that jumps by the weight at each arrival and decays exponentially.

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
    """The two stages of an alpha synapse."""

    rise: Array
    i: Array


class AlphaSynapse(AbstractSynapse):
    r"""A current that rises and falls as the alpha function, and peaks at the weight after the time $\tau$.

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
    """No filter: each arrival reaches the membrane at once, through the neuron's `receive`.

    The drive is zero at all times. The engine stops at every arrival at such a neuron.
    """

    def initial_state(self, weight):
        return jnp.zeros_like(weight)

    def evolve(self, state, duration):
        return state

    def receive(self, state, weight):
        return state

    def drive(self, state):
        return state


Synapse = AbstractSynapse | dict[str, AbstractSynapse]
"""One synapse, or several named ports. Weight, state and drive then have the same names."""


def is_synapse(node: Any) -> bool:
    """Whether a node of a tree is a synapse."""
    return isinstance(node, AbstractSynapse)


def require_synapse(synapse: Any) -> None:
    """Raises `TypeError` unless `synapse` is a synapse or a dictionary of them."""
    ports = jax.tree.leaves(synapse, is_leaf=is_synapse)
    is_named = isinstance(synapse, dict) and len(synapse) > 0
    holds = is_synapse(synapse) or (is_named and all(map(is_synapse, ports)))
    hint = "For example `sx.ExpSynapse(tau=5.0)`."
    require(holds, "synapse", "a synapse, or a dictionary of synapses", synapse, hint, TypeError)


def is_impulsive(synapse: Synapse) -> bool:
    """Whether an arrival reaches the membrane at once, through some port."""
    return any(isinstance(port, DeltaSynapse) for port in jax.tree.leaves(synapse, is_leaf=is_synapse))


def initial_filters(synapse: Synapse, weight: Any) -> Any:
    """The state of every port before any arrival."""
    return jax.tree.map(lambda port, w: port.initial_state(w), synapse, weight, is_leaf=is_synapse)


def evolve_filters(synapse: Synapse, filters: Any, duration: Array) -> Any:
    """The state of every port after a time without arrivals."""
    return jax.tree.map(lambda port, x: port.evolve(x, duration), synapse, filters, is_leaf=is_synapse)


def filters_after_arrival(synapse: Synapse, filters: Any, weight: Any) -> Any:
    """The state of every port after an arrival."""
    return jax.tree.map(lambda port, x, w: port.receive(x, w), synapse, filters, weight, is_leaf=is_synapse)


def drive_of(synapse: Synapse, filters: Any) -> Any:
    """What the membrane sees of every port."""
    return jax.tree.map(lambda port, x: port.drive(x), synapse, filters, is_leaf=is_synapse)
