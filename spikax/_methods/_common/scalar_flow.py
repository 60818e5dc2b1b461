"""The flow of a neuron with one variable and one filter between arrivals, in closed form.

A membrane with one variable v, driven by one exponential filter x, follows

    v' = -rate v + gain x + constant,      x' = -decay x,

and spikes when slope v + offset rises through zero. All coefficients are derived from the methods of the neuron.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..._neuron import AbstractNeuron
from ..._synapse import (
    drive_of,
    evolve_filters,
    filters_after_arrival,
    for_each_port,
    initial_filters,
)
from .axes import cast, over_units, shared
from .compute_once import compute_once
from .flow import AbstractFlow


class ScalarFlow(AbstractFlow):
    """The flow of a layer. Each coefficient has the shape `()` if it is shared, else `(batch, units)`."""

    neuron: AbstractNeuron | None  # None for the concatenated neurons of several layers
    structure: Any = eqx.field(static=True)  # of the neuron's state

    rate: Array
    gain: Array
    constant: Array
    decay: Array
    input_jump: Array  # the jump of x at an arrival of weight one
    slope: Array
    offset: Array

    @classmethod
    def of(cls, neuron, state, t):
        zero, one = jnp.zeros_like(t), jnp.ones_like(t)
        of_state, of_filter = jax.tree.structure(state), jax.tree.structure(initial_filters(neuron.synapse, zero))

        def field(neuron, v, x):
            drive = drive_of(neuron.synapse, of_filter.unflatten([x]))
            (slope,) = jax.tree.leaves(neuron.dynamics(t, of_state.unflatten([v]), drive))
            return jnp.asarray(slope, t.dtype)

        def faded(neuron, s):
            return jax.tree.leaves(evolve_filters(neuron.synapse, of_filter.unflatten([one]), s))[0]

        def after_input(neuron, w):
            filters = of_filter.unflatten([zero])
            weight = for_each_port(neuron.synapse, w)
            return jax.tree.leaves(filters_after_arrival(neuron.synapse, filters, weight))[0]

        def condition(neuron, v):
            return jnp.asarray(neuron.spike_condition(t, of_state.unflatten([v])), t.dtype)

        def to(function, *arguments):
            """A function of the neuron: the derivative of `function` with respect to its argument that is one."""
            point = tuple(zero for _ in arguments)
            return lambda neuron: jax.jvp(lambda *at: function(neuron, *at), point, arguments)[1]

        coefficients = [
            to(lambda *at: -field(*at), one, zero),
            to(field, zero, one),
            lambda neuron: field(neuron, zero, zero),
            to(lambda *at: -faded(*at), one),
            to(after_input, one),
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
        return -self.rate * v + self.gain * x + self.constant

    def condition(self, v):
        return self.slope * v + self.offset

    def steepness(self, speed):
        return self.slope * speed

    def reset(self, t, v):
        def one(neuron, t, v):
            return jax.tree.leaves(cast(neuron.reset(t, self.structure.unflatten([v])), v.dtype))[0]

        return over_units(one, self.neuron, t[..., None], v[..., None])[..., 0]

    def propagator(self, s: Array) -> tuple[Array, Array, Array, Array]:
        """The propagator over a time s: v becomes `keep v + passed x + added`, and x becomes `fade x`."""
        keep, fade = jnp.exp(-self.rate * s), jnp.exp(-self.decay * s)
        # Symmetric in rate and decay, in a form without positive exponents.
        ahead = self.decay - self.rate
        slow, gap = jnp.where(ahead >= 0, keep, fade), jnp.where(ahead >= 0, ahead, -ahead)
        passed = self.gain * slow * ramp(gap, s)
        return keep, passed, _scaled(self.constant, ramp(self.rate, s)), fade

    def propagators(self, s):
        return jax.vmap(self.propagator)(s)

    def step(self, propagator, v, x, weight):
        keep, passed, added, fade = propagator
        (w,) = jax.tree.leaves(weight)
        return keep * v + passed * x + added, fade * x + self.input_jump * w

    def after(self, v, x, s):
        keep, passed, added, fade = self.propagator(s)
        return keep * v + passed * x + added, fade * x

    def jumped(self, x, weight):
        return x + self.input_jump * weight[0]

    def fading(self, x):
        return -self.decay * x

    def kept(self, change, s):
        return change * jnp.exp(-self.rate * s)

    def changed(self, knots, propagators, change, place):
        return compute_once(knots.v + change.at(self, knots.t))

    def excursion(self, v: Array, x: Array, h: Array) -> Array:
        """An upper bound of the change of v in its current direction within a time h, for rate and decay >= 0.

        With w and y as in `peak`, v turns at s = -log(1 - y) w / y <= w (1 - y/2) / (1 - y). Until then v' is below
        v'(0) (1 - u/s) at the time u, since it is a convex function times a decay. So v changes by at most v'(0) s / 2.
        """
        d, wait, y = self.turn(v, x)
        turns = y < 1.0
        s = wait * (1.0 - 0.5 * y) / jnp.where(turns, 1.0 - y, 1.0)
        return 0.5 * d * jnp.where(turns, jnp.minimum(s, h), h)

    def peak(self, v: Array, x: Array) -> tuple[Array, Array]:
        """The time at which v turns, and v there; valid only if it turns at a later time.

        v' vanishes where 1 - exp(-(decay - rate) s) = y = (decay - rate) w, with the time w = v' / (decay gain x).
        """
        _, wait, y = self.turn(v, x)
        ahead = self.decay - self.rate
        y = jnp.minimum(y, 1.0 - jnp.finfo(v.dtype).epsneg)
        s = jnp.where(ahead == 0.0, wait, -jnp.log1p(-y) * _inverse(ahead))
        rounding = -jnp.expm1(-self.rate * s)
        added = self.constant * jnp.where(self.rate == 0.0, s, rounding * _inverse(self.rate))
        return s, (v + self.gain * x * wait) * (1.0 - rounding) + added

    def turn(self, v: Array, x: Array) -> tuple[Array, Array, Array]:
        """v', and w and y of `peak`. v turns at a later time if w > 0 and y < 1."""
        d, down = self.speed(v, x), self.decay * self.gain * x
        # Without a filter v never turns.
        wait = jnp.where(down == 0.0, -1.0, d / jnp.where(down == 0.0, 1.0, down))
        return d, wait, (self.decay - self.rate) * wait


def _inverse(x: Array) -> Array:
    """1 / x, with 1 in place of 1 / 0, which is not used."""
    return 1.0 / jnp.where(x == 0.0, 1.0, x)


@jax.custom_jvp
def _scaled(x: Array, y: Array) -> Array:
    """x y, where y is shared by the neurons, on the last axis, or has one value per neuron.

    The tangent of a shared y is broadcast by a product with ones, so that its transpose is one, and not a sum: XLA's
    sum over a short last axis, fused with its inputs, took 1.4 ms of a gradient of 17 ms on two CPU cores.
    """
    return x * y


@_scaled.defjvp
def _scaled_jvp(primals, tangents):
    (x, y), (x_dot, y_dot) = primals, tangents
    if x.ndim and y.ndim and y.shape[-1] == 1 < x.shape[-1]:
        y_dot = jnp.matmul(y_dot, jnp.ones((1, x.shape[-1]), y.dtype), precision=lax.Precision.HIGHEST)
    return _scaled(x, y), x_dot * y + x * y_dot


@jax.custom_jvp
def ramp(rate: Array, s: Array) -> Array:
    """(1 - exp(-rate s)) / rate, with the limit s for rate zero."""
    x = rate * s
    # Below the smallest normal number the quotient would lose precision, and the limit is exact.
    is_tiny = jnp.abs(x) < jnp.finfo(x.dtype).tiny
    return s * jnp.where(is_tiny, 1.0, -jnp.expm1(-x) / jnp.where(is_tiny, 1.0, x))


@ramp.defjvp
def _ramp_jvp(primals, tangents):
    rate, s = primals
    x = rate * s
    # The derivative with respect to the rate is s² (exp(-x) (1 + x) - 1) / x². Where this cancels, the second factor is
    # computed as the sum of -(-x)^n / (n! (n + 2)); 13 terms are exact in float64, 9 in float32.
    near = jnp.abs(x) < 0.5
    small = jnp.where(near, x, 0.0)
    terms = jnp.zeros_like(x)
    for n in reversed(range(13 if x.dtype == jnp.float64 else 9)):
        terms = terms * small - (-1) ** n / (math.factorial(n) * (n + 2))
    large = jnp.where(near, 1.0, x)
    curvature = jnp.where(near, terms, (jnp.exp(-large) * (1.0 + large) - 1.0) / large**2)
    return ramp(rate, s), s**2 * curvature * tangents[0] + jnp.exp(-x) * tangents[1]
