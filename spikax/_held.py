"""A hint to the compiler."""

import jax.numpy as jnp
from jaxtyping import Array


def held(x: Array, t: Array) -> Array:
    """`x`, computed once; `t` is finite.

    XLA fuses cheap operations into every consumer of their result, and so computes what many share many times over,
    on CPUs without bound. It does not repeat a division. This one is by one, which XLA cannot know; it is exact.
    """
    return x / jnp.where(t < jnp.inf, jnp.ones_like(x), 2.0)
