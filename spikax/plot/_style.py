"""The common style of all plots."""

from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


CLASS_COLOURS = ("#3b6fb6", "#e07b39", "#4f9d69", "#a65a9e", "#c9a227", "#6b7280")
"""The colours of the classes 0, 1, ..., repeated for more classes."""

INK, PALE = "#26303b", "#9aa5b1"

BLUE, ORANGE, GREEN = CLASS_COLOURS[:3]


def class_colour(number: int) -> str:
    """The colour of a class."""
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def tint(name: str, strength: float = 0.35) -> np.ndarray:
    """A colour mixed with white, as red, green and blue from 0 to 1; white for the strength 0."""
    from matplotlib.colors import to_rgb

    return 1.0 - strength * (1.0 - np.asarray(to_rgb(name)))


def uncluttered(ax: "Axes") -> "Axes":
    """The axes without the top and right lines of the frame."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def whole_numbers(axis: "Axis") -> None:
    """Sets ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def axes(ax: "Axes | None") -> "Axes":
    """The given axes, or those of the current figure."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("`spikax.plot` needs Matplotlib: `pip install 'spikax[plot]'`.") from error
    return pyplot.gca() if ax is None else ax
