"""The arrivals at a layer: all spikes of its sources, in order of arrival."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..._routing import SynapticInput
from .axes import indices, Places
from .differentiation import found
from .sorting import sorted_rows
from .vectorized import any_member


class Arrivals(eqx.Module):
    """The times of the arrivals, ascending and padded with `inf`, and the index of the spike of each arrival.

    There is one lane per unit, or a single lane if all units receive the same arrivals.
    """

    times: Float[Array, "batch lanes arrivals"]
    spike: Int[Array, "batch lanes arrivals"]
    source: Int[Array, "#batch #lanes spikes"]  # of each spike
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
        sample, lane = places.sample, places.unit
        place = sample if self.source.shape[0] > 1 else 0, lane if self.source.shape[1] > 1 else 0, spike
        return self.source.at[place].get(mode="promise_in_bounds")

    def lane(self, places: Places) -> tuple[Array, Array]:
        """The sample and the lane of each unit."""
        return places.sample, places.unit if self.times.shape[1] > 1 else jnp.zeros((1, 1, 1), jnp.int32)


def in_order(received: SynapticInput) -> Arrivals:
    """Sorts the spikes of all sources by time and generation. Equal ones keep the order of the sources."""
    shared = received.source
    if received.generation is None and received.is_sorted:
        spike = jnp.broadcast_to(indices(received.times.shape[2]), received.times.shape)
        return _with_end(received.times, spike, shared)
    times, spike, generation = found(_sort, _sorted_again)((received.times, received.generation, received.is_sorted))
    return _with_end(times, spike, shared, generation)


def _sort(given: tuple[Array, Array | None, bool]) -> tuple[Array, Array, Array | None]:
    """The sorted times and generations, and the order of the spikes."""
    times, generation, is_sorted = given
    batch, lanes, spikes = times.shape
    spike = jnp.broadcast_to(indices(spikes), times.shape)
    if generation is None:
        times, spike = (part.reshape(times.shape) for part in sorted_rows(times.reshape(batch * lanes, spikes)))
        return times, spike, None
    is_wrong = (times[..., :-1] == times[..., 1:]) & (generation[..., :-1] > generation[..., 1:])
    # Arrivals that are sorted by time are rarely simultaneous.
    needs_sort = jnp.any(is_wrong & (times[..., 1:] < jnp.inf)) if is_sorted else jnp.bool_(True)
    parts = times, generation, spike
    times, generation, spike = lax.cond(
        any_member(needs_sort), lambda *p: tuple(lax.sort(p, num_keys=2)), lambda *p: p, *parts
    )
    return times, spike, generation


def _sorted_again(given: tuple[Array, Array | None, bool], known: tuple[Array, Array, Array | None]):
    """The same in the known order, as a differentiable map of the times."""
    (times, *_), (_, spike, generation) = given, known
    return jnp.take_along_axis(times, spike, axis=2), spike, generation


def _with_end(times: Array, spike: Array, source: Array, generation: Array | None = None) -> Arrivals:
    """The arrivals with one more at `inf`, for cursors past the last arrival."""

    def extended(part, value):
        return jnp.pad(part, ((0, 0), (0, 0), (0, 1)), constant_values=value)

    after = None if generation is None else extended(generation, 0)
    return Arrivals(extended(times, jnp.inf), extended(spike, 0), source, after)
