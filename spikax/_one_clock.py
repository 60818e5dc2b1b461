"""Layers that listen to each other without delay, with one clock for all their neurons."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._connection import AbstractConnection
from ._engine.affine import Affine
from ._engine.clock import find_spikes, Found, Given, Limits, Pool
from ._network import Network
from ._recurrence import Group, Member, Tally
from ._synapse import is_synapse
from ._wiring import hear, Heard, Population, Train


def simulate_with_one_clock(
    network: Network,
    populations: dict[str, Population],
    members: dict[str, Member],
    outside: dict[str, Train],
    t0: Array,
    t1: Array,
    quota: dict[str, int],
) -> Group:
    """Simulates layers of linear neurons that listen to each other; `outside` holds the spikes of all other sources.

    A sample ends where each neuron of the layers in `quota` has spiked so often, if there are any.
    """
    names = list(members)
    sizes = [network.layers[name].size for name in names]
    heard = {name: _outer(network, name, members, outside) for name in names}
    inner = [[_matrix(network, source, target) for target in names] for source in names]
    outer = jax.scipy.linalg.block_diag(*[jax.tree.leaves(heard[name].weight)[0] for name in names])
    dtype = t0.dtype
    weight = jnp.concatenate([outer, *(jnp.concatenate(row, axis=1) for row in inner)]).astype(dtype)
    times, source = _listed(heard)
    stands = [_standing(populations[name], t0) for name in names]
    given = Given(
        pool=Pool.of([affine for affine, _, _ in stands], sizes),
        weight=weight,
        times=times,
        source=source,
        v=jnp.concatenate([v for _, v, _ in stands], axis=1),
        x=jnp.concatenate([x for _, _, x in stands], axis=1),
        t0=t0,
        t1=t1,
    )
    most = tuple(member.settings.max_spikes for member in members.values())
    wanted = tuple(quota.get(name, 0) for name in names) if quota else None
    limits = Limits(max(most), wanted, most, max(member.settings.max_steps for member in members.values()))
    asked = {name: member.ts for name, member in members.items() if member.ts is not None}
    found = find_spikes(given, limits, jnp.concatenate(list(asked.values())) if asked else None)

    too_many = jnp.any(found.count > jnp.asarray(np.repeat(most, sizes), jnp.int32), axis=1)
    # Where one neuron ends a sample early, it ends it for all.
    failed_at = jnp.where(found.finished & found.finite & ~too_many, jnp.inf, lax.stop_gradient(found.t))
    is_ordered = any(train.generation is not None for train in outside.values())
    trains, saved, tally = {}, {}, {}
    first = after = 0
    for name, size in zip(names, sizes, strict=True):
        own = slice(first, first + size)
        times = found.times[:, own, : members[name].settings.max_spikes]
        # No filter lets a spike lead to another at its instant.
        trains[name] = Train(times, generation=jnp.zeros(times.shape, jnp.int32) if is_ordered else None)
        tally[name] = _tally(found, found.count[:, own], failed_at)
        if found.saved is not None and name in asked:
            here = slice(after, after + len(asked[name]))
            v, x = (part[here, :, own, None] for part in found.saved)
            start = populations[name].start
            drive = jax.tree.map(lambda _, x=x: x, populations[name].neuron.synapse, is_leaf=is_synapse)
            saved[name] = jax.tree.structure(start.state).unflatten([v]), drive
            after += len(asked[name])
        first += size
    return Group(trains, saved, tally)


def _outer(network: Network, name: str, members: dict[str, Member], outside: dict[str, Train]) -> Heard:
    """What reaches a layer from outside of the group."""
    connections = tuple(c for c in network.incoming(name) if c.source not in members)
    return hear(network.layers[name], connections, outside)


def _matrix(network: Network, source: str, target: str) -> Float[Array, "sources targets"]:
    """The weights from one layer of the group to another."""
    shape = network.layers[source].size, network.layers[target].size
    matrix = jnp.zeros(shape, network.dtype)
    for connection in network.connections:
        if (connection.source, connection.target) == (source, target):
            matrix = matrix + _filled(connection)
    return matrix


def _filled(connection: AbstractConnection) -> Float[Array, "sources targets"]:
    """The weights of a connection as a matrix, zero where there is no synapse."""
    synapses = connection.synapses()
    (weight,) = jax.tree.leaves(synapses.weight)
    if synapses.source is None:
        return weight
    if synapses.exists is not None:
        weight = jnp.where(synapses.exists, weight, jnp.zeros((), weight.dtype))
    targets = jnp.arange(connection.shape[1], dtype=jnp.int32)
    return jnp.zeros(connection.shape, weight.dtype).at[synapses.source, targets].add(weight)


def _listed(heard: dict[str, Heard]) -> tuple[Array, Array]:
    """All spikes from outside, with the rows of their weights."""
    times, sources, first = [], [], 0
    for part in heard.values():
        batch, _, spikes = part.times.shape
        times.append(part.times[:, 0])
        sources.append(jnp.broadcast_to(part.source + first, (batch, spikes)))
        first += jax.tree.leaves(part.weight)[0].shape[0]
    return jnp.concatenate(times, axis=1), jnp.concatenate(sources, axis=1)


def _standing(population: Population, t0: Array) -> tuple[Affine, Array, Array]:
    """The motion of the neurons of a layer, and their states v and x at the start."""
    state, filters = jax.tree.map(lambda leaf: leaf[..., 0], (population.start.state, population.start.filters))
    zero = jax.tree.map(lambda _: jnp.zeros_like(t0), population.neuron.synapse, is_leaf=is_synapse)
    (v,), (x,) = jax.tree.leaves(state), jax.tree.leaves(filters)
    return Affine.of(population.neuron, state, zero, t0), v, x


def _tally(found: Found, count: Array, failed_at: Array) -> Tally:
    empty = Tally.empty(*count.shape, failed_at.dtype)
    parts = count, found.finished, found.finite, failed_at, found.iterations, jnp.int32(1)
    return eqx.tree_at(lambda t: (t.count, t.finished, t.finite, t.failed_at, t.iterations, t.sweeps), empty, parts)
