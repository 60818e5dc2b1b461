"""Draws a picture with every function of `spikax.plot`: `python docs/figures/plots.py`, into docs/images/plots/.

It trains a small network for a minute first.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib import pyplot

import spikax as sx
from spikax import plot, tasks


matplotlib.use("agg")

IMAGES = pathlib.Path(__file__).parents[1] / "images" / "plots"
TASK = tasks.YinYang()
SETTINGS = TASK.settings(epochs=12)


def save(name: str, draw: Callable[[Any], Any], width: float = 6.0, height: float = 3.6) -> None:
    figure = pyplot.figure(figsize=(width, height), layout="constrained")
    draw(figure.gca())
    figure.savefig(IMAGES / f"{name}.png", dpi=110)
    pyplot.close(figure)


def wired() -> sx.Network:
    """Three layers, two of which are recurrent, with delays."""
    key = jax.random.key(0)
    layers = {"exc": sx.Layer(sx.EIF(), 80), "inh": sx.Layer(sx.LIF(), 20), "readout": sx.Layer(sx.LI(), 10)}

    def draw(*shape: int) -> Any:
        return 0.2 * jax.random.normal(jax.random.fold_in(key, sum(shape)), shape)

    delays = sx.Positive(jnp.exp(0.5 * jax.random.normal(key, (80, 80)) + 1.0))
    connections = [
        sx.Dense("image", "exc", draw(100, 80)),
        sx.Dense("exc", "exc", sx.Masked(draw(80, 80), ~np.eye(80, dtype=bool)), delay=delays),
        sx.Dense("exc", "inh", draw(80, 20), delay=1.5),
        sx.Dense("inh", "exc", draw(20, 80), delay=0.8),
        sx.Sparse("inh", "inh", np.arange(20), np.roll(np.arange(20), 1), draw(20), shape=(20, 20), delay=0.8),
        sx.Dense("exc", "readout", draw(80, 10)),
    ]
    return sx.Network(layers, connections, {"image": 100}, "readout")


def of_one(spikes: sx.Spikes) -> sx.Spikes:
    """The spikes of the first sample."""
    return sx.Spikes(spikes.times[0])


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams.update({"font.size": 9})
    network = wired()
    save("network", lambda ax: plot.network(network, ax), height=3.4)
    save("weights", lambda ax: plot.weights(network.connections[1], ax), width=4.8)
    save("delays", lambda ax: plot.delays(network.connections[1], ax), height=2.6)

    trained = tasks.train(TASK, SETTINGS)
    points, labels = TASK.points(SETTINGS).test

    def decide(at: np.ndarray) -> np.ndarray:
        return tasks.answers(trained, sx.datasets.yin_yang_spikes(at))

    answers = decide(points)
    save("weight-histogram", lambda ax: plot.weight_histogram(trained.network.connections[0], ax), height=2.6)
    save("learning-curve", lambda ax: plot.learning_curve(trained.history, ax), height=3.0)
    save("confusion-matrix", lambda ax: plot.confusion_matrix(labels, answers, ax, names=TASK.classes), width=4.2)

    save("decision-map", lambda ax: plot.decision_map(decide, points, labels, ax), width=4.6, height=4.8)

    inputs, ts = sx.datasets.yin_yang_spikes(points[:1]), jnp.linspace(0.0, 40.0, 401)
    solution = eqx.filter_jit(sx.simulate)(trained.network, inputs, t1=40.0, saveat=ts, max_spikes=16)
    spikes = {name: of_one(train) for name, train in solution.spikes.items()}
    layers = [("input", of_one(inputs)), *spikes.items()]
    save("raster", lambda ax: plot.raster(layers, ax, colours=("#4f9d69", "#26303b", "#e07b39")))
    v = solution.states["output"].v[0]
    options = {"spikes": spikes["output"], "threshold": 1.0, "names": TASK.classes}
    save("traces", lambda ax: plot.traces(ts, v, ax, **options), height=3.2)


if __name__ == "__main__":
    main()
