"""No wrong number without a word: what docs/reliability.md promises, and no other test holds."""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import finite_sum, worst_derivative


def single(neuron, weight, dtype):
    weight = jnp.full((1, 1), weight, dtype)
    return sx.Network({"a": sx.Layer(neuron, 1)}, [sx.Dense("input", "a", weight)], 1, "a")


def one_input(dtype, *times):
    return sx.Spikes(jnp.asarray([times], dtype))


SILENCES = [((20.0, 5.0), 0.2, (100.0, 500.0, 1000.0, 1e5), 2), ((2.0, 1.0), 0.0, (10.0, 300.0, 1e4), 4)]


@pytest.mark.parametrize("tau, bias, durations, count", SILENCES)
def test_no_spike_is_lost_before_a_silence(tau, bias, durations, count, dtype):
    """However long it is: the slope at its end underflows, or is rounding."""
    network = single(sx.LIF(tau_mem=tau[0], bias=bias, synapse=sx.ExpSynapse(tau[1])), 12.0, dtype)

    @eqx.filter_jit
    def times(t1):
        return network(one_input(dtype, 1.0), t1).times

    found = [np.asarray(times(jnp.asarray(t1, dtype))) for t1 in durations]
    assert int(np.sum(np.isfinite(found[0]))) == count
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


RHEOBASE = {
    "closed form": (sx.LIF(bias=1.0), 0.0),
    "integrator": (sx.IF(), 4.0),
    "matrix exponential": (sx.LIF(bias=1.0, synapse=sx.AlphaSynapse()), 0.0),
    "event loop": (sx.LIF(bias=1.0), 0.0),
}


@pytest.mark.modes("float32", "float64")
@pytest.mark.parametrize("name", RHEOBASE)
def test_a_neuron_that_settles_on_its_threshold_does_not_spike(name, dtype):
    """The condition is zero in the end, but for rounding, and its slope too."""
    neuron, weight = RHEOBASE[name]
    method = {"method": sx.EventLoop()} if name == "event loop" else {}

    @eqx.filter_jit
    def count(t1):
        return single(neuron, weight, dtype)(one_input(dtype, 1.0), t1, **method).count

    for t1 in (340.0, 500.0, 2000.0):
        assert int(jnp.sum(count(jnp.asarray(t1, dtype)))) == 0


@pytest.mark.modes("float32", "float64")
@pytest.mark.parametrize("method", [None, sx.EventLoop()], ids=["closed form", "event loop"])
def test_a_neuron_that_rests_on_its_threshold_waits_for_an_arrival(method, dtype):
    neuron = sx.LIF(v_threshold=0.0, v_reset=-1.0)
    spikes = single(neuron, 1.0, dtype)(one_input(dtype, 5.0), 30.0, method=method)
    np.testing.assert_allclose(spikes.times[0, :2], [5.0, np.inf], rtol=1e-6)


def coupled(weights, into, dtype, delay=None):
    neuron, n = sx.LIF(synapse=sx.DeltaSynapse()), len(weights)
    inner = sx.Dense("a", "a", jnp.asarray(weights, dtype), delay)
    return sx.Network({"a": sx.Layer(neuron, n)}, [sx.Dense("input", "a", jnp.asarray([into], dtype)), inner], 1, "a")


AT_ONE_INSTANT = [
    ([[0.4]], [2.0], [0.4]),
    ([[-1.5]], [2.0], [-1.5]),
    ([[0.0, -5.0], [-5.0, 0.0]], [2.0, 2.0], [-5.0, -5.0]),
    ([[0.0, 2.0], [0.4, 0.0]], [2.0, 0.0], [0.4, 0.0]),
    ([[0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [0.3, -1.0, 0.0]], [2.0, 0.0, 0.0], [0.3, -1.0, 0.0]),
]


@pytest.mark.modes("float64")
@pytest.mark.parametrize("weights, into, after", AT_ONE_INSTANT)
def test_a_spike_comes_before_what_it_causes(weights, into, after, dtype):
    """At one instant, through `DeltaSynapse`: in any number of windows, and as with a delay that is next to none."""
    ts = jnp.asarray([2.0], dtype)
    expected = np.asarray(after) * np.exp(-1.0 / 20.0)
    for delay, windows in ((None, 1), (None, 7), (1e-9, None)):
        network = coupled(weights, into, dtype, delay)
        solution = sx.simulate(network, one_input(dtype, 1.0), 3.0, saveat=ts, method=sx.Windows(windows))
        np.testing.assert_allclose(solution.states["a"].v[0], expected, rtol=1e-6)
        assert int(jnp.sum(solution.stats["a"].spikes)) == sum(w != 0 for w in into) + sum(
            weights[i][j] > 1 for i in range(len(into)) for j in range(len(into))
        )


@pytest.mark.modes("float32")
def test_spikes_without_end_at_one_instant_are_reported(dtype):
    network = coupled([[1.5]], [2.0], dtype)
    result = sx.simulate(network, one_input(dtype, 1.0), 3.0, throw=False).result
    assert bool(result == sx.RESULTS.max_spikes_reached)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("neuron", [sx.LIF(), sx.LIF(synapse=sx.AlphaSynapse()), sx.QIF()], ids=["LIF", "alpha", "QIF"])
def test_numbers_that_overflow_are_reported(neuron, recurrent, dtype):
    """And end. What is not finite to begin with is an invalid parameter."""
    huge = float(jnp.finfo(dtype).max)
    connections = [sx.Dense("input", "a", jnp.full((1, 2), 0.6 * huge, dtype))]
    if recurrent:
        connections.append(sx.Dense("a", "a", jnp.full((2, 2), 0.1, dtype)))
    network = sx.Network({"a": sx.Layer(neuron, 2)}, connections, 1, "a")
    result = sx.simulate(network, one_input(dtype, 1.0, 1.0), 30.0, throw=False).result
    assert not bool(result == sx.RESULTS.successful)
    endless = eqx.tree_at(lambda n: n.connections[0].weight, network, jnp.full((1, 2), jnp.inf, dtype))
    result = sx.simulate(endless, one_input(dtype, 1.0, 1.0), 30.0, throw=False).result
    assert bool(result == sx.RESULTS.invalid_parameters)


WEIGHT = np.array([[3.0, 4.0, 5.0], [4.0, 2.0, 6.0]])
METHODS = {
    "closed form": (sx.LIF(), None, {}),
    "matrix exponential": (sx.LIF(synapse=sx.AlphaSynapse()), None, {}),
    "event loop": (sx.LIF(), None, {"method": sx.EventLoop(dt0=0.5)}),
    "shared clock": (sx.LIF(), 0.1, {"method": sx.EventLoop(dt0=0.5)}),
    "event queue": (sx.LIF(), 0.1, {}),
    "windows": (sx.LIF(), 0.1, {"method": sx.Windows(3, sx.ClosedForm())}),
}


def wired(neuron, inner, dtype):
    connections = [sx.Dense("input", "a", jnp.asarray(WEIGHT, dtype))]
    if inner is not None:
        connections.append(sx.Dense("a", "a", jnp.full((3, 3), inner, dtype)))
    return sx.Network({"a": sx.Layer(neuron, 3)}, connections, 2, "a")


@pytest.mark.float64
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "matrix exponential" else n for n in METHODS]
)
def test_every_array_that_enters_has_a_gradient(name):
    """Weights, input times, `t0`, `saveat` and initial states: of spikes and of saved states."""
    neuron, inner, options = METHODS[name]
    weights, static = eqx.partition(wired(neuron, inner, jnp.float64), eqx.is_inexact_array)
    arrays = {
        "weights": weights,
        "times": jnp.asarray([[[1.0, 6.0], [2.0, 9.0]], [[3.0, 4.0], [2.5, jnp.inf]]]),
        "t0": jnp.asarray(0.2),
        "ts": jnp.asarray([3.3, 15.1, 7.7]),
        "v": jnp.asarray([0.1, 0.2, 0.3]),
    }

    def loss(arrays):
        network = eqx.combine(arrays["weights"], static)
        states = {"a": jax.tree.map(lambda _: arrays["v"], neuron.initial_state())}
        solution = sx.simulate(
            network,
            sx.Spikes(arrays["times"]),
            18.0,
            t0=arrays["t0"],
            saveat=arrays["ts"],
            start=states,
            max_spikes=24,
            **options,
        )
        times = solution.spikes["a"].times
        count = jnp.sum(jnp.isfinite(times), axis=-1)
        return finite_sum(times, 1.0) + jnp.sum(jnp.cos(solution.states["a"].v)), count

    graded = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def value_grad_count(arrays):
        (value, count), gradient = graded(arrays)
        return value, count, gradient

    errors = worst_derivative(value_grad_count, arrays)
    assert max(errors.values()) < 1e-6, errors
    _, _, gradient = value_grad_count(arrays)
    assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))


BOUNDED = {
    "closed form": lambda n: sx.ClosedForm(max_steps=n),
    "event loop": lambda n: sx.EventLoop(dt0=0.5, max_steps=n),
    "event queue": lambda n: sx.EventQueue(max_steps=n),
    "windows": lambda n: sx.Windows(3, sx.ClosedForm(max_steps=n)),
}


@functools.cache
def graded(name, dtype, max_steps):
    """The value, the result and the gradient of the first and the last of three samples."""
    neuron, inner, options = METHODS[name]
    options = options if max_steps is None else {"method": BOUNDED[name](max_steps)}
    weights, static = eqx.partition(wired(neuron, inner, dtype), eqx.is_inexact_array)
    options = {"max_spikes": 6 if max_steps is None else 32, "throw": False} | options

    def loss(weights, times):
        ts = jnp.asarray([10.0, 29.0], dtype)
        solution = sx.simulate(eqx.combine(weights, static), sx.Spikes(times), 30.0, saveat=ts, **options)
        valid = solution.spikes["a"].times[::2]
        return finite_sum(valid, 1.0) + jnp.sum(solution.states["a"].v[::2]), solution.result

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return lambda times: run(weights, jnp.asarray(times, dtype))


@pytest.mark.modes("float32")
@pytest.mark.parametrize("failure", ["max_spikes_reached", "max_steps_reached", "invalid_times"])
@pytest.mark.parametrize("name", ["closed form", "event loop", "event queue", "windows"])
def test_a_sample_that_fails_leaves_the_others_as_they_are(name, failure, dtype):
    """Values and gradients of shared weights, also where states are saved."""
    # Iterations of the event loop, and spikes of a neuron in all other methods.
    max_steps = None if failure != "max_steps_reached" else 90 if name == "event loop" else 12
    times = np.full((3, 2, 12), np.inf)
    times[:, 0, 0], times[:, 1, 0] = 2.0, 4.0
    (calm_value, calm_result), expected = graded(name, dtype, max_steps)(times)
    times[1] = np.arange(1.0, 13.0) if failure != "invalid_times" else -1.0
    (value, result), gradient = graded(name, dtype, max_steps)(times)
    assert np.asarray(result == getattr(sx.RESULTS, failure)).tolist() == [False, True, False]
    assert bool(jnp.all(calm_result == sx.RESULTS.successful))
    np.testing.assert_allclose(value, calm_value, rtol=1e-6)
    for leaf, same in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, same, rtol=1e-5, atol=1e-5)


@pytest.mark.modes("float32")
@pytest.mark.parametrize(
    "name", ["closed form", "matrix exponential", "event loop", "shared clock", "event queue", "windows"]
)
def test_a_sample_that_overflows_leaves_the_gradients_of_the_others(name, dtype):
    """Its infinities meet cotangents of zero, whose product would be NaN in the sums over samples."""
    neuron, inner, options = METHODS[name]
    network = wired(dataclasses.replace(neuron, tau_mem=jnp.asarray(20.0, dtype)), inner, dtype)
    huge = jnp.full((1, 3), 0.6 * float(jnp.finfo(dtype).max), dtype)
    first = sx.Dense("input", "a", jnp.concatenate([network.connections[0].weight, huge]))
    network = sx.Network(network.layers, [first, *network.connections[1:]], 3, "a")
    weights, static = eqx.partition(network, eqx.is_inexact_array)

    @jax.jit
    @jax.grad
    def gradient(weights, times):
        ts = {"saveat": jnp.asarray([10.0, 29.0], dtype), "throw": False}
        solution = sx.simulate(eqx.combine(weights, static), sx.Spikes(times), 30.0, **ts, **options)
        return finite_sum(solution.spikes["a"].times[::2], 1.0) + jnp.sum(solution.states["a"].v[::2])

    times = np.full((3, 3, 2), np.inf)
    times[:, 0, 0], times[:, 1, 0] = 2.0, 4.0
    expected = gradient(weights, jnp.asarray(times, dtype))
    times[1, 2] = 3.0
    found = gradient(weights, jnp.asarray(times, dtype))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("neuron, strength", [(sx.LIF(), 12.0), (sx.QIF(), 40.0)], ids=["closed form", "event loop"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_what_happens_after_the_first_spikes_is_no_failure(neuron, strength, recurrent, dtype):
    """A hidden layer overflows, once before the outputs have spiked and once after that."""
    layers = {"a": sx.Layer(neuron, 2), "out": sx.Layer(sx.LIF(), 1)}
    connections = [
        sx.Dense("input", "a", jnp.full((1, 2), strength, dtype)),
        sx.Dense("a", "out", jnp.full((2, 1), 8.0, dtype)),
    ]
    if recurrent:
        connections.append(sx.Dense("a", "a", jnp.full((2, 2), 0.01, dtype)))
    network = sx.Network(layers, connections, 1, "out")
    late = jnp.asarray(np.concatenate([[1.0, 2.0], np.linspace(60.0, 90.0, 30)])[None], dtype)

    def found(**options):
        return sx.simulate(network, sx.Spikes(late), 100.0, throw=False, **options)

    whole, ended = found(max_spikes=512), found(max_spikes=6, until=sx.FirstSpikes())
    assert bool(whole.result == sx.RESULTS.successful) and bool(ended.result == sx.RESULTS.successful)
    assert int(whole.stats["a"].max_spike_count) > 6
    np.testing.assert_allclose(sx.first_spike(ended.spikes["out"]), sx.first_spike(whole.spikes["out"]), rtol=1e-5)
    weak = eqx.tree_at(lambda n: n.connections[1].weight, network, jnp.full((2, 1), 1e-3, dtype))
    silent = sx.simulate(weak, sx.Spikes(late), 100.0, throw=False, max_spikes=6, until=sx.FirstSpikes())
    assert bool(silent.results["a"] == sx.RESULTS.max_spikes_reached)
    assert bool(silent.results["out"] == sx.RESULTS.source_failed)


@pytest.mark.modes("float32")
def test_a_group_that_ends_early_says_so_in_every_layer(dtype):
    layers = {"busy": sx.Layer(sx.LIF(bias=3.0), 1), "calm": sx.Layer(sx.LIF(), 1)}
    weight = jnp.full((1, 1), 0.1, dtype)
    ends = [("input", "busy"), ("busy", "calm"), ("calm", "busy")]
    network = sx.Network(layers, [sx.Dense(*pair, weight) for pair in ends], 1, "calm")
    solution = sx.simulate(network, one_input(dtype, 1.0), 100.0, max_spikes=2, throw=False)
    assert solution.stats["calm"].method == "EventQueue"
    assert bool(solution.results["busy"] == sx.RESULTS.max_spikes_reached)
    assert bool(solution.results["calm"] == sx.RESULTS.source_failed)
    assert bool(solution.result == sx.RESULTS.max_spikes_reached)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("inner, neuron", [(None, sx.LIF()), (None, sx.QIF()), (0.1, sx.LIF()), (0.1, sx.QIF())])
def test_derivatives_that_are_refused(inner, neuron, dtype):
    network = wired(neuron, inner, dtype)
    inputs = sx.Spikes(jnp.asarray([[1.0], [2.0]], dtype))

    def first(weight, adjoint=None):
        moved = eqx.tree_at(lambda n: n.connections[0].weight, network, weight)
        return finite_sum(sx.first_spike(moved(inputs, 20.0, max_spikes=16, adjoint=adjoint)), 1.0)

    weight = network.connections[0].weight
    with pytest.raises(TypeError, match=r"pass `adjoint=sx.ForwardMode\(\)` to `sx.simulate`"):
        jax.jacfwd(first)(weight)
    forward = functools.partial(first, adjoint=sx.ForwardMode())
    for derivative in (jax.grad(forward), jax.grad(lambda w: jnp.sum(jax.grad(first)(w)))):
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not work for lax.while_loop"):
            derivative(weight)


@pytest.mark.modes("float32")
def test_second_derivatives_by_the_continuous_adjoint_are_refused(dtype):
    network = wired(sx.QIF(), None, dtype)
    inputs = sx.Spikes(jnp.asarray([[1.0], [2.0]], dtype))

    def first(weight):
        moved = eqx.tree_at(lambda n: n.connections[0].weight, network, weight)
        return finite_sum(sx.first_spike(moved(inputs, 20.0, max_spikes=16, adjoint=sx.EventPropAdjoint())), 1.0)

    with pytest.raises(RuntimeError, match="filter_custom_vjp"):
        jax.hessian(first)(network.connections[0].weight)


@pytest.mark.slow
def test_several_devices():
    """In a process of its own, as the number of devices is fixed when JAX starts."""
    script = pathlib.Path(__file__).parent / "on_devices.py"
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
