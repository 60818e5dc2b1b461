"""Plots of the weights and delays of a connection."""

from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_array, require
from .._connection import AbstractConnection, Synapses
from .._parameters import Masked
from .._types import resolved
from ._style import axes, BLUE, INK, ORANGE, PALE, uncluttered, whole_numbers


if TYPE_CHECKING:
    from matplotlib.axes import Axes


_EXTREMES = ("#1d3f75", "#93410f")


def weights(weight: Any, ax: "Axes | None" = None, *, port: str | None = None) -> "Axes":
    """Plots weights as an image: a row per source, a column per target; blue below zero, orange above.

    Entries without a synapse are grey. If several synapses lead from one neuron to another, as is possible in a
    `Sparse`, their sum is shown.

    **Arguments:**

    - `weight`: a connection, such as [`spikax.Dense`][], or weights of shape `(sources, targets)`: an array, or a
      parameter such as [`spikax.Signed`][].
    - `ax`: the Matplotlib axes.
    - `port`: the name of the port, if the synapse has several.

    **Returns:** the axes.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, such as weights that are not finite.
    """
    if isinstance(weight, AbstractConnection):
        matrix, names = _matrix(weight, port), (weight.source, weight.target)
    else:
        matrix, names = _numbers(weight, "weight", port), ("source", "target")
        require(matrix.ndim == 2, "weight", "of shape (sources, targets)", weight)
    ax = axes(ax)
    limit = np.nanmax(np.abs(matrix)) or 1.0
    image = ax.imshow(matrix, cmap=_diverging(), vmin=-limit, vmax=limit, aspect="auto")
    ax.set(ylabel=names[0], xlabel=names[1])
    ax.spines[:].set_color(PALE)
    for axis in (ax.xaxis, ax.yaxis):
        whole_numbers(axis)
    bar = ax.get_figure().colorbar(image, ax=ax, label="weight")
    bar.outline.set_visible(False)
    return ax


def weight_histogram(weight: Any, ax: "Axes | None" = None, *, port: str | None = None) -> "Axes":
    """Plots a histogram of weights; blue below zero, orange above.

    **Arguments:**

    - `weight`: a connection, such as [`spikax.Dense`][], or weights of any shape: an array, or a parameter such as
      [`spikax.Signed`][].
    - `ax`: the Matplotlib axes.
    - `port`: the name of the port, if the synapse has several.

    **Returns:** the axes.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, such as weights that are not finite.
    """
    if isinstance(weight, AbstractConnection):
        synapses = _synapses(weight)
        values = _of_port(synapses.weight, port)
        values = values[_exist(synapses, values)]
    else:
        values = _numbers(weight, "weight", port)
    ax = _histogram(values, axes(ax))
    ax.axvline(0.0, color=PALE, linewidth=0.9, zorder=0)
    ax.set_xlabel("weight")
    return ax


def delays(delay: Any, ax: "Axes | None" = None) -> "Axes":
    """Plots a histogram of delays.

    **Arguments:**

    - `delay`: a connection with delays, such as [`spikax.Dense`][], or delays in ms, of any shape: an array, or a
      parameter such as [`spikax.Positive`][].
    - `ax`: the Matplotlib axes.

    **Returns:** the axes.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, such as negative delays.
    """
    if isinstance(delay, AbstractConnection):
        require(delay.delay is not None, "delay", "a connection with delays", delay)
        synapses = _synapses(delay)
        exist = np.any([_exist(synapses, leaf) for leaf in jax.tree.leaves(synapses.weight)], axis=0)
        require(bool(exist.any()), "delay", "that of at least one synapse", delay)
        values = np.broadcast_to(np.asarray(synapses.delay), exist.shape)[exist]
    else:
        values = _numbers(delay, "delay")
        require(bool(np.all(values >= 0)), "delay", "at least 0", delay)
    ax = _histogram(values, axes(ax), " ms")
    ax.set_xlim(left=0.0)
    ax.set_xlabel("delay (ms)")
    return ax


def _numbers(value: Any, name: str, port: str | None = None) -> np.ndarray:
    """The values of an array or parameter; NaN where a mask excludes the synapse."""
    return _of_port(_marked(value, name), port, name)


def _marked(value: Any, name: str) -> Any:
    """The values of an array or parameter, or of each port; NaN where a mask excludes the synapse."""

    def numbers(node):
        known = np.asarray(as_array(resolved(node), name))
        require(bool(np.all(np.isfinite(known))), name, "finite", known)
        return np.where(_mask(node), known, np.nan)

    return jax.tree.map(numbers, value, is_leaf=lambda node: not isinstance(node, dict))


def _mask(node: Any) -> Any:
    return np.asarray(node.mask) & _mask(node.inner) if isinstance(node, Masked) else True


def _of_port(weight: Any, port: str | None, name: str = "weight") -> np.ndarray:
    """The values of the named port, or of the only one."""
    if isinstance(weight, dict):
        require(port in weight, "port", f"one of {list(weight)}", port)
        weight = weight[port]
    else:
        require(port is None, "port", "None, as there are no named ports", port)
    numbers = np.asarray(weight)
    require(not np.all(np.isnan(numbers)), name, "that of at least one synapse", numbers)
    return numbers


def _synapses(connection: AbstractConnection) -> Synapses:
    """The synapses of a connection, with weight NaN where a mask excludes the synapse."""
    marked = jax.tree.map(jnp.asarray, _marked(connection.weight, "weight"))
    return resolved(eqx.tree_at(lambda c: c.weight, connection, marked)).synapses()


def _exist(synapses: Synapses, weight: Any) -> np.ndarray:
    present = ~np.isnan(weight)
    return present if synapses.exists is None else present & np.asarray(synapses.exists)


def _matrix(connection: AbstractConnection, port: str | None) -> np.ndarray:
    """The sums of the weights from each source to each target; NaN where there is no synapse."""
    synapses = _synapses(connection)
    weight = _of_port(synapses.weight, port)
    slots, targets = np.nonzero(_exist(synapses, weight))
    sources = slots if synapses.source is None else np.asarray(synapses.source)[slots, targets]
    matrix, count = np.zeros(connection.shape), np.zeros(connection.shape)
    np.add.at(matrix, (sources, targets), weight[slots, targets])
    np.add.at(count, (sources, targets), 1)
    return np.where(count > 0, matrix, np.nan)


def _histogram(values: np.ndarray, ax: "Axes", unit: str = "") -> "Axes":
    """Draws a histogram with round bin edges, including zero, and writes the mean and standard deviation."""
    from matplotlib.ticker import MaxNLocator

    values = values[~np.isnan(values)]
    bars = int(np.clip(np.sqrt(values.size), 10, 50))
    low, high = float(values.min()), float(values.max())
    # All values are equal: a narrow bar.
    room = 0.0 if low < high else 0.2 * abs(low) or 0.5
    edges = np.asarray(MaxNLocator(bars, steps=[1, 2, 5, 10]).tick_values(low - room, high + room))
    # Round numbers may miss the ends by a rounding error.
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    heights, _ = np.histogram(values, edges)
    shades = np.where(edges[:-1] < 0, BLUE, ORANGE)
    ax.bar(edges[:-1], heights, np.diff(edges), align="edge", color=shades, edgecolor="white", linewidth=0.5)
    ax.set_ylabel("synapses")
    whole_numbers(ax.yaxis)
    words = f"mean {values.mean():.3g}{unit}, standard deviation {values.std():.3g}{unit}"
    ax.set_title(f"{values.size:,} synapses: {words}", size="small", color=INK)
    return uncluttered(ax)


def _diverging() -> Any:
    """A colour map from blue through white to orange; grey for NaN."""
    from matplotlib.colors import LinearSegmentedColormap

    dark = _EXTREMES
    colours = LinearSegmentedColormap.from_list("spikax", [dark[0], BLUE, "white", ORANGE, dark[1]])
    return colours.with_extremes(bad="#e3e7eb")
