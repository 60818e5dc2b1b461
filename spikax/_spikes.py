"""Spike trains, as padded arrays and as lists of events."""

import functools
import math
from collections.abc import Mapping
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
from ._trains import merged, nested, padded, read_table, read_trains


def _times(value: Any) -> Array:
    array = as_array(value, "times")
    is_number = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    require(bool(is_number), "times", "an array of real numbers", value, error=TypeError)
    return jnp.asarray(array) if np.issubdtype(array.dtype, np.floating) else jnp.asarray(array, jnp.result_type(float))


class Events(eqx.Module):
    """Spikes as a list of events for each sample.

    **Arguments:**

    - `times`: the event times, in ms, ascending, `inf` where there is no event; shape `(*batch, events)`.
    - `channels`: the channel of each event, integers from 0 to `n - 1` of the same shape; ignored where the time is
      `inf`.
    - `n`: the number of channels.

    **Raises:** `TypeError` or `ValueError` for other values, unless they are traced.
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

    @staticmethod
    def from_array(
        array: Any,
        channels: Mapping[str, int],
        *,
        time: str = "t",
        unit: str = "us",
        start: int | float | np.number = 0,
    ) -> "Events":
        """Reads the events of one recording from a table, such as that of an event camera.

        ```python
        events = sx.Events.from_array(recording, {"p": 2, "y": 34, "x": 34})  # 2 * 34 * 34 channels
        ```

        **Main arguments:**

        - `array`: a structured array of NumPy, a data frame of pandas, or a dictionary of columns, with one event per
          row, in any order.
        - `channels`: the columns that determine the channel, with their sizes. The last one varies fastest: with the
          columns `p`, `y` and `x`, the channel is `(p * height + y) * width + x`, as [`spikax.Conv`][] reads it. Other
          columns have no effect.

        **Other arguments:**

        - `time`: the name of the column of time stamps, integers or floats.
        - `unit`: the unit of the time stamps: `"s"`, `"ms"`, `"us"` or `"ns"`.
        - `start`: the time stamp at which the time is zero. Integers are subtracted exactly, before the conversion to
          ms, so stamps since the epoch lose nothing.

        **Returns:** [`spikax.Events`][] with times of shape `(events,)`, in the default float type. They hold NumPy
        arrays, so many recordings stay in host memory. [`spikax.datasets.Loader`][] makes batches of a list of them.

        **Raises:** `TypeError` or `ValueError` for missing columns, channels out of range, and times that the float
        type would round by more than 1 us.
        """
        return on_host(*read_table(array, channels, time, unit, start))

    @staticmethod
    def from_trains(trains: Any, *, unit: str = "ms") -> "Events":
        """Creates lists of events from nested lists of spike trains, as `Spikes.from_trains`.

        **Returns:** [`spikax.Events`][] with times of shape `(*batch, events)`, which fit the sample with most events.

        **Raises:** `TypeError` or `ValueError`, as `Spikes.from_trains`.
        """
        read = read_trains(trains, unit)
        return Events(*merged(read), read.n)

    def to_trains(self) -> list[Any]:
        """Returns nested lists with one array of times per channel; the inverse of `from_trains`.

        **Raises:** `ValueError` for traced times.
        """

        def split(times, channels):
            happened = times < np.inf
            order = np.argsort(channels[happened], kind="stable")
            counts = np.bincount(channels[happened], minlength=self.n)
            return np.split(times[happened][order], np.cumsum(counts)[:-1])

        return nested(split, _concrete(self.times), np.asarray(self.channels))

    def spikes(self, max_spikes: int | None = None) -> "Spikes":
        """Converts the events to padded spike trains, one for each channel; the inverse of `Spikes.events`.

        **Arguments:**

        - `max_spikes`: the capacity `k` of each channel. By default the largest count, which is unknown under
          `jax.jit`.

        **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n, max_spikes)`.

        **Raises:** `ValueError` for a channel with more events than `max_spikes`; under `jax.jit`, a run-time error.
        """
        # A place without an event may have any channel.
        channels = jnp.where(jnp.isfinite(self.times), self.channels, 0)
        return Spikes.from_events(self.times, channels, self.n, max_spikes=max_spikes)


class Spikes(eqx.Module):
    """The spikes of `n` neurons, at most `k` each.

    **Arguments:**

    - `times`: the spike times of each neuron, in ms, ascending, `inf` where there is no spike; shape `(*batch, n, k)`.
    - `payload`: optional values that the spikes carry: any pytree of arrays of this shape; ignored, but finite, where
      there is no spike.

    **Raises:** `TypeError` or `ValueError` for other values, unless they are traced.
    """

    times: Float[Array, "*batch n k"] = eqx.field(converter=_times)
    payload: PyTree[Float[Array, "*batch n k"]] = None

    def __check_init__(self):
        shape_is_right = self.times.ndim >= 2 and self.times.shape[-2] > 0 and self.times.shape[-1] > 0
        hint = "The last axis counts the spikes of a neuron. For one spike: `times[..., None]`."
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
        """Creates spike trains from lists of events, in any order within a sample.

        **Arguments:**

        - `times`: the event times, in ms, `inf` where there is no event; shape `(*batch, events)`.
        - `channels`: the channel of each event, integers from 0 to `n - 1` of the same shape.
        - `n`: the number of channels.
        - `max_spikes`: the capacity `k` of each channel. By default the largest count, which is unknown under
          `jax.jit`.

        **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n, max_spikes)`.

        **Raises:** `ValueError` for a channel with more events than `max_spikes`; under `jax.jit`, a run-time error. No
        event is dropped.
        """
        require_count(n, "n")
        # Checked, since the scatter below would silently drop an event of an invalid channel.
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
        ordered = _with_room(events.times, largest, max_spikes)
        *batch, length = ordered.shape
        flat = [part.reshape(math.prod(batch), length) for part in (ordered, events.channels, place)]
        sample = jnp.arange(flat[0].shape[0])[:, None]
        empty = jnp.full((flat[0].shape[0], n, max_spikes), jnp.inf, ordered.dtype)
        # The padding has the time `inf`, so `min` leaves the trains unchanged.
        filled = empty.at[sample, flat[1], flat[2]].min(flat[0], mode="drop")
        return Spikes(filled.reshape(*batch, n, max_spikes))

    @staticmethod
    def from_trains(trains: Any, *, unit: str = "ms", max_spikes: int | None = None) -> "Spikes":
        """Creates spikes from nested lists of spike trains of any lengths.

        ```python
        spikes = sx.Spikes.from_trains([[1.0, 4.0], [], [2.5]])  # times of shape (3, 2)
        ```

        **Arguments:**

        - `trains`: a list with one train per neuron; for samples, a list of such lists, and so on. A train is an array
          or a list of times, in any order, which may be empty. Trains with units, such as `neo.SpikeTrain`, are
          converted to ms.
        - `unit`: the unit of times without units: `"s"`, `"ms"`, `"us"` or `"ns"`.
        - `max_spikes`: the capacity `k` of each neuron. By default the largest count.

        **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n, max_spikes)`, in the default float type.

        **Raises:** `TypeError` or `ValueError` for times that are not finite, for different numbers of neurons, for
        more than `max_spikes` spikes, and for times that the float type would round by more than 1 us.
        """
        return Spikes(padded(read_trains(trains, unit), max_spikes))

    def to_trains(self) -> list[Any]:
        """Returns nested lists with one array of times per neuron, without payloads; the inverse of `from_trains`.

        **Raises:** `ValueError` for traced times.
        """
        return nested(lambda times: times[times < np.inf], _concrete(self.times))

    def events(self) -> Events:
        """Returns all spikes of each sample as one list, sorted by time, without payloads; shape `(*batch, n * k)`."""
        *batch, n, k = self.times.shape
        flat = self.times.reshape(*batch, n * k)
        order = jnp.argsort(flat, axis=-1)
        return Events(jnp.take_along_axis(flat, order, axis=-1), order // k, n)


def on_host(times: np.ndarray, channels: np.ndarray, n: int) -> Events:
    """Events that hold NumPy arrays. They are not checked."""
    return jax.tree.unflatten(_structure(n), (times, channels))


@functools.cache
def _structure(n: int) -> Any:
    """The tree structure of events on `n` channels."""
    return jax.tree.structure(Events(np.zeros(0), np.zeros(0, int), n))


def first_spike(spikes: Spikes) -> Float[Array, "*batch n"]:
    """The first spike time of each neuron, in ms, `inf` if it is silent; shape `(*batch, n)`."""
    require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
    return spikes.times[..., 0]


def _concrete(times: Array | np.ndarray) -> np.ndarray:
    """The times as an array of NumPy. Raises if they are traced."""
    numbers = known(times)
    require(numbers is not None, "times", "concrete, not traced", times, "Convert them outside of `jax.jit`.")
    return numbers  # pyright: ignore[reportReturnType]


def _places(events: Events) -> Int[Array, "*batch events"]:
    """The number of earlier events in the channel of each event. The events are in order."""
    by_channel = jnp.argsort(events.channels, axis=-1, stable=True)
    channels = jnp.take_along_axis(events.channels, by_channel, axis=-1)
    index = jnp.broadcast_to(jnp.arange(channels.shape[-1]), channels.shape)
    is_first = jnp.concatenate([jnp.ones_like(channels[..., :1], bool), channels[..., 1:] != channels[..., :-1]], -1)
    start = jax.lax.cummax(jnp.where(is_first, index, 0), axis=channels.ndim - 1)
    return jnp.take_along_axis(index - start, jnp.argsort(by_channel, axis=-1), axis=-1)


def _with_room(times: Array, largest: Array, max_spikes: int) -> Array:
    """Returns the times. Raises, now or at run time, if a channel has more than `max_spikes` events."""
    count = known(largest)
    if count is not None:
        require(count <= max_spikes, "max_spikes", f"at least {count}, the most events of a channel", max_spikes)
        return times
    message = f"A channel holds more events than `max_spikes={max_spikes}`. Raise `max_spikes`."
    return eqx.error_if(times, largest > max_spikes, message)


def _require_ascending(times: Array, hint: str) -> None:
    numbers = known(times)
    if numbers is None:
        return
    require(not np.any(np.isnan(numbers)), "times", "free of NaN", times, "Write `inf` where there is no spike.")
    require(bool(np.all(numbers > -np.inf)), "times", "above -inf", times)
    # Compared, not subtracted: the difference of two `inf` is NaN.
    require(bool(np.all(numbers[..., 1:] >= numbers[..., :-1])), "times", "ascending", times, hint)
