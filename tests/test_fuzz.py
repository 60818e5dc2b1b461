"""Random neurons, simulated by every method, against each other and an independent reference.

They are one layer, or two layers of one neuron; the simulation goes on to `t1`, or ends with first spikes.

`make fuzz` goes on for as long as asked, and prints the smallest case that it finds.
"""

import dataclasses
import functools
import os
import time

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from . import reference


pytestmark = pytest.mark.modes("float32", "float64")

SECONDS = float(os.environ.get("SPIKAX_FUZZ_SECONDS", "0"))
NEURONS, PLACES = 2, 6
NEVER = 1e9
METHODS = {
    "closed form": {"method": sx.ClosedForm(max_steps=32)},
    "event loop": {"method": sx.EventLoop()},
    "event queue": {"method": sx.EventQueue(max_steps=32)},
    "event loop, shared clock": {"method": sx.EventLoop()},
    "windows, closed form": {"method": sx.Windows(5, sx.ClosedForm(max_steps=512), max_sweeps=512)},
    "windows, event loop": {"method": sx.Windows(5, sx.EventLoop())},
}


def logarithmic(low, high):
    return st.floats(np.log10(low), np.log10(high)).map(lambda x: float(f"{10.0**x:.4g}"))


@st.composite
def models(draw, recurrent):
    """A model with numbers of few digits, so that a minimal case can be read."""
    tau_mem, tau_syn = draw(logarithmic(0.3, 300.0)), draw(logarithmic(0.3, 300.0))
    bias = draw(st.one_of(st.just(0.0), st.floats(-2.0, 0.9), st.floats(1.05, 2.0)).map(lambda x: round(x, 3)))
    slow = max(tau_mem, tau_syn)
    # A tonic neuron spikes for ever; the others are left alone for up to 1e5 ms.
    t1 = draw(logarithmic(1e-3, 1e5)) if bias < 1.0 else draw(logarithmic(1e-3, 20.0)) * slow
    span = min(t1, 5.0 * slow)
    times = sorted(draw(st.lists(st.floats(0.0, 1.0).map(lambda x: round(x, 3)), max_size=4)))
    scale = max(1.0, tau_mem / tau_syn)
    weights = st.floats(-4.0, 12.0).map(lambda x: round(x * scale, 3))
    w_in = np.array(draw(st.lists(weights, min_size=NEURONS, max_size=NEURONS)))
    w_rec, delay = np.zeros((NEURONS, NEURONS)), 0.0
    if recurrent:
        inner = st.floats(-3.0, 2.0).map(lambda x: round(x * scale, 3))
        w_rec = np.array(draw(st.lists(inner, min_size=NEURONS**2, max_size=NEURONS**2))).reshape(NEURONS, NEURONS)
        delay = draw(st.sampled_from([0.0, 0.1, 1.0])) * span
    v_reset = round(draw(st.floats(-1.0, 0.5)), 3)
    return reference.Model(tau_mem, tau_syn, bias, v_reset, w_in, w_rec, delay, np.array(times) * span, t1)


# Two layers of one neuron, connected in both directions and to themselves, or in one direction and the first to itself.
# The simulation ends with the first spike of the second.
WIRINGS = {"mutual": [(0, 0), (0, 1), (1, 0), (1, 1)], "in a row": [(0, 0), (0, 1)]}
ENDING = {
    "default": {"method": None},
    "event queue": METHODS["event queue"],
    "event loop, shared clock": METHODS["event loop"],
    "windows, closed form": METHODS["windows, closed form"],
}


@eqx.filter_jit
def spike_times(neuron, w_in, w_rec, delay, inputs, t1, options):
    """All parameters are traced, so that a method is compiled once."""
    connections = [sx.Dense("input", "a", w_in)]
    if w_rec is not None:
        connections.append(sx.Dense("a", "a", w_rec, delay))
    network = sx.Network({"a": sx.Layer(neuron, NEURONS)}, connections, 1, "a")
    solution = sx.simulate(network, sx.Spikes(inputs), t1, max_spikes=PLACES, throw=False, **options)
    return solution.spikes["a"].times, solution.result


@eqx.filter_jit
def spike_times_to_first(wiring, neuron, w_in, w_rec, delay, inputs, t1, options):
    """The same neurons as two layers, up to the first spike of the second one."""
    a, b = ("a", slice(0, 1)), ("b", slice(1, 2))
    outer = [sx.Dense("input", name, w_in[:, own]) for name, own in (a, b)]
    pairs = [((a, b)[i], (a, b)[j]) for i, j in WIRINGS[wiring]]
    inner = [sx.Dense(source, target, w_rec[i, j], delay) for (source, i), (target, j) in pairs]
    network = sx.Network({"a": sx.Layer(neuron, 1), "b": sx.Layer(neuron, 1)}, [*outer, *inner], 1, "b")
    until = sx.FirstSpikes()
    solution = sx.simulate(network, sx.Spikes(inputs), t1, max_spikes=PLACES, throw=False, until=until, **options)
    return jnp.concatenate([solution.spikes[name].times for name in "ab"], axis=-2), solution.result


def simulated(model, dtype, options, recurrent, spike_times=spike_times):
    def array(x):
        return jnp.asarray(x, dtype)

    synapse = sx.ExpSynapse(array(model.tau_syn))
    neuron = sx.LIF(array(model.tau_mem), v_reset=array(model.v_reset), bias=array(model.bias), synapse=synapse)
    inputs = np.full((1, PLACES), np.inf)
    inputs[0, : len(model.times)] = model.times
    w_rec = array(model.w_rec) if recurrent else None
    # No delay and a delay are networks of two kinds; of one, its length is traced.
    delay = array(model.delay) if recurrent and model.delay > 0 else None
    times, result = spike_times(neuron, array(model.w_in[None]), w_rec, delay, array(inputs), array(model.t1), options)
    return np.asarray(times, np.float64), result


def compare(model, dtype, names, recurrent, methods=METHODS, spike_times=spike_times, stops_after=None):
    """The simulation ends with the first spike of the neuron `stops_after`, if given."""
    rounded = _rounded(model, dtype)
    run = reference.simulate(rounded, PLACES)
    eps = float(jnp.finfo(dtype).eps)
    tau = min(model.tau_mem, model.tau_syn)
    size = 1.0 + abs(model.bias) + np.max(np.abs(model.w_in)) + np.sum(np.abs(model.w_rec))
    # Decisions by less than the float can tell, spikes in an order that it cannot tell, and times that it cannot hold.
    last = max([t for train in run.spikes for t, _ in train], default=0.0)
    hypothesis.assume(run.margin > 2000.0 * eps * size and last * eps < 1e-5 * tau)
    hypothesis.assume(run.apart > 1e-3 * tau)
    slopes = [slope for train in run.spikes for _, slope in train]
    hypothesis.assume(min(slopes, default=1.0) * tau > 1e-2)
    stop = np.inf
    if stops_after is not None and run.spikes[stops_after]:
        stop = run.spikes[stops_after][0][0]
    for name in names:
        is_loop = "loop" in name
        if is_loop and (model.t1 > 100.0 * tau or run.margin < 1e-3 * size or run.margin > 1e3):
            continue
        times, result = simulated(rounded, dtype, methods[name], recurrent, spike_times)
        if bool(result == sx.RESULTS.unsettled):
            # Said aloud: a runaway group needs more sweeps than it may have.
            continue
        tolerance = (3e-3 if is_loop else 2e3 * eps) * size**2 * tau
        if is_loop and dtype == jnp.float64:
            tolerance *= 1e-3
        for neuron, train in enumerate(run.spikes):
            # Where a neuron spikes more often than there is room for, others are followed no further.
            until = min(t[PLACES][0] if len(t) > PLACES else np.inf for t in run.spikes)
            expected = [t for t, _ in train[:PLACES] if t < until and t <= stop]
            found, rest = times[neuron][: len(expected)], times[neuron][len(expected) :]
            np.testing.assert_allclose(found, expected, atol=tolerance, rtol=16 * eps, err_msg=name)
            assert np.all(rest >= min(until, stop, NEVER) - tolerance), (
                f"{name}: {times[neuron]} in place of {expected}"
            )
        if all(len(train) <= PLACES for train in run.spikes):
            assert bool(result == sx.RESULTS.successful), f"{name}: {sx.RESULTS[result]}"


def _rounded(model, dtype):
    """With the numbers that the simulation sees."""
    parts = {}
    for name, value in vars(model).items():
        rounded = np.asarray(value, dtype).astype(np.float64)
        parts[name] = rounded if np.ndim(value) else float(rounded)
    return reference.Model(**parts)


def fuzz(test, strategy, examples):
    """Once with the same examples every time; with `make fuzz`, again and again with others."""
    quiet = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much]
    settings = {"deadline": None, "database": None, "suppress_health_check": quiet}
    until = time.monotonic() + SECONDS
    run = hypothesis.settings(max_examples=examples, derandomize=SECONDS == 0, **settings)(
        hypothesis.given(strategy)(test)
    )
    run()
    while time.monotonic() < until:
        run()


def test_neurons_by_themselves(dtype):
    fuzz(lambda model: compare(model, dtype, ["closed form", "event loop"], False), models(False), 100)


def test_recurrent_neurons(dtype):
    names = ["event queue", "event loop, shared clock", "windows, closed form", "windows, event loop"]

    def test(model):
        compare(model, dtype, names if model.delay == 0 else names[2:], True)

    fuzz(test, models(True), 60)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_layers_up_to_a_first_spike(wiring, dtype):
    def test(model):
        w_rec = np.zeros_like(model.w_rec)
        for pair in WIRINGS[wiring]:
            w_rec[pair] = model.w_rec[pair]
        names = ENDING if model.delay == 0 else ["default", "windows, closed form"]
        run = functools.partial(spike_times_to_first, wiring)
        compare(dataclasses.replace(model, w_rec=w_rec), dtype, names, True, ENDING, run, stops_after=1)

    fuzz(test, models(True), 60)
