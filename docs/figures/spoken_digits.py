"""Draws spikes of spoken digits from the sample: `python docs/figures/spoken_digits.py`, into docs/images/."""

import pathlib

import matplotlib
from matplotlib import pyplot

import spikax as sx


matplotlib.use("agg")

ROOT = pathlib.Path(__file__).parents[2]
IMAGE = ROOT / "docs" / "images" / "spoken-digits.png"
INK, PALE = "#26303b", "#9aa5b1"
WORDS = {1: "one", 7: "seven", 16: "sechs", 18: "acht"}
LABELS = list(WORDS)


def main() -> None:
    pyplot.rcParams.update({"font.size": 9, "axes.labelcolor": INK, "savefig.dpi": 130})
    figure, axes = pyplot.subplots(2, 4, figsize=(11.0, 4.6), sharex=True, sharey=True, layout="constrained")
    training = sx.datasets.spoken_digits(ROOT / "examples" / "spoken_digits").training
    for column, label in zip(axes.T, LABELS, strict=True):
        # Two voices of the same word.
        rows = [row for row, other in enumerate(training.labels) if other == label][:2]
        for ax, row in zip(column, rows, strict=True):
            events = training.spikes[row]
            ax.plot(events.times, events.channels, ".", color=INK, markersize=1.6, markeredgewidth=0)
            ax.spines[["top", "right"]].set_visible(False)
            ax.spines[["left", "bottom"]].set_color(PALE)
            ax.tick_params(colors=INK, labelsize=8)
        column[0].set_title(WORDS[label], loc="left", fontsize=10, color=INK)
        column[1].set(xlabel="time (ms)", xlim=(0.0, 1000.0), ylim=(0, 70))
    for ax in axes[:, 0]:
        ax.set(ylabel="channel", yticks=[0, 35, 69])
    figure.savefig(IMAGE)


if __name__ == "__main__":
    main()
