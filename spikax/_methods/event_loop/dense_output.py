"""Dense output: states and drives at any time, from the accepted point before it."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..._neuron import AbstractNeuron
from ..._synapse import drive_of, evolve_filters, initial_filters
from .._common.axes import cast, over_units
from .._common.motion import AbstractMotion
from .._common.trees import tree_where
from .problem import Point


def dense_output(
    neuron: AbstractNeuron,
    motion: AbstractMotion,
    found: Point,
    ts: Float[Array, " ts"],
    reached: Float[Array, "batch units 1"],
) -> tuple[PyTree[Array], PyTree[Array]]:
    """The states and the drives at the times `ts`: by the motion from the point `found` before each.

    All leaves have the leading axes `(ts, batch, units, neurons)`. They are NaN at times later than `reached`, which a
    unit that failed did not reach.
    """

    def one(neuron, is_there, t, state, filters, h):
        # Elsewhere the step has length zero, from rest: steps that are not finite would have derivatives of NaN, even
        # for a zero cotangent.
        rest = cast(neuron.initial_state(), t.dtype), initial_filters(neuron.synapse, t)
        state, filters = tree_where(is_there, (state, filters), rest)
        drive = drive_of(neuron.synapse, evolve_filters(neuron.synapse, filters, h))
        return motion.end(neuron, t, state, filters, h), drive

    def at(t, point):
        shape = jax.tree.leaves(point.state)[0].shape[:3]
        clock, is_there = jnp.broadcast_to(point.t, shape), jnp.broadcast_to(reached >= t, shape)
        h = jnp.where(is_there, t - clock, 0.0)
        found = over_units(one, neuron, is_there, clock, point.state, point.filters, h)
        return tree_where(is_there, found, jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), found))

    return eqx.filter_vmap(at)(ts, found)
