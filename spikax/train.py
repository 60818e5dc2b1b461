"""A training loop."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ._checks import require, require_count, require_instance


Objective = Callable[[Any, Any, Any], tuple[Array, dict[str, Array]]]
"""From a network, a batch of inputs, and their targets, to the losses and further measures, one number per sample."""


class Epoch(NamedTuple):
    """What happened in an epoch.

    - `number`: the number of the epoch, from 1.
    - `seconds`: how long it took, with its validation.
    - `training`: the mean of the loss and of each measure over its batches, while the network was learning.
    - `validation`: the same over the validation data, after it.
    """

    number: int
    seconds: float
    training: dict[str, float]
    validation: dict[str, float]


class Fit(NamedTuple):
    """What [`spikax.train.fit`][] gives.

    - `network`: the best network: that of the epoch `best`.
    - `best`: the number of the epoch with the highest validation accuracy; of several, the one with the lowest loss.
    - `history`: all epochs.
    """

    network: Any
    best: int
    history: list[Epoch]


def fit(
    network: Any,
    objective: Objective,
    training: tuple[PyTree, PyTree],
    validation: tuple[PyTree, PyTree],
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    on_epoch: Callable[[Epoch], Any] | None = None,
) -> Fit:
    """Trains all floating-point arrays of a network by gradient descent, and keeps the best.

    Every epoch shuffles the training data. All batches have the same size, so that the step is compiled once: the
    samples left over, fewer than `batch_size`, sit out the epoch, others in each.

    **Main arguments:**

    - `network`: the network, or any other pytree.
    - `objective`: a function `(network, inputs, targets) -> (losses, measures)`, where losses, and each entry of the
      dictionary measures, have shape `(batch,)`. The mean loss is minimised. The measures must have an entry
      `"accuracy"`, 1 where the network is right and 0 elsewhere.
    - `training`, `validation`: pairs of inputs and targets: pytrees of arrays, samples along their first axis.

    **Other arguments:**

    - `optimizer`: an Optax optimiser.
    - `epochs`: how often to go through the training data.
    - `batch_size`: the number of samples in a step.
    - `seed`: the seed of the shuffling.
    - `on_epoch`: called with the [`spikax.train.Epoch`][] at the end of each: to show progress, or to stop by raising.

    **Returns:** a [`spikax.train.Fit`][].

    **Raises:** `TypeError` or `ValueError` for arguments that cannot be meant, and `FloatingPointError` at the end of
    an epoch whose loss is not finite.
    """
    require_instance(optimizer, optax.GradientTransformation, "optimizer", "an Optax optimiser")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        require_count(value, name)
    require(callable(objective), "objective", "a function", objective, error=TypeError)
    require(on_epoch is None or callable(on_epoch), "on_epoch", "a function", on_epoch, error=TypeError)
    require_instance(seed, int, "seed", "an integer")
    require(seed >= 0, "seed", "at least 0", seed)
    n = _samples(training, "training")
    _samples(validation, "validation")
    require(batch_size <= n, "batch_size", f"at most {n}, the number of training samples", batch_size)

    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    rng = np.random.default_rng(seed)
    history: list[Epoch] = []
    best = None
    for number in range(1, epochs + 1):
        start = time.perf_counter()
        batches = rng.permutation(n)[: n - n % batch_size].reshape(-1, batch_size)
        seen = []
        for rows in batches:
            network, state, measures = _step(network, state, objective, optimizer, training, rows)
            seen.append(measures)
        learned = {name: float(np.mean([measures[name] for measures in seen])) for name in seen[0]}
        tested = evaluate(network, objective, validation, batch_size=batch_size)
        epoch = Epoch(number, time.perf_counter() - start, learned, tested)
        _require_finite_loss(epoch)
        history.append(epoch)
        if best is None or _merit(epoch) > _merit(history[best.best - 1]):
            best = Fit(network, number, history)
        if on_epoch is not None:
            on_epoch(epoch)
    assert best is not None
    return best


def evaluate(network: Any, objective: Objective, data: tuple[PyTree, PyTree], *, batch_size: int) -> dict[str, float]:
    """The mean of the loss, and of each measure, over all data; see [`spikax.train.fit`][] for the arguments."""
    require_count(batch_size, "batch_size")
    n = _samples(data, "data")
    measured = [_measures(network, objective, data, rows) for rows in filled_batches(n, batch_size)]
    return {name: float(np.mean(np.concatenate([part[name] for part in measured])[:n])) for name in measured[0]}


def filled_batches(n: int, batch_size: int) -> np.ndarray:
    """The numbers of `n` samples in batches, shape `(batches, batch_size)`, for results that are cut to `n` again.

    The last batch is filled up with the first samples, so that all have one shape, and one compilation serves them.
    """
    return (np.arange(-(-n // batch_size) * batch_size) % n).reshape(-1, batch_size)


@eqx.filter_jit
def _step(network: Any, state: Any, objective: Objective, optimizer: Any, data: Any, rows: np.ndarray):
    @eqx.filter_grad(has_aux=True)
    def gradient(network):
        measures = _measures_of(network, objective, data, rows)
        means = jax.tree.map(jnp.mean, measures)
        return means["loss"], means

    gradients, means = gradient(network)
    updates, state = optimizer.update(gradients, state, eqx.filter(network, eqx.is_inexact_array))
    return eqx.apply_updates(network, updates), state, means


@eqx.filter_jit
def _measures(network: Any, objective: Objective, data: Any, rows: np.ndarray) -> dict[str, Array]:
    return _measures_of(network, objective, data, rows)


def _measures_of(network: Any, objective: Objective, data: Any, rows: np.ndarray) -> dict[str, Array]:
    losses, measures = objective(network, *jax.tree.map(lambda leaf: leaf[rows], data))
    expected = {"loss": losses} | measures
    require("accuracy" in expected, "objective", "a function that gives the measure `accuracy`", sorted(expected))
    for name, values in expected.items():
        require(jnp.shape(values) == rows.shape, name, f"of shape {rows.shape}, one number per sample", values)
    return expected


def _samples(data: Any, name: str) -> int:
    is_pair = isinstance(data, tuple) and len(data) == 2
    require(is_pair, name, "a pair (inputs, targets)", data, error=TypeError)
    leaves = jax.tree.leaves(data)
    has_samples = len(leaves) > 0 and all(jnp.ndim(leaf) > 0 for leaf in leaves)
    require(has_samples, name, "arrays with samples along their first axis", data)
    sizes = {jnp.shape(leaf)[0] for leaf in leaves}
    require(len(sizes) == 1, name, "arrays with as many inputs as targets", sizes)
    return sizes.pop()


def _merit(epoch: Epoch) -> tuple[float, float]:
    return epoch.validation["accuracy"], -epoch.validation["loss"]


def _require_finite_loss(epoch: Epoch) -> None:
    losses = epoch.training["loss"], epoch.validation["loss"]
    if not np.all(np.isfinite(losses)):
        raise FloatingPointError(
            f"The losses of epoch {epoch.number} are {losses[0]} in training and {losses[1]} in validation. "
            "Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`."
        )
