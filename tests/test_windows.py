"""Time windows: what arrives in each of them, and which layers are simulated together."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax._methods._common.sorting import sorted_rows

from .helpers import learning, random_inputs


T1 = 30.0
pytestmark = pytest.mark.float64


@pytest.mark.modes("float32", "float64", "mixed")
@pytest.mark.parametrize("rows", [9, 400])
@pytest.mark.parametrize("kind", ["uniform", "clustered", "ties", "long", "empty"])
def test_rows_are_sorted_and_equal_entries_keep_their_order(kind, rows, dtype):
    rng = np.random.default_rng(0)
    x = {
        "uniform": rng.uniform(-3.0, 100.0, (rows, 50)),
        # Nearly all entries lie in a small part of the range.
        "clustered": np.append(1.0 + 1e-6 * rng.uniform(0.0, 1.0, (rows, 99)), np.full((rows, 1), 1e6), axis=1),
        "ties": rng.integers(-2, 6, (rows, 33)).astype(float),
        "long": rng.integers(-100, 100, (rows, 300)) / 8.0,
        "empty": np.full((rows, 32), np.inf),
    }[kind]
    x[:, ::4] = np.inf
    x[: rows // 2, 20:] = np.inf
    x = np.asarray(x, dtype)
    found, order = jax.jit(sorted_rows)(jnp.asarray(x))
    expected = np.argsort(x, axis=1, kind="stable")
    np.testing.assert_array_equal(found, np.take_along_axis(x, expected, axis=1))
    filled = np.isfinite(found)
    np.testing.assert_array_equal(np.asarray(order)[filled], expected[filled])


def every_delay(dtype):
    """Two layers behind connections of every kind, with delays from zero to longer than a window."""
    rng = np.random.default_rng(1)

    def array(*shape, low=0.2, high=1.0):
        return jnp.asarray(rng.uniform(low, high, shape), dtype)

    def delays(*shape):
        return jnp.maximum(array(*shape, low=-3.0, high=9.0), 0.0)

    sources, targets = np.nonzero(rng.uniform(size=(6, 5)) < 0.5)
    connections = [
        sx.Dense("input", "a", array(6, 6), delays(6, 6)),
        sx.OneToOne("input", "a", array(6), delays(6)),
        sx.Dense("a", "b", array(6, 5), delays(6)),
        sx.Sparse("a", "b", sources, targets, array(len(sources)), shape=(6, 5), delay=delays(len(sources))),
        sx.Dense("input", "b", 0.1 * array(6, 5)),
    ]
    layers = {"a": sx.Layer(learning(sx.LIF(), 6, dtype), 6), "b": sx.Layer(sx.LIF(), 5)}
    return sx.Network(layers, connections, 6, "b")


@eqx.filter_jit
def graded(network, spikes, **options):
    def total(network):
        solution = sx.simulate(network, spikes, T1, max_spikes=24, throw=False, **options)
        return sum(jnp.sum(jnp.where(jnp.isfinite(s.times), s.times, 0.0)) for s in solution.spikes.values()), solution

    (_, solution), gradient = eqx.filter_value_and_grad(total, has_aux=True)(network)
    return solution, gradient


def assert_same(found, expected, accurate):
    (found, gradient), (expected, reference) = found, expected
    assert bool(jnp.all(found.result == sx.RESULTS.successful))
    for name in expected.spikes:
        np.testing.assert_allclose(found.spikes[name].times, expected.spikes[name].times, atol=accurate, rtol=0)
    for leaf, like in zip(jax.tree.leaves(gradient), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(leaf, like, atol=200 * accurate * float(jnp.max(jnp.abs(like))))


@pytest.mark.modes("float32")
def test_windows_select_what_arrives(dtype, accurate):
    """Without windows, all spikes are sorted at once, and there is no selection."""
    network, spikes = every_delay(dtype), random_inputs(0, (2, 6, 5), 20.0, dtype)
    expected = graded(network, spikes)
    assert int(expected[0].stats["b"].spikes.min()) > 10
    # Windows with more arrivals than that are divided.
    found = graded(network, spikes, method=sx.Windows(9, max_arrivals=8))
    assert int(found[0].stats["b"].sweeps) > found[0].stats["b"].windows
    assert_same(found, expected, accurate)


def test_candidates_that_arrive_at_other_times_come_in_turns(dtype, accurate):
    """With very different delays most spikes of the past may arrive in a window, but few do."""
    rng = np.random.default_rng(2)
    delay = jnp.asarray(rng.uniform(0.0, 20.0, (12, 3)), dtype)
    weight = jnp.asarray(rng.uniform(0.4, 0.9, (12, 3)), dtype)
    network = sx.Network({"a": sx.Layer(sx.LIF(), 3)}, [sx.Dense("input", "a", weight, delay)], 12, "a")
    spikes = random_inputs(3, (2, 12, 4), 20.0, dtype)
    # 48 spikes, of which 16 are looked at together.
    found = graded(network, spikes, method=sx.Windows(40, max_arrivals=4))
    assert int(found[0].stats["a"].spikes.min()) > 3
    assert_same(found, graded(network, spikes), accurate)


def test_a_window_is_divided_where_a_neuron_spikes_too_often(dtype, accurate):
    """Windows have room for a few spikes of each neuron, whose number follows from `max_spikes`."""
    neuron = sx.LIF(synapse=sx.ExpSynapse(0.3))
    weight = jnp.asarray([[1400.0, 1.0]], dtype)
    network = sx.Network({"a": sx.Layer(neuron, 2)}, [sx.Dense("input", "a", weight)], 1, "a")
    spikes = random_inputs(0, (2, 1, 1), 2.0, dtype)
    found = graded(network, spikes, method=sx.Windows(12))
    # Nearly all spikes are in one window of 2.5 ms, with 12 places.
    assert int(found[0].spikes["a"].count.max()) > 12 + 1
    assert int(found[0].stats["a"].sweeps) > found[0].stats["a"].windows
    assert_same(found, graded(network, spikes), accurate)


def test_traced_inputs_may_be_in_any_order(dtype):
    """Under `jax.jit` the order of spikes is not checked, and all other methods sort them."""
    network, t1 = every_delay(dtype), 20.0
    dense = [c for c in network.connections if not isinstance(c, sx.OneToOne)]  # which accepts no events
    network = sx.Network(network.layers, dense, 6, "b")
    ordered = random_inputs(0, (2, 6, 5), t1, dtype)
    listed = ordered.events()

    @eqx.filter_jit
    def spikes(times, event_times, channels):
        inputs = sx.Spikes(times), sx.Events(event_times, channels, 6)
        method = sx.Windows(9)
        return [sx.simulate(network, given, t1, max_spikes=24, method=method).spikes for given in inputs]

    leaves = ordered.times, listed.times, listed.channels
    expected, found = spikes(*leaves), spikes(*(leaf[..., ::-1] for leaf in leaves))
    for name in expected[0]:
        assert np.isfinite(expected[0][name].times).any()
        for trains in (expected[1], *found):
            np.testing.assert_array_equal(trains[name].times, expected[0][name].times)


def test_a_window_is_divided_where_its_own_spikes_are_too_many(dtype, accurate):
    rng = np.random.default_rng(8)
    inner, delay = (jnp.asarray(rng.uniform(0.1, high, (4, 4)), dtype) for high in (1.0, 3.0))
    connections = [sx.Dense("input", "a", jnp.full((6, 4), 0.5, dtype)), sx.Dense("a", "a", inner, delay)]
    network = sx.Network({"a": sx.Layer(sx.LIF(bias=1.3), 4)}, connections, 6, "a")
    spikes = random_inputs(0, (2, 6, 2), 20.0, dtype)
    # There is room for the 12 inputs, but not for the spikes of the layer as well.
    found, expected = (graded(network, spikes, method=sx.Windows(1, max_arrivals=n)) for n in (14, None))
    assert int(expected[0].stats["a"].spikes.min()) > 2 * (14 - 12)
    assert_same(found, expected, accurate)


def test_too_many_arrivals_at_one_time_are_reported(dtype):
    """For the sample in which they come."""
    times = jnp.stack([jnp.full(5, 1.0), jnp.linspace(1.0, 2.0, 5)])[:, None].astype(dtype)
    network = sx.Network({"a": sx.Layer(sx.LIF(), 2)}, [sx.Dense("input", "a", jnp.ones((1, 2), dtype), 1.0)], 1, "a")

    def run(places, **options):
        return sx.simulate(network, sx.Spikes(times), T1, method=sx.Windows(6, max_arrivals=places), **options)

    assert bool(jnp.all(run(5, throw=False).result == sx.RESULTS.successful))
    np.testing.assert_array_equal(run(4, throw=False).result == sx.RESULTS.max_arrivals_reached, [True, False])
    with pytest.raises(Exception, match="More spikes arrived at a neuron .* Raise `max_arrivals`"):
        run(4)


def with_an_output(dtype):
    """A recurrent layer of quadratic neurons without delays, and an output that spikes early."""
    rng = np.random.default_rng(2)

    def array(*shape, low, high):
        return jnp.asarray(rng.uniform(low, high, shape), dtype)

    connections = [
        sx.Dense("input", "hidden", array(3, 6, low=5.0, high=15.0)),
        sx.Dense("hidden", "hidden", array(6, 6, low=-2.0, high=2.0)),
        sx.Dense("hidden", "output", array(6, 2, low=3.0, high=6.0)),
    ]
    layers = {"hidden": sx.Layer(sx.QIF(), 6), "output": sx.Layer(sx.QIF(), 2)}
    return sx.Network(layers, connections, 3, "output")


@pytest.mark.slow
def test_the_first_spikes_of_an_output_end_the_recurrent_layer_before_it(dtype):
    network, spikes = with_an_output(dtype), random_inputs(0, (2, 3, 6), 25.0, dtype)

    @eqx.filter_jit
    def first(network, until):
        def total(network):
            solution = sx.simulate(network, spikes, T1, max_spikes=32, until=until)
            return jnp.sum(sx.first_spike(solution.spikes["output"])), solution

        return eqx.filter_value_and_grad(total, has_aux=True)(network)

    (expected, whole), reference = first(network, None)
    (found, short), gradient = first(network, sx.FirstSpikes())
    assert [stats.method for stats in short.stats.values()] == ["Windows(EventLoop)"] * 2
    assert int(jnp.sum(short.stats["hidden"].spikes)) < 0.7 * int(jnp.sum(whole.stats["hidden"].spikes))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for leaf, like in zip(jax.tree.leaves(gradient), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(leaf, like, atol=1e-5 * float(jnp.max(jnp.abs(like))))


@pytest.mark.parametrize("targets", [4, 5])
def test_connections_of_all_kinds_without_delays_reach_one_layer(targets, dtype, accurate):
    """Those from every source to every target, and those from one source to one target."""
    rng = np.random.default_rng(4)

    def array(*shape):
        return jnp.asarray(rng.uniform(0.5, 2.0, shape), dtype)

    layers = {"a": sx.Layer(sx.LIF(), targets), "b": sx.Layer(sx.LIF(), targets)}
    connections = [
        sx.Dense("input", "a", array(3, targets)),
        sx.Dense("input", "b", array(3, targets)),
        sx.OneToOne("a", "b", array(targets)),
    ]
    network, spikes = sx.Network(layers, connections, 3, "b"), random_inputs(0, (2, 3, 4), 20.0, dtype)
    expected, found = (sx.simulate(network, spikes, T1, method=method) for method in (None, sx.Windows(4)))
    assert int(expected.stats["b"].spikes.min()) > targets
    np.testing.assert_allclose(found.spikes["b"].times, expected.spikes["b"].times, atol=accurate)


def test_a_layer_with_own_arrivals_has_no_bins_in_windows(dtype):
    """A bin takes the arrivals of all neurons at once."""
    inner = sx.Dense("a", "a", jnp.ones((3, 3), dtype), jnp.full((3, 3), 2.0, dtype))
    network = sx.Network(
        {"a": sx.Layer(sx.QIF(), 3)}, [sx.Dense("input", "a", jnp.full((2, 3), 0.1, dtype)), inner], 2, "a"
    )
    spikes = sx.Spikes(jnp.broadcast_to(jnp.linspace(0.0, 25.0, 400, dtype=dtype), (2, 400)))
    with pytest.raises(ValueError, match="Each neuron has its own arrivals"):
        sx.simulate(network, spikes, T1, method=sx.Windows(10, sx.EventLoop(bin=0.5)))
    # By default there would be bins, but for the separate arrivals.
    loops = sx.simulate(network, spikes, T1, max_spikes=32, method=sx.Windows(10, sx.EventLoop(rtol=1e-4)))
    default = sx.simulate(network, spikes, T1, max_spikes=32)
    np.testing.assert_allclose(default.spikes["a"].times, loops.spikes["a"].times, atol=0.05)


def test_a_saved_time_at_the_end_of_a_window_has_a_whole_derivative(dtype):
    connection = sx.Dense("input", "a", jnp.ones((6, 2), dtype), 1.0)
    network = sx.Network({"a": sx.Layer(sx.LIF(), 2)}, [connection], 6, "a")
    spikes = random_inputs(0, (1, 6, 3), 20.0, dtype)

    @jax.jit
    @jax.grad
    def gradient(ts):
        solution = sx.simulate(network, spikes, T1, saveat={"a": ts}, max_spikes=24, method=sx.Windows(3))
        return jnp.sum(solution.states["a"].v)

    at, before = gradient(jnp.asarray([10.0, 20.0])), gradient(jnp.asarray([10.0, 20.0]) - 1e-7)
    np.testing.assert_allclose(at, before, rtol=1e-4)


@pytest.mark.modes("float32")
def test_guessed_spikes_leave_room_for_many_inputs(dtype, accurate):
    """The few spikes of a small layer are sorted together with all its inputs."""
    rng = np.random.default_rng(5)
    outer, inner = (jnp.asarray(rng.uniform(0.1, 0.4, shape), dtype) for shape in ((20, 2), (2, 2)))
    connections = [sx.Dense("input", "a", outer), sx.Dense("a", "a", inner, jnp.asarray(1.0, dtype))]
    network = sx.Network({"a": sx.Layer(sx.LIF(), 2)}, connections, 20, "a")
    spikes = random_inputs(6, (2, 20, 6), 20.0, dtype)
    # Without a spike that arrives in its own window, there is nothing to sort together.
    long, short = (sx.simulate(network, spikes, T1, max_spikes=8, method=sx.Windows(count)) for count in (2, 60))
    assert int(short.stats["a"].sweeps) == 60 < 30 * int(long.stats["a"].sweeps)
    assert int(short.stats["a"].spikes.min()) > 4
    np.testing.assert_allclose(long.spikes["a"].times, short.spikes["a"].times, atol=accurate)


def test_spikes_that_are_under_way_have_room(dtype):
    """One of an input that can send one in each simulation."""
    network = sx.Network(
        {"a": sx.Layer(sx.LIF(), 1)},
        [sx.Dense("input", "a", jnp.ones((1, 1), dtype), jnp.full((1, 1), 5.0, dtype))],
        1,
        "a",
    )

    def at(t):
        return sx.Spikes(jnp.full((1, 1), t, dtype))

    first = sx.simulate(network, at(8.0), 10.0, method=sx.Windows(1))
    second = sx.simulate(network, at(11.0), 20.0, start=first.end, method=sx.Windows(1))
    whole = sx.simulate(network, sx.Spikes(jnp.asarray([[8.0, 11.0]], dtype)), 20.0)
    np.testing.assert_allclose(second.end.states["a"].v, whole.end.states["a"].v, rtol=1e-5)
