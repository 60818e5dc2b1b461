"""The training loop."""

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int, PyTree

from .._checks import require, require_count, require_instance, require_natural
from ..datasets import Loader
from . import _checkpoint as checkpoint
from ._checkpoint import Stand
from ._epoch import Epoch
from ._objective import evaluate, measures_of, Objective, require_loader


class Fit(NamedTuple):
    """What [`spikax.train.fit`][] gives.

    - `network`: the best network: that of the epoch `best`.
    - `best`: the number of the epoch with the highest validation accuracy, where the objective measures an
      `"accuracy"`; of several, and without, the one with the lowest validation loss.
    - `history`: all epochs.
    """

    network: Any
    best: int
    history: list[Epoch]


def fit(
    network: Any,
    objective: Objective,
    training: Loader,
    validation: Loader,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    trainable: PyTree = eqx.is_inexact_array,
    augment: Callable[[Array, Any, Any], tuple[Any, Any]] | None = None,
    seed: int = 0,
    patience: int | None = None,
    callbacks: Sequence[Callable[[Epoch, Any], Any]] = (),
    directory: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Fit:
    """Trains a network by gradient descent, and keeps the best.

    With a `directory`, every epoch ends with a checkpoint there, and the same call goes on where an earlier one was
    interrupted: it takes the same steps, to the bit, as if it had not been. The directory then holds

    - `last.eqx`: the checkpoint: network, state of the optimiser, best network, and history;
    - `best.eqx`: the best network, for `eqx.tree_deserialise_leaves("best.eqx", network)`;
    - `metrics.csv`, `metrics.json`: loss and measures of every epoch.

    **Main arguments:**

    - `network`: the network, or any other pytree.
    - `objective`: a function `(network, inputs, targets) -> (losses, measures)`, where losses, and each entry of the
      dictionary measures, have shape `(batch,)`. The mean loss is minimised. A measure `"accuracy"`, 1 where the
      network is right and 0 elsewhere, chooses the best epoch.
    - `training`, `validation`: a [`spikax.datasets.Loader`][] each. The step is compiled once for every shape of batch.

    **Other arguments:**

    - `optimizer`: an Optax optimiser. To bound the gradients, put a clip before it:
      `optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))`.
    - `epochs`: how often to go through the training data, those of an earlier call with this `directory` included.
    - `trainable`: what learns: a filter of Equinox, that is a function of a leaf, or True and False in the structure
      of the network or of its upper part. Of what it selects, the floating-point arrays of JAX learn.
    - `augment`: a function `(key, inputs, targets) -> (inputs, targets)`, which changes the batches of the training at
      random: drops spikes, moves them. The random key is that of the `seed`, the epoch and the step.
    - `seed`: the seed of `augment`. The order of the samples has its own, in `training`.
    - `patience`: after how many epochs without a better one the training ends.
    - `callbacks`: functions `(epoch, network)`, called after each [`spikax.train.Epoch`][] and its checkpoint, such as
      [`spikax.train.ProgressBar`][] and [`spikax.train.TensorBoard`][]. One that has a method `step(epoch, share)` is
      told after each step which epoch it is, by number, and which share of its steps is done.
    - `directory`: where to write; it is made if there is none.
    - `settings`: what else the training depends on, such as the learning rate, as a dictionary for JSON: it is kept in
      the checkpoint, as functions cannot be compared.

    **Returns:** a [`spikax.train.Fit`][].

    **Raises:** `TypeError` or `ValueError` for arguments that cannot be meant, and for a checkpoint of a training with
    another network, optimiser state, loaders, seed or settings. `FloatingPointError` at the end of an epoch with a
    loss or gradient that is not finite: it names the step and the parameter, and the checkpoint before it stays.

    **Warns:** once, after an epoch in which all gradients were zero, or in which a measure whose name ends with
    `silent`, such as that of [`spikax.silence.activity`][], was 1 in every sample.
    """
    require_instance(optimizer, optax.GradientTransformation, "optimizer", "an Optax optimiser")
    require_count(epochs, "epochs")
    require_natural(seed, "seed")
    if patience is not None:
        require_count(patience, "patience")
    require(callable(objective), "objective", "a function", objective, error=TypeError)
    require(augment is None or callable(augment), "augment", "a function", augment, error=TypeError)
    is_list = isinstance(callbacks, list | tuple) and all(map(callable, callbacks))
    require(is_list, "callbacks", "a list of functions (epoch, network)", callbacks, error=TypeError)
    require_loader(training, "training")
    require_loader(validation, "validation")
    enough = training.batch_size <= training.samples
    require(enough, "batch_size", f"at most {training.samples}, the number of training samples", training.batch_size)

    network = jax.tree.map(_strong, network)
    plan = _Plan(objective, optimizer, augment, seed, _spec(network, trainable))
    state = optimizer.init(eqx.filter(network, plan.spec))
    stand = Stand(network, state, network, [])
    others = {"training": repr(training), "validation": repr(validation), "seed": seed, "settings": _as_json(settings)}
    own = checkpoint.identity(network, state, **others)
    if directory is not None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        stand = checkpoint.read(directory, stand, own)
    watchers = [callback.step for callback in callbacks if hasattr(callback, "step")]
    done = len(stand.history)
    require(done <= epochs, "epochs", f"at least {done}, those of the checkpoint in {directory}", epochs)
    while len(stand.history) < epochs and not _has_stalled(stand, patience):
        stand = _after_epoch(stand, plan, training, validation, watchers)
        _warn_of_silence(stand.history)
        if directory is not None:
            checkpoint.write(directory, stand, own)
        for callback in callbacks:
            callback(stand.history[-1], stand.network)
    return Fit(stand.best, stand.best_number, stand.history)


class _Plan(eqx.Module):
    """What makes a step, and stays the same in all of them."""

    objective: Objective
    optimizer: optax.GradientTransformation
    augment: Callable | None
    seed: int
    spec: PyTree[bool]  # what learns


class _Report(NamedTuple):
    """What became of a step."""

    means: dict[str, Array]
    norms: Array  # of the gradient with respect to each array that learns


def _after_epoch(
    stand: Stand, plan: _Plan, training: Loader, validation: Loader, watchers: Sequence[Callable[[int, float], Any]]
) -> Stand:
    start = time.perf_counter()
    number = len(stand.history) + 1
    network, state, fine, reports = stand.network, stand.state, jnp.asarray(True), []
    for step, batch in enumerate(training.epoch(number)):
        place = np.asarray([number, step], np.uint32)
        network, state, fine, report = _step(network, state, fine, plan, *batch, place)
        reports.append(report)
        for watch in watchers:
            # Steps run ahead of this loop: told is what is done, while the next one is on its way.
            jax.block_until_ready(reports[step - 1 : step])
            watch(number, step / len(training))
    # Only now: the steps wait for nothing but each other.
    reports = jax.device_get(reports)
    _require_finite(reports, network, plan, number)
    learned = {name: float(np.mean([report.means[name] for report in reports])) for name in reports[0].means}
    learned["gradient_norm"] = max(float(np.linalg.norm(report.norms)) for report in reports)
    tested = evaluate(network, plan.objective, validation)
    _require_finite_loss(tested["loss"], number)
    epoch = Epoch(number, time.perf_counter() - start, learned, tested)
    is_best = all(epoch.merit > other.merit for other in stand.history)
    return Stand(network, state, network if is_best else stand.best, [*stand.history, epoch])


@eqx.filter_jit
def _step(
    network: Any, state: Any, fine: Bool[Array, ""], plan: _Plan, inputs: Any, targets: Any, place: Int[Array, "2"]
) -> tuple[Any, Any, Bool[Array, ""], _Report]:
    """The network and the state of the optimiser after a step, whether all steps were fine so far, and the report."""
    if plan.augment is not None:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(plan.seed), place[0]), place[1])
        inputs, targets = plan.augment(key, inputs, targets)
    learning, rest = eqx.partition(network, plan.spec)

    @eqx.filter_grad(has_aux=True)
    def gradient(learning):
        measures = measures_of(eqx.combine(learning, rest), plan.objective, inputs, targets)
        means = jax.tree.map(jnp.mean, measures)
        return means["loss"], means

    gradients, means = gradient(learning)
    norms = [jnp.linalg.norm(jnp.ravel(leaf)) for leaf in jax.tree.leaves(gradients)]
    norms = jnp.stack([norm.astype(jnp.result_type(float)) for norm in norms])
    fine = fine & jnp.all(jnp.isfinite(norms)) & jnp.isfinite(means["loss"])
    updates, after = plan.optimizer.update(gradients, state, learning)
    # From the first step that is not finite on, nothing changes: so the network still runs, and no later error hides
    # this one, which is raised at the end of the epoch.
    learning, state = _where(fine, (optax.apply_updates(learning, updates), after), (learning, state))
    return eqx.combine(learning, rest), state, fine, _Report(means, norms)


def _where(fine: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(fine, new, old) if eqx.is_array(new) else new, new, old)


def _strong(leaf: Any) -> Any:
    # An array of weak type becomes a strong one in the first step, and the second would be compiled anew.
    return jnp.asarray(leaf, leaf.dtype) if eqx.is_inexact_array(leaf) else leaf


def _spec(network: Any, trainable: PyTree) -> PyTree[bool]:
    """True for each array that learns."""
    try:
        chosen = eqx.filter(network, trainable, replace=False)
    except ValueError:
        hint = "Make it from `jax.tree.map(lambda _: False, network)` by `eqx.tree_at`."
        require(False, "trainable", "a filter in the structure of the network", trainable, hint)
        raise
    spec = jax.tree.map(eqx.is_inexact_array, chosen)
    hint = "A Python number is a constant: write an array, as in `sx.LIF(bias=jnp.asarray(0.0))`."
    is_some = any(jax.tree.leaves(spec))
    require(is_some, "trainable", "a filter that selects a floating-point array of JAX", trainable, hint)
    return spec


def _as_json(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    settings = {} if settings is None else settings
    require_instance(settings, Mapping, "settings", "a dictionary")
    try:
        return json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        require(False, "settings", "a dictionary that JSON can hold", settings, f"{error}.", TypeError)
        raise


def _has_stalled(stand: Stand, patience: int | None) -> bool:
    return patience is not None and len(stand.history) - stand.best_number >= patience


def _require_finite(reports: list[_Report], network: Any, plan: _Plan, number: int) -> None:
    """Raises for the first step of an epoch whose loss or gradient is not finite."""
    for step, report in enumerate(reports, start=1):
        loss, norms = report.means["loss"], report.norms
        if np.isfinite(loss) and np.all(np.isfinite(norms)):
            continue
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(eqx.filter(network, plan.spec))]
        worst = int(np.argmax(np.where(np.isfinite(norms), norms, np.inf)))
        if np.isfinite(loss):
            cause = (
                "A spike condition that only grazes its threshold does this: there the derivative of the spike time "
                "diverges. Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`, so that "
                "no large step leads there."
            )
        else:
            cause = (
                "Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`. If it is the first "
                "step, look in the objective for a spike time of `inf`, that of a silent neuron, in a sum or product."
            )
        raise FloatingPointError(
            f"In step {step} of epoch {number} the loss is {loss}, and the norm of its gradient with respect to "
            f"`network{paths[worst]}` is {norms[worst]}. {cause}"
        )


def _warn_of_silence(history: list[Epoch]) -> None:
    """Warns, once in a training, where nothing could be learned: of gradients of zero, and of a layer without a spike.

    A layer is known by a measure of what is silent, as `sx.silence.activity` gives it.
    """
    idle, *before = (_idle(epoch) for epoch in reversed(history))
    if idle and idle not in before:
        warnings.warn(
            f"In epoch {history[-1].number} {idle}. A neuron that does not spike has no gradient: `sx.silence` tells "
            "what makes it spike. Times and time constants are in ms.",
            stacklevel=3,
        )


def _idle(epoch: Epoch) -> str:
    """What rules out that the network has learned in an epoch; empty where nothing does."""
    silent = [name for name, value in epoch.training.items() if name.endswith("silent") and value == 1.0]
    if silent:
        return f"the measure `{silent[0]}` was 1 throughout: no neuron spiked"
    return "all gradients were zero" if epoch.training["gradient_norm"] == 0.0 else ""


def _require_finite_loss(loss: float, number: int) -> None:
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"The loss of epoch {number} is {loss} in validation. "
            "Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`."
        )
