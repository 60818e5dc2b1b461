"""Connections: who reaches whom, and with what weight."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._checks import known, require, require_instance
from ._types import resolved


class Dense(eqx.Module):
    """Every neuron of `source` reaches every neuron of `target`.

    **Arguments:**

    - `source`: the name of the layer, or of the input, whose spikes travel.
    - `target`: the name of the layer at which they arrive.
    - `weight`: shape `(sources, targets)`; for a synapse with named ports, a dictionary of such arrays. In place of
      an array it may be a parameter such as [`spikax.Signed`][] or [`spikax.Masked`][].
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any

    def __check_init__(self):
        require_instance(self.source, str, "source", "the name of a layer or of an input")
        require_instance(self.target, str, "target", "the name of a layer")
        leaves = jax.tree.leaves(resolved(self.weight))
        require(len(leaves) > 0, "weight", "an array of shape (sources, targets)", self.weight, error=TypeError)
        for leaf in leaves:
            is_float = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
            require(is_float, "weight", "a floating-point array of JAX", leaf, "Wrap it in `jnp.asarray`.", TypeError)
            numbers = known(leaf)
            require(numbers is None or not np.any(np.isnan(numbers)), "weight", "free of NaN", leaf)
            require(leaf.ndim == 2, "weight", "of shape (sources, targets)", leaf)
            require(leaf.shape == leaves[0].shape, "weight", f"of one shape in all ports, {leaves[0].shape}", leaf)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of sources and of targets."""
        return jax.tree.leaves(resolved(self.weight))[0].shape
