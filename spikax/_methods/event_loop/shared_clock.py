"""A recurrent layer without delays as one unit, whose neurons share a clock.

A spike reaches the other neurons of the layer at the time at which it is emitted. So all neurons have to be at this
time: the axes `(batch, neurons, 1)` of a layer, of units with one neuron each, become `(batch, 1, neurons)`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..._routing import SynapticInput
from .._base import LayerPlan, SimulationState
from .adjoint import LoopOutcome
from .problem import Point


def as_one_unit(plan: LayerPlan, received: SynapticInput) -> tuple[LayerPlan, SynapticInput]:
    """The layer and its input, with the axes of a single unit."""
    start = plan.start
    state, filters, neuron = jax.tree.map(_swapped, (start.state, start.filters, plan.neuron))
    h, stuck = jnp.min(start.h, axis=1, keepdims=True), jnp.any(start.stuck, axis=1, keepdims=True)
    unit = SimulationState(state, filters, jnp.swapaxes(start.readiness, 2, 3), h, stuck)
    weight = jax.tree.map(lambda leaf: leaf[:, None, :], received.weight)
    return dataclasses.replace(plan, neuron=neuron, start=unit), dataclasses.replace(received, weight=weight)


def as_units_of_one(outcome: LoopOutcome) -> LoopOutcome:
    """The outcome of a single unit, with the axes of a layer."""
    end, trains = outcome.end, outcome.trains
    shape = jnp.swapaxes(end.count, 1, 2).shape

    def each(clock: Array) -> Array:
        return jnp.broadcast_to(clock, (*clock.shape[:-3], *shape))

    own = {"t": each(end.t), "h": each(end.h), "stuck": each(end.stuck), "rejected": _in_total(end.rejected, shape)}
    own |= jax.tree.map(_swapped, {"state": end.state, "filters": end.filters, "count": end.count})
    end = dataclasses.replace(end, **own, readiness=jnp.swapaxes(end.readiness, 2, 3))
    times, payload = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 2, 3), (trains.times, trains.payload))
    generation = None if trains.generation is None else jnp.swapaxes(trains.generation, 2, 3)
    trains = dataclasses.replace(trains, times=times, payload=payload, generation=generation)
    found = outcome.found
    if found is not None:
        parts = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 2, 3), (found.state, found.filters))
        found = Point(each(found.t), *parts)
    return LoopOutcome(end, trains, found, each(outcome.finished), outcome.iterations)


def _swapped(leaf: Array) -> Array:
    """An array with the axes `(batch, units, neurons)`, with the last two swapped. Shared parameters stay."""
    return jnp.swapaxes(leaf, 1, 2) if eqx.is_array(leaf) and leaf.ndim >= 3 else leaf


def _in_total(rejected: Array, shape: tuple[int, ...]) -> Array:
    """The number of rejected trials of the unit, as that of its first neuron."""
    return jnp.zeros(shape, rejected.dtype).at[:, :1].set(rejected)
