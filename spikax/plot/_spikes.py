"""What neurons do over time: spikes and voltages."""

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

import numpy as np

from .._checks import as_array, require, require_finite, require_instance
from .._spikes import Spikes
from ._style import axes, CLASS_COLOURS, INK, PALE, uncluttered, whole_numbers


if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Where there are more curves than colours, the next ones are dashed, and then dotted.
STROKES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))


def raster(
    spikes: Spikes | Sequence[tuple[str, Spikes]],
    ax: "Axes | None" = None,
    *,
    colours: Sequence[str] = (INK,),
) -> "Axes":
    """The spikes of one sample: time to the right, a row per neuron, a stroke per spike.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] with times of shape `(n, k)`; or several layers, as pairs of a name and spikes,
      drawn one above the other in this order, the first at the bottom.
    - `ax`: the Matplotlib axes.
    - `colours`: the colours of the layers, repeated as needed.

    **Raises:** `TypeError` or `ValueError` for anything else, spikes of a whole batch among it.
    """
    layers = [("", spikes)] if isinstance(spikes, Spikes) else list(spikes)
    require(len(layers) > 0, "spikes", "at least one layer", layers)
    for _, layer in layers:
        require_instance(layer, Spikes, "spikes", "`sx.Spikes`, or pairs of a name and `sx.Spikes`")
        one = layer.times.ndim == 2
        require(one, "spikes", "those of one sample, of shape (n, k)", layer.times, "Choose one: `times[0]`.")
    require(len(colours) > 0, "colours", "at least one colour", colours)
    ax = axes(ax)
    sizes = np.asarray([layer.times.shape[0] for _, layer in layers])
    # Small layers get taller rows, so that three neurons remain visible above a hundred.
    bands = np.maximum(sizes, 0.15 * sizes.max())
    gap = 0.04 * bands.sum()
    bottoms = np.cumsum(bands + gap) - bands - gap
    top = 0.0
    for number, (_, layer) in enumerate(layers):
        trains = [train[np.isfinite(train)] for train in np.asarray(layer.times)]
        height = bands[number] / sizes[number]
        # A stroke may reach into the neighbours' rows where those are thinner than can be seen.
        length = max(0.8 * height, 0.018 * bands.sum())
        # Many spikes get smaller strokes, which shall cover a third of the band at most.
        covered = 0.004 * sum(map(len, trains)) * length / bands[number]
        share = min(1.0, 0.35 / max(covered, 1e-9)) ** 0.5
        length, width = max(0.8 * height, share * length), max(0.4, 1.4 * share)
        offsets = bottoms[number] + height * np.arange(sizes[number])
        colour = colours[number % len(colours)]
        ax.eventplot(trains, lineoffsets=offsets, linelengths=length, linewidths=width, colors=colour)
        if number > 0:
            ax.axhline((top + offsets[0]) / 2, color=PALE, linewidth=0.6)
        top = offsets[-1]
    finite = np.concatenate([np.asarray(layer.times)[np.isfinite(layer.times)] for _, layer in layers])
    latest = finite.max(initial=0.0)
    # Room at both ends, as a stroke on the frame would not show.
    ax.set_xlim(min(finite.min(initial=0.0), 0.0) - 0.015 * latest, 1.015 * latest if latest > 0 else 1.0)
    ax.set_xlabel("time (ms)")
    ax.set_ylim(-0.6 * bands[0] / sizes[0] - gap / 2, bottoms[-1] + bands[-1])
    if isinstance(spikes, Spikes):
        ax.set_ylabel("neuron")
        whole_numbers(ax.yaxis)
    else:
        names = [f"{name}\n({n})" for (name, _), n in zip(layers, sizes, strict=True)]
        ax.set_yticks(bottoms + (bands - bands / sizes) / 2, names)
        ax.tick_params(axis="y", length=0)
    return uncluttered(ax)


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
    """The voltages of one or several neurons of one sample over time, and, above them, a stroke per spike.

    A voltage is known at the times `ts` only. With `spikes` and `threshold`, each curve rises to the threshold at the
    spikes of its neuron as well.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat=ts)
    v, spikes = solution.states["output"].v[0], sx.Spikes(solution.spikes["output"].times[0])
    plot.traces(ts, v, spikes=spikes, threshold=1.0)
    ```

    **Arguments:**

    - `ts`: the times, ascending, in ms; shape `(times,)`.
    - `values`: the voltages there, or any other quantity; shape `(times,)` or `(times, n)`.
    - `ax`: the Matplotlib axes.
    - `spikes`: [`spikax.Spikes`][] with times of shape `(n, k)`.
    - `threshold`: the voltage at which neurons spike, drawn as a dashed line.
    - `names`: the names of the neurons, for a legend.
    - `colours`: the colours of the neurons, repeated as needed, in other strokes.

    **Raises:** `TypeError` or `ValueError` for anything else, voltages of a whole batch among it.
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
    """The times, and the values of each neuron at them; raises where they do not fit."""
    ts, values = as_array(ts, "ts"), as_array(values, "values")
    require(ts.ndim == 1 and ts.size > 1, "ts", "of shape (times,), at least two", ts)
    require(bool(np.all(np.isfinite(ts)) and np.all(np.diff(ts) >= 0)), "ts", "ascending and finite", ts)
    hint = "Choose one sample: `states[name].v[0]`."
    fits = values.ndim in (1, 2) and values.shape[0] == ts.size and values.size > 0
    require(fits, "values", f"of shape ({ts.size},) or ({ts.size}, n)", values, hint)
    require(bool(np.all(np.isfinite(values))), "values", "finite", values)
    return np.asarray(ts, float), np.asarray(values, float).reshape(ts.size, -1).T


def _through(ts: np.ndarray, curve: np.ndarray, spikes: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve, through the threshold at the spikes within it."""
    within = spikes[(spikes >= ts[0]) & (spikes <= ts[-1])]
    places = np.searchsorted(ts, within)
    return np.insert(ts, places, within), np.insert(curve, places, threshold)


def _mark(ax: "Axes", trains: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """A row of strokes for every neuron, above the curves; the first neuron's is at the top."""
    if not trains:
        return
    low, high = ax.get_ylim()
    row = min(0.07, 0.35 / len(trains)) * (high - low)
    offsets = high + row * (len(trains) - np.arange(len(trains)) - 0.3)
    shades = [colours[number % len(colours)] for number in range(len(trains))]
    ax.eventplot(trains, lineoffsets=offsets, linelengths=0.8 * row, linewidths=1.4, colors=shades)
    ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
    ax.set_ylim(low, high + row * (len(trains) + 0.3))
