"""Two gated recurrent units store a pattern and report it after a cue.

A sample presents the pattern (1, 0) or (0, 1), as one spike in the first or second channel. After a delay of 50 to
150 ms the third channel, the cue, spikes. The output is read 30 ms later. Two event-based gated recurrent units (EGRU)
receive from the channels and, with a delay of 5 ms, from each other. Two leaky integrators receive their spikes. The
voltage of each is the logit of one bit. The targets are zero for both bits at the time of the cue, and the pattern at
the time of the readout.

A unit keeps its cell value while its update gate is closed, which is nearly so at rest. Therefore it needs no spikes to
store the pattern. An input spike opens the gate for about 10 ms. With the initial weights, a pattern moves each cell
value in a random direction, and the cue makes both units spike. They spike earlier and more often for higher cell
values.

Network and training are those of `python -m spikax train delay-copy`.

The voltage of the readout rises for about 60 ms after a spike and then decays very slowly. Earlier spikes therefore
count more, as additional spikes do, so the derivative with respect to spike times indicates the effect of a change of
their number. With a faster readout, earlier spikes would count less, and training could increase the number of spikes
without bound. For the same reason, the activity is penalised by the time since each spike: the number of spikes has no
derivative.

    python examples/delay_copy.py
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import spikax as sx
from spikax import tasks


TASK = tasks.DelayCopy()
T_CUE, T1 = 150.0, TASK.settings().duration
MAX_SPIKES = {"hidden": TASK.settings().max_spikes, "output": 1}


def draw(trained: tasks.Trained, path: Path) -> None:
    """Plots the response of the trained network to both patterns, 120 ms before the cue."""
    from matplotlib import pyplot

    ts = jnp.linspace(0.0, T1, 721)
    shown = jnp.array([[[30.0], [jnp.inf], [T_CUE]], [[jnp.inf], [30.0], [T_CUE]]])
    solution = sx.simulate(trained.network, sx.Spikes(shown), T1, saveat=ts, max_spikes=MAX_SPIKES)
    cells, voltages = solution.states["hidden"].c, solution.states["output"].v
    ink = ("#3b6fb6", "#e07b39")
    figure, axes = pyplot.subplots(
        3, 2, figsize=(8.5, 5.4), sharex=True, sharey="row", layout="constrained", height_ratios=(0.55, 1.0, 1.0)
    )
    for pattern, (inputs, units, readout) in enumerate(axes.T):
        inputs.eventplot(np.asarray(shown[pattern]), lineoffsets=[2, 1, 0], linelengths=0.7, colors=[*ink, "#26303b"])
        inputs.set_title(f"pattern {'(1, 0)' if pattern == 0 else '(0, 1)'}", fontsize=10)
        units.axhline(0.3, color="#9aa5b1", linewidth=0.8, linestyle="--")
        readout.axhline(0.0, color="#9aa5b1", linewidth=0.8, linestyle="--")
        for i, colour in enumerate(ink):
            units.plot(ts, cells[pattern, :, i], color=colour, linewidth=1.3, label=f"unit {i}")
            times = np.asarray(solution.spikes["hidden"].times[pattern, i])
            units.eventplot(times[np.isfinite(times)], lineoffsets=0.42 + 0.1 * i, linelengths=0.08, colors=colour)
            readout.plot(ts, voltages[pattern, :, i], color=colour, linewidth=1.3, label=f"bit {i}")
            readout.plot([T_CUE, T1], voltages[pattern, np.array([600, 720]), i], "o", color=colour, markersize=4)
    axes[0, 0].set_yticks([2, 1, 0], ["bit 0", "bit 1", "cue"])
    axes[0, 0].set_ylim(-0.6, 2.6)
    axes[1, 0].set_ylabel("cell value, spikes")
    axes[2, 0].set_ylabel("logit")
    for row, place in zip(axes[1:], ("lower left", "upper left"), strict=True):
        row[0].legend(frameon=False, loc=place, fontsize=9, ncols=2)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("time (ms)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Two gated units learn to remember a pattern.")
    parser.add_argument("--epochs", type=int, default=TASK.settings().epochs, help="times through the training data")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the samples")
    parser.add_argument("--out", type=Path, default=Path("runs/delay-copy.png"), help="where to put the figure")
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
