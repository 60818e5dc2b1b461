"""The free motion of linear neurons: their states at all arrivals of a block, without their own spikes."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .affine import Affine
from .units import indices


class Knots(eqx.Module):
    """A block: the free motion of all neurons at its knots, right after the arrivals there."""

    t: Float[Array, "knots batch lanes"]  # one lane for every unit, or a single one
    v: Float[Array, "knots batch units"]
    x: Float[Array, "knots batch units"]

    def start(self, shape: tuple[int, ...]) -> Array:
        """The time at which the block starts, for every neuron."""
        return jnp.broadcast_to(self.t[0], shape)

    def leave(self, affine: Affine, change: "Change") -> "Edge":
        """The edge behind the block."""
        end = self.t[-1]
        return Edge(end, self.v[-1] + change.at(affine, end), self.x[-1])

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

    def free(self, affine: Affine, t: Array) -> tuple[Array, Array]:
        """The free motion at a time between this knot and the next."""
        return affine.after(self.v, self.x, t - self.t)


class Change(eqx.Module):
    """What the last spike of each neuron in this block changed; nothing at first."""

    t: Float[Array, "batch units"]
    size: Float[Array, "batch units"]

    def at(self, affine: Affine, t: Array) -> Array:
        """How much of it is left at a time; before the spike, as much as right after it."""
        return self.size * affine.keep(jnp.where(t >= self.t, t - self.t, 0.0))


class Edge(eqx.Module):
    """Where every neuron stands between two blocks."""

    t: Float[Array, "batch lanes"]
    v: Float[Array, "batch units"]
    x: Float[Array, "batch units"]


def free_motion(affine: Affine, edge: Edge, t: Array, weight: Array) -> Knots:
    """The free motion from an edge, at the first of the times `t`, with arrivals at the others.

    `t` has the axes `(knots, batch, lanes)`, `weight` `(knots - 1, batch, units)`.
    """
    s = jnp.diff(t, axis=0)
    keep, passed, added, fade = jax.vmap(affine.factors)(s)

    def step(state, given):
        v, x = state
        keep, passed, added, fade, weight = given
        state = keep * v + passed * x + added, fade * x + affine.kick * weight
        return state, state

    _, (vs, xs) = lax.scan(step, (edge.v, edge.x), (keep, passed, added, fade, weight))
    return Knots(t, jnp.concatenate([edge.v[None], vs]), jnp.concatenate([edge.x[None], xs]))


def entry(rows: Array, number: Array) -> Array:
    """The row of each neuron's own number; the nearest one where there is none of that number."""
    return jnp.take_along_axis(rows, jnp.clip(number, 0, rows.shape[0] - 1)[None], axis=0)[0]
