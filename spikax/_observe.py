"""States and drives at any time, from the accepted point before it."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._engine.loop import Point
from ._engine.step import AbstractStepper, move
from ._engine.units import over_units
from ._neuron import AbstractNeuron
from ._synapse import drive_of, evolve_filters


def observe(
    neuron: AbstractNeuron, stepper: AbstractStepper, found: Point, ts: Float[Array, " ts"]
) -> tuple[PyTree[Array], PyTree[Array]]:
    """The states and the drives at the times `ts`: one step of the solver from the point `found` before each.

    All leaves have the leading axes `(ts, batch, units, neurons)`.
    """

    def one(neuron, t, state, filters, h):
        drive = drive_of(neuron.synapse, evolve_filters(neuron.synapse, filters, h))
        return move(neuron, stepper, t, state, filters, h).state, drive

    def at(t, point):
        shape = jax.tree.leaves(point.state)[0].shape[:3]
        clock = jnp.broadcast_to(point.t, shape)
        return over_units(one, neuron, clock, point.state, point.filters, t - clock)

    return eqx.filter_vmap(at)(ts, found)
