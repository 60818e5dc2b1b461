"""Layers and networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ._check_neuron import check_structures
from ._checks import as_array, require, require_count, require_instance
from ._connection import Dense
from ._neuron import AbstractNeuron, require_linear
from ._spikes import Events, Spikes
from ._synapse import is_synapse
from ._types import is_parameter, resolved


class Layer(eqx.Module):
    """A population of one neuron type.

    **Arguments:**

    - `neuron`: the neuron. Each of its parameters is a number or an array of shape `()`, shared by the layer, or an
      array with one entry per neuron on its first axis.
    - `size`: the number of neurons.
    - `weights`: how `sequential` draws the weights of the arrivals: a function `(key, shape) -> array` such as those
      of `sx.init`, or the weights, of shape `(sources, size)`, also as a parameter such as `sx.Signed`. For a synapse
      with named ports, a dictionary of them.
    - `name`: the name that `sequential` gives the layer.
    """

    neuron: AbstractNeuron
    size: int = eqx.field(static=True)
    weights: Any = eqx.field(default=None, kw_only=True)
    name: str | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self):
        hint = "Write an instance, for example `sx.LIF()`."
        require_instance(self.neuron, AbstractNeuron, "neuron", "a neuron", hint)
        require_count(self.size, "size")
        for path, leaf in jax.tree.leaves_with_path(eqx.filter(self.neuron, eqx.is_array)):
            fits = leaf.ndim == 0 or leaf.shape[0] == self.size
            expectation = f"of shape () or ({self.size}, ...), one entry per neuron"
            require(fits, "neuron" + jax.tree_util.keystr(path), expectation, leaf)
        neuron = resolved(self.neuron)
        check_structures(neuron)
        if neuron.is_linear and is_synapse(neuron.synapse):
            require_linear(neuron)
        require(self.name is None or isinstance(self.name, str), "name", "a string", self.name, error=TypeError)


class Network(eqx.Module):
    """Layers and the connections between them.

    **Arguments:**

    - `layers`: the layers by name.
    - `connections`: the connections, between the names of layers and of inputs.
    - `inputs`: the number of channels of each input, by name; or one number, for a single input named `"input"`.
    - `output`: the name of the layer whose spikes the network gives.

    Calling the network, `network(inputs, t1=...)`, simulates it and gives the spikes of the output layer; it takes the
    arguments of [`spikax.simulate`][].

    Raises `ValueError` for a name that no layer or input has, for weights of the wrong shape, and for a cycle.
    """

    layers: dict[str, Layer]
    connections: tuple[Dense, ...] = eqx.field(converter=lambda connections: _listed(connections))
    inputs: dict[str, int] = eqx.field(static=True, converter=lambda n: _input_sizes(n))
    output: str = eqx.field(static=True)

    def __check_init__(self):
        require_instance(self.layers, dict, "layers", "a dictionary of layers")
        require(len(self.layers) > 0, "layers", "at least one layer", self.layers)
        require(len(self.inputs) > 0, "inputs", "at least one input", self.inputs)
        require_instance(self.output, str, "output", "the name of a layer")
        for name, layer in self.layers.items():
            require_instance(layer, Layer, f"layers[{name!r}]", "a `sx.Layer`")
            require(name not in self.inputs, "layers", "named otherwise than the inputs", name)
        require(self.output in self.layers, "output", f"one of the layers {list(self.layers)}", self.output)
        for connection in self.connections:
            require_instance(connection, Dense, "connections", "`sx.Dense` connections")
            self._check_connection(connection)
        self.order()

    def _check_connection(self, connection: Dense) -> None:
        sizes = self.inputs | {name: layer.size for name, layer in self.layers.items()}
        known_names = f"one of {list(sizes)}"
        require(connection.source in sizes, "source", known_names, connection.source)
        require(connection.target in self.layers, "target", f"one of {list(self.layers)}", connection.target)
        shape = (sizes[connection.source], sizes[connection.target])
        where = f"`{connection.source}` to `{connection.target}`"
        require(connection.shape == shape, "weight", f"of shape {shape} from {where}", connection.shape)
        synapse = self.layers[connection.target].neuron.synapse
        ports = jax.tree.structure(synapse, is_leaf=is_synapse)
        has_ports = jax.tree.structure(resolved(connection.weight)) == ports
        names = "one array" if is_synapse(synapse) else f"a dictionary with the ports {list(synapse)}"
        require(has_ports, "weight", f"{names}, as the synapse of `{connection.target}` asks", connection.weight)

    def incoming(self, name: str) -> tuple[Dense, ...]:
        """The connections that end at a layer."""
        return tuple(connection for connection in self.connections if connection.target == name)

    def order(self) -> tuple[str, ...]:
        """The layers, each after those that it listens to."""
        ordered: list[str] = []
        waiting = list(self.layers)
        while waiting:
            ready = [
                name
                for name in waiting
                if all(c.source in ordered or c.source in self.inputs for c in self.incoming(name))
            ]
            hint = "Layers are simulated one after the other, each after its sources."
            require(len(ready) > 0, "connections", "free of cycles", waiting, hint)
            ordered += ready
            waiting = [name for name in waiting if name not in ready]
        return tuple(ordered)

    @property
    def dtype(self) -> Any:
        """The float type of a simulation: that of the weights and of the learnable parameters."""
        leaves = jax.tree.leaves(eqx.filter((self.layers, self.connections), eqx.is_inexact_array))
        return jnp.result_type(*(leaf.dtype for leaf in leaves)) if leaves else jnp.result_type(float)

    def __call__(self, inputs: Spikes | Events | dict, t1: Any, **options: Any) -> Spikes:
        """The spikes of the output layer; see [`spikax.simulate`][] for the arguments."""
        from ._simulate import simulate

        return simulate(self, inputs, t1, **options).spikes[self.output]


def sequential(inputs: int, *layers: Layer, key: PRNGKeyArray) -> Network:
    """A feed-forward network: every layer listens to the one before it.

    **Arguments:**

    - `inputs`: the number of input channels.
    - `layers`: the layers, each with its `weights`. Those without a name are called `"hidden"` (`"hidden1"`,
      `"hidden2"`, ... where there are several) and, the last one, `"output"`.
    - `key`: the random key for the weights.

    Raises `TypeError` or `ValueError` for a layer without weights, or with weights of the wrong shape.
    """
    require_count(inputs, "inputs")
    require(len(layers) > 0, "layers", "at least one `sx.Layer`", layers)
    for layer in layers:
        require_instance(layer, Layer, "layers", "`sx.Layer` objects")
    is_key = isinstance(key, jax.Array) and (
        key.shape == () if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key.shape == (2,)
    )
    require(is_key, "key", "a random key", key, "For example `jax.random.key(0)`.", TypeError)
    names = _names(layers)
    sizes = [inputs, *(layer.size for layer in layers)]
    sources = ["input", *names]
    connections = [
        Dense(sources[i], names[i], _draw(layer, names[i], (sizes[i], sizes[i + 1]), jax.random.fold_in(key, i)))
        for i, layer in enumerate(layers)
    ]
    bare = [Layer(layer.neuron, layer.size) for layer in layers]
    return Network(dict(zip(names, bare, strict=True)), connections, {"input": inputs}, names[-1])


def _names(layers: Sequence[Layer]) -> list[str]:
    hidden = len(layers) - 1
    automatic = ["hidden" if hidden == 1 else f"hidden{i + 1}" for i in range(hidden)] + ["output"]
    names = [layer.name or name for layer, name in zip(layers, automatic, strict=True)]
    require(len(set(names)) == len(names), "name", "different for every layer", names)
    return names


def _draw(layer: Layer, name: str, shape: tuple[int, int], key: PRNGKeyArray) -> Any:
    hint = "For example `weights=sx.init.normal(1.0, 0.5)`."
    require(layer.weights is not None, "weights", f"given for the layer `{name}`", layer.weights, hint)
    entries, structure = jax.tree.flatten(layer.weights, is_leaf=is_parameter)
    drawn = []
    for number, entry in enumerate(entries):
        drawn_or_given = entry(jax.random.fold_in(key, number), shape) if callable(entry) else entry
        is_stored = is_parameter(drawn_or_given)
        weight = drawn_or_given if is_stored else jnp.asarray(as_array(drawn_or_given, "weights"))
        has_shape = jnp.shape(resolved(weight)) == shape
        require(has_shape, "weights", f"of shape {shape} for the layer `{name}`", weight, hint)
        drawn.append(weight)
    return jax.tree.unflatten(structure, drawn)


def _listed(connections: Any) -> tuple[Dense, ...]:
    is_list = isinstance(connections, list | tuple)
    require(is_list, "connections", "a list of connections", connections, error=TypeError)
    return tuple(connections)


def _input_sizes(inputs: int | Mapping[str, int]) -> dict[str, int]:
    sizes = {"input": inputs} if not isinstance(inputs, Mapping) else dict(inputs)
    for name, size in sizes.items():
        require_count(size, "inputs" if name == "input" else f"inputs[{name!r}]")
    return sizes
