"""The interface of methods, which find the spikes of a group of layers."""

import abc
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._network import Network
from .._neuron import AbstractNeuron
from .._routing import route, SynapticInput, Train
from .._synapse import drive_of, initial_filters
from ._common.axes import over_units
from ._common.events import conditions, DUE, magnitudes, READY
from .adjoint import AbstractAdjoint


class SimulationState(eqx.Module):
    """The state of a layer at the start or at the end of a simulation.

    All leaves have the axes `(batch, units, neurons)`; `readiness` has an axis for the events before them.
    """

    state: PyTree[Array]
    filters: PyTree[Array]
    readiness: Int[Array, "events batch units neurons"]
    h: Float[Array, "batch units 1"]  # the maximal length of the solver's next step; `inf` before the first one
    stuck: Bool[Array, "batch units 1"]  # no step is short enough

    @classmethod
    def of(cls, neuron: AbstractNeuron, state: PyTree[Array], t: Array) -> "SimulationState":
        """The state before any arrival. An event whose condition is above zero is due."""
        shape = jax.tree.leaves(state)[0].shape[:3]

        def start(neuron, t, state):
            return initial_filters(neuron.synapse, t), (conditions(neuron, t, state), magnitudes(neuron, t, state))

        filters, parts = over_units(start, neuron, jnp.broadcast_to(t, shape), state)
        condition, magnitude = map(jnp.stack, parts)
        rounding = 8.0 * jnp.finfo(condition.dtype).eps * magnitude
        readiness = jnp.where(condition > rounding, DUE, READY).astype(jnp.int32)
        never = jnp.full((*shape[:2], 1), jnp.inf, t.dtype)
        return cls(state, filters, readiness, never, never < 0)

    def moved_to(self, state: PyTree[Array], filters: PyTree[Array]) -> "SimulationState":
        """Another state, in which no event is due, as a method without steps leaves it."""
        return dataclasses.replace(self, state=state, filters=filters, readiness=jnp.full_like(self.readiness, READY))


class Counters(eqx.Module):
    """The statistics of the simulation of a layer, and how it ended."""

    count: Int[Array, "batch neurons"]  # spikes, recorded or not
    rejected: Int[Array, " batch"]
    finished: Bool[Array, " batch"]
    stuck: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    settled: Bool[Array, " batch"]
    fits: Bool[Array, " batch"]  # there was room for all arrivals in each window
    failed_at: Float[Array, " batch"]  # the results are valid up to this time; `inf` without a failure
    iterations: Int[Array, ""]
    sweeps: Int[Array, ""]

    @classmethod
    def none(cls, batch: int, neurons: int, dtype: Any) -> "Counters":
        """The counters before any simulation."""
        yes, nothing = jnp.ones(batch, bool), jnp.zeros(batch, jnp.int32)
        count, never = jnp.zeros((batch, neurons), jnp.int32), jnp.full(batch, jnp.inf, dtype)
        return cls(count, nothing, yes, ~yes, yes, yes, yes, never, jnp.int32(0), jnp.int32(0))

    @classmethod
    def once(
        cls, count: Array, finished: Array, finite: Array, failed_at: Array, iterations: Array, **others: Array
    ) -> "Counters":
        """The counters of a single simulation."""
        none = cls.none(*count.shape, failed_at.dtype)
        own = {"count": count, "finished": finished, "finite": finite, "iterations": iterations, "sweeps": jnp.int32(1)}
        return dataclasses.replace(none, **own, failed_at=lax.stop_gradient(failed_at), **others)

    def and_then(self, later: "Counters") -> "Counters":
        """The counters of two successive simulations."""
        return Counters(
            self.count + later.count,
            self.rejected + later.rejected,
            self.finished & later.finished,
            self.stuck | later.stuck,
            self.finite & later.finite,
            self.settled & later.settled,
            self.fits & later.fits,
            jnp.minimum(self.failed_at, later.failed_at),
            self.iterations + later.iterations,
            self.sweeps + later.sweeps,
        )


class LayerPlan(eqx.Module):
    """The start of the simulation of a layer, and what it records."""

    neuron: AbstractNeuron  # its arrays have the shape `()`, or the leading axes `(batch, units, 1)`
    start: SimulationState
    ts: Float[Array, " ts"] | None  # the times at which states and drives are saved
    max_spikes: int = eqx.field(static=True)  # the number of spikes per neuron that can be recorded
    stop_after: int | None = eqx.field(static=True)  # the number of spikes after which a neuron stops
    adjoint: AbstractAdjoint
    windows: int = eqx.field(static=True, default=1)  # the number of time windows, of which this plan is for one


class LayerResult(eqx.Module):
    """The result of the simulation of a layer."""

    train: Train
    end: SimulationState
    saved: tuple[PyTree[Array], PyTree[Array]] | None  # states and drives, with the axes `(ts, batch, units, neurons)`
    counters: Counters
    method: str = eqx.field(static=True)
    windows: int = eqx.field(static=True, default=1)


class Group(eqx.Module):
    """Layers that are simulated together, and the spikes of all other sources."""

    network: Network
    layers: dict[str, LayerPlan]
    outside: dict[str, Train]
    under_way: dict[str, Train]  # spikes of all sources before the start, which have not yet arrived everywhere
    t0: Float[Array, ""]
    t1: Float[Array, ""]
    is_ordered: bool = eqx.field(static=True)  # the order of simultaneous spikes matters, see `Train.generation`

    routed: dict[str, SynapticInput] = eqx.field(default_factory=dict)  # arrivals that are known already, by layer

    def received(self, name: str) -> SynapticInput:
        """The arrivals at a layer from outside the group, and of the spikes that were under way."""
        if name in self.routed:
            return self.routed[name]
        layer, connections = self.network.layers[name], self.network.incoming(name)
        return route(layer, connections, self.outside, self.under_way, self.t0)


class Expected(eqx.Module):
    """The properties of a simulation that are known before compilation."""

    duration: float | None  # None if it is traced
    arrivals: dict[str, int]  # the expected number of arrivals at each layer
    places: dict[str, int]  # the number of arrivals at each neuron of a layer for which there is always room

    def in_each(self, parts: int) -> "Expected":
        """The same for each of `parts` equal parts of the duration. All arrivals may come in one of them."""
        duration = None if self.duration is None else self.duration / parts
        return Expected(duration, {name: n // parts for name, n in self.arrivals.items()}, self.places)


class AbstractMethod(eqx.Module):
    """A method to find the spikes of a group of layers."""

    simulates_single_layers: eqx.AbstractClassVar[bool]
    """Whether it simulates each layer separately, given its arrivals. Otherwise a group is simulated together."""

    @abc.abstractmethod
    def supports(self, network: Network, group: tuple[str, ...]) -> bool:
        """Whether the method can simulate these layers, as one group."""

    def completed(self, network: Network, group: tuple[str, ...], choose: "Choose") -> "AbstractMethod":
        """The method with its open choices made. `choose` returns the default method of other groups, if any."""
        return self

    @abc.abstractmethod
    def grid(self, network: Network, group: tuple[str, ...], expected: Expected) -> Hashable:
        """The numbers of parts into which it divides the time. Shapes depend on them, so they are static."""

    @abc.abstractmethod
    def simulate(self, group: Group, grid: Any) -> dict[str, LayerResult]:
        """Simulates the layers. Returns the results by layer name."""

    @abc.abstractmethod
    def limits(self, name: str) -> dict[str, int]:
        """The limits of the loops that simulate a layer, by argument name."""


Choose = Callable[[Network, tuple[str, ...]], AbstractMethod | None]


class AbstractLayerMethod(AbstractMethod):
    """A method to find the spikes of a single layer, given its arrivals."""

    simulates_single_layers: ClassVar[bool] = True

    @abc.abstractmethod
    def supports_layer(self, network: Network, name: str) -> bool:
        """Whether the method can simulate a layer, given its arrivals."""

    @abc.abstractmethod
    def layer_grid(self, network: Network, name: str, expected: Expected) -> int:
        """The number of parts into which it divides the time; zero for none."""

    @abc.abstractmethod
    def simulate_layer(self, plan: LayerPlan, received: SynapticInput, t0: Array, t1: Array, grid: int) -> LayerResult:
        """Simulates a layer."""

    def supports(self, network, group):
        (name, *others) = group
        return not others and not network.is_recurrent(group) and self.supports_layer(network, name)

    def grid(self, network, group, expected):
        (name,) = group
        return self.layer_grid(network, name, expected)

    def simulate(self, group, grid):
        ((name, plan),) = group.layers.items()
        with jax.named_scope(f"layer {name}"):
            return {name: self.simulate_layer(plan, group.received(name), group.t0, group.t1, grid)}


def drives_of(neuron: AbstractNeuron, filters: PyTree[Array]) -> PyTree[Array]:
    """The drives of synapses with these filters, with the axes `(batch, units, neurons)`."""
    return over_units(lambda neuron, filters: drive_of(neuron.synapse, filters), neuron, filters)


def spikes_first(leaf: Array) -> Array:
    """Converts the axes `(spikes, batch, units, 1)` to those of a train, `(batch, neurons, spikes)`."""
    return jnp.moveaxis(leaf[..., 0], 0, -1)
