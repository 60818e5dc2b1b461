"""The spikes of linear neurons in a block: one pass per own spike, for many neurons and all arrivals at once.

A pass looks for the next spike of every neuron: the first stretch between two knots at whose end, or at a peak inside
it, the condition is above zero; then for the crossing in that stretch. The first look is at all neurons, and further
passes follow those that it finds.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .knots import aligned, Block, Change, entry
from .motion import AbstractFinder, AbstractMotion, Stretch
from .some import All, Some
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

    def change(self, number: Array, first: Array, start: Array) -> Change:
        """What the spike of a number changed; nothing if it came before the `first` of this block."""
        exists = (number >= first) & (number < self.t.shape[0]) & (number >= 0)
        t, size = (entry(part, number) for part in (self.t, self.size))
        return Change(jnp.where(exists, t, start), jnp.where(exists, size, 0.0))


class Seekers(eqx.Module):
    """Where every neuron stands in a block, and where its next spike is."""

    change: Change
    count: Int[Array, "batch units"]
    happens: Bool[Array, "batch units"]  # whether the next spike is found
    seeks: Bool[Array, "batch units"]  # whether there may be one behind the stretch
    place: Int[Array, "batch units"]  # of the knot before the stretch
    stretch: Stretch

    @property
    def go_on(self) -> Bool[Array, "batch units"]:
        """Whether a neuron is to be followed further."""
        return self.happens | self.seeks


class Search(eqx.Module):
    """A search on its way."""

    passes: Int[Array, ""]
    record: Record  # of all neurons
    seekers: Seekers


class Searcher(eqx.Module):
    """What a search needs to know: whose spikes it is for, how they move, and which stretches are worth a look."""

    who: All | Some
    motion: AbstractMotion
    finder: AbstractFinder
    block: Block
    quota: int = eqx.field(static=True)
    look: Callable[[AbstractFinder, Stretch], Array] = eqx.field(static=True)

    def of(self, some: Some) -> "Searcher":
        """That of some of its neurons."""
        parts = some.take((self.motion, self.finder, self.block))
        return Searcher(some, *parts, self.quota, self.look)

    def run(self, search: Search) -> Search:
        """To the last spike of these neurons in the block."""

        def one_pass(search):
            some_spike = jnp.any(search.seekers.happens)
            now = lax.cond(some_spike, lambda search: self._spike(search), lambda search: search, search)
            return Search(now.passes, now.record, self.ahead(now.seekers))

        return lax.while_loop(lambda search: jnp.any(search.seekers.go_on), one_pass, search)

    def ahead(self, old: Seekers) -> Seekers:
        """Looks for the next spike, in what is left of the stretch of the last one and in all that come later."""
        knots, finder = self.block.knots, self.finder
        last = knots.t.shape[0] - 1
        t = knots.t
        v = self.motion.changed(knots, self.block.flows, old.change, old.place)
        number = indices(last)[:, None, None]
        later = Stretch(t[:-1], v[:-1], knots.x[:-1], t[1:], v[1:])
        crosses = jnp.where(self.look(finder, later) & (number > old.place), number, last)
        # In a scan: a reduction would take in all that leads to it, and run several times slower on CPUs.
        first, _ = lax.scan(lambda least, row: (jnp.minimum(least, row), None), jnp.full_like(old.place, last), crosses)
        stays = old.happens & finder.crosses(old.stretch)
        place = jnp.where(stays, old.place, jnp.minimum(first, last - 1))
        v_start, v_end, x = (entry(rows, place) for rows in (v[:-1], v[1:], knots.x))
        from_knot = Stretch(knots.time(place), v_start, x, knots.time(place + 1), v_end)
        wanted = old.go_on & is_wanted(old.count, self.quota)
        later_crosses = (first < last) & finder.crosses(from_knot)
        happens = wanted & (stays | later_crosses)
        seeks = wanted & ~stays & (first < last) & ~later_crosses
        return Seekers(old.change, old.count, happens, seeks, place, _select(stays, old.stretch, from_knot))

    def _spike(self, search: Search) -> Search:
        """The spikes that were found ahead."""
        motion, finder, old = self.motion, self.finder, search.seekers
        stretch = old.stretch
        # It may turn out that there is none after all.
        t, happens = finder.crossing(stretch, old.happens)
        at_once = happens & finder.starts_above(stretch)
        v, x = motion.after(stretch.v, stretch.x, t - stretch.start)
        after = motion.reset(t, v)
        change = _select(happens, Change(t, after - (v - old.change.at(motion, t))), old.change)
        spike = Record(change.t, change.size, old.place, at_once)
        record = self.who.write(search.record, old.count, happens, spike)
        count = old.count + happens.astype(jnp.int32)
        v_end = stretch.v_end + motion.kept(after - v, stretch.end - t)
        rest = Stretch(t, after, x, stretch.end, v_end)
        # Where the search found nothing, it goes on behind the stretch.
        seeks = old.seeks | (old.happens & ~happens)
        return Search(search.passes + 1, record, Seekers(change, count, happens, seeks, old.place, rest))


def is_wanted(count: Array, quota: int) -> Array:
    """Whether a neuron is simulated on."""
    return count < quota


def search(searcher: Searcher, group: int, count: Array, record: Record) -> Search:
    """All spikes in a block, of each neuron until it has its quota.

    After a first look at all of them, the neurons that may spike are followed, a `group` at a time.
    """
    knots = searcher.block.knots
    # Before the first stretch.
    place = jnp.full_like(count, -1)
    t = knots.start(count.shape)
    stretch = Stretch(t, knots.v[0], knots.x[0], t, knots.v[0])
    never = jnp.full(place.shape, False)
    start = Seekers(Change.none(t, knots.v[0]), count, never, ~never, place, stretch)
    first = Search(jnp.int32(0), record, searcher.ahead(start))
    if group >= count.size:
        return searcher.run(first)

    def follow(search: Search) -> Search:
        some = Some.first(search.seekers.go_on, group)
        few = some.take(search.seekers)
        go_on = few.happens & some.exists, few.seeks & some.exists
        few = eqx.tree_at(lambda few: (few.happens, few.seeks), few, go_on)
        end = searcher.of(some).run(Search(search.passes, search.record, few))
        return Search(end.passes, end.record, some.put(search.seekers, end.seekers))

    return lax.while_loop(lambda search: jnp.any(search.seekers.go_on), follow, first)


def _select(where: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(aligned(where, old), new, old), new, old)
