"""Initialisers of weights, delays and other parameters.

An initialiser is a function `(key, shape) -> array`. For the weights and delays of a connection,
`shape = (sources, targets)`. Functions of this form, such as those of `jax.nn.initializers`, can be used instead of the
initialisers of this module. Parameters of neurons are drawn by a call, for 20 neurons
`sx.LIF(bias=sx.init.normal(0.0, 0.1)(key, (20,)))`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._checks import require, require_below, require_finite, require_positive


Initializer = Callable[[Array, tuple[int, ...]], Array]
"""A function `(key, shape) -> array`."""


def constant(value: float) -> Initializer:
    """An initialiser that sets all values to `value`."""
    require_finite(value, "value")
    return lambda key, shape: jnp.full(shape, float(value))


def normal(mean: float, std: float) -> Initializer:
    """An initialiser that draws values from a normal distribution."""
    require_finite(mean, "mean")
    require_finite(std, "std")
    require(std >= 0, "std", "at least 0", std)
    return lambda key, shape: mean + std * jax.random.normal(key, shape)


def uniform(low: float, high: float) -> Initializer:
    """An initialiser that draws values uniformly between `low` and `high`."""
    require_finite(low, "low")
    require_finite(high, "high")
    require_below(low, high, "low", "high")
    return lambda key, shape: jax.random.uniform(key, shape, minval=low, maxval=high)


def scaled_normal(mean: float, std: float) -> Initializer:
    r"""An initialiser that draws weights from $N(\text{mean} / n, \text{std}^2 / n)$ for $n$ sources.

    The sum of all weights of a neuron has the mean `mean` and the standard deviation `std` for any number of sources.
    """
    require_finite(mean, "mean")
    require_finite(std, "std")
    require(std >= 0, "std", "at least 0", std)
    return lambda key, shape: mean / shape[0] + std / math.sqrt(shape[0]) * jax.random.normal(key, shape)


def scaled_uniform(mean: float, std: float) -> Initializer:
    r"""An initialiser that draws weights uniformly, with mean $\text{mean} / n$ and variance $\text{std}^2 / n$.

    For $n$ sources they lie between $\text{mean} / n \pm \sqrt{3 / n}\, \text{std}$. The sum of all weights of a neuron
    has the mean `mean` and the standard deviation `std` for any number of sources, as with `scaled_normal`.
    """
    require_finite(mean, "mean")
    require_positive(std, "std")

    def draw(key, shape):
        n = shape[0]
        bound = math.sqrt(3.0 / n) * std
        return mean / n + jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return draw


def fluctuation_driven(
    rate: float, *, tau_mem: float, tau_syn: float, mean: float = 0.0, std: float = 1.0
) -> Initializer:
    r"""An initialiser of the fluctuation-driven regime: it sets mean and fluctuations of the free membrane voltage.

    Let $n$ inputs be independent Poisson processes of rate $\nu$. The membrane voltage of a `LIF` neuron with an
    `ExpSynapse` and without spikes has, averaged over time and neurons, the mean $\mu$ above rest and the variance
    $\sigma^2$,

    $$ \mu = n\, \nu\, \mu_w \int \epsilon, \qquad \sigma^2 = n\, \nu\, (\mu_w^2 + \sigma_w^2) \int \epsilon^2, \qquad
       \int \epsilon = \tau_{syn}, \qquad \int \epsilon^2 = \frac{\tau_{syn}^2}{2 (\tau_{mem} + \tau_{syn})}, $$

    for weights from $N(\mu_w, \sigma_w^2)$ and the voltage response $\epsilon$ to an arrival of weight one. Weights are
    drawn with the $\mu_w$ and $\sigma_w$ that solve these equations. They hold a few time constants after the start.

    The threshold is $\xi = (v_{threshold} - v_{rest} - \mu) / \sigma$ standard deviations above the mean. For a
    threshold of 1 above rest, the defaults give $\xi = 1$. Values from 1 to 3 suit most tasks.

    **Main arguments:**

    - `rate`: the rate $\nu$ of each input, in spikes per ms: its number of spikes per sample over the duration of a
      sample.

    **Other arguments:**

    - `tau_mem`, `tau_syn`: the membrane and synaptic time constants, in ms.
    - `mean`, `std`: the mean $\mu$ of the free voltage above rest, and its standard deviation $\sigma$.

    **Raises:** `TypeError` or `ValueError` for numbers that are not positive or finite. When weights are drawn,
    `ValueError` for a `std` below the fluctuations that the mean weight alone causes.

    ??? cite "Reference"
        J. Rossbroich, J. Gygax, F. Zenke, *Fluctuation-driven initialization for spiking neural network training*,
        Neuromorphic Computing and Engineering 2, 2022.
    """
    for name, value in (("rate", rate), ("tau_mem", tau_mem), ("tau_syn", tau_syn), ("std", std)):
        require_positive(value, name)
    require_finite(mean, "mean")
    area, energy = tau_syn, tau_syn**2 / (2.0 * (tau_mem + tau_syn))

    def draw(key, shape):
        n = shape[0]
        mean_weight = mean / (n * rate * area)
        variance = std**2 / (n * rate * energy) - mean_weight**2
        least = abs(mean_weight) * math.sqrt(n * rate * energy)
        require(variance >= 0, "std", f"at least {least:.3g} for {n} inputs and the mean {mean}", std)
        return mean_weight + math.sqrt(variance) * jax.random.normal(key, shape)

    return draw
