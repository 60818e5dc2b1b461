"""Where the condition of a neuron with one variable and one filter crosses zero: its peak is known in closed form."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .._held import held
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
        return self.affine.condition(stretch.v) > 0

    def crosses(self, stretch):
        affine = self.affine
        _, d1, turns = slopes(affine, stretch)
        _, v = affine.peak(stretch.v, stretch.x)
        return self._is_above(stretch, d1) | (turns & (affine.condition(v) > 0))

    def may_cross(self, stretch):
        """As `crosses`, with a bound in place of the peak: it needs no exponential or logarithm."""
        affine = self.affine
        _, d1, turns = slopes(affine, stretch)
        highest = affine.condition(stretch.v + affine.reach(stretch.v, stretch.x, stretch.end - stretch.start))
        rounding = _rounding(affine, stretch.v)
        # The bound holds where nothing grows by itself; elsewhere every stretch that turns is worth a closer look.
        is_bound = (affine.rate >= 0) & (affine.decay >= 0)
        return self._is_above(stretch, d1) | (turns & ((highest > -rounding) | ~is_bound))

    def crossing(self, stretch, wanted):
        t = jnp.minimum(_root(self.affine, stretch, wanted), stretch.end)
        _, d1, _ = slopes(self.affine, stretch)
        t = jnp.where(_ends_on(self.affine, stretch, d1) & ~self.starts_above(stretch), stretch.end, t)
        return t, wanted

    def _is_above(self, stretch: Stretch, d1: Array) -> Array:
        ends_on = _ends_on(self.affine, stretch, d1)
        return (self.affine.condition(stretch.v_end) >= 0) | ends_on | self.starts_above(stretch)


def slopes(affine: Affine, stretch: Stretch) -> tuple[Array, Array, Array]:
    """The slopes of the condition at both ends, and whether it turns from rising to falling between them."""
    h = stretch.end - stretch.start
    fade = held(jnp.exp(-affine.decay * h), h)
    d0 = affine.slope * affine.speed(stretch.v, stretch.x)
    d1 = affine.slope * affine.speed(stretch.v_end, stretch.x * fade)
    return d0, d1, (d0 > 0) & (d1 < 0)


def _ends_on(affine: Affine, stretch: Stretch, d1: Array) -> Array:
    """Whether a condition with the slope `d1` at the end is zero there, but for rounding.

    It matters where a spike arrives at the time at which it was emitted: a neuron spikes before it hears itself.
    """
    instant = 4.0 * jnp.finfo(d1.dtype).eps * jnp.abs(stretch.end)
    tolerance = d1 * instant + _rounding(affine, stretch.v_end)
    return (d1 > 0) & (jnp.abs(affine.condition(stretch.v_end)) <= tolerance)


def _rise(affine: Affine, stretch: Stretch) -> Ends:
    """The condition from the start to its peak, or, where it has none, to the end."""
    d0, d1, turns = slopes(affine, stretch)
    s, v = affine.peak(stretch.v, stretch.x)
    h = jnp.where(turns, jnp.clip(s, 0.0, stretch.end - stretch.start), stretch.end - stretch.start)
    g0, g1 = affine.condition(stretch.v), affine.condition(jnp.where(turns, v, stretch.v_end))
    return Ends(h, g0, d0, g1, jnp.where(turns, 0.0, d1), g0)


def _rounding(affine: Affine, v: Array) -> Array:
    """How far the condition may be off."""
    return 8.0 * jnp.finfo(v.dtype).eps * (jnp.abs(affine.offset) + jnp.abs(affine.slope * v))


class _Bracket(eqx.Module):
    """The search for a crossing between `low` and `high`, measured from the start of the stretch."""

    s: Array
    low: Array
    high: Array
    searches: Array
    tries: Array


def _root(affine: Affine, stretch: Stretch, happens: Array) -> Array:
    """The time of the first crossing in a stretch, where it `happens`."""
    rise = _rise(affine, stretch)
    s = jnp.where(rise.g0 >= 0, 0.0, rise.root())
    instant = 2.0 * jnp.finfo(s.dtype).eps * (jnp.abs(stretch.start) + rise.h)
    quickness = jnp.abs(affine.rate) + jnp.abs(affine.decay)

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

    searches = happens & (rise.g0 < 0) & (rise.h > 0)
    bracket = _Bracket(s, jnp.zeros_like(s), rise.h, searches, jnp.int32(0))
    return stretch.start + lax.while_loop(lambda b: jnp.any(b.searches), refine, bracket).s
