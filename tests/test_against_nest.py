"""Spike times against those of NEST, which simulates jumps of the voltage exactly, without a time grid.

They lie in `nest_network.json`, made by `benchmarks/peers/nest_network.py`.
"""

import json
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .sparse_network import DELAY, synapses_and_voltages


N = 400
NEST = json.loads((pathlib.Path(__file__).parent / "nest_network.json").read_text())


@pytest.mark.slow
@pytest.mark.float64
def test_a_sparse_recurrent_network_spikes_as_in_nest():
    """Each spike of 400 neurons in 100 ms, whose activity keeps itself up, after the delays of 32 000 synapses."""
    source, target, weight, voltage = synapses_and_voltages(N, 80)
    lif = sx.LIF(20.0, v_rest=-49.0, v_threshold=-50.0, v_reset=-60.0, synapse=sx.DeltaSynapse())
    neuron = sx.Refractory(lif, 5.0)
    loop = sx.Sparse("a", "a", source, target, jnp.asarray(weight), shape=(N, N), delay=jnp.asarray(DELAY))
    silent = sx.Dense("input", "a", jnp.zeros((1, N)))
    network = sx.Network({"a": sx.Layer(neuron, N)}, [silent, loop], 1, "a")
    start = jax.tree.map(lambda leaf: jnp.full((1, N), leaf), neuron.initial_state())
    start = eqx.tree_at(lambda state: state.inner.v, start, jnp.asarray(voltage)[None])
    # No spike arrives in its own window.
    method = sx.Windows(int(NEST["t1"] / DELAY) + 20, max_arrivals=32)
    inputs = sx.Spikes(jnp.full((1, 1, 1), jnp.inf))
    solution = sx.simulate(network, inputs, NEST["t1"], start={"a": start}, max_spikes=8, method=method)
    times = np.asarray(solution.spikes["a"].times[0])
    neurons, _ = np.nonzero(np.isfinite(times))
    np.testing.assert_array_equal(neurons, NEST["neurons"])
    np.testing.assert_allclose(times[np.isfinite(times)], NEST["times"], rtol=0, atol=1e-9)
    assert len(neurons) > 400
