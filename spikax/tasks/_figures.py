"""The figures of a run."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import plot
from .._simulate.entry import simulate
from ..datasets import yin_yang_spikes
from ._run import answers, Trained


COLOURS = ("#4f9d69", "#26303b", "#e07b39")


def figures(trained: Trained, accuracy: float) -> Iterator[tuple[str, Any]]:
    """Names and Matplotlib figures: the learning curve, the predictions, and a sample."""
    task, settings = trained.task, trained.settings
    test = task.split(settings).test
    given = answers(trained, test.inputs)

    figure = _figure(6.0, 4.0)
    ax = plot.learning_curve(trained.history, figure.gca())
    kind = type(trained.network.layers[settings.hidden_layers[0]].neuron).__name__
    size = f"{settings.hidden} hidden" if settings.layers == 1 else f"{settings.layers} x {settings.hidden} hidden"
    ax.set_title(f"{task.name}, {size} {kind} neurons: test accuracy {accuracy:.1%}")
    yield "learning-curve", figure

    figure = _figure(5.6, 5.0) if len(task.classes) > 4 else _figure(4.2, 3.8)
    plot.confusion_matrix(test.labels, given, figure.gca(), names=task.classes)
    yield "confusion-matrix", figure

    points = task.points(settings)
    if points is not None:
        yield "decision-map", _decision_map(trained, *points.test)

    one = test.first(1)
    said = task.classes[given[0]] if given[0] >= 0 else "none"
    yield "raster", _sample(trained, one, f"A sample of the class {task.classes[test.labels[0]]}; the answer is {said}")


def evidence(trained: Trained) -> dict[str, Any]:
    """What `spikax.report` shows of a run: the arguments of the same name, from the test data.

    All samples are classified, and up to 200 are simulated for the activity. The first of them is drawn, with its
    voltages; those of the outputs are not known after a first spike, which ends the simulation.
    """
    task, settings = trained.task, trained.settings
    test = task.split(settings).test
    inputs = test.first(200)
    ts = jnp.linspace(0.0, settings.duration, 401)
    options = task.options(settings)
    saveat = {settings.hidden_layers[0]: ts} if "until" in options else {"output": ts}
    points = task.points(settings)
    return {
        "network": trained.network,
        "inputs": inputs,
        "solution": simulate(trained.network, inputs, **options | {"saveat": saveat}),
        "labels": test.labels,
        "answers": answers(trained, test.inputs),
        "names": task.classes,
        "figures": {} if points is None else {"Decision map": _decision_map(trained, *points.test)},
    }


def _decision_map(trained: Trained, points: Any, labels: Any) -> Any:
    from matplotlib.patches import Circle

    figure = _figure(6.0, 6.2)
    ax = plot.decision_map(lambda at: answers(trained, yin_yang_spikes(at)), points, labels, figure.gca())
    ax.add_patch(Circle((0.5, 0.5), 0.5, fill=False, color="#26303b", linewidth=0.8, clip_on=False))
    return figure


def _sample(trained: Trained, inputs: Any, title: str) -> Any:
    """The spikes of all layers and, for readouts of voltages, the voltages."""
    task, settings, network = trained.task, trained.settings, trained.network
    ts = jnp.linspace(0.0, settings.duration, 4 * round(settings.duration) + 1)
    by_voltage = "saveat" in task.options(settings)
    options = task.options(settings) | ({"saveat": {"output": ts}} if by_voltage else {})
    solution = simulate(network, inputs, **options)
    spikes = {"input": inputs} | {name: solution.spikes[name] for group in network.groups() for name in group}
    layers = [(name, jax.tree.map(lambda leaf: leaf[0], trains)) for name, trains in spikes.items()]
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
    plot.raster(layers[:-1], below, t1=settings.duration, colours=COLOURS)
    return figure


def _figure(width: float, height: float) -> Any:
    """A figure without pyplot, which needs no display and does not stay open."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
