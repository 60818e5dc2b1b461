"""The derivative of the event loop: the accepted steps, walked backwards.

Each accepted step is a map from one accepted point to the next. A step to a spike has the length h that solves
g(Φ(y, h)) = 0, so that dh = -(∂g at fixed h) / (∇g · Φ_h), with the derivative Φ_h of the discrete step itself.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from .._neuron import AbstractNeuron
from .._synapse import evolve_filters
from . import cells as grid, loop
from .cells import Line, Table
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
    Trains,
)
from .segments import choose, Plan, point_of, Reached, rows_at
from .step import conditions, move
from .units import add_scaled, indices, over_units, select, spread


class Smooth(eqx.Module):
    """All that spikes depend on smoothly, and are differentiated by."""

    neuron: AbstractNeuron
    weight: PyTree[Array]
    gains: PyTree[Array] | None
    table: Table | None
    start: Point
    times: Float[Array, "batch lanes spikes"]
    t0: Float[Array, ""]

    @classmethod
    def of(cls, plan: Plan, times: Array, t0: Array) -> "Smooth":
        """That of a plan."""
        problem = plan.problem
        table = None if problem.cells is None else problem.cells.table
        return cls(problem.neuron, problem.weight, problem.gains, table, point_of(plan.progress), times, t0)

    def into(self, plan: Plan) -> Plan:
        """The plan with this in it."""
        cells, start = plan.problem.cells, self.start
        cells = None if cells is None else dataclasses.replace(cells, table=self.table)
        own = {"neuron": self.neuron, "weight": self.weight, "gains": self.gains, "cells": cells}
        problem = dataclasses.replace(plan.problem, **own)
        progress = dataclasses.replace(plan.progress, t=start.t, state=start.state, filters=start.filters)
        return dataclasses.replace(plan, problem=problem, progress=progress)


def walk_back(smooth: Smooth, plan: Plan, reached: Reached, rows: Row, cotangent: Reached) -> Smooth:
    """The cotangent of `smooth`, given those of the spikes, of the end, and of the accepted points before `ts`."""
    settings, ts, found_bar = plan.settings, plan.ts, cotangent.found
    end, length = reached.progress, rows.t.shape[0]
    shape = end.count.shape
    parameters, rest = eqx.partition(smooth.neuron, eqx.is_inexact_array)
    # A copy for every neuron of every sample, so that the loop adds without sums over the batch.
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, shape if x.ndim == 0 else x.shape), parameters)
    problem = dataclasses.replace(plan.problem, neuron=eqx.combine(copies, rest))

    # The times of `ts` whose accepted point lies ahead of the walk; the others have theirs where it starts.
    waiting = None if ts is None else end.t > ts[:, None, None, None]
    walk = _start_back(smooth, copies, end, cotangent, waiting)

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
            place, here = rows_at(ts, rows.t, iterations - first)
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
    return Smooth(neuron, sums.weight, sums.gains, sums.table, walk.bar, sums.times, jnp.sum(sums.t0))


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


def _start_back(
    smooth: Smooth, copies: AbstractNeuron, end: Progress, cotangent: Reached, waiting: Array | None
) -> _Walk:
    """The walk where the loop ended, with nothing gathered yet."""
    bar = point_of(cotangent.progress)
    if waiting is not None:
        here = choose(waiting, _zeros(cotangent.found), cotangent.found)
        bar = jax.tree.map(lambda bar, leaf: bar + jnp.sum(leaf, axis=0), bar, here)
    t0, nothing = jnp.zeros_like(end.t), _zeros(smooth)
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
    arrived, landed = row.action == ARRIVED, loop.has_landed(row.action)
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
    bar = choose(happened, point_bar, walk.bar)
    if added is not None:
        bar = jax.tree.map(lambda bar, added: bar + added[left], bar, added)

    source, place = problem.arrivals.source_of(places, spike), (*problem.arrivals.lane(places), spike)

    def add(where, sums, bars):
        return jax.tree.map(lambda sum, bar: sum.at[where].add(jnp.where(arrived, bar, 0.0)), sums, bars)

    t0, table = _cell_sums(problem, walk.sums, row, jnp.where(landed & ~arrived, stop_bar, 0.0), entry_bar)
    sums = _Sums(
        jax.tree.map(jnp.add, walk.sums.neuron, choose(happened, parameters_bar, _zeros(parameters_bar))),
        add((source, places.unit, indices(count.shape[2])), walk.sums.weight, weight_bar),
        add(place, walk.sums.times, stop_bar),
        t0,
        add(place, walk.sums.gains, gain_bar),
        table,
    )
    return _Walk(left, bar, count, sums)


def redo(
    problem: Problem, settings: Settings, row: Row, point: Point, stop: Array, weight: PyTree, entry: Table | None
) -> tuple[Point, PyTree]:
    """The accepted point after `point`, and what a spike there carries, as a differentiable map.

    The `row` says what happened. A step that was not cut short by an event ended at `stop`. `weight` is that of the
    arrival there, and `entry` what the table of the cells holds for the cell that it spanned.
    """
    crossed, capped = row.action == FIRED, row.action == CAPPED
    landed, spanned = loop.has_landed(row.action), row.action == SPANNED
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


def _emitted(bar: Trains, count: Int[Array, "batch units neurons"], row: Row) -> Trains:
    """The cotangent of the spike that the row emitted, number `count`."""
    recorded = row.fired[0] & (count < bar.times.shape[0])

    def leaf(bar):
        return jnp.where(recorded, jnp.take_along_axis(bar, count[None], axis=0, mode="clip")[0], 0.0)

    return Trains(*jax.tree.map(leaf, (bar.times, bar.payload)))


def _cell_sums(problem: Problem, sums: _Sums, row: Row, stop_bar: Array, entry_bar: Table | None):
    """The cotangents of `t0`, through the ends of the cells, and of the table."""
    if problem.cells is None or sums.table is None or entry_bar is None:
        return sums.t0, None
    share = grid.share_of_start(row.cell, problem.cells.ends.shape[0], stop_bar.dtype)
    return sums.t0 + share * stop_bar, sums.table.add(problem.places, row.cell, row.action == SPANNED, entry_bar)


def _gather_back(bar: Point, place: Array, where: Array, rows: Row) -> Point:
    """The transpose of taking the row at each place, from where `where` holds."""
    batch, units = indices(place.shape[1])[:, None], indices(place.shape[2])

    def leaf(bar, rows):
        return jnp.zeros_like(rows).at[place[..., 0], batch, units].add(bar)

    return jax.tree.map(leaf, choose(where, bar, _zeros(bar)), point_of(rows))


def _zeros(tree: PyTree) -> Any:
    return jax.tree.map(jnp.zeros_like, eqx.filter(tree, eqx.is_array))
