"""The objective of a training, and its evaluation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import require
from .._simulate.results import RESULTS
from ._data import as_batches, Batches, Data
from ._replicas import Devices, DIVIDED, in_all_processes, Replicas, SampleError, WHOLE


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
        measures, results = _measured(network, objective, replicas, replicas.divided(batch)[0])
        require_successful(results)
        return measures

    for number, (*batch, count) in enumerate(data.in_order(), start=1):
        try:
            measured = jax.device_get(in_all_processes(run, batch, replicas))
        except eqx.EquinoxRuntimeError as error:
            raise eqx.EquinoxRuntimeError(f"Batch {number}: {error}") from error.__cause__
        sums = {name: sums.get(name, 0.0) + np.sum(measured[name][:count], dtype=float) for name in measured}
        samples += count
    total = np.sum(replicas.gathered(np.asarray([samples, *sums.values()], float)), axis=0)
    return {name: float(value / total[0]) for name, value in zip(sums, total[1:], strict=True)}


class Measured(NamedTuple):
    """What an objective returns for a batch, each with one entry per sample."""

    measures: dict[str, Array]  # and the losses, as `"loss"`
    results: dict[str, RESULTS]  # how the simulation of each layer ended; empty if the objective does not return it


def measured(network: Any, objective: Objective, inputs: PyTree, targets: PyTree) -> Measured:
    """What the objective returns for a batch. Raises unless each part has one entry per sample."""
    given = objective(network, inputs, targets)
    is_pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)
    expectation = "a function that returns a pair of losses and a dictionary of measures"
    require(is_pair, "objective", expectation, given, error=TypeError)
    losses, measures = given
    is_free = {"loss", "gradient_norm"}.isdisjoint(measures)
    require(is_free, "objective", "a function without measures named `loss` or `gradient_norm`", sorted(measures))
    measures = {"loss": losses} | measures
    results: Any = measures.pop("results", {})
    is_results = isinstance(results, dict) and all(isinstance(result, RESULTS) for result in results.values())
    require(is_results, "results", "`Solution.results`", results, "It is a dictionary by layer.", error=TypeError)
    samples = jnp.shape(jax.tree.leaves(targets)[0])[:1]
    for name, values in (measures | {name: jax.tree.leaves(result)[0] for name, result in results.items()}).items():
        require(jnp.shape(values) == samples, name, f"of shape {samples}, one number per sample", values)
    return Measured(measures, results)


def require_successful(results: dict[str, RESULTS]) -> None:
    """Raises a `SampleError` for the first sample of a batch that failed, if there is one."""
    failed = {name: np.asarray(result != RESULTS.successful) for name, result in results.items()}
    if not failed or not np.any(list(failed.values())):
        return
    sample = int(np.argmax(np.any(list(failed.values()), axis=0)))
    found = {name: jax.tree.map(lambda leaf: leaf[sample], results[name]) for name in results if failed[name][sample]}
    # A layer whose source failed is not the cause.
    name = next((name for name, result in found.items() if result != RESULTS.source_failed), next(iter(found)))
    raise SampleError(sample, f"Layer `{name}`: {RESULTS[found[name]]}")


@eqx.filter_jit
def _measured(network: Any, objective: Objective, replicas: Replicas, batch: Sequence[PyTree]) -> Measured:
    arrays, rest = eqx.partition(network, eqx.is_array)

    def each(arrays, batch):
        return measured(eqx.combine(arrays, rest), objective, *batch)

    return replicas.over(each, WHOLE, DIVIDED)(arrays, batch)
