"""The sections of a report: what a directory tells, and what a simulation shows."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .. import plot
from .._network import Network
from .._simulate.results import RESULTS
from .._simulate.solution import Solution
from .._spikes import Events, Spikes
from .._summary import summary
from ..plot._learning import counted
from ..plot._style import CLASS_COLOURS, uncluttered, whole_numbers
from ..train import Epoch
from . import _figures as figures
from ._page import details, figure, grid, matrix, missing, paragraph, Section, subheading, table, tiles


class Evidence(NamedTuple):
    """What a report shows beyond a directory. None where it was not given. The arguments of `report`, checked."""

    network: Network | None
    inputs: dict[str, Spikes | Events] | None
    solution: Solution | None
    labels: np.ndarray | None
    answers: np.ndarray | None
    names: tuple[str, ...] | None
    figures: Mapping[str, Any]


_MOST_CLASSES = 32  # of a matrix
_MOST_CURVES, _FEW_CURVES = 10, 4  # of a layer; of a larger one
_MOST_NAMED = 40  # silent neurons


def overview(history: list[Epoch], best: Epoch, evidence: Evidence) -> Section:
    """The key figures."""
    measure = "accuracy" if "accuracy" in best.validation else "loss"
    values = [
        ("best epoch", f"{best.number} of {len(history)}"),
        (f"validation {measure}", _value(measure, best.validation[measure])),
        ("time of training", _duration(sum(epoch.seconds for epoch in history))),
    ]
    if evidence.labels is not None:
        right = float(np.mean(evidence.labels == evidence.answers))
        values.insert(2, ("right answers", f"{right:.1%}"))
    if evidence.network is not None:
        leaves = jax.tree.leaves(eqx.filter(evidence.network, eqx.is_inexact_array))
        values.append(("parameters", f"{sum(leaf.size for leaf in leaves):,}"))
    return Section("Overview", tiles(values))


def learning(history: list[Epoch], best: Epoch) -> Section:
    """The curve of each measure, and its values."""
    known = list(history[0].training)
    names = sorted(known, key=lambda name: ("accuracy", "loss", name).index(name))
    curves = []
    for name in names:
        drawn = figures.new(4.2, 2.6)
        plot.learning_curve(history, drawn.gca(), measure=name)
        if name != "accuracy":
            drawn.gca().set_ylabel("")
        label = f"{_spoken(name)} over the epochs"
        title = "error" if name == "accuracy" else _spoken(name)
        curves.append(f"<div>{subheading(title)}{figure(figures.themed(drawn, f'curve-{name}'), label)}</div>")
    last = history[-1]

    def row(name: str) -> tuple[str, ...]:
        parts = best.training, best.validation, last.training, last.validation
        return _spoken(name), *(_value(name, part[name]) if name in part else "–" for part in parts)

    columns = ["measure"]
    columns += [f"{part}, epoch {epoch.number}" for epoch in (best, last) for part in ("training", "validation")]
    rows = [row(name) if best is not last else row(name)[:3] for name in names]
    told = paragraph("Training: the mean over an epoch, while the network learns. Validation: after the epoch.")
    return Section("Learning", told + grid(curves) + table(columns[: len(rows[0])], rows))


def answers(evidence: Evidence) -> Section:
    """The confusion matrix."""
    title, labels, given = "Answers", evidence.labels, evidence.answers
    if labels is None or given is None:
        return Section(
            title, missing("The confusion matrix, which needs classes and predictions: `labels`, `answers`.")
        )
    n = int(max(labels.max(), given.max())) + 1
    names = tuple(map(str, range(n))) if evidence.names is None else evidence.names
    counts = counted(labels, given, len(names))
    right = int(np.sum(labels == given))
    told = paragraph(f"{right:,} of {labels.size:,} samples are right ({right / labels.size:.1%}).")
    shown = _matrix(counts, names) if len(names) <= _MOST_CLASSES else _by_class(counts, names)
    return Section(title, told + shown)


def _matrix(counts: np.ndarray, names: tuple[str, ...]) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def cell(i: int, j: int) -> tuple[str, str, float, str]:
        kind = "nothing" if counts[i, j] == 0 else "right" if i == j else "none" if j == len(names) else "wrong"
        number, told = (f"{counts[i, j]:,}", f"{shares[i, j]:.1%}") if counts[i, j] else ("", "")
        return number, told, float(shares[i, j]), kind

    rows, columns = counts.shape
    cells = [[cell(i, j) for j in range(columns)] for i in range(rows)]
    return matrix(names, [*names, "none"][:columns], cells)


def _by_class(counts: np.ndarray, names: tuple[str, ...]) -> str:
    """A row per class, where a matrix would not fit on a page."""
    rows = []
    for i, line in enumerate(counts):
        wrong = np.where(np.arange(line.size) == i, 0, line)
        worst = int(np.argmax(wrong))
        often = f"{[*names, 'none'][worst]} ({wrong[worst]:,})" if wrong[worst] else "–"
        rows.append((names[i], f"{line.sum():,}", f"{line[i]:,}", f"{line[i] / max(line.sum(), 1):.1%}", often))
    return table(("class", "samples", "right", "share", "most frequent wrong answer"), rows)


def sample(evidence: Evidence) -> Section:
    """The spikes and voltages of the first sample."""
    title, solution = "A sample", evidence.solution
    if solution is None:
        return Section(title, missing("Spikes and voltages, which need the result of a simulation: `solution`."))
    parts = [paragraph(_spoken_answer(evidence)), subheading("Spikes"), _raster(solution, evidence)]
    if evidence.inputs is None:
        parts.append(missing("The spikes of the inputs, which need `inputs`."))
    parts.append(subheading("Voltages"))
    layers = _layers(solution, evidence)
    parts += [_voltages(name, solution, evidence) for name in layers if name in solution.states]
    unsaved = [name for name in layers if name not in solution.states]
    if unsaved:
        told = f"The voltages of {', '.join(unsaved)}, which the simulation did not save: `simulate(..., saveat=ts)`."
        parts.append(missing(told))
    return Section(title, "".join(parts))


def _spoken_answer(evidence: Evidence) -> str:
    if evidence.labels is None or evidence.answers is None:
        return "The first sample."

    def name(number: int) -> str:
        return "none" if number < 0 else str(number) if evidence.names is None else evidence.names[number]

    label, answer = int(evidence.labels[0]), int(evidence.answers[0])
    return f"The first sample, of the class {name(label)}. The answer is {name(answer)}."


def _raster(solution: Solution, evidence: Evidence) -> str:
    spikes = dict(evidence.inputs or {}) | {name: solution.spikes[name] for name in _spiking(solution, evidence)}
    if not spikes:
        return paragraph("The network has no neurons that can spike.")
    layers = [(name, jax.tree.map(lambda leaf: leaf[0], trains)) for name, trains in spikes.items()]
    drawn = figures.new(8.0, 4.4)
    colours = (("#4f9d69",) * len(evidence.inputs or {})) + ("#26303b", "#e07b39", "#3b6fb6", "#a65a9e")
    # As far as the voltages below it.
    times = [*solution.ts.values(), *(trains.times for _, trains in layers)]
    end = max(float(np.max(part, initial=0.0, where=np.isfinite(part))) for part in map(np.asarray, times))
    plot.raster(layers, drawn.gca(), t1=end or None, colours=colours)
    told = "A row per neuron, a stroke per spike; in brackets, the number of neurons."
    return _wide(figure(figures.themed(drawn, "raster"), "The spikes of all layers over time", told))


def _voltages(name: str, solution: Solution, evidence: Evidence) -> str:
    """The voltages of a few neurons of a layer."""
    variable, values = _voltage(jax.tree.map(lambda leaf: np.asarray(leaf[0]), solution.states[name]))
    trains = np.asarray(solution.spikes[name].times[0])
    ts = np.asarray(solution.ts[name])
    order = np.argsort(ts, kind="stable")
    counts = np.sum(np.isfinite(trains), axis=1)
    n = values.shape[1]
    chosen = np.sort(np.argsort(-counts, kind="stable")[:_FEW_CURVES]) if n > _MOST_CURVES else np.arange(n)
    drawn = figures.new(8.0, 3.0)
    is_output = evidence.network is not None and evidence.network.output_names == (name,)
    of_classes = is_output and evidence.names is not None and len(evidence.names) == n
    labels = [evidence.names[i] if of_classes else str(i) for i in chosen] if len(chosen) > 1 else None
    spikes = Spikes(trains[chosen]) if counts.any() else None
    ax = plot.traces(ts[order], values[order][:, chosen], drawn.gca(), spikes=spikes, names=labels)
    ax.set_ylabel(variable)
    most = "" if n <= _MOST_CURVES else f" {_FEW_CURVES} of {n} neurons, those with the most spikes."
    strokes = " The strokes above are their spikes." if spikes is not None else ""
    caption = f"The variable {variable} of the layer {name}, as saved.{most}{strokes}"
    return _wide(figure(figures.themed(drawn, f"voltages-{name}"), f"Voltages of the layer {name} over time", caption))


def _voltage(states: Any) -> tuple[str, np.ndarray]:
    """The name and the values of the variable `v` of a layer, or of its first one; shape `(times, neurons)`."""
    leaves = {
        jax.tree_util.keystr(path[-1:], simple=True) or "state": leaf
        for path, leaf in jax.tree.leaves_with_path(states)
    }
    name = "v" if "v" in leaves else next(iter(leaves))
    values = leaves[name]
    # Of a dendrite, the first compartment.
    return name, values.reshape(*values.shape[:2], -1)[:, :, 0]


def silence(evidence: Evidence) -> Section:
    """How many neurons of each layer spike, and how often."""
    title, solution = "Silent neurons", evidence.solution
    if solution is None:
        return Section(title, missing("Silent neurons, which need the result of a simulation: `solution`."))
    layers = {name: np.asarray(solution.spikes[name].count) for name in _spiking(solution, evidence)}
    samples = next(iter(solution.spikes.values())).times.shape[0]
    failed = int(np.sum(solution.result != RESULTS.successful))
    n = f"{samples:,} sample{'s' * (samples != 1)}" + (f", of which {failed:,} failed" if failed else "")
    if not layers:
        return Section(title, paragraph("The network has no neurons that can spike."))
    rows, curves = [], []
    for name, counts in layers.items():
        idle = np.flatnonzero(np.all(counts == 0, axis=0))
        per_neuron = counts.mean(axis=0)
        row = (
            f"{counts.shape[1]:,}",
            f"{idle.size:,}",
            f"{np.mean(counts == 0):.1%}",
            f"{per_neuron.mean():.3g}",
            str(counts.max()),
        )
        rows.append((name, *row, _listed(idle)))
        curves.append(_activity(name, per_neuron))
    columns = (
        "layer",
        "neurons",
        "silent in all samples",
        "silent in a sample",
        "spikes per neuron and sample",
        "most spikes",
        "silent in all samples: their numbers",
    )
    told = (
        f"Measured in {n}. A neuron that is silent in all samples has no gradient through its spikes: see "
        "`sx.silence`. The curves show how often each neuron spikes, the most active first."
    )
    return Section(title, paragraph(told) + grid(curves) + table(columns, rows))


def _listed(numbers: np.ndarray) -> str:
    more = f", and {numbers.size - _MOST_NAMED} more" if numbers.size > _MOST_NAMED else ""
    return ", ".join(map(str, numbers[:_MOST_NAMED])) + more or "–"


def _activity(name: str, per_neuron: np.ndarray) -> str:
    drawn = figures.new(4.2, 2.4)
    ax = drawn.gca()
    rank = np.arange(per_neuron.size + 1)
    ordered = np.sort(per_neuron)[::-1]
    ax.stairs(ordered, rank, color=CLASS_COLOURS[0], fill=True)
    ax.set(xlabel=f"neurons of {name}", ylabel="spikes per sample", xlim=(0, per_neuron.size), ylim=(0, None))
    whole_numbers(ax.xaxis)
    uncluttered(ax)
    return figure(figures.themed(drawn, f"activity-{name}"), f"Spikes per sample of each neuron of the layer {name}")


def network(evidence: Evidence, identity: Mapping[str, Any] | None) -> Section:
    """The layers and connections; from the checkpoint, only their structure as text."""
    if evidence.network is None:
        told = missing("Layers and connections, which need `network`.")
        text = (identity or {}).get("network")
        return Section("Network", told + (details("Its structure in the checkpoint", str(text)) if text else ""))
    drawn = figures.new(6.0, 0.9 + 0.62 * (len(evidence.network.layers) + len(evidence.network.inputs)))
    plot.network(evidence.network, drawn.gca())
    _, columns, sections = summary(evidence.network)
    tables = [
        table((heading or "layers", *columns[1:]), [[_cell(cell) for cell in row] for row in rows])
        for heading, rows in sections
        if rows
    ]
    label = "Layers and connections of the network"
    return Section("Network", figure(figures.themed(drawn, "network"), label) + "".join(tables))


def settings(identity: Mapping[str, Any] | None) -> Section:
    """The settings of the training, and what else identifies it."""
    if identity is None:
        return Section(
            "Settings", missing("The settings, which are in the checkpoint `last.eqx`: the directory has none.")
        )
    given = identity.get("settings") or {}
    rows = [(str(name), value if isinstance(value, str) else json.dumps(value)) for name, value in given.items()]
    told = table(("setting", "value"), rows) if rows else missing("The settings: `fit` was called without `settings`.")
    own = [(name, str(identity.get(name))) for name in ("training", "validation", "seed")]
    texts = [("State of the optimiser", "optimizer"), ("Structure of the network", "network")]
    more = [details(title, str(identity[name])) for title, name in texts if name in identity]
    return Section("Settings", told + subheading("Data") + table(("", ""), own) + "".join(more))


def others(evidence: Evidence) -> list[Section]:
    """The figures of the caller, one in each section."""
    drawn = [(title, figures.plain(own, f"own-{i}")) for i, (title, own) in enumerate(evidence.figures.items())]
    return [Section(title, figure(html, title)) for title, html in drawn]


def _wide(html: str) -> str:
    return f'<div class="sample">{html}</div>'


def _layers(solution: Solution, evidence: Evidence) -> list[str]:
    """The names of the layers, each after its sources if the network is known."""
    if evidence.network is None:
        return list(solution.spikes)
    return [name for group in evidence.network.groups() for name in group]


def _spiking(solution: Solution, evidence: Evidence) -> list[str]:
    """The names of the layers, without integrators if the network is known."""
    names, net = _layers(solution, evidence), evidence.network
    return names if net is None else [name for name in names if net.layers[name].neuron.can_spike]


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, str) else ", ".join(cell)


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _value(name: str, value: float) -> str:
    is_share = name.endswith(("accuracy", "silent", "bursting"))
    return f"{value:.1%}" if is_share else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
