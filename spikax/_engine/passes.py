"""The spikes of linear neurons in a block: one pass per own spike, for all neurons and all arrivals at once.

A pass looks for the next spike of every neuron: the first stretch between two knots at whose end, or at a peak inside
it, the condition is above zero, both in closed form; then for the crossing in that stretch.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._held import held
from .affine import Affine
from .crossing import Ends
from .knots import Change, entry, Knots
from .units import indices


class Stretch(eqx.Module):
    """A stretch of actual motion up to a knot: the state where it starts, after any spike there, and v at its end."""

    start: Array
    v: Array
    x: Array
    end: Array
    v_end: Array

    def slopes(self, affine: Affine) -> tuple[Array, Array, Array]:
        """The slopes of the condition at both ends, and whether it turns from rising to falling between them."""
        h = self.end - self.start
        fade = held(jnp.exp(-affine.decay * h), h)
        d0 = affine.slope * affine.speed(self.v, self.x)
        d1 = affine.slope * affine.speed(self.v_end, self.x * fade)
        return d0, d1, (d0 > 0) & (d1 < 0)

    def starts_above(self, affine: Affine) -> Array:
        """Whether the condition is above zero before any motion."""
        return affine.condition(self.v) > 0

    def crosses(self, affine: Affine) -> Array:
        """Whether the condition is above zero at the start, at the end, or at a peak between them."""
        _, d1, turns = self.slopes(affine)
        _, v = affine.peak(self.v, self.x)
        return self._is_above(affine, d1) | (turns & (affine.condition(v) > 0))

    def ends_on(self, affine: Affine, d1: Array) -> Array:
        """Whether a condition with the slope `d1` at the end is zero there, but for rounding.

        It matters where a spike arrives at the time at which it was emitted: a neuron spikes before it hears itself.
        """
        instant = 4.0 * jnp.finfo(d1.dtype).eps * jnp.abs(self.end)
        tolerance = d1 * instant + _rounding(affine, self.v_end)
        return (d1 > 0) & (jnp.abs(affine.condition(self.v_end)) <= tolerance)

    def may_cross(self, affine: Affine) -> Array:
        """As `crosses`, with a bound in place of the peak: it misses none, and needs no exponential or logarithm."""
        _, d1, turns = self.slopes(affine)
        highest = affine.condition(self.v + affine.reach(self.v, self.x, self.end - self.start))
        rounding = _rounding(affine, self.v)
        # The bound holds where nothing grows by itself; elsewhere every stretch that turns is worth a closer look.
        is_bound = (affine.rate >= 0) & (affine.decay >= 0)
        return self._is_above(affine, d1) | (turns & ((highest > -rounding) | ~is_bound))

    def _is_above(self, affine: Affine, d1: Array) -> Array:
        return (affine.condition(self.v_end) >= 0) | self.ends_on(affine, d1) | self.starts_above(affine)

    def rise(self, affine: Affine) -> Ends:
        """The condition from the start to its peak, or, where it has none, to the end."""
        d0, d1, turns = self.slopes(affine)
        s, v = affine.peak(self.v, self.x)
        h = jnp.where(turns, jnp.clip(s, 0.0, self.end - self.start), self.end - self.start)
        g0, g1 = affine.condition(self.v), affine.condition(jnp.where(turns, v, self.v_end))
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


def crossing_in(affine: Affine, stretch: Stretch, happens: Array) -> tuple[Array, Array]:
    """The time of the first crossing in a stretch, where it `happens`, and whether it is at once, before any motion."""
    at_once = happens & stretch.starts_above(affine)
    _, d1, _ = stretch.slopes(affine)
    t = jnp.minimum(_root(affine, stretch, happens), stretch.end)
    return jnp.where(stretch.ends_on(affine, d1) & ~at_once, stretch.end, t), at_once


def _root(affine: Affine, stretch: Stretch, happens: Array) -> Array:
    """The time of the first crossing in a stretch, where it `happens`, up to rounding."""
    rise = stretch.rise(affine)
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


class Record(eqx.Module):
    """All spikes of a layer, by their number: when, what they changed, and the knot of their block before them."""

    t: Float[Array, "spikes batch units"]
    size: Float[Array, "spikes batch units"]
    place: Int[Array, "spikes batch units"]
    at_once: Bool[Array, "spikes batch units"]

    @classmethod
    def empty(cls, spikes: int, shape: tuple[int, ...], dtype) -> "Record":
        whole = (spikes, *shape)
        return cls(
            jnp.full(whole, jnp.inf, dtype),
            jnp.zeros(whole, dtype),
            jnp.zeros(whole, jnp.int32),
            jnp.zeros(whole, bool),
        )

    def with_spike(self, number: Array, happens: Array, place: Array, at_once: Array, change: Change) -> "Record":
        """With a spike of each neuron for which it happens, of its own number."""
        here = (indices(self.t.shape[0])[:, None, None] == number) & happens
        return _select(here, Record(change.t, change.size, place, at_once), self)

    def change(self, number: Array, first: Array, start: Array) -> Change:
        """What the spike of a number changed; nothing if it came before the `first` of this block."""
        exists = (number >= first) & (number < self.t.shape[0]) & (number >= 0)
        t, size = (entry(part, number) for part in (self.t, self.size))
        return Change(jnp.where(exists, t, start), jnp.where(exists, size, 0.0))


class Search(eqx.Module):
    """Where every neuron stands in a block, and where its next spike is."""

    passes: Int[Array, ""]
    change: Change
    count: Int[Array, "batch units"]
    record: Record
    happens: Bool[Array, "batch units"]  # whether the next spike is found
    seeks: Bool[Array, "batch units"]  # whether there may be one behind the stretch
    place: Int[Array, "batch units"]  # of the knot before the stretch
    stretch: Stretch


def _ahead(affine: Affine, knots: Knots, quota: int, look: Callable, old: Search) -> Search:
    """Looks for the next spike, in what is left of the present stretch and in all that come later."""
    last = knots.t.shape[0] - 1
    t = knots.t
    v = held(knots.v + old.change.at(affine, t), t)
    number = indices(last)[:, None, None]
    later = Stretch(t[:-1], v[:-1], knots.x[:-1], t[1:], v[1:])
    crosses = jnp.where(look(later, affine) & (number > old.place), number, last)
    # In a scan: a reduction would take in all that leads to it, and run several times slower on CPUs.
    first, _ = lax.scan(lambda least, row: (jnp.minimum(least, row), None), jnp.full_like(old.place, last), crosses)
    stays = old.stretch.crosses(affine)
    place = jnp.where(stays, old.place, jnp.minimum(first, last - 1))
    v_start, v_end, x = (entry(rows, place) for rows in (v[:-1], v[1:], knots.x))
    from_knot = Stretch(knots.time(place), v_start, x, knots.time(place + 1), v_end)
    wanted = (old.happens | old.seeks) & is_wanted(old.count, quota)
    later_crosses = (first < last) & from_knot.crosses(affine)
    happens = wanted & (stays | later_crosses)
    seeks = wanted & ~stays & (first < last) & ~later_crosses
    stretch = _select(stays, old.stretch, from_knot)
    return Search(old.passes, old.change, old.count, old.record, happens, seeks, place, stretch)


def _spike(affine: Affine, old: Search) -> Search:
    """The spikes that were found ahead."""
    happens, stretch = old.happens, old.stretch
    t, at_once = crossing_in(affine, stretch, happens)
    v, x = affine.after(stretch.v, stretch.x, t - stretch.start)
    after = affine.reset(t, v)
    change = _select(happens, Change(t, after - (v - old.change.at(affine, t))), old.change)
    record = old.record.with_spike(old.count, happens, old.place, at_once, change)
    count = old.count + happens.astype(jnp.int32)
    v_end = stretch.v_end + (after - v) * affine.keep(stretch.end - t)
    rest = Stretch(t, after, x, stretch.end, v_end)
    return Search(old.passes + 1, change, count, record, happens, old.seeks, old.place, rest)


def is_wanted(count: Array, quota: int) -> Array:
    """Whether a neuron is simulated on."""
    return count < quota


def search(
    affine: Affine,
    knots: Knots,
    count: Array,
    record: Record,
    quota: int,
    look: Callable[[Stretch, Affine], Array],
) -> Search:
    """All spikes in a block, of each neuron until it has `quota`; `look` says which stretches are worth a search."""
    place = jnp.zeros(count.shape, jnp.int32)
    t, end = knots.start(count.shape), jnp.broadcast_to(knots.t[1], count.shape)
    stretch = Stretch(t, knots.v[0], knots.x[0], end, knots.v[1])

    def one_pass(search):
        def spike(search):
            return _spike(affine, search)

        return _ahead(
            affine, knots, quota, look, lax.cond(jnp.any(search.happens), spike, lambda search: search, search)
        )

    never = jnp.full(place.shape, False)
    return lax.while_loop(
        lambda search: jnp.any(search.happens | search.seeks),
        one_pass,
        Search(jnp.int32(0), Change(t, 0.0 * t), count, record, never, ~never, place, stretch),
    )


def _select(where: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(where, new, old), new, old)
