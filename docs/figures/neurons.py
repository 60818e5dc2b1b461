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
MODEL = {"voltage": "mV", "unit": "mV/ms"}
BIOPHYSICAL = {"voltage": "mV", "unit": "µA/cm²"}
PICTURES = {
    "if": Picture(sx.IF(), 0.8, peak=2.0),
    "lif": Picture(sx.LIF(), 1.25, peak=2.0),
    "alif": Picture(sx.ALIF(), 2.0, peak=2.6),
    "resonate-and-fire": Picture(sx.ResonateAndFire(60.0, u_reset=-0.4, v_reset=0.5), 10.6, peak=1.5),
    "qif": Picture(sx.QIF(), 3.0, peak=25.0, highest=25.0),
    "eif": Picture(sx.EIF(), 1.2, peak=3.0),
    "adex": Picture(sx.AdEx(), 30.0, peak=20.0, **MILLIVOLTS),
    "izhikevich": Picture(sx.Izhikevich(), 10.0, peak=30.0, **MODEL),
    "hodgkin-huxley": Picture(sx.HodgkinHuxley(), 10.0, t1=100.0, **BIOPHYSICAL),
    "morris-lecar": Picture(sx.MorrisLecar(), 100.0, t1=500.0, **BIOPHYSICAL),
}


def simulated(neuron: sx.AbstractNeuron, weights: Any, steps: Any, t1: float) -> tuple[np.ndarray, Any, Any, Any]:
    """Times, states and drives there, and the spike times; the drives change by the weights, by port, at the steps."""
    weights = jax.tree.map(lambda changes: jnp.asarray(changes)[:, None], weights)
    neuron = dataclasses.replace(neuron, synapse=jax.tree.map(lambda _: Current(), weights))
    network = sx.sequential(len(steps), sx.Layer(neuron, 1, weights=weights), key=jax.random.key(0))
    ts, inputs = np.linspace(0.0, t1, 4001), sx.Spikes(jnp.asarray(steps)[:, None] * t1)
    solution = sx.simulate(network, inputs, t1, saveat=ts, max_spikes=64, method=sx.EventLoop(max_steps=20_000))
    found = solution.states["output"], solution.drives["output"]
    state, drive = jax.tree.map(lambda leaf: np.asarray(leaf[:, 0]), found)
    spikes = np.asarray(solution.spikes["output"].times[0])
    return ts, state, drive, spikes[spikes < np.inf]


def with_strokes(picture: Picture, ts: Any, v: Any, spikes: Any) -> tuple[np.ndarray, np.ndarray]:
    """The curve, in which every spike that resets the voltage rises to the peak on its way."""
    if picture.peak is None:
        return ts, v
    places = np.searchsorted(ts, spikes)
    times, curve = np.insert(ts, places, spikes), np.insert(v, places, picture.peak)
    shown = np.abs(curve) <= picture.highest
    return times[shown], curve[shown]


def mark(ax: Any, curve: np.ndarray, spikes: np.ndarray) -> None:
    """A stroke for every spike, above the curve."""
    span = curve.max() - curve.min()
    height = np.full(len(spikes), curve.max() + 0.12 * span)
    ax.plot(spikes, height, "|", color=INK, markersize=7, markeredgewidth=1.4)
    ax.set_ylim(curve.min() - 0.06 * span, curve.max() + 0.22 * span)


def tidy(axes: Any, t1: float) -> None:
    """The looks of panels, one above the other, that share the time."""
    for ax in axes:
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(PALE)
        ax.tick_params(colors=INK, labelsize=8)
        ax.tick_params(axis="x", labelbottom=ax is axes[-1], length=3 if ax is axes[-1] else 0)
    axes[-1].spines["bottom"].set_visible(True)
    axes[-1].set_xlabel("time (ms)")
    axes[-1].set_xlim(0.0, t1)


def draw(picture: Picture, title: str = "", axes: Any = None) -> None:
    """The voltage with its spikes marked above, and the current beneath."""
    upper, lower = axes
    height = picture.current
    ts, state, current, spikes = simulated(picture.neuron, np.array([height, -height]), [0.1, 0.9], picture.t1)
    times, curve = with_strokes(picture, ts, state.v, spikes)
    upper.plot(times, curve, color=CLASS_COLOURS[0], linewidth=1.2, solid_joinstyle="round")
    mark(upper, curve, spikes)
    upper.set_ylabel("v (mV)" if picture.voltage else "v")
    upper.set_title(title, loc="left", fontsize=9, color=INK)
    lower.fill_between(ts, current, color=PALE, alpha=0.45, linewidth=0)
    lower.plot(ts, current, color=INK, linewidth=1.0)
    lower.set_ylim(0.0, 1.25 * height)
    lower.set_yticks([])
    # Upright, the letter would look like a dash.
    label = f"I = {height:g} {picture.unit}"
    lower.text(0.5 * picture.t1, 0.5 * height, label, ha="center", va="center", fontsize=8, color=INK)
    tidy(axes, picture.t1)


def draw_egru(axes: Any, t1: float = 200.0) -> None:
    """The unit with its spikes, its gates and target, and the inputs: one step, and another on top."""
    neuron = sx.EGRU()
    changes = {"u": np.array([0.0, 2.0, -2.0]), "r": np.array([0.0, -2.0, 2.0]), "z": np.array([0.6, 0.0, -0.6])}
    ts, state, a, spikes = simulated(neuron, changes, [0.1, 0.5, 0.9], t1)
    unit, gates, inputs = axes
    # A spike falls between two points of the curve; the curve rises to the threshold on its way.
    places = np.searchsorted(ts, spikes)
    times, curve = np.insert(ts, places, spikes), np.insert(state.c, places, neuron.threshold)
    unit.axhline(neuron.threshold, color=PALE, linewidth=0.8, linestyle="--")
    unit.plot(times, curve, color=CLASS_COLOURS[0], linewidth=1.2)
    mark(unit, curve, spikes)
    unit.set_ylabel("cell value c")
    gate = {"u": jax.nn.sigmoid(a["u"]), "r": jax.nn.sigmoid(a["r"]), "z": np.tanh(a["z"])}
    for ax, values in ((gates, gate), (inputs, a)):
        for name, colour in zip("urz", CLASS_COLOURS[1:], strict=False):
            ax.plot(ts, values[name], color=colour, linewidth=1.4, label=name)
        ax.margins(y=0.12)
    gates.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, labelcolor=INK)
    gates.set_ylabel("gates u, r\ntarget z")
    inputs.set_ylabel("inputs\n$a_u$, $a_r$, $a_z$")
    tidy(axes, t1)


def save(figure: Any, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.png", bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams.update({"font.size": 9, "axes.labelcolor": INK, "savefig.dpi": 130})
    rows = {"height_ratios": (4, 1), "hspace": 0.12}
    for name, picture in PICTURES.items():
        figure, axes = pyplot.subplots(2, 1, figsize=(6.0, 2.6), sharex=True, gridspec_kw=rows)
        draw(picture, axes=axes)
        save(figure, name)
    figure, axes = pyplot.subplots(3, 1, figsize=(6.0, 3.6), sharex=True, height_ratios=(3, 2, 2))
    draw_egru(axes)
    figure.align_ylabels(axes)
    save(figure, "egru")
    figure = pyplot.figure(figsize=(9.0, 8.4))
    grid = figure.add_gridspec(4, 2, hspace=0.55, wspace=0.22)
    for number, name in enumerate(sx.Izhikevich.PRESETS):
        panel = grid[number // 2, number % 2].subgridspec(2, 1, **rows)
        axes = figure.add_subplot(panel[0]), figure.add_subplot(panel[1])
        axes[0].sharex(axes[1])
        draw(Picture(sx.Izhikevich.preset(name), 10.0, peak=30.0, **MODEL), name.replace("_", " "), axes)
    save(figure, "izhikevich-presets")


if __name__ == "__main__":
    main()
