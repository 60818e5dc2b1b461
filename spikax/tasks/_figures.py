"""The pictures of a run."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import plot
from .._simulate import simulate
from .._spikes import Events, Spikes
from ..datasets import yin_yang_spikes
from ._run import answers, Trained
from ._yin_yang import YinYang


COLOURS = ("#4f9d69", "#26303b", "#e07b39")


def figures(trained: Trained, accuracy: float) -> Iterator[tuple[str, Any]]:
    """Names and Matplotlib figures: how it learned, what it answers, and a sample."""
    task, settings = trained.task, trained.settings
    test = task.split(settings).test
    given = answers(trained, test.inputs)

    figure = _figure(6.0, 4.0)
    ax = plot.learning_curve(trained.history, figure.gca())
    kind = type(trained.network.layers["hidden"].neuron).__name__
    ax.set_title(f"{task.name}, {settings.hidden} hidden {kind} neurons: test accuracy {accuracy:.1%}")
    yield "learning-curve", figure

    figure = _figure(5.6, 5.0) if len(task.classes) > 4 else _figure(4.2, 3.8)
    plot.confusion_matrix(test.labels, given, figure.gca(), names=task.classes)
    yield "confusion-matrix", figure

    if isinstance(task, YinYang):
        yield "decision-map", _decision_map(trained)

    one = jax.tree.map(lambda leaf: leaf[:1], test.inputs)
    said = task.classes[given[0]] if given[0] >= 0 else "none"
    yield "raster", _sample(trained, one, f"A sample of the class {task.classes[test.labels[0]]}; the answer is {said}")


def _decision_map(trained: Trained) -> Any:
    from matplotlib.patches import Circle

    task = trained.task
    assert isinstance(task, YinYang)
    figure = _figure(6.0, 6.2)
    points, labels = task.points(trained.settings).test
    ax = plot.decision_map(lambda at: answers(trained, yin_yang_spikes(at)), points, labels, figure.gca())
    ax.add_patch(Circle((0.5, 0.5), 0.5, fill=False, color="#26303b", linewidth=0.8, clip_on=False))
    return figure


def _sample(trained: Trained, inputs: Any, title: str) -> Any:
    """The spikes of all layers, and, where voltages answer, the voltages."""
    task, settings, network = trained.task, trained.settings, trained.network
    ts = jnp.linspace(0.0, settings.duration, 4 * round(settings.duration) + 1)
    by_voltage = "saveat" in task.options(settings)
    options = task.options(settings) | ({"saveat": {"output": ts}} if by_voltage else {})
    solution = simulate(network, inputs, **options)
    spikes = {name: Spikes(solution.spikes[name].times[0]) for group in network.groups() for name in group}
    if isinstance(inputs, Events):
        inputs = Spikes.from_events(inputs.times, inputs.channels, inputs.n)
    layers = [("input", Spikes(inputs.times[0])), *spikes.items()]
    if not by_voltage:
        figure = _figure(7.0, 5.0)
        plot.raster(layers, figure.gca(), colours=COLOURS).set_title(title)
        return figure
    figure = _figure(7.0, 6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.4))
    voltages = np.asarray(solution.states["output"].v[0])
    named = {"names": task.classes} if voltages.shape[1] == len(task.classes) else {}
    plot.traces(ts, voltages, above, **named).set_xlabel("")
    figure.suptitle(title)
    plot.raster(layers[:-1], below, colours=COLOURS)
    below.set_xlim(-0.015 * settings.duration, 1.015 * settings.duration)
    return figure


def _figure(width: float, height: float) -> Any:
    """A figure outside of pyplot, which needs no screen and keeps none open."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
