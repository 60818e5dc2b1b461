"""The method `EventQueue`: recurrent groups of linear neurons without delays, from event to event."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._checks import require, require_count
from ..._neuron import AbstractNeuron
from ..._routing import Train
from ..._synapse import port_structure
from .._base import AbstractMethod, Counters, drives_of, Group, LayerResult
from .._common.linear_neurons import flow_and_finder, has_scalar_flow, moves_linearly, sizes_of
from ..group_input import group_input, inner_weights
from .queue import Found, GroupGiven, Limits, Pool
from .replay import find_spikes


class EventQueue(AbstractMethod):
    """Simulates recurrent groups of linear neurons without delays, from event to event, in closed form.

    Each sample advances to the next event of any neuron of the group: an arrival, or a spike, which reaches the other
    neurons at the same time. The neurons are linear, without internal events and without `DeltaSynapse`; those of
    several layers have the same numbers of variables, filters and ports. With one variable driven by one exponential
    filter the flow has a closed form, which is fastest; for all others it is a matrix exponential. Connections from
    outside the group may have delays, but not a separate delay for each synapse.

    **Arguments:**

    - `max_steps`: the number of spikes of one neuron at which the simulation of a sample is stopped as failed.
    """

    simulates_single_layers: ClassVar[bool] = False

    max_steps: int = eqx.field(static=True, default=4096, kw_only=True)

    def __check_init__(self):
        require_count(self.max_steps, "max_steps")

    def limits(self, name):
        return {"max_steps": self.max_steps}

    def supports(self, network, group):
        connections = [c for name in group for c in network.incoming(name)]
        are_wired = all(c.delay is None if c.source in group else not c.has_own_arrivals for c in connections)
        neurons = [network.layers[name].neuron for name in group]
        return are_wired and all(map(moves_linearly, neurons)) and len(set(map(_form, neurons))) == 1

    def grid(self, network, group, expected):
        return None

    def simulate(self, group, grid):
        plans = group.layers
        most = tuple(plan.max_spikes for plan in plans.values())
        wanted = tuple(plan.stop_after or 0 for plan in plans.values())
        limits = Limits(max(most), wanted if any(wanted) else None, most, self.max_steps)
        ts = [plan.ts for plan in plans.values() if plan.ts is not None]
        with jax.named_scope(f"layers {', '.join(plans)}"):
            found = find_spikes(_given(group), limits, jnp.concatenate(ts) if ts else None)
        results = {}
        first = saved = 0
        for name, plan in plans.items():
            size = group.network.layers[name].size
            n = 0 if plan.ts is None else len(plan.ts)
            own, here = slice(first, first + size), slice(saved, saved + n)
            results[name] = _result(group, name, found, own, here)
            first, saved = first + size, saved + n
        # A failure of one neuron ends the sample for all neurons of the group.
        too_many = [jnp.any(results[name].counters.count > plan.max_spikes, axis=1) for name, plan in plans.items()]
        is_whole = found.finished & found.finite & ~jnp.any(jnp.stack(too_many), axis=0)
        failed_at = jax.lax.stop_gradient(jnp.where(is_whole, jnp.inf, found.t))
        return {
            name: eqx.tree_at(lambda result: result.counters.failed_at, result, failed_at)
            for name, result in results.items()
        }


def _form(neuron: AbstractNeuron) -> tuple[int, ...]:
    """What all neurons of a group have in common: the kind of flow, and the numbers of variables, filters and ports."""
    return has_scalar_flow(neuron), *sizes_of(neuron), port_structure(neuron.synapse).num_leaves


def _given(group: Group) -> GroupGiven:
    """The concatenated neurons of all layers, and the weights between them."""
    names, network = list(group.layers), group.network
    received = group_input(group)
    hint = f"Spikes reach {names} with payloads, which their `gain` turns into factors of the weights."
    require(received.gains is None, "method", "`sx.Windows()`", "`sx.EventQueue()`", hint)
    # Of the sources outside the group, then of its own neurons, for each port.
    parts = (jax.tree.leaves(part) for part in (received.weight, inner_weights(group)))
    weight = jnp.stack([jnp.concatenate(pair) for pair in zip(*parts, strict=True)])
    times, source = received.times[:, 0], received.source[:, 0]
    source = jnp.broadcast_to(source, times.shape)
    starts = [plan.start for plan in group.layers.values()]
    flow, finder = flow_and_finder((starts[0].state, starts[0].filters))
    v, x = (
        jnp.concatenate(parts, axis=-1)
        for parts in zip(*(flow.pack(start.state, start.filters) for start in starts), strict=True)
    )
    flows = [flow.of(plan.neuron, plan.start.state, group.t0) for plan in group.layers.values()]
    pool = Pool.of(flows, [network.layers[name].size for name in names], finder)
    weight = weight.astype(group.t0.dtype)
    return GroupGiven(pool, weight, times, source, v, x, group.t0, jax.lax.stop_gradient(group.t1))


def _result(group: Group, name: str, found: Found, own: slice, here: slice) -> LayerResult:
    """The result of one layer: the neurons `own` of the group, and the saved times `here`."""
    plan = group.layers[name]
    start, times = plan.start, found.times[:, own, : plan.max_spikes]
    # With a synaptic filter the membrane is continuous at arrivals, so no spike causes another at the same time.
    generation = jnp.zeros(times.shape, jnp.int32) if group.is_ordered else None
    flow, _ = flow_and_finder((start.state, start.filters))
    state, filters = flow.unpack(found.v[..., own], found.x[..., own], start.state, start.filters)
    saved = None
    if plan.ts is not None and found.saved is not None:
        v, x = (part[here, ..., own] for part in found.saved)
        states, filters_then = flow.unpack(v, x, start.state, start.filters)
        saved = states, jax.vmap(lambda filters: drives_of(plan.neuron, filters))(filters_then)
    count, never = found.count[:, own], jnp.full_like(found.t, jnp.inf)
    counters = Counters.once(count, found.finished, found.finite, never, found.iterations)
    return LayerResult(
        Train(times, generation=generation), start.moved_to(state, filters), saved, counters, "EventQueue"
    )
