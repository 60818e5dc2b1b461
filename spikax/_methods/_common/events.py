"""Events of neurons: their conditions, and whether they may happen."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..._neuron import AbstractNeuron, events_of
from ..._synapse import drive_of
from ..._types import State
from .axes import cast, over_units


# An event is spent after it has happened, and ready again once its condition has been below zero. It is due, and
# happens at once, if a jump took the condition above zero.
READY, DUE, SPENT = range(3)


def conditions(neuron: AbstractNeuron, t: Array, state: State) -> tuple[Array, ...]:
    """The condition of each event. An event happens when its condition rises through zero."""
    return tuple(jnp.asarray(event.condition(t, state), t.dtype) for event in events_of(neuron))


def conditions_along(
    neuron: AbstractNeuron, t: Array, state: State, t_direction: Array, direction: State
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The conditions, and their directional derivatives with respect to time and state."""
    return jax.jvp(lambda t, state: conditions(neuron, t, state), (t, state), (t_direction, direction))


def magnitudes(neuron: AbstractNeuron, t: Array, state: State) -> tuple[Array, ...]:
    """The magnitude of the terms of each condition, Σ |∂g/∂x x|. Its rounding error is the machine epsilon times this.

    Constant terms need not count: where the condition is about zero, they are as large as the others.
    """
    slopes = jax.jacfwd(lambda at: conditions(neuron, *at))((t, state))

    def magnitude(slope):
        terms = jax.tree.map(lambda d, x: jnp.sum(jnp.abs(d * x)), slope, (t, state))
        return functools.reduce(jnp.add, jax.tree.leaves(terms))

    return tuple(map(magnitude, slopes))


def payload_of(neuron: AbstractNeuron, t: Array, state: PyTree, filters: PyTree) -> PyTree:
    """The payload of a spike of each neuron at this point."""

    def one(neuron, t, state, filters):
        return cast(neuron.payload(t, state, drive_of(neuron.synapse, filters)), t.dtype)

    return over_units(one, neuron, t, state, filters)
