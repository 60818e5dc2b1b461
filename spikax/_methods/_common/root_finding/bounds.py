"""Root finding for the condition of a linear neuron, which may oscillate, by bounds of its derivatives.

With the condition g = c·z and z' = A z, the derivative of order k is c Aᵏ⁻¹ z'. Let B be the matrix of the absolute
values of the entries of A, with zero for negative entries of the diagonal. Then |exp(A s)| <= exp(B s) entrywise for
s >= 0. So within a time R, the `horizon`, after a point with the derivative z',

    |g⁽ᵏ⁾| <= |c Aᵏ⁻¹| exp(B R) |z'|.

These bounds hold for every A, and do not depend on the units of the variables.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..flow import AbstractFinder, Interval
from ..matrix_flow import MatrixFlow
from ..small_matrices import applied, dot, exp_minus_one, norm, transposed
from ..vectorized import any_member


class Bounds(AbstractFinder):
    """The search for crossings by bounds. The axes `(batch, units)` of shared coefficients have size one."""

    flow: MatrixFlow
    taylor: Float[Array, "orders all batch units"]  # c Aᵏ / k!: the condition up to the horizon, to rounding
    third: Float[Array, "all batch units"]  # its product with |z'| bounds |g'''| up to the horizon
    fourth: Float[Array, "all batch units"]  # the same for the fourth derivative
    horizon: Float[Array, "batch units"]

    @classmethod
    def of(cls, flow):
        flow = lax.stop_gradient(flow)
        n, axes = len(flow.matrix), (flow.slope.shape[1:], flow.offset.shape, flow.matrix.shape[2:])
        row = jnp.zeros((n, *jnp.broadcast_shapes(*axes)), flow.offset.dtype)
        row = row.at[: flow.variables].set(flow.slope).at[-1].add(flow.offset)
        horizon = horizon_of(flow)
        rows = [row]
        # With |A| R <= 1 in the balanced units, the truncation error is about 1 / 19!, or 1 / 11! in float32.
        for k in range(1, 19 if row.dtype == jnp.float64 else 11):
            rows.append(applied(transposed(flow.matrix), rows[-1]) / k)
        scale = flow.scales[None] / flow.scales[:, None]
        diagonal = jnp.eye(n, dtype=row.dtype)[..., None, None]
        rates = jnp.maximum(jnp.where(diagonal == 1.0, flow.matrix, jnp.abs(flow.matrix)), 0.0)
        grown = exp_minus_one(rates * scale * horizon) / scale
        bounds = (jnp.abs(2.0 * rows[2]), jnp.abs(6.0 * rows[3]))
        third, fourth = (bound + applied(transposed(grown), bound) for bound in bounds)
        return cls(flow, jnp.stack(rows), third, fourth, horizon)

    @property
    def reach(self):
        return jnp.min(self.horizon)

    def starts_above(self, interval):
        return self.flow.condition(interval.v) > 8.0 * self._rounding(interval.v)

    def may_cross(self, interval):
        return self.crosses(interval)

    def crosses(self, interval):
        """The test is exact up to the error of the cubic with g, g' and g'' at the start, and g at the end.

        A function with the fourth derivative f differs from the cubic by f h⁴ x³ (x - 1) / 24 at the time h x. An
        interval longer than the horizon may have any number of crossings.
        """
        flow, h = self.flow, interval.end - interval.start
        speed = applied(flow.matrix, flow.joined(interval.v, interval.x))
        g0, g1 = flow.condition(interval.v), flow.condition(interval.v_end)
        d0, curvature = flow.steepness(speed[..., : flow.variables, :, :]), dot(self.taylor[1], speed)
        third, fourth = dot(self.third, jnp.abs(speed)), dot(self.fourth, jnp.abs(speed))
        peak = _peak_of_cubic(g0, d0 * h, 0.5 * curvature * h**2, g1)
        error = 27.0 / 256.0 / 24.0 * fourth * h**4
        steepest = jnp.abs(d0) + h * (jnp.abs(curvature) + 0.5 * h * third)
        nearly = 8.0 * self._rounding(interval.v_end) + steepest * _nearly(interval)
        highest = jnp.maximum(jnp.maximum(peak, g0), g1)
        may_cross = (highest + error >= -nearly) | (h > self.horizon)
        return self.starts_above(interval) | ((h > 0) & may_cross)

    def crossing(self, interval, wanted):
        """Advances in steps before whose end g stays below zero, by the bound of its third derivative.

        Towards a crossing the steps converge like a third-order method. Near a peak just below zero, the steps shorten
        and lengthen with the distance to it.
        """
        wanted = wanted & self.crosses(interval)
        h = interval.end - interval.start
        time_tolerance = 2.0 * jnp.finfo(h.dtype).eps * (jnp.abs(interval.start) + h)

        def onward(old: _March) -> _March:
            rebases = old.searches & (old.u >= self.horizon)
            old = lax.cond(any_member(jnp.any(rebases)), lambda: self._rebased(interval, old, rebases), lambda: old)
            left = h - old.s
            g, d, curvature = _with_derivatives(old.series, old.u)
            step = _safe_step(
                jnp.minimum(g, -old.rounding), d, curvature, old.third, jnp.minimum(left, self.horizon - old.u)
            )
            # A condition that converges to zero, up to rounding, has not crossed it.
            steep = 2.0 * 8.0 * old.rounding / self.horizon
            is_on = (g > 8.0 * old.rounding) | ((g >= -old.rounding) & (d > steep))
            ends_on = (left <= 0) & (d > steep) & (g >= -8.0 * old.rounding - d * _nearly(interval))
            error = 0.5 * old.third * step.longest * step.u**2
            is_precise = (
                step.reaches
                & ((error <= time_tolerance * step.slope) | (step.u <= time_tolerance))
                & (step.slope > steep)
            )
            found = old.searches & (is_on | ends_on | is_precise)
            # In this form NaN ends the search.
            searches = old.searches & ~found & (left > 0)
            u = jnp.where(is_on | ends_on, 0.0, jnp.where(found, step.u, jnp.maximum(step.u, time_tolerance)))
            moves = old.searches & (left > 0)
            s = jnp.where(moves, jnp.where(u >= left, h, old.s + u), old.s)
            u = jnp.where(moves, jnp.minimum(old.u + u, self.horizon), old.u)
            slope = jnp.where(found, jnp.where(is_on | ends_on, d, step.slope), old.slope)
            return _March(s, u, old.series, old.third, old.rounding, slope, searches, old.found | found, old.steps + 1)

        def goes_on(march: _March) -> Array:
            return any_member(jnp.any(march.searches) & (march.steps < _STEPS))

        zero, never = jnp.zeros_like(h), jnp.full_like(wanted, False)
        start = _March(zero, zero, *self._seen_from(interval.v, interval.x), zero, wanted, never, jnp.int32(0))
        end = lax.while_loop(goes_on, onward, start)
        # A crossing at the end, up to rounding, is moved exactly to the end: a neuron spikes before its own spike
        # arrives.
        nearly = 8.0 * end.rounding + end.slope * _nearly(interval)
        is_at_end = (jnp.abs(self.flow.condition(interval.v_end)) <= nearly) & (
            (h - end.s) * jnp.abs(end.slope) <= nearly
        )
        is_at_end = (end.s >= h) | (is_at_end & ~self.starts_above(interval))
        t = jnp.where(is_at_end, interval.end, jnp.minimum(interval.start + end.s, interval.end))
        # An unfinished search returns a spike at time NaN. This makes the neuron's state NaN, which is reported.
        return jnp.where(end.searches, jnp.nan, t), end.found | end.searches

    def _rebased(self, interval: Interval, old: "_March", rebases: Array) -> "_March":
        """The search with the Taylor series of the condition around the current point, where it `rebases`."""
        v, x = self.flow.after(interval.v, interval.x, old.s)
        new = (jnp.zeros_like(old.u), *self._seen_from(v, x))

        def view(march):
            return march.u, march.series, march.third, march.rounding

        seen = jax.tree.map(lambda new, old: jnp.where(rebases, new, old), new, view(old))
        return eqx.tree_at(view, old, seen)

    def _seen_from(self, v: Array, x: Array) -> tuple[Array, Array, Array]:
        """The Taylor series of the condition around a state, the bound of its third derivative, and its rounding."""
        z = self.flow.joined(v, x)
        speed = applied(self.flow.matrix, z)
        return applied(self.taylor, z), dot(self.third, jnp.abs(speed)), self._rounding(v)

    def _rounding(self, v: Array) -> Array:
        """The scale of the rounding error: the machine epsilon times the magnitude of the condition's terms."""
        flow = self.flow
        return jnp.finfo(v.dtype).eps * (jnp.abs(flow.offset) + dot(jnp.abs(flow.slope), jnp.abs(v)))


class _March(eqx.Module):
    """The state of a search."""

    s: Array  # the time since the start of the interval
    u: Array  # the time since the expansion point of the series
    series: Array
    third: Array
    rounding: Array
    slope: Array  # at the crossing, once it is found
    searches: Array
    found: Array
    steps: Array


# A step is as long as the horizon, except near zero. About ten steps lead to a crossing, and as many past a peak.
_STEPS = 2**14


class _Step(eqx.Module):
    """A step before whose end the condition stays below zero."""

    u: Array
    longest: Array  # the maximal length of the step
    slope: Array  # of the bound of the condition at its zero, if it `reaches` zero
    reaches: Array


def _safe_step(g: Array, d: Array, curvature: Array, third: Array, limit: Array) -> _Step:
    """A step to the first zero of a bound of the condition, which is g < 0 with slope d here; at most to `limit`."""

    def up_to(longest: Array) -> _Step:
        # Within the step the second derivative is below `curve`, so the condition is below a parabola.
        curve = curvature + third * longest
        square = d**2 - 2.0 * g * curve
        slope = jnp.sqrt(jnp.maximum(square, 0.0))
        # Of the two forms of the root, the one without cancellation.
        rising = jnp.where(square >= 0, -2.0 * g / jnp.where(d > 0, d + slope, 1.0), jnp.inf)
        falling = jnp.where(curve > 0, (slope - d) / jnp.where(curve > 0, curve, 1.0), jnp.inf)
        u = jnp.where(d > 0, rising, falling)
        return _Step(jnp.minimum(u, longest), longest, slope, u <= longest)

    return up_to(jnp.minimum(limit, 2.0 * up_to(limit).u))


def _peak_of_cubic(start: Array, slope: Array, curve: Array, end: Array) -> Array:
    """The local maximum of start + slope x + curve x² + rest x³, which is `end` at 1, for x in 0 to 1.

    Without a local maximum there, it returns some value of the polynomial.
    """
    rest = end - start - slope - curve
    root = jnp.sqrt(jnp.maximum(curve**2 - 3.0 * rest * slope, 0.0))
    # The second derivative is negative at this root. Of its two forms, the one without cancellation.
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


def _nearly(interval: Interval) -> Array:
    """The distance from the end of an interval within which a crossing counts as one at the end."""
    return 4.0 * jnp.finfo(interval.end.dtype).eps * jnp.abs(interval.end)


def horizon_of(flow: MatrixFlow) -> Array:
    """The time R for which |A| R is at most one, in the balanced units."""
    scale = flow.scales[None] / flow.scales[:, None]
    largest = norm(flow.matrix * scale)
    return 1.0 / jnp.maximum(largest, jnp.finfo(largest.dtype).tiny)
