"""Plots of networks: layers as boxes, connections as arrows."""

from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np

from .._checks import require_instance
from .._connection import AbstractConnection
from .._network import Network
from .._types import resolved
from ._style import axes, GREEN, INK, ORANGE, tint


if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Lengths are in units of the font size, so that boxes fit their text at any size.
_HEIGHT, _GAP, _PORT = 2.3, 2.5, 0.7
_LARGEST, _SMALL = 11.0, 0.82


def network(network: Network, ax: "Axes | None" = None) -> "Axes":
    """Plots the layers and connections of a network.

    Spikes travel upwards: the inputs are at the bottom, and each layer is above the layers that it receives from.
    Connections to the next row are straight. Connections that skip rows pass on the left, and recurrent connections on
    the right. Labels show the type of each connection and its delay, if any. Inputs are green; outputs are orange, with
    an arrow out of the network.

    The font is as large as the axes allow, up to 11 points. Ten layers need axes about 6 inches high.

    **Arguments:**

    - `network`: the network.
    - `ax`: the Matplotlib axes. Set their final size before the call.

    **Returns:** the axes.

    **Raises:** `TypeError` if `network` is not a network.
    """
    require_instance(network, Network, "network", "a `sx.Network`")
    ax = axes(ax)
    rows = [*network.inputs, *(name for group in network.groups() for name in group)]
    contents = [(name, _contents(network, name)) for name in rows]
    half = 0.5 * (max(_width(name, "bold") for name, _ in contents) + max(_width(what) for _, what in contents) + 3.2)
    straight, left, right = _sorted(network, rows)
    beside = max((0.5 + _SMALL * _width(text) for _, text in straight), default=0.0)
    skips, returns = _laid_out(left, half), _laid_out(right, max(half, beside))
    extent = (
        -max((arc.outer for arc in skips), default=half),
        max((arc.outer for arc in returns), default=max(half, beside)),
        -0.5 * _HEIGHT,
        _y(len(rows) - 1) + 0.5 * _HEIGHT + _GAP,
    )
    size = _fitted(ax, extent)
    for row, (name, what) in enumerate(contents):
        _draw_box(ax, row, name, what, half, _colour_of(network, name), size)
    for row, text in straight:
        _draw_arrow(ax, [(0.0, _y(row) + 0.5 * _HEIGHT), (0.0, _y(row + 1) - 0.5 * _HEIGHT)], size)
        ax.text(0.5, _y(row) + 0.5 * (_HEIGHT + _GAP), text, size=_SMALL * size, color=INK, va="center")
    for side, arcs in ((-1.0, skips), (1.0, returns)):
        for arc in arcs:
            _draw_arc(ax, arc, side, half, size)
    for name in network.output_names:
        row = rows.index(name)
        x, y = (0.0 if row == len(rows) - 1 else -0.6 * half), _y(row) + 0.5 * _HEIGHT
        _draw_arrow(ax, [(x, y), (x, y + 0.75 * _GAP)], size, ORANGE)
    return ax


class _Arc(NamedTuple):
    """A connection around the boxes: its ends, its label, and the distance of its line and label from the boxes."""

    start: float
    end: float
    text: str
    lane: float = 0.0
    outer: float = 0.0


def _sorted(network: Network, rows: list[str]) -> tuple[list[tuple[int, str]], list[_Arc], list[_Arc]]:
    """The connections to the next row, upwards beyond it, and downwards or to themselves."""
    straight: dict[int, str] = {}
    left, right = [], []
    for connection in network.connections:
        source, target = rows.index(connection.source), rows.index(connection.target)
        words = [type(connection).__name__, *_delay(connection)]
        if target == source + 1 and source not in straight:
            straight[source] = ", ".join(words)
        else:
            # The ends of other arcs may pass a loop above and below; between them is room for one line.
            text = (", " if target == source else "\n").join(words)
            (left if target > source else right).append(_Arc(_y(source) + _PORT, _y(target) - _PORT, text))
    return list(straight.items()), left, right


def _laid_out(arcs: list[_Arc], start: float) -> list[_Arc]:
    """The arcs with their lanes, from the shortest to the longest: each runs outside the arcs that it passes."""
    done: list[_Arc] = []
    for arc in sorted(arcs, key=lambda arc: abs(arc.end - arc.start)):
        low, high = sorted((arc.start, arc.end))
        passed = [o.outer for o in done if low < max(o.start, o.end) + 1.0 and min(o.start, o.end) < high + 1.0]
        lane = max(passed, default=start) + 1.4
        width = max(_width(line) for line in arc.text.split("\n"))
        done.append(arc._replace(lane=lane, outer=lane + 0.4 + _SMALL * width))
    return done


def _y(row: int) -> float:
    """The middle of a row."""
    return row * (_HEIGHT + _GAP)


def _contents(network: Network, name: str) -> str:
    """The description of a layer or input."""
    if name in network.inputs:
        n = network.inputs[name]
        return f"{n} channel" + "s" * (n != 1)
    layer = network.layers[name]
    return f"{layer.size} {type(layer.neuron).__name__}"


def _colour_of(network: Network, name: str) -> str:
    if name in network.inputs:
        return GREEN
    return ORANGE if name in network.output_names else INK


def _delay(connection: AbstractConnection) -> list[str]:
    """The delay, or the range of delays, if any."""
    if connection.delay is None:
        return []
    numbers = np.asarray(resolved(connection.delay))
    low, high = f"{numbers.min():.3g}", f"{numbers.max():.3g}"
    return [f"{low} ms" if low == high else f"{low} to {high} ms"]


def _width(text: str, weight: str = "normal") -> float:
    """The width of a line of text, in units of its font size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=100, prop=FontProperties(weight=weight)).get_extents().x1 / 100


def _fitted(ax: "Axes", extent: tuple[float, float, float, float]) -> float:
    """Sets the limits of the axes, and returns the font size, which is the unit of length."""
    left, right, bottom, top = extent
    ax.set_axis_off()
    # The layout of the figure is applied first, so that the size of the axes is known.
    ax.get_figure().canvas.figure.draw_without_rendering()
    inches = np.asarray(ax.bbox.size) / ax.get_figure().dpi
    size = float(min(_LARGEST, *(72 * inches / (right - left + 1.0, top - bottom + 1.0))))
    shown = 36 * inches / size
    middle = 0.5 * (left + right), 0.5 * (bottom + top)
    ax.set_xlim(middle[0] - shown[0], middle[0] + shown[0])
    ax.set_ylim(middle[1] - shown[1], middle[1] + shown[1])
    ax.set_aspect("equal")
    return size


def _draw_box(ax: "Axes", row: int, name: str, what: str, half: float, colour: str, size: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    y = _y(row)
    corner, shape = (-half, y - 0.5 * _HEIGHT), "round,pad=0,rounding_size=0.42"
    face = tint(colour, 0.1 if colour == INK else 0.22)
    ax.add_patch(
        FancyBboxPatch(
            corner, 2 * half, _HEIGHT, boxstyle=shape, facecolor=face, edgecolor=colour, linewidth=0.1 * size
        )
    )
    ax.text(0.9 - half, y, name, size=size, color=INK, weight="bold", va="center_baseline")
    ax.text(half - 0.9, y, what, size=size, color=INK, ha="right", va="center_baseline")


def _draw_arc(ax: "Axes", arc: _Arc, side: float, half: float, size: float) -> None:
    """Draws an arc out of a box, along its lane, and into a box, with round corners and a label."""
    corners = [(half, arc.start), (arc.lane, arc.start), (arc.lane, arc.end), (half, arc.end)]
    _draw_arrow(ax, [(side * x, y) for x, y in corners], size)
    align = "left" if side > 0 else "right"
    place = side * (arc.lane + 0.4), 0.5 * (arc.start + arc.end)
    # A line that crosses the label is cut there.
    ground = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "pad": 0.0}
    ax.text(*place, arc.text, size=_SMALL * size, color=INK, ha=align, va="center", linespacing=1.1, bbox=ground)


def _draw_arrow(ax: "Axes", corners: list[Any], size: float, colour: str = INK) -> None:
    """Draws an arrow along a line with rounded corners."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points = np.asarray(corners)
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        for end in (before, after):
            # Where two corners share a short side, each rounds half of it.
            length = np.abs(end - corner).sum()
            vertices.append(corner + (end - corner) * min(0.7, 0.5 * length) / length)
        vertices.insert(-1, corner)
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    path = Path([*vertices, points[-1]], [*codes, Path.LINETO])
    ax.add_patch(
        FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=0.9 * size, color=colour, linewidth=0.1 * size)
    )
