"""Where the condition of a linear neuron crosses zero, though it may oscillate: by bounds of its derivatives.

With the condition g = c·z and z' = A z, the derivative of order k is c Aᵏ⁻¹ z'. Let B hold the sizes of the entries of
A, but zero for those below zero on its diagonal. Then |exp(A s)| <= exp(B s) entry by entry, and so, for a time R, the
`reach`, after a point with the derivative z',

    |g⁽ᵏ⁾| <= |c Aᵏ⁻¹| exp(B R) |z'|.

Such bounds hold for every A, and do not depend on the units of the variables.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .exponential import applied, dot, exp_minus_one, size, transposed
from .linear import Linear
from .motion import AbstractFinder, Stretch


class Bounds(AbstractFinder):
    """The search for crossings by bounds; rows c Aᵏ, as all coefficients, where neurons differ with their axes."""

    motion: Linear
    taylor: Float[Array, "orders all batch units"]  # c Aᵏ / k!: the condition up to the reach, to rounding
    third: Float[Array, "all batch units"]  # times |z'|, a bound of |g'''| up to the reach
    fourth: Float[Array, "all batch units"]
    reach: Float[Array, "batch units"]

    @classmethod
    def of(cls, motion):
        motion = lax.stop_gradient(motion)
        n, axes = len(motion.matrix), (motion.slope.shape[1:], motion.offset.shape, motion.matrix.shape[2:])
        row = jnp.zeros((n, *jnp.broadcast_shapes(*axes)), motion.offset.dtype)
        row = row.at[: motion.variables].set(motion.slope).at[-1].add(motion.offset)
        reach = reach_of(motion)
        rows = [row]
        # With |A| R <= 1, what is left out is below 1 / 19!, or 1 / 11!.
        for k in range(1, 19 if row.dtype == jnp.float64 else 11):
            rows.append(applied(transposed(motion.matrix), rows[-1]) / k)
        scale = motion.units[None] / motion.units[:, None]
        diagonal = jnp.eye(n, dtype=row.dtype)[..., None, None]
        rates = jnp.maximum(jnp.where(diagonal == 1.0, motion.matrix, jnp.abs(motion.matrix)), 0.0)
        grown = exp_minus_one(rates * scale * reach) / scale
        bounds = (jnp.abs(2.0 * rows[2]), jnp.abs(6.0 * rows[3]))
        third, fourth = (bound + applied(transposed(grown), bound) for bound in bounds)
        return cls(motion, jnp.stack(rows), third, fourth, reach)

    def starts_above(self, stretch):
        return self.motion.condition(stretch.v) > 8.0 * self._lost(stretch.v)

    def may_cross(self, stretch):
        return self.crosses(stretch)

    def crosses(self, stretch):
        """Up to the error of the cubic with g and its first two derivatives at the start, and g at the end.

        A function with the fourth derivative f differs from it by f h⁴ x³ (x - 1) / 24 at the time h x. In a stretch
        that is longer than the reach, there may be any number of crossings.
        """
        motion, h = self.motion, stretch.end - stretch.start
        speed = applied(motion.matrix, motion.joined(stretch.v, stretch.x))
        g0, g1 = motion.condition(stretch.v), motion.condition(stretch.v_end)
        d0, bend = motion.steepness(speed[..., : motion.variables, :, :]), dot(self.taylor[1], speed)
        third, fourth = dot(self.third, jnp.abs(speed)), dot(self.fourth, jnp.abs(speed))
        peak = _peak_of_cubic(g0, d0 * h, 0.5 * bend * h**2, g1)
        error = 27.0 / 256.0 / 24.0 * fourth * h**4
        steepest = jnp.abs(d0) + h * (jnp.abs(bend) + 0.5 * h * third)
        nearly = 8.0 * self._lost(stretch.v_end) + steepest * _nearly(stretch)
        highest = jnp.maximum(jnp.maximum(peak, g0), g1)
        may_cross = (highest + error >= -nearly) | (h > self.reach)
        return self.starts_above(stretch) | ((h > 0) & may_cross)

    def crossing(self, stretch, wanted):
        """From one time to the next before which g stays below zero, as the bound of its third derivative shows.

        At a crossing the steps end on it, as those of a third-order method. A peak just below zero is passed in steps
        that shorten and lengthen with the distance to it.
        """
        h = stretch.end - stretch.start
        instant = 2.0 * jnp.finfo(h.dtype).eps * (jnp.abs(stretch.start) + h)

        def onward(old: _March) -> _March:
            rebases = old.searches & (old.u >= self.reach)
            old = lax.cond(jnp.any(rebases), lambda: self._rebased(stretch, old, rebases), lambda: old)
            left = h - old.s
            g, d, bend = _with_derivatives(old.series, old.u)
            step = _safe_step(jnp.minimum(g, -old.lost), d, bend, old.third, jnp.minimum(left, self.reach - old.u))
            # One that settles on zero, but for rounding, has not crossed it.
            steep = 2.0 * 8.0 * old.lost / self.reach
            is_on = (g > 8.0 * old.lost) | ((g >= -old.lost) & (d > steep))
            ends_on = (left <= 0) & (d > steep) & (g >= -8.0 * old.lost - d * _nearly(stretch))
            error = 0.5 * old.third * step.longest * step.u**2
            is_precise = step.reaches & ((error <= instant * step.slope) | (step.u <= instant)) & (step.slope > steep)
            found = old.searches & (is_on | ends_on | is_precise)
            # Written so that NaN ends it.
            searches = old.searches & ~found & (left > 0)
            u = jnp.where(is_on | ends_on, 0.0, jnp.where(found, step.u, jnp.maximum(step.u, instant)))
            moves = old.searches & (left > 0)
            s = jnp.where(moves, jnp.where(u >= left, h, old.s + u), old.s)
            u = jnp.where(moves, jnp.minimum(old.u + u, self.reach), old.u)
            slope = jnp.where(found, jnp.where(is_on | ends_on, d, step.slope), old.slope)
            return _March(s, u, old.series, old.third, old.lost, slope, searches, old.found | found, old.steps + 1)

        def goes_on(march: _March) -> Array:
            return jnp.any(march.searches) & (march.steps < _STEPS)

        zero, never = jnp.zeros_like(h), jnp.full_like(wanted, False)
        start = _March(zero, zero, *self._seen_from(stretch.v, stretch.x), zero, wanted, never, jnp.int32(0))
        end = lax.while_loop(goes_on, onward, start)
        # A neuron spikes before it hears itself: a crossing at the end but for rounding is one at the end.
        nearly = 8.0 * end.lost + end.slope * _nearly(stretch)
        is_at_end = (jnp.abs(self.motion.condition(stretch.v_end)) <= nearly) & (
            (h - end.s) * jnp.abs(end.slope) <= nearly
        )
        is_at_end = (end.s >= h) | (is_at_end & ~self.starts_above(stretch))
        t = jnp.where(is_at_end, stretch.end, jnp.minimum(stretch.start + end.s, stretch.end))
        # A search that has not come to its end is a spike at no time: it makes the neuron's state NaN, and is reported.
        return jnp.where(end.searches, jnp.nan, t), end.found | end.searches

    def _rebased(self, stretch: Stretch, old: "_March", rebases: Array) -> "_March":
        """Where it `rebases`, with the series of the condition from here on."""
        v, x = self.motion.after(stretch.v, stretch.x, old.s)
        new = (jnp.zeros_like(old.u), *self._seen_from(v, x))

        def view(march):
            return march.u, march.series, march.third, march.lost

        seen = jax.tree.map(lambda new, old: jnp.where(rebases, new, old), new, view(old))
        return eqx.tree_at(view, old, seen)

    def _seen_from(self, v: Array, x: Array) -> tuple[Array, Array, Array]:
        """The series of the condition from here on, the bound of its third derivative, and its rounding."""
        z = self.motion.joined(v, x)
        speed = applied(self.motion.matrix, z)
        return applied(self.taylor, z), dot(self.third, jnp.abs(speed)), self._lost(v)

    def _lost(self, v: Array) -> Array:
        """How far the condition may be off."""
        motion = self.motion
        return jnp.finfo(v.dtype).eps * (jnp.abs(motion.offset) + dot(jnp.abs(motion.slope), jnp.abs(v)))


class _March(eqx.Module):
    """How far a search has come: the time since the start, and since where the series is from."""

    s: Array
    u: Array
    series: Array
    third: Array
    lost: Array
    slope: Array  # at a crossing that is found
    searches: Array
    found: Array
    steps: Array


# A step is as long as the reach, but near zero. Some ten steps lead to a crossing, and as many past a peak.
_STEPS = 2**14


class _Step(eqx.Module):
    """A step before whose end the condition stays below zero."""

    u: Array
    longest: Array  # that it could have been
    slope: Array  # of the bound of the condition, where it `reaches` zero
    reaches: Array


def _safe_step(g: Array, d: Array, bend: Array, third: Array, limit: Array) -> _Step:
    """Up to the first zero of a bound of the condition, which is g < 0 with the slope d here; at most up to `limit`."""

    def up_to(longest: Array) -> _Step:
        # Until then the second derivative stays below this, and so the condition below a parabola.
        curve = bend + third * longest
        square = d**2 - 2.0 * g * curve
        slope = jnp.sqrt(jnp.maximum(square, 0.0))
        # Of the two forms of the root, the one without a difference of numbers that are nearly equal.
        rising = jnp.where(square >= 0, -2.0 * g / jnp.where(d > 0, d + slope, 1.0), jnp.inf)
        falling = jnp.where(curve > 0, (slope - d) / jnp.where(curve > 0, curve, 1.0), jnp.inf)
        u = jnp.where(d > 0, rising, falling)
        return _Step(jnp.minimum(u, longest), longest, slope, u <= longest)

    return up_to(jnp.minimum(limit, 2.0 * up_to(limit).u))


def _peak_of_cubic(start: Array, slope: Array, curve: Array, end: Array) -> Array:
    """The highest value that start + slope x + curve x² + rest x³ turns at for x in 0 to 1, with `end` at 1.

    Where it does not turn there, some value that it takes.
    """
    rest = end - start - slope - curve
    root = jnp.sqrt(jnp.maximum(curve**2 - 3.0 * rest * slope, 0.0))
    # The second derivative is negative at this root. Of its two forms, the one without a difference.
    is_direct = curve > 0
    numerator = jnp.where(is_direct, -(curve + root), slope)
    denominator = jnp.where(is_direct, 3.0 * rest, root - curve)
    x = jnp.clip(numerator / jnp.where(denominator == 0.0, 1.0, denominator), 0.0, 1.0)
    return ((rest * x + curve) * x + slope) * x + start


def _with_derivatives(series: Array, u: Array) -> tuple[Array, Array, Array]:
    """A polynomial and its first two derivatives."""
    value, first, second = series[-1], jnp.zeros_like(u), jnp.zeros_like(u)
    for coefficient in series[-2::-1]:
        second = second * u + first
        first = first * u + value
        value = value * u + coefficient
    return value, first, 2.0 * second


def _nearly(stretch: Stretch) -> Array:
    """How far from the end of a stretch a crossing counts as one at the end."""
    return 4.0 * jnp.finfo(stretch.end.dtype).eps * jnp.abs(stretch.end)


def reach_of(motion: Linear) -> Array:
    """The time up to which |A| times it is at most one."""
    scale = motion.units[None] / motion.units[:, None]
    norm = size(motion.matrix * scale)
    return 1.0 / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
