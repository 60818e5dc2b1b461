"""A sweep over a window: each part of the group is simulated once, with a guess of the spikes of later parts."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..._routing import SynapticInput, Train
from .._base import Counters, Group, SimulationState
from .arrivals import Chosen, Pathway, SpikeList, Window
from .context import Before, Context, Known, Prepared
from .fixed_point import Instant
from .guess import as_guessed


class Sweep(eqx.Module):
    """The results of a sweep over a window."""

    trains: dict[str, Train]  # the spikes in the window
    states: dict[str, SimulationState]
    saved: dict[str, Any]
    counters: dict[str, Counters]


def prepare(arguments: tuple[Context, Window, Before]) -> Prepared:
    """Selects the arrivals of earlier spikes, and of those from outside."""
    context, window, before = arguments
    return _Earlier.of(context, before).prepared(window)


class _Earlier(eqx.Module):
    """What has been emitted before a window."""

    context: Context
    states: dict[str, SimulationState]
    pathways: dict[str, list[Pathway]]
    lists: dict[str, list[SpikeList]]

    @classmethod
    def of(cls, context: Context, before: Before) -> "_Earlier":
        all_pathways, all_lists = {}, {}
        for name, incoming in context.incoming.items():
            pathways, lists = [], []
            for pathway in incoming.pathways:
                source, trains = pathway.source, context.outside | before.trains
                # Without a delay, earlier spikes have arrived.
                if source in context.outside or pathway.has_delay or pathway.is_apart:
                    pathways.append(pathway)
                    lists.append(SpikeList.of(trains[source], incoming.neuron, pathway.outgoing))
                if source in context.under_way and pathway.has_delay:
                    pathways.append(dataclasses.replace(pathway, is_under_way=True))
                    lists.append(SpikeList.of(context.under_way[source], incoming.neuron, pathway.outgoing))
            all_pathways[name], all_lists[name] = pathways, lists
        return cls(context, before.states, all_pathways, all_lists)

    def select(self, window: Window) -> dict[str, tuple[Chosen, Float[Array, " batch"]]]:
        """The arrivals in a window, by layer, and up to when there is room for them."""
        fixed, found = lax.stop_gradient, {}
        for name, incoming in self.context.incoming.items():
            given = fixed((self.pathways[name], self.lists[name]))
            found[name] = fixed(incoming).select(*given, incoming.nothing(), 0, window)
        return found

    def prepared(self, window: Window) -> Prepared:
        return self._with(window, self.select(window))

    def _with(self, window: Window, selected: dict[str, tuple[Chosen, Float[Array, " batch"]]]) -> Prepared:
        known = {name: Known(self.lists[name], *part) for name, part in selected.items()}
        return Prepared(self.context, window, self.states, known)


def prepare_first_part(context: Context, window: Window, before: Before, is_valid: Bool[Array, " batch"]) -> Prepared:
    """As `prepare`, for the first part of a window, or all of it, in which there is room for the known arrivals.

    Samples that have failed do not divide the windows of the others.
    """
    earlier = _Earlier.of(context, before)

    def too_many(carry) -> Array:
        _, end, _ = carry
        return end < jnp.inf

    def once(carry):
        window, end, _ = carry
        window = dataclasses.replace(window, end=jnp.minimum(window.end, end))
        selected = earlier.select(window)
        until = jnp.min(jnp.stack([jnp.min(jnp.where(is_valid, until, jnp.inf)) for _, until in selected.values()]))
        middle = halfway(context, window)
        shorter = jnp.where((until > window.start) & (until < window.end), until, middle)
        # A part that is as short as can be is taken as it is, and reported.
        return window, jnp.where((until < jnp.inf) & (middle < window.end), shorter, jnp.inf), selected

    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(earlier.select, window))
    window, _, selected = lax.while_loop(too_many, once, (window, window.end, nothing))
    return earlier._with(window, selected)


def halfway(context: Context, window: Window) -> Array:
    """The middle of a window; its end if the window is too short to be divided."""
    length = window.end - window.start
    return jnp.where(length > context.shortest_window, window.start + 0.5 * length, window.end)


def sweep(prepared: Prepared, guess: dict[str, Train], final: Instant) -> Sweep:
    """Simulates every part in the window, with a guess of the spikes of those that are simulated later.

    The guess is `final` up to an instant in each sample.
    """
    context, window = prepared.context, prepared.window
    emitted, out = dict(guess), Sweep({}, {}, {}, {})
    for part in context.parts:
        plans, arrivals, fits = {}, {}, {}
        for name in part.names:
            plan, start = context.layers[name], prepared.states[name]
            ts = None if plan.ts is None else _times_inside(plan.ts, window)
            own = {"start": start, "ts": ts, "max_spikes": context.places(name), "windows": context.windows}
            plans[name] = dataclasses.replace(plan, stop_after=None, **own)
            arrivals[name], fits[name] = _received(prepared, name, emitted)
        group = Group(part.network, plans, {}, {}, window.start, window.end, context.is_ordered, arrivals)
        for name, result in part.method.simulate(group, part.grid).items():
            train = result.train
            if name in guess:
                train = as_guessed(prepared, guess[name], final, train)
            emitted[name] = out.trains[name] = train
            out.states[name] = result.end
            out.counters[name] = dataclasses.replace(result.counters, fits=fits[name])
            if result.saved is not None:
                inside = _inside(context.layers[name].ts, window)
                out.saved[name] = jax.tree.map(lambda leaf, inside=inside: _where_first(inside, leaf), result.saved)
    return out


def guessed_spikes(prepared: Prepared, results: Sweep) -> dict[str, Train]:
    """The spikes that a sweep guesses."""
    return {name: results.trains[name] for name in prepared.context.guessed}


def _received(prepared: Prepared, name: str, emitted: dict[str, Train]) -> tuple[SynapticInput, Bool[Array, " batch"]]:
    """The arrivals at a layer in the window, and for which samples there is room for all of them."""
    incoming, earlier, fixed = prepared.context.incoming[name], prepared.known[name], lax.stop_gradient
    pathways = [pathway for pathway in incoming.pathways if pathway.source in emitted]
    lists = [SpikeList.of(emitted[pathway.source], incoming.neuron, pathway.outgoing) for pathway in pathways]
    first = sum(math.prod(spikes.times.shape[1:]) for spikes in earlier.lists)
    # No spike of this window has arrived before, not even one at its very start.
    window = dataclasses.replace(prepared.window, after=jnp.full_like(prepared.window.after, -jnp.inf))
    chosen, until = fixed(incoming).select(*fixed((pathways, lists, earlier.chosen)), first, window)
    return incoming.received(chosen, [*earlier.lists, *lists]), jnp.minimum(until, earlier.until) == jnp.inf


def _inside(ts: Array, window: Window) -> Bool[Array, " ts"]:
    return (ts > window.after) & (ts <= window.end)


def _times_inside(ts: Array, window: Window) -> Array:
    """The times inside of a window. The others, whose states are not used, are at its start."""
    return jnp.where(_inside(ts, window), ts, lax.stop_gradient(window.start))


def _where_first(where: Bool[Array, " ts"], leaf: Array) -> Array:
    return jnp.where(where.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)
