"""Estimates of the crossing or the peak of an event condition g inside a step, by Hermite interpolation.

An estimate only determines the next trial. The accepted point is the end of a full step of the solver, moved to the
crossing by one last Newton step, `Hermite.last_step`, whose error in time is below the resolution of the float type.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array


class Hermite(eqx.Module):
    """The condition and its slope at the start of a step and at the end of a trial of length h."""

    h: Array
    g0: Array
    d0: Array
    g1: Array
    d1: Array
    # Of the terms of g at the end: the rounding error of g is the machine epsilon times this. None if only the crossing
    # and the peaks of the interpolant are asked for.
    magnitude: Array | None = None

    def crosses(self, time_tolerance: Array) -> Array:
        """Whether there is a crossing: g ends clearly above zero; or is zero at an end, and rises there."""
        return self.is_above() | self.ends_on(time_tolerance) | ((self.g0 >= 0) & self.rises(self.d0))

    def is_above(self) -> Array:
        """Whether g is above zero at the end, or is zero up to rounding and still rises."""
        return (self.g1 > self.rounding()) | ((self.g1 >= 0) & self.rises(self.d1))

    def rises(self, d: Array) -> Array:
        """Whether a slope d, at one of the ends, raises g by more than its rounding error.

        The slope, extrapolated linearly from both ends, vanishes after the time d h / (d0 - d1), and raises g by half
        of d times this time, but here by at most d h. If g converges to zero, as at the rheobase, that is too little.
        """
        fades = self.d0 - self.d1
        share = jnp.where(2.0 * fades > d, 0.5 * d / jnp.where(fades > 0, fades, 1.0), 1.0)
        return (d > 0) & (d * self.h * share > self.rounding())

    def rounding(self) -> Array:
        """The rounding error of g."""
        return self.magnitude * (8.0 * jnp.finfo(self.g1.dtype).eps)

    def ends_on(self, time_tolerance: Array) -> Array:
        """Whether a rising g is zero at the end, up to the `time_tolerance` and rounding.

        This matters if a spike arrives at the time of its emission: a neuron spikes before its own spike arrives.
        """
        return self.rises(self.d1) & (jnp.abs(self.g1) <= self.d1 * time_tolerance + self.rounding())

    def has_peak(self) -> Array:
        """Whether g, below zero at the start, rises and falls again."""
        return (self.g0 < 0) & (self.d0 > 0) & (self.d1 < 0)

    def last_step(self, time_tolerance: Array) -> tuple[Array, Array]:
        """The crossing by one Newton step from the end, and whether that step may be the last one.

        `event_time.newton_step` differentiates the last step.

        With the curvature c of g, a step of length s has the error c s² / 2d in time, and derivatives at the end
        instead of the crossing have the relative error c s / d. The former must be below the resolution of the float
        type, and the latter small enough for the gradients, unless g is below its own rounding error already. The limit
        of the latter is the root of the machine epsilon in float32, and 1e-11 in float64: with the root, 1.5e-8, the
        gradients of a first-order method, whose slope at the end is not that of its step, had errors of 3e-6.

        The rest of the state is also extrapolated linearly by s, so the step has to be short even if g is straight, as
        for the condition of a clock. The slope is assumed to change by at least 3 % in the step. Where g exceeds its
        rounding error, this bounds s by 3e-10 h in float64 and by 1e-2 h in float32. There the state has an error of
        s²/2 times its curvature, and a gradient an error proportional to s/h.
        """
        rising = self.d1 > 0
        shift = jnp.where(rising, -self.g1 / jnp.where(rising, self.d1, 1.0), 0.0)
        # The change of the slope over the shift, times h.
        slope_change_h = jnp.abs(shift) * jnp.maximum(jnp.abs(self.d1 - self.d0), 0.03 * self.d1)
        precise = slope_change_h * jnp.abs(shift) <= 0.5 * time_tolerance * self.d1 * self.h
        eps = float(jnp.finfo(self.h.dtype).eps)
        faithful = slope_change_h <= (1e-11 if eps < 1e-12 else eps**0.5) * self.d1 * self.h
        is_within_rounding = jnp.abs(self.g1) <= self.rounding()
        return self.h + shift, rising & precise & (faithful | is_within_rounding)

    def root(self) -> Array:
        """The crossing of the cubic Hermite interpolant, if g ends above zero."""
        cubic, square, d0 = self._coefficients()
        # Newton's method starts at the root of the parabola through both ends with the first slope. With g0 < 0 <= g1
        # there is one between the ends, where the parabola rises. Of its two forms, the one without cancellation: it
        # depends on whether g rises at the start. If g falls there, the parabola opens upwards.
        curvature = self.g1 - self.g0 - d0
        discriminant = jnp.sqrt(jnp.maximum(d0**2 - 4.0 * curvature * self.g0, 0.0))
        falls = (d0 < 0.0) & (curvature > 0.0)
        numerator = jnp.where(falls, discriminant - d0, -2.0 * self.g0)
        denominator = jnp.where(falls, 2.0 * curvature, d0 + discriminant)
        x = numerator / jnp.where(denominator > 0.0, denominator, 1.0)
        for _ in range(2):
            value = ((cubic * x + square) * x + d0) * x + self.g0
            slope = (3.0 * cubic * x + 2.0 * square) * x + d0
            x = jnp.clip(x - value / jnp.where(slope == 0.0, 1.0, slope), 0.0, 1.0)
        return x * self.h

    def peak(self) -> tuple[Array, Array]:
        """The peak of the cubic Hermite interpolant, and g there, if g rises at the start and falls at the end."""
        cubic, square, d0 = self._coefficients()
        # The root of 3 cubic x² + 2 square x + d0 at which the slope changes from + to -. With d0 > 0 > d1 it lies in
        # (0, 1), and `cubic` is negative where `square` is positive. Of its two forms, the one without cancellation.
        discriminant = jnp.sqrt(jnp.maximum(square**2 - 3.0 * cubic * d0, 0.0))
        is_direct = (square > 0.0) & (cubic < 0.0)
        numerator = jnp.where(is_direct, -(square + discriminant), d0)
        denominator = jnp.where(is_direct, 3.0 * cubic, discriminant - square)
        x = jnp.clip(numerator / jnp.where(denominator == 0.0, 1.0, denominator), 0.0, 1.0)
        return x * self.h, ((cubic * x + square) * x + d0) * x + self.g0

    def later_peak(self) -> tuple[Array, Array]:
        """The peak after the end, and g there, if g still rises at the end; from the slopes, by a secant step."""
        curvature = self.d0 - self.d1
        bends = curvature > 0
        beyond = self.h * jnp.where(bends, self.d1 / jnp.where(bends, curvature, 1.0), 0.0)
        return self.h + beyond, self.g1 + 0.5 * beyond * self.d1

    def _coefficients(self) -> tuple[Array, Array, Array]:
        d0, d1, rise = self.d0 * self.h, self.d1 * self.h, self.g1 - self.g0
        return d0 + d1 - 2.0 * rise, 3.0 * rise - 2.0 * d0 - d1, d0
