"""Draws every neuron model under a step of current: `python docs/figures/neurons.py`, into docs/images/neurons/."""

import dataclasses
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib import pyplot

import spikax as sx
from spikax.plot import CLASS_COLOURS


matplotlib.use("agg")

IMAGES = pathlib.Path(__file__).parents[1] / "images" / "neurons"
INK, PALE = "#26303b", "#9aa5b1"


class Current(sx.AbstractSynapse):
    """A current that each arrival changes by its weight, for good: two arrivals make a step."""

    def initial_state(self, weight):
        return jnp.zeros_like(weight)

    def evolve(self, state, duration):
        return state

    def receive(self, state, weight):
        return state + weight

    def drive(self, state):
        return state


class Picture(eqx.Module):
    """A neuron, the height of the step of current, how long it lasts, and the two units."""

    neuron: sx.AbstractNeuron
    current: float
    t1: float = 200.0
    voltage: str = ""
    unit: str = ""
    peak: float | None = None  # up to where a spike is drawn, where a reset cuts it off
    highest: float = np.inf  # a voltage further from zero is not drawn


MILLIVOLTS = {"voltage": "mV", "unit": "mV"}
BIOPHYSICAL = {"voltage": "mV", "unit": "µA/cm²"}
PICTURES = {
    "if": Picture(sx.IF(), 0.8, peak=2.0),
    "lif": Picture(sx.LIF(), 1.25, peak=2.0),
    "alif": Picture(sx.ALIF(), 2.0, peak=2.6),
    "qif": Picture(sx.QIF(), 3.0, peak=25.0, highest=25.0),
    "eif": Picture(sx.EIF(), 1.2, peak=3.0),
    "adex": Picture(sx.AdEx(), 30.0, peak=20.0, **MILLIVOLTS),
    "izhikevich": Picture(sx.Izhikevich(), 10.0, voltage="mV", peak=30.0),
    "hodgkin-huxley": Picture(sx.HodgkinHuxley(), 10.0, t1=100.0, **BIOPHYSICAL),
    "morris-lecar": Picture(sx.MorrisLecar(), 100.0, t1=500.0, **BIOPHYSICAL),
}
PRESETS = (
    "regular_spiking",
    "intrinsically_bursting",
    "chattering",
    "fast_spiking",
    "low_threshold_spiking",
    "thalamo_cortical",
    "resonator",
)


def traced(picture: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times, voltages and currents there, and the spike times."""
    neuron = dataclasses.replace(picture.neuron, synapse=Current())
    weights = picture.current * jnp.asarray([[1.0], [-1.0]])
    network = sx.sequential(2, sx.Layer(neuron, 1, weights=weights), key=jax.random.key(0))
    step = jnp.asarray([[0.1], [0.9]]) * picture.t1
    ts = np.linspace(0.0, picture.t1, 4001)
    sol = sx.simulate(network, sx.Spikes(step), picture.t1, saveat=ts, max_spikes=64, max_steps=20_000)
    spikes = np.asarray(sol.spikes["output"].times[0])
    return ts, np.asarray(sol.states["output"].v[:, 0]), np.asarray(sol.drives["output"][:, 0]), spikes[spikes < np.inf]


def with_strokes(picture: Picture, ts: Any, v: Any, spikes: Any) -> tuple[np.ndarray, np.ndarray]:
    """The curve, in which every spike that resets the voltage rises to the peak on its way."""
    if picture.peak is None:
        return ts, v
    places = np.searchsorted(ts, spikes)
    times, curve = np.insert(ts, places, spikes), np.insert(v, places, picture.peak)
    shown = np.abs(curve) <= picture.highest
    return times[shown], curve[shown]


def draw(picture: Picture, title: str = "", axes: Any = None) -> None:
    """The voltage with its spikes marked above, and the current beneath."""
    upper, lower = axes
    ts, v, current, spikes = traced(picture)
    times, curve = with_strokes(picture, ts, v, spikes)
    upper.plot(times, curve, color=CLASS_COLOURS[0], linewidth=1.2, solid_joinstyle="round")
    span = curve.max() - curve.min()
    upper.plot(
        spikes, np.full(len(spikes), curve.max() + 0.12 * span), "|", color=INK, markersize=7, markeredgewidth=1.4
    )
    upper.set_ylim(curve.min() - 0.06 * span, curve.max() + 0.22 * span)
    upper.set_ylabel("v (mV)" if picture.voltage else "v")
    lower.fill_between(ts, current, color=PALE, alpha=0.45, linewidth=0)
    lower.plot(ts, current, color=INK, linewidth=1.0)
    lower.set_ylim(0.0, 1.25 * picture.current)
    lower.set_yticks([0.0, picture.current], ["0", f"{picture.current:g}"])
    lower.set_ylabel("I")
    lower.text(1.0, 1.0, picture.unit, transform=lower.transAxes, ha="right", va="top", fontsize=8, color=INK)
    lower.set_xlabel("time (ms)")
    lower.set_xlim(0.0, picture.t1)
    if title:
        upper.set_title(title, loc="left", fontsize=9, color=INK)
    upper.tick_params(axis="x", labelbottom=False, length=0)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(PALE)
        ax.tick_params(colors=INK, labelsize=8)
    upper.spines["bottom"].set_visible(False)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams.update({"font.size": 9, "axes.labelcolor": INK, "savefig.dpi": 130})
    rows = {"height_ratios": (4, 1), "hspace": 0.12}
    for name, picture in PICTURES.items():
        figure, axes = pyplot.subplots(2, 1, figsize=(6.0, 2.6), sharex=True, gridspec_kw=rows)
        draw(picture, axes=axes)
        figure.align_ylabels(axes)
        figure.savefig(IMAGES / f"{name}.png", bbox_inches="tight")
        pyplot.close(figure)
    figure = pyplot.figure(figsize=(9.0, 8.4))
    grid = figure.add_gridspec(4, 2, hspace=0.55, wspace=0.22)
    for number, name in enumerate(PRESETS):
        cell = grid[number // 2, number % 2].subgridspec(2, 1, **rows)
        axes = figure.add_subplot(cell[0]), figure.add_subplot(cell[1])
        axes[0].sharex(axes[1])
        draw(Picture(sx.Izhikevich.preset(name), 10.0, voltage="mV", peak=30.0), name.replace("_", " "), axes)
    figure.savefig(IMAGES / "izhikevich-presets.png", bbox_inches="tight")


if __name__ == "__main__":
    main()
