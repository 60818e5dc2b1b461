"""Gradients of the neuron models against finite differences of the same simulation."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import finite_sum, learning, one_direction, random_inputs, single_layer
from .test_gradients import assert_exact, graded


SYNAPSE = sx.ExpSynapse(5.0)
WRITTEN = sx.neuron_from_equations(
    """
    dv/dt = (v_rest - v - w + current) / tau_mem : 1
    dw/dt = (a * tanh(v) - w) / tau_adapt : 1
    current = I * (v_top - v) + bias : 1
    """,
    threshold="v > v_threshold",
    reset="v = v_reset; w += increment",
    initial_state="v = v_rest; w = a * v",
    parameters={
        "v_rest": 0.05,
        "tau_mem": 10.0,
        "a": 0.3,
        "tau_adapt": 15.0,
        "v_top": 3.0,
        "bias": 1.4,
        "v_threshold": 1.0,
        "v_reset": -0.1,
        "increment": 0.1,
    },
    synapse=SYNAPSE,
)
# Each with the weights, low and high, that let its neurons spike several times, the end of the simulation, and the
# length of its steps. Time constants and currents are such that this happens soon.
CASES = {
    "if": (sx.IF(10.0, 1.0, -0.1, 0.6, SYNAPSE), (-1.0, 4.0), 16.0, 0.5),
    "alif": (sx.ALIF(10.0, 15.0, 0.05, 1.0, -0.1, 0.2, 1.4, SYNAPSE), (-1.0, 5.0), 16.0, 0.5),
    "equations": (WRITTEN, (-0.2, 1.5), 16.0, 0.5),
    "adex": (sx.AdEx(5.0, 40.0, v_peak=-44.0, bias=35.0, synapse=SYNAPSE), (-20.0, 40.0), 16.0, 0.05),
    "izhikevich": (sx.Izhikevich(0.05, 0.21, -60.0, 4.0, bias=12.0, synapse=SYNAPSE), (-5.0, 12.0), 16.0, 0.09),
    "hodgkin-huxley": (sx.HodgkinHuxley(bias=15.0, synapse=SYNAPSE), (-5.0, 10.0), 32.0, 0.04),
    "morris-lecar": (sx.MorrisLecar(2.0, recovery=0.5, bias=110.0, synapse=SYNAPSE), (-30.0, 60.0), 16.0, 0.1),
}
# They only count upward crossings.
COUNTING = ("hodgkin-huxley", "morris-lecar")
slow = pytest.mark.slow


def by_speed():
    """The names of the models; those of many steps, and those much like others, are marked as slow."""
    return [pytest.param(name, marks=slow) if name in (*COUNTING, "if", "izhikevich") else name for name in CASES]


def case(name, dtype, flip=False, n=3, batch=2):
    """A network of one layer in which everything learns, and input spikes; the neurons start as they do by default."""
    neuron, (low, high), t1, _ = CASES[name]
    weight = np.random.default_rng(1).uniform(low, high, (3, n))
    cell = learning(neuron, n, dtype, flip, seed=int(flip))
    inputs = random_inputs(1, (batch, 3, 3), 0.8 * t1, dtype, silent=0.1)
    return single_layer(cell, weight, dtype), inputs, None


def started(name, dtype, **options):
    """The same from given states, which learn too."""
    network, inputs, _ = case(name, dtype, **options)
    own = CASES[name][0].initial_state()
    rng = np.random.default_rng(2)
    shape = (inputs.times.shape[0], network.layers["output"].size)
    states = jax.tree.map(lambda x: jnp.asarray(x + 0.05 * rng.uniform(size=shape), dtype), own)
    return network, inputs, {"output": states}


def assert_every_parameter(arguments, name, unused=(), **options):
    """The gradient is exact, and none of its leaves is zero but those that are `unused`."""
    *_, t1, step = CASES[name]
    saved = tuple(t1 * np.array([0.82, 0.0, 0.31, 0.58, 1.0]))
    # The gradient is that of the steps, whatever solver takes them: one of two stages compiles fast.
    options = {"ts": saved, "t1": t1, "method": sx.EventLoop(diffrax.Heun(), dt0=step, max_steps=4000)} | options
    function, arrays = graded(arguments, **options)
    # Voltages are in millivolts, of which the spike times depend strongly; that of Hodgkin-Huxley neurons hardly
    # depends on the threshold.
    lengths = (1e-3, 1e-4, 1e-5, 1e-6) if name == "hodgkin-huxley" else (1e-4, 1e-5, 1e-6)
    assert_exact(function, arrays, steps=lengths)
    _, _, gradient = function(arrays)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        where = jax.tree_util.keystr(path)
        assert where.endswith(unused) or float(jnp.max(jnp.abs(leaf))) > 1e-8, where


@pytest.mark.float64
@pytest.mark.parametrize("name", by_speed())
def test_every_parameter(name):
    assert_every_parameter(case(name, jnp.float64), name)


@pytest.mark.float64
@pytest.mark.parametrize("name", CASES)
@slow
def test_every_parameter_in_its_other_shape_from_given_states(name):
    # The voltage at the start is then no parameter that matters, if it was one only there.
    assert_every_parameter(started(name, jnp.float64, flip=True), name, unused=(".v_rest",) if name in COUNTING else ())


@pytest.mark.float64
@pytest.mark.parametrize("name", ["izhikevich", *COUNTING])
def test_one_direction(name):
    """Of those whose every parameter takes long: along one direction in all arrays at once, for few neurons."""
    *_, step = CASES[name]
    t1 = 10.0
    network, inputs, _ = case(name, jnp.float64, n=2, batch=1)
    options = {"ts": (5.0, t1), "t1": t1, "method": sx.EventLoop(diffrax.Heun(), dt0=step, max_steps=1000)}
    function, arrays = graded((network, inputs, None), **options)
    along, start = one_direction(function, arrays)
    assert_exact(along, start, spikes=1.0, most=1, steps=(1e-5,))


@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", ["alif", "adex"])
def test_gradients_are_finite(name, dtype):
    """In single precision too, with adaptive steps."""
    network, inputs, _ = case(name, dtype, n=1, batch=1)
    arrays, static = eqx.partition(network, eqx.is_inexact_array)

    def value(arrays):
        spikes = sx.simulate(eqx.combine(arrays, static), inputs, 8.0).spikes["output"]
        return finite_sum(spikes.times, jnp.asarray(1.0, dtype))

    total, gradient = jax.jit(jax.value_and_grad(value))(arrays)
    assert float(total) > 0.0
    for leaf in jax.tree.leaves(gradient):
        assert leaf.dtype == dtype
        assert bool(jnp.all(jnp.isfinite(leaf)))


@pytest.mark.float64
def test_the_perfect_integrator_in_parallel():
    assert_every_parameter(case("if", jnp.float64), "if", method=None)


@pytest.mark.float64
def test_a_threshold_without_a_reset():
    neuron = learning(sx.Threshold(sx.LI(1.0, 0.05, 0.1, sx.ExpSynapse(2.0)), 0.5), 3, jnp.float64)
    weight = np.random.default_rng(1).uniform(-8.0, 8.0, (3, 3))
    inputs = random_inputs(1, (2, 3, 3), 13.0, jnp.float64, silent=0.1)
    method = sx.EventLoop(diffrax.Heun(), dt0=0.2)
    function, arrays = graded(
        (single_layer(neuron, weight, jnp.float64), inputs, None), t1=16.0, ts=(7.0,), method=method
    )
    assert_exact(function, arrays, spikes=1.0)
