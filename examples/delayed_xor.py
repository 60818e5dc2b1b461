"""Gated recurrent units store two bits and report their exclusive or after a cue.

This is the delayed-memory XOR task (Huh and Sejnowski 2018). A sample presents two bits, each as a pulse of spikes of
30 to 50 ms in the first or second channel, followed by a delay of 100 to 150 ms. Then the third channel, the cue, has a
pulse. The output is read 30 ms after its start. Event-based gated recurrent units (EGRU) receive from the channels and,
with a delay of 10 ms, from each other. A leaky integrator receives their spikes. Its voltage is the logit of the
exclusive or.

A unit keeps its cell value while its update gate is closed, which is nearly so at rest. An input pulse opens the gate.
With the initial weights, a bit moves each cell value a little in a random direction, and the cue makes all units spike.
Recurrent weights only lower the target z, so no activity sustains itself. Readout and penalty of activity are those of
`delay_copy.py`, for the reasons given there. Network and training are those of `python -m spikax train delayed-xor`.

    python examples/delayed_xor.py
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import spikax as sx
from spikax import tasks


TASK = tasks.DelayedXOR()
UNITS, T1 = TASK.settings().hidden, TASK.settings().duration
MAX_SPIKES = {"hidden": TASK.settings().max_spikes, "output": 1}


def draw(trained: tasks.Trained, path: Path) -> None:
    """Plots the response of the trained network to one new sample of every pair of bits."""
    from matplotlib import pyplot

    inputs, targets = TASK.part(64, 2_000_000)
    first = np.asarray(inputs.times[:, 1, 0] < inputs.times[:, 0, 0]).astype(int)
    second = first ^ np.asarray(targets, int)
    shown = inputs.times[np.array([np.flatnonzero((first == b) & (second == c))[0] for b in (0, 1) for c in (0, 1)])]
    ts = jnp.linspace(0.0, T1, 861)
    solution = sx.simulate(trained.network, sx.Spikes(shown), T1, saveat=ts, max_spikes=MAX_SPIKES)
    cells, logits = solution.states["hidden"].c, np.asarray(solution.states["output"].v[..., 0])
    ink, colours = "#26303b", ("#3b6fb6", "#e07b39", "#4f9d69", "#a65a9e", "#c9a227", "#6b7280", "#2a9d9d", "#c2476b")
    figure, axes = pyplot.subplots(
        4, 4, figsize=(11, 6), sharex=True, sharey="row", layout="constrained", height_ratios=(0.5, 1.1, 0.7, 0.8)
    )
    for pair, (channels, held, spikes, readout) in enumerate(axes.T):
        trains = [train[np.isfinite(train)] for train in np.asarray(shown[pair])]
        channels.eventplot(trains, lineoffsets=[2, 1, 0], linelengths=0.7, colors=ink)
        channels.set_title(f"bits {pair // 2} and {pair % 2}, answer {(pair // 2) ^ (pair % 2)}", fontsize=10)
        held.axhline(0.3, color="#9aa5b1", linewidth=0.8, linestyle="--")
        for unit in range(UNITS):
            held.plot(ts, cells[pair, :, unit], color=colours[unit], linewidth=1.0)
        trains = [train[np.isfinite(train)] for train in np.asarray(solution.spikes["hidden"].times[pair])]
        spikes.eventplot(trains, lineoffsets=range(UNITS), linelengths=0.7, colors=colours[:UNITS])
        readout.axhline(0.0, color="#9aa5b1", linewidth=0.8, linestyle="--")
        readout.plot(ts, logits[pair], color=ink, linewidth=1.3)
        readout.plot(T1, logits[pair, -1], "o", color=ink, markersize=4, clip_on=False)
    axes[0, 0].set_yticks([2, 1, 0], ["bit 0", "bit 1", "cue"])
    axes[0, 0].set_ylim(-0.6, 2.6)
    for row, name in zip(axes[1:], ("cell value", "spikes", "logit"), strict=True):
        row[0].set_ylabel(name)
    axes[2, 0].set_yticks([])
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("time (ms)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Gated units learn delayed-memory XOR.")
    parser.add_argument("--epochs", type=int, default=TASK.settings().epochs, help="times through the training data")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the samples")
    parser.add_argument("--out", type=Path, default=Path("runs/delayed-xor.png"), help="where to put the figure")
    options = parser.parse_args()

    settings = TASK.settings(seed=options.seed, epochs=options.epochs)
    first = tasks.Trained(TASK, settings, TASK.build(settings), [])
    print(f"before: {tasks.test(first)['accuracy']:.1%} of 1000 fresh samples", flush=True)
    with sx.train.ProgressBar(settings.epochs) as bar:
        trained = tasks.train(TASK, settings, callbacks=(bar,))
    print(f"after: {tasks.test(trained)['accuracy']:.1%} of 1000 fresh samples")
    draw(trained, options.out)


if __name__ == "__main__":
    main()
