"""The arrivals at a layer: all spikes of its sources, in order of arrival."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .axes import indices, Places


class Arrivals(eqx.Module):
    """The times of the arrivals, ascending and padded with `inf`, and the index of the spike of each arrival.

    There is one lane per unit, or a single lane if all units receive the same arrivals.
    """

    times: Float[Array, "batch lanes arrivals"]
    spike: Int[Array, "batch lanes arrivals"]
    source: Int[Array, "samples spikes"]  # of each spike, in the order of the sources; `samples` may be one
    generation: Int[Array, "batch lanes arrivals"] | None = None  # if the order of simultaneous arrivals matters

    def at(self, places: Places, cursor: Int[Array, "batch units 1"]) -> tuple[Array, Array]:
        """The time of the arrival at the cursor of each unit, and its spike."""
        place = (*self.lane(places), cursor)
        inside = {"mode": "promise_in_bounds"}
        return self.times.at[place].get(**inside), self.spike.at[place].get(**inside)

    def generation_at(self, places: Places, cursor: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The generation of the arrival at the cursor of each unit; zero if the order does not matter."""
        if self.generation is None:
            return jnp.zeros_like(cursor)
        return self.generation.at[(*self.lane(places), cursor)].get(mode="promise_in_bounds")

    def source_of(self, places: Places, spike: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The source of a spike."""
        sample = places.sample if self.source.shape[0] > 1 else 0
        return self.source.at[sample, spike].get(mode="promise_in_bounds")

    def lane(self, places: Places) -> tuple[Array, Array]:
        """The sample and the lane of each unit."""
        return places.sample, places.unit if self.times.shape[1] > 1 else jnp.zeros((1, 1, 1), jnp.int32)


def in_order(
    times: Float[Array, "batch lanes spikes"],
    source: Int[Array, "samples spikes"],
    generation: Int[Array, "batch lanes spikes"] | None = None,
) -> Arrivals:
    """Sorts the spikes of all sources by time and generation. Equal ones keep the order of the sources."""
    batch, lanes, spikes = times.shape
    if generation is not None:
        spike = jnp.broadcast_to(indices(spikes), times.shape)
        times, generation, spike = lax.sort((times, generation, spike), num_keys=2)
        return _with_end(times, spike, source, generation)
    flat = times.reshape(batch * lanes, spikes)
    # In halves, which run in parallel: a single sort uses only one core.
    half = batch * lanes // 2
    halves = [_sort(part) for part in (flat[:half], flat[half:]) if part.shape[0]]
    return _with_end(*(jnp.concatenate(part).reshape(times.shape) for part in zip(*halves, strict=True)), source)


def _with_end(times: Array, spike: Array, source: Array, generation: Array | None = None) -> Arrivals:
    """The arrivals with one more at `inf`, for cursors past the last arrival."""

    def extended(part, value):
        return jnp.pad(part, ((0, 0), (0, 0), (0, 1)), constant_values=value)

    after = None if generation is None else extended(generation, 0)
    return Arrivals(extended(times, jnp.inf), extended(spike, 0), source, after)


def _sort(flat: Array) -> tuple[Array, Array]:
    """The sorted times and their order.

    Most places of a spike train are empty, and a partial sort of the filled ones is several times faster than a full
    sort. Their number is known only at run time, so partial sorts of a few sizes are compiled.
    """
    length = flat.shape[1]
    sizes = [size for size in (length // 4, length // 2) if size >= 32]

    def smallest(size):
        def sort(flat):
            negative, order = lax.top_k(-flat, size)
            rest = ((0, 0), (0, length - size))
            return jnp.pad(-negative, rest, constant_values=jnp.inf), jnp.pad(order, rest)

        return sort

    def full(flat):
        order = jnp.argsort(flat, axis=1)
        return jnp.take_along_axis(flat, order, axis=1), order.astype(jnp.int32)

    if not sizes:
        return full(flat)
    filled = jnp.max(jnp.sum(flat < jnp.inf, axis=1, dtype=jnp.int32))
    choice = jnp.sum(filled > jnp.asarray(sizes, jnp.int32), dtype=jnp.int32)
    return lax.switch(choice, [*map(smallest, sizes), full], flat)
