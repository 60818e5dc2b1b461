"""How long the next step may be."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


class StepControl(eqx.Module):
    """Keeps the error of a step below `atol + rtol |state|`, in every leaf of the state.

    Without tolerances every step has the length `h0`, up to the next stop. In both cases a step whose end is not
    finite is tried again, shorter.
    """

    h0: Float[Array, ""]
    rtol: float | None = eqx.field(static=True)
    atol: float | None = eqx.field(static=True)
    order: float | None = eqx.field(static=True)

    def error_ratio(self, old: PyTree[Array], new: PyTree[Array], error: PyTree[Array]) -> Array:
        """The error of a step over the allowed one, the largest in the unit; shape `(batch, units, 1)`.

        It is `inf` where the step is not finite.
        """

        def of_leaf(old, new, error):
            finite = jnp.isfinite(new)
            if self.rtol is None:
                ratio = jnp.zeros_like(new)
            else:
                allowed = self.atol + self.rtol * jnp.maximum(jnp.abs(old), jnp.abs(new))
                ratio = jnp.abs(error) / allowed
                finite &= jnp.isfinite(ratio)
            worst = jnp.where(finite, ratio, jnp.inf)
            return jnp.max(worst, axis=tuple(range(2, worst.ndim))).reshape(*worst.shape[:2], 1)

        ratios = jax.tree.map(of_leaf, old, new, error)
        return jax.tree.reduce(jnp.maximum, ratios)

    def next_length(self, h: Array, ratio: Array) -> Array:
        """How long the next trial may be, after one of length `h` with this error ratio."""
        if self.order is None or self.rtol is None:
            return jnp.where(ratio <= 1.0, jnp.minimum(4.0 * h, self.h0), 0.25 * h)
        # The error grows as h to the power of the order; 0.9 leaves room for what the estimate does not see.
        factor = 0.9 * jnp.exp(jnp.log(jnp.maximum(ratio, 1e-10)) * (-1.0 / self.order))
        return h * jnp.clip(factor, 0.2, 5.0)
