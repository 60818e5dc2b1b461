"""A parameter study: which learning rate trains a network best, and how much its seed matters.

A network of 30 LIF neurons learns the Yin-Yang task by first spikes, with each of six learning rates and each of three
seeds, of its weights and of the samples. Optuna keeps the trials in a data base, a file of SQLite. If the program is
killed, the same command continues: finished trials are not repeated, and the one that was interrupted goes on from the
checkpoint of its last epoch. Several processes can work on the same study at once.

All trials share the objective, so the simulation is compiled once, in the first of them.

    pip install 'spikax[study]'
    python examples/learning_rates.py
"""

import argparse
import itertools
import random
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

import spikax as sx
from spikax.datasets import Loader, yin_yang, yin_yang_spikes


GRID = {"learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1], "seed": [0, 1, 2]}
SAMPLES, BATCH, EPOCHS, HIDDEN, DURATION = 2000, 50, 12, 30, 60.0
Settings = dict[str, Any]
INK, PALE, RED = "#26303b", "#9aa5b1", "#c53030"


def loader(samples: int, seed: int, batch_size: int) -> Loader:
    points, labels = yin_yang(samples, seed)
    return Loader(yin_yang_spikes(points), labels, batch_size=batch_size, seed=seed)


def build(seed: int) -> sx.Network:
    """The network before training."""
    return sx.sequential(
        5,
        sx.Layer(sx.LIF(), HIDDEN, weights=sx.init.normal(2.5, 1.5)),
        sx.Layer(sx.LIF(bias=1.5), 3, weights=sx.init.normal(0.3, 0.3)),
        key=jax.random.key(seed),
    )


def objective(network: sx.Network, inputs: sx.Spikes, labels: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss and the accuracy of each sample."""
    capacity = {"hidden": 32, "output": 1}
    times = sx.first_spike(network(inputs, DURATION, max_spikes=capacity, until=sx.FirstSpikes()))
    loss = sx.losses.first_spike_cross_entropy(times, labels, t_silent=DURATION)
    return loss, {"accuracy": (sx.decode.earliest(times) == labels).astype(loss.dtype)}


def train(settings: Settings, directory: Path) -> list[float]:
    """Trains one network, and returns its validation accuracy after each epoch."""
    rate, seed = settings["learning_rate"], settings["seed"]
    fit = sx.train.fit(
        build(seed),
        objective,
        loader(SAMPLES, seed, BATCH),
        loader(1000, 1000, 500),
        optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate)),
        epochs=EPOCHS,
        directory=directory / f"{rate:g}-{seed}",
        settings=settings,
    )
    return [epoch.validation["accuracy"] for epoch in fit.history]


def study_of(directory: Path) -> optuna.Study:
    """The study, new or from its data base."""
    directory.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{directory / 'study.db'}"
    return optuna.create_study(study_name="learning rates", storage=storage, direction="maximize", load_if_exists=True)


def left(study: optuna.Study) -> list[Settings]:
    """The settings without a finished trial, in random order; last those that another process may be working on."""
    begun = [trial.params for trial in study.get_trials(states=[TrialState.RUNNING])]
    finished = [trial.params for trial in study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL])]
    grid = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    random.shuffle(grid)
    return sorted((settings for settings in grid if settings not in finished), key=lambda settings: settings in begun)


def run(study: optuna.Study, directory: Path) -> None:
    """Goes through the settings that are left. A training that diverges is a result, too: its trial has failed."""
    while settings := left(study):
        rate, seed = settings[0].values()
        trial = study.ask({"learning_rate": FloatDistribution(rate, rate), "seed": IntDistribution(seed, seed)})
        try:
            accuracies = train(trial.params, directory)
        except (FloatingPointError, eqx.EquinoxRuntimeError) as error:
            print(f"{trial.params}: {error}", flush=True)
            study.tell(trial, state=TrialState.FAIL)
            continue
        for epoch, accuracy in enumerate(accuracies, start=1):
            trial.report(accuracy, epoch)
        study.tell(trial, max(accuracies))
        print(f"{trial.params}: {max(accuracies):.1%}", flush=True)


def errors(study: optuna.Study) -> np.ndarray:
    """The validation error of each epoch: shape (rates, seeds, epochs). NaN where a training failed."""
    found = np.full((*map(len, GRID.values()), EPOCHS), np.nan)
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        place = tuple(values.index(trial.params[name]) for name, values in GRID.items())
        found[place] = [1.0 - trial.intermediate_values[number] for number in range(1, EPOCHS + 1)]
    return found


def draw(study: optuna.Study, path: Path) -> None:
    """Plots the best error over the learning rate, and the learning curves."""
    from matplotlib import pyplot

    rates, percent = np.asarray(GRID["learning_rate"]), 100.0 * errors(study)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    best = np.min(percent, axis=2)
    for number, seed in enumerate(GRID["seed"]):
        left.plot(rates, best[:, number], "o", color=PALE, markersize=5, label="one seed" if seed == 0 else None)
    finite = np.isfinite(best)
    means = np.array(
        [row[is_finite].mean() if is_finite.any() else np.nan for row, is_finite in zip(best, finite, strict=True)]
    )
    left.plot(rates, means, color=INK, label="mean of seeds")
    failed = np.sum(~finite, axis=1)
    for rate, count in zip(rates, failed, strict=True):
        if count:
            left.annotate(
                f"{count} failed", (rate, 0.97), xycoords=("data", "axes fraction"), ha="center", va="top", color=RED
            )
    left.set(xscale="log", yscale="log", xlabel="learning rate of Adam", ylabel="wrong in validation (%)")
    left.set(xticks=rates, xticklabels=[f"{rate:g}" for rate in rates])

    colours = pyplot.get_cmap("viridis")(np.linspace(0.0, 0.9, len(rates)))
    for rate, curves, colour in zip(rates, percent, colours, strict=True):
        curves = curves[np.isfinite(curves).all(axis=1)]
        if len(curves):
            right.plot(1 + np.arange(EPOCHS), curves.mean(axis=0), color=colour, label=f"{rate:g}")
    right.set(xlabel="epoch", title="after each epoch, mean of seeds")
    right.legend(title="learning rate", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    left.legend(frameon=False)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if left.get_ylim()[0] <= tick <= left.get_ylim()[1]]
    left.set(yticks=ticks, yticklabels=[f"{tick}" for tick in ticks])
    left.set_title("after the best epoch")
    for ax in (left, right):
        ax.title.set_fontsize(10)
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A study of learning rates and seeds.")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning-rates"), help="where study and figure go")
    options = parser.parse_args()

    study = study_of(options.runs)
    run(study, options.runs)
    print(f"best: {study.best_value:.1%} with {study.best_params}")
    draw(study, options.runs / "study.png")


if __name__ == "__main__":
    main()
