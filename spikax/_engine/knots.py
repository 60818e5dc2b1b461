"""The free motion of linear neurons: their states at all arrivals of a block, without their own spikes."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from .motion import AbstractMotion
from .units import indices


class Knots(eqx.Module):
    """The free motion of all neurons at the knots of a block, right after the arrivals there.

    Here and below, v and x may have a further axis before `batch`: see `motion`.
    """

    t: Float[Array, "knots batch lanes"]  # one lane for every unit, or a single one
    v: Float[Array, "knots batch units"]
    x: Float[Array, "knots batch units"]

    def start(self, shape: tuple[int, ...]) -> Array:
        """The time at which the block starts, for every neuron."""
        return jnp.broadcast_to(self.t[0], shape)

    def leave(self, motion: AbstractMotion, change: "Change") -> "Edge":
        """The edge behind the block."""
        end = self.t[-1]
        return Edge(end, self.v[-1] + change.at(motion, end), self.x[-1])

    def at(self, place: Int[Array, "batch units"]) -> "Knot":
        """The knot at a place, of each neuron its own."""
        v, x = (entry(part, place) for part in (self.v, self.x))
        return Knot(self.time(place), v, x)

    def time(self, place: Int[Array, "batch units"]) -> Float[Array, "batch units"]:
        """The time of a knot, of each neuron its own."""
        return self.t[(place, *self.lanes(place.shape))]

    def lanes(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """The sample and the lane of every neuron."""
        batch, units = shape
        lane = indices(units) if self.t.shape[2] > 1 else jnp.zeros(1, jnp.int32)
        return indices(batch)[:, None], lane[None]


class Knot(eqx.Module):
    """One knot of each neuron."""

    t: Float[Array, "batch units"]
    v: Float[Array, "batch units"]
    x: Float[Array, "batch units"]

    def free(self, motion: AbstractMotion, t: Array) -> tuple[Array, Array]:
        """The free motion at a time between this knot and the next."""
        return motion.after(self.v, self.x, t - self.t)


class Change(eqx.Module):
    """What the last spike of each neuron in this block changed; nothing at first."""

    t: Float[Array, "batch units"]
    size: Float[Array, "batch units"]

    @classmethod
    def none(cls, t: Array, v: Array) -> "Change":
        """No change, from the time t on."""
        return cls(t, jnp.zeros_like(v))

    def at(self, motion: AbstractMotion, t: Array) -> Array:
        """How much of it is left at a time; before the spike, as much as right after it."""
        return motion.kept(self.size, jnp.where(t >= self.t, t - self.t, 0.0))


class Edge(eqx.Module):
    """Where every neuron stands between two blocks."""

    t: Float[Array, "batch lanes"]
    v: Float[Array, "batch units"]
    x: Float[Array, "batch units"]


class Block(eqx.Module):
    """The knots of a block, and what its stretches do."""

    knots: Knots
    flows: PyTree[Array]


def free_motion(motion: AbstractMotion, edge: Edge, t: Array, weight: PyTree[Array]) -> Block:
    """The free motion from an edge, at the first of the times `t`, with arrivals at the others.

    `t` has the axes `(knots, batch, lanes)`, `weight`, for every port, `(knots - 1, batch, units)`.
    """
    flows = motion.flows(jnp.diff(t, axis=0))

    def step(state, given):
        flow, weight = given
        state = motion.step(flow, *state, weight)
        return state, state

    _, (vs, xs) = lax.scan(step, (edge.v, edge.x), (flows, weight))
    return Block(Knots(t, jnp.concatenate([edge.v[None], vs]), jnp.concatenate([edge.x[None], xs])), flows)


def entry(rows: Array, number: Int[Array, "batch units"]) -> Array:
    """The row of each neuron's own number; the nearest one where there is none of that number."""
    number = aligned(jnp.clip(number, 0, rows.shape[0] - 1)[None], rows)
    return jnp.take_along_axis(rows, number, axis=0)[0]


def aligned(part: Array, like: Array) -> Array:
    """An array that ends with `(batch, units)`, with the axes that `like` has more put before these."""
    return part.reshape(*part.shape[:-2], *(1,) * (like.ndim - part.ndim), *part.shape[-2:])
