"""Initialisers of weights.

An initialiser is a function `(key, shape) -> array`, with `shape = (sources, targets)`; any function of this form,
those of `jax.nn.initializers` among them, serves as one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._checks import require, require_below, require_finite


Initializer = Callable[[Array, tuple[int, int]], Array]


def constant(value: float) -> Initializer:
    """Every weight is `value`."""
    require_finite(value, "value")
    return lambda key, shape: jnp.full(shape, float(value))


def normal(mean: float, std: float) -> Initializer:
    """Weights drawn from a normal distribution."""
    require_finite(mean, "mean")
    require_finite(std, "std")
    require(std >= 0, "std", "at least 0", std)
    return lambda key, shape: mean + std * jax.random.normal(key, shape)


def uniform(low: float, high: float) -> Initializer:
    """Weights drawn uniformly between `low` and `high`."""
    require_finite(low, "low")
    require_finite(high, "high")
    require_below(low, high, "low", "high")
    return lambda key, shape: jax.random.uniform(key, shape, minval=low, maxval=high)


def scaled_normal(mean: float, std: float) -> Initializer:
    r"""Weights drawn from $N(\text{mean} / n, \text{std}^2 / n)$ for $n$ sources.

    The sum of all weights of a neuron then has the mean `mean` and the standard deviation `std`, whatever its number
    of sources.
    """
    require_finite(mean, "mean")
    require_finite(std, "std")
    require(std >= 0, "std", "at least 0", std)
    return lambda key, shape: mean / shape[0] + std / math.sqrt(shape[0]) * jax.random.normal(key, shape)
