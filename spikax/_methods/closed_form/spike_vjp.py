"""The derivative of the spikes of a block: a replay of the known spikes as a differentiable map."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.compaction import ALL, All, Subset
from .._common.differentiation import held, with_reverse_rule
from .._common.event_time import derivative_of_time
from .._common.flow import AbstractFlow
from .._common.trees import add, zeros_like
from .._common.vectorized import any_member, most_of_members
from .free_response import Change, Knot, Knots
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


def known_spike(record: Record, number: Array, exists: Array, start: Array, who: All | Subset = ALL) -> KnownSpike:
    """The spike `number` of each neuron, if it exists."""
    place = jnp.where(exists, who.row(record.place, number), 0)
    t = jnp.where(exists, who.row(record.t, number), start)
    return KnownSpike(exists, exists & who.row(record.at_once, number), place, t)


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
        t, jump = ALL.write((record.t, record.jump), number, exists, (change.t, change.jump))
        return i + 1, change, dataclasses.replace(record, t=t, jump=jump)

    carry = jnp.int32(0), Change.none(start, knots.v[0]), record
    spikes = most_of_members(jnp.max(after - first))
    _, change, record = lax.while_loop(lambda carry: carry[0] < spikes, step, carry)
    record = dataclasses.replace(found, t=record.t, jump=record.jump)
    return dataclasses.replace(known, record=record, state=dataclasses.replace(known.state, change=change))


def replay(flow: AbstractFlow, knots: Knots, record: Record, first: Array, after: Array, group: int) -> Record:
    """The record, differentiable with respect to the neurons and the knots for the spikes `first` up to `after`.

    The backward pass takes the neurons that spike, `group` of them at a time.
    """

    def forward(_, constants):
        record, *_ = constants
        return Change(record.t, record.jump), None

    def backward(smooth, constants, _, bars):
        sums = _backward(_Spikes(*smooth, *constants, bars), group)
        return sums.flow, sums.knots

    found = with_reverse_rule(forward, backward)((flow, knots), (record, first, after))
    return Record(found.t, found.jump, record.place, record.at_once)


class _Spikes(eqx.Module):
    """The spikes of a block, with the cotangents of their times and changes."""

    flow: AbstractFlow
    knots: Knots
    record: Record
    first: Int[Array, "batch units"]
    after: Int[Array, "batch units"]
    bars: Change


class _Sums(eqx.Module):
    """The cotangents of the flow and of the knots so far."""

    flow: PyTree[Array]
    knots: Knots


def _backward(spikes: _Spikes, group: int) -> _Sums:
    sums = _Sums(*zeros_like((eqx.filter(spikes.flow, eqx.is_inexact_array), spikes.knots)))
    if group >= spikes.first.size:
        return _through(ALL, spikes, sums)

    def goes_on(carry):
        return any_member(jnp.any(carry[0]))

    def follow(carry):
        left, sums = carry
        subset = Subset.first(left, group)
        return subset.scatter_last(left, jnp.zeros_like(subset.exists)), _through(subset, spikes, sums)

    return lax.while_loop(goes_on, follow, (spikes.after > spikes.first, sums))[1]


class _BackwardState(eqx.Module):
    """The state of the backward pass over the spikes of some neurons, with the cotangents so far."""

    left: Int[Array, ""]
    change: Change
    flow: PyTree[Array]  # of these neurons
    knots: Knots  # of all neurons


def _through(who: All | Subset, spikes: _Spikes, sums: _Sums) -> _Sums:
    """The sums with the cotangents from all spikes of some neurons."""
    knots, record, bars = spikes.knots, spikes.record, spikes.bars
    parts, rest = eqx.partition(spikes.flow, eqx.is_inexact_array)
    parts, pull_parts = jax.vjp(lambda parts: who.gather_last(parts), parts)
    rest = who.gather_last(rest)
    start = knots.start(spikes.first.shape)
    first, after, start = who.gather_last((spikes.first, spikes.after, start))

    def step(back: _BackwardState) -> _BackwardState:
        number = first + back.left - 1
        exists = who.exists & (number < after) & (number < record.t.shape[0])
        spike = known_spike(record, number, exists, start, who)
        bar = jax.tree.map(
            lambda carried, rows: jnp.where(exists, carried + who.row(rows, number), 0.0), back.change, bars
        )

        def updated(parts, knot, previous):
            return spike_update(eqx.combine(parts, rest), spike, knot, previous)

        given = knots.at(spike.place, who), record.change(number - 1, first, start, who)
        _, pull = jax.vjp(updated, parts, *given)
        parts_bar, knot, previous = pull(bar)
        rows = (back.knots.t, knot.t), (back.knots.v, knot.v), (back.knots.x, knot.x)
        added = Knots(*(who.add_to_row(rows, spike.place, row) for rows, row in rows))
        return _BackwardState(back.left - 1, previous, add(back.flow, parts_bar), added)

    change = record.change(first - 1, first, start, who)
    spiking = jnp.where(who.exists, after - first, 0)
    back = _BackwardState(most_of_members(jnp.max(spiking)), *zeros_like((change, parts)), sums.knots)
    back = lax.while_loop(lambda back: back.left > 0, step, back)
    (parts_bar,) = pull_parts(back.flow)
    return _Sums(add(sums.flow, parts_bar), back.knots)
