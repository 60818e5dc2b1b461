"""Networks from graphs of NIR."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import require, require_instance
from .._connection import AbstractConnection, Rectangular
from .._network import Layer, Network
from ..neurons import Threshold
from ._convention import Convention, Dirac, Euler, library, Rectangle, refuse
from ._graph import (
    Filter,
    Graph,
    IDENTITIES,
    input_shape,
    NEURONS,
    population_shape,
    require_shape,
    Signal,
    signal_into,
    Step,
)
from ._linear import bias_of, connection, constant, LINEAR, shape_after, synapses_of
from ._neurons import Population


def from_nir(
    graph: Any,
    *,
    spike: Any = None,
    time_unit: str | None = None,
    decay: Euler | None = None,
    reset: str = "value",
    threshold: str | None = None,
    dtype: Any = None,
) -> Network:
    r"""Reads a network from a graph of the Neuromorphic Intermediate Representation (NIR).

    ```python
    network = sx.from_nir("network.nir", spike=sx.nir.Rectangle(1e-4), time_unit="s")
    ```

    NIR is defined in continuous time, and the network follows its equations exactly, with the parameters of each
    neuron. A file does not say what a spike is, nor what its unit of time is; these are arguments. The layers have the
    names of the nodes, those of a nested graph `a` the names `a.name`. Weights and biases are trained; parameters of
    neurons and delays are constant.

    A neuron spikes as its voltage rises through `v_threshold`, and is reset to `v_reset`. It starts at `v_leak`,
    without leak at `v_reset` or zero, and without a synaptic current. `start` of [`spikax.simulate`][] sets other
    voltages.

    **Arguments:**

    - `graph`: a `nir.NIRGraph`, or the path of a file.
    - `spike`: what a spike is: [`spikax.nir.Dirac`][] or [`spikax.nir.Rectangle`][].
    - `time_unit`: the unit of all times of the graph: `"s"`, `"ms"` or `"us"`.
    - `decay`: by default time constants are those of the equations. For files of simulators with decays of
      `1 - step / tau`, a [`spikax.nir.Euler`][].
    - `reset`: `"value"` sets the voltage to `v_reset`. With `"subtraction"`, for files of simulators that subtract the
      threshold, neurons for which that would be different are errors: those with another `v_reset` than zero, and
      those whose voltage jumps, by pulses.
    - `threshold`: when a `Threshold` emits a rectangle: `"rise"`, as its input rises through it. By default a
      `Threshold` is an error with rectangles. It emits a pulse as its input rises.
    - `dtype`: the float type of the network. By default that of JAX.

    **Returns:** a [`spikax.Network`][].

    **Raises:** `ImportError` without the package nir; `TypeError` or `ValueError` for invalid graphs, for nodes without
    an exact counterpart, and if `spike` or `time_unit` is missing where it matters. Each names the node.

    ??? cite "Reference"
        J. E. Pedersen et al., *Neuromorphic intermediate representation: A unified instruction set for interoperable
        brain-inspired computing*, Nature Communications 15, 2024.
    """
    nir = library()
    if isinstance(graph, str | os.PathLike):
        # Types are checked here: those of nir 1.0.8 are wrong for groups, and for kernels that are not square.
        graph = nir.read(graph, type_check=False)
    require_instance(graph, nir.NIRGraph, "graph", "a `nir.NIRGraph` or the path of a file")
    convention = Convention.of(spike, time_unit, decay, reset, threshold)
    return _Reader(Graph.of(graph), convention, dtype or jnp.result_type(float)).network()


class _Reader:
    """Reads a network from a graph without nesting."""

    def __init__(self, graph: Graph, convention: Convention, dtype: Any):
        self.graph, self.convention, self.dtype = graph, convention, dtype

    def network(self) -> Network:
        """The network."""
        for name in self.graph.nodes:
            self._require_known(name)
        layers, connections = {}, []
        outputs = [self._output(name) for name in self.graph.of_kind("Output")]
        for name in self.graph.of_kind(*NEURONS, "Threshold"):
            is_analog = self.graph.kind(name) in ("LI", "CubaLI", "I")
            if is_analog and self.graph.after(name) and name not in outputs:
                continue  # It is part of the layers that receive its voltage.
            layers[name], incoming = (
                self._with_threshold(name) if self.graph.kind(name) == "Threshold" else self._layer(name, name)
            )
            connections += incoming
        require(len(layers) > 0, "graph", f"of at least one neuron: {', '.join(NEURONS)}", list(self.graph.nodes))
        inputs = {name: int(np.prod(input_shape(name, self.graph.nodes[name]))) for name in self.graph.of_kind("Input")}
        require(len(outputs) > 0, "graph", "of at least one Output", list(self.graph.nodes))
        return Network(layers, connections, inputs, outputs[0] if len(outputs) == 1 else tuple(dict.fromkeys(outputs)))

    def _require_known(self, name: str) -> None:
        node, kind = self.graph.nodes[name], self.graph.kind(name)
        is_rectangle = kind == "Threshold" and isinstance(self.convention.spike, Rectangle)
        if is_rectangle and self.convention.threshold is None:
            reason = (
                "for rectangles, NIR does not say whether it emits one as its input rises, or as long as it is above"
            )
            remedy = "With `threshold='rise'`, or with `spike=sx.nir.Dirac()`, it emits a spike as its input rises."
            refuse(node, name, reason, remedy)
        kinds = (*NEURONS, *LINEAR, *IDENTITIES, "Input", "Threshold")
        require(kind in kinds, name, f"one of the nodes {', '.join(kinds)}", kind)
        is_fed = kind == "Input" and len(self.graph.before[name]) > 0
        require(not is_fed, name, "an Input without edges to it", self.graph.before[name])

    def _with_threshold(self, name: str) -> tuple[Layer, list[AbstractConnection]]:
        """The layer of a Threshold and the neurons before it, and its connections."""
        sources = self.graph.before[name]
        kinds = [f"{source} ({self.graph.kind(source)})" for source in sources]
        is_voltage = len(sources) == 1 and self.graph.kind(sources[0]) in ("LI", "CubaLI", "I")
        require(is_voltage, name, "a Threshold of one LI, CubaLI or I", kinds)
        layer, incoming = self._layer(sources[0], name)
        node = self.graph.nodes[name]
        require_shape(population_shape(self.graph.nodes[sources[0]]), population_shape(node), name)
        threshold = constant(np.asarray(node.threshold, np.float64).ravel(), self.dtype)
        return Layer(Threshold(layer.neuron, threshold), layer.size), incoming

    def _layer(self, name: str, target: str) -> tuple[Layer, list[AbstractConnection]]:
        """A population as the layer `target`, and its connections."""
        population = Population.of(name, self.graph.nodes[name], self.convention, self.dtype)
        if not self.graph.before[name]:
            return Layer(population.layer(np.zeros(population.size), False), population.size), []
        signal = signal_into(name, self.graph, self._through)
        require_shape(signal.shape, population_shape(population.node), name)
        current: np.ndarray | float = 0.0
        if signal.filter is not None:
            # The LI before it is the filter of its input. What comes after that LI, such as a bias, is not filtered.
            population, current = self._behind(signal.filter, population), signal.constant
            signal = signal._replace(constant=signal.filtered)
        connections = [self._connection(population, target, *path) for path in signal.paths]
        kept = [c for c in connections if c is not None]
        self._require_reset(population, len(kept) > 0)
        return Layer(population.layer(signal.constant, len(kept) > 0, current), population.size), kept

    def _behind(self, filter: Filter, population: Population) -> Population:
        """The population behind a LI that filters all of its input."""
        if population.kind not in ("LIF", "LI"):
            reason = f"it receives the voltage of `{filter.name}`, a filter before its own"
            refuse(population.node, population.name, reason, "A LIF or LI can receive the voltage of a LI.")
        return population.with_filter(filter.tau)

    def _require_reset(self, population: Population, receives: bool) -> None:
        """Raises if a reset by subtraction would differ from one to `v_reset`."""
        if self.convention.reset == "value" or "v_reset" not in population.parameters:
            return
        node, name = population.node, population.name
        remedy = "With `reset='value'`, the default, the voltage is reset to `v_reset`, whatever it was."
        if np.any(population.parameters["v_reset"]):
            refuse(node, name, "after a reset by subtraction its voltage is zero, and `v_reset` is another", remedy)
        is_pulse = receives and isinstance(self.convention.spike, Dirac) and population.kind in ("LIF", "IF")
        if is_pulse:
            reason = "pulses move its voltage beyond the threshold, and what remains of that depends on time steps"
            refuse(node, name, reason, f"Spikes can be rectangles, `spike=sx.nir.Rectangle(duration)`. {remedy}")

    def _through(self, name: str, signal: Signal) -> Signal:
        """What a linear node makes of a signal."""
        node = self.graph.nodes[name]
        step = Step(name, node, signal.shape)
        shape = shape_after(*step)
        passed = signal.through(step, shape, lambda constant: synapses_of(*step).applied(constant))
        if type(node).__name__ == "LI":
            return self._filtered(name, passed)
        return passed._replace(constant=passed.constant + bias_of(*step))

    def _filtered(self, name: str, passed: Signal) -> Signal:
        """The voltage of a LI. `passed` is its input times its resistances."""
        population = Population.of(name, self.graph.nodes[name], self.convention, self.dtype)
        tau, v_leak = population.parameters["tau"], population.parameters["v_leak"]
        if passed.filter is not None:
            reason = f"it receives the voltage of `{passed.filter.name}`, and sends its own: a filter of a filter"
            refuse(population.node, name, reason, "An Output or a Threshold can receive it.")
        if np.any(tau != tau[0]):
            reason = "it sends its voltage to other neurons, and has several time constants"
            refuse(population.node, name, reason, "A LI with one time constant is a filter of what they receive.")
        return passed._replace(constant=v_leak, filtered=passed.constant, filter=Filter(name, float(tau[0])))

    def _connection(
        self, population: Population, target: str, source: str, path: tuple[Step, ...]
    ) -> AbstractConnection | None:
        has_delay = [step.name for step in path if type(step.node).__name__ == "Delay" and np.any(step.node.delay)]
        unit = self.convention.unit(has_delay[0]) if has_delay else None
        found = connection(source, target, path, population.gain(), unit, self.dtype)
        spike = self.convention.spike
        if found is None or not isinstance(spike, Rectangle):
            return found
        duration = float(self.convention.milliseconds(population.name, spike.duration))
        return Rectangular(found, duration)

    def _output(self, name: str) -> str:
        """The layer that an Output records."""
        sources = self.graph.before[name]
        while len(sources) == 1 and self.graph.kind(sources[0]) in (*IDENTITIES, "Flatten"):
            sources = self.graph.before[sources[0]]
        hint = "Spikes of spikax are those of neurons: add neurons, or connect the output to them."
        is_layer = len(sources) == 1 and self.graph.kind(sources[0]) in (*NEURONS, "Threshold")
        kinds = [f"{source} ({self.graph.kind(source)})" for source in sources]
        require(is_layer, name, "an Output of one node of neurons", kinds, hint)
        shape = population_shape(self.graph.nodes[sources[0]])
        given = self.graph.nodes[name].output_type["output"]
        if given is not None:
            require(int(np.prod(given)) == int(np.prod(shape)), name, f"of as many outputs as neurons, {shape}", given)
        return sources[0]
