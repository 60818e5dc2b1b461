"""The continuous adjoint of the event loop, from event to event.

The forward pass logs the events of each unit: arrivals, spikes and other events, and the end. The backward pass replays
the motion between two events by the differential equation and its adjoint, and each event exactly, as the derivative of
single steps does. So it needs the memory of the events, and not that of the steps.

Source: Wunderlich and Pehle, Event-based backpropagation can compute exact gradients for spiking neural networks,
Scientific Reports 11 (2021), for neurons that are linear.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ..._neuron import events_of
from .._common.arrivals import Sent
from .._common.axes import indices
from .._common.differentiation import with_reverse_rule
from .._common.motion import AbstractMotion
from .._common.trees import tree_where, zeros_like
from .._common.vectorized import most_of_members
from . import loop
from .backward import backpropagate_entries, Smooth, start_back, sums_of
from .checkpointing import entries_at, LoopPlan, LoopResult, point_of, taken
from .problem import Action, is_any, LoopState, Point, Problem, TapeEntry


class EventLog(eqx.Module):
    """The intervals between the events of each unit: the start of each, and the event at its end."""

    entries: TapeEntry  # with the axis of the intervals first
    count: Int[Array, "batch units 1"]
    start: Point  # of the current interval

    @classmethod
    def blank(cls, plan: LoopPlan) -> "EventLog":
        """A log with room for all arrivals, for the spikes that can be recorded, and for as many other events."""
        problem = plan.problem
        arrivals = problem.arrivals.times.shape[0]
        neurons = plan.loop_state.count.shape[2]
        places = arrivals + (plan.settings.max_spikes + 1) * neurons * len(events_of(problem.neuron)) + 1
        entry = loop.idle_entry(problem, plan.loop_state)
        entries = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (places, *leaf.shape)), entry)
        return cls(entries, jnp.zeros(plan.loop_state.t.shape, jnp.int32), point_of(plan.loop_state))

    @property
    def overflows(self) -> Bool[Array, "batch units 1"]:
        """Whether more events happened than there is room for."""
        return self.count > self.entries.t.shape[0]

    def with_entry(self, entry: TapeEntry, new: LoopState) -> "EventLog":
        """With the interval that an iteration ended, in units in which it did."""
        ends = is_any(entry.action, Action.ARRIVED | Action.ENDED | Action.FIRED | Action.FIRED_AT_ONCE)
        return self._with(entry, new, ends)

    def closed(self, problem: Problem, end: LoopState) -> "EventLog":
        """With the start of the interval that was under way in units that failed, for the states saved in it."""
        return self._with(loop.idle_entry(problem, end), end, self.start.t < end.t)

    def _with(self, entry: TapeEntry, new: LoopState, ends: Bool[Array, "batch units 1"]) -> "EventLog":
        start, place = self.start, jnp.where(ends, self.count, self.entries.t.shape[0])[..., 0]
        own = {"t": start.t, "state": start.state, "filters": start.filters, "h": new.t - start.t}
        entry = dataclasses.replace(entry, **own)
        batch, units = indices(place.shape[0])[:, None], indices(place.shape[1])

        def written(rows, row):
            return rows.at[place, batch, units].set(row, mode="drop")

        fired = jnp.moveaxis(self.entries.fired, 1, -1), jnp.moveaxis(entry.fired, 0, -1)
        entries = jax.tree.map(written, _without_fired(self.entries), _without_fired(entry))
        entries = dataclasses.replace(entries, fired=jnp.moveaxis(written(*fired), -1, 1))
        return EventLog(entries, self.count + ends.astype(jnp.int32), tree_where(ends, point_of(new), start))


def _without_fired(entry: TapeEntry) -> TapeEntry:
    return dataclasses.replace(entry, fired=None)


def reach_by_events(plan: LoopPlan, sent: Sent, t0: Array, motion: AbstractMotion) -> LoopResult:
    """Runs the loop, differentiable as by `reach`, with the derivative of the differential equation."""

    def forward(arguments, plan):
        smooth, _ = arguments
        plan = smooth.into(plan)
        problem, settings, ts = plan.problem, plan.settings, plan.ts
        trains = loop.empty_trains(problem, plan.loop_state, settings.max_spikes)

        def write(log, number, entry, new):
            return log.with_entry(entry, new)

        zero = jnp.int32(0)
        end, trains, log, iterations = loop.run(
            problem, settings, plan.loop_state, trains, EventLog.blank(plan), zero, plan.steps, write=write
        )
        log = log.closed(problem, end)
        # There is room for as many events of each kind as for spikes, so too many of them are reported as spikes.
        count = jnp.where(log.overflows, jnp.maximum(end.count, settings.max_spikes + 1), end.count)
        end = dataclasses.replace(end, count=count)
        found = None
        if ts is not None:
            place, _ = entries_at(ts, log.entries.t, log.count)
            last = point_of(end)
            found = tree_where(end.t <= ts[:, None, None, None], last, taken(point_of(log.entries), place))
            # Without the whole log, the last event before each time is not known.
            unknown = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), found.state)
            known = jnp.broadcast_to(~log.overflows, found.t.shape)
            found = dataclasses.replace(found, state=tree_where(known, found.state, unknown))
        return LoopResult(end, trains, found, iterations), (end, log)

    def backward(arguments, plan, residual, cotangent):
        (smooth, motion), (end, log) = arguments, residual
        plan = smooth.into(plan)
        # Units with too many events have failed, and their log is not complete. They have no derivative.
        failed, entries = log.overflows, log.entries
        idle = {"action": jnp.where(failed, int(Action.IDLE), entries.action).astype(entries.action.dtype)}
        entries = dataclasses.replace(entries, fired=entries.fired & ~failed, **idle)
        waiting = None if plan.ts is None else end.t > plan.ts[:, None, None, None]
        problem, back = start_back(smooth, plan, end, cotangent, waiting)
        _, back = backpropagate_entries(
            problem, plan, motion, entries, log.count, most_of_members(jnp.max(log.count)), cotangent, waiting, back
        )
        back = dataclasses.replace(back, bar=tree_where(failed, zeros_like(back.bar), back.bar))
        return sums_of(smooth, back), motion

    return with_reverse_rule(forward, backward)((Smooth.of(plan, sent, t0), motion), plan)
