"""Spike trains, as padded arrays and as lists of events."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ._checks import (
    as_array,
    as_indices,
    checked_indices,
    known,
    require,
    require_count,
    require_finite,
    require_instance,
)


def _times(value: Any) -> Array:
    array = as_array(value, "times")
    is_number = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    require(bool(is_number), "times", "an array of real numbers", value, error=TypeError)
    return jnp.asarray(array) if np.issubdtype(array.dtype, np.floating) else jnp.asarray(array, jnp.result_type(float))


class Events(eqx.Module):
    """A list of events per sample: when each happened, and in which channel.

    **Arguments:**

    - `times`: shape `(*batch, events)`, ascending, `inf` where there is no event.
    - `channels`: integers of the same shape, from 0 to `n - 1`; of no meaning where the time is `inf`.
    - `n`: the number of channels.

    Raises `TypeError` or `ValueError` for anything else, as far as the values are known.
    """

    times: Float[Array, "*batch events"] = eqx.field(converter=_times)
    channels: Int[Array, "*batch events"] = eqx.field(converter=lambda value: as_indices(value, "channels"))
    n: int = eqx.field(static=True)

    def __check_init__(self):
        require_count(self.n, "n")
        require(self.times.ndim >= 1, "times", "of shape (*batch, events)", self.times)
        same = self.times.shape == self.channels.shape
        require(same, "channels", f"of the shape of `times`, {self.times.shape}", self.channels)
        _require_ascending(self.times, "Sort the events of each sample by time, with `inf` last.")
        channels = known(self.channels)
        inside = channels is None or bool(np.all((channels >= 0) & (channels < self.n)))
        require(inside, "channels", f"from 0 to n - 1 = {self.n - 1}", channels)


class Spikes(eqx.Module):
    """The spikes of `n` neurons, at most `k` each.

    **Arguments:**

    - `times`: shape `(*batch, n, k)`: the spike times of each neuron, ascending, `inf` where there is no spike.
    - `payload`: what the spikes carry, if anything: arrays of this shape, in any structure; of no meaning, but finite,
      where there is no spike.

    Raises `TypeError` or `ValueError` for anything else, as far as the values are known.
    """

    times: Float[Array, "*batch n k"] = eqx.field(converter=_times)
    payload: PyTree[Float[Array, "*batch n k"]] = None

    def __check_init__(self):
        shape_is_right = self.times.ndim >= 2 and self.times.shape[-2] > 0 and self.times.shape[-1] > 0
        hint = "One spike per neuron still needs its own axis: `times[..., None]`."
        require(shape_is_right, "times", "of shape (*batch, n, k), neither n nor k zero", self.times, hint)
        n, k = self.times.shape[-2:]
        read = f"This shape, {self.times.shape}, is that of {n} neurons with up to {k} spikes each"
        _require_ascending(self.times, f"{read}: sort them, with `inf` last. {hint}")
        for leaf in jax.tree.leaves(self.payload):
            require_finite(leaf, "payload")
            same = jnp.shape(leaf) == self.times.shape
            require(same, "payload", f"of the shape of `times`, {self.times.shape}", leaf)

    @property
    def count(self) -> Int[Array, "*batch n"]:
        """The number of spikes of each neuron."""
        return jnp.sum(jnp.isfinite(self.times), axis=-1)

    @staticmethod
    def from_events(times: Any, channels: Any, n: int, *, max_spikes: int | None = None) -> "Spikes":
        """Spike trains from lists of events, in any order within a sample.

        **Arguments:**

        - `times`: shape `(*batch, events)`, `inf` where there is no event.
        - `channels`: integers of the same shape, from 0 to `n - 1`.
        - `n`: the number of channels.
        - `max_spikes`: the capacity `k` of each channel. By default the largest count, which must be known: give
            it under `jax.jit`.

        An event that finds its channel full raises an error; none is dropped.
        """
        require_count(n, "n")
        # An event of a channel that is not there would be lost where the trains are filled.
        times, channels = _times(times), checked_indices(channels, "channels", n)
        require(times.ndim >= 1, "times", "of shape (*batch, events)", times)
        require(channels.shape == times.shape, "channels", f"of the shape of `times`, {times.shape}", channels)
        order = jnp.argsort(times, axis=-1)
        ordered, channels = (jnp.take_along_axis(part, order, axis=-1) for part in (times, channels))
        events = Events(ordered, channels, n)
        place = _places(events)
        largest = jnp.max(jnp.where(jnp.isfinite(events.times), place + 1, 0), initial=0)
        if max_spikes is None:
            count = known(largest)
            hint = "Its default is the largest count, which is unknown under `jax.jit`."
            require(count is not None, "max_spikes", "given while `times` are traced", max_spikes, hint)
            max_spikes = max(int(count), 1)  # pyright: ignore[reportArgumentType]
        require_count(max_spikes, "max_spikes")
        message = f"A channel holds more events than `max_spikes={max_spikes}`. Raise `max_spikes`."
        ordered = eqx.error_if(events.times, largest > max_spikes, message)
        *batch, length = ordered.shape
        flat = [part.reshape(math.prod(batch), length) for part in (ordered, events.channels, place)]
        sample = jnp.arange(flat[0].shape[0])[:, None]
        empty = jnp.full((flat[0].shape[0], n, max_spikes), jnp.inf, ordered.dtype)
        # Padding, with its time `inf`, goes where it changes nothing.
        filled = empty.at[sample, flat[1], flat[2]].min(flat[0], mode="drop")
        return Spikes(filled.reshape(*batch, n, max_spikes))

    def events(self) -> Events:
        """All spikes of each sample in one list, sorted by time, without their payloads; shape `(*batch, n * k)`."""
        *batch, n, k = self.times.shape
        flat = self.times.reshape(*batch, n * k)
        order = jnp.argsort(flat, axis=-1)
        return Events(jnp.take_along_axis(flat, order, axis=-1), order // k, n)


def first_spike(spikes: Spikes) -> Float[Array, "*batch n"]:
    """The time of each neuron's first spike, `inf` where it is silent; shape `(*batch, n)`."""
    require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
    return spikes.times[..., 0]


def _places(events: Events) -> Int[Array, "*batch events"]:
    """How many events of its channel come before each event; the events are in order."""
    by_channel = jnp.argsort(events.channels, axis=-1, stable=True)
    channels = jnp.take_along_axis(events.channels, by_channel, axis=-1)
    index = jnp.broadcast_to(jnp.arange(channels.shape[-1]), channels.shape)
    is_first = jnp.concatenate([jnp.ones_like(channels[..., :1], bool), channels[..., 1:] != channels[..., :-1]], -1)
    start = jax.lax.cummax(jnp.where(is_first, index, 0), axis=channels.ndim - 1)
    return jnp.take_along_axis(index - start, jnp.argsort(by_channel, axis=-1), axis=-1)


def _require_ascending(times: Array, hint: str) -> None:
    numbers = known(times)
    if numbers is None:
        return
    require(not np.any(np.isnan(numbers)), "times", "free of NaN", times, "Write `inf` where there is no spike.")
    require(bool(np.all(numbers > -np.inf)), "times", "above -inf", times)
    # Compared, not subtracted: the difference of two `inf` is NaN.
    require(bool(np.all(numbers[..., 1:] >= numbers[..., :-1])), "times", "ascending", times, hint)
