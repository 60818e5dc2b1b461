"""The arrivals of a layer: all spikes of its sources, in the order in which they come."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .units import Places


class Arrivals(eqx.Module):
    """The times of the arrivals, ascending and padded with `inf`, and which spike of the sources each one is.

    There is one lane for every unit, or a single one, where all units hear the same.
    """

    times: Float[Array, "batch lanes arrivals"]
    spike: Int[Array, "batch lanes arrivals"]
    source: Int[Array, "samples spikes"]  # of every spike, in the order of the sources; `samples` may be one

    def at(self, places: Places, cursor: Int[Array, "batch units 1"]) -> tuple[Array, Array]:
        """The time of the arrival at the cursor of each unit, and its spike."""
        place = (*self.lane(places), cursor)
        inside = {"mode": "promise_in_bounds"}
        return self.times.at[place].get(**inside), self.spike.at[place].get(**inside)

    def source_of(self, places: Places, spike: Int[Array, "batch units 1"]) -> Int[Array, "batch units 1"]:
        """The source of a spike."""
        sample = places.sample if self.source.shape[0] > 1 else 0
        return self.source.at[sample, spike].get(mode="promise_in_bounds")

    def lane(self, places: Places) -> tuple[Array, Array]:
        """The sample and the lane of every unit."""
        return places.sample, places.unit if self.times.shape[1] > 1 else jnp.zeros((1, 1, 1), jnp.int32)


def in_order(times: Float[Array, "batch lanes spikes"], source: Int[Array, "samples spikes"]) -> Arrivals:
    """Sorts the spikes of all sources by time; equal times keep the order of the sources."""
    batch, lanes, spikes = times.shape
    flat = times.reshape(batch * lanes, spikes)
    # In halves, which run side by side: one sort keeps to one core.
    half = batch * lanes // 2
    halves = [_sort(part) for part in (flat[:half], flat[half:]) if part.shape[0]]
    sorted_times, spike = (jnp.concatenate(part).reshape(times.shape) for part in zip(*halves, strict=True))
    # One arrival more, which never comes: a cursor past the last arrival rests there.
    never = jnp.full((batch, lanes, 1), jnp.inf, flat.dtype)
    return Arrivals(
        jnp.concatenate([sorted_times, never], axis=2),
        jnp.concatenate([spike, jnp.zeros((batch, lanes, 1), spike.dtype)], axis=2),
        source,
    )


def _sort(flat: Array) -> tuple[Array, Array]:
    """Sorted times and their order.

    Most places of a spike train are empty, and a partial sort of as many as are filled is several times faster than
    a full one; how many are filled is known at run time only, so a few sizes stand ready.
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
