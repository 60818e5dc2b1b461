"""The routing of spikes from sources, through connections, to the arrivals at a layer."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ._checks import require
from ._connection import AbstractConnection, Synapses
from ._network import Layer
from ._neuron import AbstractNeuron
from ._spikes import Events, Spikes
from ._synapse import for_each_port, port_structure


class Train(eqx.Module):
    """The spikes of a source: a spike train for each of its neurons, or a list of events with channels."""

    times: Float[Array, "batch n k"] | Float[Array, "batch events"]
    payload: PyTree[Float[Array, "batch n k"]] = None
    channel: Int[Array, "batch events"] | None = None
    # If the order of simultaneous spikes matters: the length of the chain of simultaneous spikes that caused this one.
    generation: Int[Array, "batch n k"] | None = None

    @classmethod
    def of(cls, spikes: Spikes | Events, dtype: Any, is_ordered: bool) -> "Train":
        """A train with a single batch axis, in the float type of the simulation."""

        def flat(leaf, axes):
            return leaf.reshape(math.prod(leaf.shape[:-axes]), *leaf.shape[-axes:])

        if isinstance(spikes, Events):
            times = flat(spikes.times, 1).astype(dtype)
            # A place without an event may have any channel.
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
        """The train with the first `k` spikes of each neuron."""
        return jax.tree.map(lambda leaf: leaf[..., :k], self)

    @property
    def places(self) -> int:
        """The number of places for spikes: per neuron, or in total for events."""
        return self.times.shape[-1]


def _of_inputs(times: Array, is_ordered: bool) -> Int[Array, "..."] | None:
    """The generation of input spikes, -1, so that their simultaneous arrivals have generation zero."""
    return jnp.full(times.shape, -1, jnp.int32) if is_ordered else None


class SynapticInput(eqx.Module):
    """The spikes that arrive at a layer, with their weights.

    Without `delay`, `times` are those of the arrivals. Otherwise all lanes share a list of spikes, and spike s arrives
    in lane l at the time `times[s] + delay[source[s], l]`.
    """

    weight: PyTree[Float[Array, "sources units *neurons"]]
    times: Float[Array, "#batch #lanes spikes"]
    source: Int[Array, "#batch #lanes spikes"]
    gains: PyTree[Float[Array, "#batch #lanes spikes"]] | None
    generation: Int[Array, "batch lanes spikes"] | None
    delay: Float[Array, "sources lanes"] | None = None
    is_sorted: bool = eqx.field(static=True, default=False)  # by time, each lane

    @property
    def lanes(self) -> int:
        """The number of lists of arrivals: one per unit, or a single one if all units receive the same."""
        return self.times.shape[1] if self.delay is None else self.delay.shape[1]

    def with_own_times(self) -> "SynapticInput":
        """The same without `delay`: with the times of the arrivals in each lane."""
        if self.delay is None:
            return self
        times = delayed(self.times, self.source, self.delay)
        gains = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, times.shape), self.gains)
        return dataclasses.replace(self, times=times, gains=gains, delay=None)

    def within(self, after: Array, until: Array | float) -> "SynapticInput":
        """Only the arrivals later than `after` and not later than `until`."""
        own = self.with_own_times()
        times = jnp.where((own.times > after) & (own.times <= until), own.times, jnp.inf)
        return dataclasses.replace(own, times=times)


def delayed(
    times: Float[Array, "batch 1 spikes"], source: Int[Array, "#batch 1 spikes"], delay: Float[Array, "sources lanes"]
) -> Float[Array, "batch lanes spikes"]:
    """The times at which spikes arrive in each lane."""
    # A source that does not exist has no delay.
    return times + jnp.moveaxis(delay.at[source[:, 0]].get(mode="fill", fill_value=0.0), 2, 1)


def route(
    layer: Layer,
    connections: tuple[AbstractConnection, ...],
    trains: dict[str, Train],
    under_way: dict[str, Train],
    t0: Array,
) -> SynapticInput:
    """The arrivals at a layer through its connections, with those after `t0` of the spikes that were under way."""
    pairs = [(c, trains[c.source]) for c in connections if c.source in trains]
    before = [(c, under_way[c.source]) for c in connections if c.source in under_way and c.delay is not None]
    if not pairs + before:
        first = next(iter(trains.values()))
        return silence(layer, first.times, first.generation is not None)
    gains = gains_of(layer.neuron, [train.payload for _, train in pairs + before])
    each = [_through(c, train, gain) for (c, train), gain in zip(pairs + before, gains, strict=True)]
    each = [*each[: len(pairs)], *(part.within(t0, jnp.inf) for part in each[len(pairs) :])]
    return each[0] if len(each) == 1 else joined(each)


def silence(layer: Layer, like: Array, is_ordered: bool) -> SynapticInput:
    """No arrivals at a layer, with the batch size and the float type of an array."""
    never = jnp.full((like.shape[0], 1, 1), jnp.inf, like.dtype)
    weight = for_each_port(layer.neuron.synapse, jnp.zeros((1, layer.size), like.dtype))
    generation = jnp.zeros(never.shape, jnp.int32) if is_ordered else None
    return SynapticInput(weight, never, jnp.zeros((1, 1, 1), jnp.int32), None, generation)


def _through(connection: AbstractConnection, train: Train, gains: PyTree[Array] | None) -> SynapticInput:
    """The arrivals through one connection."""
    synapses, dtype = connection.synapses(), train.times.dtype
    weight = jax.tree.map(lambda leaf: leaf.astype(dtype), synapses.weight)
    delay = None if synapses.delay is None else synapses.delay.astype(dtype)
    require_trains(connection, synapses, train)
    k, slots = train.places, jax.tree.leaves(weight)[0].shape[0]
    channel = jnp.repeat(jnp.arange(slots, dtype=jnp.int32), k)[None, None]
    if synapses.source is None:
        # All neurons receive all spikes, as one list, possibly each after its own delay.
        has_own_delays = delay is not None and delay.shape[1] > 1 and train.generation is None
        times, generation = (_one_list(part) for part in (train.times, train.generation))
        source = channel if train.channel is None else train.channel[:, None]
        spikes = SynapticInput(weight, times, source, jax.tree.map(_one_list, gains), None, delay)
        if has_own_delays:
            return spikes
        own = spikes.with_own_times()
        if generation is None:
            return own
        return dataclasses.replace(own, generation=arriving(times, own.times, generation))
    lanes = max(1 if part is None else part.shape[1] for part in (synapses.source, delay))

    def listed(leaf):
        """Converts (batch, n, k) to (batch, slots, lanes, k)."""
        return jnp.broadcast_to(leaf[:, synapses.source], (leaf.shape[0], slots, lanes, k))

    def flat(leaf):
        return jnp.moveaxis(leaf, 2, 1).reshape(leaf.shape[0], lanes, slots * k)

    times = listed(train.times)
    if synapses.exists is not None:
        times = jnp.where(synapses.exists[..., None], times, jnp.inf)
    arrivals = times if delay is None else times + delay[None, ..., None]
    generation = None
    if train.generation is not None:
        generation = flat(arriving(times, arrivals, listed(train.generation)))
    gains = jax.tree.map(lambda leaf: flat(listed(leaf)), gains)
    return SynapticInput(weight, flat(arrivals), channel, gains, generation)


def _one_list(leaf: Array | None) -> Array | None:
    """Converts what is given per neuron and spike, or per event, to the axes `(batch, 1, spikes)`."""
    return None if leaf is None else leaf.reshape(len(leaf), 1, -1)


def require_trains(connection: AbstractConnection, synapses: Synapses, train: Train) -> None:
    """Raises if a connection needs a train of each neuron, and there is a list of events."""
    hint = "Write `sx.Spikes.from_events(times, channels, n, max_spikes=...)`."
    expectation = f"`sx.Spikes` for a connection of the kind {type(connection).__name__}"
    fits = train.channel is None or synapses.source is None
    require(fits, "inputs", expectation, "`sx.Events`", hint)


def arriving(times: Array, arrivals: Array, generation: Array) -> Int[Array, "..."]:
    """The generation of each arrival: one more than that of its spike if both are simultaneous, else zero."""
    return jnp.where(arrivals > times, 0, generation + 1)


def joined(each: list[SynapticInput]) -> SynapticInput:
    """All arrivals, as if through one connection."""
    shares_list = all(part.times.shape[1] == 1 for part in each)
    if not shares_list:
        each = [part.with_own_times() for part in each]
    lanes = max(part.times.shape[1] for part in each)
    shared = tuple(max(part.source.shape[axis] for part in each) for axis in (0, 1))
    rows, times, sources, generations = 0, [], [], []
    for part in each:
        batch, _, spikes = part.times.shape
        times.append(jnp.broadcast_to(part.times, (batch, lanes, spikes)))
        sources.append(jnp.broadcast_to(part.source + rows, (*shared, spikes)))
        if part.generation is not None:
            generations.append(jnp.broadcast_to(part.generation, (batch, lanes, spikes)))
        rows += jax.tree.leaves(part.weight)[0].shape[0]
    generation = jnp.concatenate(generations, axis=2) if generations else None
    weight = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *[part.weight for part in each])
    gains = joined_gains([part.gains for part in each], times)
    times, source = jnp.concatenate(times, axis=2), jnp.concatenate(sources, axis=2)
    return SynapticInput(weight, times, source, gains, generation, _joined_delays(each, times.dtype))


def _joined_delays(each: list[SynapticInput], dtype: Any) -> Float[Array, "sources lanes"] | None:
    """The delays of all sources in each lane; None if the times are those of the arrivals."""
    if all(part.delay is None for part in each):
        return None
    shapes = [(jax.tree.leaves(part.weight)[0].shape[0], max(part.lanes for part in each)) for part in each]
    delays = [jnp.zeros((), dtype) if part.delay is None else part.delay for part in each]
    return jnp.concatenate([jnp.broadcast_to(delay, shape) for delay, shape in zip(delays, shapes, strict=True)])


def joined_gains(gains: list[PyTree[Array] | None], times: list[Array]) -> PyTree[Array] | None:
    """The factors of all spikes, with the shapes of their `times`, joined along the last axis; 1 without payload."""
    if all(gain is None for gain in gains):
        return None
    ports = jax.tree.structure(next(gain for gain in gains if gain is not None))
    filled = []
    for gain, like in zip(gains, times, strict=True):
        leaves = [jnp.ones((), like.dtype)] * ports.num_leaves if gain is None else jax.tree.leaves(gain)
        filled.append(ports.unflatten([jnp.broadcast_to(leaf, like.shape) for leaf in leaves]))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=-1), *filled)


def gains_of(neuron: AbstractNeuron, payloads: list[PyTree[Array]]) -> list[PyTree[Array] | None]:
    """The factor of the weight for each spike of each source; None for sources without payload."""
    gains = [None if payload is None else neuron.gain(payload) for payload in payloads]
    ports = port_structure(neuron.synapse)
    for gain in gains:
        fits = gain is None or jax.tree.structure(gain) == ports
        hint = f"`gain` of {type(neuron).__name__} returns one factor for each port of its synapse."
        require(fits, "gain(payload)", f"of the structure of the synapse, {ports}", jax.tree.structure(gain), hint)
    return [
        None if gain is None else _as_factors(gain, jax.tree.leaves(payload)[0])
        for gain, payload in zip(gains, payloads, strict=True)
    ]


def _as_factors(gain: PyTree, like: Array) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, like.dtype), like.shape), gain)
