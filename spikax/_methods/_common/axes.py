"""Arrays over units.

The arrays of a layer have the shape `(batch, units, neurons)`: a unit is a set of neurons that share a clock. A
quantity of the clock has size one on the last axis. A layer of N neurons is N units of one neuron.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from ..._neuron import AbstractNeuron
from ..._synapse import AbstractSynapse


class Places(eqx.Module):
    """The indices of units in the arrays of their layer: of all units, or of a subset as a single sample."""

    sample: Int[Array, "batch 1 1"] | Int[Array, "1 some 1"]
    unit: Int[Array, "1 units 1"] | Int[Array, "1 some 1"]

    @classmethod
    def all(cls, batch: int, units: int) -> "Places":
        """The places of all units."""
        return cls(indices(batch)[:, None, None], indices(units)[None, :, None])


def parameters_of(neuron: Any) -> tuple[PyTree[Array], PyTree[int | None], PyTree]:
    """The arrays of a neuron, the axis of each along which neurons differ (None if shared), and the rest."""
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    return parameters, jax.tree.map(lambda leaf: 0 if leaf.ndim else None, parameters), rest


def with_dtype(neuron: AbstractNeuron, dtype: Any) -> AbstractNeuron:
    """The neuron with its floating-point parameters in the type `dtype`."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, neuron)


def with_unit_axes(neuron: AbstractNeuron, batch: int) -> AbstractNeuron:
    """The neuron, with parameters of one value per neuron broadcast to the axes `(batch, units, 1)`."""

    def leaf(leaf):
        if not eqx.is_array(leaf) or leaf.ndim == 0:
            return leaf
        return jnp.broadcast_to(leaf[None, :, None], (batch, leaf.shape[0], 1, *leaf.shape[1:]))

    return jax.tree.map(leaf, neuron)


def over_units(function: Callable, neuron: AbstractNeuron | AbstractSynapse, *arguments: PyTree[Array]) -> Any:
    """Maps `function(neuron, *arguments)`, written for one neuron or synapse, over batch, units and neurons.

    The parameters of `neuron` are shared (shape `()`) or have these three axes. Quantities of the clock have size one
    on the last of them: what depends on them alone is computed once for all neurons of a unit.
    """
    parameters, _, rest = parameters_of(neuron)
    given = parameters, *arguments
    leaves = [leaf for leaf in jax.tree.leaves(given) if leaf.ndim]
    neurons = max(leaf.shape[2] for leaf in leaves)

    def one(parameters, *arguments):
        return function(eqx.combine(parameters, rest), *arguments)

    # As few nested `vmap` as possible, which each trace the function: axes are flattened.
    of_units = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, given)
    of_neurons = jax.tree.map(lambda leaf: 0 if leaf.ndim and leaf.shape[2] > 1 else None, given)

    def flat(leaf):
        kept = leaf.shape[2:] if leaf.ndim and leaf.shape[2] > 1 else leaf.shape[3:]
        return leaf.reshape(-1, *kept) if leaf.ndim else leaf

    mapped = one if neurons == 1 else jax.vmap(one, in_axes=of_neurons)
    found = jax.vmap(mapped, in_axes=of_units)(*jax.tree.map(flat, given))
    shape = *leaves[0].shape[:2], neurons
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1 if neurons == 1 else 2 :]), found)


def shared(function: Callable[[AbstractNeuron], Array], neuron: AbstractNeuron) -> Array:
    """`function` of each neuron, with the leading axes `(batch, units)`; or once, if it is the same for all."""
    parameters, axes, rest = parameters_of(neuron)
    shape = next((leaf.shape[:2] for leaf in jax.tree.leaves(parameters) if leaf.ndim), None)
    if shape is None:
        return function(neuron)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]) if leaf.ndim else leaf, parameters)

    def one(parameters):
        return function(eqx.combine(parameters, rest))

    try:
        # JAX raises if the result depends on a parameter that differs between neurons.
        return jax.vmap(one, (axes,), out_axes=None)(flat)
    except ValueError:
        each = jax.vmap(one, (axes,))(flat)
        return each.reshape(*shape, *each.shape[1:])


def spread(clock: Array, like: Array) -> Array:
    """Broadcasts a quantity of the clock `(batch, units, 1)` to all neurons of the unit."""
    return jnp.broadcast_to(clock, like.shape)


def indices(n: int) -> Int[Array, " n"]:
    """0 to n - 1, as int32, independent of JAX's default integer type."""
    return jnp.arange(n, dtype=jnp.int32)


def cast(tree: PyTree, dtype: Any) -> PyTree[Array]:
    """All leaves as arrays of the float type `dtype`."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def add_scaled(tree: PyTree[Array], scale: Array, direction: PyTree[Array]) -> PyTree[Array]:
    """`tree + scale * direction`, with `scale` of shape `(batch, units, 1)`."""

    def leaf(x, d):
        return x + scale.reshape(scale.shape + (1,) * (x.ndim - scale.ndim)) * d

    return jax.tree.map(leaf, tree, direction)


def aligned(part: Array, like: Array) -> Array:
    """An array with the last axes `(batch, units)`, with axes inserted before them to match the rank of `like`."""
    return part.reshape(*part.shape[:-2], *(1,) * (like.ndim - part.ndim), *part.shape[-2:])
