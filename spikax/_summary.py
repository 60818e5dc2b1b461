"""The summary of a network: as text, and as a table in a notebook."""

import html
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TYPE_CHECKING

import equinox as eqx
import jax
import numpy as np

from ._checks import is_number, known
from ._types import is_parameter, is_whole, resolved


if TYPE_CHECKING:
    from ._network import Network


class _Row(NamedTuple):
    """The summary of an input, a layer, or a connection."""

    name: str
    size: str
    kind: str
    learns: Sequence[str] = ()
    constants: Sequence[str] = ()


_HEAD = _Row("", "", "", ["learns"], ["constant"])
_WIDTHS = (34, 44)  # of the last two columns, in characters; longer entries are wrapped


def as_text(network: "Network") -> str:
    """The inputs and layers, and below them the connections, in columns."""
    parts = [[_cells(row) for row in rows] for rows in ([_HEAD], *_rows(network))]
    widths = [max(len(line) for rows in parts for row in rows for line in row[i]) for i in range(len(_HEAD))]

    def lines(row: list[list[str]]) -> list[str]:
        each = zip_longest(*row, fillvalue="")
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in each
        ]

    (head,), nodes, wires = ([line for row in rows for line in lines(row)] for rows in parts)
    return "\n".join([_title(network), head, *nodes, *(["connections"] if wires else []), *wires])


def as_html(network: "Network") -> str:
    """The same as an HTML table, for a notebook."""
    left = "style='text-align: left; vertical-align: top'"

    def line(row: _Row, tag: str = "td") -> str:
        cells = [*map(_unbroken, row[:3]), _listed(row.learns), _listed(row.constants)]
        return "<tr>" + "".join(f"<{tag} {left}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    nodes, wires = ("".join(map(line, rows)) for rows in _rows(network))
    rule = "style='border-top: 1px solid'"
    table = f"<thead>{line(_HEAD, 'th')}</thead><tbody>{nodes}</tbody><tbody {rule}>{wires}</tbody>"
    return f"<div>{_title(network)}<table>{table}</table></div>"


def _title(network: "Network") -> str:
    n = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))
    return f"Network: {n:,} parameter{'s' * (n != 1)}" if n else "Network: no parameters"


def _cells(row: _Row) -> list[list[str]]:
    """The lines of each cell."""
    parts = (_wrapped(entries, width) for entries, width in zip((row.learns, row.constants), _WIDTHS, strict=True))
    return [["  " + row.name if row.name else ""], [row.size], [row.kind], *parts]


def _wrapped(entries: Sequence[str], width: int) -> list[str]:
    lines = textwrap.wrap(_listed(entries), width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines] or [""]


def _listed(entries: Sequence[str]) -> str:
    """The entries as one text, which can be wrapped only between entries."""
    return ", ".join(map(_unbroken, entries))


def _unbroken(text: str) -> str:
    return text.replace(" ", "\xa0")


def _rows(network: "Network") -> tuple[list[_Row], list[_Row]]:
    """The rows of inputs and layers, each layer after its sources, and the rows of the connections."""
    nodes = [_Row(name, f"{size} channel{'s' * (size != 1)}", "") for name, size in network.inputs.items()]
    for name in (name for group in network.groups() for name in group):
        layer = network.layers[name]
        kind = type(layer.neuron).__name__ + (" (output)" if name in network.output_names else "")
        nodes.append(_Row(name, f"{layer.size} neuron{'s' * (layer.size != 1)}", kind, *_parameters(layer.neuron)))
    sizes = network.inputs | {name: layer.size for name, layer in network.layers.items()}
    wires = []
    for c in network.connections:
        shape = f"{sizes[c.source]} × {sizes[c.target]}"
        # The index arrays of a `Sparse` are not parameters.
        both = zip(_parameters(c.weight, "weight"), _parameters(c.delay, "delay"), strict=True)
        learning, constants = ([*weight, *delay] for weight, delay in both)
        wires.append(_Row(f"{c.source} → {c.target}", shape, type(c).__name__, learning, constants))
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
