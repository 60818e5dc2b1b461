"""The neurons of a group in one row: what they receive from outside, and the weights between them."""

import dataclasses
import functools
from collections.abc import Hashable, Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._connection import AbstractConnection
from .._network import Network
from .._routing import joined, route, SynapticInput
from .._synapse import for_each_port
from ._base import Group


def group_input(group: Group) -> SynapticInput:
    """The arrivals from outside at all layers of a group, as if these were one, with the ports of the first layer.

    All neurons receive the same arrivals, some with the weight zero. A spike that reaches several layers at the same
    time arrives once.
    """
    sizes = _sizes(group)
    parts: dict[Hashable, SynapticInput] = {}
    first = 0
    for name, size in sizes.items():
        for key, part in _received(group, name):
            part = _with_columns(part, first, sum(sizes.values()))
            if key in parts:
                part = dataclasses.replace(part, weight=_added(parts[key].weight, part.weight))
            elif parts:
                ports = jax.tree.structure(next(iter(parts.values())).weight)
                part = dataclasses.replace(part, weight=ports.unflatten(jax.tree.leaves(part.weight)))
            parts[key] = part
        first += size
    return joined(list(parts.values()))


def inner_weights(group: Group) -> PyTree[Float[Array, "neurons neurons"]]:
    """The weights between all neurons of a group, with the ports of the first layer; zero where there is no synapse."""
    names = list(group.layers)

    def to(target: str) -> PyTree[Array]:
        rows = [_weight_matrix(group.network, source, target) for source in names]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows)

    columns = [to(name) for name in names]
    ports = jax.tree.structure(columns[0])
    leaves = zip(*map(jax.tree.leaves, columns), strict=True)
    return ports.unflatten([jnp.concatenate(leaf, axis=1) for leaf in leaves])


def _sizes(group: Group) -> dict[str, int]:
    return {name: group.network.layers[name].size for name in group.layers}


def _received(group: Group, name: str) -> Iterator[tuple[Hashable, SynapticInput]]:
    """The arrivals at a layer, in parts. Those of parts with the same key, also of other layers, are the same."""
    connections = [c for c in group.network.incoming(name) if c.source in group.outside]
    if name in group.routed or not connections:
        yield name, group.received(name)
        return
    for number, c in enumerate(connections):
        part = route(group.network.layers[name], (c,), group.outside, group.under_way, group.t0)
        is_plain = c.delay is None and c.synapses().source is None and part.gains is None
        yield c.source if is_plain else (name, number), part


def _weight_matrix(network: Network, source: str, target: str) -> PyTree[Float[Array, "sources targets"]]:
    """The weights of all connections from one layer to another, for each port; zero where there is no synapse."""
    shape = network.layers[source].size, network.layers[target].size
    none = for_each_port(network.layers[target].neuron.synapse, jnp.zeros(shape, network.dtype))
    between = [c for c in network.connections if (c.source, c.target) == (source, target)]
    return functools.reduce(lambda total, c: jax.tree.map(jnp.add, total, _filled(c)), between, none)


def _filled(connection: AbstractConnection) -> PyTree[Float[Array, "sources targets"]]:
    synapses = connection.synapses()
    if synapses.source is None:
        return synapses.weight

    def port(weight):
        exists = True if synapses.exists is None else synapses.exists
        targets = jnp.arange(connection.shape[1], dtype=jnp.int32)
        weight = jnp.where(exists, weight, jnp.zeros((), weight.dtype))
        return jnp.zeros(connection.shape, weight.dtype).at[synapses.source, targets].add(weight)

    return jax.tree.map(port, synapses.weight)


def _with_columns(part: SynapticInput, first: int, neurons: int) -> SynapticInput:
    """The same arrivals at more neurons, of which those that receive them begin with `first`."""

    def padded(weight):
        return jnp.pad(weight, ((0, 0), (first, neurons - first - weight.shape[1])))

    return dataclasses.replace(part, weight=jax.tree.map(padded, part.weight))


def _added(one: PyTree[Array], other: PyTree[Array]) -> PyTree[Array]:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jax.tree.structure(one).unflatten([functools.reduce(jnp.add, pair) for pair in leaves])
