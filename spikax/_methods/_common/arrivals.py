"""The arrivals at a layer: all spikes of its sources, in order of arrival."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..._routing import delayed, SynapticInput
from .axes import indices, Places
from .compaction import first_places, of_columns
from .differentiation import found
from .sorting import sorted_rows
from .vectorized import any_member


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


class Sent(eqx.Module):
    """What the arrivals depend on smoothly: the spikes of the sources, as in `SynapticInput`."""

    times: Float[Array, "#batch #lanes spikes"]
    delay: Float[Array, "sources lanes"] | None
    gains: PyTree[Float[Array, "#batch #lanes spikes"]] | None

    @classmethod
    def of(cls, received: SynapticInput) -> "Sent":
        """The spikes that a layer receives."""
        return cls(received.times, received.delay, received.gains)

    def add(
        self, places: Places, spike: Int[Array, "..."], source: Int[Array, "..."], time: Array, gain: PyTree[Array]
    ) -> "Sent":
        """These cotangents, with those of the time and the factors of arrivals, of which each has a spike.

        A source that does not exist has no delay.
        """

        def of_spikes(sums, bar):
            return sums.at[(*lane_in(sums.shape, places), spike)].add(bar, mode="promise_in_bounds")

        delay = None if self.delay is None else self.delay.at[source, places.unit].add(time, mode="drop")
        return Sent(of_spikes(self.times, time), delay, jax.tree.map(of_spikes, self.gains, gain))


def lane_in(shape: tuple[int, ...], places: Places) -> tuple[Array | int, Array | int]:
    """The sample and the lane of each unit in an array with the axes `(#batch, #lanes)`."""
    return places.sample if shape[0] > 1 else 0, places.unit if shape[1] > 1 else 0


def taken(leaf: Array, spike: Int[Array, "arrivals batch lanes"]) -> Array:
    """The entries of `(#batch, #lanes, spikes)` for each arrival."""
    where = *lane_in(leaf.shape, lanes_of(spike)), spike
    return leaf.at[where].get(mode="promise_in_bounds")


def lanes_of(spike: Int[Array, "arrivals batch lanes"]) -> Places:
    """The sample and the lane of each arrival."""
    return Places(indices(spike.shape[1])[:, None], indices(spike.shape[2]))


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

    return of_columns(jnp.max(count), times.shape[2], sort_existing)


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
    t = taken(times, spike)
    if delay is not None:
        t += delay.at[taken(source, spike), indices(spike.shape[2])].get(mode="fill", fill_value=0.0)
    return jnp.where(ordered < jnp.inf, t, ordered), spike


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
    return jnp.where(ordered < jnp.inf, taken(times, spike), ordered), spike, generation


def _padded(
    times: Float[Array, "batch lanes spikes"], spike: Int[Array, "batch lanes spikes"], places: int
) -> tuple[Float[Array, "arrivals batch lanes"], Int[Array, "arrivals batch lanes"]]:
    """With the arrivals first, and more of them: `inf` for times, and zero for indices."""
    times, spike = (jnp.moveaxis(part, 2, 0) for part in (times, spike))
    more = ((0, places - times.shape[0]), (0, 0), (0, 0))
    return jnp.pad(times, more, constant_values=jnp.inf), jnp.pad(spike, more)
