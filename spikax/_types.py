"""Types that the whole package shares."""

import abc
from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
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


def is_parameter(node: Any) -> bool:
    """Whether a node of a tree is a parameter in a form of its own."""
    return isinstance(node, AbstractParameter)


def resolved(tree: Any) -> Any:
    """The tree with the value of every `AbstractParameter` in its place."""
    return jax.tree.map(lambda node: node.value if is_parameter(node) else node, tree, is_leaf=is_parameter)
