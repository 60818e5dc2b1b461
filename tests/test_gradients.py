"""Gradients of spike times, states and drives against finite differences of the same simulation, and closed forms."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import spikax as sx
from spikax._methods.event_loop import simulation

from .helpers import finite_sum, learning, random_inputs, single_layer, worst_derivative


pytestmark = pytest.mark.float64

T1 = 30.0
SAVED = (21.1, 0.0, 5.0, 12.3, T1)
SYNAPSES = {
    "exp": sx.ExpSynapse(5.0),
    "alpha": sx.AlphaSynapse(3.0),
    "delta": sx.DeltaSynapse(),
    "hold": sx.HoldSynapse(),
    "filtered hold": sx.FilteredHoldSynapse(3.0),
    "ports": {"exc": sx.ExpSynapse(4.0), "inh": sx.AlphaSynapse(3.0), "kick": sx.DeltaSynapse()},
}
# Each with the weights, low and high, that let its neurons spike several times with exponential synapses.
NEURONS = {
    "lif": (lambda s: sx.LIF(20.0, 0.05, 1.0, -0.1, 0.1, s), (-1.0, 7.0)),
    "qif": (lambda s: sx.QIF(20.0, 0.1, s), (-5.0, 70.0)),
    "eif": (lambda s: sx.EIF(20.0, 0.05, 1.0, 0.2, 1.6, -0.1, 0.1, s), (-1.0, 7.0)),
}
# An arrival through a delta synapse moves the membrane by its weight, at once.
SCALE = {
    "exp": 1.0,
    "alpha": 0.5,
    "delta": 0.14,
    "hold": 0.2,
    "filtered hold": 0.2,
    "ports": {"exc": 1.0, "inh": -0.1, "kick": 0.015},
}


def case(neuron, synapse, flip=False, n=4, batch=2, seed=1):
    """A network of one layer in which everything learns, input spikes, and initial states."""
    make, (low, high) = NEURONS[neuron]
    rng = np.random.default_rng(seed)
    weight = jax.tree.map(lambda scale: rng.uniform(low, high, (3, n)) * scale, SCALE[synapse])
    model = learning(make(SYNAPSES[synapse]), n, jnp.float64, flip, seed=int(flip))
    state = jax.tree.map(lambda x: x + 0.05 * rng.uniform(size=(batch, n)), make(SYNAPSES[synapse]).initial_state())
    inputs = random_inputs(seed, (batch, 3, 4), 0.8 * T1, jnp.float64, silent=0.1)
    return single_layer(model, weight, jnp.float64), inputs, {"output": state}


def graded(arguments, ts=SAVED, seed=0, t1=T1, **options):
    """A jitted function from the arrays in `arguments` to the value, the spike counts, and the gradient."""
    arrays, static = eqx.partition(arguments, eqx.is_inexact_array)
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal(64)

    def weighted(x):
        """The sum of all entries, each times its own factor."""
        return jnp.sum(x.ravel() * jnp.resize(factors, x.size))

    def value(arrays):
        network, inputs, states = eqx.combine(arrays, static)
        saveat = None if ts is None else jnp.asarray(ts)
        sol = sx.simulate(network, inputs, t1, start=states, saveat=saveat, max_spikes=12, throw=False, **options)
        total = 0.0
        for name, spikes in sol.spikes.items():
            total += finite_sum(spikes.times, jnp.resize(factors, spikes.times.shape))
            if ts is not None:
                total += sum(weighted(jnp.sin(leaf)) for leaf in jax.tree.leaves(sol.states[name]))
                total += sum(weighted(jnp.cos(leaf)) for leaf in jax.tree.leaves(sol.drives[name]))
        return total, [spikes.count for spikes in sol.spikes.values()] + [sol.result == sx.RESULTS.successful]

    @jax.jit
    def function(arrays):
        (result, count), gradient = jax.value_and_grad(value, has_aux=True)(arrays)
        return result, count, gradient

    def flat_count(arrays):
        result, (*counts, success), gradient = function(arrays)
        assert bool(jnp.all(success))
        return result, np.concatenate([np.ravel(count) for count in counts]), gradient

    return flat_count, arrays


def assert_exact(function, arrays, tolerance=1e-6, spikes=2.0, most=3, **differences):
    """The gradient agrees with finite differences, in a simulation with enough spikes."""
    _, count, gradient = function(arrays)
    assert count.mean() >= spikes and count.max() >= most
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))
    errors = worst_derivative(function, arrays, **differences)
    assert max(errors.values()) < tolerance, errors


@pytest.fixture(scope="module")
def lif():
    """The case that several tests share, so that it compiles once."""
    return graded(case("lif", "exp"), method=sx.EventLoop(dt0=0.5))


def test_every_parameter_of_the_shared_case(lif):
    assert_exact(*lif)


@pytest.mark.parametrize(
    "neuron, synapse",
    [
        ("lif", "delta"),
        ("qif", "exp"),
        ("eif", "exp"),
        ("eif", "delta"),
        ("qif", "ports"),
        ("eif", "hold"),
        ("lif", "filtered hold"),
        pytest.param("qif", "hold", marks=pytest.mark.slow),
        pytest.param("lif", "ports", marks=pytest.mark.slow),
        pytest.param("lif", "alpha", marks=pytest.mark.slow),
        pytest.param("qif", "alpha", marks=pytest.mark.slow),
        pytest.param("qif", "delta", marks=pytest.mark.slow),
        pytest.param("eif", "alpha", marks=pytest.mark.slow),
    ],
)
def test_every_parameter(neuron, synapse):
    assert_exact(*graded(case(neuron, synapse), method=sx.EventLoop(dt0=0.5)))


@pytest.mark.parametrize("neuron, synapse", [("lif", "alpha"), ("qif", "exp"), ("eif", "delta")])
def test_every_parameter_in_its_other_shape_with_another_solver(neuron, synapse):
    assert_exact(*graded(case(neuron, synapse, flip=True), method=sx.EventLoop(diffrax.Bosh3(), dt0=0.5)))


def implicit(root_finder):
    return diffrax.Kvaerno3(root_finder=root_finder(rtol=1e-10, atol=1e-12))


@pytest.mark.parametrize(
    "neuron, solver",
    [
        pytest.param("eif", diffrax.Euler(), id="euler"),
        pytest.param("eif", diffrax.Heun(), id="heun", marks=pytest.mark.slow),
        # The chord method leaves what it has not solved in ten iterations to a shorter step: enough where f is linear.
        pytest.param("lif", implicit(diffrax.VeryChord), id="kvaerno3-linear", marks=pytest.mark.slow),
        pytest.param("qif", implicit(optimistix.Newton), id="kvaerno3-nonlinear", marks=pytest.mark.slow),
    ],
)
def test_other_solvers(neuron, solver):
    assert_exact(*graded(case(neuron, "exp"), method=sx.EventLoop(solver, dt0=0.5)))


def test_adaptive_steps():
    # The lengths of the steps are constants for the derivative, but change in the finite difference.
    assert_exact(*graded(case("lif", "exp"), method=sx.EventLoop(rtol=1e-9, atol=1e-9)), tolerance=1e-5)


def test_two_layers():
    bins = [
        learning(make(SYNAPSES[s]), n, jnp.float64)
        for make, s, n in ((NEURONS["lif"][0], "exp", 4), (NEURONS["qif"][0], "alpha", 2))
    ]
    network = sx.sequential(
        3,
        sx.Layer(bins[0], 4, weights=sx.init.uniform(0.0, 7.0)),
        sx.Layer(bins[1], 2, weights=sx.init.uniform(0.0, 20.0)),
        key=jax.random.key(0),
    )
    inputs = random_inputs(3, (2, 3, 4), 0.8 * T1, jnp.float64, silent=0.1)
    assert_exact(*graded((network, inputs, None), method=sx.EventLoop(diffrax.Heun(), dt0=0.5)))


def test_rectangular_spikes():
    """The ends of the spikes move with the duration and the delays, also of a recurrent connection."""
    rng = np.random.default_rng(1)
    arrays = (jnp.asarray(rng.uniform(*bounds)) for bounds in ((0.0, 4.0, (3, 4)), (1.0, 3.0, 3), (-1.0, 0.5, (4, 4))))
    weight, delay, loop = arrays
    connections = [
        sx.Rectangular(sx.Dense("input", "output", weight, delay), jnp.asarray(2.1)),
        sx.Rectangular(sx.Dense("output", "output", loop), jnp.asarray(3.2)),
    ]
    layer = sx.Layer(learning(sx.LIF(10.0, synapse=sx.HoldSynapse()), 4, jnp.float64), 4)
    network = sx.Network({"output": layer}, connections, 3, "output")
    inputs = random_inputs(3, (2, 3, 4), 0.8 * T1, jnp.float64, silent=0.1)
    assert_exact(*graded((network, inputs, None)))


def test_segments(lif):
    """The backward pass runs the segments of a long simulation again, and finds the same gradient."""
    whole, arrays = lif
    parts, _ = graded(case("lif", "exp"), method=sx.EventLoop(dt0=0.5), adjoint=sx.DiscreteAdjoint(memory=1))
    (value, _, gradient), (same_value, _, same_gradient) = whole(arrays), parts(arrays)
    assert float(same_value) == pytest.approx(float(value), rel=1e-13)
    for leaf, converged in zip(jax.tree.leaves(gradient), jax.tree.leaves(same_gradient), strict=True):
        np.testing.assert_allclose(converged, leaf, rtol=1e-12, atol=1e-12)


def test_the_last_units_by_themselves(monkeypatch):
    """As in a large layer: the last one of ten ends in a loop of its own."""
    second, calls = simulation._follow_the_rest, []
    monkeypatch.setattr(simulation, "_LONG", 0)
    monkeypatch.setattr(
        simulation, "_follow_the_rest", lambda plan, *rest: (calls.append(plan.stragglers), second(plan, *rest))[1]
    )
    assert_exact(
        *graded(case("eif", "exp", n=5, batch=2), method=sx.EventLoop(dt0=0.5), adjoint=sx.DiscreteAdjoint(memory=1))
    )
    assert set(calls) == {1}


def test_simultaneous_arrivals(lif):
    function, (network, inputs, states) = lif
    together = jnp.broadcast_to(jnp.asarray([3.0, 7.0, 7.0, 11.0]), inputs.times.shape)
    assert_exact(function, (network, sx.Spikes(together), states), spikes=1.0)


def pulses(times, weights, **parameters):
    """The spike times of one LIF neuron under delta pulses from one channel each."""
    neuron = sx.LIF(synapse=sx.DeltaSynapse(), **parameters)
    network = single_layer(neuron, weights[:, None], jnp.float64)
    return (
        sx.simulate(network, sx.Spikes(times[:, None]), T1, method=sx.EventLoop(dt0=1.0), throw=False)
        .spikes["output"]
        .times[0]
    )


def test_instantaneous_spikes_keep_the_time_of_their_arrival():
    def spikes(times, weights):
        return pulses(times, weights)[:2]

    times, weights = jnp.asarray([3.0, 5.0, 9.0]), jnp.asarray([0.5, 1.0, 1.2])
    found, (by_time, by_weight) = jax.jit(lambda t, w: (spikes(t, w), jax.jacrev(spikes, (0, 1))(t, w)))(times, weights)
    np.testing.assert_array_equal(found, [5.0, 9.0])
    np.testing.assert_array_equal(by_time, [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(by_weight, np.zeros((2, 3)))


def test_the_state_after_an_instantaneous_spike_depends_on_its_arrival():
    """The first pulse sets off a spike and the reset; the bias then carries the neuron to its next spike."""
    bias, reset = 1.5, -0.3

    def second(time, bias, reset):
        return pulses(time[None], jnp.asarray([2.0]), bias=bias, v_reset=reset)[1]

    value, slopes = jax.jit(jax.value_and_grad(second, (0, 1, 2)))(
        jnp.asarray(4.0), jnp.asarray(bias), jnp.asarray(reset)
    )
    assert value == pytest.approx(4.0 + 20.0 * np.log((bias - reset) / (bias - 1.0)), abs=1e-6)
    expected = (1.0, 20.0 * (1.0 / (bias - reset) - 1.0 / (bias - 1.0)), -20.0 / (bias - reset))
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


def test_gradients_of_many_resets_in_closed_form():
    """LIF with constant drive b: the k-th spike is at k tau ln(b / (b - threshold)); each parameter moves them all."""
    rates = np.arange(1.0, 6.0)

    def spikes(bias, tau, threshold):
        neuron = sx.LIF(tau_mem=tau, v_threshold=threshold, bias=bias)
        network = single_layer(neuron, jnp.zeros((1, 1)), jnp.float64)
        silent = sx.Spikes(jnp.full((1, 1), jnp.inf))
        return (
            sx.simulate(network, silent, 80.0, method=sx.EventLoop(rtol=1e-10, atol=1e-10))
            .spikes["output"]
            .times[0, :5]
        )

    values = jnp.asarray(2.0), jnp.asarray(20.0), jnp.asarray(1.0)
    both = jax.jit(lambda *values: (spikes(*values), jax.jacrev(spikes, (0, 1, 2))(*values)))
    found, (by_bias, by_tau, by_threshold) = both(*values)
    np.testing.assert_allclose(found, rates * 20.0 * np.log(2.0), rtol=1e-9)
    np.testing.assert_allclose(by_bias, rates * 20.0 * (1.0 / 2.0 - 1.0 / 1.0), rtol=1e-7)
    np.testing.assert_allclose(by_tau, rates * np.log(2.0), rtol=1e-7)
    np.testing.assert_allclose(by_threshold, rates * 20.0, rtol=1e-7)


def test_transformations_agree():
    """A batch axis without `jit`, `vmap` of the gradient, and the gradient of a `vmap` are the same computation."""
    network, inputs, _ = case("lif", "exp")
    factors = np.random.default_rng(0).standard_normal((4, 12))

    def value(network, times):
        options = {"method": sx.EventLoop(diffrax.Heun(), dt0=0.5), "max_spikes": 12, "throw": False}
        found = sx.simulate(network, sx.Spikes(times), T1, **options).spikes["output"].times
        return finite_sum(found, np.broadcast_to(factors, found.shape))

    arrays, static = eqx.partition(network, eqx.is_array)

    def of(arrays, times):
        return value(eqx.combine(arrays, static), times)

    grad = jax.grad(of, (0, 1))
    by_axis = grad(arrays, inputs.times)
    by_sample = jax.jit(jax.vmap(grad, (None, 0)))(arrays, inputs.times)
    by_sum = jax.jit(jax.grad(lambda a, t: jnp.sum(jax.vmap(of, (None, 0))(a, t)), (0, 1)))(arrays, inputs.times)
    summed = (jax.tree.map(lambda x: jnp.sum(x, axis=0), by_sample[0]), by_sample[1])
    for other in (summed, by_sum):
        for leaf, converged in zip(jax.tree.leaves(by_axis), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(converged, leaf, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_a_batch_of_networks():
    """`vmap` over the weights and all parameters is a loop over networks."""
    network, inputs, _ = case("lif", "exp")
    arrays, static = eqx.partition(network, eqx.is_array)
    several = jax.tree.map(lambda x: jnp.stack([x, 1.01 * x]), arrays)

    def value(arrays):
        net = eqx.combine(arrays, static)
        spikes = sx.simulate(net, inputs, T1, method=sx.EventLoop(dt0=0.5), max_spikes=12, throw=False).spikes["output"]
        return finite_sum(spikes.times, jnp.ones(()))

    together = jax.jit(jax.vmap(jax.grad(value)))(several)
    alone = jax.jit(jax.grad(value))
    for i in range(2):
        expected = alone(jax.tree.map(lambda x, i=i: x[i], several))
        for leaf, converged in zip(jax.tree.leaves(expected), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(converged[i], leaf, rtol=1e-10, atol=1e-10)
