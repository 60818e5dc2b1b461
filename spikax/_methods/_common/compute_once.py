"""A hint to the compiler."""

import jax.numpy as jnp
from jaxtyping import Array


def compute_once(x: Array, t: Array) -> Array:
    """Returns `x`, with the hint that it be computed only once. `t` is finite.

    XLA fuses cheap operations into every consumer of their result, so it computes shared values repeatedly, on CPUs
    without bound. It does not repeat a division. This division is by one, which XLA cannot know, so it is exact.
    """
    return x / jnp.where(t < jnp.inf, jnp.ones_like(x), 2.0)
