"""Parameters that stay positive while they learn."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Positive(eqx.Module):
    r"""A parameter that learns and stays positive: what is stored, and what an optimiser changes, is its logarithm.

    $$ \theta = e^{x}, \qquad \frac{\partial L}{\partial x} = \theta\, \frac{\partial L}{\partial \theta}. $$

    It goes wherever a parameter of a neuron or of a synapse goes; a simulation sees its `value`.

    ```python
    neuron = sx.LIF(tau_mem=sx.Positive(20.0), synapse=sx.ExpSynapse(tau=sx.Positive(jnp.full(120, 5.0))))
    ```

    **Arguments:**

    - `value`: a positive number, or an array with one for every neuron.

    Raises `TypeError` or `ValueError` for anything else, as far as it is known.
    """

    log: Float[Array, "..."]

    def __init__(self, value: Any):
        from ._checks import require_positive

        require_positive(value, "value")
        value = jnp.asarray(value, jnp.result_type(float) if np.ndim(value) == 0 and not eqx.is_array(value) else None)
        self.log = jnp.log(value)

    @property
    def value(self) -> Float[Array, "..."]:
        """The parameter."""
        return jnp.exp(self.log)


def is_positive(node: Any) -> bool:
    """Whether a node of a tree is a `Positive`."""
    return isinstance(node, Positive)


def resolved(tree: Any) -> Any:
    """The tree with the value of every `Positive` in its place."""
    return jax.tree.map(lambda node: node.value if is_positive(node) else node, tree, is_leaf=is_positive)
