"""The spikes of linear neurons in a block: one pass per own spike, for all neurons and all arrivals at once.

A pass looks for the next spike of every neuron: the first stretch between two knots at whose end, or at a peak inside
it, the condition is above zero; then for the crossing in that stretch.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .knots import aligned, Block, Change, entry
from .motion import AbstractFinder, AbstractMotion, Stretch
from .units import indices


class Record(eqx.Module):
    """All spikes of a layer, by their number: when, what they changed, and the knot of their block before them."""

    t: Float[Array, "spikes batch units"]
    size: Float[Array, "spikes batch units"]
    place: Int[Array, "spikes batch units"]
    at_once: Bool[Array, "spikes batch units"]

    @classmethod
    def empty(cls, spikes: int, v: Array) -> "Record":
        """That of neurons which have not spiked; the changes have the shape of `v`."""
        whole = (spikes, *v.shape[-2:])
        return cls(
            jnp.full(whole, jnp.inf, v.dtype),
            jnp.zeros((spikes, *v.shape), v.dtype),
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


def _ahead(
    motion: AbstractMotion, finder: AbstractFinder, block: Block, quota: int, look: Callable, old: Search
) -> Search:
    """Looks for the next spike, in what is left of the stretch of the last one and in all that come later."""
    knots = block.knots
    last = knots.t.shape[0] - 1
    t = knots.t
    v = motion.changed(knots, block.flows, old.change, old.place)
    number = indices(last)[:, None, None]
    later = Stretch(t[:-1], v[:-1], knots.x[:-1], t[1:], v[1:])
    crosses = jnp.where(look(later) & (number > old.place), number, last)
    # In a scan: a reduction would take in all that leads to it, and run several times slower on CPUs.
    first, _ = lax.scan(lambda least, row: (jnp.minimum(least, row), None), jnp.full_like(old.place, last), crosses)
    stays = old.happens & finder.crosses(old.stretch)
    place = jnp.where(stays, old.place, jnp.minimum(first, last - 1))
    v_start, v_end, x = (entry(rows, place) for rows in (v[:-1], v[1:], knots.x))
    from_knot = Stretch(knots.time(place), v_start, x, knots.time(place + 1), v_end)
    wanted = (old.happens | old.seeks) & is_wanted(old.count, quota)
    later_crosses = (first < last) & finder.crosses(from_knot)
    happens = wanted & (stays | later_crosses)
    seeks = wanted & ~stays & (first < last) & ~later_crosses
    stretch = _select(stays, old.stretch, from_knot)
    return Search(old.passes, old.change, old.count, old.record, happens, seeks, place, stretch)


def _spike(motion: AbstractMotion, finder: AbstractFinder, old: Search) -> Search:
    """The spikes that were found ahead."""
    stretch = old.stretch
    t, happens = finder.crossing(stretch, old.happens)
    at_once = happens & finder.starts_above(stretch)
    v, x = motion.after(stretch.v, stretch.x, t - stretch.start)
    after = motion.reset(t, v)
    change = _select(happens, Change(t, after - (v - old.change.at(motion, t))), old.change)
    record = old.record.with_spike(old.count, happens, old.place, at_once, change)
    count = old.count + happens.astype(jnp.int32)
    v_end = stretch.v_end + motion.kept(after - v, stretch.end - t)
    rest = Stretch(t, after, x, stretch.end, v_end)
    # Where the search found nothing, it goes on behind the stretch.
    seeks = old.seeks | (old.happens & ~happens)
    return Search(old.passes + 1, change, count, record, happens, seeks, old.place, rest)


def is_wanted(count: Array, quota: int) -> Array:
    """Whether a neuron is simulated on."""
    return count < quota


def search(
    motion: AbstractMotion,
    finder: AbstractFinder,
    block: Block,
    count: Array,
    record: Record,
    quota: int,
    look: Callable[[Stretch], Array],
) -> Search:
    """All spikes in a block, of each neuron until it has `quota`; `look` says which stretches are worth a search."""
    knots = block.knots
    # Before the first stretch.
    place = jnp.full_like(count, -1)
    t = knots.start(count.shape)
    stretch = Stretch(t, knots.v[0], knots.x[0], t, knots.v[0])

    def one_pass(search):
        def spike(search):
            return _spike(motion, finder, search)

        now = lax.cond(jnp.any(search.happens), spike, lambda search: search, search)
        return _ahead(motion, finder, block, quota, look, now)

    never = jnp.full(place.shape, False)
    return lax.while_loop(
        lambda search: jnp.any(search.happens | search.seeks),
        one_pass,
        Search(jnp.int32(0), Change.none(t, knots.v[0]), count, record, never, ~never, place, stretch),
    )


def _select(where: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(aligned(where, old), new, old), new, old)
