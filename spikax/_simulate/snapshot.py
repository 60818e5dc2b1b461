"""The state of a simulation at its end, from which another simulation can continue."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._checks import require
from .._methods._base import SimulationState
from .._network import Network
from .._routing import Train


class LayerSnapshot(eqx.Module):
    """The state of a layer at the end of a simulation."""

    state: PyTree[Float[Array, "..."]]
    filters: PyTree[Float[Array, "..."]]
    readiness: Int[Array, "*batch neurons events"]
    h: Float[Array, "*batch neurons"]
    stuck: Bool[Array, "*batch neurons"]

    @classmethod
    def of(cls, end: SimulationState, batch: tuple[int, ...]) -> "LayerSnapshot":
        """Converts the axes `(batch, units, 1)` to `(*batch, neurons)`."""

        def public(leaf):
            leaf = leaf[:, :, 0]
            return leaf.reshape(*batch, *leaf.shape[1:])

        readiness = jnp.moveaxis(end.readiness, 0, -1)
        parts = end.state, end.filters, readiness, end.h, end.stuck
        return cls(*(jax.tree.map(public, part) for part in parts))

    def simulation_state(self, dtype: Any) -> SimulationState:
        """The state with the axes `(batch, units, 1)`."""
        axes = self.h.ndim

        def own(leaf):
            flat = leaf.reshape(math.prod(leaf.shape[: axes - 1]), leaf.shape[axes - 1], 1, *leaf.shape[axes:])
            return flat.astype(dtype) if eqx.is_inexact_array(flat) else flat

        state, filters, readiness, h, stuck = (
            jax.tree.map(own, part) for part in (self.state, self.filters, self.readiness, self.h, self.stuck)
        )
        return SimulationState(state, filters, jnp.moveaxis(readiness, -1, 0), h, stuck)


class Snapshot(eqx.Module):
    """The state of a simulation at its end, to continue it: `sx.simulate(..., start=solution.end)`.

    - `t`: the time, in ms; shape `()`.
    - `states`: the states of the neurons by layer name; leaves of shape `(*batch, neurons)`.

    The states of samples that failed are NaN.
    """

    t: Float[Array, ""]
    layers: dict[str, LayerSnapshot]
    under_way: dict[str, Train]  # spikes that have not yet arrived everywhere, by source name

    @classmethod
    def of(
        cls, t: Array, layers: dict[str, LayerSnapshot], under_way: dict[str, Train], batch: tuple[int, ...]
    ) -> "Snapshot":
        """A snapshot with the batch axes of the inputs."""
        shaped = jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), under_way)
        return cls(t, layers, shaped)

    def trains(self, dtype: Any) -> dict[str, Train]:
        """The spikes under way, with one batch axis."""

        def flat(train):
            axes = 2 if train.channel is None else 1

            def leaf(leaf):
                leaf = leaf.reshape(math.prod(leaf.shape[:-axes]), *leaf.shape[-axes:])
                return leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf

            return jax.tree.map(leaf, train)

        return {name: flat(train) for name, train in self.under_way.items()}

    @property
    def states(self) -> dict[str, PyTree[Array]]:
        """The states of the neurons, by layer name."""
        return {name: layer.state for name, layer in self.layers.items()}

    def places(self, source: str) -> int:
        """The number of places for the spikes of a source that are under way."""
        return self.under_way[source].places if source in self.under_way else 0

    def require_fit(self, network: Network, batch: tuple[int, ...]) -> None:
        """Raises `ValueError` unless the snapshot is of this network, with these batch axes."""
        hint = "A simulation continues with the network and the batch axes of the previous one."
        names = list(network.layers)
        require(list(self.layers) == names, "start", f"of the layers {names}", list(self.layers), hint)
        for name, layer in self.layers.items():
            shape = (*batch, network.layers[name].size)
            require(layer.h.shape == shape, "start", f"of shape {shape} for the layer `{name}`", layer.h.shape, hint)
            own = jax.tree.structure(network.layers[name].neuron.initial_state())
            found = jax.tree.structure(layer.state)
            require(found == own, "start", f"with states of the structure {own} for `{name}`", found, hint)


def spikes_under_way(
    train: Train, before: Train | None, longest: Array, t1: Array, places: int
) -> tuple[Train, Bool[Array, " batch"]]:
    """The spikes of a source that have not yet arrived everywhere, and whether there are more than `places`.

    `before` are those of the previous simulation, and `longest` is the longest delay.
    """
    if before is not None:
        same = jax.tree.structure(before) == jax.tree.structure(train)
        require(same, "inputs", "`sx.Spikes` or `sx.Events`, as in the previous simulation", train)
    whole = train if before is None else jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=-1), before, train)
    waits = lax.stop_gradient(whole.times + longest) > t1
    times = jnp.where(waits & jnp.isfinite(whole.times), whole.times, jnp.inf)
    order = jnp.argsort(lax.stop_gradient(times), axis=-1)
    short = places - times.shape[-1]

    def picked(leaf, empty):
        leaf = jnp.take_along_axis(leaf, order, axis=-1)[..., :places]
        return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, max(0, short))], constant_values=empty)

    is_over = jnp.sum(jnp.isfinite(times), axis=-1) > places
    rest = jax.tree.map(lambda leaf: picked(leaf, 0), (whole.payload, whole.channel, whole.generation))
    too_many = jnp.any(is_over.reshape(len(times), -1), axis=1)
    return Train(picked(times, jnp.inf), *rest), too_many
