"""From the spikes of sources, through connections, to what reaches a layer."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ._checks import require
from ._connection import AbstractConnection
from ._engine.adjoint import Inputs
from ._engine.loop import Standing
from ._network import Layer
from ._neuron import AbstractNeuron
from ._spikes import Events, Spikes
from ._synapse import is_synapse


class Train(eqx.Module):
    """What a source emits: the spikes of each of its neurons, or a list of events with their channels."""

    times: Float[Array, "batch n k"] | Float[Array, "batch events"]
    payload: PyTree[Float[Array, "batch n k"]] = None
    channel: Int[Array, "batch events"] | None = None
    # Where the order of spikes at one instant matters: how many spikes at this instant led to it, one after the other.
    generation: Int[Array, "batch n k"] | None = None

    @classmethod
    def of(cls, spikes: Spikes | Events, dtype: Any, is_ordered: bool) -> "Train":
        """All batch axes as one, in the float type of the simulation."""

        def flat(leaf, axes):
            return leaf.reshape(math.prod(leaf.shape[:-axes]), *leaf.shape[-axes:])

        if isinstance(spikes, Events):
            times = flat(spikes.times, 1).astype(dtype)
            # A place without event may name any channel.
            channel = jnp.where(jnp.isfinite(times), flat(spikes.channels, 1), 0)
            message = (
                f"An event names a channel outside of 0 to n - 1 = {spikes.n - 1}. Check `channels`, or raise `n`."
            )
            channel = eqx.error_if(channel, jnp.any((channel < 0) | (channel >= spikes.n)), message)
            return cls(times, None, channel.astype(jnp.int32), _of_inputs(times, is_ordered))
        payload = jax.tree.map(lambda leaf: flat(leaf, 2).astype(dtype), spikes.payload)
        times = flat(spikes.times, 2).astype(dtype)
        return cls(times, payload, None, _of_inputs(times, is_ordered))

    def first(self, k: int) -> "Train":
        """With the first `k` spikes of each source."""
        return jax.tree.map(lambda leaf: leaf[..., :k], self)

    @property
    def places(self) -> int:
        """How many spikes each source can have; of events, how many there can be at all."""
        return self.times.shape[-1]


def _of_inputs(times: Array, is_ordered: bool) -> Int[Array, "..."] | None:
    """The generation of input spikes: what they lead to at their instant is of generation zero."""
    return jnp.full(times.shape, -1, jnp.int32) if is_ordered else None


class Population(eqx.Module):
    """The neurons of a layer, with the axes of the engine, and how they stand."""

    neuron: AbstractNeuron
    start: Standing


class Heard(eqx.Module):
    """What reaches a layer."""

    weight: PyTree[Float[Array, "sources units"]]
    times: Float[Array, "batch lanes spikes"]
    source: Int[Array, "samples spikes"]
    gains: PyTree[Float[Array, "batch lanes spikes"]] | None
    generation: Int[Array, "batch lanes spikes"] | None

    def within(self, after: Array, until: Array) -> "Heard":
        """Only what arrives later than `after`, and not later than `until`."""
        times = jnp.where((self.times > after) & (self.times <= until), self.times, jnp.inf)
        return eqx.tree_at(lambda heard: heard.times, self, times)

    def inputs(self, population: Population, t0: Array, t1: Array) -> Inputs:
        """All that the spikes of the layer depend on."""
        weight = jax.tree.map(lambda leaf: leaf[..., None], self.weight)
        arrivals = self.times, self.source
        return Inputs(population.neuron, weight, *arrivals, population.start, t0, t1, self.gains, self.generation)


def hear(layer: Layer, connections: tuple[AbstractConnection, ...], trains: dict[str, Train]) -> Heard:
    """What reaches a layer through its connections."""
    first = next(iter(trains.values()))
    like = first.times
    if not connections:
        silence = jnp.full((like.shape[0], 1, 1), jnp.inf, like.dtype)
        none = jnp.zeros((1, layer.size), like.dtype)
        weight = jax.tree.map(lambda _: none, layer.neuron.synapse, is_leaf=is_synapse)
        generation = None if first.generation is None else jnp.zeros(silence.shape, jnp.int32)
        return Heard(weight, silence, jnp.zeros((1, 1), jnp.int32), None, generation)
    payloads = [trains[connection.source].payload for connection in connections]
    gains = _gains(layer.neuron, payloads)
    each = [_heard(c, trains[c.source], gain) for c, gain in zip(connections, gains, strict=True)]
    return each[0] if len(each) == 1 else _joined(each)


def _heard(connection: AbstractConnection, train: Train, gains: PyTree[Array] | None) -> Heard:
    """What one connection delivers."""
    synapses, dtype = connection.synapses(), train.times.dtype
    weight = jax.tree.map(lambda leaf: leaf.astype(dtype), synapses.weight)
    delay = None if synapses.delay is None else synapses.delay.astype(dtype)
    if train.channel is not None:
        hint = "Write `sx.Spikes.from_events(times, channels, n, max_spikes=...)`."
        expectation = f"`sx.Spikes` for a connection of the kind {type(connection).__name__}"
        require(synapses.source is None, "inputs", expectation, "`sx.Events`", hint)
        times = train.times[:, None]
        # All neurons hear the events of a list, or each after its own delay.
        arrivals = times if delay is None else times + jnp.moveaxis(delay[train.channel], 2, 1)
        generation = None if train.generation is None else _arriving(times, arrivals, train.generation[:, None])
        return Heard(weight, arrivals, train.channel, None, generation)
    k = train.places
    lanes = max(1 if part is None else part.shape[1] for part in (synapses.source, delay))
    slots = jax.tree.leaves(weight)[0].shape[0]

    def listed(leaf):
        """From (batch, n, k) to (batch, slots, lanes, k)."""
        each = leaf[:, :, None] if synapses.source is None else leaf[:, synapses.source]
        return jnp.broadcast_to(each, (leaf.shape[0], slots, lanes, k))

    def flat(leaf):
        return jnp.moveaxis(leaf, 2, 1).reshape(leaf.shape[0], lanes, slots * k)

    times = listed(train.times)
    if synapses.exists is not None:
        times = jnp.where(synapses.exists[..., None], times, jnp.inf)
    arrivals = times if delay is None else times + delay[..., None]
    generation = None
    if train.generation is not None:
        generation = flat(_arriving(times, arrivals, listed(train.generation)))
    source = jnp.repeat(jnp.arange(slots, dtype=jnp.int32), k)[None]
    gains = jax.tree.map(lambda leaf: flat(listed(leaf)), gains)
    return Heard(weight, flat(arrivals), source, gains, generation)


def _arriving(times: Array, arrivals: Array, generation: Array) -> Int[Array, "..."]:
    """The generations of arrivals: one that comes at the instant of its spike comes after it."""
    return jnp.where(arrivals > times, 0, generation + 1)


def _joined(each: list[Heard]) -> Heard:
    """Everything that reaches a layer, as if through one connection."""
    lanes = max(heard.times.shape[1] for heard in each)
    samples = max(heard.source.shape[0] for heard in each)
    first = 0
    times, sources, generations = [], [], []
    for heard in each:
        batch, _, spikes = heard.times.shape
        times.append(jnp.broadcast_to(heard.times, (batch, lanes, spikes)))
        sources.append(jnp.broadcast_to(heard.source + first, (samples, spikes)))
        if heard.generation is not None:
            generations.append(jnp.broadcast_to(heard.generation, (batch, lanes, spikes)))
        first += jax.tree.leaves(heard.weight)[0].shape[0]
    generation = jnp.concatenate(generations, axis=2) if generations else None
    weight = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *[heard.weight for heard in each])
    gains = [heard.gains for heard in each]
    if all(gain is None for gain in gains):
        joined = None
    else:
        joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=2), *_broadcast(gains, times))
    return Heard(weight, jnp.concatenate(times, axis=2), jnp.concatenate(sources, axis=1), joined, generation)


def _broadcast(gains: list[PyTree[Array] | None], times: list[Array]) -> list[PyTree[Array]]:
    """The factors of all connections, one where a source has none."""
    ports = jax.tree.structure(next(gain for gain in gains if gain is not None))
    filled = []
    for gain, like in zip(gains, times, strict=True):
        leaves = [jnp.ones((), like.dtype)] * ports.num_leaves if gain is None else jax.tree.leaves(gain)
        filled.append(ports.unflatten([jnp.broadcast_to(leaf, like.shape) for leaf in leaves]))
    return filled


def _gains(neuron: AbstractNeuron, payloads: list[PyTree[Array]]) -> list[PyTree[Array] | None]:
    """By what the weight of every spike of each source is multiplied; None where it is one.

    The spikes of a source without payload count with their weights.
    """
    gains = [None if payload is None else neuron.gain(payload) for payload in payloads]
    ports = jax.tree.structure(neuron.synapse, is_leaf=is_synapse)
    for gain in gains:
        fits = gain is None or jax.tree.structure(gain) == ports
        hint = f"`gain` of {type(neuron).__name__} gives one factor for every port of its synapse."
        require(fits, "gain(payload)", f"of the structure of the synapse, {ports}", jax.tree.structure(gain), hint)
    return [
        None if gain is None else _as_factors(gain, jax.tree.leaves(payload)[0])
        for gain, payload in zip(gains, payloads, strict=True)
    ]


def _as_factors(gain: PyTree, like: Array) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, like.dtype), like.shape), gain)
