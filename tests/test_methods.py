"""Methods and their options: what is chosen for which layer, and what the event loop makes of a controller."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax._methods._common.event_time import derivative_of_time, newton_step
from spikax._methods._common.rates import fastest
from spikax._methods.event_loop.step import make_stepper

from .helpers import random_inputs, single_layer


T1 = 30.0


def chain(dtype):
    """A linear layer and one that is not, which excite each other after a delay, and a readout."""
    layers = {"a": sx.Layer(sx.LIF(), 3), "b": sx.Layer(sx.QIF(), 2), "out": sx.Layer(sx.LI(), 1)}
    connections = [
        sx.Dense("input", "a", jnp.full((2, 3), 4.0, dtype)),
        sx.Dense("a", "b", jnp.full((3, 2), 20.0, dtype), 1.0),
        sx.Dense("b", "a", jnp.full((2, 3), 0.5, dtype), 2.0),
        sx.Dense("b", "out", jnp.ones((2, 1), dtype)),
    ]
    return sx.Network(layers, connections, 2, "out")


def methods_of(network, inputs, method):
    """Which ones they are, is known without a compilation."""
    solution = jax.eval_shape(lambda: sx.simulate(network, inputs, T1, method=method, throw=False))
    return {name: stats.method for name, stats in solution.stats.items()}


@pytest.mark.modes("float32")
def test_methods_by_layer(dtype):
    network, inputs = chain(dtype), random_inputs(0, (2, 3), 10.0, dtype)
    default = {"a": "Windows(ClosedForm)", "b": "Windows(EventLoop)", "out": "ClosedForm"}
    loop = sx.EventLoop(dt0=0.5)
    assert methods_of(network, inputs, None) == default
    assert methods_of(network, inputs, {"out": loop}) == default | {"out": "EventLoop"}
    assert methods_of(network, inputs, {"a": loop}) == default | {"a": "Windows(EventLoop)"}
    windows = sx.Windows(3, {"a": loop})
    found = methods_of(network, inputs, {"a": windows, "b": windows})
    assert found == default | {"a": "Windows(EventLoop)"}
    assert methods_of(network, inputs, sx.Windows(3)) == default | {"out": "Windows(ClosedForm)"}
    for method, message in (
        ({"a": windows}, "the same object for all of them"),
        ({"a": windows, "b": sx.Windows(3)}, "the same object for all of them"),
        (sx.Windows(3, {"x": loop}), "`method` must be for layers among"),
        ({"b": sx.ClosedForm()}, "one that supports the layers a, b"),
        (sx.EventQueue(), "one that supports the layers"),
    ):
        with pytest.raises(ValueError, match=message):
            methods_of(network, inputs, method)


@pytest.mark.modes("float32")
def test_the_times_that_were_saved_are_told(dtype):
    network, inputs = chain(dtype), random_inputs(0, (2, 3), 10.0, dtype)
    ts = jnp.asarray([7.0, 3.0], dtype)
    solution = sx.simulate(network, inputs, T1, saveat={"out": ts}, max_spikes=16)
    np.testing.assert_array_equal(solution.ts["out"], ts)
    with pytest.raises(KeyError, match="`saveat` must be given for the layer 'a'"):
        solution.ts["a"]


@pytest.mark.modes("float64")
def test_steps_by_a_controller(dtype, accurate):
    """Its coefficients, and its longest step, change the steps, and the spikes by no more than the tolerance."""
    tolerance = 1e-9 if dtype == jnp.float64 else 1e-5
    network = single_layer(sx.QIF(), np.linspace(30.0, 70.0, 12).reshape(3, 4), dtype)
    inputs = random_inputs(1, (2, 3, 4), 20.0, dtype)

    def run(**options):
        controller = diffrax.PIDController(tolerance, tolerance, **options)
        return sx.simulate(network, inputs, T1, max_spikes=16, method=sx.EventLoop(stepsize_controller=controller))

    plain = sx.simulate(network, inputs, T1, max_spikes=16, method=sx.EventLoop(rtol=tolerance))
    same, smooth, short = run(factormax=5.0), run(pcoeff=0.4, icoeff=0.3), run(dtmax=0.2)
    np.testing.assert_array_equal(same.spikes["output"].times, plain.spikes["output"].times)
    happened = np.isfinite(plain.spikes["output"].times)
    assert happened.sum() >= 8
    for other in (smooth, short):
        assert not np.array_equal(other.spikes["output"].times, plain.spikes["output"].times)
        found = np.asarray(other.spikes["output"].times)
        np.testing.assert_allclose(found[happened], np.asarray(plain.spikes["output"].times)[happened], atol=accurate)
    assert int(short.stats["output"].iterations) > max(T1 / 0.2, int(plain.stats["output"].iterations))


@pytest.mark.modes("float32")
def test_constant_steps_by_a_controller(dtype):
    network = single_layer(sx.QIF(), np.full((3, 2), 50.0), dtype)
    inputs = random_inputs(1, (2, 3, 4), 20.0, dtype)
    constant = sx.EventLoop(stepsize_controller=diffrax.ConstantStepSize(), dt0=0.5)
    found, expected = (network(inputs, T1, method=method).times for method in (constant, sx.EventLoop(dt0=0.5)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.float64
def test_the_derivative_of_a_time_is_that_of_the_implicit_function():
    """g(t, p) = p² t - 1 crosses at t = 1 / p², and an event at once happens when its cause does."""

    def time(p, crosses):
        t = jax.lax.stop_gradient(1.0 / p**2)
        return derivative_of_time(p**2 * t - 1.0, p**2, crosses, 3.0 * p), newton_step(p**2 * t - 1.0, p**2, crosses)

    for crosses, expected in ((True, (-2.0 / 1.3**3, -2.0 / 1.3**3)), (False, (3.0, 0.0))):
        values, derivatives = jax.jvp(lambda p, c=crosses: time(p, jnp.asarray(c)), (1.3,), (1.0,))
        np.testing.assert_allclose(values, 0.0, atol=1e-15)
        np.testing.assert_allclose(derivatives, expected, rtol=1e-14)


@pytest.mark.modes("float32")
def test_the_fastest_rate_of_neurons_with_several_values_each():
    """Whether the values are traced or known."""

    class Coupled(sx.AbstractNeuron):
        rates: jax.Array  # of two variables
        bias: jax.Array
        synapse: sx.AbstractSynapse = sx.ExpSynapse(5.0)

        def initial_state(self):
            return jnp.zeros(2)

        def dynamics(self, t, state, drive):
            return self.rates * jnp.zeros(2) - jnp.asarray([0.5, 0.1]) * state + drive + self.bias

        def spike_condition(self, t, state):
            return state[0] - 1.0

        def reset(self, t, state):
            return jnp.zeros_like(state)

    found = []

    def look(rates, bias):
        found.append(fastest(Coupled(rates, bias), jnp.float32))

    given = jnp.ones((3, 2)), jnp.zeros(3)
    look(*given)
    jax.eval_shape(look, *given)
    jax.eval_shape(lambda rates: look(rates, given[1]), given[0])
    jax.eval_shape(lambda bias: look(given[0], bias), given[1])
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


@pytest.mark.modes("mixed")
@pytest.mark.parametrize("neuron", [sx.Izhikevich(), sx.LIF()], ids=["event loop", "closed form"])
def test_gradients_after_a_long_silence(neuron):
    """At rest a solver may take steps of any length, and a leaky integrator may be saved long after its arrivals."""
    rng = np.random.default_rng(0)
    times = np.concatenate([rng.uniform(0.0, 40.0, (2, 3, 6)), rng.uniform(3000.0, 3040.0, (2, 3, 6))], axis=2)
    weights = rng.normal(3.0, 1.0, (3, 4)), rng.normal(1.0, 1.0, (4, 2))

    def gradient(dtype):
        outer, inner = (jnp.asarray(w, dtype) for w in weights)
        layers = {"hidden": sx.Layer(neuron, 4), "output": sx.Layer(sx.LI(20.0), 2)}
        connections = [sx.Dense("input", "hidden", outer), sx.Dense("hidden", "output", inner)]
        network = sx.Network(layers, connections, 3, "output")

        @eqx.filter_jit
        @eqx.filter_grad
        def of(network):
            ts, spikes = jnp.linspace(0.0, 3100.0, 32, dtype=dtype), sx.Spikes(jnp.asarray(times, dtype))
            solution = sx.simulate(network, spikes, 3100.0, max_spikes=64, saveat={"output": ts})
            return jnp.sum(solution.states["output"].v) + jnp.sum(sx.first_spike(solution.spikes["hidden"]))

        return jnp.concatenate([leaf.ravel().astype(jnp.float64) for leaf in jax.tree.leaves(of(network))])

    found, expected = gradient(jnp.float32), gradient(jnp.float64)
    assert float(jnp.max(jnp.abs(expected))) > 1.0
    np.testing.assert_allclose(found, expected, atol=1e-2 * float(jnp.max(jnp.abs(expected))), rtol=0)


@pytest.mark.modes("float32")
def test_saved_states_of_a_long_block_have_finite_gradients(dtype):
    """A block of a leaky integrator may last longer than float32 can follow its filter backwards."""
    network = sx.sequential(1, sx.Layer(sx.LI(20.0), 1, weights=sx.init.normal(1.0, 0.1)), key=jax.random.key(0))
    times = jnp.linspace(0.0, 1000.0, 1500, dtype=dtype)[None, None]

    def total(times):
        solution = sx.simulate(network, sx.Spikes(times), 1000.0, saveat=jnp.linspace(0.0, 1000.0, 11))
        return jnp.sum(solution.states["output"].v)

    gradient = jax.grad(total)(times)
    assert bool(jnp.all(jnp.isfinite(gradient))) and float(jnp.max(jnp.abs(gradient))) > 1e-3


@pytest.mark.modes("float32")
@pytest.mark.parametrize("solver, length", [(diffrax.Heun(), 2.0), (diffrax.Bosh3(), 2.51), (diffrax.Dopri5(), 3.31)])
def test_the_interval_of_stability_is_the_published_one(solver, length):
    assert make_stepper(solver).stability == pytest.approx(length, abs=0.02)
