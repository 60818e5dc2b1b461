"""The weights between two layers as a matrix."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..._connection import AbstractConnection
from ..._network import Network
from ..._synapse import for_each_port


def weight_matrix(network: Network, source: str, target: str) -> PyTree[Float[Array, "sources targets"]]:
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
