"""LIF neurons in discrete time, with surrogate gradients: what the baselines have in common.

In steps of `step` ms, with the decays `a = exp(-step / tau)` and the weighted input `x`,

    i[t] = a_s i[t-1] + x[t],    v[t] = a_m v[t-1] + (1 - a_m) i[t],    s[t] = v[t] > 1,

and where `s` is 1, `v` is then set to 0. In the backward pass the derivative of `s` is `1 / (1 + k |v - 1|)^2`, that of
a fast sigmoid.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp


STEEPNESS = 10.0


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def spike(v: jax.Array, steepness: float = STEEPNESS) -> jax.Array:
    """1 above zero, else 0."""
    return (v > 0.0).astype(v.dtype)


@spike.defjvp
def _(steepness, primals, tangents):
    (v,), (dv,) = primals, tangents
    return spike(v, steepness), dv / (1.0 + steepness * jnp.abs(v)) ** 2


class Decays(NamedTuple):
    """The decays of the voltage and of the current in a step."""

    m: float
    s: float

    @classmethod
    def of(cls, step: float, tau_m: float, tau_s: float) -> "Decays":
        return cls(math.exp(-step / tau_m), math.exp(-step / tau_s))


class Leaky(NamedTuple):
    """Leaky integrators: their voltages and currents."""

    v: jax.Array
    i: jax.Array

    @classmethod
    def at_rest(cls, *shape: int) -> "Leaky":
        return cls(jnp.zeros(shape), jnp.zeros(shape))

    def after(self, received: jax.Array, decay: Decays) -> "Leaky":
        """After a step."""
        i = decay.s * self.i + received
        return Leaky(decay.m * self.v + (1.0 - decay.m) * i, i)

    def fired(self, steepness: float = STEEPNESS) -> tuple["Leaky", jax.Array]:
        """The neurons after their spikes, and the spikes."""
        s = spike(self.v - 1.0, steepness)
        return Leaky(self.v * (1.0 - s), self.i), s
