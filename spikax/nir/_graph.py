"""Graphs of NIR without nesting, and the signals in them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._checks import require
from ._convention import refuse


NEURONS = ("LIF", "CubaLIF", "IF", "LI", "CubaLI", "I")
SPIKING = ("LIF", "CubaLIF", "IF", "Threshold")
IDENTITIES = ("Output", "Identity")


class Graph(NamedTuple):
    """A graph without nested graphs. The inputs and outputs of nested graphs are identities."""

    nodes: dict[str, Any]
    before: dict[str, list[str]]  # the sources of each node, one for each edge
    inner: frozenset[str]  # the inputs and outputs of nested graphs

    @classmethod
    def of(cls, graph: Any) -> "Graph":
        """The graph, with the nodes of a nested graph `a` as `a.name`."""
        nodes, edges, inner = _flattened(graph, "")
        before: dict[str, list[str]] = {name: [] for name in nodes}
        for source, target in edges:
            before[target].append(source)
        return cls(nodes, before, frozenset(inner))

    def kind(self, name: str) -> str:
        """The name of the class of a node; `Identity` for an input or output of a nested graph."""
        return "Identity" if name in self.inner else type(self.nodes[name]).__name__

    def after(self, name: str) -> list[str]:
        """The targets of a node."""
        return [target for target, sources in self.before.items() if name in sources]

    def of_kind(self, *kinds: str) -> list[str]:
        """The names of the nodes of some kinds."""
        return [name for name in self.nodes if self.kind(name) in kinds]


def _flattened(graph: Any, prefix: str) -> tuple[dict[str, Any], list[tuple[str, str]], set[str]]:
    nodes, inner, ends = {}, set(), {}
    edges = []
    for name, node in graph.nodes.items():
        full = prefix + name
        if type(node).__name__ != "NIRGraph":
            nodes[full] = node
            continue
        below, edges_below, inner_below = _flattened(node, f"{full}.")
        clash = sorted(set(below) & set(nodes))
        require(not clash, "graph", "of nodes with different names, where `a.b` is the node b of a", clash)
        nodes |= below
        edges += edges_below
        own = {kind: [f"{full}.{n}" for n, part in node.nodes.items() if type(part).__name__ == kind] for kind in _ENDS}
        inner |= inner_below | {name for names in own.values() for name in names}
        ends[name] = own
    for source, target in graph.edges:
        for name in (source, target):
            require(name in graph.nodes, "graph", f"of edges between its nodes {list(graph.nodes)}", name)
        edges.append((_end(prefix, ends, source, "Output"), _end(prefix, ends, target, "Input")))
    return nodes, edges, inner


_ENDS = ("Input", "Output")


def _end(prefix: str, ends: dict[str, dict[str, list[str]]], name: str, kind: str) -> str:
    """The node at which an edge ends: of a nested graph, its input or output."""
    if name not in ends:
        return prefix + name
    names = ends[name][kind]
    hint = "An edge of NIR does not say at which one it ends."
    require(len(names) == 1, prefix + name, f"a nested graph with one {kind} node", names, hint)
    return names[0]


class Step(NamedTuple):
    """A linear node on a path."""

    name: str
    node: Any
    shape: tuple[int, ...]  # of what it receives


class Filter(NamedTuple):
    """A LI whose voltage is sent to other nodes: a filter with one time constant, in units of time of the file."""

    name: str
    tau: float


class Signal(NamedTuple):
    """What a node emits: a sum of spike trains through linear nodes, and a constant.

    With a filter, all trains pass it, and `filtered` is a further constant that passes it.
    """

    shape: tuple[int, ...]
    constant: np.ndarray  # flat
    paths: tuple[tuple[str, tuple[Step, ...]], ...]  # each source, and the linear nodes from there
    filtered: np.ndarray | float = 0.0  # flat
    filter: Filter | None = None

    def through(self, step: Step, shape: tuple[int, ...], applied: Callable[[Any], Any]) -> "Signal":
        """The signal after a linear node. `applied` gives what the node makes of a constant."""
        paths = tuple((source, (*path, step)) for source, path in self.paths)
        constant, filtered = (
            applied(part) if np.any(part) else np.zeros(int(np.prod(shape))) for part in (self.constant, self.filtered)
        )
        return Signal(shape, constant, paths, filtered, self.filter)


def signal_into(name: str, graph: Graph, apply: Callable[[str, Signal], Signal], way: tuple[str, ...] = ()) -> Signal:
    """The signal that a node receives: the sum over all edges.

    `apply` gives what a linear node makes of a signal. `way` are the linear nodes from here to the neuron.
    """
    require(name not in way, name, "no part of a cycle without a neuron that spikes", [*way, name])
    parts = [_signal_from(source, graph, apply, (*way, name)) for source in graph.before[name]]
    require(len(parts) > 0, name, "the target of an edge", "no edge")
    shape = parts[0].shape
    for part in parts:
        require_shape(part.shape, shape, name)
    # A part without spikes and filtered constants passes any filter.
    filters = {part.filter for part in parts if part.paths or np.any(part.filtered)}
    taus = {None if filter is None else filter.tau for filter in filters}
    if len(taus) > 1:
        names = sorted(filter.name for filter in filters if filter is not None)
        reason = f"it receives through different filters: the voltages of {', '.join(names)}, and maybe spikes"
        refuse(graph.nodes[name], name, reason, "All that a node receives can pass a LI of the same time constant.")
    constant = np.sum([part.constant for part in parts], axis=0)
    filtered = np.sum([part.filtered for part in parts], axis=0)
    paths = tuple(path for part in parts for path in part.paths)
    return Signal(shape, constant, paths, filtered, next(iter(filters), None))


def _signal_from(name: str, graph: Graph, apply: Callable[[str, Signal], Signal], way: tuple[str, ...]) -> Signal:
    node, kind = graph.nodes[name], graph.kind(name)
    if kind in SPIKING or kind == "Input":
        shape = population_shape(node) if kind in SPIKING else input_shape(name, node)
        return Signal(shape, np.zeros(int(np.prod(shape))), ((name, ()),))
    if kind in NEURONS and kind != "LI":
        reason = f"it sends its voltage to `{way[-1]}`, and neurons of spikax send spikes"
        refuse(node, name, reason, "A Threshold makes spikes of it, an Output records it, and a LI can be a filter.")
    incoming = signal_into(name, graph, apply, way)
    return incoming if kind in IDENTITIES else apply(name, incoming)


def population_shape(node: Any) -> tuple[int, ...]:
    """The shape of a population."""
    return tuple(np.shape(node.threshold if type(node).__name__ == "Threshold" else node.r))


def input_shape(name: str, node: Any) -> tuple[int, ...]:
    """The shape of an Input."""
    shape = node.input_type["input"]
    require(shape is not None, name, "an Input with a shape", shape)
    return as_shape(shape)


def as_shape(value: Any) -> tuple[int, ...]:
    """A shape as plain integers."""
    return tuple(int(size) for size in np.ravel(value))


def require_shape(found: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    """Raises `ValueError` unless both shapes are the same, up to axes of length one."""
    same = [size for size in found if size != 1] == [size for size in expected if size != 1]
    require(same, name, f"the target of signals of shape {tuple(expected)}", tuple(found))
