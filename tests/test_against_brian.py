"""Spike times against those of Brian2, which integrates the same neurons, written in its own language, in small steps.

Brian2 2.9.0 does not import with the NumPy of most environments. Its spike times lie in `brian.json`, made by
`benchmarks/peers/brian_spikes.py`.
"""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import single_layer


BRIAN = json.loads((pathlib.Path(__file__).parent / "brian.json").read_text())
SYNAPSE = sx.ExpSynapse(5.0)
NEURONS = {
    "LIF": sx.LIF(20.0, 0.05, 1.0, -0.1, 1.2, SYNAPSE),
    "QIF": sx.QIF(20.0, 2.0, SYNAPSE),
    "EIF": sx.EIF(20.0, 0.05, 1.0, 0.2, 2.0, -0.1, 1.2, SYNAPSE),
    "ALIF": sx.ALIF(20.0, 80.0, 0.05, 1.0, -0.1, 0.3, 1.4, SYNAPSE),
    "AdEx": sx.AdEx(bias=27.0, synapse=SYNAPSE),
    "Izhikevich": sx.Izhikevich(bias=10.0, synapse=SYNAPSE),
    "HodgkinHuxley": sx.HodgkinHuxley(bias=10.0, synapse=SYNAPSE),
}


# Those that SciPy integrates as well, event by event, in another default test.
DOUBLED = ("ALIF", "AdEx", "Izhikevich")


@pytest.mark.float64
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DOUBLED else name for name in NEURONS]
)
def test_against_brian(name):
    given = BRIAN["neurons"][name]
    network = single_layer(NEURONS[name], np.asarray([[given["weight"]]]), jnp.float64)
    inputs = sx.Spikes(jnp.asarray([BRIAN["arrivals"]]))
    found = sx.simulate(network, inputs, BRIAN["t1"], max_spikes=16).spikes["output"].times[0]
    found = found[np.isfinite(found)]
    expected = np.asarray(given["spikes"])
    assert len(expected) >= 2
    assert len(found) == len(expected)
    # Brian2 is late by up to a step at each reset. Its QIF takes a large voltage for an infinite one, which leaves out
    # 0.004 ms on either side of a spike. What is off at one spike is off at all that follow.
    per_spike = BRIAN["step"] + (0.008 if name == "QIF" else 0.0)
    assert np.all(np.abs(found - expected) <= 1.5 * per_spike * np.arange(1, len(expected) + 1))


@pytest.mark.float64
def test_a_recurrent_network_with_delays_against_brian():
    """The same neurons spike, as often, and at the same times but for the steps of Brian2."""
    given = json.loads((pathlib.Path(__file__).parent / "brian_network.json").read_text())
    n, sources = len(given["bias"]), len(given["times"])

    def wired(source, size, wires):
        weight, delay = (jnp.asarray(wires[name]) for name in ("weight", "delay"))
        return sx.Sparse(source, "layer", wires["sources"], wires["targets"], weight, shape=(size, n), delay=delay)

    connections = [wired("layer", n, given["inner"]), wired("input", sources, given["outer"])]
    neuron = sx.LIF(20.0, bias=jnp.asarray(given["bias"]), synapse=SYNAPSE)
    network = sx.Network({"layer": sx.Layer(neuron, n)}, connections, sources, "layer")
    inputs = sx.Spikes(jnp.asarray(given["times"])[None, :, None])
    solution = sx.simulate(network, inputs, given["t1"], max_spikes=16)
    found = np.asarray(solution.spikes["layer"].times[0])
    expected = np.full(found.shape, np.inf)
    for row, times in zip(expected, given["spikes"], strict=True):
        row[: len(times)] = times
    assert np.isfinite(expected).sum() > 300
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    happens = np.isfinite(expected)
    late = np.abs(found[happens] - expected[happens])
    # Each spike is late for the steps of all spikes before it that led to it.
    assert np.max(late) < 50 * given["step"]
    assert np.median(late) < 5 * given["step"]
