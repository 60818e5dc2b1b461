"""What compiles anew, and what does not."""

import functools
import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import Jaxpr

import spikax as sx
from spikax._methods._common.differentiation import with_reverse_rule

from .helpers import random_inputs, single_layer


# Floats of JAX's default type, and those of another.
pytestmark = pytest.mark.modes("float32", "mixed")


class Counting(sx.AbstractNeuron):
    """A LIF neuron that counts how often its dynamics are traced."""

    tau_mem: jax.Array
    synapse: sx.AbstractSynapse = sx.ExpSynapse()

    def initial_state(self):
        return sx.LIFState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        traces.append(1)
        return sx.LIFState((drive - state.v) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return sx.LIFState(jnp.zeros_like(state.v))


traces = []


def heun(dt0):
    """Two stages compile fast."""
    return sx.EventLoop(diffrax.Heun(), dt0=dt0)


@pytest.fixture
def traced():
    """How many traces of the dynamics a call takes."""

    def count(call):
        before = len(traces)
        jax.block_until_ready(call())
        return len(traces) - before

    return count


@functools.cache
def make(dtype, tau=20.0, scale=1.0):
    """A network; made once, since a layer traces the methods of its neuron to check them."""
    neuron = Counting(jnp.asarray(tau, dtype))
    return single_layer(neuron, scale * np.array([[5.0, 3.0], [4.0, 6.0]]), dtype)


def test_other_values_do_not_compile_again(dtype, traced):
    def run(seed=0, tau=20.0, scale=1.0, t1=20.0, t0=0.0, dt0=0.5, ts=(3.0, 5.0), start=0.0, batch=2):
        inputs = random_inputs(seed, (batch, 2, 3), 15.0, dtype)
        if t0:
            inputs = sx.Spikes(inputs.times + t0)
        states = {"output": sx.LIFState(jnp.asarray(start, dtype))}
        options = {"saveat": jnp.asarray(ts, dtype), "start": states, "throw": False, "method": heun(dt0)}
        return sx.simulate(make(dtype, tau, scale), inputs, t1, t0=t0, **options).spikes["output"].times

    for tau, scale in ((20.0, 1.0), (10.0, 1.0), (20.0, 0.5)):
        make(dtype, tau, scale)
    assert traced(run) > 0
    assert traced(run) == 0
    changes = [
        {"seed": 1},
        {"tau": 10.0},
        {"scale": 0.5},
        {"t1": 30.0},
        {"t1": 25},
        {"t1": jnp.asarray(22.0, dtype)},
        {"t0": 1.0},
        {"dt0": 0.25},
        {"ts": (5.0, 1.0)},
        {"start": 0.5},
    ]
    again = {str(change): traced(lambda change=change: run(**change)) for change in changes}
    assert set(again.values()) == {0}, again
    assert traced(lambda: run(batch=3)) > 0  # the count would see a compilation


def test_the_default_tolerances_do_not_compile_again_for_another_end(dtype, traced):
    inputs = random_inputs(0, (2, 2, 3), 15.0, dtype)

    def run(t1):
        return sx.simulate(make(dtype), inputs, t1, throw=False).spikes["output"].times

    make(dtype)
    assert traced(lambda: run(20.0)) > 0
    assert traced(lambda: run(30.0)) == 0


def test_a_gradient_compiles_once(dtype, traced):
    network, inputs = make(dtype), random_inputs(0, (2, 2, 3), 15.0, dtype)

    @jax.jit
    def gradient(weight, times, t1):
        def loss(weight):
            connection = sx.Dense("input", "output", weight)
            changed = sx.Network(network.layers, [connection], {"input": 2}, "output")
            solution = sx.simulate(changed, sx.Spikes(times), t1, method=heun(0.5), throw=False)
            first = sx.first_spike(solution.spikes["output"])
            return jnp.sum(jnp.where(first < jnp.inf, first, t1))

        return jax.grad(loss)(weight)

    weight = network.connections[0].weight
    # Three slopes in a trial step, in its replay, and in the state at the end: a trial step is traced once, though the
    # loop is run for its value, for the rule of its derivative, and to repeat a segment.
    assert 0 < traced(lambda: gradient(weight, inputs.times, jnp.asarray(20.0, dtype))) <= 9
    assert traced(lambda: gradient(1.1 * weight, 0.9 * inputs.times, jnp.asarray(25.0, dtype))) == 0


def test_the_steps_of_a_training_compile_once(traced):
    """However the parameters are written down: those of `jnp.array(2.0)` are weakly typed until their first step."""
    neuron = Counting(jnp.array(20.0), sx.ExpSynapse(jnp.array(5.0)))
    weak = jnp.broadcast_to(jnp.array(5.0), (2, 2))
    assert weak.weak_type and neuron.tau_mem.weak_type
    connection = sx.Dense("input", "output", weak, delay=jnp.array(1.0))
    network = sx.Network({"output": sx.Layer(neuron, 2)}, [connection], 2, "output")
    inputs = random_inputs(0, (2, 2, 3), 15.0, network.dtype)

    @jax.jit
    @jax.value_and_grad
    def loss(network):
        return jnp.sum(
            jnp.nan_to_num(sx.first_spike(network(inputs, 20.0, method=heun(0.5), throw=False)), posinf=20.0)
        )

    optimizer = optax.sgd(1e-3)
    state, counts = optimizer.init(network), []
    for _ in range(3):
        before = len(traces)
        value, gradient = loss(network)
        updates, state = optimizer.update(gradient, state)
        network = optax.apply_updates(network, updates)
        counts.append(len(traces) - before)
    assert counts[0] > 0 and counts[1:] == [0, 0]
    assert bool(jnp.isfinite(value))


# What a first call compiles, by the number of equations. A new bound is a decision: state its reason in the commit.
REFERENCES = {
    "LIF 5-120-3": (sx.LIF, (5, 120, 3), 6000),
    "LIF 784-100-10": (sx.LIF, (784, 100, 10), 7000),
    "QIF 5-120-3": (sx.QIF, (5, 120, 3), 12500),
}


@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", REFERENCES)
def test_the_gradient_of_a_reference_network_is_small(name):
    neuron, sizes, most = REFERENCES[name]
    hidden, output = (
        sx.Layer(neuron(), size, weights=sx.init.normal(1.0 / sources, 0.1))
        for sources, size in itertools.pairwise(sizes)
    )
    network = sx.sequential(sizes[0], hidden, output, key=jax.random.key(0))
    inputs = sx.Spikes(jnp.linspace(0.0, 20.0, 32 * sizes[0]).reshape(32, sizes[0], 1))

    def loss(network, inputs):
        times = sx.first_spike(network(inputs, 30.0, until=sx.FirstSpikes(), throw=False))
        return jnp.mean(jnp.minimum(times, 30.0))

    jaxpr = jax.make_jaxpr(jax.grad(loss))(network, inputs).jaxpr
    assert 0.8 * most < equations(jaxpr) < most


def equations(jaxpr: Jaxpr) -> int:
    """The number of equations of a jaxpr and of those in it."""
    inner = [
        getattr(leaf, "jaxpr", leaf)
        for equation in jaxpr.eqns
        for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr"))
    ]
    return len(jaxpr.eqns) + sum(equations(part) for part in inner if isinstance(part, Jaxpr))


def test_a_forward_pass_is_traced_once(dtype):
    """Not once for the value, and once for the rule, if a compiled function is differentiated in one."""
    calls = []

    def forward(x, _):
        calls.append(1)
        return jnp.sin(x), x

    def backward(x, _, saved, bar):
        return jnp.cos(saved) * bar

    x = jnp.asarray(0.3, dtype)
    slope = jax.jit(jax.grad(jax.jit(with_reverse_rule(forward, backward))))(x)
    np.testing.assert_allclose(slope, np.cos(0.3), rtol=1e-6)
    assert len(calls) == 1
