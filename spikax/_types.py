"""Types that the whole package shares."""

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
    _Value = Any  # to a type checker, a parameter may stand wherever its value may
else:
    _Value = object


class AbstractParameter(eqx.Module, _Value):
    """A parameter that is stored in one form, and seen by a simulation in another.

    What an optimiser changes are the floating-point arrays in it; a simulation sees its `value`.
    """

    @property
    @abc.abstractmethod
    def value(self) -> Float[Array, "..."]:
        """What a simulation sees."""

    def scaled(self, factor: Any) -> "AbstractParameter":
        """The parameter whose value is `factor` times this one's, for a positive factor."""
        raise TypeError(
            f"`factor` must be applied by the parameter itself; got {type(self).__name__}, which has no `scaled`. "
            "Define `scaled(factor)`, which gives the parameter with a value that is `factor` times as large."
        )


Scalar = float | Float[Array, "..."] | AbstractParameter
"""One number, or an array that holds one number for every neuron of a layer."""

State = Any
"""The state of one neuron: any pytree of arrays, usually a small `equinox.Module`."""

Weight = Any
"""What one arrival carries: one number, or one number for every port of a synapse."""


class Constant(float):
    """A number in a network. To JAX it is no leaf: it has no gradient, and no optimiser moves it."""

    def __jax_array__(self):
        return jnp.asarray(float(self))  # weakly typed, which JAX grants to no class derived from float


class Integer(int):
    """An integer in a network; as `Constant`."""

    def __jax_array__(self):
        return jnp.asarray(int(self))


# A new object at each place, so that `eqx.tree_at` can tell the places apart.
for _kind, _plain in ((Constant, float), (Integer, int)):
    jax.tree_util.register_pytree_node(
        _kind, lambda number, plain=_plain: ((), plain(number)), lambda number, _, kind=_kind: kind(number)
    )


def stored(tree: Any) -> Any:
    """The tree as a network keeps it: numbers are constants, and arrays learn.

    Arrays of NumPy become arrays of JAX, and no array is weakly typed: the first step of an optimiser would change
    that, and so all would be compiled again.
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
    # What is known stays known inside of a `jit`.
    is_known = not isinstance(array, Tracer)
    with jax.ensure_compile_time_eval() if is_known else contextlib.nullcontext():
        return jnp.asarray(array, array.dtype)


def is_parameter(node: Any) -> bool:
    """Whether a node of a tree is a parameter in a form of its own."""
    return isinstance(node, AbstractParameter)


def resolved(tree: Any) -> Any:
    """The tree as a simulation sees it: with the value of every `AbstractParameter`, and plain numbers."""
    return jax.tree.map(_resolved, tree, is_leaf=lambda node: isinstance(node, AbstractParameter | Constant | Integer))


def _resolved(node: Any) -> Any:
    if is_parameter(node):
        return node.value
    return float(node) if isinstance(node, Constant) else int(node) if isinstance(node, Integer) else node
