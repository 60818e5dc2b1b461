"""Spike trains and lists of events: two forms of the same thing."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import random_inputs, single_layer


def same_trains(one, other):
    """Equal, up to the number of empty places."""
    one, other = np.asarray(one.times), np.asarray(other.times)
    k = max(one.shape[-1], other.shape[-1])

    def padded(times):
        return np.pad(times, [(0, 0)] * (times.ndim - 1) + [(0, k - times.shape[-1])], constant_values=np.inf)

    np.testing.assert_array_equal(padded(one), padded(other))


@pytest.mark.modes("float32")
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_round_trip(batch, dtype):
    spikes = random_inputs(0, (*batch, 4, 5), 30.0, dtype, silent=0.4)
    events = spikes.events()
    assert events.times.shape == events.channels.shape == (*batch, 20)
    assert events.times.dtype == dtype and jnp.issubdtype(events.channels.dtype, jnp.integer)
    same_trains(sx.Spikes.from_events(events.times, events.channels, 4), spikes)
    same_trains(events.spikes(), spikes)
    np.testing.assert_array_equal(events.spikes(5).times, spikes.times)
    np.testing.assert_array_equal(jax.jit(lambda events: events.spikes(5))(events).times, spikes.times)
    assert int(jnp.sum(spikes.count)) == int(jnp.sum(jnp.isfinite(events.times)))


def test_events_are_sorted_and_know_their_channels(dtype):
    events = sx.Spikes(jnp.asarray([[1.0, 5.0], [3.0, np.inf], [2.0, 4.0]], dtype)).events()
    np.testing.assert_array_equal(events.times, [1.0, 2.0, 3.0, 4.0, 5.0, np.inf])
    np.testing.assert_array_equal(events.channels[:5], [0, 2, 1, 2, 0])


def test_events_in_any_order(dtype):
    times, channels = jnp.asarray([5.0, 1.0, np.inf, 3.0], dtype), jnp.asarray([0, 0, 1, 2])
    spikes = sx.Spikes.from_events(times, channels, 3)
    np.testing.assert_array_equal(spikes.times, [[1.0, 5.0], [np.inf, np.inf], [3.0, np.inf]])
    np.testing.assert_array_equal(spikes.count, [2, 0, 1])
    wide = sx.Spikes.from_events(times, channels, 3, max_spikes=4)
    assert wide.times.shape == (3, 4)
    same_trains(wide, spikes)


def test_no_events_at_all(dtype):
    silent = sx.Spikes.from_events(jnp.full(3, jnp.inf, dtype), jnp.zeros(3, int), 2)
    assert silent.times.shape == (2, 1) and int(jnp.sum(silent.count)) == 0
    empty = sx.Spikes.from_events(jnp.zeros(0, dtype), jnp.zeros(0, int), 2)
    assert empty.times.shape == (2, 1) and int(jnp.sum(empty.count)) == 0


def test_a_full_channel_is_an_error(dtype):
    times, channels = jnp.asarray([1.0, 2.0, 3.0], dtype), jnp.zeros(3, int)
    events = sx.Events(times, channels, 2)
    for full in (lambda: sx.Spikes.from_events(times, channels, 2, max_spikes=2), lambda: events.spikes(2)):
        with pytest.raises(ValueError, match="`max_spikes` must be at least 3, the most events of a channel; got 2"):
            full()
    with pytest.raises(RuntimeError, match="Raise `max_spikes`"):
        jax.block_until_ready(eqx.filter_jit(lambda events: events.spikes(2))(events))
    convert = eqx.filter_jit(lambda times: sx.Spikes.from_events(times, channels, 2, max_spikes=2))
    with pytest.raises(RuntimeError, match="Raise `max_spikes`"):
        jax.block_until_ready(convert(times))
    assert convert(times.at[2].set(jnp.inf)).times.shape == (2, 2)


def test_the_capacity_of_events_is_checked(dtype):
    events = sx.Events(jnp.asarray([1.0], dtype), jnp.asarray([0]), 2)
    with pytest.raises(ValueError, match="`max_spikes` must be at least 1; got 0"):
        events.spikes(0)
    with pytest.raises(ValueError, match="`max_spikes` must be given while `times` are traced"):
        jax.jit(lambda events: events.spikes())(events)


def test_places_without_event_may_name_any_channel(dtype):
    """So may they in a compiled function, where none of them is known."""
    times = jnp.asarray([1.0, np.inf, np.inf], dtype)
    spikes = eqx.filter_jit(lambda channels: sx.Events(times, channels, 2).spikes(1))(jnp.asarray([1, 7, -1]))
    np.testing.assert_array_equal(spikes.times, [[np.inf], [1.0]])


def test_a_channel_that_is_not_there_is_an_error_under_jit(dtype):
    times = jnp.asarray([1.0], dtype)
    convert = eqx.filter_jit(lambda channels: sx.Spikes.from_events(times, channels, 2, max_spikes=2))
    assert float(convert(jnp.asarray([1])).times[1, 0]) == 1.0
    for wrong in (2, -1):
        with pytest.raises(RuntimeError, match="`channels` must be from 0 to n - 1 = 1"):
            jax.block_until_ready(convert(jnp.asarray([wrong])).times)


@pytest.mark.modes("float32", "mixed")
@pytest.mark.parametrize("narrow, n", [(np.uint8, 256), (np.int8, 200), (np.uint8, 300)])
def test_narrow_channels(narrow, n, dtype):
    """A number of channels that does not fit into their type is not taken for another."""
    times, channels = jnp.asarray([1.0, 2.0, 3.0], dtype), np.asarray([7, 100, 0], narrow)
    network = single_layer(sx.LIF(), np.ones((n, 1)), dtype)
    events = sx.Events(times, channels, n)
    found = network(events, t1=20.0).times
    np.testing.assert_array_equal(found, network(sx.Events(times, channels.astype(int), n), t1=20.0).times)
    spikes = sx.Spikes.from_events(times, channels, n)
    np.testing.assert_array_equal(np.flatnonzero(spikes.count), [0, 7, 100])
    compiled = eqx.filter_jit(lambda channels: sx.Spikes.from_events(times, channels, n, max_spikes=1))
    same_trains(compiled(jnp.asarray(channels)), spikes)
    moved = sx.encode.shift(events, (n // 10, 10), 0, key=jax.random.key(0)) if n % 10 == 0 else events
    np.testing.assert_array_equal(moved.channels, channels)


def test_channels_beyond_32_bits_are_refused(dtype):
    with pytest.raises(ValueError, match="`channels` must be an array of integers of 32 bits"):
        sx.Events(jnp.asarray([1.0], dtype), np.asarray([2**32 + 1]), 4)


def test_gradients_pass_through_the_conversion(dtype):
    channels = jnp.asarray([1, 0, 1])

    def last(times):
        return sx.Spikes.from_events(times, channels, 2, max_spikes=2).times[1, 1]

    np.testing.assert_array_equal(jax.grad(last)(jnp.asarray([5.0, 2.0, 3.0], dtype)), [1.0, 0.0, 0.0])


def test_first_spike(dtype):
    spikes = sx.Spikes(jnp.asarray([[[1.0, 2.0], [np.inf, np.inf]]], dtype))
    np.testing.assert_array_equal(sx.first_spike(spikes), [[1.0, np.inf]])


def test_lists_and_integers_become_times():
    spikes = sx.Spikes([[1, 2], [3, 4]])
    assert jnp.issubdtype(spikes.times.dtype, jnp.floating)
    np.testing.assert_array_equal(spikes.times, [[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture(scope="module")
def network(dtype):
    return single_layer(sx.LIF(), np.array([[5.0, 3.0, 4.0], [4.0, 6.0, -1.0]]), dtype)


OPTIONS = {"method": sx.EventLoop(diffrax.Heun(), dt0=0.5), "max_spikes": 6}  # two stages compile fast


def simulated(network, inputs):
    return sx.simulate(network, inputs, 20.0, saveat=jnp.asarray([5.0, 2.0], network.dtype), **OPTIONS)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_batch_axes(network, dtype, batch):
    """Any leading axes; each sample as if it were alone."""
    times = random_inputs(1, (6, 2, 3), 15.0, dtype).times
    inputs = sx.Spikes(times[0] if batch == () else times.reshape(*batch, 2, 3))
    solution = simulated(network, inputs)
    assert solution.spikes["output"].times.shape == (*batch, 3, 6)
    assert solution.states["output"].v.shape == solution.drives["output"].shape == (*batch, 2, 3)
    stats = solution.stats["output"]
    assert (solution.result == sx.RESULTS.successful).shape == batch
    assert stats.spikes.shape == stats.max_spike_count.shape == stats.rejected_steps.shape == batch
    assert sx.first_spike(solution.spikes["output"]).shape == (*batch, 3)
    assert int(jnp.sum(solution.spikes["output"].count)) > 0
    alone = simulated(network, sx.Spikes(times[0])).spikes["output"].times
    first = solution.spikes["output"].times.reshape(-1, 3, 6)[0]
    np.testing.assert_allclose(first, alone, rtol=1e-6)


@pytest.mark.modes("mixed")
@pytest.mark.parametrize("batch", [(0,), (2, 0)])
@pytest.mark.parametrize("kind", ["closed form", "loop", "event queue", "sweeps", "until"])
def test_an_empty_batch(kind, batch, dtype):
    """It gives results without samples, and a gradient of zero."""
    neuron = sx.QIF() if kind in ("loop", "sweeps") else sx.LIF()
    network, layer = single_layer(neuron, np.ones((2, 3)), dtype), sx.Layer(neuron, 3)
    if kind in ("event queue", "sweeps"):
        loop = sx.Dense("output", "output", jnp.ones((3, 3), dtype))
        network = sx.Network({"output": layer}, [*network.connections, loop], 2, "output")
    options = {"until": sx.FirstSpikes()} if kind == "until" else {"saveat": [1.0, 2.0]}

    @eqx.filter_value_and_grad(has_aux=True)
    def gradient(network, inputs):
        states = jax.tree.map(lambda leaf: jnp.zeros((*batch, 3), dtype), neuron.initial_state())
        solution = sx.simulate(network, inputs, 20.0, start={"output": states}, **options)
        return jnp.sum(sx.first_spike(solution.spikes["output"])), solution

    spikes = sx.Spikes(jnp.zeros((*batch, 2, 4), dtype))
    for inputs in (spikes, spikes.events()):
        (_, solution), gradients = gradient(network, inputs)
        assert solution.spikes["output"].times.shape == (*batch, 3, 8)
        assert solution.spikes["output"].times.dtype == dtype
        assert (solution.result == sx.RESULTS.successful).shape == solution.stats["output"].spikes.shape == batch
        if kind != "until":
            assert {leaf.shape for leaf in jax.tree.leaves(solution.states)} == {(*batch, 2, 3)}
        assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(eqx.filter(gradients, eqx.is_inexact_array)))


@pytest.mark.modes("float32", "mixed")
def test_events_as_inputs(network, dtype):
    spikes = random_inputs(1, (2, 2, 3), 15.0, dtype)
    by_spikes, by_events = simulated(network, spikes), simulated(network, spikes.events())
    # Compiled for other shapes, sums may round otherwise.
    rounding = 4.0 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(by_spikes.spikes["output"].times, by_events.spikes["output"].times, rtol=rounding)
    called = network(spikes, t1=20.0, **OPTIONS)
    np.testing.assert_allclose(called.times, by_spikes.spikes["output"].times, rtol=rounding)


@pytest.mark.modes("float32", "mixed")
def test_several_inputs(network, dtype):
    """Channels split over two inputs, or in one: the same arrivals."""
    spikes = random_inputs(1, (2, 2, 3), 15.0, dtype)
    weight = network.connections[0].weight
    connections = [sx.Dense("x", "output", weight[:1]), sx.Dense("y", "output", weight[1:])]
    split = sx.Network(network.layers, connections, {"x": 1, "y": 1}, "output")
    inputs = {"x": sx.Spikes(spikes.times[:, :1]), "y": sx.Spikes(spikes.times[:, 1:])}
    one, other = simulated(network, spikes), simulated(split, inputs)
    # Two programs: the compiler may round differently.
    np.testing.assert_allclose(other.spikes["output"].times, one.spikes["output"].times, rtol=4.0 * np.finfo(dtype).eps)
