"""The motion of a neuron with one variable and one filter between arrivals, in closed form.

A membrane with one variable v, driven by one exponential filter x, follows

    v' = -rate v + gain x + push,      x' = -decay x,

and spikes as slope v + offset rises through zero. All of it is read off the neuron's own methods.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from .._held import held
from .._neuron import AbstractNeuron
from .._synapse import AbstractSynapse, drive_of, evolve_filters, filters_after_arrival, initial_filters
from .motion import AbstractMotion
from .units import cast, over_units, shared


class Affine(AbstractMotion):
    """The neurons of a layer; each coefficient has the shape `()` where they share it, else `(batch, units)`."""

    neuron: AbstractNeuron | None  # None where neurons of several kinds stand side by side
    structure: Any = eqx.field(static=True)  # of the neuron's state

    rate: Array
    gain: Array
    push: Array
    decay: Array
    kick: Array  # what an arrival of weight one adds to x
    slope: Array
    offset: Array

    @classmethod
    def of(cls, neuron, state, weight, t):
        zero, one = jnp.zeros_like(t), jnp.ones_like(t)
        of_state, of_weight = jax.tree.structure(state), jax.tree.structure(weight)
        start = initial_filters(neuron.synapse, of_weight.unflatten([zero]))
        of_filter = jax.tree.structure(start)

        def field(neuron, v, x):
            drive = drive_of(neuron.synapse, of_filter.unflatten([x]))
            (slope,) = jax.tree.leaves(neuron.dynamics(t, of_state.unflatten([v]), drive))
            return jnp.asarray(slope, t.dtype)

        def faded(neuron, s):
            return jax.tree.leaves(evolve_filters(neuron.synapse, of_filter.unflatten([one]), s))[0]

        def kicked(neuron, w):
            filters = of_filter.unflatten([zero])
            return jax.tree.leaves(filters_after_arrival(neuron.synapse, filters, of_weight.unflatten([w])))[0]

        def condition(neuron, v):
            return jnp.asarray(neuron.spike_condition(t, of_state.unflatten([v])), t.dtype)

        def to(function, *arguments):
            """A function of the neuron: the derivative of `function` to its argument that is a one."""
            point = tuple(zero for _ in arguments)
            return lambda neuron: jax.jvp(lambda *at: function(neuron, *at), point, arguments)[1]

        coefficients = [
            to(lambda *at: -field(*at), one, zero),
            to(field, zero, one),
            lambda neuron: field(neuron, zero, zero),
            to(lambda *at: -faded(*at), one),
            to(kicked, one),
            to(condition, one),
            lambda neuron: condition(neuron, zero),
        ]
        return cls(neuron, of_state, *(shared(coefficient, neuron) for coefficient in coefficients))

    @staticmethod
    def pack(state, filters):
        (v,), (x,) = (jax.tree.leaves(part) for part in (state, filters))
        return v[..., 0], x[..., 0]

    @staticmethod
    def unpack(v, x, state, filters):
        parts = ((v, state), (x, filters))
        return tuple(jax.tree.structure(like).unflatten([leaf[..., None]]) for leaf, like in parts)

    @property
    def width(self):
        return 1

    def speed(self, v, x):
        return -self.rate * v + self.gain * x + self.push

    def condition(self, v):
        return self.slope * v + self.offset

    def steepness(self, speed):
        return self.slope * speed

    def reset(self, t, v):
        def one(neuron, t, v):
            return jax.tree.leaves(cast(neuron.reset(t, self.structure.unflatten([v])), v.dtype))[0]

        return over_units(one, self.neuron, t[..., None], v[..., None])[..., 0]

    def factors(self, s: Array) -> tuple[Array, Array, Array, Array]:
        """What a time s without arrivals does: v becomes `keep v + pass x + add`, and x becomes `fade x`."""
        keep, fade = jnp.exp(-self.rate * s), jnp.exp(-self.decay * s)
        # Symmetric in both, and written so that no exponent is positive.
        ahead = self.decay - self.rate
        slow, gap = jnp.where(ahead >= 0, keep, fade), jnp.where(ahead >= 0, ahead, -ahead)
        passed = self.gain * slow * ramp(gap, s)
        return keep, passed, _scaled(self.push, ramp(self.rate, s)), fade

    def flows(self, s):
        return jax.vmap(self.factors)(s)

    def step(self, flow, v, x, weight):
        keep, passed, added, fade = flow
        (w,) = jax.tree.leaves(weight)
        return keep * v + passed * x + added, fade * x + self.kick * w

    def after(self, v, x, s):
        keep, passed, added, fade = self.factors(s)
        return keep * v + passed * x + added, fade * x

    def kept(self, change, s):
        return change * jnp.exp(-self.rate * s)

    def changed(self, knots, flows, change, place):
        return held(knots.v + change.at(self, knots.t), knots.t)

    def reach(self, v: Array, x: Array, h: Array) -> Array:
        """How far v goes on in its direction within a time h, at most; for rate and decay that are not negative.

        With the wait w and y of `peak`, v turns at s = -log(1 - y) w / y <= w (1 - y/2) / (1 - y). Until then v' is
        below v'(0) (1 - u/s) at the time u, as it is a convex function times a decay; so v moves by v'(0) s / 2.
        """
        d, wait, y = self.turn(v, x)
        turns = y < 1.0
        s = wait * (1.0 - 0.5 * y) / jnp.where(turns, 1.0 - y, 1.0)
        return 0.5 * d * jnp.where(turns, jnp.minimum(s, h), h)

    def peak(self, v: Array, x: Array) -> tuple[Array, Array]:
        """When v turns, and v there; only where it does, at a later time.

        v' vanishes where 1 - exp(-(decay - rate) s) = y = (decay - rate) w, with the wait w = v' / (decay gain x).
        """
        _, wait, y = self.turn(v, x)
        ahead = self.decay - self.rate
        y = jnp.minimum(y, 1.0 - jnp.finfo(v.dtype).epsneg)
        s = jnp.where(ahead == 0.0, wait, -jnp.log1p(-y) * _inverse(ahead))
        lost = -jnp.expm1(-self.rate * s)
        added = self.push * jnp.where(self.rate == 0.0, s, lost * _inverse(self.rate))
        return s, (v + self.gain * x * wait) * (1.0 - lost) + added

    def turn(self, v: Array, x: Array) -> tuple[Array, Array, Array]:
        """v', the wait w and y of `peak`; v turns at a later time where w > 0 and y < 1."""
        d, down = self.speed(v, x), self.decay * self.gain * x
        # Without a filter v never turns.
        wait = jnp.where(down == 0.0, -1.0, d / jnp.where(down == 0.0, 1.0, down))
        return d, wait, (self.decay - self.rate) * wait


def _inverse(x: Array) -> Array:
    """1 / x, and 1 in place of 1 / 0, which is not used."""
    return 1.0 / jnp.where(x == 0.0, 1.0, x)


@jax.custom_vjp
def _scaled(x: Array, y: Array) -> Array:
    """x y, where y is shared by the neurons, on the last axis, or has an entry for each.

    The derivative by a shared y is a product with ones in place of a sum: XLA's sum over a short last axis, fused with
    what leads to it, took 1.4 ms of a gradient of 17 on two CPU cores.
    """
    return x * y


def _scaled_bar(residual, bar):
    x, y = residual
    y_bar = bar * x
    if y.ndim and y.shape[-1] == 1 < bar.shape[-1]:
        y_bar = jnp.matmul(y_bar, jnp.ones((bar.shape[-1], 1), bar.dtype), precision=lax.Precision.HIGHEST)
    x_bar = jnp.broadcast_to(bar * y, bar.shape)
    return jnp.sum(x_bar) if x.ndim == 0 else x_bar, y_bar


_scaled.defvjp(lambda x, y: (x * y, (x, y)), _scaled_bar)


@jax.custom_jvp
def ramp(rate: Array, s: Array) -> Array:
    """(1 - exp(-rate s)) / rate, which is s where the rate is zero."""
    x = rate * s
    # Below the smallest normal number the quotient would lose its digits; there the limit is exact.
    is_tiny = jnp.abs(x) < jnp.finfo(x.dtype).tiny
    return s * jnp.where(is_tiny, 1.0, -jnp.expm1(-x) / jnp.where(is_tiny, 1.0, x))


@ramp.defjvp
def _ramp_jvp(primals, tangents):
    rate, s = primals
    x = rate * s
    # The derivative to the rate is s² times (exp(-x) (1 + x) - 1) / x². Where that cancels, it is the sum of
    # -(-x)^n / (n! (n + 2)), of which 13 terms are exact in float64.
    near = jnp.abs(x) < 0.5
    small = jnp.where(near, x, 0.0)
    terms, power = jnp.zeros_like(x), jnp.ones_like(x)
    for n in range(13):
        terms -= power / (n + 2)
        power *= -small / (n + 1)
    large = jnp.where(near, 1.0, x)
    bend = jnp.where(near, terms, (jnp.exp(-large) * (1.0 + large) - 1.0) / large**2)
    return ramp(rate, s), s**2 * bend * tangents[0] + jnp.exp(-x) * tangents[1]


def is_affine(neuron: AbstractNeuron, state: PyTree, filters: PyTree) -> bool:
    """Whether the motion of a linear neuron has the closed form of this module.

    State and filters are those of one neuron, or have the axes `(batch, units, 1)` first.
    """
    # A linear filter with a single state is an exponential one.
    numbers = [[leaf.ndim in (0, 3) for leaf in jax.tree.leaves(part)] for part in (state, filters)]
    return isinstance(neuron.synapse, AbstractSynapse) and numbers == [[True], [True]]
