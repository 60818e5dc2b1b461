"""The summary of a network: as text, and as a table in a notebook."""

from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
import numpy as np

from ._checks import is_number, known
from ._tables import Row, Section
from ._types import is_parameter, is_whole, resolved


if TYPE_CHECKING:
    from ._network import Network


def summary(network: "Network") -> tuple[str, tuple[str, ...], Sequence[Section]]:
    """The title, the columns and the sections of its table: inputs and layers, and below them the connections."""
    nodes, wires = _rows(network)
    return _title(network), ("", "", "", "learns", "constant"), [("", nodes), ("connections", wires)]


def _title(network: "Network") -> str:
    n = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))
    return f"Network: {n:,} parameter{'s' * (n != 1)}" if n else "Network: no parameters"


def _rows(network: "Network") -> tuple[list[Row], list[Row]]:
    """The rows of inputs and layers, each layer after its sources, and the rows of the connections."""
    nodes: list[Row] = [
        (name, f"{size} channel{'s' * (size != 1)}", "", [], []) for name, size in network.inputs.items()
    ]
    for name in (name for group in network.groups() for name in group):
        layer = network.layers[name]
        kind = type(layer.neuron).__name__ + (" (output)" if name in network.output_names else "")
        nodes.append((name, f"{layer.size} neuron{'s' * (layer.size != 1)}", kind, *_parameters(layer.neuron)))
    sizes = network.inputs | {name: layer.size for name, layer in network.layers.items()}
    wires = []
    for c in network.connections:
        shape = f"{sizes[c.source]} × {sizes[c.target]}"
        # The index arrays of a `Sparse` are not parameters.
        both = zip(_parameters(c.weight, "weight"), _parameters(c.delay, "delay"), strict=True)
        learning, constants = ([*weight, *delay] for weight, delay in both)
        wires.append((f"{c.source} → {c.target}", shape, type(c).__name__, learning, constants))
    return nodes, wires


def _parameters(tree: Any, prefix: str = "") -> tuple[list[str], list[str]]:
    """The trained parameters and the constants, each with its name and value."""
    learning, constants = [], []
    for path, node in jax.tree.leaves_with_path(tree, is_leaf=_is_complete):
        value = resolved(node)
        if is_number(value):
            name = ".".join(filter(None, [prefix, jax.tree_util.keystr(path, simple=True, separator=".")]))
            kind = f"{type(node).__name__} " if is_parameter(node) else ""
            learns = bool(jax.tree.leaves(eqx.filter(node, eqx.is_inexact_array)))
            (learning if learns else constants).append(f"{name} {kind}{_shown(value)}")
    return learning, constants


def _is_complete(node: Any) -> bool:
    """Whether a node represents a single value and is complete: in a filtered network, a part may be missing."""
    return is_whole(node) and all(map(eqx.is_array, jax.tree.leaves(node, is_leaf=lambda part: part is None)))


def _shown(value: Any) -> str:
    """A number; for an array, its shape with its minimum and maximum."""
    numbers, shape = known(value), np.shape(value)
    if numbers is None or numbers.size == 0:
        return str(shape)
    if shape == ():
        return f"{numbers:.6g}"
    low, high = f"{numbers.min():.3g}", f"{numbers.max():.3g}"
    return f"{shape} {low}" if low == high else f"{shape} {low} to {high}"
