"""The derivative of the spikes of a block: a replay of the known spikes as a differentiable map."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.axes import indices
from .._common.compaction import All
from .._common.differentiation import held, with_reverse_rule
from .._common.event_time import derivative_of_time
from .._common.flow import AbstractFlow
from .._common.trees import add, zeros_like
from .._common.vectorized import most_of_members
from .free_response import Change, entry, Knot, Knots
from .spike_search import Record, Search, Searcher


class KnownSpike(eqx.Module):
    """A known spike of each neuron, where it `happens`."""

    happens: Bool[Array, "batch units"]
    at_once: Bool[Array, "batch units"]  # the condition was above zero at the start of the interval
    place: Int[Array, "batch units"]  # of the knot before it
    t: Float[Array, "batch units"]


def spike_update(flow: AbstractFlow, spike: KnownSpike, knot: Knot, change: Change) -> Change:
    """The change due to a spike, given the change of the spike before it, as a differentiable map.

    A spike `at_once` has the time of its cause: the spike before it, or the knot.
    """
    t = held(jnp.where(spike.happens, spike.t, knot.t), knot.t)
    v_free, x = knot.free(flow, t)
    v = v_free + change.at(flow, t)
    speed_free, speed = held((flow.speed(v_free, x), flow.speed(v, x)), knot.t)
    moves = spike.happens & ~spike.at_once
    cause = jnp.where(change.t > knot.t, change.t, knot.t)
    shift = derivative_of_time(flow.condition(v), flow.steepness(speed), moves, cause)
    after = flow.reset(t + shift, v + shift * speed)
    new = Change(t + shift, after - (v_free + shift * speed_free))
    return jax.tree.map(lambda new, old: jnp.where(spike.happens, new, old), new, change)


def known_spike(record: Record, number: Array, exists: Array, start: Array) -> KnownSpike:
    """The spike `number` of each neuron, if it exists."""
    place = jnp.where(exists, entry(record.place, number), 0)
    t = jnp.where(exists, entry(record.t, number), start)
    return KnownSpike(exists, exists & entry(record.at_once, number), place, t)


def replay_search(given: tuple[Searcher, Array, Record], known: Search) -> Search:
    """A search in a block, as a differentiable map of the flow, the knots, and the record before it."""
    (searcher, first, record), found = given, known.record
    flow, knots, after = searcher.flow, searcher.block.knots, known.state.count
    start = knots.start(first.shape)

    def step(carry):
        i, change, record = carry
        number = first + i
        exists = number < jnp.minimum(after, found.t.shape[0])
        spike = known_spike(found, number, exists, start)
        change = spike_update(flow, spike, knots.at(spike.place), change)
        t, jump = All().write((record.t, record.jump), number, exists, (change.t, change.jump))
        return i + 1, change, dataclasses.replace(record, t=t, jump=jump)

    carry = jnp.int32(0), Change.none(start, knots.v[0]), record
    spikes = most_of_members(jnp.max(after - first))
    _, change, record = lax.while_loop(lambda carry: carry[0] < spikes, step, carry)
    record = dataclasses.replace(found, t=record.t, jump=record.jump)
    return dataclasses.replace(known, record=record, state=dataclasses.replace(known.state, change=change))


class _BackwardState(eqx.Module):
    """The state of the backward pass over the spikes of a block, with the cotangents so far."""

    left: Int[Array, ""]
    change: Change
    flow: PyTree[Array]
    knots: Knots


def replay(flow: AbstractFlow, knots: Knots, record: Record, first: Array, after: Array) -> Record:
    """The record, differentiable with respect to the neurons and the knots for the spikes `first` up to `after`."""

    def forward(_, constants):
        record, *_ = constants
        return Change(record.t, record.jump), None

    def backward(smooth, constants, _, bars):
        back = _backward(*smooth, *constants, bars)
        return back.flow, back.knots

    found = with_reverse_rule(forward, backward)((flow, knots), (record, first, after))
    return Record(found.t, found.jump, record.place, record.at_once)


def _backward(
    flow: AbstractFlow, knots: Knots, record: Record, first: Array, after: Array, bars: Change
) -> _BackwardState:
    parts, rest = eqx.partition(flow, eqx.is_inexact_array)
    start = knots.start(first.shape)
    batch, units = indices(first.shape[0])[:, None], indices(first.shape[1])
    lanes = knots.lanes(first.shape)

    def step(back: _BackwardState) -> _BackwardState:
        number = first + back.left - 1
        exists = (number < after) & (number < record.t.shape[0])
        spike = known_spike(record, number, exists, start)
        place = spike.place
        bar = jax.tree.map(
            lambda carried, rows: jnp.where(exists, carried + entry(rows, number), 0.0), back.change, bars
        )

        def updated(parts, knot, previous):
            return spike_update(eqx.combine(parts, rest), spike, knot, previous)

        _, pull = jax.vjp(updated, parts, knots.at(place), record.change(number - 1, first, start))
        parts_bar, knot, previous = pull(bar)
        sums = add(back.flow, parts_bar)
        t, v, x = back.knots.t, back.knots.v, back.knots.x
        scattered = Knots(
            t.at[(place, *lanes)].add(knot.t),
            _add(v, (place, ..., batch, units), knot.v),
            _add(x, (place, ..., batch, units), knot.x),
        )
        return _BackwardState(back.left - 1, previous, sums, scattered)

    zeros = zeros_like((Change(start, knots.v[0]), parts, knots))
    return lax.while_loop(
        lambda back: back.left > 0, step, _BackwardState(most_of_members(jnp.max(after - first)), *zeros)
    )


def _add(rows: Array, where: tuple, row: Array) -> Array:
    """The rows, with `row` added at the place of each neuron."""
    # With indices on both sides of a slice, NumPy's indexing moves their axes to the front.
    return rows.at[where].add(jnp.moveaxis(row, (-2, -1), (0, 1)))
