"""The flow of linear neurons with any number of variables and filters between arrivals.

With a constant one as the last filter, z = (v, x, 1), the flow is

    z' = A z,      so that z(t + s) = exp(A s) z(t).

All coefficients are derived from the methods of the neuron.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..._neuron import AbstractNeuron
from ..._synapse import drive_of, evolve_filters, filters_after_arrival, for_each_port, initial_filters
from .axes import cast, over_units, shared
from .flow import AbstractFlow
from .small_matrices import applied, balance, dot, exp_minus_one


class MatrixFlow(AbstractFlow):
    """The flow of a layer. The axes `(batch, units)` of a shared coefficient have the sizes `(1, 1)`.

    v has the axes `(variables, batch, units)`, x has `(filters, batch, units)`.
    """

    neuron: AbstractNeuron | None  # None for the concatenated neurons of several layers
    structure: Any = eqx.field(static=True)  # of the neuron's state
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # of its leaves

    matrix: Float[Array, "all all batch units"]
    input_jump: Float[Array, "filters ports batch units"]  # the jump of x at an arrival of weight one
    slope: Float[Array, "variables batch units"]
    offset: Float[Array, "batch units"]
    scales: Float[Array, "all batch units"]  # units of the variables that balance the matrix

    @classmethod
    def of(cls, neuron, state, t):
        structure, shapes = jax.tree.structure(state), tuple(leaf.shape[3:] for leaf in jax.tree.leaves(state))
        parts = _Parts(structure, shapes, t)
        matrix, input_jump, slope, offset = (
            _with_axes(shared(part, neuron), axes)
            for part, axes in ((parts.matrix, 2), (parts.input_jump, 2), (parts.slope, 1), (parts.offset, 0))
        )
        return cls(neuron, structure, shapes, matrix, input_jump, slope, offset, lax.stop_gradient(balance(matrix)))

    @staticmethod
    def pack(state, filters):
        v, x = (jnp.concatenate([_rows(leaf) for leaf in jax.tree.leaves(part)]) for part in (state, filters))
        return v, jnp.concatenate([x, jnp.ones((1, *x.shape[1:]), x.dtype)])

    @staticmethod
    def unpack(v, x, state, filters):
        return tuple(_unpacked(rows, like) for rows, like in ((v, state), (x[..., :-1, :, :], filters)))

    @property
    def variables(self) -> int:
        """The number of variables in v."""
        return self.slope.shape[0]

    @property
    def width(self):
        n = self.matrix.shape[0]
        return n + (n**2 if self.matrix.shape[-1] > 1 else 0)

    def propagators(self, s):
        return self._propagator(self.matrix, self.scales, s)

    def step(self, propagator, v, x, weight):
        v, x = self._moved(propagator, v, x)
        return v, self.jumped(x, jnp.stack(jax.tree.leaves(weight)))

    def after(self, v, x, s):
        return self._moved(self._propagator(self.matrix, self.scales, s), v, x)

    def jumped(self, x, weight):
        return x + applied(self.input_jump, weight)

    def fading(self, x):
        d = self.variables
        return applied(self.matrix[d:, d:], x)

    def kept(self, change, s):
        d = self.variables
        return change + applied(self._propagator(self.matrix[:d, :d], self.scales[:d], s), change)

    def changed(self, knots, propagators, change, place):
        d = self.variables
        # From the spike to the next knot, then from knot to knot.
        following = self.kept(change.jump, jnp.maximum(knots.time(place + 1) - change.t, 0.0))
        number = jnp.arange(1, len(knots.t), dtype=jnp.int32)

        def step(old, given):
            propagator, number = given
            new = jnp.where(number == place + 1, following, old + applied(propagator, old))
            return new, new

        _, changes = lax.scan(step, jnp.zeros_like(change.jump), (propagators[:, :d, :d], number))
        return jnp.concatenate([knots.v[:1], knots.v[1:] + changes])

    def speed(self, v, x):
        return applied(self.matrix[: self.variables], self.joined(v, x))

    def condition(self, v):
        return dot(self.slope, v) + self.offset

    def steepness(self, speed):
        return dot(self.slope, speed)

    def reset(self, t, v):
        def one(neuron, t, v):
            state = neuron.reset(t, _as_state(v, self.structure, self.shapes))
            return ravel_pytree(cast(state, v.dtype))[0]

        after = over_units(one, self.neuron, t[..., None], jnp.moveaxis(v, 0, -1)[:, :, None])
        return jnp.moveaxis(after[:, :, 0], -1, 0)

    def joined(self, v: Array, x: Array) -> Array:
        """z = (v, x, 1), where x contains the one."""
        return jnp.concatenate([v, x], axis=-3)

    def _moved(self, propagator: Array, v: Array, x: Array) -> tuple[Array, Array]:
        z = self.joined(v, x)
        z = z + applied(propagator, z)
        return z[..., : self.variables, :, :], z[..., self.variables :, :, :]

    @staticmethod
    def _propagator(matrix: Array, scales: Array, s: Array) -> Array:
        """exp(A s) - 1."""
        scale = scales[None] / scales[:, None]
        return exp_minus_one(matrix * scale * s[..., None, None, :, :]) / scale


class _Parts(eqx.Module):
    """The coefficients of one neuron."""

    structure: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    t: Array

    def matrix(self, neuron: AbstractNeuron) -> Array:
        x, as_filters = self._filters(neuron)
        v = self._nothing()

        def field(v, x):
            drive = drive_of(neuron.synapse, as_filters(x))
            return self._flat(neuron.dynamics(self.t, self._state(v), drive))

        def decay(x):
            def evolved(s):
                return self._flat(evolve_filters(neuron.synapse, as_filters(x), s))

            return jax.jvp(evolved, (jnp.zeros_like(self.t),), (jnp.ones_like(self.t),))[1]

        membrane, drive = jax.jacfwd(field, (0, 1))(v, x)
        constant = field(v, x)[:, None]
        rows = [
            jnp.concatenate([membrane, drive, constant], axis=1),
            jnp.pad(jax.jacfwd(decay)(x), ((0, 1), (len(v), 1))),
        ]
        return jnp.concatenate(rows)

    def input_jump(self, neuron: AbstractNeuron) -> Array:
        x, as_filters = self._filters(neuron)
        weight, as_weight = ravel_pytree(self._weight(neuron))

        def after_input(weight):
            return self._flat(filters_after_arrival(neuron.synapse, as_filters(x), as_weight(weight)))

        return jnp.pad(jax.jacfwd(after_input)(weight), ((0, 1), (0, 0)))

    def slope(self, neuron: AbstractNeuron) -> Array:
        return jax.jacfwd(lambda v: self._condition(neuron, v))(self._nothing())

    def offset(self, neuron: AbstractNeuron) -> Array:
        return self._condition(neuron, self._nothing())

    def _condition(self, neuron: AbstractNeuron, v: Array) -> Array:
        return jnp.asarray(neuron.spike_condition(self.t, self._state(v)), self.t.dtype)

    def _filters(self, neuron: AbstractNeuron) -> tuple[Array, Any]:
        """The filters before any arrival as a vector, and the map from vectors to filters."""
        return ravel_pytree(cast(initial_filters(neuron.synapse, self.t), self.t.dtype))

    def _weight(self, neuron: AbstractNeuron) -> PyTree[Array]:
        return for_each_port(neuron.synapse, jnp.zeros_like(self.t))

    def _nothing(self) -> Array:
        return jnp.zeros(sum(map(math.prod, self.shapes)), self.t.dtype)

    def _state(self, v: Array) -> PyTree[Array]:
        return _as_state(v, self.structure, self.shapes)

    def _flat(self, tree: PyTree) -> Array:
        return ravel_pytree(cast(tree, self.t.dtype))[0]


def _as_state(v: Array, structure: Any, shapes: tuple[tuple[int, ...], ...]) -> PyTree[Array]:
    """The state of one neuron, from the vector of its variables."""
    sizes = [math.prod(shape) for shape in shapes]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = (v[end - size : end] for size, end in zip(sizes, ends, strict=True))
    return structure.unflatten([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])


def _with_axes(coefficient: Array, axes: int) -> Array:
    """A coefficient with `axes` axes of its own, followed by `(batch, units)`."""
    if coefficient.ndim == axes:
        return coefficient[..., None, None]
    return jnp.moveaxis(coefficient, (0, 1), (-2, -1))


def _rows(leaf: Array) -> Array:
    """Converts (batch, units, 1, ...) to (numbers, batch, units)."""
    return jnp.moveaxis(leaf.reshape(*leaf.shape[:2], -1), -1, 0)


def _unpacked(rows: Array, like: PyTree[Array]) -> PyTree[Array]:
    """Converts (..., numbers, batch, units) to leaves (..., batch, units, 1, ...)."""
    leaves, structure = jax.tree.flatten(like)
    sizes = [math.prod(leaf.shape[3:]) for leaf in leaves]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    last = jnp.moveaxis(rows, -3, -1)
    parts = (last[..., end - size : end] for size, end in zip(sizes, ends, strict=True))
    shaped = [part.reshape(*rows.shape[:-3], *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return structure.unflatten(shaped)
