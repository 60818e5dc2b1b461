"""What all windows have in common, and what each one starts from."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._network import Network
from ..._routing import Train
from .._base import AbstractMethod, Counters, drives_of, Group, LayerPlan, SimulationState
from .._common.events import payload_of
from .arrivals import Chosen, Incoming, SpikeList, Window
from .parts import loops_of, Part


class PlannedPart(eqx.Module):
    """A part with the network of its own."""

    names: tuple[str, ...] = eqx.field(static=True)
    network: Network
    method: AbstractMethod
    grid: Any = eqx.field(static=True)


class Context(eqx.Module):
    """The constants of all sweeps over all windows."""

    layers: dict[str, LayerPlan]
    parts: tuple[PlannedPart, ...]
    incoming: dict[str, Incoming]
    guessed: tuple[str, ...] = eqx.field(static=True)  # the sources whose spikes are guessed
    outside: dict[str, Train]
    under_way: dict[str, Train]
    windows: int = eqx.field(static=True)
    max_windows: int = eqx.field(static=True)  # of which some are parts of windows
    max_sweeps: int = eqx.field(static=True)
    is_ordered: bool = eqx.field(static=True)

    @classmethod
    def of(cls, group: Group, parts: tuple[Part, ...], grid: tuple, max_sweeps: int) -> "Context":
        network, (count, max_windows, grids, places) = group.network, (*grid[:3], dict(grid[3]))
        planned = tuple(
            PlannedPart(part.names, part.alone(network), part.method, grid)
            for part, grid in zip(parts, grids, strict=True)
        )
        loops = loops_of(network, parts)
        incoming = {}
        for part in parts:
            for name in part.names:
                numbers = [
                    number
                    for number, c in enumerate(network.connections)
                    if c.target == name and not part.contains(c.source, c.delay)
                ]
                incoming[name] = Incoming.of(group, name, numbers, loops, places[name])
        guessed = tuple(dict.fromkeys(network.connections[number].source for number in loops))
        trains = group.outside, group.under_way
        ends = count, max_windows, max_sweeps
        return cls(group.layers, planned, incoming, guessed, *trains, *ends, group.is_ordered)

    def rounding(self, t: Array) -> Array:
        """By how much two searches may differ that find the same spike."""
        return next(iter(self.incoming.values())).rounding(t)

    @property
    def shortest_window(self) -> Array:
        """The length of windows that are not divided: the rounding of times."""
        incoming = next(iter(self.incoming.values()))
        return incoming.rounding(incoming.t1)

    def places(self, name: str) -> int:
        """The number of spikes of a neuron in a window for which there is room: a few times the mean, if all spike."""
        most = self.layers[name].max_spikes
        return min(most, 4 + math.ceil(4 * most / self.windows))

    def silent(self, name: str, k: int) -> Train:
        """The trains of neurons that have not spiked, with `k` places."""
        plan = self.layers[name]
        start = plan.start
        payload = payload_of(plan.neuron, start.h, start.state, start.filters)
        empty = jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:2], k), leaf.dtype), payload)
        shape = *start.h.shape[:2], k
        generation = jnp.zeros(shape, jnp.int32) if self.is_ordered else None
        return Train(jnp.full(shape, jnp.inf, start.h.dtype), empty, generation=generation)


class Before(eqx.Module):
    """What a window depends on, at its start."""

    states: dict[str, SimulationState]
    trains: dict[str, Train]


class Progress(eqx.Module):
    """The simulation of a group, up to the start of a window."""

    before: Before
    saved: dict[str, Any]
    counters: dict[str, Counters]

    @classmethod
    def of(cls, context: Context) -> "Progress":
        """The simulation at its start."""
        layers = context.layers
        states = {name: plan.start for name, plan in layers.items()}
        trains = {name: context.silent(name, plan.max_spikes) for name, plan in layers.items()}
        saved = {name: _unsaved(plan) for name, plan in layers.items() if plan.ts is not None}
        counters = {n: Counters.none(*p.start.h.shape[:2], p.start.h.dtype) for n, p in layers.items()}
        return cls(Before(states, trains), saved, counters)

    @property
    def count(self) -> dict[str, Int[Array, "batch neurons"]]:
        """The number of spikes of each neuron."""
        return {name: counters.count for name, counters in self.counters.items()}


def _unsaved(plan: LayerPlan) -> Any:
    """Zero states and drives at the times to save."""
    both = plan.start.state, drives_of(plan.neuron, plan.start.filters)
    return jax.tree.map(lambda leaf: jnp.zeros((len(plan.ts), *leaf.shape), leaf.dtype), both)


class Known(eqx.Module):
    """The arrivals at a layer that do not depend on a guess."""

    lists: list[SpikeList]
    chosen: Chosen
    until: Float[Array, " batch"]  # up to this time there is room for them


class Prepared(eqx.Module):
    """What all sweeps over a window share."""

    context: Context
    window: Window
    states: dict[str, SimulationState]
    known: dict[str, Known]
