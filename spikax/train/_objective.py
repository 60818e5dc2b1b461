"""The objective of a training, and its evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import require
from ._data import as_batches, Batches, Data
from ._replicas import Devices, DIVIDED, in_all_processes, Replicas, WHOLE


Objective = Callable[[Any, Any, Any], tuple[Array, dict[str, Array]]]
"""A function `(network, inputs, targets) -> (losses, measures)` with one loss and one of each measure per sample."""


def evaluate(network: Any, objective: Objective, data: Data, *, devices: Devices = None) -> dict[str, float]:
    """The loss and each measure, averaged over all samples of a data set.

    **Arguments:**

    - `network`, `objective`: as in [`spikax.train.fit`][].
    - `data`: a [`spikax.datasets.Loader`][], whose order and seed have no effect; or other batches, as in
      [`spikax.train.fit`][].
    - `devices`: the devices that share each batch, as in [`spikax.train.value_and_grad`][].

    **Returns:** a dictionary with the entry `"loss"` and one entry per measure.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for an objective with results of another form. A
    run-time error of a simulation names the batch, from 1, and the sample in it, from 0.
    """
    replicas = Replicas.on(devices)
    return mean_measures(network, objective, as_batches(data, "data", replicas), replicas)


def mean_measures(network: Any, objective: Objective, data: Batches, replicas: Replicas) -> dict[str, float]:
    """As `evaluate`, with the batches of this process."""
    network = replicas.placed(network)
    sums: dict[str, float] = {}
    samples = 0

    def run(batch):
        return _measures(network, objective, replicas, replicas.divided(batch)[0])

    for number, (*batch, count) in enumerate(data.in_order(), start=1):
        try:
            measured = jax.device_get(in_all_processes(run, batch, replicas))
        except eqx.EquinoxRuntimeError as error:
            raise eqx.EquinoxRuntimeError(f"Batch {number}: {error}") from error.__cause__
        sums = {name: sums.get(name, 0.0) + np.sum(measured[name][:count], dtype=float) for name in measured}
        samples += count
    total = np.sum(replicas.gathered(np.asarray([samples, *sums.values()], float)), axis=0)
    return {name: float(value / total[0]) for name, value in zip(sums, total[1:], strict=True)}


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
def _measures(network: Any, objective: Objective, replicas: Replicas, batch: Sequence[PyTree]) -> dict[str, Array]:
    arrays, rest = eqx.partition(network, eqx.is_array)

    def each(arrays, batch):
        return measures_of(eqx.combine(arrays, rest), objective, *batch)

    return replicas.over(each, WHOLE, DIVIDED)(arrays, batch)
