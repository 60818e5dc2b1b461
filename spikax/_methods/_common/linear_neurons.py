"""Tests for linear neurons, which are simulated without a solver."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..._neuron import AbstractNeuron, stops_at_arrivals
from ..._synapse import AbstractSynapse, drive_of, initial_filters
from .axes import cast, over_units, with_dtype, with_unit_axes
from .flow import AbstractFinder, AbstractFlow
from .matrix_flow import MatrixFlow
from .root_finding.bounds import Bounds
from .root_finding.peaks import Peaks
from .scalar_flow import ScalarFlow


def moves_linearly(neuron: AbstractNeuron) -> bool:
    """Whether a neuron moves linearly between arrivals, jumps at its own spikes alone, and sends no payload."""
    jumps = neuron.internal_events() or stops_at_arrivals(neuron)
    return neuron.is_linear and not jumps and not _sends_payload(neuron)


def _sends_payload(neuron: AbstractNeuron) -> bool:
    def payload(neuron):
        placed, state, filters = at_rest(neuron, jnp.float32)

        def one(neuron, state, filters):
            return neuron.payload(jnp.zeros(()), state, drive_of(neuron.synapse, filters))

        return over_units(one, placed, state, filters)

    return bool(jax.tree.leaves(eqx.filter_eval_shape(payload, neuron)))


def has_scalar_flow(neuron: AbstractNeuron) -> bool:
    """Whether a linear neuron has a single variable, driven by a single filter with a single state.

    Parameters have the shape `()`, or one value per neuron of a layer.
    """
    state, filters = eqx.filter_eval_shape(lambda neuron: at_rest(neuron, jnp.float32)[1:], neuron)
    return isinstance(neuron.synapse, AbstractSynapse) and all(map(is_one_number, (state, filters)))


def sizes_of(neuron: AbstractNeuron) -> tuple[int, int]:
    """The numbers of variables and of filters of a neuron."""
    parts = eqx.filter_eval_shape(lambda neuron: at_rest(neuron, jnp.float32)[1:], neuron)
    variables, filters = (sum(math.prod(leaf.shape[3:]) for leaf in jax.tree.leaves(part)) for part in parts)
    return variables, filters


def flow_and_finder(start: tuple[PyTree, PyTree]) -> tuple[type[AbstractFlow], type[AbstractFinder]]:
    """The flow of neurons with such states and filters, and the finder of their spikes.

    The scalar flow if the neuron has one variable and one filter, else the matrix flow.
    """
    return (ScalarFlow, Peaks) if all(map(is_one_number, start)) else (MatrixFlow, Bounds)


def is_one_number(tree: PyTree[Array | jax.ShapeDtypeStruct]) -> bool:
    """Whether a tree with the axes `(batch, units, 1)` holds one number for each neuron."""
    return [leaf.ndim for leaf in jax.tree.leaves(tree)] == [3]


def at_rest(neuron: AbstractNeuron, dtype: Any) -> tuple[AbstractNeuron, PyTree[Array], PyTree[Array]]:
    """The neurons of a layer (one neuron if all are equal) with initial states and filters, for one sample."""
    neuron = with_dtype(neuron, dtype)
    parameters = jax.tree.leaves(eqx.filter(neuron, eqx.is_array))
    size = max((leaf.shape[0] for leaf in parameters if leaf.ndim), default=1)
    placed = with_unit_axes(neuron, 1)

    def start(neuron, zero):
        return cast((neuron.initial_state(), initial_filters(neuron.synapse, zero)), dtype)

    return placed, *over_units(start, placed, jnp.zeros((1, size, 1), dtype))
