"""The spikes of linear neurons in a block: one pass per emitted spike, for many neurons and all arrivals at once.

A pass takes one interval between two knots of each neuron: it finds the crossing there, if there is one, applies the
spike, and looks for the next interval that may hold one. Of many neurons only those that may spike take part.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.axes import aligned, indices
from .._common.compaction import ALL, All, Subset
from .._common.compute_once import compute_once
from .._common.flow import AbstractFinder, AbstractFlow, Interval
from .._common.vectorized import any_member
from .free_response import Block, Change


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

    def change(self, number: Array, first: Array, start: Array, who: All | Subset = ALL) -> Change:
        """The change due to the spike `number`; zero if it came before the `first` spike of this block."""
        exists = (number >= first) & (number < self.t.shape[0]) & (number >= 0)
        t, jump = (who.row(part, number) for part in (self.t, self.jump))
        return Change(jnp.where(exists, t, start), jnp.where(exists, jump, 0.0))


class SearchState(eqx.Module):
    """The state of the search for each neuron in a block: the interval that is searched next."""

    change: Change
    count: Int[Array, "batch units"]
    goes_on: Bool[Array, "batch units"]  # there may be a spike in the interval or after it
    place: Int[Array, "batch units"]  # of the knot before the interval
    interval: Interval


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
        return lax.while_loop(some_go_on, lambda search: self._one_pass(search), search)

    def start(self, count: Array) -> SearchState:
        """The start of a search, with the first interval."""
        knots = self.block.knots
        change = Change.none(knots.start(count.shape), knots.v[0])
        interval = Interval(change.t, knots.v[0], knots.x[0], jnp.broadcast_to(knots.t[1], count.shape), knots.v[1])
        return SearchState(change, count, is_wanted(count, self.stop_after), jnp.zeros_like(count), interval)

    def ahead(self, old: SearchState, place: Array) -> SearchState:
        """The search, moved to the first interval after the one at `place` that may hold a spike."""
        knots = self.block.knots
        t, last = knots.t, knots.t.shape[0] - 1
        v = self.flow.changed(knots, self.block.propagators, old.change, place)
        number = indices(last)[:, None, None]
        later = Interval(t[:-1], v[:-1], knots.x[:-1], t[1:], v[1:])
        crosses = jnp.where(self.look(self.finder, later) & (number > place), number, last)
        # A scan, since XLA would fuse all inputs into a reduction, which is several times slower on CPUs.
        first, _ = lax.scan(lambda least, row: (jnp.minimum(least, row), None), jnp.full_like(place, last), crosses)
        goes_on = old.goes_on & (first < last) & is_wanted(old.count, self.stop_after)
        place = jnp.minimum(first, last - 1)
        v_start, v_end, x = (ALL.row(rows, place) for rows in (v[:-1], v[1:], knots.x))
        interval = Interval(knots.time(place), v_start, x, knots.time(place + 1), v_end)
        return SearchState(old.change, old.count, goes_on, place, interval)

    def _one_pass(self, search: Search) -> Search:
        """Applies the spikes in the current intervals, and moves on to the next ones."""
        flow, finder, old = self.flow, self.finder, search.state
        interval = old.interval
        # The search may show that there is no crossing.
        t, happens = finder.crossing(interval, old.goes_on)
        t, happens = compute_once(t), compute_once(happens)
        at_once = happens & finder.starts_above(interval)
        v, x = flow.after(interval.v, interval.x, t - interval.start)
        v = compute_once(v)
        after = flow.reset(t, v)
        change = _select(happens, Change(t, after - (v - old.change.at(flow, t))), old.change)
        spike = Record(change.t, change.jump, old.place, at_once)
        record = self.who.write(search.record, old.count, happens, spike)
        count = old.count + happens.astype(jnp.int32)
        v_end = interval.v_end + flow.kept(after - v, interval.end - t)
        rest = Interval(t, after, x, interval.end, v_end)
        stays = happens & self.look(finder, rest) & is_wanted(count, self.stop_after)
        stays = compute_once(stays)
        here = SearchState(change, count, old.goes_on, old.place, rest)
        return Search(search.passes + 1, record, _select(stays, here, self.ahead(here, old.place)))


def some_go_on(search: Search) -> Bool[Array, ""]:
    """Whether the search continues for any neuron."""
    return any_member(jnp.any(search.state.goes_on))


def is_wanted(count: Array, stop_after: int) -> Array:
    """Whether a neuron has fewer than `stop_after` spikes."""
    return count < stop_after


def search(group: int, searcher: Searcher, count: Array, record: Record) -> Search:
    """Finds all spikes in a block, for each neuron up to `stop_after` spikes.

    After a first look at all intervals of all neurons, the search continues with those that may spike, `group` of them
    at a time.
    """
    start = searcher.start(count)
    if group >= count.size:
        return searcher.run(Search(jnp.int32(0), record, start))

    def follow(search: Search) -> Search:
        subset = Subset.first(search.state.goes_on, group)
        few = subset.gather_last(search.state)
        few = eqx.tree_at(lambda few: few.goes_on, few, few.goes_on & subset.exists)
        end = searcher.of(subset).run(Search(search.passes, search.record, few))
        return Search(end.passes, end.record, subset.scatter_last(search.state, end.state))

    first = searcher.ahead(start, jnp.full_like(count, -1))
    return lax.while_loop(some_go_on, follow, Search(jnp.int32(0), record, first))


def _select(where: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(aligned(where, old), new, old), new, old)
