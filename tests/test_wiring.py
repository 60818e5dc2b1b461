"""Connections of every kind, delays, and recurrent groups."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import cast, finite_sum, learning, random_inputs, worst_derivative


T1 = 40.0
N = 5
KEY = jax.random.key(0)
# One network of all connections runs in the mode `mixed`.
pytestmark = pytest.mark.modes("float32", "float64")
exact = pytest.mark.float64


def recurrent(dtype, delay=None, neuron=None, scale=1.0, seed=0):
    """Three inputs, and a recurrent layer."""
    weights = {"weights": sx.init.normal(2.5 * scale, scale)}
    neuron = learning(sx.LIF(bias=0.2), N, dtype) if neuron is None else neuron
    key = jax.random.fold_in(KEY, seed)
    network = sx.recurrent(
        3, sx.Layer(neuron, N, **weights), key=key, weights=sx.init.normal(0.2 * scale, scale), delay=delay
    )
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, network)


def inputs(dtype, until=30.0):
    return random_inputs(0, (2, 3, 4), until, dtype)


def run(network, spikes, **options):
    options = {"max_spikes": 20, "saveat": jnp.asarray([0.0, 7.0, 25.0, T1]), "throw": False} | options
    return sx.simulate(network, spikes, T1, **options)


def assert_same(found, expected, atol, name="output"):
    for solution in (found, expected):
        assert bool(jnp.all(solution.result == sx.RESULTS.successful)), solution
    times, reference = (np.asarray(s.spikes[name].times) for s in (found, expected))
    np.testing.assert_array_equal(np.isfinite(times), np.isfinite(reference))
    np.testing.assert_allclose(times, reference, atol=atol, rtol=0)
    for leaf, other in zip(jax.tree.leaves(found.states[name]), jax.tree.leaves(expected.states[name]), strict=True):
        np.testing.assert_allclose(leaf, other, atol=atol, rtol=0)


def assert_exact(network, spikes, tolerance=1e-6, least=10, **options):
    """The gradient of all spikes and of the states is that of finite differences."""
    arrays, static = eqx.partition((network, spikes), eqx.is_inexact_array)

    def value(arrays):
        solution = run(*eqx.combine(arrays, static), **options)
        total, counts = jnp.zeros(()), []
        for name, trains in solution.spikes.items():
            factors = jnp.resize(jnp.asarray([1.0, -0.7, 0.4, 0.3, 0.9]), trains.times.shape)
            total, counts = total + finite_sum(trains.times, factors), [*counts, trains.count]
            for leaf in jax.tree.leaves(solution.states[name]):
                total = total + jnp.sum(leaf * jnp.resize(jnp.asarray([1.0, 0.5, -0.3]), leaf.shape))
        return total, (jnp.concatenate(counts, axis=-1), solution.result)

    graded = jax.jit(jax.value_and_grad(value, has_aux=True))

    def value_grad_count(arrays):
        (total, (count, result)), gradient = graded(arrays)
        assert bool(jnp.all(result == sx.RESULTS.successful))
        return total, np.asarray(count), gradient

    assert value_grad_count(arrays)[1].sum() >= least
    errors = worst_derivative(value_grad_count, arrays, steps=(1e-5, 1e-6))
    assert max(errors.values()) < tolerance, errors


# Two layers that receive from each other, the inputs, and themselves, with connections of every kind.
def mixed(dtype, share=1.0):
    rng = np.random.default_rng(3)

    def array(*shape, low=-1.0, high=1.0):
        return jnp.asarray(rng.uniform(low, high, shape), dtype)

    layers = {
        "a": sx.Layer(learning(sx.LIF(bias=0.2), 4, dtype), 4),
        "b": sx.Layer(learning(sx.QIF(), 4, dtype), 4),
        "c": sx.Layer(learning(sx.LIF(), 2, dtype), 2),
    }
    connections = [
        sx.Dense("input", "a", array(3, 4, low=1.0, high=4.0), sx.Positive(array(3, low=0.1, high=2.0))),
        sx.Dense("input", "b", array(3, 4, low=5.0, high=12.0)),
        sx.Dense("a", "b", 4.0 * share * array(4, 4), sx.Positive(array(4, 4, low=0.5, high=3.0))),
        sx.OneToOne("b", "a", share * array(4), sx.Positive(array(4, low=0.5, high=3.0))),
        sx.Sparse(
            "a", "a", [0, 1, 3, 3], [1, 2, 0, 2], share * array(4), shape=(4, 4), delay=array(4, low=1.0, high=2.0)
        ),
        sx.Sparse("a", "c", [0, 1, 2, 3, 1], [0, 0, 0, 1, 1], array(5, low=0.5, high=2.0), shape=(4, 2)),
    ]
    return sx.Network(layers, connections, 3, ["a", "c"])


@pytest.mark.modes("mixed")
def test_a_network_of_all_connections(dtype, accurate):
    """Outputs by name; the methods and windows that were chosen; and no dependence on the windows."""
    network = mixed(dtype)
    assert network.groups() == (("a", "b"), ("c",))
    found = run(network, inputs(dtype))
    assert set(network(inputs(dtype), T1, max_spikes=20)) == {"a", "c"}
    assert [found.stats[name].method for name in "abc"] == ["Windows(ClosedForm)", "Windows(EventLoop)", "ClosedForm"]
    assert found.stats["a"].windows == found.stats["b"].windows > 1
    assert found.stats["c"].windows == int(found.stats["c"].sweeps) == 1
    assert int(found.stats["a"].max_spike_count.min()) > 1
    other = run(network, inputs(dtype), method=sx.Windows(3))
    for name in "abc":
        assert_same(other, found, accurate, name)


@exact
@pytest.mark.slow
def test_gradients_of_a_network_of_all_connections():
    assert_exact(mixed(jnp.float64), inputs(jnp.float64), method=sx.Windows(6, sx.EventLoop(dt0=0.5)), least=30)


@exact
@pytest.mark.parametrize("shape", [(N,), (N, N)], ids=["each neuron's", "each synapse's"])
def test_gradients_of_a_layer_with_delays(shape):
    rng = np.random.default_rng(1)
    delay = sx.Positive(jnp.asarray(rng.uniform(0.5, 4.0, shape)))
    assert_exact(recurrent(jnp.float64, delay), inputs(jnp.float64), least=50)


@exact
def test_gradients_of_delayed_neurons_with_a_matrix_exponential():
    """Their additional knots lie between the arrivals."""
    rng = np.random.default_rng(1)
    weights = (jnp.asarray(rng.uniform(*bounds, (3, 2))) for bounds in ((1.0, 4.0), (0.5, 4.0)))
    network = sx.Network(
        {"output": sx.Layer(sx.ALIF(bias=0.2), 2)}, [sx.Dense("input", "output", *weights)], 3, "output"
    )
    assert_exact(network, inputs(jnp.float64), least=6, method=sx.Windows(3))


@exact
@pytest.mark.slow
def test_gradients_of_a_layer_without_delays_by_sweeps():
    assert_exact(recurrent(jnp.float64), inputs(jnp.float64), least=50, method=sx.Windows(6, sx.ClosedForm()))


# Two layers that receive from each other without delay, and one of them from itself.
def at_once(dtype):
    rng = np.random.default_rng(6)

    def array(*shape, low=-1.0, high=1.0):
        return jnp.asarray(rng.uniform(low, high, shape), dtype)

    layers = {
        "a": sx.Layer(learning(sx.LIF(bias=0.2), 4, dtype), 4),
        "b": sx.Layer(learning(sx.LIF(15.0, v_reset=-0.3), 3, dtype, flip=True), 3),
    }
    connections = [
        sx.Dense("input", "a", array(3, 4, low=1.0, high=4.0), sx.Positive(array(3, low=0.1, high=2.0))),
        sx.Dense("input", "b", array(3, 3, low=1.0, high=3.0)),
        sx.Dense("a", "b", array(4, 3)),
        sx.OneToOne("a", "a", array(4)),
        sx.Sparse("b", "a", [0, 1, 2, 2], [1, 3, 0, 2], array(4), shape=(3, 4)),
    ]
    return sx.Network(layers, connections, 3, ["b"])


@exact
def test_gradients_with_the_event_queue():
    network = at_once(jnp.float64)
    found = run(network, inputs(jnp.float64))
    assert found.stats["a"].method == found.stats["b"].method == "EventQueue"
    assert_exact(network, inputs(jnp.float64), least=50)


def drawn(rng, shape, bounds):
    """Random weights of a shape between bounds, for each port if there are several."""
    draw = lambda low_high: jnp.asarray(rng.uniform(*low_high, shape))  # noqa: E731
    return jax.tree.map(draw, bounds, is_leaf=lambda node: isinstance(node, tuple))


# Linear neurons of all kinds, each with the low and high weights of its inputs and of its own spikes, of each port.
QUEUED = {
    "adaptive": (sx.ALIF(bias=0.2), (1.0, 4.0), (-0.5, 1.0)),
    "ports": (
        sx.LIF(bias=0.2, synapse={"exc": sx.ExpSynapse(4.0), "inh": sx.AlphaSynapse(3.0)}),
        {"exc": (1.0, 4.0), "inh": (-0.5, 0.0)},
        {"exc": (0.0, 1.0), "inh": (-1.0, 0.0)},
    ),
    "oscillating": (sx.ResonateAndFire(), (1.0, 6.0), (-1.0, 2.0)),
}


def queued(name):
    """Two layers that receive from each other, and one of them from itself; parameters of one value per neuron."""
    neuron, *bounds = QUEUED[name]
    rng = np.random.default_rng(3)

    inputs, inner = bounds
    connections = [
        sx.Dense("input", "a", drawn(rng, (3, 4), inputs)),
        sx.Dense("a", "a", drawn(rng, (4, 4), inner)),
        sx.Dense("a", "b", drawn(rng, (4, 3), inner)),
        sx.Dense("b", "a", drawn(rng, (3, 4), inner)),
        sx.Dense("input", "b", drawn(rng, (3, 3), inputs)),
    ]
    layers = {"a": sx.Layer(learning(neuron, 4, jnp.float64), 4), "b": sx.Layer(neuron, 3)}
    return sx.Network(layers, connections, 3, ["a", "b"])


@exact
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "oscillating" else n for n in QUEUED])
def test_the_event_queue_finds_the_spikes_of_all_linear_neurons(name):
    network, spikes = queued(name), inputs(jnp.float64)
    found = run(network, spikes)
    assert {stats.method for stats in found.stats.values()} == {"EventQueue"}
    assert min(int(stats.spikes.min()) for stats in found.stats.values()) >= 4
    other = run(network, spikes, method=sx.Windows(8, sx.ClosedForm()))
    # Also where the search for a spike has larger rounding errors than its time.
    assert int(other.stats["a"].sweeps) < 100
    for layer in network.layers:
        assert_same(found, other, 1e-9, layer)


@exact
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n != "adaptive" else n for n in QUEUED])
def test_gradients_of_all_linear_neurons_with_the_event_queue(name):
    assert_exact(queued(name), inputs(jnp.float64), least=10)


@pytest.mark.modes("float64")
def test_the_event_queue_ends_at_the_first_spikes(dtype, accurate):
    network, spikes = at_once(dtype), inputs(dtype)
    whole = run(network, spikes, saveat=None)
    for options in ({}, {"method": sx.Windows(8)}):
        found = run(network, spikes, saveat=None, until=sx.FirstSpikes(), **options)
        first, expected = (sx.first_spike(s.spikes["b"]) for s in (found, whole))
        assert bool(jnp.all(jnp.isfinite(expected)))
        np.testing.assert_allclose(first, expected, atol=accurate)
        assert int(jnp.sum(found.stats["a"].spikes)) < int(jnp.sum(whole.stats["a"].spikes))


@exact
def test_a_layer_that_shares_a_clock_ends_at_the_first_spikes():
    network = recurrent(jnp.float64, neuron=sx.QIF(bias=0.2), scale=4.0)
    whole = run(network, inputs(jnp.float64), saveat=None)
    found = run(network, inputs(jnp.float64), saveat=None, until=sx.FirstSpikes())
    assert found.stats["output"].method == "EventLoop"
    first, expected = (sx.first_spike(solution.spikes["output"]) for solution in (found, whole))
    np.testing.assert_allclose(first, expected, atol=1e-12, rtol=0)
    assert int(jnp.sum(found.stats["output"].spikes)) < int(jnp.sum(whole.stats["output"].spikes))


def test_a_recurrent_layer_with_bins_has_bins(dtype):
    """They are not ignored: the neurons do not share a clock."""
    network = recurrent(dtype, neuron=sx.QIF(bias=0.2), scale=4.0)
    shapes = eqx.filter_eval_shape(run, network, inputs(dtype), method=sx.EventLoop(bin=0.5))
    assert shapes.stats["output"].method == "Windows(EventLoop)"


def test_the_event_queue_with_neurons_that_spike_together(dtype, accurate):
    """Neurons that are the same, and excite each other, spike at the same instants, as often as by sweeps."""
    weight = jnp.full((N, N), 0.3, dtype)
    connections = [sx.Dense("input", "output", jnp.full((3, N), 2.0, dtype)), sx.Dense("output", "output", weight)]
    network = sx.Network({"output": sx.Layer(sx.LIF(bias=0.2), N)}, connections, 3, "output")
    found = run(network, inputs(dtype))
    times = found.spikes["output"].times
    assert int(found.stats["output"].max_spike_count.min()) >= 5
    np.testing.assert_array_equal(times, jnp.broadcast_to(times[:, :1], times.shape))
    assert_same(found, run(network, inputs(dtype), method=sx.Windows(4, sx.ClosedForm())), accurate)


def test_the_event_queue_reports_too_many_spikes(dtype):
    """Only of the sample in which a neuron spikes too often; the other keeps its values."""
    network, spikes = recurrent(dtype), inputs(dtype)
    spikes = sx.Spikes(spikes.times.at[0, 1:].set(jnp.inf))
    expected = run(network, spikes)
    few = int(expected.stats["output"].max_spike_count[0])
    assert 0 < few < int(expected.stats["output"].max_spike_count[1])
    found = run(network, spikes, max_spikes=few)
    np.testing.assert_array_equal(found.result == sx.RESULTS.max_spikes_reached, [False, True])
    np.testing.assert_array_equal(found.spikes["output"].times[0], expected.spikes["output"].times[0, :, :few])
    np.testing.assert_array_equal(found.states["output"].v[0], expected.states["output"].v[0])


@exact
@pytest.mark.parametrize(
    "delay, method",
    [
        pytest.param(None, sx.EventLoop(dt0=0.5), id="shared clock"),
        pytest.param(None, sx.Windows(8, sx.EventLoop(dt0=0.5)), id="sweeps", marks=pytest.mark.slow),
        pytest.param(1.5, sx.Windows(8, sx.EventLoop(dt0=0.5)), id="delay"),
    ],
)
def test_gradients_of_a_recurrent_layer_in_the_event_loop(delay, method):
    network = recurrent(jnp.float64, delay, learning(sx.QIF(), N, jnp.float64), scale=4.0)
    assert_exact(network, inputs(jnp.float64), method=method)


PORTS = {"exc": sx.ExpSynapse(4.0), "inh": sx.AlphaSynapse(3.0)}
# Each with the low and high weights of its inputs and of its own spikes, of each port.
SHARING_A_CLOCK = {
    "qif": (sx.QIF(bias=0.2), (5.0, 30.0), (-8.0, 12.0)),
    "gated": (sx.EGRU(), dict.fromkeys("urz", (-2.0, 6.0)), dict.fromkeys("urz", (-3.0, 3.0))),
    "ports": (
        sx.EIF(bias=0.2, synapse=PORTS),
        {"exc": (1.0, 3.0), "inh": (-0.3, 0.0)},
        dict.fromkeys(PORTS, (0.0, 0.3)),
    ),
    "refractory": (sx.Refractory(sx.LIF(bias=0.2), 2.0), (1.0, 3.0), (-0.2, 0.4)),
}


@exact
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name != "gated" else name for name in SHARING_A_CLOCK]
)
def test_a_layer_that_shares_a_clock_spikes_as_by_sweeps(name):
    """Steps that are limited by the neuron that needs the shortest ones, against steps of each neuron."""
    neuron, *bounds = SHARING_A_CLOCK[name]
    rng = np.random.default_rng(3)

    connections = [
        sx.Dense("input", "output", drawn(rng, (3, 5), bounds[0])),
        sx.Dense("output", "output", drawn(rng, (5, 5), bounds[1])),
    ]
    network, spikes = sx.Network({"output": sx.Layer(neuron, 5)}, connections, 3, "output"), inputs(jnp.float64)
    found = run(network, spikes)
    assert found.stats["output"].method == "EventLoop" and int(found.stats["output"].spikes.min()) >= 5
    assert_same(found, run(network, spikes, method=sx.Windows(20, sx.EventLoop())), 1e-6)


def populations(name):
    """Two populations of one kind of neuron, with other parameters, of which each receives from both."""
    neuron, outer, inner = SHARING_A_CLOCK[name]
    rng = np.random.default_rng(3)
    layers = {"a": sx.Layer(learning(neuron, 3, jnp.float64), 3), "b": sx.Layer(neuron, 2)}
    connections = [
        sx.Dense(source, target, drawn(rng, (n, layers[target].size), bounds))
        for source, n, bounds in (("input", 3, outer), ("a", 3, inner), ("b", 2, inner))
        for target in layers
    ]
    return sx.Network(layers, connections, 3, list(layers))


@exact
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name != "ports" else name for name in SHARING_A_CLOCK]
)
def test_populations_that_share_a_clock_spike_as_by_sweeps(name):
    network, spikes = populations(name), inputs(jnp.float64)
    ts = {"a": jnp.asarray([7.0, T1]), "b": jnp.asarray([3.0, 9.0, 25.0])}
    found = run(network, spikes, saveat=ts)
    assert {stats.method for stats in found.stats.values()} == {"EventLoop"}
    assert min(int(stats.spikes.min()) for stats in found.stats.values()) >= 4
    other = run(network, spikes, saveat=ts, method=sx.Windows(20, sx.EventLoop()))
    for name in network.layers:
        assert_same(found, other, 1e-6, name)


@exact
def test_gradients_of_populations_that_share_a_clock():
    """An input that reaches both arrives once."""
    assert_exact(populations("qif"), inputs(jnp.float64), method=sx.EventLoop(dt0=0.5))


@exact
def test_layers_that_share_a_clock_end_with_the_last_of_them():
    """With `until`, a layer and those before it are one unit if most neurons share a clock anyway."""
    neuron = sx.QIF(bias=0.2)
    layers = (
        sx.Layer(neuron, N, weights=sx.init.normal(10.0, 4.0)),
        sx.Layer(sx.QIF(tau_mem=9.0, bias=0.3), 2, weights=sx.init.normal(6.0, 1.0)),
    )
    network = sx.recurrent(3, *layers, key=KEY, weights=sx.init.normal(0.8, 4.0))
    network = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, network)
    whole = run(network, inputs(jnp.float64), saveat=None)
    found = run(network, inputs(jnp.float64), saveat=None, until=sx.FirstSpikes())
    assert {stats.method for stats in found.stats.values()} == {"EventLoop"}
    assert int(found.stats["hidden"].iterations) == int(found.stats["output"].iterations)
    first, expected = (sx.first_spike(solution.spikes["output"]) for solution in (found, whole))
    assert bool(jnp.all(jnp.isfinite(expected)))
    np.testing.assert_allclose(first, expected, atol=1e-7, rtol=0)
    assert int(jnp.sum(found.stats["hidden"].spikes)) < int(jnp.sum(whole.stats["hidden"].spikes))
    # A hidden neuron that spikes too often after the last output spike is no failure.
    most = int(jnp.max(found.stats["hidden"].max_spike_count))
    assert most < int(jnp.max(whole.stats["hidden"].max_spike_count))
    short = run(network, inputs(jnp.float64), saveat=None, until=sx.FirstSpikes(), max_spikes=most)
    assert bool(jnp.all(short.result == sx.RESULTS.successful))


def test_linear_layers_end_with_the_last_of_them_in_the_event_queue(dtype, accurate):
    """They are not left to the steps of a solver."""
    layers = (sx.Layer(sx.LIF(bias=0.2), n, weights=sx.init.normal(w, 0.5)) for n, w in ((N, 2.5), (2, 1.5)))
    network = sx.recurrent(3, *layers, key=KEY, weights=sx.init.normal(0.2, 0.5))
    network = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, network)
    whole = run(network, inputs(dtype), saveat=None)
    found = run(network, inputs(dtype), saveat=None, until=sx.FirstSpikes())
    assert {stats.method for stats in found.stats.values()} == {"EventQueue"}
    first, expected = (sx.first_spike(solution.spikes["output"]) for solution in (found, whole))
    assert bool(jnp.all(jnp.isfinite(expected)))
    np.testing.assert_allclose(first, expected, atol=accurate)


@pytest.mark.float64
def test_a_given_method_ends_the_whole_network_with_its_outputs():
    """A choice of tolerances does not change which layers are simulated together."""
    layers = (sx.Layer(sx.QIF(bias=0.3), n, weights=sx.init.normal(w, 2.0)) for n, w in ((N, 12.0), (2, 9.0)))
    network = sx.recurrent(3, *layers, key=KEY, weights=sx.init.normal(0.5, 0.5))
    network = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, network)
    method = sx.EventLoop(rtol=1e-8)
    whole = run(network, inputs(jnp.float64), saveat=None, method=method)
    found = run(network, inputs(jnp.float64), saveat=None, method=method, until=sx.FirstSpikes())
    assert int(jnp.sum(found.stats["hidden"].spikes)) < int(jnp.sum(whole.stats["hidden"].spikes))
    first, expected = (sx.first_spike(solution.spikes["output"]) for solution in (found, whole))
    assert bool(jnp.all(jnp.isfinite(expected)))
    np.testing.assert_allclose(first, expected, atol=1e-5)


@pytest.mark.modes("float32")
def test_a_search_on_a_shared_clock_takes_two_trials(dtype):
    """The first shows the crossing, and the second is at it. What others do after it is not searched."""
    rng = np.random.default_rng(0)
    outer, inner = (jnp.asarray(rng.uniform(0.0, 40.0, (n, 20)), dtype) for n in (1, 20))
    connections = [sx.Dense("input", "layer", outer), sx.Dense("layer", "layer", inner)]
    network = sx.Network({"layer": sx.Layer(sx.QIF(), 20)}, connections, 1, "layer")
    spikes = sx.Spikes(jnp.arange(4.0, dtype=dtype)[:, None, None])
    stats = sx.simulate(network, spikes, 10.0, max_spikes=16, method=sx.EventLoop(dt0=0.5)).stats["layer"]
    assert int(jnp.sum(stats.spikes)) > 40
    assert int(jnp.sum(stats.rejected_steps)) < 1.2 * int(jnp.sum(stats.spikes))


def test_a_delay_of_zero_is_none(dtype):
    expected = run(recurrent(dtype), inputs(dtype))
    for delay in (0.0, jnp.zeros(N, dtype)):
        found = run(recurrent(dtype, delay), inputs(dtype))
        assert found.stats["output"].method == "EventQueue"
        np.testing.assert_array_equal(found.spikes["output"].times, expected.spikes["output"].times)


@exact
@pytest.mark.parametrize("delay", [None, 2.0])
def test_windows_and_methods_agree(delay, dtype, accurate):
    network, spikes = recurrent(dtype, delay), inputs(dtype)
    expected = run(network, spikes)
    assert expected.stats["output"].method == ("EventQueue" if delay is None else "Windows(ClosedForm)")
    assert int(expected.stats["output"].max_spike_count.min()) >= 5
    for windows in (7,) if delay is None else (1, 40):
        found = run(network, spikes, method=sx.Windows(windows, sx.ClosedForm()))
        assert_same(found, expected, accurate)
        if delay == 2.0 and windows == 40:
            # No spike arrives in its own window.
            assert int(found.stats["output"].sweeps) == windows
    assert_same(run(network, spikes, method=sx.Windows(7, sx.EventLoop())), expected, 5.0 * accurate)


@pytest.mark.modes("float64")
def test_a_chain_of_layers_is_a_recurrent_group_without_its_loop(dtype, close):
    """A loop of weight zero makes a group of two layers, which then emit what they emit one after the other."""
    rng = np.random.default_rng(2)
    weights = [jnp.asarray(rng.uniform(*bounds), dtype) for bounds in ((1.0, 3.0, (3, 4)), (0.3, 1.5, (4, 2)))]
    layers = {"a": sx.Layer(sx.LIF(), 4), "b": sx.Layer(sx.LIF(), 2)}
    chain = [sx.Dense("input", "a", weights[0]), sx.Dense("a", "b", weights[1])]
    loop = sx.Dense("b", "a", jnp.zeros((2, 4), dtype))
    expected = run(sx.Network(layers, chain, 3, "b"), inputs(dtype))
    assert int(expected.stats["b"].spikes.min()) > 0
    windows = {"Windows(EventQueue)": sx.Windows(8), "Windows(ClosedForm)": sx.Windows(8, sx.ClosedForm())}
    for name, method in {"EventQueue": None, **windows}.items():
        found = run(sx.Network(layers, [*chain, loop], 3, "b"), inputs(dtype), method=method)
        assert found.stats["b"].method == name
        assert_same(found, expected, 40.0 * close, "b")


def test_delays_within_layers_and_between_them():
    layers = (
        sx.Layer(sx.LIF(), 4, weights=sx.init.normal(1.0, 1.0)),
        sx.Layer(sx.LI(), 2, weights=sx.init.constant(1.0)),
    )
    given = {"key": KEY, "delay": [sx.init.uniform(1.0, 3.0), None]}
    chain = sx.sequential(3, *layers, **given)
    own = {"weights": sx.init.constant(0.1), "delay": 2.0, "forward_delay": given["delay"]}
    network = sx.recurrent(3, *layers, key=KEY, **own)
    *between, loop = network.connections
    assert eqx.tree_equal(between, list(chain.connections)) and float(loop.delay) == 2.0


def test_a_spike_arrives_after_its_delay(dtype, close):
    """An input with a delay is an input that comes later, of each synapse by itself."""
    rng = np.random.default_rng(4)
    weight, delay = (jnp.asarray(rng.uniform(1.0, high, (3, 2)), dtype) for high in (3.0, 8.0))
    spikes = inputs(dtype, until=20.0)
    network = sx.Network({"output": sx.Layer(sx.LIF(), 2)}, [sx.Dense("input", "output", weight, delay)], 3, "output")
    found = run(network, spikes)
    assert int(found.stats["output"].spikes.min()) > 2
    for neuron in range(2):
        alone = sx.Network(
            {"output": sx.Layer(sx.LIF(), 1)}, [sx.Dense("input", "output", weight[:, neuron, None])], 3, "output"
        )
        later = sx.Spikes(spikes.times + delay[None, :, neuron, None])
        times = run(alone, later).spikes["output"].times[:, 0]
        np.testing.assert_allclose(found.spikes["output"].times[:, neuron], times, rtol=close)


def of_each_synapse(neuron, dtype, beside=(), as_list=False):
    """Three inputs, six neurons, and four that receive from them after a delay of each synapse."""
    rng = np.random.default_rng(7)

    def weights(*shape):
        ports = neuron.synapse if isinstance(neuron.synapse, dict) else None
        each = [jnp.asarray(rng.uniform(-1.0, 4.0, shape), dtype) for _ in ports or [None]]
        return each[0] if ports is None else dict(zip(ports, each, strict=True))

    first, second = weights(3, 6), weights(6, 4)
    delay = sx.Positive(jnp.asarray(rng.uniform(0.5, 9.0, (6, 4)), dtype))
    if as_list:
        pairs, (weight, delay) = np.indices((6, 4)).reshape(2, -1), jax.tree.map(jnp.ravel, (second, delay))
        between = sx.Sparse("a", "output", *pairs, weight, shape=(6, 4), delay=delay)
    else:
        between = sx.Dense("a", "output", second, delay)
    connections = [sx.Dense("input", "a", first), between, *beside]
    layers = {"a": sx.Layer(neuron, 6), "output": sx.Layer(neuron, 4)}
    return sx.Network(layers, connections, 3, "output")


@exact
@pytest.mark.parametrize(
    "neuron, beside",
    [
        (sx.LIF(), [sx.Sparse("input", "output", [0, 1], [2, 0], jnp.ones(2), shape=(3, 4), delay=1.0)]),
        pytest.param(sx.ALIF(), [sx.Dense("input", "output", jnp.full((3, 4), 0.5))], marks=pytest.mark.slow),
        pytest.param(sx.EGRU(), [], marks=pytest.mark.slow),
    ],
    ids=["lif, beside a list", "alif, beside inputs", "egru"],
)
def test_delays_of_each_synapse_are_those_of_a_list_of_synapses(neuron, beside):
    """The same spikes and gradients, also with much more room for spikes than is used."""
    dtype, spikes = jnp.float64, inputs(jnp.float64)

    def graded(as_list, places):
        network = of_each_synapse(neuron, dtype, beside, as_list)

        @eqx.filter_jit
        @eqx.filter_value_and_grad(has_aux=True)
        def value(given):
            network, spikes = given
            room = {"a": places, "output": 20}
            found = sx.simulate(network, spikes, T1, max_spikes=room).spikes["output"].times
            return finite_sum(found, jnp.resize(jnp.asarray([1.0, -0.7, 0.4]), found.shape)), found

        (_, times), gradient = value((network, spikes))
        assert jnp.sum(jnp.isfinite(times)) >= 10
        between = gradient[0].connections[1]
        parts = between.weight, between.delay.log, gradient[0].connections[0].weight, gradient[1].times
        return [times, *map(jnp.ravel, jax.tree.leaves(parts))]

    # With 6 * 256 places, fewer columns are sorted.
    for found, expected in zip(graded(False, 256), graded(True, 20), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.modes("float64")
@pytest.mark.parametrize("kind", ["one to one", "sparse", "conv"])
def test_connections_are_those_of_a_matrix(kind, dtype, close):
    """A dense connection with zeros where there is no synapse gives the same spikes, with the same delay."""
    rng = np.random.default_rng(5)
    if kind == "one to one":
        weight = jnp.asarray(rng.uniform(4.0, 8.0, 6), dtype)
        connection, matrix = sx.OneToOne("input", "output", weight, 1.0), jnp.diag(weight)
    elif kind == "sparse":
        pairs, weight = rng.integers(0, 6, (2, 14)), jnp.asarray(rng.uniform(1.0, 4.0, 14), dtype)
        connection = sx.Sparse("input", "output", *pairs, weight, shape=(6, 6), delay=1.0)
        matrix = jnp.zeros((6, 6), dtype).at[tuple(pairs)].add(weight)
    else:
        kernel = jnp.asarray(rng.uniform(0.5, 3.0, (2, 1, 2, 2)), dtype)
        connection = sx.Conv("input", "output", kernel, image=(2, 3), padding=0, delay=1.0)
        image = jnp.eye(6, dtype=dtype).reshape(6, 1, 2, 3)
        matrix = jax.lax.conv(image, kernel, (1, 1), "VALID").reshape(6, -1)
    assert connection.shape == matrix.shape
    spikes = random_inputs(6, (2, 6, 3), 20.0, dtype)
    layers = {"output": sx.Layer(sx.LIF(), matrix.shape[1])}
    found, expected = (
        run(sx.Network(layers, [c], 6, "output"), spikes)
        for c in (connection, sx.Dense("input", "output", matrix, jnp.asarray(1.0, dtype)))
    )
    assert int(expected.stats["output"].spikes.min()) > 2
    assert_same(found, expected, 40.0 * close)


@pytest.mark.parametrize(
    "stride, padding, dilation, groups", [(2, 1, 1, 1), ((1, 2), (0, 1), 1, 1), (1, (2, 1), (1, 2), 2)]
)
def test_options_of_a_convolution(stride, padding, dilation, groups, dtype):
    """The synapses are those of JAX's convolution."""
    rng = np.random.default_rng(7)
    kernel = jnp.asarray(rng.standard_normal((4, 2 // groups, 3, 2)), dtype)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    connection = sx.Conv("input", "output", kernel, image=(5, 4), **options)
    image = jnp.eye(40, dtype=dtype).reshape(40, 2, 5, 4)
    strides, pads, steps = (x if isinstance(x, tuple) else (x, x) for x in (stride, padding, dilation))
    result = jax.lax.conv_general_dilated(
        image, kernel, strides, [(p, p) for p in pads], rhs_dilation=steps, feature_group_count=groups
    )
    assert connection.image_out == result.shape[2:]
    matrix = result.reshape(40, -1)
    synapses = connection.synapses()
    weight = jnp.where(synapses.exists, synapses.weight, jnp.zeros((), dtype))
    found = jnp.zeros(connection.shape, dtype).at[synapses.source, jnp.arange(connection.shape[1])].add(weight)
    np.testing.assert_allclose(found, matrix, rtol=1e-6)


@pytest.mark.modes("float64")
@pytest.mark.parametrize("synapse", [sx.HoldSynapse(), sx.FilteredHoldSynapse(3.0)], ids=["hold", "filtered hold"])
def test_rectangular_spikes_in_closed_form(synapse, dtype, accurate):
    """The voltage is the integral of rectangles, with every method, also where they overlap and after a delay."""
    rng = np.random.default_rng(4)
    weight, delay = rng.uniform(-1.0, 1.0, (3, 2)), np.array([0.0, 1.5, 2.0])
    inputs, ts, (tau, duration) = random_inputs(5, (3, 3), 12.0, dtype), np.linspace(0.0, 20.0, 9), (8.0, 2.5)
    wires = sx.Dense("input", "output", jnp.asarray(weight, dtype), jnp.asarray(delay, dtype))
    layers = {"output": sx.Layer(sx.LI(tau_mem=tau, synapse=synapse), 2)}
    network = sx.Network(layers, [sx.Rectangular(wires, duration)], 3, "output")

    def response(s):
        """To a step at s = 0."""
        s = np.maximum(s, 0.0)
        if isinstance(synapse, sx.HoldSynapse):
            return 1.0 - np.exp(-s / tau)
        return 1.0 - (tau * np.exp(-s / tau) - 3.0 * np.exp(-s / 3.0)) / (tau - 3.0)

    age = ts[:, None, None] - (np.asarray(inputs.times, float) + delay[:, None])
    expected = (response(age) - response(age - duration)).sum(axis=-1) @ weight
    for method in (sx.ClosedForm(), sx.EventLoop(), sx.Windows(4)):
        found = sx.simulate(network, inputs, 20.0, saveat=jnp.asarray(ts, dtype), method=method)
        np.testing.assert_allclose(found.states["output"].v, expected, rtol=0.0, atol=accurate)


def test_events_are_spikes_in_a_list(dtype, close):
    """A list of events needs no place for every channel, and has the same effect, also with delays."""
    rng = np.random.default_rng(8)
    spikes = random_inputs(9, (2, 3, 4), 30.0, dtype, silent=0.2)
    weight, delay = (jnp.asarray(rng.uniform(1.0, high, (3, 2)), dtype) for high in (3.0, 4.0))
    network = sx.Network({"output": sx.Layer(sx.LIF(), 2)}, [sx.Dense("input", "output", weight, delay)], 3, "output")
    found, expected = run(network, spikes.events()), run(network, spikes)
    assert_same(found, expected, 40.0 * close)
    one = sx.Network({"output": sx.Layer(sx.LIF(), 3)}, [sx.OneToOne("input", "output", weight[:, 0])], 3, "output")
    with pytest.raises(ValueError, match="`inputs` must be `sx.Spikes` for a connection of the kind OneToOne.*from_ev"):
        run(one, spikes.events())


@pytest.mark.modes("float64")
def test_what_a_spike_causes_at_its_instant_comes_after_it(dtype):
    """`a` makes `b` spike at once, whose inhibition comes too late to keep `a` from the spike that made it."""
    layers = {name: sx.Layer(sx.LIF(synapse=sx.DeltaSynapse()), 1) for name in ("a", "b")}
    weights = {("input", "a"): 1.5, ("a", "b"): 1.5, ("b", "a"): -1.5}
    connections = [sx.Dense(*ends, jnp.full((1, 1), weight, dtype)) for ends, weight in weights.items()]
    network = sx.Network(layers, connections, 1, "b")
    spikes = sx.Spikes(jnp.asarray([[[1.0]], [[jnp.inf]]], dtype))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return finite_sum(run(network, spikes, method=sx.EventLoop(max_steps=64), saveat=None).spikes["b"].times, 1.0)

    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient(network)))
    found = sx.simulate(network, spikes, 5.0, saveat=jnp.asarray([1.0], dtype))
    for layer, v in (("a", -1.5), ("b", 0.0)):
        np.testing.assert_array_equal(found.spikes[layer].times[:, 0, :2], [[1.0, np.inf], [np.inf, np.inf]])
        np.testing.assert_allclose(found.states[layer].v[:, 0, 0], [v, 0.0])


@pytest.mark.modes("float32")
def test_spikes_that_still_change_are_reported(dtype):
    """Six neurons set each other off, one after the other: each sweep finds one spike more."""
    weight = jnp.zeros((6, 6), dtype).at[jnp.arange(5), jnp.arange(1, 6)].set(10.0)
    inner = sx.Dense("a", "a", weight, delay=0.5)
    first = sx.Dense("input", "a", jnp.zeros((1, 6), dtype).at[0, 0].set(10.0))
    network = sx.Network({"a": sx.Layer(sx.LIF(), 6)}, [first, inner], 1, "a")
    spikes = sx.Spikes(jnp.asarray([[[1.0]], [[jnp.inf]]], dtype))
    assert int(sx.simulate(network, spikes, 20.0, method=sx.Windows(1), max_spikes=32).stats["a"].sweeps) > 5
    found = sx.simulate(network, spikes, 20.0, method=sx.Windows(1, max_sweeps=5), throw=False)
    np.testing.assert_array_equal(found.result == sx.RESULTS.unsettled, [True, False])
    with pytest.raises(Exception, match="The spikes of a recurrent group still changed"):
        jax.block_until_ready(sx.simulate(network, spikes, 20.0, method=sx.Windows(1, max_sweeps=5)).spikes)


def test_a_negative_delay_is_an_error(dtype):
    network = recurrent(dtype, jnp.asarray(1.0, dtype))
    moved = eqx.tree_at(lambda n: n.connections[1].delay, network, jnp.asarray(-0.1, dtype))
    with pytest.raises(Exception, match=r"connections\[1\].delay` must be at least 0 and finite.*sx.Positive"):
        jax.block_until_ready(run(moved, inputs(dtype), throw=True).spikes)


def test_a_channel_that_does_not_exist_is_an_error(dtype):
    network = sx.Network(
        {"output": sx.Layer(sx.LIF(), 2)}, [sx.Dense("input", "output", jnp.ones((3, 2), dtype))], 3, "output"
    )

    @jax.jit
    def simulated(channels):
        return run(network, sx.Events(jnp.asarray([1.0, jnp.inf], dtype), channels, 3)).spikes

    jax.block_until_ready(simulated(jnp.asarray([2, 7])))
    with pytest.raises(Exception, match="An event names a channel outside of 0 to n - 1 = 2"):
        jax.block_until_ready(simulated(jnp.asarray([3, 0])))


@pytest.mark.modes("float32")
def test_windows_let_all_layers_end_early(dtype, accurate):
    """In a chain, the hidden layer ends with the window in which the last output spikes, and the rest is the same."""
    network = jax.tree.map(
        lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x,
        sx.sequential(
            3,
            sx.Layer(sx.LIF(bias=1.5), 4, weights=sx.init.normal(2.0, 1.0)),
            sx.Layer(sx.LIF(bias=1.2), 2, weights=sx.init.normal(1.0, 0.5)),
            key=KEY,
        ),
    )

    @eqx.filter_jit
    def graded(windows):
        def total(network):
            options = {"until": sx.FirstSpikes(), "saveat": None, "method": windows and sx.Windows(windows)}
            solution = run(network, inputs(dtype), **options)
            return jnp.sum(sx.first_spike(solution.spikes["output"])), solution

        return eqx.filter_value_and_grad(total, has_aux=True)(network)

    (expected, whole), gradient = graded(None)
    (found, short), other = graded(5)
    assert bool(jnp.isfinite(expected))
    assert int(short.stats["hidden"].sweeps) < 5 == short.stats["hidden"].windows
    assert int(jnp.sum(short.stats["hidden"].spikes)) < int(jnp.sum(whole.stats["hidden"].spikes))
    np.testing.assert_allclose(found, expected, atol=accurate)
    for leaf, like in zip(jax.tree.leaves(other), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(leaf, like, atol=100 * accurate * float(jnp.max(jnp.abs(like))))


def test_sequential_draws_delays(dtype):
    """The weights are those without delays, and every connection has delays of its own."""
    layers = [sx.Layer(sx.LIF(), n, weights=sx.init.normal(0.0, 1.0)) for n in (3, 2, 2)]
    options = {"key": jax.random.key(0)}
    bare = sx.sequential(4, *layers, **options)
    uniform = sx.init.uniform(1.0, 5.0)
    drawn = sx.sequential(4, *layers, **options, delay=lambda key, shape: sx.Positive(uniform(key, shape)))
    delays = [np.asarray(connection.delay.value) for connection in drawn.connections]
    assert [delay.shape for delay in delays] == [(4, 3), (3, 2), (2, 2)]
    assert all(delay.min() >= 1.0 and delay.max() < 5.0 for delay in delays)
    assert np.unique(np.concatenate([delay.ravel() for delay in delays])).size == 22
    for one, other in zip(bare.connections, drawn.connections, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        assert not np.any(np.isclose(np.ravel(other.weight)[:4], np.ravel(other.delay.value)[:4]))
    listed = sx.sequential(4, *layers, **options, delay=[None, 2.0, jnp.ones(2)])
    assert listed.connections[0].delay is None and float(listed.connections[1].delay) == 2.0
    assert listed.connections[2].delay.shape == (2,)
    loop = sx.recurrent(4, layers[0], **options, weights=sx.init.constant(1.0), delay=sx.init.uniform(1.0, 2.0))
    assert loop.connections[1].delay.shape == (3, 3)


@pytest.mark.modes("float32")
def test_scaled_initialisers_have_sums_of_one_distribution():
    for n in (4, 100):
        for draw in (sx.init.scaled_normal(2.0, 0.5), sx.init.scaled_uniform(2.0, 0.5)):
            sums = np.sum(draw(jax.random.key(n), (n, 4000)), axis=0)
            # Within five standard deviations of the estimates.
            assert abs(sums.mean() - 2.0) < 5 * 0.5 / np.sqrt(4000) and abs(sums.std() - 0.5) < 5 * 0.5 / np.sqrt(8000)
        bound = np.sqrt(3.0 / n) * 0.5
        weights = np.asarray(sx.init.scaled_uniform(0.0, 0.5)(jax.random.key(0), (n, 1000)))
        assert 0.98 * bound < np.abs(weights).max() <= bound * (1 + 1e-6)


@pytest.mark.modes("float64")
def test_the_events_of_all_layers_are_one_list(dtype):
    layers = [sx.Layer(sx.LIF(), n, weights=sx.init.constant(1.5)) for n in (3, 2)]
    network = cast(sx.sequential(4, *layers, key=jax.random.key(0), delay=[None, jnp.asarray([0.0, 1.0, 2.0])]), dtype)
    spikes = sx.Spikes(jnp.broadcast_to(jnp.arange(1.0, 9.0, dtype=dtype), (2, 4, 8)))
    solution = sx.simulate(network, spikes, 20.0, max_spikes={"hidden": 12, "output": 16})
    events = solution.events()
    assert events.n == 5 and events.times.shape == (2, 3 * 12 + 2 * 16) and bool(jnp.isfinite(events.times[0, 8]))
    found = events.spikes(16).times
    np.testing.assert_array_equal(found[:, :3, :12], solution.spikes["hidden"].times)
    np.testing.assert_array_equal(found[:, 3:], solution.spikes["output"].times)


@pytest.mark.modes("float32", "float64")
def test_one_matrix_of_weights_for_several_neuron_types(dtype):
    """The same as one layer, where the types are the same."""
    rng = np.random.default_rng(0)
    weight = jnp.asarray(np.concatenate([rng.uniform(2.0, 6.0, (3, 5)), rng.normal(0.0, 1.0, (5, 5))]), dtype)
    sizes, given = {"a": 2, "b": 3}, inputs(dtype)
    connections = sx.dense_between({"input": 3, "all": 5}, {"all": 5}, weight)
    one = sx.Network({"all": sx.Layer(sx.LIF(), 5)}, connections, 3, "all")
    whole = sx.simulate(one, given, T1, max_spikes=32).spikes["all"].times
    layers = {name: sx.Layer(sx.LIF(), size) for name, size in sizes.items()}
    connections = sx.dense_between({"input": 3} | sizes, sizes, weight)
    assert [(c.source, c.target) for c in connections[:3]] == [("input", "a"), ("a", "a"), ("b", "a")]
    both = sx.simulate(sx.Network(layers, connections, 3, ("a", "b")), given, T1, max_spikes=32).spikes
    found = jnp.concatenate([both["a"].times, both["b"].times], axis=-2)
    np.testing.assert_allclose(found, whole, rtol=1e-5 if dtype == jnp.float32 else 1e-12)
    assert bool(jnp.any(whole[..., 3] < jnp.inf))
    for delay, last in (
        (1.0, 1.0),
        (np.arange(8.0), np.arange(5.0, 8.0)),
        (np.arange(40.0).reshape(8, 5), np.arange(40.0).reshape(8, 5)[5:, 2:]),
    ):
        *_, connection = sx.dense_between({"input": 3} | sizes, sizes, weight, delay=delay)
        np.testing.assert_array_equal(connection.delay, last)
    for wrong, message in (
        (dict(weight=weight[1:]), r"`weight` must be of shape \(8, 5\)"),
        (dict(weight=weight, delay=np.zeros(5)), r"`delay` must be of shape \(\), \(8,\) or \(8, 5\)"),
        (dict(weight=weight, targets={"a": 0}), "`targets\\['a'\\]` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            sx.dense_between(**({"sources": {"input": 3} | sizes, "targets": sizes} | wrong))
