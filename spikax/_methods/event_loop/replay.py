"""An accepted step as a differentiable map from one accepted point to the next.

A step to a spike has the length h that solves g(Φ(y, h)) = 0, see `event_time`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._common.axes import add_scaled, indices, over_units, spread
from .._common.compute_once import compute_once
from .._common.differentiation import held
from .._common.event_time import newton_step
from .._common.events import conditions, payload_of
from .._common.motion import AbstractMotion
from .._common.trees import tree_where
from .advance import jump
from .bins import Line, Table
from .problem import (
    ACCEPTED,
    Action,
    arriving,
    is_any,
    LoopState,
    Point,
    Problem,
    REACHED_STOP,
    scaled,
    Settings,
    TapeEntry,
    Trains,
    weight_of,
)
from .step import OneStep


Iteration = tuple[LoopState, TapeEntry, Trains]  # the state after it, its tape entry, and the spike in it


def replay_iteration(given: tuple[Problem, Settings, LoopState], known: Iteration) -> Iteration:
    """An iteration of the loop, as a differentiable map of the problem and the state before it."""
    (problem, settings, old), (new, entry, spike) = given, known
    bins, places = problem.bins, problem.places
    end, table_entry = problem.t1, None
    if bins is not None:
        end, table_entry = bins.ends[entry.bin], bins.table.at(places, entry.bin)
    stop = jnp.where(entry.action == Action.ARRIVED, old.arrival, end)
    received = arriving(scaled(*weight_of(problem, old.spike)), entry.action == Action.ARRIVED)
    before = Point(old.t, old.state, old.filters)
    after, payload = replay_step(problem, OneStep(settings.stepper), entry, before, stop, received, table_entry)
    after = tree_where(is_any(entry.action, ACCEPTED), after, before)
    arrival, _ = problem.arrivals.at(places, new.cursor)
    own = {"t": after.t, "state": after.state, "filters": after.filters, "arrival": arrival}
    # The length of a step to a spike is not chosen, but follows from its ends.
    h = jnp.where(entry.action == Action.FIRED, after.t - before.t, entry.h)
    entry = dataclasses.replace(entry, t=before.t, state=before.state, filters=before.filters, h=h)
    return dataclasses.replace(new, **own), entry, Trains(after.t, payload, spike.generation)


def replay_step(
    problem: Problem,
    motion: AbstractMotion,
    entry: TapeEntry,
    point: Point,
    stop: Array,
    received: PyTree,
    table_entry: Table | None,
) -> tuple[Point, PyTree]:
    """The accepted point after `point`, and the payload of a spike there, as a differentiable map.

    `entry` is the tape entry of the step. A step to an arrival, to the end of a bin or to `t1` ended at `stop`.
    `received` are the weights of the arrival there, zero without one, and `table_entry` is the table entry of the bin
    that the step spanned.
    """
    crossed, capped = entry.action == Action.FIRED, entry.action == Action.CAPPED
    landed, spanned = is_any(entry.action, REACHED_STOP), entry.action == Action.SPANNED
    h = compute_once(jnp.where(landed, stop - point.t, jnp.where(crossed | capped, entry.h, 0.0)))
    count = entry.fired[0]
    line = () if table_entry is None else (Line(spread(spanned, count), table_entry.mean, table_entry.rise),)

    at = point.t, point.state, point.filters, h
    end, slope = motion.end_and_slope(problem.neuron, *at, *line)
    slope = held(slope, point.t)
    shift = _shift(problem, point.t + h, end[0], slope[0], entry.fired, crossed)
    state, filters = add_scaled(end, shift, slope)
    t = jnp.where(landed, stop, point.t + h + shift)
    payload = payload_of(problem.neuron, t, state, filters)
    state, filters = jump(
        problem, t, state, filters, entry.fired, spread(entry.action == Action.ARRIVED, count), received, payload
    )
    if table_entry is not None:
        filters = tree_where(spread(spanned, count), table_entry.filters, filters)
    return Point(t, state, filters), payload


def _shift(problem: Problem, t: Array, state: PyTree, slope: PyTree, fired: Array, crossed: Array) -> Array:
    """The last Newton step to the crossing. Its derivative is that of the implicit function."""

    def conditions_of(t, state):
        return jnp.stack(over_units(conditions, problem.neuron, t, state))

    g, d = jax.jvp(conditions_of, (t, state), (jnp.ones_like(t), slope))
    # Of several events at the same time, the first in order determines the time.
    flat = jnp.moveaxis(fired & crossed, 0, -1)
    flat = flat.reshape(*flat.shape[:2], -1)
    number = indices(flat.shape[-1])
    leads = number == jnp.min(jnp.where(flat, number, flat.shape[-1]), axis=-1, keepdims=True)
    leads = jnp.moveaxis(leads.reshape(*fired.shape[1:], fired.shape[0]), -1, 0)
    return jnp.sum(newton_step(g, d, leads), axis=(0, 3))[..., None]
