"""Layers and networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ._check_neuron import check_structures
from ._checks import as_array, known, require, require_count, require_instance, require_key
from ._connection import AbstractConnection, Dense
from ._neuron import AbstractNeuron, require_linear
from ._spikes import Events, Spikes
from ._synapse import is_synapse
from ._types import is_parameter, resolved, stored


class Layer(eqx.Module):
    """A population of one neuron type.

    **Arguments:**

    - `neuron`: the neuron. Each of its parameters is a number, which is a constant, or an array, which learns: of
      shape `()`, shared by the layer, or with one entry per neuron on its first axis.
    - `size`: the number of neurons.
    - `weights`: how `sequential` draws the weights of the arrivals: a function `(key, shape) -> array` such as those
      of `sx.init`, or the weights, of shape `(sources, size)`, also as a parameter such as `sx.Signed`. For a synapse
      with named ports, a dictionary of them.
    - `name`: the name that `sequential` gives the layer.
    """

    neuron: AbstractNeuron = eqx.field(converter=stored)
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
        if neuron.is_linear:
            require_linear(neuron)
        require(self.name is None or isinstance(self.name, str), "name", "a string", self.name, error=TypeError)


class Network(eqx.Module):
    """Layers and the connections between them.

    **Arguments:**

    - `layers`: the layers by name.
    - `connections`: the connections, between the names of layers and of inputs, any number of them; a layer may
      listen to itself, and layers to each other.
    - `inputs`: the number of channels of each input, by name; or one number, for a single input named `"input"`.
    - `outputs`: the name of the layer whose spikes the network gives, or a list of names.

    Calling the network, `network(inputs, t1=...)`, simulates it and gives the spikes of the output layer, or, for a
    list of outputs, a dictionary of them by name; it takes the arguments of [`spikax.simulate`][].

    `print(network)` shows layers, connections, sizes and the number of parameters.

    Raises `ValueError` for a name that no layer or input has, and for weights of the wrong shape.
    """

    layers: dict[str, Layer]
    connections: tuple[AbstractConnection, ...] = eqx.field(converter=lambda connections: _listed(connections))
    inputs: dict[str, int] = eqx.field(static=True, converter=lambda n: _input_sizes(n))
    outputs: str | tuple[str, ...] = eqx.field(static=True, converter=lambda names: _output_names(names))

    def __check_init__(self):
        require_instance(self.layers, dict, "layers", "a dictionary of layers")
        require(len(self.layers) > 0, "layers", "at least one layer", self.layers)
        require(len(self.inputs) > 0, "inputs", "at least one input", self.inputs)
        for name, layer in self.layers.items():
            require_instance(layer, Layer, f"layers[{name!r}]", "a `sx.Layer`")
            require(name not in self.inputs, "layers", "named otherwise than the inputs", name)
        for output in self.output_names:
            require(output in self.layers, "outputs", f"among the layers {list(self.layers)}", output)
        for connection in self.connections:
            hint = "For example `sx.Dense(source, target, weight)`."
            require_instance(connection, AbstractConnection, "connections", "connections", hint)
            self._check_connection(connection)

    def _check_connection(self, connection: AbstractConnection) -> None:
        sizes = self.inputs | {name: layer.size for name, layer in self.layers.items()}
        known_names = f"one of {list(sizes)}"
        require(connection.source in sizes, "source", known_names, connection.source)
        require(connection.target in self.layers, "target", f"one of {list(self.layers)}", connection.target)
        shape = (sizes[connection.source], sizes[connection.target])
        where = f"`{connection.source}` to `{connection.target}`"
        require(connection.shape == shape, "weight", f"for {shape} neurons from {where}", connection.shape)
        synapse = self.layers[connection.target].neuron.synapse
        ports = jax.tree.structure(synapse, is_leaf=is_synapse)
        has_ports = jax.tree.structure(resolved(connection.weight)) == ports
        names = "one array" if is_synapse(synapse) else f"a dictionary with the ports {list(synapse)}"
        require(has_ports, "weight", f"{names}, as the synapse of `{connection.target}` asks", connection.weight)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return (self.outputs,) if isinstance(self.outputs, str) else self.outputs

    def incoming(self, name: str) -> tuple[AbstractConnection, ...]:
        """The connections that end at a layer."""
        return tuple(connection for connection in self.connections if connection.target == name)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The layers in groups, each after those that it listens to; layers that reach each other form one group."""
        heard = {name: self._heard_by(name) for name in self.layers}
        groups: list[tuple[str, ...]] = []
        waiting = list(self.layers)
        while waiting:
            # Of all layers that are left, one that hears the fewest hears none but those of its own group.
            first = min(waiting, key=lambda name: len(heard[name] | {name}))
            group = tuple(name for name in waiting if name == first or (name in heard[first] and first in heard[name]))
            groups.append(group)
            waiting = [name for name in waiting if name not in group]
        return tuple(groups)

    def is_recurrent(self, group: tuple[str, ...]) -> bool:
        """Whether a layer of the group listens to one of them."""
        return any(c.source in group and c.target in group for c in self.connections)

    def _heard_by(self, name: str) -> set[str]:
        """The layers that a layer listens to, at first or at further hand."""
        heard: set[str] = set()
        waiting = [name]
        while waiting:
            sources = {c.source for c in self.incoming(waiting.pop()) if c.source in self.layers} - heard
            heard |= sources
            waiting += sources
        return heard

    @property
    def dtype(self) -> Any:
        """The float type of a simulation: that of the weights and of the learnable parameters."""
        leaves = jax.tree.leaves(eqx.filter((self.layers, self.connections), eqx.is_inexact_array))
        for leaf in leaves:
            fits = leaf.dtype in (jnp.float32, jnp.float64)
            hint = "No spike time is exact in fewer digits: cast the arrays, for example by `.astype(jnp.float32)`."
            require(fits, "network", "of arrays in float32 or float64", leaf.dtype, hint, TypeError)
        return jnp.result_type(*(leaf.dtype for leaf in leaves)) if leaves else jnp.result_type(float)

    def __call__(self, inputs: Spikes | Events | dict, t1: Any = None, **options: Any) -> Any:
        """The spikes of the output layer, or layers; see [`spikax.simulate`][] for the arguments."""
        from ._simulate import simulate

        # Without `t1` too, as Optax calls what should be a tree of labels.
        hint = "To give Optax labels or a mask in the structure of a network, write `lambda _: labels`."
        are_inputs = not isinstance(inputs, Network)
        require(
            are_inputs, "inputs", "`sx.Spikes`, `sx.Events`, or a dictionary of them", type(inputs), hint, TypeError
        )
        spikes = simulate(self, inputs, t1, **options).spikes
        return spikes[self.outputs] if isinstance(self.outputs, str) else {name: spikes[name] for name in self.outputs}

    def __str__(self) -> str:
        return _summary(self)


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
    require_key(key, "key")
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


def recurrent(inputs: int, *layers: Layer, key: PRNGKeyArray, weights: Any, delay: Any = None) -> Network:
    """As `sequential`, with layers that listen to themselves: all but the last, or the only one.

    **Arguments:**

    - `inputs`, `layers`, `key`: as of [`spikax.sequential`][].
    - `weights`: how the weights of each layer to itself are drawn: as the `weights` of a layer, of shape
      `(size, size)`. Wrap them in `sx.Masked` for neurons that do not reach themselves.
    - `delay`: how long a spike within a layer travels, in ms; as of [`spikax.Dense`][].
    """
    network = sequential(inputs, *layers, key=key)
    names = list(network.layers)
    loops = []
    for number, name in enumerate(names[:-1] or names):
        size = network.layers[name].size
        layer = Layer(network.layers[name].neuron, size, weights=weights)
        weight = _draw(layer, name, (size, size), jax.random.fold_in(key, len(names) + number))
        loops.append(Dense(name, name, weight, delay))
    return Network(network.layers, [*network.connections, *loops], network.inputs, network.outputs)


def _summary(network: Network) -> str:
    """Layers, connections, sizes and parameters, in columns."""
    rows = [(f"  {name}", f"{size} channels", "", "") for name, size in network.inputs.items()]
    for group in network.groups():
        for name in group:
            layer = network.layers[name]
            mark = " (output)" if name in network.output_names else ""
            kind = type(layer.neuron).__name__ + mark
            rows.append((f"  {name}", f"{layer.size} neurons", kind, _parameters(layer)))
    wires = [
        (
            f"  {c.source} → {c.target}",
            f"{c.shape[0]} × {c.shape[1]}",
            type(c).__name__ + ("" if c.delay is None else f", {_delay(c.delay)}"),
            _parameters(c),
        )
        for c in network.connections
    ]
    widths = [max(len(row[i]) for row in rows + wires) for i in range(4)]

    def lines(rows):
        return ["  ".join(entry.ljust(w) for entry, w in zip(row, widths, strict=True)).rstrip() for row in rows]

    head = f"Network: {_parameters(network) or 'no parameters'}"
    return "\n".join([head, *lines(rows), "connections", *lines(wires)])


def _parameters(tree: Any) -> str:
    n = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))
    return f"{n:,} parameter{'s' if n != 1 else ''}" if n else ""


def _delay(delay: Any) -> str:
    """A delay, or the span of several."""
    numbers = known(resolved(delay))
    if numbers is None:
        return "delayed"
    low, high = float(numbers.min()), float(numbers.max())
    return f"delayed by {low:.3g} ms" if low == high else f"delayed by {low:.3g} to {high:.3g} ms"


def _listed(connections: Any) -> tuple[AbstractConnection, ...]:
    is_list = isinstance(connections, list | tuple)
    require(is_list, "connections", "a list of connections", connections, error=TypeError)
    return stored(tuple(connections))


def _output_names(names: Any) -> str | tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else names
    is_list = isinstance(listed, list | tuple) and len(listed) > 0 and all(isinstance(name, str) for name in listed)
    require(is_list, "outputs", "the name of a layer, or a list of names", names, error=TypeError)
    return names if isinstance(names, str) else tuple(names)


def _input_sizes(inputs: int | Mapping[str, int]) -> dict[str, int]:
    sizes = {"input": inputs} if not isinstance(inputs, Mapping) else dict(inputs)
    for name, size in sizes.items():
        require_count(size, "inputs" if name == "input" else f"inputs[{name!r}]")
    return sizes
