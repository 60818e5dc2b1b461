"""Layers that listen to each other, in windows of time.

Within a window the spikes of the group are found by sweeps over its layers, until none changes. Where no spike arrives
in the window in which it is emitted, as its delay is longer, one sweep is all; and so it is where no layer of the group
reaches itself.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ._engine.adjoint import AbstractAdjoint, Inputs, Outcome
from ._engine.causal import settle, Settled
from ._engine.loop import payload_of, Settings, Standing, Trains
from ._engine.units import indices, over_units
from ._method import AbstractLayerMethod, AbstractMethod
from ._network import Network
from ._neuron import AbstractNeuron
from ._synapse import drive_of
from ._wiring import hear, Heard, Population, Train


class Member(eqx.Module):
    """How a layer is simulated."""

    method: AbstractMethod
    settings: Settings
    ts: Float[Array, " ts"] | None

    def simulate(self, inputs: Inputs, adjoint: AbstractAdjoint, ts: Array | None) -> tuple[Outcome, Any]:
        """The spikes of the layer by itself, and states and drives at `ts`."""
        assert isinstance(self.method, AbstractLayerMethod)
        return self.method.simulate(inputs, self.settings, adjoint, ts)


class Tally(eqx.Module):
    """What the simulation of a layer took, and how it ended."""

    count: Int[Array, "batch neurons"]
    rejected: Int[Array, " batch"]
    finished: Bool[Array, " batch"]
    stuck: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    settled: Bool[Array, " batch"]
    failed_at: Float[Array, " batch"]  # up to when the results are right, as far as this layer is concerned
    iterations: Int[Array, ""]
    sweeps: Int[Array, ""]

    @classmethod
    def empty(cls, batch: int, neurons: int, dtype: Any) -> "Tally":
        """Of a layer that has not been simulated."""
        yes, none = jnp.ones(batch, bool), jnp.zeros(batch, jnp.int32)
        count, never = jnp.zeros((batch, neurons), jnp.int32), jnp.full(batch, jnp.inf, dtype)
        return cls(count, none, yes, ~yes, yes, yes, never, jnp.int32(0), jnp.int32(0))

    @classmethod
    def of(cls, outcome: Outcome) -> "Tally":
        """Of a layer that was simulated once."""
        return cls(
            outcome.count[..., 0],
            outcome.rejected,
            ~_any_of(~outcome.finished),
            _any_of(outcome.stuck),
            outcome.finite,
            jnp.ones(outcome.rejected.shape, bool),
            lax.stop_gradient(outcome.failed_at),
            outcome.iterations,
            jnp.int32(1),
        )

    def after_sweeps(self, settled: Array, sweeps: Array, start: Array) -> "Tally":
        """Of the last of several sweeps over the window from `start` on."""
        failed_at = jnp.where(settled, self.failed_at, jnp.minimum(self.failed_at, start))
        return dataclasses.replace(self, settled=settled, sweeps=sweeps, failed_at=failed_at)

    def and_then(self, later: "Tally") -> "Tally":
        """Of both together, one after the other."""
        return Tally(
            self.count + later.count,
            self.rejected + later.rejected,
            self.finished & later.finished,
            self.stuck | later.stuck,
            self.finite & later.finite,
            self.settled & later.settled,
            jnp.minimum(self.failed_at, later.failed_at),
            self.iterations + later.iterations,
            self.sweeps + later.sweeps,
        )


def _any_of(where: Bool[Array, "batch units 1"]) -> Bool[Array, " batch"]:
    """Whether it holds for any unit. As a sum: JAX differentiates no `any` of what a rule of our own gives."""
    return jnp.sum(jnp.where(where, 1, 0), axis=(1, 2)) > 0


class Span(eqx.Module):
    """A window of time, open at its start and closed at its end; the first one is closed at both."""

    start: Float[Array, ""]
    end: Float[Array, ""]
    after: Float[Array, ""]  # the start, or -inf for the first window


class _Given(eqx.Module):
    """All that a sweep over a window depends on, but the spikes in it."""

    network: Network
    neurons: dict[str, AbstractNeuron]
    members: dict[str, Member]
    outside: dict[str, Train]
    adjoint: AbstractAdjoint
    span: Span
    standing: dict[str, Standing]
    trains: dict[str, Train]  # up to the start of the window
    count: dict[str, Int[Array, "batch neurons"]]


class _Rest(eqx.Module):
    """What a sweep over a window gives besides the spikes."""

    standing: dict[str, Standing]
    saved: dict[str, Any]
    tally: dict[str, Tally]


class Group(eqx.Module):
    """The simulation of layers that listen to each other, up to some time."""

    trains: dict[str, Train]
    saved: dict[str, Any]
    tally: dict[str, Tally]


class _Recurrent(eqx.Module):
    """A group, and how its layers stand."""

    standing: dict[str, Standing]
    group: Group


def simulate_group(
    network: Network,
    populations: dict[str, Population],
    members: dict[str, Member],
    outside: dict[str, Train],
    adjoint: AbstractAdjoint,
    t0: Array,
    t1: Array,
    windows: int,
    quota: dict[str, int],
) -> Group:
    """Simulates layers that listen to each other; `outside` holds the spikes of all other sources.

    The simulation ends with the window in which each neuron of the layers in `quota` has spiked so often, if there are
    any, in all samples.
    """
    neurons = {name: population.neuron for name, population in populations.items()}
    # A few sweeps settle at least one spike.
    limit = max(member.settings.max_steps for member in members.values())

    def onwards(at: _Recurrent, span: Span) -> _Recurrent:
        before = at.group
        count = {name: tally.count for name, tally in before.tally.items()}
        given = _Given(network, neurons, members, outside, adjoint, span, at.standing, before.trains, count)
        found = _settled(given, before.trains, limit)
        start = lax.stop_gradient(span.start)
        tally = {
            name: before.tally[name].and_then(now.after_sweeps(found.settled, found.sweeps, start))
            for name, now in found.rest.tally.items()
        }
        saved = jax.tree.map(jnp.add, before.saved, found.rest.saved)
        return _Recurrent(found.rest.standing, Group(found.value, saved, tally))

    def window(at: _Recurrent, span: Span) -> tuple[_Recurrent, None]:
        if not quota:
            return onwards(at, span), None
        suffices = jnp.stack([jnp.all(at.group.tally[name].count >= n) for name, n in quota.items()])
        return lax.cond(jnp.all(suffices), lambda at, _: at, onwards, at, span), None

    is_ordered = any(train.generation is not None for train in outside.values())
    start = Group(
        trains={
            name: _silent(each, members[name].settings.max_spikes, is_ordered) for name, each in populations.items()
        },
        saved={name: _unsaved(populations[name], m.ts) for name, m in members.items() if m.ts is not None},
        tally={name: Tally.empty(*each.start.h.shape[:2], t0.dtype) for name, each in populations.items()},
    )
    # The edges between windows are no part of the model: for the derivative, they are constants.
    inner = lax.stop_gradient(t0 + (t1 - t0) * jnp.arange(1, windows, dtype=t0.dtype) / windows)
    edges = jnp.concatenate([t0[None], inner, t1[None]])
    after = edges[:-1].at[0].set(-jnp.inf)
    standing = {name: population.start for name, population in populations.items()}
    end, _ = lax.scan(window, _Recurrent(standing, start), Span(edges[:-1], edges[1:], after))
    return end.group


def _settled(given: _Given, guess: dict[str, Train], limit: int) -> Settled:
    """The spikes of the group in a window."""
    if any(given.network.is_recurrent(group) for group in given.network.groups() if set(group) <= set(given.members)):
        return settle(_sweep, _same, _rethought, given, guess, limit)
    # A sweep simulates each layer after all that it listens to.
    value, rest = _sweep(given, guess)
    batch = next(iter(guess.values())).times.shape[0]
    return Settled(value, rest, jnp.ones(batch, bool), jnp.int32(1))


def _silent(population: Population, k: int, is_ordered: bool) -> Train:
    """The trains of neurons that have not spiked."""
    start = population.start
    payload = payload_of(population.neuron, start.h, start.state, start.filters)
    empty = jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:2], k), leaf.dtype), payload)
    shape = *start.h.shape[:2], k
    generation = jnp.zeros(shape, jnp.int32) if is_ordered else None
    return Train(jnp.full(shape, jnp.inf, start.h.dtype), empty, generation=generation)


def _unsaved(population: Population, ts: Array) -> Any:
    """Zero states and drives at the times `ts`."""

    def drive(neuron, filters):
        return drive_of(neuron.synapse, filters)

    start = population.start
    both = start.state, over_units(drive, population.neuron, start.filters)
    return jax.tree.map(lambda leaf: jnp.zeros((len(ts), *leaf.shape), leaf.dtype), both)


def _sweep(given: _Given, thought: dict[str, Train]) -> tuple[dict[str, Train], _Rest]:
    """Simulates every layer of the group in the window, with the spikes that the group is thought to emit."""
    trains, rest, span = given.outside | thought, _Rest({}, {}, {}), given.span
    for name, member in given.members.items():
        heard = _heard(given, name, trains)
        inputs = heard.inputs(Population(given.neurons[name], given.standing[name]), span.start, span.end)
        ts = None if member.ts is None else jnp.clip(member.ts, span.start, span.end)
        with jax.named_scope(f"layer {name}"):
            outcome, saved = member.simulate(inputs, given.adjoint, ts)
        trains[name] = _continued(given.trains[name], given.count[name], outcome.trains)
        rest.standing[name], rest.tally[name] = outcome.end, Tally.of(outcome)
        if saved is not None:
            here = (member.ts > span.after) & (member.ts <= span.end)
            rest.saved[name] = jax.tree.map(lambda leaf, here=here: _where_first(here, leaf), saved)
    return {name: trains[name] for name in given.members}, rest


def _heard(given: _Given, name: str, trains: dict[str, Train]) -> Heard:
    """What reaches a layer in the window."""
    network, span = given.network, given.span
    return hear(network.layers[name], network.incoming(name), trains).within(span.after, span.end)


def _where_first(here: Bool[Array, " ts"], leaf: Array) -> Array:
    return jnp.where(here.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)


def _continued(train: Train, count: Int[Array, "batch neurons"], found: Trains) -> Train:
    """A train with what the window adds to it."""
    number = indices(train.places) - count[..., None]

    def leaf(before, found):
        found = jnp.moveaxis(found[..., 0], 0, -1)
        return jnp.where(number < 0, before, jnp.take_along_axis(found, jnp.maximum(number, 0), axis=-1))

    parts = (train.times, train.payload, train.generation), (found.times, found.payload, found.generation)
    times, payload, generation = jax.tree.map(leaf, *parts)
    return Train(times, payload, generation=generation)


def _rethought(thought: dict[str, Train], emitted: dict[str, Train]) -> dict[str, Train]:
    """With what spikes to try next.

    A spike that is thought too early may lead to itself: where a neuron excites itself, or is answered at once, it
    comes a little later in each sweep. A time that is too late does no harm, as a spike does not depend on what comes
    after it. So one that moves on is taken to move three times as far, unless it moves by little more than rounding.
    """

    def later(was, now):
        rounding = 1e4 * jnp.finfo(now.dtype).eps
        moves_on = jnp.isfinite(now) & (now - jnp.where(was < now, was, now) > rounding * jnp.abs(now))
        return jnp.where(moves_on, now + 2.0 * (now - jnp.where(moves_on, was, 0.0)), now)

    return {
        name: dataclasses.replace(now, times=later(thought[name].times, now.times)) for name, now in emitted.items()
    }


def _same(given: _Given, before: dict[str, Train], after: dict[str, Train]) -> Bool[Array, " batch"]:
    """Whether every layer hears of the group in this window what it heard before, up to rounding."""
    same = []
    for name in given.members:
        old, new = (_heard(given, name, given.outside | trains) for trains in (before, after))
        arrived, arrives = jnp.isfinite(old.times), jnp.isfinite(new.times)
        pairs = zip(jax.tree.leaves((old.times, old.gains)), jax.tree.leaves((new.times, new.gains)), strict=True)
        for was, now in pairs:
            close = jnp.abs(now - was) <= 8.0 * jnp.finfo(now.dtype).eps * jnp.abs(now)
            same.append(jnp.all(jnp.where(arrived & arrives, close, arrived == arrives), axis=(1, 2)))
        if old.generation is not None:
            same.append(jnp.all((old.generation == new.generation) | ~arrives, axis=(1, 2)))
    return jnp.all(jnp.stack(same), axis=0)
