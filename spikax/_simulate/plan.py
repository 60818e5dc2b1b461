"""The plan of a simulation: which layers are simulated together, by which method, on which time grid."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import known, require, require_instance
from .._methods import AbstractAdjoint, AbstractMethod, ClosedForm, EventLoop, EventQueue, Windows
from .._methods._base import Expected
from .._network import Network
from .._spikes import Events, Spikes
from .snapshot import Snapshot
from .stopping import checked_stop, FirstSpikes
from .validation import batch_of, checked_capacity, checked_save_times, checked_start


class PlannedGroup(eqx.Module):
    """Layers that are simulated together, and their method."""

    names: tuple[str, ...] = eqx.field(static=True)
    method: AbstractMethod
    grid: Any = eqx.field(static=True)


class Plan(eqx.Module):
    """The checked arguments of a simulation, except the network and its inputs."""

    t0: Array
    t1: Array
    saveat: dict[str, Array]
    start: Snapshot | dict[str, Any]
    adjoint: AbstractAdjoint
    groups: tuple[PlannedGroup, ...]  # each after the groups that it receives from
    capacity: dict[str, int] = eqx.field(static=True)
    stop_after: dict[str, int] = eqx.field(static=True)  # the number of spikes that `until` asks for
    places_under_way: dict[str, int] = eqx.field(static=True)  # for the spikes that are under way at the end

    @property
    def ends_early(self) -> bool:
        """Whether `until` may end a sample before `t1`. Not with saved states, which need the whole duration."""
        return bool(self.stop_after) and not self.saveat

    def limits(self, name: str) -> dict[str, int]:
        """The limits of the simulation of a layer, by argument name."""
        (group,) = (group for group in self.groups if name in group.names)
        return {"max_spikes": self.capacity[name]} | group.method.limits(name)


def make_plan(
    network: Network,
    inputs: dict[str, Spikes | Events],
    t0: Any,
    t1: Any,
    saveat: Any,
    start: Any,
    max_spikes: Any,
    until: FirstSpikes | None,
    method: Any,
    adjoint: AbstractAdjoint,
) -> Plan:
    """Returns the plan of a simulation. Raises `TypeError` or `ValueError` for invalid arguments."""
    dtype = network.dtype
    batch = batch_of(next(iter(inputs.values())))
    saveat = checked_save_times(network, saveat, t0, t1)
    chosen = _chosen(network, method, None if saveat else until)
    stop_after = checked_stop(until, network, tuple(names for names, _ in chosen), list(saveat))
    capacity, duration = checked_capacity(network, max_spikes), _duration(t0, t1)
    start = checked_start(network, start, batch)
    expected = _expected(network, inputs, start, capacity, duration)
    groups = tuple(PlannedGroup(names, each, each.grid(network, names, expected)) for names, each in chosen)
    return Plan(
        jnp.asarray(t0, dtype),
        jnp.asarray(t1, dtype),
        {name: jnp.asarray(ts, dtype) for name, ts in saveat.items()},
        start,
        adjoint,
        groups,
        capacity,
        stop_after,
        _places_under_way(network, inputs, start, capacity, duration),
    )


def _chosen(network: Network, method: Any, until: FirstSpikes | None) -> list[tuple[tuple[str, ...], AbstractMethod]]:
    """The groups of layers with their methods: the given method, or the first that supports the group."""
    if isinstance(method, Mapping):
        for name, each in method.items():
            require(name in network.layers, "method", f"for layers among {list(network.layers)}", name)
            _require_method(each)
        return [(group, _method_of(network, group, method)) for group in network.groups()]
    if method is not None:
        _require_method(method)
    whole = tuple(itertools.chain(*network.groups()))
    if method is not None and not method.simulates_single_layers:
        return [(whole, _first_supporting(network, whole, (method,)))]
    if _ends_others(network, until):
        together = _suitable(network, whole, _that_end_together(network, method))
        if together is not None:
            return [(whole, together)]
    given = {} if method is None else dict.fromkeys(network.layers, method)
    return [(group, _method_of(network, group, given)) for group in network.groups()]


def _that_end_together(network: Network, method: AbstractMethod | None) -> tuple[AbstractMethod, ...]:
    """The candidates for the whole network: a layer can end before those ahead of it have emitted all their spikes."""
    as_one = (EventQueue(), EventLoop()) if method is None else (method,)
    in_windows = (Windows(),) if method is None else ()
    return (*(as_one if _is_mostly_recurrent(network) else ()), *in_windows)


def _ends_others(network: Network, until: FirstSpikes | None) -> bool:
    """Whether a recurrent group comes before the layers whose first spikes end the simulation."""
    if not isinstance(until, FirstSpikes):
        return False
    wanted = network.output_names if until.layer is None else (until.layer,)
    groups = [group for group in network.groups() if network.is_recurrent(group) and not set(group) & set(wanted)]
    return any(set(group) & network.sources_of(name) for group in groups for name in wanted)


def _is_mostly_recurrent(network: Network) -> bool:
    """Whether most neurons are in recurrent groups, so that a clock for all is hardly slower than one for these."""
    sizes = {name: layer.size for name, layer in network.layers.items()}
    groups = [group for group in network.groups() if network.is_recurrent(group)]
    return 2 * sum(sizes[name] for group in groups for name in group) >= sum(sizes.values())


def _method_of(network: Network, group: tuple[str, ...], given: Mapping[str, AbstractMethod]) -> AbstractMethod:
    """The method of a group. `given` are the methods of some of its layers."""
    own = {name: given[name] for name in group if name in given}
    joint = [method for method in own.values() if not method.simulates_single_layers]
    if joint:
        same = len(joint) == len(group) and all(method is joint[0] for method in joint)
        hint = f"The layers {list(group)} are mutually connected, so they are simulated together."
        require(same or len(group) == 1, "method", "the same object for all of them", own, hint)
        return _first_supporting(network, group, joint[:1])
    if not own:
        return _first_supporting(network, group, (ClosedForm(), EventQueue(), EventLoop(), Windows()))
    (first, *others) = own.values()
    is_one = len(own) == len(group) and all(method is first for method in others)
    return _first_supporting(network, group, (*([first] if is_one else []), Windows(method=own)))


def _first_supporting(
    network: Network, group: tuple[str, ...], candidates: tuple[AbstractMethod, ...] | list[AbstractMethod]
) -> AbstractMethod:
    suitable = _suitable(network, group, candidates)
    kinds = {name: type(network.layers[name].neuron).__name__ for name in group}
    described = ", ".join(f"`{name}` has {kind} neurons" for name, kind in kinds.items())
    hint = f"{described}. Without `method`, each layer takes the first method that supports it."
    expectation = f"one that supports {'the layer' if len(group) == 1 else 'the layers'} {', '.join(kinds)}"
    require(suitable is not None, "method", expectation, candidates[0], hint)
    assert suitable is not None
    return suitable


def _suitable(network: Network, group: tuple[str, ...], candidates: Iterable[AbstractMethod]) -> AbstractMethod | None:
    """The first method that supports a group, if any."""
    completed = (method.completed(network, group, _default) for method in candidates)
    return next((method for method in completed if method.supports(network, group)), None)


def _default(network: Network, group: tuple[str, ...]) -> AbstractMethod | None:
    """The method of a group that needs no windows; None if there is none."""
    return _suitable(network, group, (ClosedForm(), EventQueue(), EventLoop()))


def _require_method(method: Any) -> None:
    require_instance(method, AbstractMethod, "method", "a method", "For example `sx.EventLoop()`.")


def _duration(t0: Any, t1: Any) -> float | None:
    """`t1 - t0`, or None if it is traced."""
    start, end = known(t0), known(t1)
    return None if start is None or end is None else float(end) - float(start)


def _expected(
    network: Network,
    inputs: dict[str, Spikes | Events],
    start: Snapshot | dict[str, Any],
    capacity: dict[str, int],
    duration: float | None,
) -> Expected:
    """What is expected: one spike of each neuron, and all spikes that inputs can hold."""
    emitted = {name: layer.size for name, layer in network.layers.items()}
    # Of each neuron. A window may hold as many spikes as all windows before it, and one more, the first in excess.
    places = {name: 2 * (k + 1) for name, k in capacity.items()}
    for name, spikes in inputs.items():
        emitted[name] = math.prod(spikes.times.shape[len(batch_of(spikes)) :])
        places[name] = max(1, math.ceil(emitted[name] / network.inputs[name]))
    if isinstance(start, Snapshot):
        for name in places:
            places[name] += start.places(name)
    arrivals, most = {}, {}
    for name in network.layers:
        incoming = network.incoming(name)
        rows = [jax.tree.leaves(jax.eval_shape(c.synapses).weight)[0].shape[0] for c in incoming]
        arrivals[name] = sum(emitted[c.source] for c in incoming)
        most[name] = sum(n * places[c.source] for n, c in zip(rows, incoming, strict=True))
    return Expected(duration, arrivals, most)


def _places_under_way(
    network: Network,
    inputs: dict[str, Spikes | Events],
    start: Snapshot | dict[str, Any],
    capacity: dict[str, int],
    duration: float | None,
) -> dict[str, int]:
    """The number of places for the spikes under way in a snapshot, for each source with delays.

    Spikes under way were emitted within the longest delay before the end. If delays and duration are known, so is the
    number of simulations of this duration that emitted them. Otherwise there are places for one simulation.
    """
    places = {name: spikes.times.shape[-1] for name, spikes in inputs.items()} | capacity
    found = {}
    for source, k in places.items():
        delays = [known(c.delay) for c in network.connections if c.source == source and c.delay is not None]
        if not delays:
            continue
        before = start.places(source) if isinstance(start, Snapshot) else 0
        parts = 1
        if duration is not None and all(delay is not None for delay in delays):
            parts = max(1, math.ceil(max(float(delay.max()) for delay in delays) / duration * (1.0 - 1e-9)))
        found[source] = max(before, min(before + k, k * parts))
    return found
