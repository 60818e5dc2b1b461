"""How long the next step may be."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .step import Error


# How much of its crude estimate, raised to the order of the error, a step is held to be off, for a state of size one.
# Measured on random steps of QIF neurons under Tsit5, where the error estimate is usually 0.02 of that: at a tolerance
# of 1e-5, of the accepted steps 2.5e-3 are off by more than twenty times the tolerance, the worst by 15000 times. With
# this factor none of 1e5 is, and the worst by 15 times; 6 % fewer are accepted.
_CRUDE = 0.03

# What a step across a cell may be off, even where the tolerance is smaller: the line it sees is itself off by more.
_LINE = 1e-8


class StepControl(eqx.Module):
    """Keeps the error of a step below `atol + rtol |state|`, in every leaf of the state.

    Without tolerances every step has the length `h0`, up to the next stop. In both cases a step whose end is not
    finite is tried again, shorter.
    """

    h0: Float[Array, ""]
    rtol: float | None = eqx.field(static=True)
    atol: float | None = eqx.field(static=True)
    order: float | None = eqx.field(static=True)
    crude_order: float = eqx.field(static=True, default=1.0)

    def error_ratio(self, old: PyTree[Array], new: PyTree[Array], error: Error) -> Array:
        """The error of a step over the allowed one, the largest in the unit; shape `(batch, units, 1)`.

        It is `inf` where the step is not finite.
        """

        def of_leaf(old, new, estimate, crude_square):
            finite = jnp.isfinite(new)
            if self.rtol is None or self.order is None:
                ratio = jnp.zeros_like(new)
            else:
                allowed = self.atol + self.rtol * jnp.maximum(jnp.abs(old), jnp.abs(new))
                crude = crude_square * (self.rtol / allowed) ** 2
                expected = _CRUDE * crude ** (0.5 * self.order / self.crude_order)
                ratio = jnp.maximum(jnp.abs(estimate) / allowed, expected / self.rtol)
                finite &= jnp.isfinite(ratio)
            worst = jnp.where(finite, ratio, jnp.inf)
            return jnp.max(worst, axis=tuple(range(2, worst.ndim))).reshape(*worst.shape[:2], 1)

        ratios = jax.tree.map(of_leaf, old, new, error.estimate, error.crude_square)
        return jax.tree.reduce(jnp.maximum, ratios)

    def across_cell(self, ratio: Array) -> Array:
        """Whether a step with this error ratio may span a cell."""
        return ratio <= (1.0 if self.rtol is None else max(1.0, _LINE / self.rtol))

    def next_length(self, h: Array, ratio: Array) -> Array:
        """How long the next trial may be, after one of length `h` with this error ratio."""
        if self.order is None or self.rtol is None:
            return jnp.where(ratio <= 1.0, jnp.minimum(4.0 * h, self.h0), 0.25 * h)
        # The error grows as h to the power of the order; 0.9 leaves room for what the estimate does not see.
        factor = 0.9 * jnp.exp(jnp.log(jnp.maximum(ratio, 1e-10)) * (-1.0 / self.order))
        return h * jnp.clip(factor, 0.2, 5.0)
