"""Hints to the compiler."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


@jax.custom_jvp
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
    return x / _one(x)


@compute_once.defjvp
def _compute_once_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dot,) = primals, tangents
    found = compute_once(x)
    # The divisor of the result, not of `x`, which would be computed again.
    return found, dot / _one(found) if jnp.issubdtype(x.dtype, jnp.floating) else dot


@jax.custom_jvp
def derivative_once(x: Array) -> Array:
    """Returns `x`, of floats, with the hint that its tangent and its cotangent be computed only once."""
    return x


@derivative_once.defjvp
def _derivative_once_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dot,) = primals, tangents
    return derivative_once(x), dot / _one(x)


def _one(x: Array) -> Array:
    """One, or two where `x` is not finite."""
    return jnp.where(x < jnp.inf, jnp.ones_like(x), 2.0)
