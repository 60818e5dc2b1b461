"""The free response of linear neurons: their states at all arrivals of a block, without their own spikes."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from .._common.compaction import ALL, All, Subset
from .._common.flow import AbstractFlow


class Knots(eqx.Module):
    """The free response of all neurons at the knots of a block, directly after the arrivals there.

    Here and below, v and x may have one more axis before `batch`, see `flow`.
    """

    t: Float[Array, "knots batch lanes"]  # one lane per unit, or a single one
    v: Float[Array, "knots *v batch units"]
    x: Float[Array, "knots *x batch units"]

    def start(self, shape: tuple[int, ...]) -> Array:
        """The start time of the block, for each neuron."""
        return jnp.broadcast_to(self.t[0], shape)

    def leave(self, flow: AbstractFlow, change: "Change") -> "Boundary":
        """The boundary after the block."""
        end = self.t[-1]
        return Boundary(end, self.v[-1] + change.at(flow, end), self.x[-1])

    def at(self, place: Int[Array, "batch units"], who: All | Subset = ALL) -> "Knot":
        """The knot at the place of each neuron."""
        return Knot(*(who.row(part, place) for part in (self.t, self.v, self.x)))

    def time(self, place: Int[Array, "batch units"]) -> Float[Array, "batch units"]:
        """The time of the knot at the place of each neuron."""
        return ALL.row(self.t, place)


class Knot(eqx.Module):
    """One knot of each neuron."""

    t: Float[Array, "batch units"]
    v: Float[Array, "*v batch units"]
    x: Float[Array, "*x batch units"]

    def free(self, flow: AbstractFlow, t: Array) -> tuple[Array, Array]:
        """The free response at a time between this knot and the next."""
        return flow.after(self.v, self.x, t - self.t)


class Change(eqx.Module):
    """The change due to the last spike of each neuron in this block; zero before the first spike."""

    t: Float[Array, "*spikes batch units"]
    jump: Float[Array, "*spikes_v batch units"]

    @classmethod
    def none(cls, t: Array, v: Array) -> "Change":
        """No change, from the time t on."""
        return cls(t, jnp.zeros_like(v))

    def at(self, flow: AbstractFlow, t: Array) -> Array:
        """The effect of the change at the time t. Before the spike, it is that directly after it."""
        return flow.kept(self.jump, jnp.where(t >= self.t, t - self.t, 0.0))


class Boundary(eqx.Module):
    """The state of each neuron between two blocks."""

    t: Float[Array, "batch lanes"]
    v: Float[Array, "*v batch units"]
    x: Float[Array, "*x batch units"]


class Block(eqx.Module):
    """The knots of a block, and the propagators over its intervals."""

    knots: Knots
    propagators: PyTree[Array]


def free_motion(flow: AbstractFlow, boundary: Boundary, t: Array, weight: PyTree[Array]) -> Block:
    """The free response from a boundary at the first of the times `t`, with arrivals at the others.

    `t` has the axes `(knots, batch, lanes)`, and `weight`, for each port, `(knots - 1, batch, units)`.
    """
    propagators = flow.propagators(jnp.diff(t, axis=0))

    def step(state, given):
        propagator, weight = given
        state = flow.step(propagator, *state, weight)
        return state, state

    _, (vs, xs) = lax.scan(step, (boundary.v, boundary.x), (propagators, weight))
    return Block(
        Knots(t, jnp.concatenate([boundary.v[None], vs]), jnp.concatenate([boundary.x[None], xs])), propagators
    )
