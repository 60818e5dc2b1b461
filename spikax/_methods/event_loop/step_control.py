"""Step size control."""

import functools
import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float, PyTree

from ..._checks import require, require_instance
from .step import AbstractStepper, Error


# The assumed error of a step for a state of size one is this factor times its crude estimate, raised to the order of
# the error. Measured on random steps of QIF neurons with Tsit5, where the error estimate is usually 0.02 of that: at a
# tolerance of 1e-5, 2.5e-3 of the accepted steps have an error of more than 20 times the tolerance, the worst of 15000
# times. With this factor none of 1e5 has, and the worst error is 15 times the tolerance; 6 % fewer are accepted.
_CRUDE = 0.03

# The allowed error of a step across a bin, even if the tolerance is smaller: the error of the line is larger than that.
_LINE = 1e-8


class StepControl(eqx.Module):
    """Keeps the error of a step below `atol + rtol |state|`, in every leaf of the state.

    The error ratio r of a step is its error divided by the allowed error. The length of the next step is that of this
    one times the factor

        safety r^-e0 r1^-e1 r2^-e2,

    clipped to `factor_min` and `factor_max`, with the ratios r1 and r2 of the previous accepted steps. Without
    tolerances every step has the length `h0`, up to the next stop. A step whose end is not finite is always repeated
    with a shorter length.
    """

    h0: Float[Array, ""]
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float | None = eqx.field(static=True, default=None)
    exponents: tuple[float, ...] = eqx.field(static=True, default=())
    error_order: float = eqx.field(static=True, default=1.0)
    crude_order: float = eqx.field(static=True, default=1.0)
    safety: float = eqx.field(static=True, default=0.9)
    factor_min: float = eqx.field(static=True, default=0.2)
    factor_max: float = eqx.field(static=True, default=5.0)
    h_max: Float[Array, ""] | None = None

    def first_length(self, carried: Array) -> Array:
        """The length of the first trial: `h0`, or, if an earlier simulation carried one on, that."""
        if self.rtol is None:
            return jnp.minimum(carried, self.h0)
        first = jnp.where(jnp.isinf(carried), self.h0, carried)
        return first if self.h_max is None else jnp.minimum(first, self.h_max)

    @property
    def memory(self) -> int:
        """The number of error ratios of earlier steps that it uses."""
        return max(0, len(self.exponents) - 1)

    def error_ratio(self, old: PyTree[Array], new: PyTree[Array], error: Error) -> Array:
        """The largest error ratio of a step in each unit; shape `(batch, units, 1)`.

        It is `inf` if the step is not finite.
        """

        def of_leaf(old, new, estimate, crude_square):
            finite = jnp.isfinite(new)
            if self.rtol is None:
                ratio = jnp.zeros_like(new)
            else:
                allowed = self.atol + self.rtol * jnp.maximum(jnp.abs(old), jnp.abs(new))
                crude = crude_square * (self.rtol / allowed) ** 2
                expected = _CRUDE * crude ** (0.5 * self.error_order / self.crude_order)
                ratio = jnp.maximum(jnp.abs(estimate) / allowed, expected / self.rtol)
                finite &= jnp.isfinite(ratio)
            worst = jnp.where(finite, ratio, jnp.inf)
            return jnp.max(worst, axis=tuple(range(2, worst.ndim))).reshape(*worst.shape[:2], 1)

        ratios = jax.tree.map(of_leaf, old, new, error.estimate, error.crude_square)
        return jax.tree.reduce(jnp.maximum, ratios)

    def across_bin(self, ratio: Array) -> Array:
        """Whether a step with this error ratio may span a bin."""
        return ratio <= (1.0 if self.rtol is None else max(1.0, _LINE / self.rtol))

    def next_length(self, h: Array, ratio: Array, earlier: Float[Array, "memory ..."]) -> Array:
        """The maximal length of the next trial, after one of length `h` with this error ratio."""
        if self.rtol is None:
            return jnp.where(ratio <= 1.0, jnp.minimum(4.0 * h, self.h0), 0.25 * h)
        ratios = (ratio, *earlier)
        powers = sum(jnp.log(jnp.maximum(r, 1e-10)) * -e for r, e in zip(ratios, self.exponents, strict=True))
        # After a rejected step a shorter one, whatever the ratios before it were.
        factor_max = jnp.where(ratio <= 1.0, self.factor_max, self.safety)
        length = h * jnp.clip(self.safety * jnp.exp(powers), self.factor_min, factor_max)
        return length if self.h_max is None else jnp.minimum(length, self.h_max)


def fixed_steps(dt0: Any, dtype: Any) -> StepControl:
    """Step control with the constant step length `dt0`."""
    return StepControl(jnp.asarray(dt0, dtype))


def adaptive_steps(
    stepper: AbstractStepper, controller: diffrax.PIDController, dt0: Any, rate: Array, dtype: Any
) -> StepControl:
    """Step control by a controller of Diffrax, with a first step of length `dt0`, for membranes with this fastest rate.

    At rest every step is exact, of whatever length. But the derivative of a step beyond the stability of the solver
    grows with each such step. So the steps stay within half of the stable length at rest.
    """
    order = float(stepper.error_order if controller.error_order is None else controller.error_order)  # pyright: ignore
    p, i, d = (float(part) for part in (controller.pcoeff, controller.icoeff, controller.dcoeff))
    exponents = (p + i + d) / order, -(p + 2.0 * d) / order, d / order
    while len(exponents) > 1 and exponents[-1] == 0.0:
        exponents = exponents[:-1]
    lengths = [] if controller.dtmax is None else [jnp.asarray(controller.dtmax, dtype)]
    if math.isfinite(stepper.stability):
        # A rate that is not finite tells nothing.
        lengths.append(jnp.where((rate > 0.0) & (rate < jnp.inf), 0.5 * stepper.stability / rate, jnp.inf))
    h_max = functools.reduce(jnp.minimum, lengths) if lengths else None
    h0 = jnp.asarray(dt0, dtype) if h_max is None else jnp.minimum(jnp.asarray(dt0, dtype), h_max)
    return StepControl(
        h0,
        float(controller.rtol),
        float(controller.atol),
        exponents,
        order,
        stepper.crude_order,
        float(controller.safety),
        float(controller.factormin),
        float(controller.factormax),
        h_max,
    )


def require_controller(controller: Any) -> None:
    """Raises `TypeError` or `ValueError` for controllers and options that the event loop does not support."""
    kinds = diffrax.ConstantStepSize, diffrax.PIDController
    hint = "The event loop itself determines its steps to arrivals and spikes."
    require_instance(
        controller, kinds, "stepsize_controller", "`diffrax.ConstantStepSize` or `diffrax.PIDController`", hint
    )
    if not isinstance(controller, diffrax.PIDController):
        return
    hint = "A step that becomes too short ends in `RESULTS.step_too_small`."
    require(controller.dtmin is None, "stepsize_controller.dtmin", "None", controller.dtmin, hint)
    hint = "The error of a step is the maximum over the variables of a neuron."
    is_default = controller.norm is optimistix.rms_norm
    require(is_default, "stepsize_controller.norm", "the default", controller.norm, hint)
    total = controller.pcoeff + controller.icoeff + controller.dcoeff
    hint = "Only then does a larger error shorten the step."
    require(bool(total > 0), "stepsize_controller", "with a positive sum of its coefficients", total, hint)
    for name in ("factormin", "safety"):
        value = getattr(controller, name)
        require(bool(0 < value < 1), f"stepsize_controller.{name}", "between 0 and 1", value)
    for name in ("rtol", "atol"):
        value = getattr(controller, name)
        is_number = isinstance(value, int | float) and value > 0
        require(is_number, f"stepsize_controller.{name}", "a positive number", value)
