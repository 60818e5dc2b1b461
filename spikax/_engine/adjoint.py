"""How a simulation is differentiated, and the parts that it consists of."""

import abc
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._checks import require_count
from .._neuron import AbstractNeuron
from . import cells as grid, loop
from .arrivals import Arrivals, in_order
from .cells import Cells
from .loop import Point, Problem, Progress, Settings, Standing, Trains
from .reverse import with_reverse_rule
from .segments import choose, likely_length, Plan, Reached, run
from .some import Some
from .units import indices, Places
from .walk import Smooth, walk_back


class Inputs(eqx.Module):
    """What the spikes of a layer depend on."""

    neuron: AbstractNeuron
    weight: PyTree[Array]  # of shape `(sources, units, neurons)`
    times: Float[Array, "batch lanes spikes"]  # of all sources; one lane for every unit, or a single one
    source: Int[Array, "samples spikes"]
    start: Standing
    t0: Float[Array, ""]
    t1: Float[Array, ""]
    gains: PyTree[Array] | None = None  # the factors of the weight for every spike, in the shape of `times`
    generation: Int[Array, "batch lanes spikes"] | None = None  # of arrivals, where their order at one instant matters


class Outcome(eqx.Module):
    """What the simulation of a layer gives."""

    trains: Trains
    end: Standing
    found: Point | None  # the accepted point before each time of `ts`
    count: Int[Array, "batch units neurons"]
    rejected: Int[Array, " batch"]
    finished: Bool[Array, "batch units 1"]
    stuck: Bool[Array, "batch units 1"]
    finite: Bool[Array, " batch"]
    reached: Float[Array, "batch units 1"] | None  # when each unit stopped, by steps of a solver
    failed_at: Float[Array, " batch"]  # up to when the results are right: `inf`, but where they are not to the end
    iterations: Int[Array, ""]


class AbstractAdjoint(eqx.Module):
    """How a simulation is differentiated."""

    @abc.abstractmethod
    def simulate(self, inputs: Inputs, settings: Settings, ts: Float[Array, " ts"] | None) -> Outcome:
        """Simulates the units of a layer."""


class DiscreteAdjoint(AbstractAdjoint):
    """The exact derivative of the simulation as it ran: its steps, walked backwards.

    **Arguments:**

    - `memory`: the bytes that the stored steps of a layer may take, 64 MiB by default; twice as many in a large layer,
      whose last few neurons are followed by themselves. Of more steps than fit, the last ones are stored; the backward
      pass runs from the start again to get at the ones before, as many of them at a time as fit.
    """

    memory: int = eqx.field(static=True, default=2**26)

    def __check_init__(self):
        require_count(self.memory, "memory")

    def simulate(self, inputs, settings, ts):
        arrivals = in_order(lax.stop_gradient(inputs.times), inputs.source, inputs.generation)
        cells, t1 = _cells(inputs, settings, arrivals, ts), lax.stop_gradient(inputs.t1)
        places = Places.all(*inputs.start.h.shape[:2])
        problem = Problem(inputs.neuron, inputs.weight, arrivals, places, t1, cells, inputs.gains)
        progress = loop.start(problem, inputs.start, inputs.t0)
        few = _few(problem, progress, settings)
        plan = Plan(problem, progress, ts, jnp.int32(settings.max_steps), settings, self.memory, few)
        reached = _reach(plan, inputs.times, inputs.t0)
        if plan.few:
            reached = _follow_the_rest(plan, inputs.times, inputs.t0, reached)
        progress = reached.progress
        finished, stuck = loop.is_finished(problem, settings, progress), loop.is_stuck(progress)
        stopped_at = jnp.where(finished & ~stuck, jnp.inf, lax.stop_gradient(progress.t))
        return Outcome(
            trains=reached.trains,
            end=Standing(progress.state, progress.filters, progress.readiness, progress.h),
            found=reached.found,
            count=progress.count,
            rejected=jnp.sum(progress.rejected, axis=(1, 2), dtype=jnp.int32),
            finished=finished,
            stuck=stuck,
            finite=loop.is_finite(progress),
            reached=lax.stop_gradient(progress.t),
            failed_at=jnp.min(stopped_at, axis=(1, 2)),
            iterations=reached.iterations,
        )


# A second loop is worth its compilation where all units together may need so many steps. Measured on two CPU cores: at
# 4e5, Yin-Yang, it saves a tenth of 34 ms and costs 3 s; at 5e6, MNIST, up to 0.4 of 450 ms, and costs 5 s.
_LONG = 2**20


def _few(problem: Problem, progress: Progress, settings: Settings) -> int:
    """How many units may be left to a loop of their own.

    Most units of a layer need about as many iterations, and a few, those that spike often, many more. Once no more
    than an eighth is left, the loop goes on with these alone. Where it is short, compiling a second one costs more
    than that saves.
    """
    units = progress.t.size
    return units // 8 if units * likely_length(problem, settings) >= _LONG else 0


def _follow_the_rest(plan: Plan, times: Array, t0: Array, reached: Reached) -> Reached:
    """To the end with the units that are not finished, side by side."""
    problem, settings, ts = plan.problem, plan.settings, plan.ts
    some = Some.first(~loop.is_finished(problem, settings, reached.progress)[..., 0], plan.few)
    leads = reached.progress.leads(), 1, None if ts is None else 1
    start, trains, found = some.gather((reached.progress, reached.trains, reached.found), leads)
    # Where there are fewer, the last ones rest.
    start = eqx.tree_at(lambda start: start.h, start, jnp.where(some.exists[..., None], start.h, 0.0))
    neuron = jax.tree.map(lambda x: some.gather(x) if eqx.is_array(x) and x.ndim else x, problem.neuron)
    problem = dataclasses.replace(problem, neuron=neuron, places=some.places)
    steps = plan.steps - reached.iterations
    end = _reach(Plan(problem, start, ts, steps, settings, plan.memory, 0), times, t0)
    # The spikes and the points before the start are known already.
    number = indices(settings.max_spikes)[:, None, None, None]
    trains = jax.tree.map(lambda old, new: jnp.where(number < start.count, old, new), trains, end.trains)
    if ts is not None:
        found = choose(ts[:, None, None, None] < start.t, found, end.found)
    whole = reached.progress, reached.trains, reached.found
    return Reached(*some.scatter(whole, (end.progress, trains, found), leads), reached.iterations + end.iterations)


def _reach(plan: Plan, times: Array, t0: Array) -> Reached:
    """Runs the loop; differentiable by the problem, the point from which it starts, the times and `t0`."""
    floats, rest = eqx.partition(Smooth.of(plan, times, t0), eqx.is_inexact_array)
    others, static = eqx.partition((rest, plan), eqx.is_array)
    others = lax.stop_gradient(others)

    def unpack(floats, others):
        rest, plan = eqx.combine(others, static)
        smooth = eqx.combine(floats, rest)
        return smooth, smooth.into(plan)

    def reached(floats, others):
        return run(unpack(floats, others)[1], stores=False)[0]

    def forward(floats, others):
        reached, rows = run(unpack(floats, others)[1], stores=True)
        return reached, (floats, others, reached, rows)

    def backward(residual, cotangent):
        floats, others, reached, rows = residual
        # JAX may hand a constant back as a number.
        floats = jax.tree.map(jnp.asarray, floats)
        gradient = walk_back(*unpack(floats, others), reached, rows, cotangent)
        return eqx.filter(gradient, eqx.is_inexact_array), None

    return with_reverse_rule(reached, forward, backward)(floats, others)


def _cells(inputs: Inputs, settings: Settings, arrivals: Arrivals, ts: Array | None) -> Cells | None:
    """The cells of a layer, where it has any."""
    if not settings.cells:
        return None
    ends = grid.ends_of(inputs.t0, lax.stop_gradient(inputs.t1), settings.cells)
    spikes = grid.Arriving(inputs.times, inputs.source, inputs.gains)
    # What leads to the table is large, and soon made again.
    tabulate = eqx.filter_checkpoint(grid.tabulate)
    table, variation = tabulate(inputs.neuron.synapse, inputs.weight, spikes, inputs.start.filters, inputs.t0, ends)
    ends, variation = lax.stop_gradient((ends, variation))
    passed = jax.vmap(lambda times: jnp.searchsorted(times, ends, side="right"))(arrivals.times[:, 0])
    return Cells(ends, table, variation, passed.astype(jnp.int32), grid.watched_cells(inputs.t0, ends, ts))
