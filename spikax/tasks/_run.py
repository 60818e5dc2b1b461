"""Training and testing of the network of a task, and the directory of a run."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from .. import encode, train as training
from .._checks import require
from .._files import replacing
from .._network import Network
from .._saving import load, save
from .._simulate.results import RESULTS
from ..datasets import Loader
from ..train._checkpoint import BEST, LAST
from ..train._objective import require_successful
from ..train._replicas import Devices
from ._settings import Settings
from ._task import AbstractTask, Samples


class Trained(NamedTuple):
    """A trained network with its task and history.

    - `task`, `settings`: the task and the settings of the run.
    - `network`: the network of the best epoch.
    - `history`: all epochs.
    """

    task: AbstractTask
    settings: Settings
    network: Network
    history: list[training.Epoch]


class Augment(eqx.Module):
    """Data augmentation: shifts images, jitters input spikes, and drops a fraction of them."""

    share: float = eqx.field(static=True)
    jitter: float = eqx.field(static=True)
    picture: tuple[int, int] | None = eqx.field(static=True)
    shift: int = eqx.field(static=True)

    def __call__(self, key: Array, inputs: Any, labels: Any) -> tuple[Any, Any]:
        if self.picture is not None and self.shift:
            inputs = encode.shift(inputs, self.picture, self.shift, key=jax.random.fold_in(key, 1))
        if self.jitter:
            inputs = encode.jitter(inputs, self.jitter, t0=0.0, key=jax.random.fold_in(key, 2))
        return encode.drop(inputs, self.share, key=key), labels


def objective(task: AbstractTask, settings: Settings) -> training.Objective:
    """The objective of the training, and its measures."""
    return lambda network, inputs, labels: task.measure(network, inputs, labels, settings)


def train(
    task: AbstractTask,
    settings: Settings,
    *,
    directory: str | os.PathLike | None = None,
    callbacks: tuple[Callable[[training.Epoch, Any], Any], ...] = (),
    devices: Devices = None,
) -> Trained:
    """Trains a network; `directory`, `callbacks` and `devices` are those of [`spikax.train.fit`][]."""
    split = task.split(settings)
    options = {"batch_size": settings.batch_size, "seed": settings.seed}
    batches = Loader(*split.training, **options, group_by_length=isinstance(split.training.inputs, list))
    if directory is not None and not (Path(directory) / LAST).exists():
        # Before training, so that `read` can read an interrupted run. Settings beside a checkpoint belong to it.
        Path(directory).mkdir(parents=True, exist_ok=True)
        _write_settings(Path(directory), task, settings)
    fit = training.fit(
        task.build(settings),
        objective(task, settings),
        batches,
        _in_order(split.validation, settings),
        optimizer=task.optimizer(settings, settings.epochs * len(batches)),
        epochs=settings.epochs,
        augment=_augment(task, settings),
        seed=settings.seed,
        callbacks=callbacks,
        directory=directory,
        settings=dataclasses.asdict(settings) | {"task": task.name},
        devices=devices,
    )
    return Trained(task, settings, fit.network, fit.history)


def _augment(task: AbstractTask, settings: Settings) -> Augment | None:
    """The data augmentation in training, if any."""
    if not (settings.drop or settings.jitter or settings.shift):
        return None
    return Augment(settings.drop, settings.jitter, task.picture, settings.shift)


def test(trained: Trained) -> dict[str, float]:
    """The mean loss, accuracy and spikes per hidden neuron on the test data."""
    data = _in_order(trained.task.split(trained.settings).test, trained.settings)
    return training.evaluate(trained.network, objective(trained.task, trained.settings), data)


def answers(trained: Trained, inputs: Any) -> np.ndarray:
    """The predicted class for each input; -1 for no prediction."""
    n = len(inputs) if isinstance(inputs, list) else inputs.times.shape[0]
    found = []
    for some, _, count in _in_order(Samples(inputs, np.zeros(n, int)), trained.settings).in_order():
        predicted, results = _answers(trained.network, some, trained.task, trained.settings)
        require_successful(results)
        found.append(predicted[:count])
    return np.concatenate(found)


@eqx.filter_jit
def _answers(network: Network, inputs: Any, task: AbstractTask, settings: Settings) -> tuple[Array, dict[str, RESULTS]]:
    solution = task.respond(network, inputs, settings)
    labels = np.zeros(inputs.times.shape[:1], int)
    return task.readout(settings).loss_and_prediction(solution, labels, settings)[1], solution.results


def _in_order(samples: Samples, settings: Settings) -> Loader:
    """Batches for evaluation, which are larger since no gradients are stored."""
    return Loader(*samples, batch_size=min(max(200, settings.batch_size), len(samples.labels)))


def write(directory: Path, trained: Trained) -> None:
    """Writes a network and the settings of its run into a directory, for `read`."""
    save(directory / "network.zip", trained.network, trained.task.options(trained.settings))
    _write_settings(directory, trained.task, trained.settings)


def _write_settings(directory: Path, task: AbstractTask, settings: Settings) -> None:
    with replacing(directory / "settings.json") as file:
        text = json.dumps({"task": task.name} | dataclasses.asdict(settings), indent=2)
        file.write((text + "\n").encode())


def read(directory: Path, named: dict[str, AbstractTask]) -> Trained:
    """Reads the network of a run, its settings, and its epochs so far."""
    path = directory / "settings.json"
    hint = "It must be the directory of a run: `--out` of `python -m spikax train`."
    require(path.is_file(), "directory", "one with the file settings.json", str(directory), hint)
    given = json.loads(path.read_text())
    name = given.pop("task", None)
    require(name in named, "task", f"one of {list(named)}", name)
    task, settings = named[name], Settings(**given)
    network = _read_network(directory, task, settings)
    history = training.read_history(directory) if (directory / "metrics.json").is_file() else []
    return Trained(task, settings, network, history)


def _read_network(directory: Path, task: AbstractTask, settings: Settings) -> Network:
    """The network of a run; for an unfinished run, the best so far."""
    whole, best = directory / "network.zip", directory / BEST
    if whole.is_file():
        return load(whole)[0]
    hint = "The first epoch of the run has not ended: run the same command again."
    require(best.is_file(), "directory", f"one with the file {whole.name} or {BEST}", str(directory), hint)
    try:
        return eqx.tree_deserialise_leaves(best, task.build(settings))
    except (ValueError, RuntimeError, EOFError) as error:
        raise ValueError(f"`directory` must hold the network of its settings; {best} is damaged: {error}.") from error
