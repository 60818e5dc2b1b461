"""Parameters that stay positive while they learn."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import finite_sum, random_inputs, single_layer


def derivative(neuron, dtype, **options):
    """The total of all spike times, and the gradient of the neuron."""
    network = single_layer(neuron, np.random.default_rng(0).uniform(1.0, 6.0, (3, 2)), dtype)
    inputs = random_inputs(0, (2, 3, 4), 30.0, dtype)

    def total(network):
        return finite_sum(network(inputs, t1=40.0, max_spikes=16, **options).times, jnp.ones((), dtype))

    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(total))(network)
    return value, gradient.layers["output"].neuron


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="parallel", marks=pytest.mark.modes("float32")),
        pytest.param({"dt0": 0.5, "solver": diffrax.Heun()}, id="loop", marks=pytest.mark.modes("mixed")),
    ],
)
def test_the_logarithm_learns(dtype, options):
    """The simulation is that of the value, and the gradient that of the value times the value."""
    tau, tau_syn = jnp.asarray([20.0, 15.0], dtype), jnp.asarray(5.0, dtype)
    plain, bar = derivative(sx.LIF(tau, synapse=sx.ExpSynapse(tau_syn)), dtype, **options)
    positive = sx.LIF(sx.Positive(tau), synapse=sx.ExpSynapse(sx.Positive(tau_syn)))
    same, log_bar = derivative(positive, dtype, **options)
    np.testing.assert_allclose(same, plain, rtol=1e-5)
    assert float(jnp.min(jnp.abs(bar.tau_mem))) > 0.0
    np.testing.assert_allclose(log_bar.tau_mem.log, bar.tau_mem * tau, rtol=2e-3)
    np.testing.assert_allclose(log_bar.synapse.tau.log, bar.synapse.tau * tau_syn, rtol=2e-3)


def test_the_value_comes_back(dtype):
    value = jnp.asarray([0.5, 20.0], dtype)
    np.testing.assert_allclose(sx.Positive(value).value, value, rtol=1e-6)
    assert sx.Positive(value).log.dtype == dtype


def test_it_is_checked_as_its_value():
    assert sx.check_neuron(sx.LIF(tau_mem=sx.Positive(20.0))) == ()
    with pytest.raises(ValueError, match="v_reset.*below"):
        sx.LIF(v_reset=sx.Positive(2.0), v_threshold=1.0)
    with pytest.raises(ValueError, match="neuron.tau_mem.log.*entry per neuron"):
        sx.Layer(sx.LIF(tau_mem=sx.Positive(jnp.ones(3))), 2)
    for wrong in (0.0, -1.0, jnp.inf):
        with pytest.raises(ValueError, match="value"):
            sx.Positive(wrong)
    with pytest.raises(TypeError, match="value"):
        sx.Positive("20")


def test_it_may_be_traced():
    traced = jax.jit(lambda x: sx.LIF(tau_mem=sx.Positive(x)).tau_mem.value)(jnp.asarray(3.0))
    np.testing.assert_allclose(traced, 3.0, rtol=1e-6)
