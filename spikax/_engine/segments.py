"""The loop, segment by segment: as many iterations as there is room for what they did."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from . import loop
from .loop import Point, Problem, Progress, Row, Settings, Trains
from .units import indices


class Plan(eqx.Module):
    """From where the loop goes, and how far."""

    problem: Problem
    progress: Progress
    ts: Float[Array, " ts"] | None
    steps: Int[Array, ""]  # how many iterations there may be
    settings: Settings
    memory: int = eqx.field(static=True)
    few: int = eqx.field(static=True)  # how many units may be left unfinished


class Reached(eqx.Module):
    """How far the loop came. Of the progress, only the point is differentiated."""

    progress: Progress
    trains: Trains
    found: Point | None
    iterations: Int[Array, ""]


def run(plan: Plan, stores: bool) -> tuple[Reached, Row | None]:
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
    found = None if ts is None else jax.tree.map(lambda x: jnp.broadcast_to(x, (len(ts), *x.shape)), point_of(progress))
    trains = loop.empty_trains(problem, progress, settings.max_spikes)

    def goes_on(carry):
        iterations, progress, *_ = carry
        return (iterations < plan.steps) & (loop.unfinished(problem, settings, progress) > plan.few)

    def segment(carry):
        iterations, progress, trains, rows, found = carry
        limit = jnp.minimum(iterations + length, plan.steps).astype(jnp.int32)
        progress, trains, rows, after = loop.run(problem, settings, progress, trains, rows, iterations, limit, plan.few)
        if found is not None:
            place, here = rows_at(ts, rows.t, after - iterations)
            found = choose(here, _take(point_of(rows), place), found)
        return after, progress, trains, rows, found

    carry = (jnp.int32(0), progress, trains, rows, found)
    iterations, progress, trains, rows, found = lax.while_loop(goes_on, segment, carry)
    if found is not None:
        end = point_of(progress)
        found = choose(end.t <= ts[:, None, None, None], end, found)
    return Reached(progress, trains, found, iterations), rows if stores else None


def _segment_length(plan: Plan, room: int) -> int:
    """How many iterations a segment has, given how many rows there is room for."""
    most, likely = plan.settings.max_steps, likely_length(plan.problem, plan.settings)
    # Room that is not used costs time, since all of it is cleared first: where rows are large, no more than the loop is
    # likely to need.
    wanted = max(likely, min(most, _SMALL)) if room >= min(most, _SMALL) else min(room, likely)
    return min(max(min(room, wanted), 16), most)


# So many rows are few where memory has room for them.
_SMALL = 1024


def likely_length(problem: Problem, settings: Settings) -> int:
    """How many iterations the busiest unit is likely to need."""
    # One for every arrival, four for a spike, and some for the steps in between.
    arrivals, spike = problem.arrivals.times.shape[2], 4
    if settings.cells:
        # A cell takes one, and a spike besides its four the arrivals of its cell.
        arrivals, spike = settings.cells, spike + arrivals // settings.cells
    return arrivals + spike * settings.max_spikes + 32


def point_of(at: Progress | Row) -> Point:
    return Point(at.t, at.state, at.filters)


def choose(where: Bool[Array, "*batch 1"], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """As `select`, with any number of axes before the last one of the clock."""

    def leaf(new, old):
        return jnp.where(where.reshape(where.shape + (1,) * (old.ndim - where.ndim)), new, old)

    return jax.tree.map(leaf, new, old)


def rows_at(ts: Array, t: Float[Array, "rows batch units 1"], length: Array) -> tuple[Array, Array]:
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
