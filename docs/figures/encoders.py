"""Draws what the encoders make of numbers, signals and images: `python docs/figures/encoders.py`, into docs/images/."""

import pathlib
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot

import spikax as sx
from spikax.plot import CLASS_COLOURS


matplotlib.use("agg")

IMAGE = pathlib.Path(__file__).parents[1] / "images" / "encoders.png"
INK, PALE = "#26303b", "#9aa5b1"


def strokes(ax: Any, spikes: sx.Spikes, colours: Any = INK) -> None:
    """A row for each channel, a stroke for each spike."""
    trains = [train[np.isfinite(train)] for train in np.asarray(spikes.times)]
    ax.eventplot(trains, lineoffsets=range(len(trains)), linelengths=0.8, linewidths=1.4, colors=colours)
    ax.set_ylim(-0.8, len(trains) - 0.2)


def draw_population(fields: Any, rows: Any) -> None:
    """The fields with two values, and the spikes of both."""
    x, m = np.linspace(0.0, 1.0, 400), 7
    # Without cutoff, a field spikes at one minus its response.
    responses = 1.0 - np.asarray(sx.encode.population(x[:, None], m, 0.0, 1.0, cutoff=0.0).times[..., 0])
    fields.plot(x, responses, color=PALE, linewidth=1.0)
    for value, colour, shift in ((0.3, CLASS_COLOURS[0], -0.18), (0.8, CLASS_COLOURS[1], 0.18)):
        fields.axvline(value, color=colour, linewidth=1.4)
        times = np.asarray(sx.encode.population(np.array([value]), m, 0.0, 20.0).times[:, 0])
        rows.plot(times, np.arange(m) + shift, "|", color=colour, markersize=9, markeredgewidth=1.6)
    fields.set(ylabel="response", xlabel="value", xlim=(0.0, 1.0), ylim=(0.0, 1.05))
    rows.set(ylabel="field", xlabel="time (ms)", xlim=(-0.5, 20.0), ylim=(-0.6, m - 0.4))


def draw_send_on_delta(signal: Any, rows: Any) -> None:
    """A signal, and its spikes upward and downward."""
    ts = np.linspace(0.0, 100.0, 201)
    wave = np.sin(2 * np.pi * ts / 60.0) * np.exp(-ts / 80.0)
    spikes = sx.encode.send_on_delta(wave[:, None], ts, 0.15)
    signal.plot(ts, wave, color=INK, linewidth=1.2)
    for train, colour in zip(np.asarray(spikes.times), CLASS_COLOURS, strict=False):
        happened = train[np.isfinite(train)]
        signal.plot(happened, np.interp(happened, ts, wave), "o", color=colour, markersize=3.5)
    strokes(rows, spikes, CLASS_COLOURS[:2])
    signal.set(ylabel="signal", xlim=(0.0, 100.0))
    signal.tick_params(labelbottom=False)
    rows.set(xlabel="time (ms)", xlim=(0.0, 100.0), yticks=[0, 1], yticklabels=["up", "down"])


def draw_poisson(rates: Any, rows: Any) -> None:
    """Rates, and spikes of these rates."""
    height = np.linspace(0.0, 0.2, 12)
    rates.bar(range(12), 1000 * height, color=PALE)
    strokes(rows, sx.encode.poisson(height, 100.0, seed=0))
    rates.set(ylabel="rate (Hz)", xlabel="channel", xticks=[0, 5, 10])
    rows.set(ylabel="channel", xlabel="time (ms)", xlim=(0.0, 100.0), yticks=[0, 5, 10])


def draw_image(image: Any, rows: Any) -> None:
    """A digit, and the spikes of its pixels."""
    digit = sx.datasets.digits().training.images[0]
    events = sx.datasets.image_spikes(digit)
    image.imshow(digit, cmap="Greys", vmin=0.0, vmax=1.0)
    image.set(xticks=[], yticks=[])
    image.spines[["left", "bottom"]].set_visible(False)
    happened = np.isfinite(events.times)
    times, channels = np.asarray(events.times)[happened], np.asarray(events.channels)[happened]
    rows.plot(times, channels, "|", color=INK, markersize=4, markeredgewidth=1.4)
    rows.set(ylabel="pixel", xlabel="time (ms)", xlim=(-0.5, 20.0), ylim=(64, -1), yticks=[0, 32, 63])


PANELS = {
    "population": draw_population,
    "send_on_delta": draw_send_on_delta,
    "poisson": draw_poisson,
    "image_spikes": draw_image,
}


def main() -> None:
    pyplot.rcParams.update({"font.size": 9, "axes.labelcolor": INK, "savefig.dpi": 130})
    figure, axes = pyplot.subplots(2, 4, figsize=(11.0, 4.6), layout="constrained")
    for column, (title, draw) in zip(axes.T, PANELS.items(), strict=True):
        for ax in column:
            ax.spines[["top", "right"]].set_visible(False)
            ax.spines[["left", "bottom"]].set_color(PALE)
            ax.tick_params(colors=INK, labelsize=8)
        draw(*column)
        column[0].set_title(title, loc="left", fontsize=10, color=INK)
    figure.savefig(IMAGE)


if __name__ == "__main__":
    main()
