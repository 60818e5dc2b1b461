"""Arrays over units.

The arrays of a layer have the shape `(batch, units, neurons)`: a unit is a set of neurons that share one clock. A
quantity that belongs to the clock has one entry on the last axis. A layer of N neurons is N units of one neuron.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from .._neuron import AbstractNeuron


class Places(eqx.Module):
    """Where units stand in the arrays of their layer: all of them, or some side by side, as a single sample."""

    sample: Int[Array, "batch 1 1"] | Int[Array, "1 some 1"]
    unit: Int[Array, "1 units 1"] | Int[Array, "1 some 1"]

    @classmethod
    def all(cls, batch: int, units: int) -> "Places":
        """Those of all units."""
        return cls(indices(batch)[:, None, None], indices(units)[None, :, None])


def over_units(function: Callable, neuron: AbstractNeuron, *arguments: PyTree[Array]) -> Any:
    """Maps `function(neuron, *arguments)`, written for one neuron, over batch, units and neurons.

    The parameters of `neuron` are shared (shape `()`) or have these three axes too.
    """
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, parameters)
    shape = jax.tree.leaves(arguments)[0].shape[:3]

    def one(parameters, *arguments):
        return function(eqx.combine(parameters, rest), *arguments)

    # One axis in place of three: JAX traces through a single `vmap`.
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]) if leaf.ndim else leaf, (parameters, arguments))
    mapped = jax.vmap(one, in_axes=(axes, *(0,) * len(arguments)))(flat[0], *flat[1])
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), mapped)


def shared(function: Callable[[AbstractNeuron], Array], neuron: AbstractNeuron) -> Array:
    """`function` of every neuron, with the axes `(batch, units)` first; or once, if it is the same for all."""
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    if all(leaf.ndim == 0 for leaf in jax.tree.leaves(parameters)):
        return function(neuron)
    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, parameters)
    shape = next(leaf.shape[:2] for leaf in jax.tree.leaves(parameters) if leaf.ndim)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]) if leaf.ndim else leaf, parameters)

    def one(parameters):
        return function(eqx.combine(parameters, rest))

    try:
        # JAX refuses this where the result depends on a parameter that differs between neurons.
        return jax.vmap(one, (axes,), out_axes=None)(flat)
    except ValueError:
        each = jax.vmap(one, (axes,))(flat)
        return each.reshape(*shape, *each.shape[1:])


def select(where: Bool[Array, "batch units neurons"], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """`new` where `where` holds, else `old`, which gives the float types."""

    def leaf(new, old):
        expanded = where.reshape(where.shape + (1,) * (old.ndim - where.ndim))
        return jnp.where(expanded, new.astype(old.dtype), old)

    return jax.tree.map(leaf, new, old)


def spread(clock: Array, like: Array) -> Array:
    """A quantity of the clock `(batch, units, 1)`, for every neuron of the unit."""
    return jnp.broadcast_to(clock, like.shape)


def indices(n: int) -> Int[Array, " n"]:
    """0 to n - 1, as int32: the engine counts in it whatever JAX's default is."""
    return jnp.arange(n, dtype=jnp.int32)


def cast(tree: PyTree, dtype: Any) -> PyTree[Array]:
    """All leaves as arrays of the float type `dtype`."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def add_scaled(tree: PyTree[Array], scale: Array, direction: PyTree[Array]) -> PyTree[Array]:
    """`tree + scale * direction`, with `scale` of shape `(batch, units, 1)`."""

    def leaf(x, d):
        return x + scale.reshape(scale.shape + (1,) * (x.ndim - scale.ndim)) * d

    return jax.tree.map(leaf, tree, direction)
