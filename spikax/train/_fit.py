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
from jaxtyping import Array, Bool, PyTree, UInt

from .._checks import require, require_count, require_instance, require_natural
from . import _checkpoint as checkpoint
from ._checkpoint import TrainState
from ._data import as_batches, Batches, Data
from ._epoch import Epoch
from ._gradient import spec_of, value_and_grad
from ._objective import mean_measures, Objective
from ._replicas import Devices, Replicas


class Fit(NamedTuple):
    """The result of [`spikax.train.fit`][].

    - `network`: the network after the epoch `best`.
    - `best`: the number of the epoch with the highest validation accuracy. Ties, or objectives without the measure
      `"accuracy"`, are decided by the lowest validation loss.
    - `history`: a list of all epochs.
    """

    network: Any
    best: int
    history: list[Epoch]


def fit(
    network: Any,
    objective: Objective,
    training: Data,
    validation: Data,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    trainable: PyTree = eqx.is_inexact_array,
    augment: Callable[[Array, Any, Any], tuple[Any, Any]] | None = None,
    seed: int = 0,
    patience: int | None = None,
    devices: Devices = None,
    callbacks: Sequence[Callable[[Epoch, Any], Any]] = (),
    directory: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Fit:
    """Trains a network with an Optax optimiser and returns the best network of all epochs.

    With a `directory`, a checkpoint is written after every epoch. Repeating the same call after an interruption resumes
    the training. The result is bitwise the same as without the interruption. The directory contains

    - `last.eqx`: the checkpoint: network, optimiser state, best network and history;
    - `best.eqx`: the best network, to be read by `eqx.tree_deserialise_leaves("best.eqx", network)`;
    - `metrics.csv`, `metrics.json`: loss and measures of every epoch.

    **Main arguments:**

    - `network`: the initial network, or any other pytree.
    - `objective`: a function `(network, inputs, targets) -> (losses, measures)`. The losses, and each entry of the
      dictionary of measures, have shape `(batch,)`. The mean loss is minimised. A measure `"accuracy"`, 1 for correct
      samples and 0 for others, selects the best epoch. The entry `"results"`, `Solution.results` of a simulation with
      `throw=False`, is no measure: a sample that failed is an error, as with `throw=True`. Then the compiled step has
      no callbacks to Python, and JAX's persistent compilation cache can store it.
    - `training`, `validation`: a [`spikax.datasets.Loader`][] each, or other batches. The training step is compiled
      once per batch shape.

    Batches are pairs `(inputs, targets)` of pytrees of arrays, also of NumPy or PyTorch, with samples along the first
    axis. `training` and `validation` can be

    - a `Loader`;
    - a function of the number of an epoch, from 1, that returns an iterable of its batches, for the same number the
      same batches. For the validation its argument is 0;
    - an iterable of batches, such as a loader of PyTorch or Grain, which is iterated anew in each epoch. An iterator,
      such as a generator, ends after one epoch and is an error.

    A resumed training continues with the next epoch. An iterable other than a list cannot skip the batches of the
    epochs before, so the batches differ from those without the interruption, which causes a warning.

    **Other arguments:**

    - `optimizer`: an Optax optimiser. To clip gradients, chain it:
      `optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))`.
    - `epochs`: the total number of epochs, including those of earlier calls with the same `directory`.
    - `trainable`: an Equinox filter that selects what is trained: a function of a leaf, or a pytree of True and False
      with the structure of the network or a prefix of it. Only floating-point JAX arrays are trained.
    - `augment`: a function `(key, inputs, targets) -> (inputs, targets)` that randomly changes training batches, for
      example by [`spikax.encode.drop`][]. The random key depends on `seed`, epoch and step.
    - `seed`: the seed of `augment`. The order of the samples has a separate seed in `training`.
    - `patience`: the number of epochs without improvement after which the training stops.
    - `devices`: the devices that share each batch: their number, or a list of them. Losses, gradients and the random
      numbers of `augment` do not depend on it, up to rounding. See [`spikax.train.value_and_grad`][]. With
      several processes, each calls `fit` with the same arguments, and process 0 writes into the `directory`. A
      `Loader` gives each its share of every batch; other batches are taken as the share. `augment` then has another
      key in each.
    - `callbacks`: functions `(epoch, network)`, called after the checkpoint of each [`spikax.train.Epoch`][], such as
      [`spikax.train.ProgressBar`][] and [`spikax.train.TensorBoard`][]. A method `step(epoch, share)` of a callback is
      called after each step with the number of the epoch and the fraction of its steps that are done, if the number
      of batches is known: from their `len`, or from the epoch before.
    - `directory`: the directory of checkpoint and measures. It is created if it does not exist.
    - `settings`: a JSON-serialisable dictionary of everything else that the training depends on, such as the learning
      rate. It is stored in the checkpoint and must agree on resumption, because functions cannot be compared.

    **Returns:** a [`spikax.train.Fit`][].

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for a checkpoint of a training with another
    network, optimiser state, loader, seed or settings. `FloatingPointError` at the end of an epoch in which a loss or
    gradient was not finite. It names the step and the parameter. The checkpoint of the previous epoch is kept. A
    run-time error, such as that of a simulation that fails, names the step, from 1, and the sample, from 0, in its
    batch.

    **Warns:** once, after an epoch in which all gradients were zero, or in which a measure whose name ends with
    `silent`, such as that of [`spikax.silence.activity`][], was 1 in every sample. When a training is resumed with an
    iterable that cannot skip epochs.
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
    replicas = Replicas.on(devices)
    several = f"of each of the {jax.process_count()} processes of `jax.distributed`"
    require(replicas.processes == jax.process_count(), "devices", several, devices, "Pass `devices=jax.devices()`.")
    batches, tested = (
        as_batches(data, name, replicas) for data, name in ((training, "training"), (validation, "validation"))
    )

    network = jax.tree.map(_strong, network)
    spec = spec_of(network, trainable)
    gradient = value_and_grad(objective, trainable=spec, devices=devices)
    plan = _Plan(objective, gradient, optimizer, augment, seed, spec, replicas)
    state = optimizer.init(eqx.filter(network, spec))
    train_state = TrainState(network, state, network, [])
    others = {"training": batches.text, "validation": tested.text, "seed": seed, "settings": _as_json(settings)}
    own = checkpoint.identity(network, state, **others)
    if directory is not None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        train_state = checkpoint.read(directory, train_state, own)
    _require_same_start(replicas, train_state, own)
    train_state = replicas.on_one(train_state)
    watchers = [callback.step for callback in callbacks if hasattr(callback, "step")]
    done = len(train_state.history)
    require(done <= epochs, "epochs", f"at least {done}, those of the checkpoint in {directory}", epochs)
    if 0 < done < epochs and not _has_stalled(train_state, patience):
        _warn_of_other_batches(batches, done)
    while len(train_state.history) < epochs and not _has_stalled(train_state, patience):
        train_state, steps = _after_epoch(train_state, plan, batches, tested, watchers)
        batches = batches._replace(steps=steps)
        _warn_of_silence(train_state.history)
        if directory is not None and jax.process_index() == 0:
            checkpoint.write(directory, train_state, own)
        replicas.wait()
        for callback in callbacks:
            callback(train_state.history[-1], train_state.network)
    return Fit(train_state.best, train_state.best_number, train_state.history)


class _Plan(NamedTuple):
    """The parts of a training step that are the same in all steps."""

    objective: Objective
    value_and_grad: Callable[[Any, Any, Any], tuple[dict[str, Array], PyTree]]
    optimizer: optax.GradientTransformation
    augment: Callable | None
    seed: int
    spec: PyTree[bool]  # which leaves are trained
    replicas: Replicas


class _Report(NamedTuple):
    """The measures of a training step."""

    means: dict[str, Array]
    norms: Array  # of the gradient with respect to each trained array


def _after_epoch(
    train_state: TrainState,
    plan: _Plan,
    training: Batches,
    validation: Batches,
    watchers: Sequence[Callable[[int, float], Any]],
) -> tuple[TrainState, int]:
    """The state after one more epoch, and the number of its steps."""
    start, steps = time.perf_counter(), training.steps
    number = len(train_state.history) + 1
    network, state, fine, reports = train_state.network, train_state.state, jnp.asarray(True), []
    for step, batch in enumerate(training.epoch(number)):
        try:
            network, state, fine, report = _step(network, state, fine, plan, batch, (number, step))
        except eqx.EquinoxRuntimeError as error:
            message = f"Step {step + 1} of epoch {number}: {error}"
            raise eqx.EquinoxRuntimeError(message) from error.__cause__
        reports.append(report)
        if steps is None:
            continue
        for watch in watchers:
            # JAX dispatches steps asynchronously. Report a step when it is done, while the next one is running.
            jax.block_until_ready(reports[step - 1 : step])
            watch(number, min(step / steps, 1.0))
    # Transfer the reports only at the end of the epoch, so that steps need not wait for the host.
    reports = jax.device_get(reports)
    _require_finite(reports, network, plan, number)
    learned = {name: float(np.mean([report.means[name] for report in reports])) for name in reports[0].means}
    learned["gradient_norm"] = max(float(np.linalg.norm(report.norms)) for report in reports)
    tested = mean_measures(network, plan.objective, validation, plan.replicas)
    _require_finite_loss(tested["loss"], number)
    epoch = Epoch(number, time.perf_counter() - start, learned, tested)
    is_best = all(epoch.score > other.score for other in train_state.history)
    best = network if is_best else train_state.best
    return TrainState(network, state, best, [*train_state.history, epoch]), len(reports)


def _step(
    network: Any, state: Any, fine: Bool[Array, ""], plan: _Plan, batch: tuple[Any, Any], place: tuple[int, int]
) -> tuple[Any, Any, Bool[Array, ""], _Report]:
    """Network and optimiser state after a step, whether all steps so far were finite, and the report of the step."""
    if plan.augment is not None:
        # Before the batch is divided: the random numbers do not depend on the number of devices.
        process = (jax.process_index(),) if plan.replicas.processes > 1 else ()
        batch = _augmented(plan.augment, plan.seed, np.asarray(place + process, np.uint32), *batch)
    means, gradient = plan.value_and_grad(network, *batch)
    network, state, fine, norms = _updated(network, state, fine, plan.optimizer, plan.spec, gradient, means["loss"])
    return network, state, fine, _Report(means, norms)


@eqx.filter_jit
def _augmented(
    augment: Callable, seed: int, place: UInt[Array, " place"], inputs: Any, targets: Any
) -> tuple[Any, Any]:
    """A batch after its augmentation. The key depends on the seed and on each number of its place."""
    key = jax.random.key(seed)
    for number in place:
        key = jax.random.fold_in(key, number)
    return augment(key, inputs, targets)


@eqx.filter_jit
def _updated(
    network: Any,
    state: Any,
    fine: Bool[Array, ""],
    optimizer: optax.GradientTransformation,
    spec: PyTree[bool],
    gradient: PyTree,
    loss: Array,
) -> tuple[Any, Any, Bool[Array, ""], Array]:
    """Network and optimiser state after a step, whether all is finite, and the norms of the gradient."""
    learning, rest = eqx.partition(network, spec)
    norms = [jnp.linalg.norm(jnp.ravel(leaf)) for leaf in jax.tree.leaves(gradient)]
    norms = jnp.stack([norm.astype(jnp.result_type(float)) for norm in norms])
    fine = fine & jnp.all(jnp.isfinite(norms)) & jnp.isfinite(loss)
    updates, after = optimizer.update(gradient, state, learning)
    # After the first step that is not finite, the network is no longer updated. Otherwise NaN would spread, and an
    # error in a later simulation would hide the cause, which is reported at the end of the epoch.
    learning, state = _where(fine, (optax.apply_updates(learning, updates), after), (learning, state))
    return eqx.combine(learning, rest), state, fine, norms


def _where(fine: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda new, old: jnp.where(fine, new, old) if eqx.is_array(new) else new, new, old)


def _strong(leaf: Any) -> Any:
    # The first update removes a weak type, which would cause a second compilation.
    return jnp.asarray(leaf, leaf.dtype) if eqx.is_inexact_array(leaf) else leaf


def _require_same_start(replicas: Replicas, train_state: TrainState, own: dict[str, Any]) -> None:
    """Raises unless all processes begin with the same network, state of the optimiser, and history."""
    if replicas.processes == 1:
        return
    sums = replicas.gathered(np.asarray(checkpoint.checksum(train_state, own)))
    hint = "Initialise it with the same seed, and give all processes the same `directory`, on a file system they share."
    is_same = len(set(sums.tolist())) == 1
    require(is_same, "network", "the same in all processes, like its checkpoint", f"checksums {sums.tolist()}", hint)


def _as_json(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    settings = {} if settings is None else settings
    require_instance(settings, Mapping, "settings", "a dictionary")
    try:
        return json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        require(False, "settings", "JSON-serialisable", settings, f"{error}.", TypeError)
        raise


def _has_stalled(train_state: TrainState, patience: int | None) -> bool:
    return patience is not None and len(train_state.history) - train_state.best_number >= patience


def _require_finite(reports: list[_Report], network: Any, plan: _Plan, number: int) -> None:
    """Raises for the first step of an epoch in which the loss or gradient is not finite."""
    for step, report in enumerate(reports, start=1):
        loss, norms = report.means["loss"], report.norms
        if np.isfinite(loss) and np.all(np.isfinite(norms)):
            continue
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(eqx.filter(network, plan.spec))]
        worst = int(np.argmax(np.where(np.isfinite(norms), norms, np.inf)))
        if np.isfinite(loss):
            cause = (
                "The derivative of a spike time diverges where the spike condition only grazes its threshold. "
                "Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`, to avoid large steps."
            )
        else:
            cause = (
                "Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`. If this is the first "
                "step, check whether the objective uses the spike time `inf` of a silent neuron in a sum or product."
            )
        raise FloatingPointError(
            f"In step {step} of epoch {number} the loss is {loss}, and the norm of its gradient with respect to "
            f"`network{paths[worst]}` is {norms[worst]}. {cause}"
        )


def _warn_of_other_batches(training: Batches, done: int) -> None:
    """Warns if a resumed training cannot have the batches that it would have had without the interruption."""
    if not training.is_repeatable:
        warnings.warn(
            f"The training is resumed after epoch {done}, but its data, a {training.text}, cannot skip the batches of "
            "the epochs before: the result differs from that without the interruption. To repeat it exactly, pass a "
            "function of the number of the epoch, which returns the same batches for the same number.",
            stacklevel=3,
        )


def _warn_of_silence(history: list[Epoch]) -> None:
    """Warns once per training if all gradients are zero, or if a layer is silent in all samples.

    Silent layers are recognised by a measure such as that of `sx.silence.activity`.
    """
    idle, *before = (_idle(epoch) for epoch in reversed(history))
    if idle and idle not in before:
        warnings.warn(
            f"In epoch {history[-1].number} {idle}. Spike times of silent neurons have no gradient. See `sx.silence` "
            "for remedies, and check that times and time constants are in ms.",
            stacklevel=3,
        )


def _idle(epoch: Epoch) -> str:
    """Why the network cannot have learned in an epoch; empty if there is no such reason."""
    silent = [name for name, value in epoch.training.items() if name.endswith("silent") and value == 1.0]
    if silent:
        return f"the measure `{silent[0]}` was 1 throughout: no neuron spiked"
    return "all gradients were zero" if epoch.training["gradient_norm"] == 0.0 else ""


def _require_finite_loss(loss: float, number: int) -> None:
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"The validation loss of epoch {number} is {loss}. "
            "Lower the learning rate, or clip the gradients with `optax.clip_by_global_norm`."
        )
