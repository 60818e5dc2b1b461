"""The objective of a training, and its evaluation."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import require
from ._data import as_batches, Batches, Data


Objective = Callable[[Any, Any, Any], tuple[Array, dict[str, Array]]]
"""A function `(network, inputs, targets) -> (losses, measures)` with one loss and one of each measure per sample."""


def evaluate(network: Any, objective: Objective, data: Data) -> dict[str, float]:
    """The loss and each measure, averaged over all samples of a data set.

    **Arguments:**

    - `network`, `objective`: as in [`spikax.train.fit`][].
    - `data`: a [`spikax.datasets.Loader`][], whose order and seed have no effect; or other batches, as in
      [`spikax.train.fit`][].

    **Returns:** a dictionary with the entry `"loss"` and one entry per measure.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for an objective with results of another form.
    """
    return mean_measures(network, objective, as_batches(data, "data"))


def mean_measures(network: Any, objective: Objective, data: Batches) -> dict[str, float]:
    """As `evaluate`."""
    measured = [(_measures(network, objective, *batch), count) for *batch, count in data.in_order()]
    measured = [{name: values[:count] for name, values in part.items()} for part, count in jax.device_get(measured)]
    return {name: float(np.mean(np.concatenate([part[name] for part in measured]))) for name in measured[0]}


def measures_of(network: Any, objective: Objective, inputs: PyTree, targets: PyTree) -> dict[str, Array]:
    """The losses, as `"loss"`, and the measures of a batch. Raises unless each has one number per sample."""
    given = objective(network, inputs, targets)
    is_pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)
    expectation = "a function that returns a pair of losses and a dictionary of measures"
    require(is_pair, "objective", expectation, given, error=TypeError)
    losses, measures = given
    is_free = {"loss", "gradient_norm"}.isdisjoint(measures)
    require(is_free, "objective", "a function without measures named `loss` or `gradient_norm`", sorted(measures))
    samples = jnp.shape(jax.tree.leaves(targets)[0])[:1]
    for name, values in ({"loss": losses} | measures).items():
        require(jnp.shape(values) == samples, name, f"of shape {samples}, one number per sample", values)
    return {"loss": losses} | measures


@eqx.filter_jit
def _measures(network: Any, objective: Objective, inputs: PyTree, targets: PyTree) -> dict[str, Array]:
    return measures_of(network, objective, inputs, targets)
