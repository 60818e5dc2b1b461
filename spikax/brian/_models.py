"""Neurons of spikax as equations."""

import dataclasses
import math
import re
from typing import Any, NamedTuple

import numpy as np

from .._checks import require
from .._neuron import AbstractNeuron
from .._synapse import AbstractSynapse
from ..neurons import (
    AdEx,
    ALIF,
    ConductanceBased,
    EIF,
    FilteredBias,
    HodgkinHuxley,
    IF,
    Integrator,
    Izhikevich,
    LI,
    LIF,
    MorrisLecar,
    QIF,
    Refractory,
    ResonateAndFire,
    SingleSpike,
    Threshold,
)
from ..neurons.equations import EquationNeuron
from ..neurons.equations.text import assignments


class Text(NamedTuple):
    """What a class of neurons is as text, where `I` is the current, and `{}` the weight of an arrival."""

    equations: str
    threshold: str | None
    reset: str
    arrival: str = "v += {}"


_LEAKY = "dv/dt = (v_rest - v + I + bias) / tau_mem : 1"
_ESCAPE = "escape = slope_factor * exp((v - v_rheobase) / slope_factor) : 1"
_INTEGRATING = "dv/dt = (I + bias) / tau_mem : 1"
_LOW = ("v > v_threshold", "v = v_reset")

TEXTS = {
    LIF: Text(_LEAKY, *_LOW),
    IF: Text(_INTEGRATING, *_LOW),
    LI: Text(_LEAKY, None, ""),
    Integrator: Text(_INTEGRATING, None, ""),
    ALIF: Text(
        f"{_LEAKY}\nda/dt = -a / tau_adapt : 1",
        "v - v_threshold - a > 0",
        "v = v_reset; a += increment",
    ),
    EIF: Text(
        f"dv/dt = (v_rest - v + escape + I + bias) / tau_mem : 1\n{_ESCAPE}",
        "v > v_peak",
        "v = v_reset",
    ),
    AdEx: Text(
        "dv/dt = (v_rest - v + escape - w + I + bias) / tau_mem : 1\n"
        f"dw/dt = (coupling * (v - v_rest) - w) / tau_adapt : 1\n{_ESCAPE}",
        "v > v_peak",
        "v = v_reset; w += increment",
    ),
    Izhikevich: Text(
        "dv/dt = (0.04 * v + 5) * v + 140 - u + I + bias : 1\ndu/dt = a * (b * v - u) : 1",
        "v > v_peak",
        "v = c; u += d",
    ),
    QIF: Text(
        "dphi/dt = (cosine**2 + cosine * sine / pi + sine**2 / pi**2 * (I + bias)) / tau_mem : 1\n"
        "cosine = cos(pi * phi) : 1\nsine = sin(pi * phi) : 1",
        "phi > 1",
        "phi = 0",
        # At phi = 0 the voltage is minus infinity, and stays there.
        "phi = 0.5 + arctan(({}) / pi - cosine / sine) / pi",
    ),
    ResonateAndFire: Text(
        "du/dt = (I + bias - u) / tau_mem - omega * v : 1\ndv/dt = omega * u - v / tau_mem : 1\n"
        "omega = 2 * pi / period : 1",
        "v > v_threshold",
        "u = u_reset; v = v_reset",
        "u += {}",
    ),
    HodgkinHuxley: Text(
        """
        dv/dt = (I + bias - sodium - potassium - leak) / capacitance : 1
        sodium = g_sodium * m**3 * h * (v - v_sodium) : 1
        potassium = g_potassium * n**4 * (v - v_potassium) : 1
        leak = g_leak * (v - v_leak) : 1
        x = (v + 40) / 10 : 1
        y = (v + 55) / 10 : 1
        dm/dt = x / (1 - exp(-x)) * (1 - m) - 4 * exp(-(v + 65) / 18) * m : 1
        dh/dt = 0.07 * exp(-(v + 65) / 20) * (1 - h) - h / (1 + exp(-(v + 35) / 10)) : 1
        dn/dt = 0.1 * y / (1 - exp(-y)) * (1 - n) - 0.125 * exp(-(v + 65) / 80) * n : 1
        """,
        "v > v_threshold",
        "",
    ),
    MorrisLecar: Text(
        """
        dv/dt = (I + bias - calcium - potassium - leak) / capacitance : 1
        calcium = g_calcium * (0.5 + 0.5 * tanh((v - v1) / v2)) * (v - v_calcium) : 1
        potassium = g_potassium * n * (v - v_potassium) : 1
        leak = g_leak * (v - v_leak) : 1
        dn/dt = recovery * cosh((v - v3) / (2 * v4)) * (0.5 + 0.5 * tanh((v - v3) / v4) - n) : 1
        """,
        "v > v_threshold",
        "",
    ),
}


class Model(NamedTuple):
    """A neuron as equations, with what its wrappers add."""

    neuron: EquationNeuron
    held: tuple[str, ...] = ()  # the variables that are held in a refractory period
    period: Any = None  # the refractory period, in ms; infinite for a single spike


def model_of(where: str, neuron: Any) -> Model:
    """A neuron, with plain parameters, as equations. Raises for one that has none."""
    # By the class itself, here and below: a subclass may be another neuron.
    kind = type(neuron)
    if kind not in (Refractory, SingleSpike):
        return Model(_equations(where, neuron))
    inner = _equations(f"{where}.neuron", neuron.neuron)
    variables = tuple(inner.read().slopes)
    if kind is SingleSpike:
        return Model(inner, variables if neuron.freezes else (), math.inf)
    drops = not np.any(neuron.held_fraction) or not inner.at_arrival
    hint = "Brian2 drops the arrivals of a refractory period."
    require(drops, f"{where}.held_fraction", "zero, for Brian2", neuron.held_fraction, hint)
    held = neuron.frozen or variables
    changed = {change.variable for change in assignments(inner.at_arrival, "receive")} - set(held)
    hint = "It drops the arrivals of a refractory period only for variables that are held."
    require(not changed, f"{where}.frozen", f"with {sorted(changed)}, which arrivals change, for Brian2", held, hint)
    return Model(inner, held, neuron.period)


def _equations(where: str, neuron: Any) -> EquationNeuron:
    """A neuron without a refractory period as equations."""
    kind = type(neuron)
    if kind is EquationNeuron:
        return neuron
    wrapped = kind in (Threshold, FilteredBias, ConductanceBased)
    inner, where = (neuron.neuron, f"{where}.neuron") if wrapped else (neuron, where)
    names = ", ".join(model.__name__ for model in TEXTS)
    hint = "Others can be written as text: `sx.neuron_from_equations`."
    require(type(inner) in TEXTS, where, f"one of {names}, for Brian2", type(inner).__name__, hint, TypeError)
    text, parameters = TEXTS[type(inner)], _parameters(inner)
    # A single drive is the current itself, unless a wrapper makes another current of it.
    single = "received" if wrapped else "I"
    ports = {single: neuron.synapse} if isinstance(neuron.synapse, AbstractSynapse) else neuron.synapse
    current = " + ".join(ports)
    if kind is Threshold:
        text = text._replace(threshold="v > v_threshold", reset="")
        parameters["v_threshold"] = neuron.v_threshold
    elif kind is FilteredBias:
        current = f"{current} + filtered : 1\ndfiltered/dt = (filter_bias - filtered) / filter_tau"
        parameters |= {"filter_bias": neuron.bias, "filter_tau": neuron.tau}
    elif kind is ConductanceBased:
        reversal = neuron.reversal if isinstance(neuron.reversal, dict) else {single: neuron.reversal}
        current = " + ".join(f"{name} * (reversal_{name} - v)" for name in ports)
        parameters |= {f"reversal_{name}": value for name, value in reversal.items()}
    equations = text.equations if current == "I" else f"{text.equations}\nI = {current} : 1"
    used = set(re.findall(r"\w+", f"{equations} {text.threshold} {text.reset}"))
    impulsive = [name for name, port in ports.items() if port.is_impulsive]
    arrival = text.arrival.format(" + ".join(impulsive)) if impulsive else ""
    parameters = {name: value for name, value in parameters.items() if name in used}
    return EquationNeuron(equations, text.threshold, text.reset, arrival, "", ports, parameters)


def _parameters(neuron: AbstractNeuron) -> dict[str, Any]:
    """The parameters of a model by name."""
    return {field.name: getattr(neuron, field.name) for field in dataclasses.fields(neuron) if field.name != "synapse"}
