"""Plots of spikes and voltages over time."""

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

import numpy as np

from .._checks import as_array, require, require_finite, require_instance
from .._spikes import Events, Spikes
from ._style import axes, CLASS_COLOURS, INK, PALE, uncluttered, whole_numbers


if TYPE_CHECKING:
    from matplotlib.axes import Axes


# With more curves than colours, the next ones are dashed, and then dotted.
STROKES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))


def raster(
    spikes: Spikes | Events | Sequence[tuple[str, Spikes | Events]],
    ax: "Axes | None" = None,
    *,
    t1: float | None = None,
    colours: Sequence[str] = (INK,),
) -> "Axes":
    """Plots the spikes of one sample as a raster: a row per neuron, a stroke per spike.

    ```python
    inputs, hidden = jax.tree.map(lambda leaf: leaf[0], (inputs, solution.spikes["hidden"]))
    plot.raster([("input", inputs), ("hidden", hidden)], t1=60.0)
    ```

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] with times of shape `(n, k)`, or [`spikax.Events`][] with times of shape
      `(events,)`; or several layers, as pairs of a name and spikes, drawn one above the other in this order, the first
      at the bottom.
    - `ax`: the Matplotlib axes.
    - `t1`: the end of the time axis, in ms, for example the end of the simulation. By default the last spike.
    - `colours`: the colours of the layers, repeated as needed.

    **Returns:** the axes.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, such as the spikes of a whole batch.
    """
    is_one = isinstance(spikes, Spikes | Events)
    layers = [("", spikes)] if is_one else list(spikes)
    require(len(layers) > 0, "spikes", "at least one layer", layers)
    trains = [_trains(layer) for _, layer in layers]
    require(len(colours) > 0, "colours", "at least one colour", colours)
    start, end = _span(trains, t1)
    trains = [[train[train <= end] for train in each] for each in trains]
    ax = axes(ax)
    sizes = np.asarray([len(each) for each in trains])
    # Small layers get taller rows, so that three neurons are visible above a hundred.
    bands = np.maximum(sizes, 0.15 * sizes.max())
    gap = 0.04 * bands.sum()
    bottoms = np.cumsum(bands + gap) - bands - gap
    rows = bands / sizes
    for number, each in enumerate(trains):
        offsets = bottoms[number] + rows[number] * np.arange(sizes[number])
        _draw_strokes(ax, each, offsets, bands, number, colours[number % len(colours)])
        if number > 0:
            top = bottoms[number - 1] + bands[number - 1] - rows[number - 1]
            ax.axhline((top + bottoms[number]) / 2, color=PALE, linewidth=0.6)
    # A margin at both ends, since a stroke on the frame would not be visible.
    room = 0.015 * (end - start)
    ax.set_xlim(start - room, end + room)
    ax.set_xlabel("time (ms)")
    ax.set_ylim(-0.6 * rows[0] - gap / 2, bottoms[-1] + bands[-1])
    if is_one:
        ax.set_ylabel("channel" if isinstance(spikes, Events) else "neuron")
        whole_numbers(ax.yaxis)
        ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick < sizes[0]])
    else:
        names = [f"{name}\n({n})" for (name, _), n in zip(layers, sizes, strict=True)]
        ax.set_yticks(bottoms + (bands - rows) / 2, names)
        ax.tick_params(axis="y", length=0)
    return uncluttered(ax)


def _trains(layer: Any) -> list[np.ndarray]:
    """The spike times of each neuron of a layer, in one sample."""
    expectation = "`sx.Spikes` or `sx.Events`, or pairs of a name and these"
    require_instance(layer, (Spikes, Events), "spikes", expectation)
    is_list = isinstance(layer, Events)
    shape, is_one = ("(events,)", layer.times.ndim == 1) if is_list else ("(n, k)", layer.times.ndim == 2)
    hint = "Choose one: `jax.tree.map(lambda leaf: leaf[0], spikes)`."
    require(is_one, "spikes", f"those of one sample, with times of shape {shape}", layer.times, hint)
    times = np.asarray((layer.spikes() if is_list else layer).times)
    return [train[np.isfinite(train)] for train in times]


def _span(trains: Sequence[Sequence[np.ndarray]], t1: float | None) -> tuple[float, float]:
    """The limits of the time axis: 0 or an earlier spike, and `t1` or the last spike."""
    times = np.concatenate([train for each in trains for train in each])
    start, end = float(times.min(initial=0.0)), float(times.max(initial=0.0))
    if t1 is None:
        return start, end if end > start else start + 1.0
    require_finite(t1, "t1")
    require(np.ndim(t1) == 0, "t1", "one number", t1)
    require(bool(t1 > start), "t1", f"above {start:g}, where the time axis starts", t1)
    return start, float(t1)


def _draw_strokes(ax: "Axes", trains: list, offsets: np.ndarray, bands: np.ndarray, number: int, colour: str) -> None:
    """Draws a stroke for each spike of a layer, as long and as wide as the space allows."""
    height = bands[number] / len(trains)
    # A stroke may extend into neighbouring rows if the rows are too thin to be visible.
    length = max(0.8 * height, 0.018 * bands.sum())
    # Many spikes get smaller strokes, to cover at most a third of the band.
    covered = 0.004 * sum(map(len, trains)) * length / bands[number]
    share = min(1.0, 0.35 / max(covered, 1e-9)) ** 0.5
    length, width = max(0.8 * height, share * length), max(0.4, 1.4 * share)
    ax.eventplot(trains, lineoffsets=offsets, linelengths=length, linewidths=width, colors=colour)


def traces(
    ts: Any,
    values: Any,
    ax: "Axes | None" = None,
    *,
    spikes: Spikes | None = None,
    threshold: float | None = None,
    names: Sequence[str] | None = None,
    colours: Sequence[str] = CLASS_COLOURS,
) -> "Axes":
    """Plots the voltages of neurons of one sample over time, with strokes for their spikes above.

    A voltage is known only at the times `ts`. With `spikes` and `threshold`, each curve also passes through the
    threshold at the spikes of its neuron.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat=ts)
    v, spikes = solution.states["output"].v[0], sx.Spikes(solution.spikes["output"].times[0])
    plot.traces(ts, v, spikes=spikes, threshold=1.0)
    ```

    **Arguments:**

    - `ts`: the times, ascending, in ms; shape `(times,)`.
    - `values`: the voltages at these times, or any other quantity; shape `(times,)` or `(times, n)`.
    - `ax`: the Matplotlib axes.
    - `spikes`: [`spikax.Spikes`][] with times of shape `(n, k)`.
    - `threshold`: the voltage at which neurons spike, drawn as a dashed line.
    - `names`: the names of the neurons, for a legend.
    - `colours`: the colours of the neurons, repeated with other line styles as needed.

    **Returns:** the axes.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, such as the voltages of a whole batch.
    """
    ts, curves = _curves(ts, values)
    if spikes is not None:
        require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
        one = spikes.times.shape[:-1] == (len(curves),)
        require(one, "spikes", f"of shape ({len(curves)}, k), as many neurons as curves", spikes.times)
    if threshold is not None:
        require_finite(threshold, "threshold")
        require(np.ndim(threshold) == 0, "threshold", "one number", threshold)
    named = names is None or len(names) == len(curves)
    require(named, "names", f"{len(curves)}, one for every neuron", names)
    require(len(colours) > 0, "colours", "at least one colour", colours)
    ax = axes(ax)
    trains = [] if spikes is None else [train[np.isfinite(train)] for train in np.asarray(spikes.times)]
    for number, curve in enumerate(curves):
        points = ts, curve
        if trains and threshold is not None:
            points = _through(*points, trains[number], threshold)
        label = None if names is None else names[number]
        again, which = divmod(number, len(colours))
        look = {"color": colours[which], "linestyle": STROKES[again % len(STROKES)], "solid_joinstyle": "round"}
        ax.plot(*points, linewidth=1.4, label=label, **look)
    if threshold is not None:
        ax.axhline(threshold, color=PALE, linewidth=0.9, linestyle="--", zorder=0)
    _mark(ax, trains, colours)
    ends = np.concatenate([ts[[0, -1]], *trains])
    ax.set_xlim(ends.min(), ends.max())
    ax.set(xlabel="time (ms)", ylabel="v")
    if names is not None:
        ax.legend(frameon=False, ncols=min(len(names), 5), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return uncluttered(ax)


def _curves(ts: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """The times, and the values of each neuron at these times. Raises unless they match."""
    ts, values = as_array(ts, "ts"), as_array(values, "values")
    require(ts.ndim == 1 and ts.size > 1, "ts", "of shape (times,), at least two", ts)
    require(bool(np.all(np.isfinite(ts)) and np.all(np.diff(ts) >= 0)), "ts", "ascending and finite", ts)
    hint = "Choose one sample: `states[name].v[0]`."
    fits = values.ndim in (1, 2) and values.shape[0] == ts.size and values.size > 0
    require(fits, "values", f"of shape ({ts.size},) or ({ts.size}, n)", values, hint)
    require(bool(np.all(np.isfinite(values))), "values", "finite", values)
    return np.asarray(ts, float), np.asarray(values, float).reshape(ts.size, -1).T


def _through(ts: np.ndarray, curve: np.ndarray, spikes: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve with the threshold inserted at the spikes."""
    within = spikes[(spikes >= ts[0]) & (spikes <= ts[-1])]
    places = np.searchsorted(ts, within)
    return np.insert(ts, places, within), np.insert(curve, places, threshold)


def _mark(ax: "Axes", trains: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Draws a row of strokes for each neuron above the curves, with the first neuron at the top."""
    if not trains:
        return
    low, high = ax.get_ylim()
    row = min(0.07, 0.35 / len(trains)) * (high - low)
    offsets = high + row * (len(trains) - np.arange(len(trains)) - 0.3)
    shades = [colours[number % len(colours)] for number in range(len(trains))]
    ax.eventplot(trains, lineoffsets=offsets, linelengths=0.8 * row, linewidths=1.4, colors=shades)
    ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
    ax.set_ylim(low, high + row * (len(trains) + 0.3))
