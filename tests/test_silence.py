"""Silent neurons: how many there are, and what makes them spike."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax import silence

from .helpers import random_inputs, single_layer, worst_derivative


INF = float("inf")


def test_activity(dtype):
    times = jnp.asarray([[[1.0, INF, INF], [1.0, 2.0, 3.0]], [[INF, INF, INF], [1.0, 2.0, INF]]], dtype)
    solution = sx.Solution({"a": sx.Spikes(times)}, {}, {}, {}, None, sx.RESULTS.successful, {}, {})
    measures = silence.activity(solution, burst=2)["a"]._asdict()
    assert list(measures) == ["silent", "bursting", "spikes"]
    np.testing.assert_allclose(measures["silent"], [0.0, 0.5])
    np.testing.assert_allclose(measures["bursting"], [0.5, 0.0])
    np.testing.assert_allclose(measures["spikes"], [2.0, 1.0])
    assert {leaf.dtype for leaf in measures.values()} == {dtype}


def test_spike_conditions_are_those_of_each_neuron(dtype):
    rng = np.random.default_rng(0)
    v = jnp.asarray(rng.normal(size=(2, 3, 4)), dtype)
    thresholds = jnp.asarray([1.0, 2.0, 3.0, 4.0], dtype)
    ts = jnp.arange(3.0, dtype=dtype)
    layer = sx.Layer(sx.LIF(v_threshold=thresholds), 4)
    conditions = silence.spike_conditions(layer, ts, sx.LIFState(v))
    np.testing.assert_allclose(conditions, v - thresholds[None, None], rtol=1e-6)
    assert conditions.dtype == dtype
    of_one = silence.spike_conditions(layer, ts, sx.LIFState(v[0]))
    np.testing.assert_allclose(of_one, v[0] - thresholds[None], rtol=1e-6)
    # In its refractory period a neuron is far from a spike, whatever its voltage is.
    rests = jnp.asarray(rng.integers(0, 2, v.shape), dtype)
    states = sx.RefractoryState(sx.LIFState(v), rests=rests, ready_at=jnp.zeros_like(v), held=())
    conditions = silence.spike_conditions(sx.Layer(sx.Refractory(sx.LIF()), 4), ts, states)
    np.testing.assert_allclose(conditions, jnp.where(rests > 0, -1.0, v - 1.0), rtol=1e-6)


@pytest.mark.float64
def test_the_gradient_of_the_peak_lifts_silent_neurons():
    rng = np.random.default_rng(2)
    network = single_layer(sx.LIF(v_threshold=jnp.asarray(0.6)), rng.uniform(0.2, 1.0, (4, 5)), jnp.float64)
    inputs, ts = random_inputs(3, (2, 4, 2), 20.0, jnp.float64), jnp.linspace(0.0, 30.0, 31)
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def lift(arrays):
        network = eqx.combine(arrays, rest)
        solution = sx.simulate(network, inputs, 30.0, saveat=ts)
        conditions = silence.spike_conditions(network.layers["output"], ts, solution.states["output"])
        spikes = solution.spikes["output"]
        return jnp.sum(sx.losses.silent_peak(conditions, spikes)), spikes.count

    def value_count_grad(arrays):
        (value, count), gradient = lift(arrays)
        return value, count, gradient

    value, count, gradient = value_count_grad(arrays)
    assert 0 < int(jnp.sum(count > 0)) < count.size and value > 0
    assert bool(jnp.all(gradient.connections[0].weight <= 0.0)) and bool(jnp.any(gradient.connections[0].weight < 0.0))
    errors = worst_derivative(value_count_grad, arrays)
    assert max(errors.values()) < 1e-6, errors


def test_pseudospikes_continue_the_spike_condition_at_a_constant_rate(dtype):
    layer = sx.Layer(sx.LIF(v_threshold=jnp.asarray([1.0, 2.0, 3.0], dtype)), 3)
    states = sx.LIFState(jnp.asarray([[0.5, 0.5, 0.5], [1.0, -1.0, 0.0]], dtype))
    times = silence.pseudospikes(layer, 30.0, states, tau=jnp.asarray([20.0, 10.0, 5.0], dtype))
    np.testing.assert_allclose(times, [[40.0, 45.0, 42.5], [30.0, 60.0, 45.0]], rtol=1e-6)
    assert times.dtype == dtype


def test_a_negative_tau_is_an_error_under_jit(dtype):
    layer, states = sx.Layer(sx.LIF(), 1), sx.LIFState(jnp.zeros(1, dtype))
    time = eqx.filter_jit(lambda tau: silence.pseudospikes(layer, 30.0, states, tau=tau))
    with pytest.raises(RuntimeError, match="`tau` must be positive"):
        jax.block_until_ready(time(jnp.asarray(-1.0, dtype)))


T1, TAU = 30.0, 10.0
NEURONS = {
    "LIF": (sx.LIF(jnp.asarray([TAU])), 5.0),
    "QIF": (sx.QIF(tau_mem=jnp.asarray([TAU])), 14.0),
    "EIF": (sx.EIF(tau_mem=jnp.asarray([TAU])), 6.0),
    "EGRU": (sx.EGRU(tau_mem=jnp.asarray([TAU])), {"u": 0.0, "r": 0.0, "z": 8.0}),
}


@pytest.fixture(scope="module", params=NEURONS)
def answering(request):
    """The first spikes or pseudospikes of a neuron whose input comes at a time of its own in each sample."""
    neuron, weight = NEURONS[request.param]
    network = single_layer(neuron, jax.tree.map(lambda w: np.asarray([[w]]), weight), jnp.float64)
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def answer(arrays):
        network, inputs = eqx.combine(arrays[0], rest), arrays[1]
        solution = sx.simulate(network, inputs, T1, max_spikes=4)
        pseudo = silence.pseudospikes(network.layers["output"], T1, solution.end.states["output"], tau=TAU)
        times = silence.with_pseudospikes(sx.first_spike(solution.spikes["output"]), pseudo)
        return jnp.sum(times * jnp.linspace(0.5, 1.5, times.size)[:, None]), (times, solution.spikes["output"].count)

    return answer, arrays, request.param


@pytest.mark.float64
def test_with_pseudospikes_every_gradient_is_that_of_finite_differences(answering):
    answer, parameters, _ = answering

    def value_count_grad(arrays):
        (value, (_, count)), gradient = answer(arrays)
        return value, count, gradient

    arrays = parameters, sx.Spikes(jnp.asarray([3.0, 9.0, 14.0, 18.0, 22.0, 27.0])[:, None, None])
    _, count, gradient = value_count_grad(arrays)
    assert 0 < int(jnp.sum(count > 0)) < 6
    assert bool(jnp.all(jnp.abs(gradient[1].times) > 1e-3))
    errors = worst_derivative(value_count_grad, arrays)
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.float64
def test_a_spike_that_moves_past_the_end_becomes_a_pseudospike(answering):
    """Its time is continuous. For QIF neurons, the derivative is, too."""
    answer, parameters, neuron = answering

    def respond(arrivals):
        (_, (times, count)), gradient = answer((parameters, sx.Spikes(jnp.asarray(arrivals)[:, None, None])))
        return times[:, 0], count[:, 0] > 0, gradient[1].times[:, 0, 0] / jnp.linspace(0.5, 1.5, 6)

    early, late = 3.0, 27.0
    for _ in range(12):  # closes in on the arrival at which the spike leaves
        arrivals = np.linspace(early, late, 6)
        times, spikes, slopes = respond(arrivals)
        number = int(np.argmin(spikes))
        early, late = arrivals[number - 1], arrivals[number]
    assert late - early < 1e-6 and bool(spikes[0]) and not bool(spikes[-1])
    np.testing.assert_allclose(times, T1, atol=1e-5)
    assert bool(jnp.all(slopes > 0.0))
    if neuron == "QIF":
        np.testing.assert_allclose(slopes, slopes[0], rtol=1e-4)


@pytest.mark.float64
def test_fluctuation_driven_weights_give_the_membrane_its_statistics():
    n, rate, duration = 60, 0.02, 600.0
    rng = np.random.default_rng(0)
    times = [[np.sort(rng.uniform(0.0, duration, rng.poisson(rate * duration))) for _ in range(n)] for _ in range(2)]
    longest = max(len(train) for sample in times for train in sample)
    padded = [[np.pad(train, (0, longest - len(train)), constant_values=INF) for train in sample] for sample in times]
    draw = sx.init.fluctuation_driven(rate, tau_mem=10.0, tau_syn=5.0, mean=0.4, std=0.3)
    layer = sx.Layer(sx.LI(tau_mem=10.0, synapse=sx.ExpSynapse(5.0)), 100, weights=draw)
    network = sx.sequential(n, layer, key=jax.random.key(0))
    v = sx.simulate(network, sx.Spikes(padded), duration, saveat=jnp.linspace(100.0, duration, 201)).states["output"].v
    np.testing.assert_allclose(jnp.mean(v), 0.4, atol=0.05)
    variance = jnp.mean(jnp.var(v, axis=1))
    np.testing.assert_allclose(jnp.sqrt(variance), 0.3, rtol=0.1)


@pytest.mark.float64
def test_fluctuation_driven_weights_have_the_moments_of_the_theory():
    draw = sx.init.fluctuation_driven(0.01, tau_mem=20.0, tau_syn=5.0, mean=0.5, std=1.0)
    weights = draw(jax.random.key(0), (100, 1000))
    np.testing.assert_allclose(jnp.mean(weights), 0.5 / 5.0, atol=0.02)
    # n nu (mean^2 + std^2) tau_syn^2 / 2 (tau_mem + tau_syn) = 1
    np.testing.assert_allclose(jnp.mean(weights**2), 2.0, rtol=0.02)
    with pytest.raises(ValueError, match="`std` must be at least .* for 4 inputs"):
        sx.init.fluctuation_driven(0.01, tau_mem=20.0, tau_syn=5.0, mean=0.5, std=0.1)(jax.random.key(0), (4, 3))


def fractions(network, inputs, t1, **options):
    spikes = sx.simulate(network, inputs, t1, **options).spikes
    return {name: float(jnp.mean(train.count > 0)) for name, train in spikes.items()}


@pytest.fixture(scope="module")
def silent(dtype):
    """A deep network whose weights are far too small: some with signs, some absent."""
    rng = np.random.default_rng(0)
    signs = np.where(np.arange(5) < 4, 1, -1)[:, None]
    signed = sx.Signed(jnp.asarray(signs * rng.uniform(0.001, 0.02, (5, 20)), dtype), signs)
    masked = sx.Masked(signed, jnp.asarray(rng.uniform(size=(5, 20)) < 0.8))
    layers = [
        sx.Layer(sx.LIF(), 20, weights=masked, name="a"),
        sx.Layer(sx.LIF(), 10, weights=jnp.asarray(rng.normal(0.02, 0.02, (20, 10)), dtype), name="b"),
    ]
    return sx.sequential(5, *layers, key=jax.random.key(0)), random_inputs(1, (8, 5, 2), 20.0, dtype)


@pytest.mark.modes("mixed")
def test_calibrated_layers_spike_as_often_as_wanted(silent):
    network, inputs = silent
    assert fractions(network, inputs, 30.0) == {"a": 0.0, "b": 0.0}
    found = silence.calibrated(network, inputs, 30.0, fraction={"a": 0.6, "b": 0.4}, tolerance=0.03)
    reached = fractions(found, inputs, 30.0)
    assert abs(reached["a"] - 0.6) <= 0.03 and abs(reached["b"] - 0.4) <= 0.03
    assert jax.tree.structure(found) == jax.tree.structure(network)
    for before, after in zip(network.connections, found.connections, strict=True):
        old, new = (connection.weight for connection in (before, after))
        old, new = (weight.value if isinstance(weight, sx.Masked) else weight for weight in (old, new))
        factor = jnp.sum(new) / jnp.sum(old)
        assert new.dtype == old.dtype
        np.testing.assert_allclose(new, factor * old, rtol=2e-5)
        assert factor > 5.0


@pytest.mark.modes("mixed")
def test_a_fraction_that_no_weight_reaches_is_an_error(silent):
    network, inputs = silent
    nothing = sx.Spikes(jnp.full_like(inputs.times, INF))
    with pytest.raises(
        ValueError, match=r"`fraction` must be within 0.05 .* into `a` can reach; .* Nearest was 0, with"
    ):
        silence.calibrated(network, nothing, 30.0)


@pytest.mark.float64
def test_any_neuron_and_connection_can_be_calibrated():
    rng = np.random.default_rng(0)
    weight = jnp.asarray(rng.uniform(0.001, 0.02, 6))
    network = sx.Network(
        {"a": sx.Layer(sx.QIF(), 4), "b": sx.Layer(sx.LIF(), 4)},
        [
            sx.Dense("input", "a", jnp.asarray(rng.uniform(0.0, 0.1, (3, 4)))),
            sx.Sparse("a", "b", [0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 2, 3], weight, shape=(4, 4), delay=1.0),
        ],
        3,
        "b",
    )
    inputs = random_inputs(1, (6, 3, 2), 20.0, jnp.float64)
    wanted = {"a": 0.8, "b": 0.5}
    found = silence.calibrated(network, inputs, 40.0, fraction=wanted, tolerance=0.1, max_spikes=24)
    reached = fractions(found, inputs, 40.0, max_spikes=24)
    assert all(abs(reached[name] - wanted[name]) <= 0.1 for name in wanted)


class Shifted(sx.AbstractParameter):
    """A parameter in a form of its own, which does not say how it is scaled."""

    stored: jax.Array

    @property
    def value(self):
        return self.stored + 1.0


def test_a_parameter_says_how_it_is_scaled(silent):
    network, inputs = silent
    np.testing.assert_allclose(sx.Positive(3.0).scaled(2.0).value, 6.0, rtol=1e-6)
    unknown = eqx.tree_at(
        lambda network: network.connections[0].weight, network, Shifted(jnp.zeros((5, 20))), is_leaf=lambda x: x is None
    )
    with pytest.raises(TypeError, match="Shifted, which has no `scaled`"):
        silence.calibrated(unknown, inputs, 30.0)
