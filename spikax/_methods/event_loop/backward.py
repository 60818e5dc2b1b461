"""The derivative of the event loop: a backward pass over the accepted steps.

Each accepted step is a map from one accepted point to the next. A step to a spike has the length h that solves
g(Φ(y, h)) = 0, see `event_time`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..._neuron import AbstractNeuron
from .._common.arrivals import Sent
from .._common.axes import indices
from .._common.motion import AbstractMotion
from .._common.trees import add, tree_where, zeros_like
from .._common.vectorized import any_member
from . import bins as grid, loop
from .bins import Table
from .checkpointing import Checkpoints, entries_at, LoopPlan, LoopResult, point_of
from .problem import (
    ACCEPTED,
    Action,
    arriving,
    emitted,
    is_any,
    LoopState,
    Point,
    Problem,
    REACHED_STOP,
    scaled,
    TapeEntry,
    Trains,
    weight_of,
)
from .replay import replay_step
from .step import OneStep


class Smooth(eqx.Module):
    """The inputs of the loop with respect to which the spikes are differentiated."""

    neuron: AbstractNeuron
    weight: PyTree[Array]
    inner: PyTree[Array] | None
    table: Table | None
    start: Point
    sent: Sent
    t0: Float[Array, ""]

    @classmethod
    def of(cls, plan: LoopPlan, sent: Sent, t0: Array) -> "Smooth":
        """The smooth inputs of a plan."""
        problem = plan.problem
        table = None if problem.bins is None else problem.bins.table
        given = problem.neuron, problem.weight, problem.inner
        return cls(*given, table, point_of(plan.loop_state), sent, t0)

    def into(self, plan: LoopPlan) -> LoopPlan:
        """The plan with these smooth inputs."""
        bins, start = plan.problem.bins, self.start
        bins = None if bins is None else dataclasses.replace(bins, table=self.table)
        own = {"neuron": self.neuron, "weight": self.weight, "inner": self.inner, "gains": self.sent.gains}
        problem = dataclasses.replace(plan.problem, bins=bins, **own)
        loop_state = dataclasses.replace(plan.loop_state, t=start.t, state=start.state, filters=start.filters)
        return dataclasses.replace(plan, problem=problem, loop_state=loop_state)


def backpropagate(
    smooth: Smooth,
    plan: LoopPlan,
    reached: LoopResult,
    tape: TapeEntry,
    checkpoints: Checkpoints | None,
    cotangent: LoopResult,
) -> Smooth:
    """The cotangent of `smooth`, from those of the spikes, the end, and the accepted points before `ts`."""
    settings, ts = plan.settings, plan.ts
    end, length = reached.loop_state, tape.t.shape[0]
    # The times of `ts` whose accepted point is on the tape; for the others it is the end of the loop.
    waiting = None if ts is None else end.t > ts[:, None, None, None]
    problem, back = start_back(smooth, plan, end, cotangent, waiting)

    def tape_before(iterations, tape):
        """The tape of the segment that ends there. The tape of the last segment is already available."""
        if checkpoints is None:
            return tape
        start, segment = checkpoints.before((iterations - 1) // length)
        again = jnp.where(iterations == reached.iterations, 0, iterations)
        return loop.run(plan.problem, settings, start, None, tape, segment * length, again)[2]

    def segment(carry):
        iterations, tape, waiting, back = carry
        first = (iterations - 1) // length * length
        tape, rows = tape_before(iterations, tape), iterations - first
        waiting, back = backpropagate_entries(
            problem, plan, OneStep(settings.stepper), tape, rows, rows, cotangent, waiting, back
        )
        return first, tape, waiting, back

    carry = (reached.iterations, tape, waiting, back)
    *_, back = lax.while_loop(lambda carry: carry[0] > 0, segment, carry)
    return sums_of(smooth, back)


def backpropagate_entries(
    problem: Problem,
    plan: LoopPlan,
    motion: AbstractMotion,
    tape: TapeEntry,
    rows: Int[Array, "*batch units 1"],
    most: Int[Array, ""],
    cotangent: LoopResult,
    waiting: Array | None,
    back: "BackwardState",
) -> tuple[Array | None, "BackwardState"]:
    """The backward pass over the entries of a tape, of which the first `rows` are in use, at `most` so many.

    Returns for which times of `ts` the point is on an earlier tape.
    """
    added = None
    if waiting is not None:
        place, here = entries_at(plan.ts, tape.t, rows)
        added = _gather_back(cotangent.found, place, here & waiting, tape)
        waiting = waiting & ~here
    back = lax.while_loop(
        lambda back: back.left > 0,
        lambda back: _step_back(problem, motion, tape, added, cotangent.trains, back),
        dataclasses.replace(back, left=most),
    )
    return waiting, back


def sums_of(smooth: Smooth, back: "BackwardState") -> Smooth:
    """The cotangent of `smooth`, once the backward pass has reached the start."""
    sums, parameters = back.sums, eqx.filter(smooth.neuron, eqx.is_inexact_array)
    neuron = jax.tree.map(lambda bar, x: jnp.sum(bar) if x.ndim == 0 else bar, sums.neuron, parameters)
    return Smooth(neuron, sums.weight, sums.inner, sums.table, back.bar, sums.sent, jnp.sum(sums.t0))


class _Sums(eqx.Module):
    """The cotangents that the backward pass accumulates, except that of the current point."""

    neuron: AbstractNeuron
    weight: PyTree[Array]
    sent: Sent
    t0: Float[Array, "batch units 1"]
    inner: PyTree[Array] | None
    table: Table | None


class BackwardState(eqx.Module):
    """The state of the backward pass: the number of entries left, and the cotangents so far."""

    left: Int[Array, ""]
    bar: Point
    count: Int[Array, "batch units neurons"]
    sums: _Sums


def start_back(
    smooth: Smooth, plan: LoopPlan, end: LoopState, cotangent: LoopResult, waiting: Array | None
) -> tuple[Problem, BackwardState]:
    """The problem of the backward pass, and its state at the end of the loop, before the first entry."""
    shape = end.count.shape
    parameters, rest = eqx.partition(smooth.neuron, eqx.is_inexact_array)
    # One copy per neuron and sample, so that the loop accumulates without sums over the batch.
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, shape if x.ndim == 0 else x.shape), parameters)
    bar = point_of(cotangent.loop_state)
    if waiting is not None:
        here = tree_where(waiting, zeros_like(cotangent.found), cotangent.found)
        bar = jax.tree.map(lambda bar, leaf: bar + jnp.sum(leaf, axis=0), bar, here)
    t0, nothing = jnp.zeros_like(end.t), zeros_like(smooth)
    sums = _Sums(zeros_like(copies), nothing.weight, nothing.sent, t0, nothing.inner, nothing.table)
    problem = dataclasses.replace(plan.problem, neuron=eqx.combine(copies, rest))
    return problem, BackwardState(jnp.int32(0), bar, end.count, sums)


def _step_back(
    problem: Problem,
    motion: AbstractMotion,
    tape: TapeEntry,
    added: Point | None,
    trains_bar: Trains,
    back: BackwardState,
) -> BackwardState:
    """One step of the backward pass: maps the cotangent after a tape entry to the one before it."""
    left = back.left - 1
    entry = jax.tree.map(lambda tape: tape[left], tape)
    count = back.count - entry.fired[0].astype(jnp.int32)
    recorded = _recorded(trains_bar, count, entry)
    bar = eqx.tree_at(lambda bar: bar.t, back.bar, back.bar.t + jnp.sum(recorded.times, axis=2, keepdims=True))

    places = problem.places
    arrival, spike = problem.arrivals.at(places, entry.cursor)
    arrived, landed = entry.action == Action.ARRIVED, is_any(entry.action, REACHED_STOP)
    end = problem.t1 if problem.bins is None else problem.bins.ends[entry.bin]
    stop = jnp.where(arrived, arrival, end)
    table_entry = None if problem.bins is None else problem.bins.table.at(places, entry.bin)
    received, pull_weight = jax.vjp(lambda *weight: arriving(scaled(*weight), arrived), *weight_of(problem, spike))
    parameters, rest = eqx.partition(problem.neuron, eqx.is_inexact_array)

    def forward(parameters, point, stop, received, table_entry):
        moved = dataclasses.replace(problem, neuron=eqx.combine(parameters, rest))
        return replay_step(moved, motion, entry, point, stop, received, table_entry)

    point = Point(entry.t, entry.state, entry.filters)
    (_, payload), pull = jax.vjp(forward, parameters, point, stop, received, table_entry)
    parameters_bar, point_bar, stop_bar, received_bar, entry_bar = pull((bar, recorded.payload))
    weight_bar, gain_bar = pull_weight(received_bar)
    happened = is_any(entry.action, ACCEPTED)
    bar = tree_where(happened, point_bar, back.bar)
    if added is not None:
        bar = jax.tree.map(lambda bar, added: bar + added[left], bar, added)

    source = problem.arrivals.source_of(places, spike)

    def of_arrivals(bar):
        return jax.tree.map(lambda leaf: jnp.where(arrived, leaf, 0.0), bar)

    def of_synapses(sum, bar):
        return sum.at[source, places.unit, indices(count.shape[2])].add(bar)

    t0, table = _bin_sums(problem, back.sums, entry, jnp.where(landed & ~arrived, stop_bar, 0.0), entry_bar)
    sums = _Sums(
        add(back.sums.neuron, tree_where(happened, parameters_bar, zeros_like(parameters_bar))),
        jax.tree.map(of_synapses, back.sums.weight, of_arrivals(weight_bar)),
        back.sums.sent.add(places, spike, source, of_arrivals(stop_bar), of_arrivals(gain_bar)),
        t0,
        _sums_within(problem, back.sums.inner, entry.fired[0], payload, received_bar),
        table,
    )
    return BackwardState(left, bar, count, sums)


def _recorded(bar: Trains, count: Int[Array, "batch units neurons"], entry: TapeEntry) -> Trains:
    """The cotangent of spike number `count`, which the entry emitted."""
    has_place = entry.fired[0] & (count < bar.times.shape[0])

    def leaf(bar):
        return jnp.where(has_place, jnp.take_along_axis(bar, count[None], axis=0, mode="clip")[0], 0.0)

    return Trains(*jax.tree.map(leaf, (bar.times, bar.payload)))


def _sums_within(
    problem: Problem, sums: PyTree[Array] | None, fired: Array, payload: PyTree, bar: PyTree[Array]
) -> PyTree[Array] | None:
    """The cotangents of the weights between the neurons of a unit, from those of what its neurons received.

    Of many neurons, few fire at a time: their rows are added one after the other, rather than a whole matrix.
    """
    if sums is None:
        return None
    factors, number = emitted(problem, fired, payload), indices(fired.shape[2])

    def goes_on(carry):
        return any_member(jnp.any(carry[0]))

    def add_first(carry):
        left, sums = carry
        first = jnp.min(jnp.where(left, number, len(number)), axis=2, keepdims=True)

        def port(sums, factor, bar):
            row = jnp.take_along_axis(factor, first, axis=2, mode="clip") * bar
            # An index out of bounds is dropped.
            return sums.at[first, number].add(row, mode="drop")

        return left & (number != first), jax.tree.map(port, sums, factors, bar)

    return lax.while_loop(goes_on, add_first, (fired, sums))[1]


def _bin_sums(problem: Problem, sums: _Sums, entry: TapeEntry, stop_bar: Array, entry_bar: Table | None):
    """The cotangents of `t0`, on which the ends of the bins depend, and of the table."""
    if problem.bins is None or sums.table is None or entry_bar is None:
        return sums.t0, None
    share = grid.share_of_start(entry.bin, problem.bins.ends.shape[0], stop_bar.dtype)
    return sums.t0 + share * stop_bar, sums.table.add(
        problem.places, entry.bin, entry.action == Action.SPANNED, entry_bar
    )


def _gather_back(bar: Point, place: Array, where: Array, tape: TapeEntry) -> Point:
    """The transpose of gathering the tape entry at each place, where `where` holds."""
    batch, units = indices(place.shape[1])[:, None], indices(place.shape[2])

    def leaf(bar, tape):
        return jnp.zeros_like(tape).at[place[..., 0], batch, units].add(bar)

    return jax.tree.map(leaf, tree_where(where, bar, zeros_like(bar)), point_of(tape))
