"""Where an event condition g crosses zero, or peaks, inside a step: estimates from its values and slopes.

An estimate only says where to try next. What is accepted is always the end of a full step of the solver.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array


class Ends(eqx.Module):
    """The condition and its slope at the start of a step, and a time h later at the end of a trial."""

    h: Array
    g0: Array
    d0: Array
    g1: Array
    d1: Array
    size: Array  # of what g is computed from at the end: g is exact up to the float's precision times this

    def crosses(self, instant: Array) -> Array:
        """Whether there is a crossing: g ends on zero or above, or starts on it, and rises."""
        return self.is_above() | self.ends_on(instant) | ((self.g0 >= 0) & self.rises(self.d0))

    def is_above(self) -> Array:
        """Whether g has risen above zero at the end; where it is zero but for rounding, whether it still rises."""
        return (self.g1 > self.rounding()) | ((self.g1 >= 0) & self.rises(self.d1))

    def rises(self, d: Array) -> Array:
        """Whether a slope d, at one of the ends, takes g on by more than rounding.

        The slopes at both ends tell how long it lasts. One that settles on zero, as at the rheobase, lasts too shortly.
        """
        fades = self.d0 - self.d1
        lasts = jnp.where(2.0 * fades > d, 0.5 * d / jnp.where(fades > 0, fades, 1.0), 1.0)
        return (d > 0) & (d * self.h * lasts > self.rounding())

    def rounding(self) -> Array:
        """How far g may be off."""
        return 8.0 * jnp.finfo(self.g1.dtype).eps * self.size

    def ends_on(self, instant: Array) -> Array:
        """Whether a rising g is zero at the end, up to what an `instant` and rounding may change.

        It matters where a spike arrives at the time at which it was emitted: a neuron spikes before it hears itself.
        """
        return self.rises(self.d1) & (jnp.abs(self.g1) <= self.d1 * instant + self.rounding())

    def has_peak(self) -> Array:
        """Whether g, below zero at the start, rises and falls again."""
        return (self.g0 < 0) & (self.d0 > 0) & (self.d1 < 0)

    def newton(self, instant: Array) -> tuple[Array, Array]:
        """The crossing by one Newton step from the end, and whether that step is the last one.

        With the curvature c of g, a step of length s has the error c s² / 2d in time, and what is differentiated at
        the end in place of the crossing is wrong by the ratio c s / d. The first must be lost in the float, and the
        second be small enough for the gradients, unless g is lost in its own rounding already: in float32 the root of
        the float's precision, and in float64 1e-11, as with that root, 1.5e-8, a method of first order, whose slope
        at the end is not that of its step, had gradients wrong by 3e-6.

        The rest of the state goes along a straight line for the length s too: the step has to be short even where g is
        straight, as the condition of a clock is. It is taken to bend by 3 % of its slope in the step at least, which
        bounds s by 3e-10 h in float64, and by 1e-2 h in float32: there the state is off by s²/2 times its curvature,
        and a gradient by a share of s/h.
        """
        rising = self.d1 > 0
        shift = jnp.where(rising, -self.g1 / jnp.where(rising, self.d1, 1.0), 0.0)
        bend = jnp.abs(shift) * jnp.maximum(jnp.abs(self.d1 - self.d0), 0.03 * self.d1)  # times the length of the step
        precise = bend * jnp.abs(shift) <= 0.5 * instant * self.d1 * self.h
        eps = float(jnp.finfo(self.h.dtype).eps)
        faithful = bend <= (1e-11 if eps < 1e-12 else eps**0.5) * self.d1 * self.h
        is_lost = jnp.abs(self.g1) <= self.rounding()
        return self.h + shift, rising & precise & (faithful | is_lost)

    def root(self) -> Array:
        """The crossing of the cubic Hermite interpolant, where g ends above zero."""
        cubic, square, d0 = self._coefficients()
        # It starts at the root of the parabola through both ends with the first slope. With g0 < 0 <= g1 there is one
        # between them, on its rising side: this is the form of it that does not cancel.
        bend = self.g1 - self.g0 - d0
        start = d0 + jnp.sqrt(jnp.maximum(d0**2 - 4.0 * bend * self.g0, 0.0))
        x = -2.0 * self.g0 / jnp.where(start > 0.0, start, 1.0)
        for _ in range(2):
            value = ((cubic * x + square) * x + d0) * x + self.g0
            slope = (3.0 * cubic * x + 2.0 * square) * x + d0
            x = jnp.clip(x - value / jnp.where(slope == 0.0, 1.0, slope), 0.0, 1.0)
        return x * self.h

    def peak(self) -> tuple[Array, Array]:
        """The peak of the cubic Hermite interpolant, and g there, where g rises first and falls at the end."""
        cubic, square, d0 = self._coefficients()
        # The root of 3 cubic x² + 2 square x + d0 at which the slope turns from + to -. With d0 > 0 > d1 it lies in
        # (0, 1), and `cubic` is negative where `square` is positive. Of its two forms, take the one without a
        # difference of numbers that are nearly equal.
        discriminant = jnp.sqrt(jnp.maximum(square**2 - 3.0 * cubic * d0, 0.0))
        is_direct = (square > 0.0) & (cubic < 0.0)
        numerator = jnp.where(is_direct, -(square + discriminant), d0)
        denominator = jnp.where(is_direct, 3.0 * cubic, discriminant - square)
        x = jnp.clip(numerator / jnp.where(denominator == 0.0, 1.0, denominator), 0.0, 1.0)
        return x * self.h, ((cubic * x + square) * x + d0) * x + self.g0

    def later_peak(self) -> tuple[Array, Array]:
        """The peak after the end, and g there, where g still rises at the end; from the slopes, by a secant."""
        bend = self.d0 - self.d1
        bends = bend > 0
        beyond = self.h * jnp.where(bends, self.d1 / jnp.where(bends, bend, 1.0), 0.0)
        return self.h + beyond, self.g1 + 0.5 * beyond * self.d1

    def _coefficients(self) -> tuple[Array, Array, Array]:
        d0, d1, rise = self.d0 * self.h, self.d1 * self.h, self.g1 - self.g0
        return d0 + d1 - 2.0 * rise, 3.0 * rise - 2.0 * d0 - d1, d0
