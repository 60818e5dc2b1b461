"""Graphs of NIR from networks."""

import dataclasses
from typing import Any

import jax
import numpy as np

from .._checks import known, require, require_instance
from .._connection import AbstractConnection, Conv, Dense, OneToOne, Rectangular, Sparse
from .._network import Network
from .._types import resolved
from ._convention import Convention, Dirac, library, MILLISECONDS, Rectangle
from ._numbers import divided
from ._write_neurons import Written, written


def to_nir(network: Network, *, spike: Any = None, time_unit: str = "s") -> Any:
    r"""Writes a network as a graph of the Neuromorphic Intermediate Representation (NIR).

    ```python
    nir.write("network.nir", sx.to_nir(network))
    same = sx.from_nir("network.nir", spike=sx.nir.Dirac(), time_unit="s")
    ```

    `from_nir` gives a network with the same spikes, given the same `spike` and `time_unit`, which NIR does not store.
    Nor does it store initial voltages, and which parameters are trained.

    **Arguments:**

    - `network`: a network of `LIF`, `IF`, `LI` and `Integrator` neurons, possibly in a `FilteredBias`, each with a
      single synapse, and of connections of spikax. A `LI` or `Integrator` can be in a `Threshold`.
    - `spike`: what a spike is. By default `Dirac()`. With [`spikax.nir.Rectangle`][], all connections must be
      [`spikax.Rectangular`][], of this duration.
    - `time_unit`: the unit of all times of the graph: `"s"`, `"ms"` or `"us"`.

    **Returns:** a `nir.NIRGraph`.

    **Raises:** `ImportError` without the package nir; `TypeError` or `ValueError` for parts of the network that NIR
    cannot hold, which it names.
    """
    require_instance(network, Network, "network", "a `sx.Network`")
    convention = Convention.of(Dirac() if spike is None else spike, time_unit)
    require(time_unit is not None, "time_unit", f"one of {list(MILLISECONDS)}", time_unit)
    are_known = all(known(leaf) is not None for leaf in jax.tree.leaves(network))
    require(are_known, "network", "of known numbers", network, "Write it outside of `jax.jit`.")
    return _Writer(library(), resolved(network), convention).graph()


class _Writer:
    """Writes a network with known, plain parameters."""

    def __init__(self, nir: Any, network: Network, convention: Convention):
        self.nir, self.network, self.convention = nir, network, convention
        self.spike, self.unit = convention.shape_of_spikes("network"), convention.unit("network")
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.entries: dict[str, str] = {}  # the node that receives what a layer does, if it is another
        self.shapes = _shapes(network)

    def graph(self) -> Any:
        """The graph."""
        for name in self.network.inputs:
            self._add(name, self.nir.Input({"input": np.array(self.shapes[name])}))
        layers = {name: self._written(name) for name in self.network.layers}
        for name, layer in layers.items():
            self._add(name, layer.node if layer.threshold is None else layer.threshold)
        for name, layer in layers.items():
            if layer.threshold is not None:
                # Its voltage is a node of its own, which receives what the layer does.
                self.entries[name] = self._add(f"{name}_voltage", layer.node)
                self.edges.append((self.entries[name], name))
        for name, layer in layers.items():
            self._incoming(name, layer)
        for name in self.network.output_names:
            is_only = len(self.network.output_names) == 1
            output = self._add("output" if is_only else f"output_{name}", self.nir.Output(np.array(self.shapes[name])))
            self.edges.append((name, output))
        # Types of nir 1.0.8 are wrong for groups, and for kernels that are not square.
        return self.nir.NIRGraph(self.nodes, self.edges, type_check=False)

    def _add(self, name: str, node: Any) -> str:
        """Adds a node, with a number after its name if that is taken. Returns its name."""
        hint = "NIR separates names by `/` in files, and spikax names nodes of nested graphs with a dot."
        require("/" not in name, "network", "of layers without `/` in their names", name, hint)
        free = next(n for i in range(len(self.nodes) + 1) if (n := f"{name}_{i}" if i else name) not in self.nodes)
        self.nodes[free] = node
        return free

    def _written(self, name: str) -> Written:
        """A layer as a node."""
        receives = any(connection.target == name for connection in self.network.connections)
        return written(self.nir, name, self.network.layers[name], self.shapes[name], self.convention, receives)

    def _incoming(self, name: str, layer: Written) -> None:
        """The nodes between a layer and its sources, and its constant input."""
        remaining = layer.constant if np.any(layer.constant) else None
        for number, given in enumerate(self.network.connections):
            if given.target != name:
                continue
            wires = self._without_rectangles(f"connections[{number}]", given)
            steps = self._steps(f"connections[{number}]", wires, layer.gain)
            adding = None if remaining is None else self._with_constant(steps[-1], remaining)
            if adding is not None:
                steps[-1], remaining = adding, None
            self._link(wires.source, name, steps)
        if remaining is not None:
            self._link_constant(name, remaining)

    def _with_constant(self, node: Any, constant: np.ndarray) -> Any | None:
        """The node with a constant that it adds; None if it cannot."""
        if isinstance(node, self.nir.Linear):
            return self.nir.Affine(node.weight, constant)
        if not isinstance(node, self.nir.Conv2d):
            return None
        by_channel = constant.reshape(len(node.weight), -1)
        is_shared = bool(np.all(by_channel == by_channel[:, :1]))
        return dataclasses.replace(node, bias=by_channel[:, 0].copy()) if is_shared else None

    def _link_constant(self, name: str, constant: np.ndarray) -> None:
        """A constant input without a connection that could add it: a matrix of zeros does."""
        is_list = len(self.shapes[name]) == 1
        require(is_list, f"layers[{name!r}].neuron.bias", "one for each channel of an image, for NIR", constant)
        source = next(iter(self.network.inputs))
        weight = np.zeros((constant.size, self.network.inputs[source]))
        self._link(source, name, [*self._flattened(source), self.nir.Affine(weight, constant)])

    def _without_rectangles(self, where: str, given: AbstractConnection) -> AbstractConnection:
        """The connection in a `Rectangular`, if spikes are rectangles."""
        if isinstance(self.spike, Dirac):
            hint = "Give `spike=sx.nir.Rectangle(duration)`."
            require(not isinstance(given, Rectangular), where, "none of rectangular spikes", given, hint)
            return given
        require_instance(given, Rectangular, where, "a `sx.Rectangular`, if spikes are rectangles")
        assert isinstance(given, Rectangular) and isinstance(self.spike, Rectangle)
        expected = np.asarray(self.spike.duration * self.unit, self.network.dtype)
        same = np.asarray(given.duration, expected.dtype) == expected
        require(bool(same), f"{where}.duration", f"{expected} ms, that of `spike`", given.duration)
        return given.connection

    def _steps(self, where: str, wires: AbstractConnection, gain: np.ndarray) -> list[Any]:
        """The nodes of a connection."""
        require(not isinstance(wires.weight, dict), f"{where}.weight", "one array, for NIR", wires.weight)
        delay = None if wires.delay is None else np.asarray(wires.delay, np.float64)
        if isinstance(wires, Conv):
            return [*self._delay(wires.source, delay), self._conv(where, wires, gain)]
        if isinstance(wires, OneToOne):
            scale = _scaled(np.asarray(wires.weight), gain).reshape(self.shapes[wires.target])
            return [*self._delay(wires.source, delay), self.nir.Scale(scale)]
        hint = "NIR cannot make an image of a list of neurons."
        is_list = len(self.shapes[wires.target]) == 1
        require(
            is_list, where, f"a `sx.Conv` or `sx.OneToOne` to the image `{wires.target}`", type(wires).__name__, hint
        )
        flat = self._flattened(wires.source)
        if isinstance(wires, Dense) and (delay is None or delay.ndim < 2):
            weight = _scaled(np.asarray(wires.weight), gain).T
            return [*self._delay(wires.source, delay), *flat, self.nir.Linear(weight)]
        kinds = "Dense, OneToOne, Sparse, Conv"
        require_instance(wires, (Dense, Sparse), where, f"one of {kinds}, or one in a `sx.Rectangular`, for NIR")
        sources, targets, weight = _synapse_list(wires)
        return [*flat, *self._list(wires.shape, sources, targets, _scaled(weight, gain[targets]), delay)]

    def _list(
        self,
        shape: tuple[int, int],
        sources: np.ndarray,
        targets: np.ndarray,
        weight: np.ndarray,
        delay: np.ndarray | None,
    ) -> list[Any]:
        """The nodes of a list of synapses."""
        if delay is None and np.unique(sources * shape[1] + targets).size == sources.size:
            matrix = np.zeros(shape[::-1], weight.dtype)
            matrix[targets, sources] = weight
            return [self.nir.Linear(matrix)]
        # A signal for each synapse, since they have delays of their own, or the same source and target.
        each = np.arange(sources.size)
        spread = np.zeros((sources.size, shape[0]))
        collect = np.zeros((shape[1], sources.size), weight.dtype)
        spread[each, sources], collect[targets, each] = 1.0, weight
        delays = [] if delay is None else self._delay_of(np.broadcast_to(delay.ravel(), sources.shape))
        return [self.nir.Linear(spread), *delays, self.nir.Linear(collect)]

    def _conv(self, where: str, wires: Conv, gain: np.ndarray) -> Any:
        kernel = np.asarray(wires.weight)
        by_channel = gain.reshape(len(kernel), -1)
        same = bool(np.all(by_channel == by_channel[:, :1]))
        require(same, where, "to neurons with one time constant per channel, for NIR", type(wires).__name__)
        options = {name: getattr(wires, name) for name in ("stride", "padding", "dilation", "groups")}
        weight = _scaled(kernel, by_channel[:, :1, None, None])
        return self.nir.Conv2d(wires.image, weight, bias=np.zeros(len(kernel)), **options)

    def _delay(self, source: str, delay: np.ndarray | None) -> list[Any]:
        """The delays of the neurons of a source."""
        if delay is None:
            return []
        shape = self.shapes[source]
        return self._delay_of(np.broadcast_to(delay, (int(np.prod(shape)),)).reshape(shape))

    def _delay_of(self, delay: np.ndarray) -> list[Any]:
        return [self.nir.Delay(divided(delay, self.unit))]

    def _flattened(self, source: str) -> list[Any]:
        shape = np.array(self.shapes[source])
        return [self.nir.Flatten({"input": shape}, start_dim=0)] if shape.size > 1 else []

    def _link(self, source: str, target: str, steps: list[Any]) -> None:
        """A chain of nodes from a source to a layer."""
        last = source
        for node in steps:
            name = self._add(f"{source}_{target}_{type(node).__name__.lower()}", node)
            self.edges.append((last, name))
            last = name
        self.edges.append((last, self.entries.get(target, target)))


def _scaled(weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The weights whose products with the gain are `weight`."""
    return weight.copy() if np.all(gain == 1.0) else divided(weight, gain)


def _synapse_list(wires: Dense | Sparse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The source, the target and the weight of each synapse."""
    weight = np.asarray(wires.weight).ravel()
    if isinstance(wires, Dense):
        sources, targets = np.indices(wires.shape).reshape(2, -1)
        return sources, targets, weight
    slots, sources = np.asarray(wires.slots), np.asarray(wires.sources)
    slot, target = np.nonzero(slots < sources.size)
    targets = np.zeros(sources.size, int)
    targets[slots[slot, target]] = target
    return sources, targets, weight


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """The shape of each input and layer: an image if a convolution says so."""
    sizes = network.inputs | {name: layer.size for name, layer in network.layers.items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for given in network.connections:
        wires = given.connection if isinstance(given, Rectangular) else given
        if not isinstance(wires, Conv):
            continue
        ends = {wires.source: wires.image, wires.target: wires.image_out}
        for name, image in ends.items():
            shape = (sizes[name] // (image[0] * image[1]), *image)
            same = shapes.setdefault(name, shape) == shape
            require(same, name, f"an image of the shape {shapes[name]} in all convolutions", shape)
    _spread_along_pairs(network, shapes)
    return {name: shapes.get(name, (size,)) for name, size in sizes.items()}


def _spread_along_pairs(network: Network, shapes: dict[str, tuple[int, ...]]) -> None:
    """One-to-one connections keep the shape: their ends are images if one of them is."""
    pairs = [c.connection if isinstance(c, Rectangular) else c for c in network.connections]
    pairs = [(c.source, c.target) for c in pairs if isinstance(c, OneToOne)]
    for _ in pairs:
        for source, target in pairs:
            shape = shapes.get(source, shapes.get(target))
            if shape is not None:
                shapes.setdefault(source, shape)
                shapes.setdefault(target, shape)
