"""Recurrent layers without delays as one unit, whose neurons share a clock.

A spike reaches the other neurons at the time at which it is emitted. So all neurons have to be at this time: the axes
`(batch, neurons, 1)` of a layer, of units with one neuron each, become `(batch, 1, neurons)`. Several layers are
joined along the last axis.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..._neuron import AbstractNeuron
from .._base import LayerPlan, SimulationState
from .problem import Point
from .simulation import LoopEnd, LoopOutcome


def are_alike(neurons: list[AbstractNeuron]) -> bool:
    """Whether neurons differ in the values of their parameters alone, so that they can be arrays of one neuron."""

    def form(neuron):
        leaves, structure = jax.tree.flatten(neuron)
        return structure, [None if isinstance(leaf, float) or eqx.is_inexact_array(leaf) else leaf for leaf in leaves]

    structure, fixed = form(neurons[0])
    for neuron in neurons[1:]:
        other, others = form(neuron)
        if other != structure or any(a is not b and not _is_same(a, b) for a, b in zip(fixed, others, strict=True)):
            return False
    return True


def _is_same(a: Any, b: Any) -> bool:
    are_arrays = any(eqx.is_array(leaf) or np.ndim(leaf) for leaf in (a, b))
    return not are_arrays and type(a) is type(b) and bool(a == b)


def as_one_unit(plans: list[LayerPlan]) -> LayerPlan:
    """The plan of a layer with the neurons of all layers as a single unit, which stops for no number of spikes."""
    neuron = _joined_neuron([plan.neuron for plan in plans], [plan.start.h for plan in plans])
    start = _joined_start([plan.start for plan in plans])
    ts = [plan.ts for plan in plans if plan.ts is not None]
    return dataclasses.replace(
        plans[0],
        neuron=neuron,
        start=start,
        ts=jnp.concatenate(ts) if ts else None,
        max_spikes=max(plan.max_spikes for plan in plans),
        stop_after=None,
    )


def wanted_of(plans: list[LayerPlan]) -> tuple[int, ...] | None:
    """The number of spikes of each neuron after which the unit stops; None if it goes on."""
    wanted = [plan.stop_after or 0 for plan in plans for _ in range(plan.start.h.shape[1])]
    return tuple(wanted) if any(wanted) else None


def as_layers(outcome: LoopOutcome, plans: list[LayerPlan]) -> list[LoopOutcome]:
    """The outcome of a unit for each of its layers."""
    whole, first, saved, found = _as_units_of_one(outcome), 0, 0, []
    for plan in plans:
        size, n = plan.start.h.shape[1], 0 if plan.ts is None else len(plan.ts)
        own, here = slice(first, first + size), slice(saved, saved + n)
        end = jax.tree.map(lambda leaf, own=own: leaf[:, own], dataclasses.replace(whole.end, readiness=None))
        # Of the whole loop, as those of the first neuron.
        rejected = jnp.zeros_like(end.rejected).at[:, :1].set(outcome.end.rejected)
        end = dataclasses.replace(end, readiness=whole.end.readiness[:, :, own], rejected=rejected)
        trains = jax.tree.map(lambda leaf, own=own, k=plan.max_spikes: leaf[:k, :, own], whole.trains)
        points = None
        if plan.ts is not None:
            points = jax.tree.map(lambda leaf, own=own, here=here: leaf[here, :, own], whole.found)
        found.append(LoopOutcome(end, trains, points, outcome.iterations))
        first, saved = first + size, saved + n
    return found


def _joined_neuron(neurons: list[AbstractNeuron], clocks: list[Array]) -> AbstractNeuron:
    """One neuron, whose arrays hold the parameters of all, with the axes of a unit."""

    def joined(*leaves):
        if len(leaves) == 1:
            return _swapped(leaves[0])
        if all(_is_shared(leaf, leaves[0]) for leaf in leaves):
            return leaves[0]
        wide = []
        for leaf, clock in zip(leaves, clocks, strict=True):
            leaf = jnp.asarray(leaf, clock.dtype)
            wide.append(_swapped(leaf if leaf.ndim else jnp.broadcast_to(leaf, clock.shape)))
        return jnp.concatenate(wide, axis=2)

    return jax.tree.map(joined, *neurons)


def _is_shared(one: Any, other: Any) -> bool:
    """Whether two parameters are one number, or anything else than numbers."""
    return _is_same(one, other) or (one is other and not (eqx.is_array(one) and one.ndim))


def _joined_start(starts: list[SimulationState]) -> SimulationState:
    """The start of all neurons, at which the clock is as careful as the most careful layer."""
    parts = [_swapped((start.state, start.filters)) for start in starts]
    state, filters = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=2), *parts)
    readiness = jnp.concatenate([_swapped(start.readiness, 1) for start in starts], axis=3)
    h, stuck = (jnp.concatenate(leaves, axis=1) for leaves in zip(*((s.h, s.stuck) for s in starts), strict=True))
    h, stuck = jnp.min(h, axis=1, keepdims=True), jnp.any(stuck, axis=1, keepdims=True)
    return SimulationState(state, filters, readiness, h, stuck)


def _as_units_of_one(outcome: LoopOutcome) -> LoopOutcome:
    """The outcome of a single unit, with the axes of a layer."""
    end, trains, found = outcome.end, outcome.trains, outcome.found
    shape = jnp.swapaxes(end.count, 1, 2).shape

    def each(clock: Array) -> Array:
        return jnp.broadcast_to(clock, (*clock.shape[:-3], *shape))

    state, filters, count = _swapped((end.state, end.filters, end.count))
    t, h, stuck, rejected, finished = (each(clock) for clock in (end.t, end.h, end.stuck, end.rejected, end.finished))
    end = LoopEnd(t, state, filters, _swapped(end.readiness, 1), count, h, stuck, rejected, finished)
    found = None if found is None else Point(each(found.t), *_swapped((found.state, found.filters), 1))
    return LoopOutcome(end, _swapped(trains, 1), found, outcome.iterations)


def _swapped(tree: PyTree, lead: int = 0) -> Any:
    """Arrays with the axes `(batch, units, neurons)` after `lead` others, with units and neurons swapped.

    Shared parameters stay.
    """

    def swapped(leaf):
        return jnp.swapaxes(leaf, lead + 1, lead + 2) if eqx.is_array(leaf) and leaf.ndim > lead + 2 else leaf

    return jax.tree.map(swapped, tree)
