"""Type aliases that the whole package shares."""

from typing import Any

from jaxtyping import Array, Float


Scalar = float | Float[Array, "..."]
"""One number, or an array that holds one number for every neuron of a layer."""

State = Any
"""The state of one neuron: any pytree of arrays, usually a small `equinox.Module`."""

Weight = Any
"""What one arrival carries: one number, or one number for every port of a synapse."""
