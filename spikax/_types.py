"""Types shared by the whole package."""

import abc
import contextlib
from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float


if TYPE_CHECKING:
    _Value = Any  # for a type checker, a parameter is accepted wherever its value is
else:
    _Value = object


class AbstractParameter(eqx.Module, _Value):
    """A parameter whose stored form differs from its value.

    An optimiser changes the floating-point arrays in it. A simulation uses its `value`.
    """

    @property
    @abc.abstractmethod
    def value(self) -> Float[Array, "..."]:
        """The value that a simulation uses."""

    def scaled(self, factor: Any) -> "AbstractParameter":
        """The parameter with `factor` times the value, for a positive factor."""
        raise TypeError(
            f"`factor` must be applied by the parameter itself; got {type(self).__name__}, which has no `scaled`. "
            "Define `scaled(factor)`, which returns the parameter with `factor` times the value."
        )


Scalar = float | np.number | Float[Array | np.ndarray, "..."] | AbstractParameter
"""A number, or an array with one number for each neuron of a layer."""

State = Any
"""The state of one neuron: any pytree of arrays, usually a small `equinox.Module`."""

Weight = Any
"""The weight of one arrival: a number, or one number for each port of a synapse."""


class Constant(float):
    """A constant number in a network. For JAX it is not a leaf: it has no gradient, and no optimiser changes it."""

    def __jax_array__(self):
        return jnp.asarray(float(self))  # weakly typed, which a subclass of float is not by itself


class Integer(int):
    """A constant integer in a network, like `Constant`."""

    def __jax_array__(self):
        return jnp.asarray(int(self))


# Unflattening creates a new object at each place, so that `eqx.tree_at` can distinguish the places.
for _kind, _plain in ((Constant, float), (Integer, int)):
    jax.tree_util.register_pytree_node(
        _kind, lambda number, plain=_plain: ((), plain(number)), lambda number, _, kind=_kind: kind(number)
    )


def stored(tree: Any) -> Any:
    """The tree as a network stores it: numbers become constants, and arrays are trained.

    Arrays of NumPy become arrays of JAX. No array is weakly typed, since the first step of an optimiser would change
    that and cause a recompilation.
    """
    return jax.tree.map(_stored, tree)


def _stored(leaf: Any) -> Any:
    leaf = leaf.item() if isinstance(leaf, np.generic) else leaf
    if isinstance(leaf, float):
        return Constant(leaf)
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        return Integer(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufV":
        return jnp.asarray(leaf)
    return strong(leaf) if isinstance(leaf, jax.Array) else leaf


def strong(array: Array) -> Array:
    """The array, not weakly typed."""
    if not array.aval.weak_type:
        return array
    with known_stays_known(array):
        return jnp.asarray(array, array.dtype)


def known_stays_known(array: Array) -> contextlib.AbstractContextManager:
    """A context in which computations with an array that is not traced are not traced either, even in a `jit`."""
    return contextlib.nullcontext() if isinstance(array, Tracer) else jax.ensure_compile_time_eval()


def is_parameter(node: Any) -> bool:
    """Whether a node of a tree is an `AbstractParameter`."""
    return isinstance(node, AbstractParameter)


def is_whole(node: Any) -> bool:
    """Whether a node of a tree represents a single value: an `AbstractParameter`, or a constant of a network."""
    return isinstance(node, AbstractParameter | Constant | Integer)


def resolved(tree: Any) -> Any:
    """The tree as a simulation uses it: with the value of each `AbstractParameter`, and plain numbers."""
    return jax.tree.map(_resolved, tree, is_leaf=is_whole)


def _resolved(node: Any) -> Any:
    if is_parameter(node):
        return node.value
    return float(node) if isinstance(node, Constant) else int(node) if isinstance(node, Integer) else node
