"""Pictures: spikes, training, decisions.

Each function draws into the axes `ax`, those of the current figure by default, and returns them. None shows or saves.
"""

from collections.abc import Callable, Sequence
from typing import Any, TYPE_CHECKING

import numpy as np

from ._checks import require, require_below, require_count, require_instance
from ._spikes import Spikes
from .train import Epoch


if TYPE_CHECKING:
    from matplotlib.axes import Axes


CLASS_COLOURS = ("#3b6fb6", "#e07b39", "#4f9d69", "#a65a9e", "#c9a227", "#6b7280")
"""The colours of the classes 0, 1, ..., again from the start where there are more."""

_INK, _PALE = "#26303b", "#9aa5b1"


def raster(
    spikes: Spikes | Sequence[tuple[str, Spikes]],
    ax: "Axes | None" = None,
    *,
    colours: Sequence[str] = (_INK,),
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
    ax = _axes(ax)
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
        offsets = bottoms[number] + height * np.arange(sizes[number])
        colour = colours[number % len(colours)]
        ax.eventplot(trains, lineoffsets=offsets, linelengths=length, linewidths=1.4, colors=colour)
        if number > 0:
            ax.axhline((top + offsets[0]) / 2, color=_PALE, linewidth=0.6)
        top = offsets[-1]
    finite = np.concatenate([np.asarray(layer.times)[np.isfinite(layer.times)] for _, layer in layers])
    latest = finite.max(initial=0.0)
    # Room at both ends, as a stroke on the frame would not show.
    ax.set_xlim(min(finite.min(initial=0.0), 0.0) - 0.015 * latest, 1.015 * latest if latest > 0 else 1.0)
    ax.set_xlabel("time (ms)")
    ax.set_ylim(-0.6 * bands[0] / sizes[0] - gap / 2, bottoms[-1] + bands[-1])
    if isinstance(spikes, Spikes):
        ax.set_ylabel("neuron")
    else:
        names = [f"{name}\n({n})" for (name, _), n in zip(layers, sizes, strict=True)]
        ax.set_yticks(bottoms + (bands - bands / sizes) / 2, names)
        ax.tick_params(axis="y", length=0)
    return _uncluttered(ax)


def learning_curve(history: Sequence[Epoch], ax: "Axes | None" = None, *, measure: str = "accuracy") -> "Axes":
    """A measure over the epochs, in training and in validation.

    **Arguments:**

    - `history`: the epochs of a [`spikax.train.Fit`][].
    - `ax`: the Matplotlib axes.
    - `measure`: which measure. `"accuracy"` is drawn as the error in per cent, on a logarithmic axis.

    **Raises:** `ValueError` for a history without epochs, or without that measure.
    """
    require(len(history) > 0, "history", "of at least one epoch", history)
    require(measure in history[0].training, "measure", f"one of {sorted(history[0].training)}", measure)
    ax = _axes(ax)
    numbers = [epoch.number for epoch in history]
    series = {
        "training": ([epoch.training[measure] for epoch in history], _PALE, 1.2),
        "validation": ([epoch.validation[measure] for epoch in history], CLASS_COLOURS[0], 2.0),
    }
    for name, (values, colour, width) in series.items():
        shown = 100 * (1 - np.asarray(values)) if measure == "accuracy" else np.asarray(values)
        ax.plot(numbers, shown, color=colour, linewidth=width, label=name)
    ax.set_xlabel("epoch")
    ax.set_xlim(1, max(numbers[-1], 2))
    if measure == "accuracy":
        ax.set_ylabel("error (%)")
        _logarithmic_per_cent(ax)
    else:
        ax.set_ylabel(measure)
    ax.legend(frameon=False)
    return _uncluttered(ax)


def decision_map(
    decide: Callable[[np.ndarray], Any],
    points: Any = None,
    labels: Any = None,
    ax: "Axes | None" = None,
    *,
    names: Sequence[str] = ("yin", "yang", "dot"),
    low: float = 0.0,
    high: float = 1.0,
    resolution: int = 150,
) -> "Axes":
    """What a network answers everywhere in the plane, and the points that it gets right and wrong.

    **Arguments:**

    - `decide`: a function from points, shape `(m, 2)`, to classes, integers of shape `(m,)`; -1 for no answer, which
      stays white. It is called once, with `resolution`² points.
    - `points`, `labels`: samples to draw, shapes `(n, 2)` and `(n,)`; those answered wrongly are marked with a cross.
    - `ax`: the Matplotlib axes.
    - `names`: the names of the classes.
    - `low`, `high`: the corners of the square that is shown.
    - `resolution`: the number of points along each side.

    **Raises:** `ValueError` for points without labels, or of the wrong shape.
    """
    require((points is None) == (labels is None), "labels", "given with `points`, and only then", labels)
    require_below(low, high, "low", "high")
    require_count(resolution, "resolution")
    ax = _axes(ax)
    side = np.linspace(low, high, resolution)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    answers = np.asarray(decide(grid.reshape(-1, 2))).reshape(resolution, resolution)
    ax.imshow(_tints(answers), origin="lower", extent=(low, high, low, high), interpolation="nearest", zorder=0)
    if points is not None:
        _draw_samples(ax, decide, np.asarray(points), np.asarray(labels), names)
    ax.set(xlabel="x", ylabel="y", aspect="equal", xlim=(low, high), ylim=(low, high))
    ax.set_xticks(np.linspace(low, high, 3))
    ax.set_yticks(np.linspace(low, high, 3))
    return _uncluttered(ax)


def _draw_samples(ax: "Axes", decide: Callable, points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    fits = points.ndim == 2 and points.shape[1] == 2 and labels.shape == points.shape[:1]
    require(fits, "points", "of shape (n, 2), with a label each", points)
    wrong = np.asarray(decide(points)) != labels
    cross = {"s": 36, "marker": "X", "edgecolors": _INK, "linewidths": 0.8}
    for number, name in enumerate(names):
        mine = points[(labels == number) & ~wrong]
        ax.scatter(*mine.T, s=9, color=_colour(number), linewidths=0, label=name, clip_on=False)
    for number in range(len(names)):
        mine = points[(labels == number) & wrong]
        ax.scatter(*mine.T, **cross, color=_colour(number), zorder=3, clip_on=False)
    ax.scatter([], [], **cross, color="white", label=f"wrong ({wrong.sum()} of {wrong.size})")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(names) + 1, handletextpad=0.2)


def _tints(classes: np.ndarray) -> np.ndarray:
    """A pale colour for every class, white for none."""
    from matplotlib.colors import to_rgb

    known = [0.65 + 0.35 * np.asarray(to_rgb(colour)) for colour in CLASS_COLOURS]
    return np.where((classes < 0)[..., None], 1.0, np.asarray(known)[classes % len(CLASS_COLOURS)])


def _colour(number: int) -> str:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _logarithmic_per_cent(ax: "Axes") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _uncluttered(ax: "Axes") -> "Axes":
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    """The given axes, or those of the current figure."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("`spikax.plot` needs Matplotlib: `pip install 'spikax[plot]'`.") from error
    return pyplot.gca() if ax is None else ax
