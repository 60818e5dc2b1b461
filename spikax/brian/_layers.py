"""Layers as groups of neurons of Brian2."""

import ast
import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._checks import require
from .._network import Layer
from .._synapse import AlphaSynapse, DeltaSynapse, ExpSynapse, FilteredHoldSynapse, HoldSynapse
from ..neurons.equations.expressions import CONSTANTS
from ..neurons.equations.text import Assignment, assignments, condition, Equations
from ._models import Model


# What every group of Brian2 has already.
_RESERVED = {"N", "dt", "e", "i", "inf", "j", "lastspike", "not_refractory", "t_in_timesteps", "xi"}


class Group(NamedTuple):
    """A layer as a group of neurons."""

    equations: list[str]
    values: dict[str, Any]  # parameters and the initial state
    events: dict[str, str]  # threshold, reset and refractory period
    weights: tuple[str, ...]  # the names of the weights of an arrival, in the order of the ports
    arrival: list[str]  # what an arrival changes

    @property
    def can_spike(self) -> bool:
        """Whether the neurons can spike at all."""
        return "threshold" in self.events


class _Filter(NamedTuple):
    """A synapse as equations, the changed variable, and the change by a weight."""

    equations: list[str]
    values: dict[str, Any]
    arrival: str


def group_of(where: str, layer: Layer, model: Model) -> Group:
    """A layer of plain parameters as a group."""
    neuron, found = model.neuron, model.neuron.read()
    ports = neuron.ports()
    names = {*found.slopes, *found.subexpressions, *neuron.parameters, *ports}
    clash = sorted(names & _RESERVED)
    require(not clash, where, f"without the names {sorted(_RESERVED)}, which Brian2 uses", clash)
    values, lines = dict(neuron.parameters), _lines(found, model.held)
    weights = {port: f"weight_{port}" for port in ports}
    arrival = [_change(change, names - {*ports}, weights) for change in assignments(neuron.at_arrival, "receive")]
    for port, synapse in ports.items():
        part = _filter(where, port, synapse, names)
        lines, values = lines + part.equations, values | part.values
        arrival += [part.arrival.format(weights[port])] if part.arrival else []
    events, period = _events(model, names)
    values |= period
    lines += [f"{name} : 1 (constant)" for name in values]
    return Group(lines, values | _start(layer), events, tuple(weights.values()), arrival)


def _lines(found: Equations, held: tuple[str, ...]) -> list[str]:
    """The equations. Rates are numbers per ms."""
    slopes = [
        f"d{name}/dt = ({_brian(slope)}) / ms : 1" + " (unless refractory)" * (name in held)
        for name, slope in found.slopes.items()
    ]
    return slopes + [f"{name} = {_brian(meaning)} : 1" for name, meaning in found.subexpressions.items()]


def _events(model: Model, names: set[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Threshold, reset and refractory period, and the parameter of the last."""
    neuron = model.neuron
    if neuron.threshold is None:
        return {}, {}
    crossed = f"{_brian(condition(neuron.threshold))} > 0"
    reset = [_change(change, set(), {}) for change in assignments(neuron.at_spike, "reset")]
    events = {"threshold": crossed, "reset": "; ".join(reset)}
    if model.period is None:
        # Without a reset, the neuron spikes as the condition becomes true, not in each step in which it is.
        return events if reset else events | {"refractory": crossed}, {}
    if np.all(np.isinf(model.period)):
        return events | {"refractory": "True"}, {}
    # Brian2 counts from the start of the step in which the neuron spikes, and it spikes at the end.
    period = _free("refractory_period", names)
    return events | {"refractory": f"{period} * ms + dt"}, {period: model.period}


def _filter(where: str, port: str, synapse: Any, taken: set[str]) -> _Filter:
    """A synapse as equations of its drive, which has the name of the port."""
    tau, inner = _free(f"tau_{port}", taken), _free(f"inner_{port}", taken)
    decay, approach = f"d{port}/dt = -{port} / {tau} / ms : 1", f"d{port}/dt = ({inner} - {port}) / {tau} / ms : 1"
    rise, jump = f"d{inner}/dt = -{inner} / {tau} / ms : 1", f"{port}_post += {{}}"
    # By the class itself: a subclass may be another synapse.
    found: dict[type, tuple[list[str], str]] = {
        DeltaSynapse: ([f"{port} = 0 : 1"], ""),
        ExpSynapse: ([decay], jump),
        AlphaSynapse: ([rise, approach], f"{inner}_post += {math.e!r} * {{}}"),
        HoldSynapse: ([f"{port} : 1"], jump),
        FilteredHoldSynapse: ([f"{inner} : 1", approach], f"{inner}_post += {{}}"),
    }
    kind, names = type(synapse), ", ".join(kind.__name__ for kind in found)
    require(kind in found, f"{where}.synapse", f"one of {names}, for Brian2", kind.__name__, error=TypeError)
    equations, arrival = found[kind]
    return _Filter(equations, {tau: synapse.tau} if hasattr(synapse, "tau") else {}, arrival)


def _start(layer: Layer) -> dict[str, np.ndarray]:
    """The initial state of a layer, by variable."""
    arrays, rest = eqx.partition(layer.neuron, eqx.is_array)
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (layer.size, *x.shape[1:])), arrays)

    def one(arrays, _):
        state = eqx.combine(arrays, rest).initial_state()
        while hasattr(state, "inner"):
            state = state.inner
        if isinstance(state, dict):
            return state
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}

    states = jax.vmap(one)(each, jnp.arange(layer.size))
    return {name: np.asarray(value) for name, value in states.items()}


def _change(change: Assignment, post: set[str], weights: dict[str, str]) -> str:
    """An assignment. In a synapse, `post` are the names of the target neuron, and weights have other names."""
    names = {name: f"{name}_post" for name in post} | weights
    variable = names.get(change.variable, change.variable)
    match change.expression:
        # Several arrivals in one step add up, in any order.
        case ast.BinOp(left=ast.Name(id=name), op=ast.Add(), right=added) if name == change.variable:
            return f"{variable} += {_brian(added, names)}"
    return f"{variable} = {_brian(change.expression, names)}"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken."""
    return next(n for i in range(len(taken) + 1) if (n := f"{name}{i or ''}") not in taken)


def _brian(node: ast.expr, names: dict[str, str] | None = None) -> str:
    """An expression in the syntax of Brian2, with other names for some."""
    other = {"t": "(t / ms)"} | {name: repr(value) for name, value in CONSTANTS.items() if name != "pi"}
    return ast.unparse(_Renamed(other | (names or {})).visit(ast.parse(ast.unparse(node), mode="eval")))


class _Renamed(ast.NodeTransformer):
    """Replaces names by texts."""

    def __init__(self, names: dict[str, str]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self.names.get(node.id, node.id), mode="eval").body
