"""Trains Yin-Yang networks that are silent at the start, with and without a remedy, and prints a row of a table each.

    python benchmarks/silent.py [--remedies none peak calibrated] [--epochs 30] [--seed 0]

The network is that of `python -m spikax train yin-yang` but for weights that are twenty times too small, and outputs
without the bias that brings them to spike in any case. So no neuron spikes in any sample, and the spike times have no
gradient. The loss has the time constants of the literature.

- `none`: no remedy.
- `peak`: `losses.silent_peak` of both layers is added to the loss.
- `calibrated`: `silence.calibrated` scales the weights before training; the term is that of the outputs alone.
"""

import argparse
import time

import equinox as eqx
import jax.numpy as jnp

import spikax as sx
from spikax import decode, losses, silence, tasks, train
from spikax.datasets import Loader, Split


TASK = tasks.YinYang()
TOO_SMALL = 0.05
FRACTIONS = {"hidden": 0.5, "output": 0.9}
TS = jnp.linspace(0.0, 60.0, 31)

# How much the peaks of silent neurons count beside the loss of the spike times. Where all are silent, those of the
# outputs have to be of the size of what a silent label costs, 60 ms / 0.5 ms: with 1 in place of 100 the spike times
# silence the outputs again. Where most outputs spike it is enough to keep them.
WEIGHTS = {
    "none": {},
    "peak": {"hidden": 0.3, "output": 100.0},
    "calibrated": {"output": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remedies", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Outputs without a bias do not spike long after the inputs, which end at 30 ms.
    settings = TASK.settings(epochs=options.epochs, seed=options.seed, max_spikes=16, duration=60.0)
    print("| remedy | seed | silent neurons at the start: hidden, output | after training | test accuracy | seconds |")
    print("|---|---|---|---|---|---|")
    for remedy in options.remedies:
        print(row(remedy, settings), flush=True)


def row(remedy: str, settings: tasks.Settings) -> str:
    """Trains a network with a remedy, and says how it went."""
    start = time.perf_counter()
    network, split = build(settings), TASK.split(settings)
    data = Split(*(Loader(*part, batch_size=settings.batch_size, seed=settings.seed) for part in split))
    if remedy == "calibrated":
        some = sx.Spikes(split.training.inputs.times[:200])
        network = silence.calibrated(network, some, settings.duration, fraction=FRACTIONS, max_spikes=64)
    measure = objective(WEIGHTS[remedy], settings)
    before = train.evaluate(network, measure, data.test)
    fit = train.fit(
        network,
        measure,
        data.training,
        data.validation,
        optimizer=TASK.optimizer(settings, settings.epochs * len(data.training)),
        epochs=settings.epochs,
    )
    after = train.evaluate(fit.network, measure, data.test)
    silent = [f"{m['hidden_silent']:.0%}, {m['output_silent']:.0%}" for m in (before, after)]
    accuracy, seconds = f"{after['accuracy']:.1%}", f"{time.perf_counter() - start:.0f}"
    return "| " + " | ".join([remedy, str(settings.seed), *silent, accuracy, seconds]) + " |"


def build(settings: tasks.Settings) -> sx.Network:
    """The network of the task, with outputs as any other neuron, and weights that are far too small."""
    network = TASK.build(settings)
    outputs = sx.Layer(sx.LIF(), len(TASK.classes))
    weights = [TOO_SMALL * connection.weight for connection in network.connections]
    return eqx.tree_at(
        lambda network: [network.layers["output"], *(connection.weight for connection in network.connections)],
        network,
        [outputs, *weights],
    )


def objective(weights: dict[str, float], settings: tasks.Settings) -> train.Objective:
    """The loss of the first spikes, the peaks of silent neurons with their weights, and who is silent."""

    def measure(network, inputs, labels):
        solution = sx.simulate(
            network,
            inputs,
            settings.duration,
            saveat=dict.fromkeys(weights, TS) or None,
            max_spikes=settings.max_spikes,
        )
        times = sx.first_spike(solution.spikes["output"])
        loss = losses.first_spike_cross_entropy(times, labels, t_silent=settings.duration)
        for name, weight in weights.items():
            conditions = silence.spike_conditions(network.layers[name], TS, solution.states[name])
            loss += weight * losses.silent_peak(conditions, solution.spikes[name])
        activity = silence.activity(solution)
        silent = {f"{name}_silent": activity[name].silent for name in activity}
        return loss, {"accuracy": (decode.earliest(times) == labels).astype(times.dtype)} | silent

    return measure


if __name__ == "__main__":
    main()
