"""The spikes of linear neurons in a block: one pass per emitted spike, for many neurons and all arrivals at once.

A pass finds the next spike of each neuron: first the first interval between two knots in which the condition, at the
end or at a peak, is above zero, and then the crossing in that interval. The first pass checks all neurons; further
passes only those that may spike.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.axes import aligned, indices
from .._common.compaction import All, Subset
from .._common.flow import AbstractFinder, AbstractFlow, Interval
from .._common.vectorized import any_member
from .free_response import Block, Change, entry


class Record(eqx.Module):
    """All spikes of a layer, by number: time, change, and the knot of their block before them."""

    t: Float[Array, "*spikes batch units"]
    jump: Float[Array, "*spikes_v batch units"]
    place: Int[Array, "*spikes batch units"]
    at_once: Bool[Array, "*spikes batch units"]

    @classmethod
    def empty(cls, spikes: int, v: Array) -> "Record":
        """The record without spikes. The changes have the shape of `v`."""
        whole = (spikes, *v.shape[-2:])
        return cls(
            jnp.full(whole, jnp.inf, v.dtype),
            jnp.zeros((spikes, *v.shape), v.dtype),
            jnp.zeros(whole, jnp.int32),
            jnp.zeros(whole, bool),
        )

    def change(self, number: Array, first: Array, start: Array) -> Change:
        """The change due to the spike `number`; zero if it came before the `first` spike of this block."""
        exists = (number >= first) & (number < self.t.shape[0]) & (number >= 0)
        t, jump = (entry(part, number) for part in (self.t, self.jump))
        return Change(jnp.where(exists, t, start), jnp.where(exists, jump, 0.0))


class SearchState(eqx.Module):
    """The state of the search for each neuron in a block, and its next spike."""

    change: Change
    count: Int[Array, "batch units"]
    happens: Bool[Array, "batch units"]  # there is a spike in the interval
    seeks: Bool[Array, "batch units"]  # there may be a spike after the interval
    place: Int[Array, "batch units"]  # of the knot before the interval
    interval: Interval

    @property
    def go_on(self) -> Bool[Array, "batch units"]:
        """Whether the search continues for a neuron."""
        return self.happens | self.seeks


class Search(eqx.Module):
    """A search in progress."""

    passes: Int[Array, ""]
    record: Record  # of all neurons
    state: SearchState


class Searcher(eqx.Module):
    """The constants of a search: the neurons, their flow, and the test `look` for candidate intervals."""

    who: All | Subset
    flow: AbstractFlow
    finder: AbstractFinder
    block: Block
    stop_after: int = eqx.field(static=True)
    look: Callable[[AbstractFinder, Interval], Array] = eqx.field(static=True)

    def of(self, subset: Subset) -> "Searcher":
        """The searcher for a subset of the neurons."""
        parts = subset.gather_last((self.flow, self.finder, self.block))
        return Searcher(subset, *parts, self.stop_after, self.look)

    def run(self, search: Search) -> Search:
        """Searches up to the last spike of these neurons in the block."""

        def one_pass(search):
            some_spike = any_member(jnp.any(search.state.happens))
            now = lax.cond(some_spike, lambda search: self._spike(search), lambda search: search, search)
            return Search(now.passes, now.record, self.ahead(now.state))

        return lax.while_loop(some_go_on, one_pass, search)

    def ahead(self, old: SearchState) -> SearchState:
        """Finds the next spike, in the rest of the current interval and in all later ones."""
        knots, finder = self.block.knots, self.finder
        last = knots.t.shape[0] - 1
        t = knots.t
        v = self.flow.changed(knots, self.block.propagators, old.change, old.place)
        number = indices(last)[:, None, None]
        later = Interval(t[:-1], v[:-1], knots.x[:-1], t[1:], v[1:])
        crosses = jnp.where(self.look(finder, later) & (number > old.place), number, last)
        # A scan, since XLA would fuse all inputs into a reduction, which is several times slower on CPUs.
        first, _ = lax.scan(lambda least, row: (jnp.minimum(least, row), None), jnp.full_like(old.place, last), crosses)
        stays = old.happens & finder.crosses(old.interval)
        place = jnp.where(stays, old.place, jnp.minimum(first, last - 1))
        v_start, v_end, x = (entry(rows, place) for rows in (v[:-1], v[1:], knots.x))
        from_knot = Interval(knots.time(place), v_start, x, knots.time(place + 1), v_end)
        wanted = old.go_on & is_wanted(old.count, self.stop_after)
        later_crosses = (first < last) & finder.crosses(from_knot)
        happens = wanted & (stays | later_crosses)
        seeks = wanted & ~stays & (first < last) & ~later_crosses
        return SearchState(old.change, old.count, happens, seeks, place, _select(stays, old.interval, from_knot))

    def _spike(self, search: Search) -> Search:
        """Applies the spikes in the current intervals."""
        flow, finder, old = self.flow, self.finder, search.state
        interval = old.interval
        # The search may show that there is no crossing.
        t, happens = finder.crossing(interval, old.happens)
        at_once = happens & finder.starts_above(interval)
        v, x = flow.after(interval.v, interval.x, t - interval.start)
        after = flow.reset(t, v)
        change = _select(happens, Change(t, after - (v - old.change.at(flow, t))), old.change)
        spike = Record(change.t, change.jump, old.place, at_once)
        record = self.who.write(search.record, old.count, happens, spike)
        count = old.count + happens.astype(jnp.int32)
        v_end = interval.v_end + flow.kept(after - v, interval.end - t)
        rest = Interval(t, after, x, interval.end, v_end)
        # If there is no crossing, the search continues after the interval.
        seeks = old.seeks | (old.happens & ~happens)
        return Search(search.passes + 1, record, SearchState(change, count, happens, seeks, old.place, rest))


def some_go_on(search: Search) -> Bool[Array, ""]:
    """Whether the search continues for any neuron."""
    return any_member(jnp.any(search.state.go_on))


def is_wanted(count: Array, stop_after: int) -> Array:
    """Whether a neuron has fewer than `stop_after` spikes."""
    return count < stop_after


def search(group: int, searcher: Searcher, count: Array, record: Record) -> Search:
    """Finds all spikes in a block, for each neuron up to `stop_after` spikes.

    After a first pass over all neurons, the search continues with those that may spike, `group` of them at a time.
    """
    knots = searcher.block.knots
    # Before the first interval.
    place = jnp.full_like(count, -1)
    t = knots.start(count.shape)
    interval = Interval(t, knots.v[0], knots.x[0], t, knots.v[0])
    never = jnp.full(place.shape, False)
    start = SearchState(Change.none(t, knots.v[0]), count, never, ~never, place, interval)
    first = Search(jnp.int32(0), record, searcher.ahead(start))
    if group >= count.size:
        return searcher.run(first)

    def follow(search: Search) -> Search:
        subset = Subset.first(search.state.go_on, group)
        few = subset.gather_last(search.state)
        go_on = few.happens & subset.exists, few.seeks & subset.exists
        few = eqx.tree_at(lambda few: (few.happens, few.seeks), few, go_on)
        end = searcher.of(subset).run(Search(search.passes, search.record, few))
        return Search(end.passes, end.record, subset.scatter_last(search.state, end.state))

    return lax.while_loop(some_go_on, follow, first)


def _select(where: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(aligned(where, old), new, old), new, old)
