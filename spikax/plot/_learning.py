"""Plots of training and predictions."""

from collections.abc import Callable, Sequence
from typing import Any, TYPE_CHECKING

import numpy as np

from .._checks import as_array, require, require_below, require_count
from ..train import Epoch
from ._style import axes, BLUE, class_colour, CLASS_COLOURS, INK, ORANGE, PALE, tint, uncluttered, whole_numbers


if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(history: Sequence[Epoch], ax: "Axes | None" = None, *, measure: str = "accuracy") -> "Axes":
    """Plots a measure over the epochs, for training and, if available, for validation.

    **Arguments:**

    - `history`: the epochs of a [`spikax.train.Fit`][].
    - `ax`: the Matplotlib axes.
    - `measure`: the name of the measure. `"accuracy"` is drawn as the error in per cent, on a logarithmic axis.

    **Returns:** the axes.

    **Raises:** `ValueError` for a history without epochs, or without that measure.
    """
    require(len(history) > 0, "history", "of at least one epoch", history)
    require(measure in history[0].training, "measure", f"one of {sorted(history[0].training)}", measure)
    ax = axes(ax)
    numbers = [epoch.number for epoch in history]
    series = {"training": ([epoch.training[measure] for epoch in history], PALE, 1.2)}
    # The norm of the gradient is measured only in training.
    if measure in history[0].validation:
        series["validation"] = ([epoch.validation[measure] for epoch in history], CLASS_COLOURS[0], 2.0)
    for name, (values, colour, width) in series.items():
        shown = 100 * (1 - np.asarray(values)) if measure == "accuracy" else np.asarray(values)
        # A line through a single point would not be visible.
        ax.plot(numbers, shown, color=colour, linewidth=width, label=name, marker="o" if len(numbers) == 1 else "")
    ax.set_xlabel("epoch")
    ax.set_xlim(numbers[0] - (len(numbers) == 1), numbers[-1] + (len(numbers) == 1))
    whole_numbers(ax.xaxis)
    if measure == "accuracy":
        ax.set_ylabel("error (%)")
        _logarithmic_per_cent(ax)
    else:
        ax.set_ylabel(measure)
    ax.legend(frameon=False)
    return uncluttered(ax)


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
    """Plots the predictions of a network over a plane, and correctly and wrongly classified samples.

    **Arguments:**

    - `decide`: a function from points, shape `(m, 2)`, to classes, integers of shape `(m,)`; -1 for no prediction,
      drawn in white. It is called once, with `resolution`² points.
    - `points`, `labels`: samples to draw, shapes `(n, 2)` and `(n,)`. Wrong predictions are marked with a cross.
    - `ax`: the Matplotlib axes.
    - `names`: the names of the classes.
    - `low`, `high`: the range of both coordinates.
    - `resolution`: the number of points along each axis.

    **Returns:** the axes.

    **Raises:** `ValueError` for points without labels, or of the wrong shape.
    """
    require((points is None) == (labels is None), "labels", "given with `points`, and only then", labels)
    require_below(low, high, "low", "high")
    require_count(resolution, "resolution")
    ax = axes(ax)
    side = np.linspace(low, high, resolution)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    answers = np.asarray(decide(grid.reshape(-1, 2))).reshape(resolution, resolution)
    ax.imshow(_tints(answers), origin="lower", extent=(low, high, low, high), interpolation="nearest", zorder=0)
    if points is not None:
        _draw_samples(ax, decide, np.asarray(points), np.asarray(labels), names)
    ax.set(xlabel="x", ylabel="y", aspect="equal", xlim=(low, high), ylim=(low, high))
    ax.set_xticks(np.linspace(low, high, 3))
    ax.set_yticks(np.linspace(low, high, 3))
    return uncluttered(ax)


def confusion_matrix(
    labels: Any, answers: Any, ax: "Axes | None" = None, *, names: Sequence[str] | None = None
) -> "Axes":
    """Plots a confusion matrix: a row per class, a column per prediction.

    An entry shows the number of samples and their percentage of the row; entries without samples are empty. Correct
    predictions are blue, wrong ones orange, and darker for a larger percentage. Samples without a prediction have a
    separate grey column, if there are any.

    **Arguments:**

    - `labels`: the classes, integers from 0 of shape `(n,)`.
    - `answers`: the predictions, integers of the same shape; -1 for no prediction. See [`spikax.decode.earliest`][].
    - `ax`: the Matplotlib axes.
    - `names`: the names of the classes; by default their numbers.

    **Returns:** the axes.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for a class without a name.
    """
    labels, answers = checked_classes(labels, answers)
    n = int(max(labels.max(), answers.max())) + 1
    names = [str(number) for number in range(n)] if names is None else list(names)
    require(len(names) >= n, "names", f"at least {n}, one for every class", names)
    counts = counted(labels, answers, len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = axes(ax)
    ax.imshow(_shaded(shares), interpolation="nearest")
    _write_counts(ax, counts, shares)
    ax.set_xticks(range(counts.shape[1]), [*names, "none"][: counts.shape[1]])
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="answer", ylabel="class")
    right = int(np.sum(labels == answers))
    ax.set_title(f"{right:,} of {labels.size:,} right ({right / labels.size:.1%})", size="medium")
    return ax


def checked_classes(labels: Any, answers: Any) -> tuple[np.ndarray, np.ndarray]:
    """The labels and predictions as arrays of NumPy. Raises unless they are valid and match."""
    labels, answers = as_array(labels, "labels"), as_array(answers, "answers")
    for name, classes, least in (("labels", labels, 0), ("answers", answers, -1)):
        require(bool(np.issubdtype(classes.dtype, np.integer)), name, "integers", classes, error=TypeError)
        fits = classes.ndim == 1 and classes.size > 0
        require(fits, name, "of shape (n,), one for every sample", classes)
        require(bool(np.all(classes >= least)), name, f"at least {least}", classes)
    require(answers.shape == labels.shape, "answers", f"of shape {labels.shape}, as the labels", answers)
    return np.asarray(labels), np.asarray(answers)


def counted(labels: np.ndarray, answers: np.ndarray, n: int) -> np.ndarray:
    """The number of samples for each class and prediction; a last column for no prediction, if there are any."""
    columns = n + int(np.any(answers < 0))
    counts = np.zeros((n, columns), int)
    np.add.at(counts, (labels, np.where(answers < 0, n, answers)), 1)
    return counts


def _shaded(shares: np.ndarray) -> np.ndarray:
    """The colours of the entries of a confusion matrix."""
    n = len(shares)
    colours = np.full(shares.shape, ORANGE, object)
    np.fill_diagonal(colours, BLUE)
    colours[:, n:] = INK
    # The square root, since a few per cent would look like zero otherwise.
    strengths = 0.85 * np.sqrt(shares)
    cells = [tint(colour, strength) for colour, strength in zip(colours.flat, strengths.flat, strict=True)]
    return np.reshape(cells, (*shares.shape, 3))


def _write_counts(ax: "Axes", counts: np.ndarray, shares: np.ndarray) -> None:
    """Writes the number and the percentage of each entry, and draws lines between the entries."""
    rows, columns = counts.shape
    for row, column in np.argwhere(counts):
        share = shares[row, column]
        ax.text(
            column,
            row,
            f"{counts[row, column]}\n{'100%' if share == 1.0 else f'{share:.1%}'}",
            ha="center",
            va="center",
            size=np.clip(75 / rows, 5, 10),
            color="white" if share > 0.5 else INK,
        )
    for edge in range(1, columns):
        ax.axvline(edge - 0.5, color="white", linewidth=4 if edge == rows else 1)
    for edge in range(1, rows):
        ax.axhline(edge - 0.5, color="white", linewidth=1)


def _draw_samples(ax: "Axes", decide: Callable, points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    fits = points.ndim == 2 and points.shape[1] == 2 and labels.shape == points.shape[:1]
    require(fits, "points", "of shape (n, 2), with a label each", points)
    wrong = np.asarray(decide(points)) != labels
    cross = {"s": 36, "marker": "X", "edgecolors": INK, "linewidths": 0.8}
    for number, name in enumerate(names):
        mine = points[(labels == number) & ~wrong]
        ax.scatter(*mine.T, s=9, color=class_colour(number), linewidths=0, label=name, clip_on=False)
    for number in range(len(names)):
        mine = points[(labels == number) & wrong]
        ax.scatter(*mine.T, **cross, color=class_colour(number), zorder=3, clip_on=False)
    ax.scatter([], [], **cross, color="white", label=f"wrong ({wrong.sum()} of {wrong.size})")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(names) + 1, handletextpad=0.2)


def _tints(classes: np.ndarray) -> np.ndarray:
    """A pale colour for each class, white for no class."""
    known = np.stack([tint(name) for name in CLASS_COLOURS])
    return np.where((classes < 0)[..., None], 1.0, known[classes % len(CLASS_COLOURS)])


def _logarithmic_per_cent(ax: "Axes") -> None:
    """Sets a logarithmic axis for the curves of `ax`, with zero at the bottom if a curve reaches zero."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    marks = np.asarray([m * 10.0**e for e in range(-6, 3) for m in (1, 2, 3, 5)])
    marks = marks[marks <= 100]
    # From tick to tick, so that there are at least two.
    low, high = marks[marks <= low].max(initial=marks[0]), marks[marks >= high].min()
    low = marks[marks < high].max() if low == high else low
    if len(positive) < len(values):
        ax.set_yscale("symlog", linthresh=low, linscale=0.2)
        ax.set_ylim(-0.1 * low, 1.05 * high)
        marks = np.append(marks[marks >= low], 0.0)
    else:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.05, 1.05 * high)
    ax.yaxis.set_major_locator(FixedLocator(marks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
