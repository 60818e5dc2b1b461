"""Root finding for the condition of a neuron with one variable and one filter, whose peak has a closed form.

The slope of the condition is D(t) = exp(-rate t) (D(0) - K ramp(decay - rate, t)) with K = slope decay gain x. So it
changes its sign at most once, at a time with a closed form. In an interval the condition therefore rises at most once:
up to a peak, from a trough on, or throughout.

A condition that is zero up to rounding has crossed only if it is steep, so that a short time later it would be clearly
above zero. A condition that converges to zero, as at the rheobase, has not crossed.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..flow import AbstractFinder, Interval
from ..scalar_flow import ScalarFlow
from ..vectorized import any_member
from .hermite import Hermite


class Peaks(AbstractFinder):
    """The search for crossings by the peaks of the conditions."""

    flow: ScalarFlow

    @classmethod
    def of(cls, flow):
        return cls(flow)

    @property
    def reach(self):
        # A cubic interpolant then predicts crossings well.
        fastest = jnp.max(jnp.abs(self.flow.rate) + jnp.abs(self.flow.decay))
        return jnp.where(fastest > 0, 0.25 / jnp.where(fastest > 0, fastest, 1.0), jnp.inf)

    def starts_above(self, interval):
        return self.flow.condition(interval.v) > _rounding(self.flow, interval)

    def crosses(self, interval):
        return _rise(self.flow, interval).reaches | self.starts_above(interval)

    def may_cross(self, interval):
        """As `crosses`, with bounds in place of the peak and the slopes, without exponentials or logarithms."""
        flow, h = self.flow, interval.end - interval.start
        d, wait, y = flow.turn(interval.v, interval.x)
        # The time of the peak, -log(1 - y) wait / y, is at least wait / (1 - y / 2).
        peaks = (flow.slope * d > 0) & (wait > 0) & (y < 1) & (wait <= 1.01 * h * (1.0 - 0.5 * y))
        highest = flow.condition(interval.v + flow.excursion(interval.v, interval.x, h))
        rounding = _rounding(flow, interval)
        most = jnp.abs(flow.rate * interval.v_end) + jnp.abs(flow.gain * interval.x) + jnp.abs(flow.constant)
        nearly = rounding + jnp.abs(flow.slope) * most * _time_tolerance(interval)
        # The bounds do not hold if v or x grows autonomously.
        is_bound = (flow.rate >= 0) & (flow.decay >= 0)
        is_above = (flow.condition(interval.v_end) >= -nearly) | self.starts_above(interval)
        return is_above | (peaks & (highest >= -rounding)) | ~is_bound

    def crossing(self, interval, wanted):
        flow, rise = self.flow, _rise(self.flow, interval)
        at_once, rounding = self.starts_above(interval), _rounding(self.flow, interval)
        wanted = wanted & (rise.reaches | at_once)
        searches = wanted & ~at_once & ~rise.ends_on
        s = _root(flow, interval, rise, searches)
        s = jnp.where(rise.ends_on, interval.end - interval.start, jnp.where(at_once, 0.0, s))
        v, x = flow.after(interval.v, interval.x, s)
        is_sure = at_once | rise.ends_on | (rise.ends.g1 > rounding)
        found = wanted & (is_sure | _is_steep(flow, interval, flow.slope * flow.speed(v, x)))
        t = jnp.where(rise.ends_on & ~at_once, interval.end, jnp.minimum(interval.start + s, interval.end))
        return jnp.where(found, t, interval.end), found


class _Rise(eqx.Module):
    """The part of an interval in which the condition rises, if it `exists`. `ends` counts times from `low`."""

    low: Float[Array, "..."]  # the start of the rise, since the start of the interval
    ends: Hermite
    exists: Bool[Array, "..."]
    ends_on: Bool[Array, "..."]  # at the end of the interval the condition is zero, up to rounding, and steep

    @property
    def reaches(self) -> Bool[Array, "..."]:
        """Whether the condition reaches zero."""
        return (self.exists & (self.ends.g1 >= 0)) | self.ends_on


def _rise(flow: ScalarFlow, interval: Interval) -> _Rise:
    h = interval.end - interval.start
    s, v_turn, turns = _turn(flow, interval)
    d0 = flow.slope * flow.speed(interval.v, interval.x)
    # If the slope is zero at the start, the filter determines its sign.
    falls = (d0 < 0) | ((d0 == 0) & (flow.slope * flow.decay * flow.gain * interval.x >= 0))
    peaks, dips = turns & ~falls, turns & falls
    d1 = flow.slope * flow.speed(interval.v_end, interval.x * jnp.exp(-flow.decay * h))
    g0, g_turn, g1 = (flow.condition(v) for v in (interval.v, v_turn, interval.v_end))
    low, high = jnp.where(dips, s, 0.0), jnp.where(peaks, s, h)
    g_low, d_low = jnp.where(dips, g_turn, g0), jnp.where(dips, 0.0, d0)
    ends = Hermite(high - low, g_low, d_low, jnp.where(peaks, g_turn, g1), jnp.where(peaks, 0.0, d1))
    nearly = jnp.abs(g1) <= d1 * _time_tolerance(interval) + _rounding(flow, interval)
    ends_on = ~peaks & (g1 < 0) & nearly & _is_steep(flow, interval, d1)
    return _Rise(low, ends, ~falls | dips, ends_on)


def _turn(flow: ScalarFlow, interval: Interval) -> tuple[Array, Array, Array]:
    """The time at which the condition turns, v there, and whether it turns in the interval."""
    _, wait, y = flow.turn(interval.v, interval.x)
    s, v = flow.peak(interval.v, interval.x)
    return s, v, (wait > 0) & (y < 1) & (s < interval.end - interval.start)


def _rounding(flow: ScalarFlow, interval: Interval) -> Array:
    """The rounding error of the condition."""
    v = jnp.maximum(jnp.abs(interval.v), jnp.abs(interval.v_end))
    return 8.0 * jnp.finfo(v.dtype).eps * (jnp.abs(flow.offset) + jnp.abs(flow.slope) * v)


def _is_steep(flow: ScalarFlow, interval: Interval, d: Array) -> Array:
    """Whether a condition with the slope d exceeds its rounding error before the slope can vanish.

    A condition -r that converges to zero has at most the slope r max(rate, decay), so it is not steep.
    """
    return d > 2.0 * _rate_bound(flow) * _rounding(flow, interval)


def _rate_bound(flow: ScalarFlow) -> Array:
    return jnp.abs(flow.rate) + jnp.abs(flow.decay)


def _time_tolerance(interval: Interval) -> Array:
    """The distance from the end of an interval within which a crossing counts as one at the end.

    This matters if a spike arrives at the time of its emission: a neuron spikes before its own spike arrives.
    """
    return 4.0 * jnp.finfo(interval.end.dtype).eps * jnp.abs(interval.end)


class _Bracket(eqx.Module):
    """The search for a crossing between `low` and `high`, measured from the start of the interval."""

    s: Array
    low: Array
    high: Array
    searches: Array
    tries: Array


# After six tries, every other one halves the bracket. After this many, it is as short as float64 can resolve.
_TRIES = 128


def _root(flow: ScalarFlow, interval: Interval, rise: _Rise, wanted: Array) -> Array:
    """The crossing on the rise, since the start of the interval; the start of the rise if the condition is >= 0 there.

    The result is not finite if the inputs are not.
    """
    ends, low, high = rise.ends, rise.low, rise.low + rise.ends.h
    s = low + jnp.where(ends.g0 >= 0, 0.0, ends.root())
    time_tolerance = 2.0 * jnp.finfo(s.dtype).eps * (jnp.abs(interval.start) + high)
    rate_bound = _rate_bound(flow)

    def refine(old: _Bracket) -> _Bracket:
        v, x = flow.after(interval.v, interval.x, old.s)
        speed = flow.speed(v, x)
        g, d = flow.condition(v), flow.slope * speed
        curvature = -flow.slope * (flow.gain * flow.decay * x + flow.rate * speed)
        low, high = jnp.where(g < 0, old.s, old.low), jnp.where(g < 0, old.high, old.s)
        # The root of the parabola with the value, slope and curvature here, where the parabola rises.
        slope = jnp.sqrt(jnp.maximum(d**2 - 2.0 * g * curvature, 0.0))
        inner = d + slope
        new = old.s - 2.0 * g / jnp.where(inner > 0, inner, 1.0)
        # With a margin, since rounding may change the sign of g.
        strays = ~((new >= low - time_tolerance) & (new <= high + time_tolerance)) | (inner <= 0)
        halves = strays | ((old.tries > 6) & (old.tries % 2 == 1))
        new = jnp.where(halves, low + 0.5 * (high - low), jnp.clip(new, low, high))
        # The error of the parabola is the third derivative, over six, times the cube of the step.
        step = jnp.abs(new - old.s)
        third = rate_bound * (jnp.abs(curvature) + rate_bound * jnp.abs(d))
        is_precise = ~halves & (third * step**3 <= time_tolerance * slope)
        # Near a peak that barely reaches zero, g is below its own rounding error in a wide interval.
        is_within_rounding = jnp.abs(g) <= jnp.finfo(g.dtype).eps * (jnp.abs(flow.offset) + jnp.abs(flow.slope * v))
        done = is_precise | (step <= time_tolerance) | (high - low <= time_tolerance) | is_within_rounding
        reached = jnp.where(old.searches & ~is_within_rounding, new, old.s)
        return _Bracket(reached, low, high, old.searches & ~done, old.tries + 1)

    def goes_on(bracket: _Bracket) -> Array:
        return any_member(jnp.any(bracket.searches) & (bracket.tries < _TRIES))

    searches = wanted & (ends.g0 < 0) & (ends.h > 0)
    return lax.while_loop(goes_on, refine, _Bracket(s, low, high, searches, jnp.int32(0))).s
