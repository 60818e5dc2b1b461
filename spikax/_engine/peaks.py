"""Where the condition of a neuron with one variable and one filter crosses zero: its peak is known in closed form.

The slope of the condition is D(t) = exp(-rate t) (D(0) - K ramp(decay - rate, t)) with K = slope decay gain x. So it
changes its sign once at most, and when is known in closed form. In a stretch the condition therefore rises once at
most: up to a peak, from a trough on, or all the way.

A condition that is zero but for its rounding has crossed only where it is steep, so that a short time later it would be
above zero beyond doubt. One that settles on zero, as at the rheobase, has not.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .affine import Affine
from .crossing import Ends
from .motion import AbstractFinder, Stretch


class Peaks(AbstractFinder):
    """The search for crossings by the peaks of the conditions."""

    affine: Affine

    @classmethod
    def of(cls, motion):
        return cls(motion)

    def starts_above(self, stretch):
        return self.affine.condition(stretch.v) > _rounding(self.affine, stretch)

    def crosses(self, stretch):
        rise = _rise(self.affine, stretch)
        reaches = rise.exists & (rise.ends.g1 >= 0)
        return reaches | rise.ends_on | self.starts_above(stretch)

    def may_cross(self, stretch):
        """As `crosses`, with bounds in place of the peak and of the slopes: they need no exponential or logarithm."""
        affine, h = self.affine, stretch.end - stretch.start
        d, wait, y = affine.turn(stretch.v, stretch.x)
        # The time of the peak, -log(1 - y) wait / y, is at least wait / (1 - y / 2).
        peaks = (affine.slope * d > 0) & (wait > 0) & (y < 1) & (wait <= 1.01 * h * (1.0 - 0.5 * y))
        highest = affine.condition(stretch.v + affine.reach(stretch.v, stretch.x, h))
        rounding = _rounding(affine, stretch)
        most = jnp.abs(affine.rate * stretch.v_end) + jnp.abs(affine.gain * stretch.x) + jnp.abs(affine.push)
        nearly = rounding + jnp.abs(affine.slope) * most * _instant(stretch)
        # Where something grows by itself, the bounds do not hold.
        is_bound = (affine.rate >= 0) & (affine.decay >= 0)
        is_above = (affine.condition(stretch.v_end) >= -nearly) | self.starts_above(stretch)
        return is_above | (peaks & (highest >= -rounding)) | ~is_bound

    def crossing(self, stretch, wanted):
        affine, rise = self.affine, _rise(self.affine, stretch)
        at_once, rounding = self.starts_above(stretch), _rounding(self.affine, stretch)
        searches = wanted & ~at_once & ~rise.ends_on
        s = _root(affine, stretch, rise, searches)
        s = jnp.where(rise.ends_on, stretch.end - stretch.start, jnp.where(at_once, 0.0, s))
        v, x = affine.after(stretch.v, stretch.x, s)
        is_sure = at_once | rise.ends_on | (rise.ends.g1 > rounding)
        found = wanted & (is_sure | _is_steep(affine, stretch, affine.slope * affine.speed(v, x)))
        t = jnp.where(rise.ends_on & ~at_once, stretch.end, jnp.minimum(stretch.start + s, stretch.end))
        return jnp.where(found, t, stretch.end), found


class _Rise(eqx.Module):
    """The part of a stretch in which the condition rises, where it `exists`; all times count from its start `low`."""

    low: Float[Array, "..."]  # since the start of the stretch
    ends: Ends
    exists: Bool[Array, "..."]
    ends_on: Bool[Array, "..."]  # at the end of the stretch the condition is zero, but for rounding, and steep


def _rise(affine: Affine, stretch: Stretch) -> _Rise:
    h = stretch.end - stretch.start
    s, v_turn, turns = _turn(affine, stretch)
    d0 = affine.slope * affine.speed(stretch.v, stretch.x)
    # Without a slope at the start, the filter decides what comes.
    falls = (d0 < 0) | ((d0 == 0) & (affine.slope * affine.decay * affine.gain * stretch.x >= 0))
    peaks, dips = turns & ~falls, turns & falls
    d1 = affine.slope * affine.speed(stretch.v_end, stretch.x * jnp.exp(-affine.decay * h))
    g0, g_turn, g1 = (affine.condition(v) for v in (stretch.v, v_turn, stretch.v_end))
    low, high = jnp.where(dips, s, 0.0), jnp.where(peaks, s, h)
    g_low, d_low = jnp.where(dips, g_turn, g0), jnp.where(dips, 0.0, d0)
    ends = Ends(high - low, g_low, d_low, jnp.where(peaks, g_turn, g1), jnp.where(peaks, 0.0, d1), g0)
    nearly = jnp.abs(g1) <= d1 * _instant(stretch) + _rounding(affine, stretch)
    ends_on = ~peaks & (g1 < 0) & nearly & _is_steep(affine, stretch, d1)
    return _Rise(low, ends, ~falls | dips, ends_on)


def _turn(affine: Affine, stretch: Stretch) -> tuple[Array, Array, Array]:
    """When the condition turns, v there, and whether it does so in the stretch."""
    _, wait, y = affine.turn(stretch.v, stretch.x)
    s, v = affine.peak(stretch.v, stretch.x)
    return s, v, (wait > 0) & (y < 1) & (s < stretch.end - stretch.start)


def _rounding(affine: Affine, stretch: Stretch) -> Array:
    """How far the condition may be off."""
    v = jnp.maximum(jnp.abs(stretch.v), jnp.abs(stretch.v_end))
    return 8.0 * jnp.finfo(v.dtype).eps * (jnp.abs(affine.offset) + jnp.abs(affine.slope) * v)


def _is_steep(affine: Affine, stretch: Stretch, d: Array) -> Array:
    """Whether a condition with the slope d leaves its rounding behind before the slope can vanish.

    A condition -r that settles on zero has at most the slope r max(rate, decay), and so is not steep.
    """
    return d > 2.0 * _quickness(affine) * _rounding(affine, stretch)


def _quickness(affine: Affine) -> Array:
    return jnp.abs(affine.rate) + jnp.abs(affine.decay)


def _instant(stretch: Stretch) -> Array:
    """How far from the end of a stretch a crossing counts as one at the end.

    It matters where a spike arrives at the time at which it was emitted: a neuron spikes before it hears itself.
    """
    return 4.0 * jnp.finfo(stretch.end.dtype).eps * jnp.abs(stretch.end)


class _Bracket(eqx.Module):
    """The search for a crossing between `low` and `high`, measured from the start of the stretch."""

    s: Array
    low: Array
    high: Array
    searches: Array
    tries: Array


# Six tries, and from then on every other one halves the bracket: after so many it is as short as float64 can tell.
_TRIES = 128


def _root(affine: Affine, stretch: Stretch, rise: _Rise, wanted: Array) -> Array:
    """When the condition crosses zero on its rise, since the start of the stretch; the rise's start if it is there.

    The result is not finite where the numbers are not.
    """
    ends, low, high = rise.ends, rise.low, rise.low + rise.ends.h
    s = low + jnp.where(ends.g0 >= 0, 0.0, ends.root())
    instant = 2.0 * jnp.finfo(s.dtype).eps * (jnp.abs(stretch.start) + high)
    quickness = _quickness(affine)

    def refine(old: _Bracket) -> _Bracket:
        v, x = affine.after(stretch.v, stretch.x, old.s)
        speed = affine.speed(v, x)
        g, d = affine.condition(v), affine.slope * speed
        bend = -affine.slope * (affine.gain * affine.decay * x + affine.rate * speed)
        low, high = jnp.where(g < 0, old.s, old.low), jnp.where(g < 0, old.high, old.s)
        # The root of the parabola with the value, slope and curvature here, on its rising side.
        slope = jnp.sqrt(jnp.maximum(d**2 - 2.0 * g * bend, 0.0))
        inner = d + slope
        new = old.s - 2.0 * g / jnp.where(inner > 0, inner, 1.0)
        # With a margin: what rounds g to either side of zero here may round it to the other side there.
        strays = ~((new >= low - instant) & (new <= high + instant)) | (inner <= 0)
        halves = strays | ((old.tries > 6) & (old.tries % 2 == 1))
        new = jnp.where(halves, low + 0.5 * (high - low), jnp.clip(new, low, high))
        # What the parabola leaves out is the third derivative, over six, times the cube of the step.
        step = jnp.abs(new - old.s)
        third = quickness * (jnp.abs(bend) + quickness * jnp.abs(d))
        is_precise = ~halves & (third * step**3 <= instant * slope)
        # Beside a peak that barely reaches zero, g is lost in its own rounding over a wide stretch.
        is_lost = jnp.abs(g) <= jnp.finfo(g.dtype).eps * (jnp.abs(affine.offset) + jnp.abs(affine.slope * v))
        done = is_precise | (step <= instant) | (high - low <= instant) | is_lost
        reached = jnp.where(old.searches & ~is_lost, new, old.s)
        return _Bracket(reached, low, high, old.searches & ~done, old.tries + 1)

    def goes_on(bracket: _Bracket) -> Array:
        return jnp.any(bracket.searches) & (bracket.tries < _TRIES)

    searches = wanted & (ends.g0 < 0) & (ends.h > 0)
    return lax.while_loop(goes_on, refine, _Bracket(s, low, high, searches, jnp.int32(0))).s
