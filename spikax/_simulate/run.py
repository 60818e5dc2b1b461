"""The simulation of all groups in sequence, in one compiled function."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from .._methods._base import Group, LayerPlan, LayerResult, SimulationState
from .._methods._common.axes import cast, over_units, with_dtype, with_unit_axes
from .._network import Network
from .._routing import Train
from .._spikes import Events, Spikes
from .._synapse import is_impulsive
from .plan import Plan, PlannedGroup
from .report import reported
from .snapshot import Snapshot, spikes_under_way
from .solution import Solution
from .validation import as_state, batch_of
from .violations import Violations


@eqx.filter_jit
def run(network: Network, inputs: dict[str, Spikes | Events], plan: Plan) -> tuple[Solution, Violations]:
    """Returns the solution, and the parameters that are outside their domains."""
    batch, violations = batch_of(next(iter(inputs.values()))), Violations.of(network)
    # With invalid parameters, all samples end at `t0`: no method is designed for such parameters.
    wrong = violations.any()
    last = jnp.where(wrong, plan.t0, plan.t1), jax.tree.map(lambda ts: jnp.where(wrong, plan.t0, ts), plan.saveat)
    short = eqx.tree_at(lambda plan: (plan.t1, plan.saveat), plan, last)
    # The order of simultaneous arrivals matters only where arrivals change the membrane directly.
    is_ordered = any(is_impulsive(layer.neuron.synapse) for layer in network.layers.values())
    trains = {name: Train.of(spikes, plan.t0.dtype, is_ordered) for name, spikes in inputs.items()}
    invalid = _invalid_times(plan, trains)
    # Samples with invalid times run without input, and are reported.
    trains = {name: _silenced(train, invalid | wrong) for name, train in trains.items()}
    before = plan.start.trains(plan.t0.dtype) if isinstance(plan.start, Snapshot) else {}
    results: dict[str, LayerResult] = {}
    for group in plan.groups:
        layers = {name: _layer_plan(network, name, math.prod(batch), short, group) for name in group.names}
        whole = Group(network, layers, trains, before, short.t0, short.t1, is_ordered)
        with plan.adjoint.mode():
            found = group.method.simulate(whole, group.grid)
        trains |= {name: result.train for name, result in found.items()}
        results |= found
    left = {name: _under_way(network, name, trains[name], plan) for name in plan.places_under_way}
    under_way = {name: train for name, (train, _) in left.items()}
    too_many_under_way = jnp.stack([jnp.zeros_like(invalid), *(too_many for _, too_many in left.values())])
    invalid = invalid, violations, jnp.any(too_many_under_way, axis=0)
    return reported(network, plan, trains, results, under_way, invalid, batch), violations


def run_without_samples(
    network: Network, inputs: dict[str, Spikes | Events], plan: Plan
) -> tuple[Solution, Violations]:
    """Returns the solution of an empty batch, with the shapes of a batch of one sample."""
    batch = batch_of(next(iter(inputs.values())))

    def one(leaf):
        return jnp.zeros((1, *leaf.shape[len(batch) :]), leaf.dtype)

    def none(leaf):
        return jnp.zeros((*batch, *leaf.shape[1:]) if leaf.ndim else (), leaf.dtype)

    start = jax.tree.map(lambda leaf: one(leaf) if 0 in jnp.shape(leaf) else leaf, plan.start)
    plan = eqx.tree_at(lambda plan: plan.start, plan, start, is_leaf=lambda node: node is plan.start)
    shapes = eqx.filter_eval_shape(run, network, jax.tree.map(one, inputs), plan)
    return jax.tree.map(lambda leaf: none(leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, shapes)


def _invalid_times(plan: Plan, trains: dict[str, Train]) -> Bool[Array, " batch"]:
    """Whether an input of a sample comes before `t0`, or `t0`, `t1` and `saveat` are out of order."""
    outside = [jnp.any(~((ts >= plan.t0) & (ts <= plan.t1))) for ts in plan.saveat.values()]
    backwards = jnp.any(jnp.stack([~(plan.t1 > plan.t0), *outside]))
    early = [jnp.any(~(train.times >= plan.t0), axis=range(1, train.times.ndim)) for train in trains.values()]
    return jnp.any(jnp.stack(early), axis=0) | backwards


def _silenced(train: Train, invalid: Bool[Array, " batch"]) -> Train:
    where = invalid.reshape(-1, *(1,) * (train.times.ndim - 1))
    return eqx.tree_at(lambda train: train.times, train, jnp.where(where, jnp.inf, train.times))


def _layer_plan(network: Network, name: str, batch: int, plan: Plan, group: PlannedGroup) -> LayerPlan:
    """The initial state of a layer, and what its simulation records."""
    neuron = with_unit_axes(with_dtype(network.layers[name].neuron, plan.t0.dtype), batch)
    # One more place, for the first excess spike: its time shows whether it came after the end of the sample.
    places = plan.capacity[name] + int(plan.ends_early)
    # A single layer stops each neuron separately; if they share a clock, all of them once none needs to go on. Other
    # groups end as a whole, and only where `until` asks for it.
    is_single = group.method.simulates_single_layers and len(group.names) == 1
    bound = places if plan.ends_early and is_single else None
    return LayerPlan(
        neuron,
        _start(network, name, batch, plan, neuron),
        plan.saveat.get(name),
        places,
        plan.stop_after.get(name, bound),
        plan.adjoint,
    )


def _start(network: Network, name: str, batch: int, plan: Plan, neuron: Any) -> SimulationState:
    """The initial state of a layer."""
    dtype = plan.t0.dtype
    if isinstance(plan.start, Snapshot):
        return plan.start.layers[name].simulation_state(dtype)
    zeros = jnp.zeros((batch, network.layers[name].size, 1), dtype)
    state = over_units(lambda neuron, _: cast(neuron.initial_state(), dtype), neuron, zeros)
    if name in plan.start:
        given = cast(plan.start[name], dtype)
        state = jax.tree.map(lambda given, own: as_state(given, own, name), given, state)
    return SimulationState.of(neuron, state, plan.t0)


def _under_way(network: Network, source: str, train: Train, plan: Plan) -> tuple[Train, Bool[Array, " batch"]]:
    """The spikes of a source that arrive after the end, and whether there are too many of them."""
    delays = [jnp.max(c.delay) for c in network.connections if c.source == source and c.delay is not None]
    longest = lax.stop_gradient(jnp.max(jnp.stack([jnp.asarray(delay, plan.t0.dtype) for delay in delays])))
    before = plan.start.trains(plan.t0.dtype).get(source) if isinstance(plan.start, Snapshot) else None
    recorded = train.first(plan.capacity[source]) if source in plan.capacity else train
    return spikes_under_way(recorded, before, longest, plan.t1, plan.places_under_way[source])
