"""Layers and networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ._check_neuron import check_structures
from ._checks import as_array, known, require, require_count, require_instance, require_key
from ._connection import AbstractConnection, Dense
from ._neuron import AbstractNeuron, require_linear
from ._spikes import Events, Spikes
from ._summary import summary
from ._synapse import is_synapse, port_structure
from ._tables import as_html, as_text
from ._types import is_parameter, resolved, stored


class Layer(eqx.Module):
    """A population of one neuron type.

    **Arguments:**

    - `neuron`: the neuron. Each of its parameters is a number, which is constant, or an array, which is trained: of
      shape `()`, shared by the layer, or with one value per neuron on its first axis.
    - `size`: the number of neurons.
    - `weights`: the weights of the connection to the layer, for [`spikax.sequential`][] and [`spikax.recurrent`][]: an
      initializer `(key, shape) -> array`, such as those of `sx.init`, or an array or parameter (such as `sx.Signed`) of
      shape `(sources, size)`. For a synapse with named ports, a dictionary of them. In a [`spikax.Network`][] the
      connections hold the weights, and this must be None.
    - `name`: the name of the layer, for `sequential` and `recurrent`.

    **Raises:** `TypeError` or `ValueError` for parameters of the wrong shape, and for neurons whose methods do not fit
    together.
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
    - `connections`: a list of connections. Their sources and targets are names of layers and inputs. Recurrent
      connections are allowed, within a layer and between layers.
    - `inputs`: the number of channels of each input, by name; or one number, for a single input named `"input"`.
    - `outputs`: the name of the output layer, or a list of names.

    Calling the network, `network(inputs, t1=...)`, simulates it and returns the spikes of the output layer, or, for a
    list of outputs, a dictionary of them by name. The arguments are those of [`spikax.simulate`][].

    `print(network)` shows the layers, connections and sizes, and which parameters are trained or constant. A notebook
    shows the same as a table.

    **Raises:** `ValueError` for an unknown name of a layer or input, for weights of the wrong shape, and for a layer
    with `weights`, which belong in a connection.
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
            require(name not in self.inputs, "layers", "named differently from the inputs", name)
            # They would not be used, and an array would count as a trained parameter.
            hint = f"Give them to a connection, `sx.Dense(source, {name!r}, weights)`, or use `sx.sequential`."
            require(layer.weights is None, f"layers[{name!r}].weights", "None", layer.weights, hint)
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
        ports = port_structure(synapse)
        has_ports = jax.tree.structure(resolved(connection.weight)) == ports
        names = "one array" if is_synapse(synapse) else f"a dictionary with the ports {list(synapse)}"
        require(has_ports, "weight", f"{names}, as the synapse of `{connection.target}` requires", connection.weight)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return (self.outputs,) if isinstance(self.outputs, str) else self.outputs

    def incoming(self, name: str) -> tuple[AbstractConnection, ...]:
        """The connections that end at a layer."""
        return tuple(connection for connection in self.connections if connection.target == name)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of mutually connected layers, each after the groups that it receives from."""
        sources = {name: self.sources_of(name) for name in self.layers}
        groups: list[tuple[str, ...]] = []
        waiting = list(self.layers)
        while waiting:
            # Of the remaining layers, the one with the fewest direct and indirect sources receives only from its group.
            first = min(waiting, key=lambda name: len(sources[name] | {name}))
            group = tuple(
                name for name in waiting if name == first or (name in sources[first] and first in sources[name])
            )
            groups.append(group)
            waiting = [name for name in waiting if name not in group]
        return tuple(groups)

    def is_recurrent(self, group: tuple[str, ...]) -> bool:
        """Whether a layer of the group receives from a layer of the group."""
        return any(c.source in group and c.target in group for c in self.connections)

    def sources_of(self, name: str) -> set[str]:
        """The layers from which a layer receives, directly or indirectly."""
        sources: set[str] = set()
        waiting = [name]
        while waiting:
            new = {c.source for c in self.incoming(waiting.pop()) if c.source in self.layers} - sources
            sources |= new
            waiting += new
        return sources

    @property
    def dtype(self) -> Any:
        """The float type of a simulation: the widest float type of the weights and parameters."""
        # Resolved, to include the values of `sx.Fixed`, which are stored as integers.
        leaves = jax.tree.leaves(eqx.filter(resolved((self.layers, self.connections)), eqx.is_inexact_array))
        for leaf in leaves:
            fits = leaf.dtype in (jnp.float32, jnp.float64)
            hint = "Spike times need this precision. Cast the arrays, for example by `.astype(jnp.float32)`."
            require(fits, "network", "of arrays in float32 or float64", leaf.dtype, hint, TypeError)
        # Not `jnp.result_type`, which raises for mixed types under strict dtype promotion.
        widest = max((leaf.dtype for leaf in leaves), key=lambda kind: kind.itemsize, default=float)
        # An array of NumPy may be float64 while JAX has only float32.
        return jax.dtypes.canonicalize_dtype(widest)

    def __call__(self, inputs: Spikes | Events | dict, t1: Any = None, **options: Any) -> Any:
        """Returns the spikes of the output layer or layers. See [`spikax.simulate`][] for the arguments."""
        from ._simulate.entry import simulate

        # `t1` is optional for this check: Optax calls any callable that is passed as labels or mask.
        hint = "To pass labels or a mask with the structure of a network to Optax, write `lambda _: labels`."
        are_inputs = not isinstance(inputs, Network)
        require(
            are_inputs, "inputs", "`sx.Spikes`, `sx.Events`, or a dictionary of them", type(inputs), hint, TypeError
        )
        spikes = simulate(self, inputs, t1, **options).spikes
        return spikes[self.outputs] if isinstance(self.outputs, str) else {name: spikes[name] for name in self.outputs}

    def __str__(self) -> str:
        return as_text(*summary(self))

    def _repr_html_(self) -> str:
        """The representation in a notebook."""
        return as_html(*summary(self))


def sequential(inputs: int, *layers: Layer, key: PRNGKeyArray, delay: Any = None) -> Network:
    """Creates a feed-forward network, in which each layer receives from the one before it.

    **Arguments:**

    - `inputs`: the number of input channels.
    - `layers`: the layers, each with its `weights`. Layers without a name are called `"hidden"` (`"hidden1"`,
      `"hidden2"`, ... if there are several), and the last one `"output"`.
    - `key`: the random key for the weights and delays.
    - `delay`: the delays of all connections, in ms: a number or parameter, as for [`spikax.Dense`][]; or an initializer
      `(key, shape) -> delays`, called with `shape = (sources, size)` for each layer; or a list with one of these for
      each layer, None for no delay.

    **Returns:** a [`spikax.Network`][] with [`spikax.Dense`][] connections.

    **Raises:** `TypeError` or `ValueError` for a layer without weights, with weights or delays of the wrong shape, and
    for negative delays.
    """
    require_count(inputs, "inputs")
    require(len(layers) > 0, "layers", "at least one `sx.Layer`", layers)
    for layer in layers:
        require_instance(layer, Layer, "layers", "`sx.Layer` objects")
    require_key(key, "key")
    names = _names(layers)
    sizes = [inputs, *(layer.size for layer in layers)]
    sources = ["input", *names]
    delays = delay if isinstance(delay, list | tuple) else [delay] * len(layers)
    require(len(delays) == len(layers), "delay", f"one delay, or a list of {len(layers)}, one per layer", delay)
    connections = []
    for i, (layer, name) in enumerate(zip(layers, names, strict=True)):
        shape, own = (sizes[i], sizes[i + 1]), jax.random.fold_in(key, i)
        connections.append(Dense(sources[i], name, _draw(layer, name, shape, own), _drawn(delays[i], shape, own)))
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


def _drawn(delay: Any, shape: tuple[int, int], key: PRNGKeyArray) -> Any:
    """The delays of a connection. `key` is that of its weights, whose ports use `fold_in`."""
    return delay(jax.random.split(key)[0], shape) if callable(delay) else delay


def recurrent(
    inputs: int, *layers: Layer, key: PRNGKeyArray, weights: Any, delay: Any = None, forward_delay: Any = None
) -> Network:
    """Creates a network as `sequential` does, with recurrent connections within all layers but the last.

    A single layer is recurrent too.

    **Arguments:**

    - `inputs`, `layers`, `key`: as for [`spikax.sequential`][].
    - `weights`: the weights within each recurrent layer: like the `weights` of a [`spikax.Layer`][], of shape
      `(size, size)`. Wrap them in `sx.Masked` to exclude connections of neurons to themselves.
    - `delay`: the delays of the recurrent connections, in ms, as for [`spikax.Dense`][]; or an initializer
      `(key, shape) -> delays`, called with `shape = (size, size)` for each layer.
    - `forward_delay`: the delays of all other connections, as `delay` of [`spikax.sequential`][].

    **Returns:** a [`spikax.Network`][].

    **Raises:** `TypeError` or `ValueError`, as `sequential`.
    """
    hint = "It holds within the recurrent layers; `forward_delay` takes a list of those from layer to layer."
    require(not isinstance(delay, list | tuple), "delay", "one delay, not a list", delay, hint)
    network = sequential(inputs, *layers, key=key, delay=forward_delay)
    names = list(network.layers)
    loops = []
    for number, name in enumerate(names[:-1] or names):
        size = network.layers[name].size
        layer = Layer(network.layers[name].neuron, size, weights=weights)
        shape, own = (size, size), jax.random.fold_in(key, len(names) + number)
        loops.append(Dense(name, name, _draw(layer, name, shape, own), _drawn(delay, shape, own)))
    return Network(network.layers, [*network.connections, *loops], network.inputs, network.outputs)


def dense_between(
    sources: Mapping[str, int], targets: Mapping[str, int], weight: Any, *, delay: Any = None
) -> list[Dense]:
    """Divides one matrix of weights into the connections of all `sources` with all `targets`.

    A population of several neuron types is a layer for each type, connected all to all:

    ```python
    sizes = {"lif": 60, "qif": 40}
    layers = {"lif": sx.Layer(sx.LIF(), 60), "qif": sx.Layer(sx.QIF(), 40)}
    connections = sx.dense_between({"input": 10} | sizes, sizes, weight)  # weight of shape (110, 100)
    network = sx.Network(layers, connections, inputs=10, outputs=("lif", "qif"))
    ```

    **Arguments:**

    - `sources`: the numbers of neurons of the source layers and inputs, by name. Their neurons, one layer after the
      other, are the rows of `weight`.
    - `targets`: the same for the target layers and the columns.
    - `weight`: an array of shape `(sources, targets)`.
    - `delay`: the delays, in ms: an array of shape `()`, `(sources,)` or `(sources, targets)`. By default there is no
      delay.

    **Returns:** a list of a [`spikax.Dense`][] for each pair of a source and a target, for a [`spikax.Network`][].

    **Raises:** `TypeError` or `ValueError` for invalid sizes, shapes and values.
    """
    for name, sizes in (("sources", sources), ("targets", targets)):
        require_instance(sizes, Mapping, name, "a dictionary of numbers of neurons by layer name")
        for layer, size in sizes.items():
            require_count(size, f"{name}[{layer!r}]")
    shape = sum(sources.values()), sum(targets.values())
    weight = as_array(weight, "weight")
    require(weight.shape == shape, "weight", f"of shape {shape}, all sources by all targets", weight)
    delay = None if delay is None else as_array(delay, "delay")
    is_shape = delay is None or delay.shape in ((), shape[:1], shape)
    require(is_shape, "delay", f"of shape (), {shape[:1]} or {shape}", delay)
    rows, columns = _places(sources), _places(targets)
    return [
        Dense(source, target, weight[row, column], _part(delay, row, column))
        for target, column in columns.items()
        for source, row in rows.items()
    ]


def _places(sizes: Mapping[str, int]) -> dict[str, slice]:
    """The places of layers that come one after the other."""
    ends = np.cumsum(list(sizes.values()))
    return {name: slice(int(end) - size, int(end)) for end, (name, size) in zip(ends, sizes.items(), strict=True)}


def _part(delay: Any, row: slice, column: slice) -> Any:
    return delay if delay is None or delay.ndim == 0 else delay[(row, column)[: delay.ndim]]


def with_deliveries(network: Network) -> Network:
    """The network with the connections that deliver the spikes; the first ones of each keep its place."""
    each = [connection.deliveries() for connection in network.connections]
    connections = (*(first for first, *_ in each), *(c for _, *others in each for c in others))
    return eqx.tree_at(lambda n: n.connections, network, connections)


def without_zero_delays(network: Network) -> Network:
    """The network, in which connections whose delays are known to be zero have none."""

    def without(connection: AbstractConnection) -> AbstractConnection:
        delay = None if connection.delay is None else known(connection.delay)
        if delay is None or np.any(delay):
            return connection
        return eqx.tree_at(lambda c: c.delay, connection, None)

    return eqx.tree_at(lambda n: n.connections, network, tuple(map(without, network.connections)))


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
