"""The parts of a group: layers that a method simulates as a whole within a sweep."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from ..._network import Network
from .._base import AbstractLayerMethod, AbstractMethod, Choose, Expected


class Part(eqx.Module):
    """Layers that are simulated together, and their method."""

    names: tuple[str, ...] = eqx.field(static=True)
    method: AbstractMethod
    # Whether the method simulates the connections without delay between the layers. Otherwise the part is a single
    # layer, and its own spikes are guessed.
    is_whole: bool = eqx.field(static=True)

    def contains(self, source: str, delay: object) -> bool:
        """Whether the method itself delivers the spikes of a connection to these layers."""
        return self.is_whole and source in self.names and delay is None

    def alone(self, network: Network) -> Network:
        """The network with only those connections within the part that its method simulates."""
        return _alone(network, self.names, self.is_whole)

    def is_supported(self, network: Network) -> bool:
        """Whether the method can simulate the part."""
        return self.method.supports(self.alone(network), self.names)

    def grid(self, network: Network, expected: Expected) -> Any:
        """The grid of the method. It depends on all arrivals, also those of the layer's own spikes."""
        method = self.method
        if isinstance(method, AbstractLayerMethod) and not self.alone(network).is_recurrent(self.names):
            (name,) = self.names
            return method.layer_grid(network, name, expected)
        return method.grid(self.alone(network), self.names, expected)


def parts_of(
    network: Network,
    group: tuple[str, ...],
    given: Mapping[str, AbstractMethod],
    choose: Choose,
) -> tuple[Part, ...]:
    """The parts of a group, each after those from which it receives without delay, as far as possible.

    `given` are the methods of some layers, and `choose` returns the default method of a group of layers, if any.
    """
    parts: list[Part] = []
    for names in _without_delayed_loops(network, group).groups():
        if not set(names) <= set(group):
            continue
        method = None
        if not set(names) & set(given) and not _has_own_arrivals(network, names):
            method = choose(_alone(network, names, True), names)
        if method is not None:
            parts.append(Part(names, method, True))
            continue
        for name in names:
            network_of_one = _alone(network, (name,), False)
            method = given[name].completed(network_of_one, (name,), choose) if name in given else None
            method = method or choose(network_of_one, (name,))
            assert method is not None
            parts.append(Part((name,), method, False))
    return tuple(parts)


def loops_of(network: Network, parts: tuple[Part, ...]) -> tuple[int, ...]:
    """The numbers of the connections whose spikes have to be guessed, as their source is simulated after the target."""
    place = {name: number for number, part in enumerate(parts) for name in part.names}
    return tuple(
        number
        for number, c in enumerate(network.connections)
        if c.source in place
        and c.target in place
        and place[c.source] >= place[c.target]
        and not parts[place[c.target]].contains(c.source, c.delay)
    )


def _alone(network: Network, names: tuple[str, ...], is_whole: bool) -> Network:
    def stays(connection):
        is_inside = connection.source in names and connection.target in names
        return not is_inside or (is_whole and connection.delay is None)

    return _with_connections(network, stays)


def _without_delayed_loops(network: Network, group: tuple[str, ...]) -> Network:
    """The network without the delayed connections between layers that are mutually connected."""
    together = [names for names in network.groups() if set(names) <= set(group)]

    def stays(connection):
        is_loop = any(connection.source in names and connection.target in names for names in together)
        return not (is_loop and connection.delay is not None)

    return _with_connections(network, stays)


def _has_own_arrivals(network: Network, names: tuple[str, ...]) -> bool:
    """Whether a layer that receives from itself, with a delay, has separate arrivals for each neuron."""
    loops = [c for c in network.connections if c.source in names and c.target in names]
    return any(c.delay is not None and c.has_own_arrivals for c in loops)


def _with_connections(network: Network, stays: Callable) -> Network:
    return eqx.tree_at(lambda n: n.connections, network, tuple(filter(stays, network.connections)))
