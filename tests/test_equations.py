"""Neurons written as text: they are the built-in models, and what a text cannot say is told."""

import dataclasses
import json
import zipfile

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import cast, finite_sum, random_inputs, single_layer


SYNAPSE = sx.ExpSynapse(5.0)
# A model, its equations, threshold, reset and initial state, and weights with which it spikes several times. The order
# of the operations is that of the class.
MODELS = {
    "LIF": (
        sx.LIF(20.0, 0.05, 1.0, -0.1, 0.1, SYNAPSE),
        "dv/dt = (v_rest - v + I + bias) / tau_mem : 1",
        ("v > v_threshold", "v = v_reset", "v = v_rest"),
        7.0,
    ),
    "ALIF": (
        sx.ALIF(10.0, 15.0, 0.05, 1.0, -0.1, 0.2, 1.4, SYNAPSE),
        "dv/dt = (v_rest - v + I + bias) / tau_mem : 1\nda/dt = -a / tau_adapt : 1",
        ("v - v_threshold > a", "v = v_reset; a += increment", "v = v_rest"),
        5.0,
    ),
    "QIF": (
        sx.QIF(20.0, 0.1, SYNAPSE),
        """dphi/dt = (cos(pi * phi)**2 + cos(pi * phi) * sin(pi * phi) / pi
                     + (sin(pi * phi) / pi)**2 * (I + bias)) / tau_mem : 1""",
        ("phi > 1", "phi = 0", "phi = 1 / 2"),
        70.0,
    ),
    "EIF": (
        sx.EIF(20.0, 0.05, 1.0, 0.2, 1.6, -0.1, 0.1, SYNAPSE),
        """escape = slope_factor * exp((v - v_rheobase) / slope_factor) : 1
           dv/dt = (v_rest - v + escape + I + bias) / tau_mem : 1""",
        ("v > v_peak", "v = v_reset", "v = v_rest"),
        7.0,
    ),
    "AdEx": (
        sx.AdEx(5.0, 40.0, v_peak=-44.0, bias=35.0, synapse=SYNAPSE),
        """dv/dt = (v_rest - v + escape - w + I + bias) / tau_mem : 1
           dw/dt = (coupling * (v - v_rest) - w) / tau_adapt : 1
           escape = slope_factor * exp((v - v_rheobase) / slope_factor) : 1""",
        ("v > v_peak", "v = v_reset; w += increment", "v = v_rest"),
        40.0,
    ),
    "Izhikevich": (
        sx.Izhikevich(0.05, 0.21, -60.0, 4.0, bias=12.0, synapse=SYNAPSE),
        "dv/dt = (0.04 * v + 5) * v + 140 - u + I + bias : 1\ndu/dt = a * (b * v - u) : 1",
        ("v > v_peak", "v = c; u += d", "v = (b - 5 - sqrt((5 - b)**2 - 22.4)) / 0.08; u = b * v"),
        12.0,
    ),
}
NONLINEAR = ("QIF", "EIF", "AdEx", "Izhikevich")


def parameters_of(neuron, dtype):
    """The parameters of a model by name, each of which learns."""
    names = [field.name for field in dataclasses.fields(neuron) if field.name != "synapse"]
    return {name: jnp.asarray(getattr(neuron, name), dtype) for name in names}


def both(name, dtype):
    """A model, and the same as text."""
    neuron, equations, (threshold, reset, start), _ = MODELS[name]
    parameters = parameters_of(neuron, dtype)
    texts = {"threshold": threshold, "reset": reset, "initial_state": start}
    return type(neuron)(**parameters, synapse=SYNAPSE), sx.neuron_from_equations(
        equations, **texts, parameters=parameters, synapse=SYNAPSE
    )


def run(neuron, high, dtype, method):
    """Spike times of two samples, and the gradient of a sum of them by all parameters."""
    weight = np.random.default_rng(1).uniform(-0.1 * high, high, (3, 2))
    inputs = random_inputs(1, (2, 3, 4), 14.0, dtype)
    arrays, static = eqx.partition(single_layer(neuron, weight, dtype), eqx.is_inexact_array)

    @jax.jit
    def graded(arrays):
        def total(arrays):
            times = eqx.combine(arrays, static)(inputs, 16.0, method=method, max_spikes=16).times
            return finite_sum(times, jnp.ones((), dtype)), times

        return jax.value_and_grad(total, has_aux=True)(arrays)

    (_, times), gradient = graded(arrays)
    return times, gradient.layers["output"].neuron


@pytest.mark.modes("float64", "mixed")
@pytest.mark.parametrize("name", MODELS)
def test_a_text_is_the_model(name, dtype):
    """To the rounding of other operations: sines and cosines in the QIF, and what adds up in the EIF and its like."""
    model, written = both(name, dtype)
    high = MODELS[name][-1]
    method = sx.EventLoop(diffrax.Heun(), dt0=0.05, max_steps=4000)
    times, by_model = run(model, high, dtype, method)
    found, by_text = run(written, high, dtype, method)
    tolerance = 1e-10 if dtype == jnp.float64 else 1e-5
    assert int(jnp.sum(jnp.isfinite(times))) >= 6
    np.testing.assert_allclose(found, times, rtol=tolerance)
    for name, bar in by_text.parameters.items():
        expected = getattr(by_model, name)
        np.testing.assert_allclose(bar, expected, rtol=100 * tolerance, atol=100 * tolerance)


@pytest.mark.modes("float64")
@pytest.mark.parametrize("name", ["LIF", "ALIF"])
def test_linear_neurons_are_simulated_in_closed_form(name, dtype):
    """But for rounding, which may differ between two compiled programs; with all gradients."""
    model, written = both(name, dtype)
    times, by_model = run(model, MODELS[name][-1], dtype, sx.ClosedForm())
    found, by_text = run(written, MODELS[name][-1], dtype, sx.ClosedForm())
    assert int(jnp.sum(jnp.isfinite(times))) >= 6
    tolerance = 1e3 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(found, times, rtol=tolerance)
    for name, bar in by_text.parameters.items():
        np.testing.assert_allclose(bar, getattr(by_model, name), rtol=tolerance, atol=tolerance)


def text(equations="dv/dt = (I - v) / 20 : 1", **options):
    given = {"threshold": "v > 1", "reset": "v = 0"} | options
    return sx.neuron_from_equations(equations, **given)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", MODELS)
def test_the_linear_models_are_found(name):
    assert both(name, jnp.float32)[1].is_linear == (name not in NONLINEAR)


@pytest.mark.modes("float32")
@pytest.mark.parametrize(
    "equations, is_linear",
    [
        ("dv/dt = (I - v) / (20*ms) : 1", True),
        ("dv/dt = -(v - 2 * (I + 1)) / 20 + exp(-1) : 1", True),
        ("dv/dt = x / 20 : 1\ndx/dt = -v * 2**0.5 - x**1 + y : 1\ny = 3 * I : 1", True),
        ("dv/dt = I * (1 - v) / 20 : 1", False),
        ("dv/dt = y / 20 : 1\ny = I * (1 - v) : 1", False),
        ("dv/dt = I / (20 + v) : 1", False),
        ("dv/dt = I - v + 0.1 * v**2 : 1", False),
        ("dv/dt = I - v + 0.1 * exp(v) : 1", False),
        ("dv/dt = I - v + 0.1 * t : 1", False),
    ],
)
def test_what_is_linear(equations, is_linear):
    assert text(equations).is_linear == is_linear


@pytest.mark.modes("float32")
def test_a_threshold_that_is_not_linear_or_not_reset():
    assert not text(threshold="v**2 > 1").is_linear
    assert not text(reset="").is_linear
    assert text(threshold="1 < v").is_linear
    silent = text(threshold=None, reset="")
    assert silent.is_linear and not silent.can_spike


@pytest.mark.modes("mixed")
def test_ports_delta_synapses_and_refractory_periods(dtype):
    """A neuron with conductances and a pulse, which rests after a spike, as from the wrappers."""
    ports = {"exc": sx.ExpSynapse(4.0), "inh": sx.ExpSynapse(7.0), "kick": sx.DeltaSynapse()}
    written = sx.neuron_from_equations(
        """
        dv/dt = (current - v) / tau : 1 (unless refractory)  # the voltage
        da/dt = -a / (0.03*second)      : 1
        current = exc * (3 - v) + inh * (-0.5 - v) : 1
        tau : 1
        """,
        threshold="v > 1 + a",
        reset="v = -0.1; a += 0.2",
        receive="v += 2 * kick",
        initial_state="v = 0.2",
        parameters={"tau": jnp.asarray(20.0, dtype)},
        synapse=ports,
        refractory=jnp.asarray(2.0, dtype),
    )
    same = sx.neuron_from(
        initial_state={"v": 0.2, "a": 0.0},
        dynamics=lambda t, x, drive, p: {
            "v": (drive["exc"] * (3.0 - x["v"]) + drive["inh"] * (-0.5 - x["v"]) - x["v"]) / p,
            "a": -x["a"] / 30.0,
        },
        spike_condition=lambda t, x, p: x["v"] - (1.0 + x["a"]),
        reset=lambda t, x, p: {"v": -0.1, "a": x["a"] + 0.2},
        receive=lambda t, x, weight, p: {"v": x["v"] + 2.0 * weight["kick"], "a": x["a"]},
        parameters=jnp.asarray(20.0, dtype),
        synapse=ports,
    )
    assert isinstance(written, sx.Refractory) and written.frozen == ("v",)
    rng = np.random.default_rng(0)
    weight = {"exc": rng.uniform(0.0, 1.5, (3, 2)), "inh": rng.uniform(0.0, 0.5, (3, 2)), "kick": np.full((3, 2), 0.1)}
    inputs = random_inputs(0, (3, 8), 30.0, dtype)
    method = sx.EventLoop(diffrax.Heun(), dt0=0.5)

    def spikes(neuron):
        return sx.simulate(single_layer(neuron, weight, dtype), inputs, 40.0, method=method).spikes["output"].times

    times = spikes(sx.Refractory(same, jnp.asarray(2.0, dtype), frozen=("v",)))
    assert int(jnp.sum(jnp.isfinite(times))) >= 6
    np.testing.assert_allclose(spikes(written), times, rtol=1e-6)


@pytest.mark.modes("float32", "float64")
def test_a_text_is_saved(tmp_path, dtype):
    """And read again, with the same spikes; a file with another text is refused as any other damage is."""
    network = single_layer(both("EIF", dtype)[1], np.full((2, 2), 3.0), dtype)
    inputs = random_inputs(0, (2, 4), 10.0, dtype)
    sx.save(tmp_path / "file", network)
    loaded, _ = sx.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded(inputs, 20.0).times, network(inputs, 20.0).times)
    with zipfile.ZipFile(tmp_path / "file") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = members["network.json"].decode()
    for bad in ("__import__('os') : 1", "v.real : 1", "10**10**10 : 1", "((" * 200):
        changed = description.replace("dv/dt = (v_rest - v + escape + I + bias) / tau_mem : 1", f"dv/dt = {bad}")
        assert changed != description and json.loads(changed)
        with zipfile.ZipFile(tmp_path / "bad", "w") as archive:
            for name, member in members.items():
                archive.writestr(name, changed if name == "network.json" else member)
        with pytest.raises(ValueError, match="`path` must be a file written by `sx.save`"):
            sx.load(tmp_path / "bad")


DEEP = "-(" * 150 + "v" + ")" * 150


@pytest.mark.modes("float32")
@pytest.mark.unchecked
@pytest.mark.parametrize(
    "equations, options, message",
    [
        ("", {}, "`equations` must be at least one"),
        ("v' = -v", {}, "`equations` must be of lines with an equation and its unit"),
        ("dv/dt = -v", {}, "`equations` must be of lines.*Write `dx/dt"),
        ("dv/dt = -v : volt", {}, "with the unit 1; got ': volt'.*numbers in ms"),
        ("dv/dt = -v : 1 (constant)", {}, r"one of the flags.*got '\(constant\)'"),
        ("dv/dt = -v : 1\ndv/dt = v : 1", {}, "one equation for each name; got 'v'"),
        ("dv/dt = x : 1\nx = y : 1\ny = x : 1", {}, "without a cycle"),
        ("dv/dt = I - u : 1", {}, r"of the names.*got 'u'.*Give `u` in `parameters`"),
        ("dv/dt = (I - v) / taus : 1", {"parameters": {"tau": 1.0}}, "got 'taus'.*Did you mean `tau`"),
        ("dv/dt = I - v : 1\ntau : 1", {}, "`parameters` must be with a value of `tau`"),
        ("dv/dt = I - v : 1", {"parameters": {"tau": 1.0}}, "used in the text; got .'tau'"),
        ("dv/dt = I - pi : 1", {"parameters": {"pi": 3.0}}, "`parameters` must be names that the text can have"),
        ("dv/dt = I - v : 1", {"parameters": {"I": 3.0}}, "named differently from subexpressions and from the drives"),
        ("dv/dt = I - v : 1", {"parameters": {"v": 3.0}}, "named differently from the variables"),
        ("dv/dt = v.real : 1", {}, "made of numbers, names.*got 'v.real'"),
        ("dv/dt = f(v) : 1", {}, "made of numbers, names.*one argument"),
        ("dv/dt = exp(v, 2) : 1", {}, "made of numbers, names.*one argument"),
        ("dv/dt = [v for v in v] : 1", {}, "made of numbers"),
        ("dv/dt = True * v : 1", {}, "made of numbers"),
        ("dv/dt = 1j * v : 1", {}, "made of numbers"),
        ("dv/dt = clip(v, 0, 1) : 1", {}, "got 'clip.*kink.*internal_events"),
        ("dv/dt = abs(v) : 1", {}, "got 'abs.*kink.*internal_events"),
        ("dv/dt = v * (v > 1) : 1", {}, "got 'v > 1'.*kink.*internal_events"),
        ("dv/dt = v / 0 : 1", {}, "`dynamics.*must be finite at the initial state"),
        ("dv/dt = v + 1 / 0 : 1", {}, "of finite real numbers; got '1 / 0'"),
        ("dv/dt = v + 10**10**10 : 1", {}, "of finite real numbers; got"),
        ("dv/dt = v + (-1)**0.5 : 1", {}, "of finite real numbers; got"),
        (f"dv/dt = {DEEP} : 1", {}, "nested at most 100 deep"),
        ("dv/dt = (v : 1", {}, "in the syntax of Python"),
        ("dv/dt = I - v : 1", {"threshold": "v"}, "`threshold` must be a comparison"),
        ("dv/dt = I - v : 1", {"threshold": "0 < v < 1"}, "`threshold` must be a comparison"),
        ("dv/dt = I - v : 1", {"threshold": "v > I"}, "`threshold` must be.*got 'I'.*cannot depend on drives"),
        ("dv/dt = I - v : 1", {"reset": "v = I"}, "`reset` must be.*got 'I'.*cannot depend on drives"),
        ("dv/dt = I - v : 1", {"reset": "w = 0"}, "`reset` must be of the variables"),
        ("dv/dt = I - v : 1", {"reset": "v == 0"}, "`reset` must be assignments"),
        ("dv/dt = I - v : 1", {"reset": "v = 0; import os"}, "`reset` must be assignments"),
        ("dv/dt = I - v : 1", {"reset": "v //= 2"}, "`reset` must be made of numbers"),
        ("dv/dt = I - v : 1", {"receive": "v += I"}, "`receive` must be.*got 'I'.*DeltaSynapse"),
        ("dv/dt = I - v : 1", {"initial_state": "v = t"}, "`initial_state` must be.*got 't'"),
        ("dv/dt = I - v : 1", {"refractory": 2.0}, "`refractory` must be given where variables have this flag"),
        ("dv/dt = I - v : 1 (unless refractory)", {}, "`refractory` must be given where variables have this flag"),
        (
            "dv/dt = w - v : 1 (unless refractory)\ndw/dt = -w : 1",
            {"refractory": 2.0, "synapse": sx.DeltaSynapse(), "receive": "w += I"},
            "`receive` must be of the variables .'v'., which are held",
        ),
        ("dv/dt = I - v : 1", {"synapse": {"I": {"x": SYNAPSE}}}, "`synapse` must be"),
        ("dv/dt = I - v : 1", {"synapse": {"a b": SYNAPSE}}, "`synapse` must be names that the text can have"),
        ("dv/dt = I - v : 1", {"synapse": sx.DeltaSynapse()}, "`synapse`.*receive"),
        ("dv/dt = I - v : 1", {"reset": "v = 2"}, "at most zero after a spike"),
        ("dv/dt = I - v : 1", {"parameters": {"I": "a"}}, r"`parameters\['I'\]` must be a real number"),
        ("dv/dt = I - v : 1", {"parameters": 3.0}, "`parameters` must be a dictionary"),
        ("dv/dt = I - v : 1", {"threshold": 3.0}, "`threshold` must be a text"),
        (3.0, {}, "`equations` must be a text"),
    ],
)
def test_what_does_not_fit_is_told(equations, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        text(equations, **options)


@pytest.mark.modes("mixed")
def test_parameters_of_every_kind(dtype):
    """Numbers are constant; arrays learn; parameters that are stored otherwise have their gradient, too."""
    tau = sx.Positive(jnp.asarray([20.0, 15.0], dtype))
    neuron = text("dv/dt = (I - v) / tau : 1", threshold="v > limit", parameters={"tau": tau, "limit": 1})
    network = cast(single_layer(neuron, np.full((2, 2), 4.0), dtype), dtype)
    inputs = random_inputs(0, (2, 3), 10.0, dtype)
    gradient = eqx.filter_grad(lambda n: finite_sum(n(inputs, 20.0).times, jnp.ones((), dtype)))(network)
    (leaf,) = jax.tree.leaves(gradient.layers["output"].neuron)
    assert leaf.dtype == dtype and bool(jnp.all(leaf != 0))
