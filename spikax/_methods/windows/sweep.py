"""A sweep over a window: each part of the group is simulated once, with a guess of the spikes of later parts."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ..._routing import SynapticInput, Train
from .._base import Counters, Group, SimulationState
from .arrivals import Chosen, SpikeList, Window
from .context import Before, Context


class Sweep(eqx.Module):
    """The results of a sweep over a window."""

    trains: dict[str, Train]  # the spikes in the window
    states: dict[str, SimulationState]
    saved: dict[str, Any]
    counters: dict[str, Counters]


class Known(eqx.Module):
    """The arrivals at a layer that do not depend on a guess."""

    lists: list[SpikeList]
    chosen: Chosen
    too_many: Bool[Array, " batch"]


class Prepared(eqx.Module):
    """What all sweeps over a window share."""

    context: Context
    window: Window
    states: dict[str, SimulationState]
    known: dict[str, Known]


def prepare(arguments: tuple[Context, Window, Before]) -> Prepared:
    """Selects the arrivals of earlier spikes, and of those from outside."""
    context, window, before = arguments
    known_arrivals, fixed = {}, lax.stop_gradient
    for name, incoming in context.incoming.items():
        pathways, lists = [], []
        for pathway in incoming.pathways:
            source, trains = pathway.source, context.outside | before.trains
            # Without a delay, earlier spikes have arrived.
            if source in context.outside or pathway.has_delay or pathway.is_apart:
                pathways.append(pathway)
                lists.append(SpikeList.of(trains[source], incoming.neuron))
            if source in context.under_way and pathway.has_delay:
                pathways.append(dataclasses.replace(pathway, is_under_way=True))
                lists.append(SpikeList.of(context.under_way[source], incoming.neuron))
        chosen, too_many = fixed(incoming).select(*fixed((pathways, lists)), incoming.nothing(), 0, window)
        known_arrivals[name] = Known(lists, chosen, too_many)
    return Prepared(context, window, before.states, known_arrivals)


def sweep(prepared: Prepared, guess: dict[str, Train]) -> tuple[dict[str, Train], Sweep]:
    """Simulates every part in the window, with a guess of the spikes of those that are simulated later."""
    context, window = prepared.context, prepared.window
    emitted, out = dict(guess), Sweep({}, {}, {}, {})
    for part in context.parts:
        plans, arrivals, too_many = {}, {}, {}
        for name in part.names:
            plan, start = context.layers[name], prepared.states[name]
            ts = None if plan.ts is None else _times_inside(plan.ts, window)
            plans[name] = dataclasses.replace(plan, start=start, ts=ts, stop_after=None, windows=context.windows)
            arrivals[name], too_many[name] = _received(prepared, name, emitted)
        group = Group(part.network, plans, {}, {}, window.start, window.end, context.is_ordered, arrivals)
        for name, result in part.method.simulate(group, part.grid).items():
            emitted[name] = out.trains[name] = result.train
            out.states[name] = result.end
            out.counters[name] = dataclasses.replace(result.counters, fits=~too_many[name])
            if result.saved is not None:
                inside = _inside(context.layers[name].ts, window)
                out.saved[name] = jax.tree.map(lambda leaf, inside=inside: _where_first(inside, leaf), result.saved)
    return {name: emitted[name] for name in guess}, out


def _received(prepared: Prepared, name: str, emitted: dict[str, Train]) -> tuple[SynapticInput, Bool[Array, " batch"]]:
    """The arrivals at a layer in the window, and which samples have too many of them."""
    incoming, earlier, fixed = prepared.context.incoming[name], prepared.known[name], lax.stop_gradient
    pathways = [pathway for pathway in incoming.pathways if pathway.source in emitted]
    lists = [SpikeList.of(emitted[pathway.source], incoming.neuron) for pathway in pathways]
    first = sum(spikes.times.shape[1] for spikes in earlier.lists)
    chosen, too_many = fixed(incoming).select(*fixed((pathways, lists, earlier.chosen)), first, prepared.window)
    return incoming.received(chosen, [*earlier.lists, *lists]), too_many | earlier.too_many


def _inside(ts: Array, window: Window) -> Bool[Array, " ts"]:
    return (ts > window.after) & (ts <= window.end)


def _times_inside(ts: Array, window: Window) -> Array:
    """The times inside of a window. The others, whose states are not used, are at its start."""
    return jnp.where(_inside(ts, window), ts, lax.stop_gradient(window.start))


def _where_first(where: Bool[Array, " ts"], leaf: Array) -> Array:
    return jnp.where(where.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)
