"""Spike trains as nested lists of arrays, event lists as tables, and their times in ms; all in NumPy."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._checks import require, require_count, require_instance


TICKS_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# The resolution of event cameras. Times that the float type cannot hold to this accuracy are an error.
RESOLUTION = 1e-3


class Trains(NamedTuple):
    """Trains of all neurons of all samples, one after the other, each ascending.

    - `times`: the spike times of each train, in ms.
    - `batch`: the batch axes.
    - `n`: the number of neurons.
    """

    times: list[np.ndarray]
    batch: tuple[int, ...]
    n: int

    @property
    def dtype(self) -> Any:
        """The float type of the times."""
        return self.times[0].dtype


def read_trains(trains: Any, unit: str) -> Trains:
    """Reads nested lists of arrays: the last level is that of neurons, all others are batch axes."""
    require_unit(unit)
    hint = "For example `[[1.0, 4.0], [2.5]]`: two neurons."
    require(_items(trains) is not None, "trains", "a list of one array of times per neuron", trains, hint, TypeError)
    flat: list[np.ndarray] = []
    *batch, n = _collect(trains, unit, flat)
    return Trains(flat, tuple(batch), n)


def padded(trains: Trains, max_spikes: int | None) -> np.ndarray:
    """The times in an array of shape `(*batch, n, max_spikes)`, padded with `inf`."""
    most = max(1, *(train.size for train in trains.times))
    if max_spikes is None:
        max_spikes = most
    require_count(max_spikes, "max_spikes")
    require(most <= max_spikes, "max_spikes", f"at least {most}, the most spikes of a neuron", max_spikes)
    times = np.full((len(trains.times), max_spikes), np.inf, trains.dtype)
    for row, train in zip(times, trains.times, strict=True):
        row[: train.size] = train
    return times.reshape(*trains.batch, trains.n, max_spikes)


def merged(trains: Trains) -> tuple[np.ndarray, np.ndarray]:
    """Times and channels of the events of each sample, sorted by time; shape `(*batch, events)`, padded with `inf`."""
    samples = [trains.times[i : i + trains.n] for i in range(0, len(trains.times), trains.n)]
    most = max(1, *(sum(train.size for train in sample) for sample in samples))
    times = np.full((len(samples), most), np.inf, trains.dtype)
    channels = np.zeros((len(samples), most), np.int32)
    for row, sample in enumerate(samples):
        flat = np.concatenate(sample)
        numbers = np.repeat(np.arange(trains.n, dtype=np.int32), [train.size for train in sample])
        order = np.argsort(flat, kind="stable")
        times[row, : flat.size], channels[row, : flat.size] = flat[order], numbers[order]
    return times.reshape(*trains.batch, most), channels.reshape(*trains.batch, most)


def nested(split: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """`split` of each row of the arrays, along the last axis; in nested lists over the other axes."""
    return split(*arrays) if arrays[0].ndim == 1 else [nested(split, *rows) for rows in zip(*arrays, strict=True)]


def read_table(
    table: Any, channels: Mapping[str, int], time: str, unit: str, start: int | float | np.number
) -> tuple[np.ndarray, np.ndarray, int]:
    """Times in ms, ascending, and channels of the events in a table with named columns, and the number of channels."""
    require_unit(unit)
    require_instance(time, str, "time", "the name of a column")
    hint = 'For example `{"p": 2, "y": 34, "x": 34}`.'
    is_dict = isinstance(channels, Mapping) and len(channels) > 0
    require(is_dict, "channels", "a dictionary of columns with their sizes", channels, hint, TypeError)
    for name, size in channels.items():
        require_count(size, f"channels[{name!r}]")
    stamps, *axes = (_column(table, name) for name in (time, *channels))
    for name, column, size in zip(channels, axes, channels.values(), strict=True):
        is_index = column.dtype.kind in "iub" and column.shape == stamps.shape
        require(is_index, f"array[{name!r}]", f"integers of shape {stamps.shape}, one per event", column)
        inside = bool(np.all((column >= 0) & (column < size)))
        hint = "Polarities of -1 and 1 become 0 and 1 by `> 0`." if size == 2 else ""
        require(inside, f"array[{name!r}]", f"from 0 to {size - 1}", column, hint)
    order = np.argsort(stamps, kind="stable")
    n = math.prod(channels.values())
    require(n < 2**31, "channels", "fewer than 2**31 in total", n)
    flat = np.ravel_multi_index([axis[order].astype(np.intp) for axis in axes], tuple(channels.values()))
    times = milliseconds(_since(stamps[order], start, time), unit, f"array[{time!r}]", "Subtract an earlier `start`.")
    return times, flat.astype(np.int32), n


def milliseconds(stamps: np.ndarray, unit: str, name: str, hint: str) -> np.ndarray:
    """Time stamps in ms, in the default float type. Raises for times that this type cannot resolve."""
    # In this order: the product of an integer is exact, and the quotient is the nearest float.
    exact = stamps.astype(np.float64) * 1e3 / TICKS_PER_S[unit]
    times = exact.astype(jnp.result_type(float))
    error = float(np.max(np.abs(times - exact), initial=0.0))
    expectation = f"of times that {times.dtype} holds to 1 us"
    hint = f"{hint} Or call `jax.config.update('jax_enable_x64', True)`."
    require(error <= RESOLUTION, name, expectation, stamps, hint)
    return times


def require_unit(unit: Any) -> None:
    """Raises unless `unit` is a unit of time."""
    require(isinstance(unit, str) and unit in TICKS_PER_S, "unit", f"one of {list(TICKS_PER_S)}", unit)


def _items(node: Any) -> Sequence[Any] | None:
    """The items of a level, or None for a train: an array of numbers, or a list of them."""
    if isinstance(node, str | bytes | Mapping) or not isinstance(node, Iterable):
        return None
    # An array of objects, such as a column of arrays in pandas, is a level too.
    if getattr(getattr(node, "dtype", None), "kind", "O") != "O":
        return None
    items = list(node)
    return items if any(isinstance(item, Iterable) for item in items) else None


def _collect(node: Any, unit: str, flat: list[np.ndarray]) -> tuple[int, ...]:
    """Appends the trains of a level to `flat`. Returns the lengths of this level and of those below."""
    items = _items(node)
    if items is None:
        flat.append(_train(node, unit))
        return ()
    shapes = {_collect(item, unit, flat) for item in items}
    hint = "Every sample needs one list per neuron, which may be empty."
    require(len(shapes) == 1, "trains", "lists of the same length on each level but the last", sorted(shapes), hint)
    return len(items), *shapes.pop()


def _train(node: Any, unit: str) -> np.ndarray:
    """The times of a train in ms, ascending."""
    if hasattr(node, "rescale"):  # a quantity, such as `neo.SpikeTrain`, whose unit NumPy would drop
        node, unit = node.rescale("ms").magnitude, "ms"
    try:
        stamps = np.asarray(node)
    except ValueError:
        stamps = np.asarray(None)
    stamps = stamps.astype(float) if stamps.size == 0 else stamps
    require(stamps.dtype.kind in "iuf", "trains", "lists of arrays of real numbers", node, error=TypeError)
    hint = "The times of one neuron have one axis. For padded arrays use `sx.Spikes(times)`."
    require(stamps.ndim == 1, "trains", "arrays of shape (spikes,)", stamps, hint)
    hint = "Leave out the padding."
    require(bool(np.all(np.isfinite(stamps))), "trains", "finite times", stamps, hint)
    return np.sort(milliseconds(stamps, unit, "trains", "Subtract the time of their start."))


def _column(table: Any, name: str) -> np.ndarray:
    """A column of a structured array, a data frame or a dictionary."""
    structured = table.dtype.names if isinstance(table, np.ndarray) else None
    is_table = structured is not None or isinstance(table, Mapping) or hasattr(table, "columns")
    expectation = "a structured array, a data frame or a dictionary of columns"
    require(is_table, "array", expectation, table, error=TypeError)
    names = list(table if structured is None else structured)
    hint = "Name the column of the time by `time`, and those of the channel by `channels`."
    require(name in names, "array", f"a table with the column {name!r}", names, hint)
    column = np.asarray(table[name])
    is_list = column.dtype.kind in "iufb" and column.ndim == 1
    require(is_list, f"array[{name!r}]", "an array of numbers of shape (events,)", column, error=TypeError)
    return column


def _since(stamps: np.ndarray, start: Any, name: str) -> np.ndarray:
    """The stamps less `start`: exactly, if they are integers."""
    is_integer = stamps.dtype.kind in "iu"
    require(is_integer or stamps.dtype.kind == "f", f"array[{name!r}]", "real numbers", stamps, error=TypeError)
    kinds = (int, np.integer) if is_integer else (int, float, np.number)
    is_start = isinstance(start, kinds) and not isinstance(start, bool)
    expectation = "an integer, like the time stamps" if is_integer else "a real number"
    require(is_start, "start", expectation, start, error=TypeError)
    require(bool(np.all(np.isfinite(stamps))), f"array[{name!r}]", "finite", stamps)
    if not is_integer or stamps.size == 0:
        return stamps - start if stamps.size else np.zeros(0)
    least, most, limit = int(stamps[0]) - int(start), int(stamps[-1]) - int(start), 2**63
    require(-limit <= least and most < limit, "start", "near the time stamps", start)
    # Of unsigned stamps before `start`, the difference wraps around to the right signed one.
    return (stamps.astype(np.uint64) - np.uint64(int(start) % 2**64)).view(np.int64)
