"""A hint to the compiler."""

import jax.numpy as jnp
from jaxtyping import Array


def compute_once(x: Array) -> Array:
    """Returns `x`, of floats, small integers or booleans, with the hint that it be computed only once.

    XLA fuses cheap operations into every consumer of their result, so it computes shared values repeatedly, on CPUs
    without bound. It does not repeat a division. This division is by one, which XLA cannot know, so it is exact;
    infinity and NaN are divided by two. The divisor has the shape of `x`: for one that is broadcast, XLA would multiply
    by its reciprocal, and repeat that.

    `lax.optimization_barrier` does not do: XLA removes it before it fuses, and gradients of the event loop took as long
    as without a hint, up to twice as long as with this one.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return compute_once(x.astype(jnp.float32)).astype(x.dtype)
    return x / jnp.where(x < jnp.inf, jnp.ones_like(x), 2.0)
