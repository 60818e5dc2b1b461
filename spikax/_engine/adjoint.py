"""The derivative of the event loop: the accepted steps, walked backwards.

Each accepted step is a map from one accepted point to the next. A step to a spike has the length h that solves
g(Φ(y, h)) = 0, so that dh = -(∂g at fixed h) / (∇g · Φ_h), with the derivative Φ_h of the discrete step itself.
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._checks import require_count
from .._neuron import AbstractNeuron
from .._synapse import evolve_filters
from . import cells as grid, loop
from .arrivals import Arrivals, in_order
from .cells import Cells, Line, Table
from .loop import (
    ARRIVED,
    CAPPED,
    FIRED,
    FIRED_AT_ONCE,
    Point,
    Problem,
    Progress,
    Row,
    Settings,
    SPANNED,
    Standing,
    Trains,
)
from .some import Some
from .step import conditions, move
from .units import add_scaled, indices, over_units, Places, select, spread


def redo(
    problem: Problem, settings: Settings, row: Row, point: Point, stop: Array, weight: PyTree, entry: Table | None
) -> tuple[Point, PyTree]:
    """The accepted point after `point`, and what a spike there carries, as a differentiable map.

    The `row` says what happened. A step that was not cut short by an event ended at `stop`. `weight` is that of the
    arrival there, and `entry` what the table of the cells holds for the cell that it spanned.
    """
    crossed, capped = row.action == FIRED, row.action == CAPPED
    landed, spanned = _landed(row), row.action == SPANNED
    h = jnp.where(landed, stop - point.t, jnp.where(crossed | capped, row.h, 0.0))
    count = row.fired[0]
    line = () if entry is None else (Line(spread(spanned, count), entry.mean, entry.rise),)

    def end_of(h):
        def one(neuron, t, state, filters, h, *line):
            taken = move(neuron, settings.stepper, t, state, filters, h, *line)
            return taken.state, evolve_filters(neuron.synapse, filters, h)

        at = spread(point.t, count), point.state, point.filters, spread(h, count)
        return over_units(one, problem.neuron, *at, *line)

    end, slope = jax.jvp(end_of, (h,), (jnp.ones_like(h),))
    slope = lax.stop_gradient(slope)
    shift = _shift(problem, point.t + h, end[0], slope[0], row.fired, crossed)
    state, filters = add_scaled(end, shift, slope)
    t = jnp.where(landed, stop, point.t + h + shift)
    payload = loop.payload_of(problem.neuron, t, state, filters)
    state, filters = loop.jump(problem, t, state, filters, row.fired, spread(row.action == ARRIVED, count), weight)
    if entry is not None:
        filters = select(spread(spanned, count), entry.filters, filters)
    return Point(t, state, filters), payload


def _landed(row: Row) -> Bool[Array, "batch units 1"]:
    """Whether the unit went all the way to its stop."""
    return (row.action >= ARRIVED) & (row.action <= SPANNED)


def _shift(problem: Problem, t: Array, state: PyTree, slope: PyTree, fired: Array, crossed: Array) -> Array:
    """The last Newton step to the crossing; its derivative is that of the implicit function."""

    def conditions_of(t, state):
        return jnp.stack(over_units(conditions, problem.neuron, spread(t, fired[0]), state))

    g, d = jax.jvp(conditions_of, (t, state), (jnp.ones_like(t), lax.stop_gradient(slope)))
    # Of several events at one instant, the first in order holds the clock.
    flat = jnp.moveaxis(fired & crossed, 0, -1)
    flat = flat.reshape(*flat.shape[:2], -1)
    leads = flat & (jnp.cumsum(flat, axis=-1) == 1)
    leads = jnp.moveaxis(leads.reshape(*fired.shape[1:], fired.shape[0]), -1, 0)
    newton = jnp.where(leads, -g / jnp.where(leads, lax.stop_gradient(d), 1.0), 0.0)
    return jnp.sum(newton, axis=(0, 3))[..., None]


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


class Outcome(eqx.Module):
    """What the simulation of a layer gives."""

    trains: Trains
    end: Standing
    found: Point | None  # the accepted point before each time of `ts`
    count: Int[Array, "batch units neurons"]
    rejected: Int[Array, " batch"]
    finished: Bool[Array, "batch units 1"]
    stuck: Bool[Array, "batch units 1"]
    iterations: Int[Array, ""]


class AbstractAdjoint(eqx.Module):
    """How a simulation is differentiated."""

    @abc.abstractmethod
    def simulate(self, inputs: Inputs, settings: Settings, ts: Float[Array, " ts"] | None) -> Outcome:
        """Simulates the units of a layer."""


class DiscreteAdjoint(AbstractAdjoint):
    """The exact derivative of the simulation as it ran: its steps, walked backwards.

    **Arguments:**

    - `memory`: the bytes that the stored steps of a layer may take. Of a simulation with more steps than fit, the
      last ones are stored; the backward pass runs it again from its start to get at the ones before, as many of them
      at a time as fit.
    """

    memory: int = eqx.field(static=True, default=2**26)

    def __check_init__(self):
        require_count(self.memory, "memory")

    def simulate(self, inputs, settings, ts):
        arrivals = in_order(lax.stop_gradient(inputs.times), inputs.source)
        cells, t1 = _cells(inputs, settings, arrivals, ts), lax.stop_gradient(inputs.t1)
        places = Places.all(*inputs.start.h.shape[:2])
        problem = Problem(inputs.neuron, inputs.weight, arrivals, places, t1, cells, inputs.gains)
        progress = loop.start(problem, inputs.start, inputs.t0)
        few = _few(problem, progress, settings)
        plan = _Plan(problem, progress, ts, jnp.int32(settings.max_steps), settings, self.memory, few)
        reached = _reach(plan, inputs.times, inputs.t0)
        if plan.left:
            reached = _follow_the_rest(plan, inputs.times, inputs.t0, reached)
        progress = reached.progress
        return Outcome(
            reached.trains,
            Standing(progress.state, progress.filters, progress.readiness, progress.h),
            reached.found,
            progress.count,
            jnp.sum(progress.rejected, axis=(1, 2), dtype=jnp.int32),
            loop.is_finished(problem, settings, progress),
            loop.is_stuck(progress),
            reached.iterations,
        )


def _few(problem: Problem, progress: Progress, settings: Settings) -> int:
    """How many units may be left to a loop of their own.

    Most units of a layer need about as many iterations, and a few, those that spike often, many more. Once no more
    than an eighth is left, the loop goes on with these alone. Where it is short, compiling a second one costs more
    than that saves.
    """
    units = progress.t.size
    return units // 8 if units * _likely_length(problem, settings) >= 2**20 else 0


def _likely_length(problem: Problem, settings: Settings) -> int:
    """How many iterations the busiest unit is likely to need."""
    # One for every arrival, four for a spike, and some for the steps in between.
    arrivals, spike = problem.arrivals.times.shape[2], 4
    if settings.cells:
        # A cell takes one, and a spike besides its four the arrivals of its cell.
        arrivals, spike = settings.cells, spike + arrivals // settings.cells
    return arrivals + spike * settings.max_spikes + 32


class _Plan(eqx.Module):
    """From where the loop goes, and how far."""

    problem: Problem
    progress: Progress
    ts: Float[Array, " ts"] | None
    steps: Int[Array, ""]  # how many iterations there may be
    settings: Settings
    memory: int = eqx.field(static=True)
    left: int = eqx.field(static=True)  # how many units need not be finished


class _Reached(eqx.Module):
    """How far the loop came. Of the progress, only the point is differentiated."""

    progress: Progress
    trains: Trains
    found: Point | None
    iterations: Int[Array, ""]


def _follow_the_rest(plan: _Plan, times: Array, t0: Array, reached: _Reached) -> _Reached:
    """To the end with the units that are not finished, side by side."""
    problem, settings, ts = plan.problem, plan.settings, plan.ts
    some = Some.first(~loop.is_finished(problem, settings, reached.progress)[..., 0], plan.left)
    leads = Progress.leads(reached.progress), 1, None if ts is None else 1
    before = some.of((reached.progress, reached.trains, reached.found), leads)
    start, trains, found = before
    # Where there are fewer, the last ones rest.
    start = eqx.tree_at(lambda start: start.h, start, jnp.where(some.exists[..., None], start.h, 0.0))
    neuron = jax.tree.map(lambda x: some.of(x) if eqx.is_array(x) and x.ndim else x, problem.neuron)
    problem = dataclasses.replace(problem, neuron=neuron, places=some.places)
    steps = plan.steps - reached.iterations
    end = _reach(_Plan(problem, start, ts, steps, settings, plan.memory, 0), times, t0)
    # The spikes and the points before the start are known already.
    number = indices(settings.max_spikes)[:, None, None, None]
    trains = jax.tree.map(lambda old, new: jnp.where(number < start.count, old, new), trains, end.trains)
    if ts is not None:
        found = _choose(ts[:, None, None, None] < start.t, found, end.found)
    whole = reached.progress, reached.trains, reached.found
    return _Reached(*some.into(whole, (end.progress, trains, found), leads), reached.iterations + end.iterations)


class _Source(eqx.Module):
    """All that is differentiated by."""

    neuron: AbstractNeuron
    weight: PyTree[Array]
    gains: PyTree[Array] | None
    table: Table | None
    start: Point
    times: Float[Array, "batch lanes spikes"]
    t0: Float[Array, ""]

    @classmethod
    def of(cls, plan: _Plan, times: Array, t0: Array) -> "_Source":
        """That of a plan."""
        problem = plan.problem
        table = None if problem.cells is None else problem.cells.table
        return cls(problem.neuron, problem.weight, problem.gains, table, _point(plan.progress), times, t0)

    def into(self, plan: _Plan) -> _Plan:
        """The plan with this in it."""
        cells, start = plan.problem.cells, self.start
        cells = None if cells is None else dataclasses.replace(cells, table=self.table)
        own = {"neuron": self.neuron, "weight": self.weight, "gains": self.gains, "cells": cells}
        problem = dataclasses.replace(plan.problem, **own)
        progress = dataclasses.replace(plan.progress, t=start.t, state=start.state, filters=start.filters)
        return dataclasses.replace(plan, problem=problem, progress=progress)


def _reach(plan: _Plan, times: Array, t0: Array) -> _Reached:
    """Runs the loop; differentiable by the problem, the point from which it starts, the times and `t0`."""
    floats, rest = eqx.partition(_Source.of(plan, times, t0), eqx.is_inexact_array)
    others, static = eqx.partition((rest, plan), eqx.is_array)
    others = lax.stop_gradient(others)

    def unpack(floats, others):
        rest, plan = eqx.combine(others, static)
        source = eqx.combine(floats, rest)
        return source, source.into(plan)

    @jax.custom_vjp
    def reached(floats, others):
        return _forward(unpack(floats, others)[1], stores=False)[0]

    def forward(floats, others):
        reached, rows = _forward(unpack(floats, others)[1], stores=True)
        return reached, (floats, others, reached, rows)

    def backward(residual, cotangent):
        floats, others, reached, rows = residual
        # JAX may hand a constant back as a number.
        floats = jax.tree.map(jnp.asarray, floats)
        gradient = _backward(*unpack(floats, others), reached, rows, cotangent)
        return eqx.filter(gradient, eqx.is_inexact_array), None

    reached.defvjp(forward, backward)
    return reached(floats, others)


def _forward(plan: _Plan, stores: bool) -> tuple[_Reached, Row | None]:
    """Runs the loop, segment by segment: a segment is as many iterations as there is room for rows.

    The rows are those of the last segment.
    """
    problem, progress, settings, ts = plan.problem, plan.progress, plan.settings, plan.ts
    row = loop.idle_row(problem, progress)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(row))
    length = _segment_length(plan, plan.memory // size)
    rows = (
        jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), row)
        if stores or ts is not None
        else None
    )
    found = None if ts is None else jax.tree.map(lambda x: jnp.broadcast_to(x, (len(ts), *x.shape)), _point(progress))
    trains = loop.empty_trains(problem, progress, settings.max_spikes)

    def goes_on(carry):
        iterations, progress, *_ = carry
        return (iterations < plan.steps) & (loop.unfinished(problem, settings, progress) > plan.left)

    def segment(carry):
        iterations, progress, trains, rows, found = carry
        limit = jnp.minimum(iterations + length, plan.steps).astype(jnp.int32)
        progress, trains, rows, after = loop.run(
            problem, settings, progress, trains, rows, iterations, limit, plan.left
        )
        if found is not None:
            place, here = _places(ts, rows.t, after - iterations)
            found = _choose(here, _take(_point(rows), place), found)
        return after, progress, trains, rows, found

    carry = (jnp.int32(0), progress, trains, rows, found)
    iterations, progress, trains, rows, found = lax.while_loop(goes_on, segment, carry)
    if found is not None:
        end = _point(progress)
        found = _choose(end.t <= ts[:, None, None, None], end, found)
    return _Reached(progress, trains, found, iterations), rows if stores else None


def _segment_length(plan: _Plan, room: int) -> int:
    """How many iterations a segment has, given how many rows there is room for."""
    settings = plan.settings
    if settings.max_steps <= room:
        return settings.max_steps
    if plan.left:
        # Those that spike most are left to another loop.
        settings = dataclasses.replace(settings, max_spikes=-(-settings.max_spikes // 4))
    # Room that is not used costs time, since all of it is cleared first: no more than the loop is likely to need.
    likely = _likely_length(plan.problem, settings)
    return min(max(min(room, likely), 16), settings.max_steps)


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


class _Sums(eqx.Module):
    """What the walk back gathers, apart from the cotangent of the present point."""

    neuron: AbstractNeuron
    weight: PyTree[Array]
    times: Float[Array, "batch lanes spikes"]
    t0: Float[Array, "batch units 1"]
    gains: PyTree[Array] | None
    table: Table | None


class _Walk(eqx.Module):
    """The walk back: how many rows are left, and the cotangents gathered so far."""

    left: Int[Array, ""]
    bar: Point
    count: Int[Array, "batch units neurons"]
    sums: _Sums


def _backward(source: _Source, plan: _Plan, reached: _Reached, rows: Row, cotangent: _Reached) -> _Source:
    """The cotangent of `source`, given those of the spikes, of the end, and of the accepted points before `ts`."""
    settings, ts, found_bar = plan.settings, plan.ts, cotangent.found
    end, length = reached.progress, rows.t.shape[0]
    shape = end.count.shape
    parameters, rest = eqx.partition(source.neuron, eqx.is_inexact_array)
    # A copy for every neuron of every sample, so that the loop adds without sums over the batch.
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, shape if x.ndim == 0 else x.shape), parameters)
    problem = dataclasses.replace(plan.problem, neuron=eqx.combine(copies, rest))

    # The times of `ts` whose accepted point lies ahead of the walk; the others have theirs where it starts.
    waiting = None if ts is None else end.t > ts[:, None, None, None]
    walk = _start_back(source, copies, end, cotangent, waiting)

    def rows_before(iterations, rows):
        """The rows of the segment that ends there; those of the last segment are at hand."""
        if length >= settings.max_steps:
            return rows
        again = jnp.where(iterations == reached.iterations, 0, iterations)
        nothing = loop.empty_trains(problem, plan.progress, 0)
        return loop.run(problem, settings, plan.progress, nothing, rows, jnp.int32(0), again)[2]

    def segment(carry):
        iterations, rows, waiting, walk = carry
        first = (iterations - 1) // length * length
        rows = rows_before(iterations, rows)
        added = None
        if waiting is not None:
            place, here = _places(ts, rows.t, iterations - first)
            added = _gather_back(found_bar, place, here & waiting, rows)
            waiting = waiting & ~here
        walk = eqx.tree_at(lambda walk: walk.left, walk, iterations - first)
        walk = lax.while_loop(
            lambda walk: walk.left > 0,
            lambda walk: _step_back(problem, settings, rows, added, cotangent.trains, walk),
            walk,
        )
        return first, rows, waiting, walk

    carry = (reached.iterations, rows, waiting, walk)
    *_, walk = lax.while_loop(lambda carry: carry[0] > 0, segment, carry)
    sums = walk.sums
    neuron = jax.tree.map(lambda bar, x: jnp.sum(bar) if x.ndim == 0 else bar, sums.neuron, parameters)
    return _Source(neuron, sums.weight, sums.gains, sums.table, walk.bar, sums.times, jnp.sum(sums.t0))


def _start_back(
    source: _Source, copies: AbstractNeuron, end: Progress, cotangent: _Reached, waiting: Array | None
) -> _Walk:
    """The walk where the loop ended, with nothing gathered yet."""
    bar = _point(cotangent.progress)
    if waiting is not None:
        here = _choose(waiting, _zeros(cotangent.found), cotangent.found)
        bar = jax.tree.map(lambda bar, leaf: bar + jnp.sum(leaf, axis=0), bar, here)
    t0, nothing = jnp.zeros_like(end.t), _zeros(source)
    sums = _Sums(_zeros(copies), nothing.weight, nothing.times, t0, nothing.gains, nothing.table)
    return _Walk(jnp.int32(0), bar, end.count, sums)


def _step_back(
    problem: Problem, settings: Settings, rows: Row, added: Point | None, trains_bar: Trains, walk: _Walk
) -> _Walk:
    """The walk over one row: the cotangent after it becomes the one before it."""
    left = walk.left - 1
    row = jax.tree.map(lambda rows: rows[left], rows)
    count = walk.count - row.fired[0].astype(jnp.int32)
    emitted = _emitted(trains_bar, count, row)
    bar = eqx.tree_at(lambda bar: bar.t, walk.bar, walk.bar.t + jnp.sum(emitted.times, axis=2, keepdims=True))

    places = problem.places
    arrival, spike = problem.arrivals.at(places, row.cursor)
    arrived, landed = row.action == ARRIVED, _landed(row)
    end = problem.t1 if problem.cells is None else problem.cells.ends[row.cell]
    stop = jnp.where(arrived, arrival, end)
    entry = None if problem.cells is None else problem.cells.table.at(places, row.cell)
    weight, gain = loop.weight_of(problem, spike)
    parameters, rest = eqx.partition(problem.neuron, eqx.is_inexact_array)

    def forward(parameters, point, stop, weight, gain, entry):
        moved = eqx.tree_at(lambda p: p.neuron, problem, eqx.combine(parameters, rest))
        return redo(moved, settings, row, point, stop, loop.scaled(weight, gain), entry)

    _, pull = jax.vjp(forward, parameters, Point(row.t, row.state, row.filters), stop, weight, gain, entry)
    parameters_bar, point_bar, stop_bar, weight_bar, gain_bar, entry_bar = pull((bar, emitted.payload))
    happened = row.action <= FIRED_AT_ONCE
    bar = _choose(happened, point_bar, walk.bar)
    if added is not None:
        bar = jax.tree.map(lambda bar, added: bar + added[left], bar, added)

    source, place = problem.arrivals.source_of(places, spike), (*problem.arrivals.lane(places), spike)

    def add(where, sums, bars):
        return jax.tree.map(lambda sum, bar: sum.at[where].add(jnp.where(arrived, bar, 0.0)), sums, bars)

    t0, table = _cell_sums(problem, walk.sums, row, jnp.where(landed & ~arrived, stop_bar, 0.0), entry_bar)
    sums = _Sums(
        jax.tree.map(jnp.add, walk.sums.neuron, _choose(happened, parameters_bar, _zeros(parameters_bar))),
        add((source, places.unit, indices(count.shape[2])), walk.sums.weight, weight_bar),
        add(place, walk.sums.times, stop_bar),
        t0,
        add(place, walk.sums.gains, gain_bar),
        table,
    )
    return _Walk(left, bar, count, sums)


def _emitted(trains_bar: Trains, count: Int[Array, "batch units neurons"], row: Row) -> Trains:
    """The cotangent of the spike that the row emitted, number `count`."""
    recorded = row.fired[0] & (count < trains_bar.times.shape[0])

    def leaf(bar):
        return jnp.where(recorded, jnp.take_along_axis(bar, count[None], axis=0, mode="clip")[0], 0.0)

    return jax.tree.map(leaf, trains_bar)


def _cell_sums(problem: Problem, sums: _Sums, row: Row, stop_bar: Array, entry_bar: Table | None):
    """The cotangents of `t0`, through the ends of the cells, and of the table."""
    if problem.cells is None or sums.table is None or entry_bar is None:
        return sums.t0, None
    share = grid.share_of_start(row.cell, problem.cells.ends.shape[0], stop_bar.dtype)
    return sums.t0 + share * stop_bar, sums.table.add(problem.places, row.cell, row.action == SPANNED, entry_bar)


def _point(at: Progress | Row) -> Point:
    return Point(at.t, at.state, at.filters)


def _zeros(tree: PyTree) -> Any:
    return jax.tree.map(jnp.zeros_like, eqx.filter(tree, eqx.is_array))


def _choose(where: Bool[Array, "*batch 1"], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """As `select`, with any number of axes before the last one of the clock."""

    def leaf(new, old):
        return jnp.where(where.reshape(where.shape + (1,) * (old.ndim - where.ndim)), new, old)

    return jax.tree.map(leaf, new, old)


def _places(ts: Array, t: Float[Array, "rows batch units 1"], length: Array) -> tuple[Array, Array]:
    """The last row that starts at or before each time of `ts`, and whether there is one."""
    is_row = (indices(t.shape[0]) < length)[:, None, None, None]
    before = jnp.sum((t <= ts[:, None, None, None, None]) & is_row, axis=1)
    return jnp.maximum(before - 1, 0), before > 0


def _take(rows: PyTree[Array], place: Int[Array, "ts batch units 1"]) -> PyTree[Array]:
    """The row at each place."""

    def leaf(rows):
        index = place.reshape(place.shape + (1,) * (rows.ndim - place.ndim))
        return jnp.take_along_axis(rows, index, axis=0)

    return jax.tree.map(leaf, rows)


def _gather_back(bar: Point, place: Array, where: Array, rows: Row) -> Point:
    """The transpose of `_take`, from where `where` holds."""
    batch, units = indices(place.shape[1])[:, None], indices(place.shape[2])

    def leaf(bar, rows):
        return jnp.zeros_like(rows).at[place[..., 0], batch, units].add(bar)

    return jax.tree.map(leaf, _choose(where, bar, _zeros(bar)), _point(rows))
