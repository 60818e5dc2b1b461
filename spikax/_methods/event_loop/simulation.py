"""The simulation of a layer by the event loop: its problem, the loop with its stragglers, and the derivative."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._routing import SynapticInput
from .._base import LayerPlan
from .._common.arrivals import Arrivals, in_order, Sent
from .._common.axes import indices, Places
from .._common.compaction import Subset
from .._common.differentiation import with_reverse_rule
from .._common.trees import tree_where
from . import bins as grid, loop
from .backward import backpropagate, Smooth
from .bins import Bins
from .checkpointing import blank_tape, Checkpoints, likely_length, LoopPlan, LoopResult, run, run_with_tape
from .continuous_adjoint import reach_by_events
from .problem import LoopState, Point, Problem, Settings, Trains
from .trial import is_finished


class LoopEnd(eqx.Module):
    """Where each unit ended."""

    t: Float[Array, "batch units 1"]
    state: PyTree[Float[Array, "batch units neurons"]]
    filters: PyTree[Float[Array, "batch units neurons"]]
    readiness: Int[Array, "events batch units neurons"]
    count: Int[Array, "batch units neurons"]  # of spikes
    h: Float[Array, "batch units 1"]  # the maximal length of the next step
    stuck: Bool[Array, "batch units 1"]  # no step is short enough
    rejected: Int[Array, "batch units 1"]  # trials
    finished: Bool[Array, "batch units 1"]

    @classmethod
    def of(cls, end: LoopState, finished: Bool[Array, "batch units 1"]) -> "LoopEnd":
        """What the state of the loop says of its end."""
        return cls(end.t, end.state, end.filters, end.readiness, end.count, end.h, end.stuck, end.rejected, finished)


class LoopOutcome(eqx.Module):
    """The result of the event loop."""

    end: LoopEnd
    trains: Trains
    found: Point | None  # the accepted point before each time of `ts`
    iterations: Int[Array, ""]


def through_steps(
    plan: LayerPlan,
    received: SynapticInput,
    inner: PyTree[Array] | None,
    t0: Array,
    t1: Array,
    settings: Settings,
) -> LoopOutcome:
    """Simulates the units of a layer.

    The weights of `received` have the axes `(sources, units, neurons)`, and those of `inner`, between the neurons of a
    unit, `(neurons, neurons)`.
    """
    motion = plan.adjoint.motion
    # Between two events, so without bins.
    settings = settings if motion is None else dataclasses.replace(settings, bins=0)
    arrivals, sent = in_order(received), Sent.of(received)
    bins, t1 = _bins(plan, received, settings, arrivals, t0, t1), lax.stop_gradient(t1)
    places = Places.all(*plan.start.h.shape[:2])
    problem = Problem(plan.neuron, received.weight, arrivals, places, t1, bins, received.gains, inner)
    start = loop.start(problem, settings, plan.start, t0)
    limits = jnp.int32(settings.max_steps), settings, plan.adjoint.memory
    if motion is None:
        stragglers = _max_stragglers(problem, start, settings)
        whole = LoopPlan(problem, start, plan.ts, *limits, stragglers)
        result = _reach(whole, sent, t0)
        if stragglers:
            result = _follow_the_rest(whole, sent, t0, result)
    else:
        result = reach_by_events(LoopPlan(problem, start, plan.ts, *limits, 0), sent, t0, motion)
    end = result.loop_state
    finished = is_finished(problem, settings, end)
    return LoopOutcome(LoopEnd.of(end, finished), result.trains, result.found, result.iterations)


# A second loop is worth its compilation if all units together may need this many steps. Measured on two CPU cores: at
# 3e5 (Yin-Yang) it saves a tenth of 34 ms and costs 3 s; at 4e6 (MNIST), up to 0.4 of 450 ms, and costs 5 s.
_LONG = 2**20


def _max_stragglers(problem: Problem, loop_state: LoopState, settings: Settings) -> int:
    """The number of units that may be left to a second loop.

    Most units of a layer need about the same number of iterations; a few units, which spike often, need many more.
    Once at most an eighth is unfinished, a second loop continues with these alone. If the loop is short, the
    compilation of the second loop costs more than it saves.
    """
    units = loop_state.t.size
    return units // 8 if units * likely_length(problem, settings) >= _LONG else 0


def _follow_the_rest(plan: LoopPlan, sent: Sent, t0: Array, result: LoopResult) -> LoopResult:
    """Simulates the unfinished units to the end, compacted."""
    problem, settings, ts = plan.problem, plan.settings, plan.ts
    subset = Subset.first(~is_finished(problem, settings, result.loop_state)[..., 0], plan.stragglers)
    leads = result.loop_state.leads(), 1, None if ts is None else 1
    start, trains, found = subset.gather((result.loop_state, result.trains, result.found), leads)
    # If there are fewer than the subset has places for, the remaining places stay idle.
    start = dataclasses.replace(start, stuck=start.stuck | ~subset.exists[..., None])
    neuron = jax.tree.map(lambda x: subset.gather(x) if eqx.is_array(x) and x.ndim else x, problem.neuron)
    problem = dataclasses.replace(problem, neuron=neuron, places=subset.places)
    steps = plan.steps - result.iterations
    end = _reach(LoopPlan(problem, start, ts, steps, settings, plan.memory, 0), sent, t0)
    # The spikes and the points before the start are already known.
    number = indices(settings.max_spikes)[:, None, None, None]
    trains = jax.tree.map(lambda old, new: jnp.where(number < start.count, old, new), trains, end.trains)
    if ts is not None:
        found = tree_where(ts[:, None, None, None] < start.t, found, end.found)
    whole = result.loop_state, result.trains, result.found
    return LoopResult(
        *subset.scatter(whole, (end.loop_state, trains, found), leads), result.iterations + end.iterations
    )


def _reach(plan: LoopPlan, sent: Sent, t0: Array) -> LoopResult:
    """Runs the loop, differentiable with respect to the problem, the initial point, the times and `t0`."""

    def whole(smooth, plan):
        return run(smooth.into(plan))

    def forward(smooth, plan):
        plan = smooth.into(plan)
        tape = blank_tape(plan)
        is_whole = tape.t.shape[0] >= plan.settings.max_steps
        checkpoints = None if is_whole else Checkpoints.of(plan.loop_state, plan.memory)
        result, *stored = run_with_tape(plan, tape, checkpoints)
        return result, (result, *stored)

    def backward(smooth, plan, residual, cotangent):
        return backpropagate(smooth, smooth.into(plan), *residual, cotangent)

    return with_reverse_rule(forward, backward, whole)(Smooth.of(plan, sent, t0), plan)


def _bins(
    plan: LayerPlan, received: SynapticInput, settings: Settings, arrivals: Arrivals, t0: Array, t1: Array
) -> Bins | None:
    """The bins of a layer, or None."""
    if not settings.bins:
        return None
    ends = grid.ends_of(t0, lax.stop_gradient(t1), settings.bins)
    # The intermediate values of the table are large and cheap to recompute.
    tabulate = eqx.filter_checkpoint(grid.tabulate)
    table, variation = tabulate(plan.neuron.synapse, received, plan.start.filters, t0, ends)
    variation = lax.stop_gradient(variation)
    passed = jax.vmap(lambda times: jnp.searchsorted(times, ends, side="right"), in_axes=1)(arrivals.times[..., 0])
    return Bins(ends, table, variation, passed.astype(jnp.int32), grid.bins_with_save_times(t0, ends, plan.ts))
