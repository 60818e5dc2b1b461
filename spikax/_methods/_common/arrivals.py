"""The arrivals at a layer: all spikes of its sources, in order of arrival."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..._routing import delayed, SynapticInput
from .axes import indices, Places
from .compaction import first_places
from .differentiation import found
from .sorting import sorted_rows
from .vectorized import any_member, most_of_members


class Arrivals(eqx.Module):
    """The times of the arrivals, ascending and padded with `inf`, and the index of the spike of each arrival.

    There is one lane per unit, or a single lane if all units receive the same arrivals.
    """

    times: Float[Array, "arrivals batch lanes"]
    spike: Int[Array, "arrivals batch lanes"]
    source: Int[Array, "#batch #lanes spikes"]  # of each spike
    generation: Int[Array, "arrivals batch lanes"] | None = None  # if the order of simultaneous arrivals matters

    def at(self, places: Places, cursor: Int[Array, "batch units 1"]) -> tuple[Array, Array]:
        """The time of the arrival at the cursor of each unit, and its spike."""
        place = cursor, *lane_in(self.times.shape[1:], places)
        inside = {"mode": "promise_in_bounds"}
        return self.times.at[place].get(**inside), self.spike.at[place].get(**inside)

    def generation_at(self, places: Places, cursor: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The generation of the arrival at the cursor of each unit; zero if the order does not matter."""
        if self.generation is None:
            return jnp.zeros_like(cursor)
        place = cursor, *lane_in(self.generation.shape[1:], places)
        return self.generation.at[place].get(mode="promise_in_bounds")

    def source_of(self, places: Places, spike: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The source of a spike."""
        return self.source.at[(*lane_in(self.source.shape, places), spike)].get(mode="promise_in_bounds")


def lane_in(shape: tuple[int, ...], places: Places) -> tuple[Array | int, Array | int]:
    """The sample and the lane of each unit in an array with the axes `(#batch, #lanes)`."""
    return places.sample if shape[0] > 1 else 0, places.unit if shape[1] > 1 else 0


def spike_in(leaf: Array, spike: Int[Array, "arrivals batch lanes"]) -> tuple[Array | int, ...]:
    """The place of the spike of each arrival in an array with the axes `(#batch, #lanes, spikes)`."""
    batch, lanes, _ = leaf.shape
    return indices(batch)[:, None] if batch > 1 else 0, indices(lanes) if lanes > 1 else 0, spike


def in_order(received: SynapticInput, multiple: int = 1) -> Arrivals:
    """Sorts the spikes of all sources by time and generation. Equal ones keep the order of the sources.

    At least one more at `inf` follows, for cursors past the last arrival. The total number is a multiple of `multiple`.
    """
    spikes, source = received.times.shape[2], received.source
    places = spikes + 1 + -(spikes + 1) % multiple
    if received.generation is None and received.is_sorted:
        spike = jnp.broadcast_to(indices(spikes), received.times.shape)
        return Arrivals(*_padded(received.times, spike, places), source)
    if received.generation is None:
        given = received.times, received.source, received.delay
        return Arrivals(*found(_sort, _sorted_again)((given, places)), source)
    given = received.times, received.generation, received.is_sorted
    times, spike, generation = found(_sort_by_generation, _sorted_again_by_generation)((given, places))
    return Arrivals(times, spike, source, generation)


_Given = tuple[Array, Array, Array | None]


def _sort(given: tuple[_Given, int]) -> tuple[Array, Array]:
    """The sorted times of arrival, and the order of the spikes."""
    (times, source, delay), places = given

    def sort(times, source):
        return _sorted_lanes(times if delay is None else delayed(times, source, delay))

    # With room for all spikes that the sources can emit, most places are empty.
    exists = times < jnp.inf
    count = jnp.sum(exists, axis=2, keepdims=True, dtype=jnp.int32)

    def sort_existing(columns):
        if columns == times.shape[2]:
            return _padded(*sort(times, source), places)
        is_there = indices(columns) < count
        spike = jnp.where(is_there, first_places(exists, columns), 0)
        there = jnp.where(is_there, _each(times, spike), jnp.inf)
        ordered, order = sort(there, _each(source, spike))
        return _padded(ordered, _each(spike, order), places)

    return _of_columns(jnp.max(count), times.shape[2], sort_existing)


def _each(leaf: Array, place: Int[Array, "batch lanes columns"]) -> Array:
    """The entries of `(#batch, #lanes, spikes)` at the places of each lane."""
    whole = jnp.broadcast_to(leaf, (*place.shape[:2], leaf.shape[2]))
    return jnp.take_along_axis(whole, place, axis=2, mode="promise_in_bounds")


def _sorted_lanes(times: Array) -> tuple[Array, Array]:
    ordered, spike = sorted_rows(times.reshape(-1, times.shape[2]))
    return ordered.reshape(times.shape), spike.reshape(times.shape)


def _sorted_again(given: tuple[_Given, int], known: tuple[Array, Array]) -> tuple[Array, Array]:
    """The same in the known order, as a differentiable map of the times and the delays."""
    ((times, source, delay), _), (ordered, spike) = given, known
    t = _taken(times, spike)
    if delay is not None:
        t += delay.at[_taken(source, spike), indices(spike.shape[2])].get(mode="fill", fill_value=0.0)
    return jnp.where(ordered < jnp.inf, t, ordered), spike


def _taken(leaf: Array, spike: Int[Array, "arrivals batch lanes"]) -> Array:
    """The entries of `(#batch, #lanes, spikes)` for each arrival."""
    return leaf.at[spike_in(leaf, spike)].get(mode="promise_in_bounds")


_Result = TypeVar("_Result")


def _of_columns(last: Int[Array, ""], columns: int, function: Callable[[int], _Result]) -> _Result:
    """`function` of a number of columns: the least of a few, up to all of them, that is not below `last`."""
    sizes = [columns]
    for ratio in _RATIOS:
        if sizes[-1] > _FEW:
            sizes.append(-(-sizes[-1] // ratio))
    fits = most_of_members(last) <= jnp.asarray(sizes[1:], jnp.int32)
    branches = [lambda _, size=size: function(size) for size in sizes]
    return lax.switch(jnp.sum(fits, dtype=jnp.int32), branches, None)


# Each size is a sort of its own, which takes time to compile. So there are few of them, each so many times smaller than
# the one before, and few columns have one size.
_RATIOS, _FEW = (4, 6), 1024


def _sort_by_generation(given: tuple[tuple[Array, Array, bool], int]) -> tuple[Array, Array, Array]:
    """The sorted times, the order of the spikes, and the sorted generations."""
    (times, generation, is_sorted), places = given
    spike = jnp.broadcast_to(indices(times.shape[2]), times.shape)
    is_wrong = (times[..., :-1] == times[..., 1:]) & (generation[..., :-1] > generation[..., 1:])
    # Arrivals that are sorted by time are rarely simultaneous.
    needs_sort = jnp.any(is_wrong & (times[..., 1:] < jnp.inf)) if is_sorted else jnp.bool_(True)
    parts = times, generation, spike
    times, generation, spike = lax.cond(
        any_member(needs_sort), lambda *p: tuple(lax.sort(p, num_keys=2)), lambda *p: p, *parts
    )
    _, generation = _padded(times, generation, places)
    return *_padded(times, spike, places), generation


def _sorted_again_by_generation(
    given: tuple[tuple[Array, Array, bool], int], known: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """The same in the known order, as a differentiable map of the times."""
    ((times, *_), _), (ordered, spike, generation) = given, known
    return jnp.where(ordered < jnp.inf, _taken(times, spike), ordered), spike, generation


def _padded(
    times: Float[Array, "batch lanes spikes"], spike: Int[Array, "batch lanes spikes"], places: int
) -> tuple[Float[Array, "arrivals batch lanes"], Int[Array, "arrivals batch lanes"]]:
    """With the arrivals first, and more of them: `inf` for times, and zero for indices."""
    times, spike = (jnp.moveaxis(part, 2, 0) for part in (times, spike))
    more = ((0, places - times.shape[0]), (0, 0), (0, 0))
    return jnp.pad(times, more, constant_values=jnp.inf), jnp.pad(spike, more)
