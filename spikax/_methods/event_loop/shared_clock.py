"""A recurrent layer without delays as one unit, whose neurons share a clock.

A spike reaches the other neurons of the layer at the time at which it is emitted. So all neurons have to be at this
time: the axes `(batch, neurons, 1)` of a layer, of units with one neuron each, become `(batch, 1, neurons)`.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..._routing import SynapticInput
from .._base import LayerPlan, SimulationState
from .problem import Point
from .simulation import LoopEnd, LoopOutcome


def as_one_unit(plan: LayerPlan, received: SynapticInput) -> tuple[LayerPlan, SynapticInput]:
    """The layer and its input, with the axes of a single unit."""
    start = plan.start
    state, filters, readiness, neuron = _swapped((start.state, start.filters, start.readiness, plan.neuron))
    h, stuck = jnp.min(start.h, axis=1, keepdims=True), jnp.any(start.stuck, axis=1, keepdims=True)
    unit = SimulationState(state, filters, readiness, h, stuck)
    weight = jax.tree.map(lambda leaf: leaf[:, None, :], received.weight)
    return dataclasses.replace(plan, neuron=neuron, start=unit), dataclasses.replace(received, weight=weight)


def as_units_of_one(outcome: LoopOutcome) -> LoopOutcome:
    """The outcome of a single unit, with the axes of a layer."""
    end, trains, found = outcome.end, outcome.trains, outcome.found
    shape = jnp.swapaxes(end.count, 1, 2).shape

    def each(clock: Array) -> Array:
        return jnp.broadcast_to(clock, (*clock.shape[:-3], *shape))

    state, filters, readiness, count = _swapped((end.state, end.filters, end.readiness, end.count))
    t, h, stuck, finished = (each(clock) for clock in (end.t, end.h, end.stuck, end.finished))
    rejected = jnp.zeros(shape, end.rejected.dtype).at[:, :1].set(end.rejected)  # in total, as those of the first
    end = LoopEnd(t, state, filters, readiness, count, h, stuck, rejected, finished)
    found = None if found is None else Point(each(found.t), *_swapped((found.state, found.filters)))
    return LoopOutcome(end, _swapped(trains), found, outcome.iterations)


def _swapped(tree: Any) -> Any:
    """Arrays with the axes `(…, units, neurons)`, with these two swapped. Shared parameters stay."""

    def swapped(leaf):
        return jnp.swapaxes(leaf, -2, -1) if eqx.is_array(leaf) and leaf.ndim >= 3 else leaf

    return jax.tree.map(swapped, tree)
