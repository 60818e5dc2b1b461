"""A simulation that goes on where another ended is one long simulation."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import cast, finite_sum


T1, MIDDLE = 24.0, 10.0
DELAYS = np.array([[1.5, 12.5, 0.7], [11.0, 3.2, 2.0], [9.0, 0.5, 13.0]])
STEPS = sx.EventLoop(dt0=0.25)
METHODS = {
    "closed form": (sx.LIF(bias=0.4), False, sx.ClosedForm()),
    "matrix exponential": (sx.ALIF(bias=0.4), False, sx.ClosedForm()),
    "event loop": (sx.QIF(bias=0.2), False, STEPS),
    "internal events": (sx.Refractory(sx.LIF(bias=0.4), 1.7), False, STEPS),
    "impulses": (sx.LIF(synapse=sx.DeltaSynapse(), bias=0.4), False, STEPS),
    "event loop, shared clock": (sx.QIF(bias=0.2), True, STEPS),
    "event queue": (sx.LIF(bias=0.4), True, sx.EventQueue()),
    "windows, closed form": (sx.LIF(bias=0.4), True, sx.Windows(4, sx.ClosedForm())),
    "windows, event loop": (sx.QIF(bias=0.2), True, sx.Windows(4, STEPS)),
}
# The others share their code with one of these.
LONG = ("matrix exponential", "internal events", "event loop, shared clock", "windows, event loop")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in METHODS]
LONG_GRADIENTS = (*LONG, "closed form", "impulses", "event loop", "windows, closed form")
GRADED = [pytest.param(name, marks=pytest.mark.slow) if name in LONG_GRADIENTS else name for name in METHODS]


def wired(name, dtype):
    """Two layers behind delays, longer ones than half of the duration among them, but where there can be none."""
    neuron, recurrent, method = METHODS[name]
    rng = np.random.default_rng(3)
    scale = {"QIF": 40.0, "LIF": 3.0, "ALIF": 3.0, "Refractory": 3.0}[type(neuron).__name__]
    scale = 0.8 if isinstance(neuron.synapse, sx.DeltaSynapse) else scale

    def weights(low, high, *shape):
        return jnp.asarray(scale * rng.uniform(low, high, shape), dtype)

    is_queue = isinstance(method, sx.EventQueue)
    delay = jnp.asarray(DELAYS[:, :1] if is_queue else DELAYS, dtype)
    connections = [
        sx.Dense("input", "a", weights(0.3, 1.0, 3, 3), delay[:, 0] if is_queue else delay),
        # Without delay: an input at the middle arrives there, too.
        sx.Dense("input", "b", weights(0.0, 0.2, 3, 3)),
    ]
    if recurrent:
        inner = None if is_queue else 2.5
        connections += [
            sx.Dense("a", "b", weights(0.1, 0.8, 3, 3), inner),
            sx.Dense("b", "a", weights(-0.2, 0.1, 3, 3), inner),
        ]
    else:
        connections += [
            sx.Dense("a", "b", weights(0.1, 0.8, 3, 3), delay),
        ]
    layers = {"a": sx.Layer(neuron, 3), "b": sx.Layer(neuron, 3)}
    return sx.Network(layers, connections, 3, "b"), method


def input_times(dtype):
    times = np.sort(np.random.default_rng(5).uniform(0.0, 20.0, (2, 3, 4)))
    times[0, 1, 0] = MIDDLE  # at the very instant
    return jnp.asarray(np.sort(times), dtype)


def split(times):
    """The inputs before the middle, and those after it."""
    is_early = times <= MIDDLE
    late = jnp.sort(jnp.where(is_early, jnp.inf, times))
    return sx.Spikes(jnp.where(is_early, times, jnp.inf)), sx.Spikes(late)


def whole(network, method, times, **options):
    return sx.simulate(network, sx.Spikes(times), T1, max_spikes=24, method=method, **options)


def in_two(network, method, times, **options):
    early, late = split(times)
    first = sx.simulate(network, early, MIDDLE, max_spikes=24, method=method)
    return first, sx.simulate(network, late, T1, start=first.end, max_spikes=24, method=method, **options)


@pytest.mark.float64
@pytest.mark.parametrize("name", NAMES)
def test_two_simulations_are_one_long_one(name, dtype, close):
    network, method = wired(name, dtype)
    times = input_times(dtype)
    ts = jnp.asarray([12.0, 23.0, T1], dtype)
    long = whole(network, method, times, saveat=ts)
    first, second = in_two(network, method, times, saveat=ts)
    # What the solver's steps add, where the middle cuts one.
    tolerance = 20.0 * close if "loop" not in name and name != "internal events" else max(200.0 * close, 1e-6)
    for layer in "ab":
        spikes = np.concatenate([part.spikes[layer].times for part in (first, second)], axis=-1)
        spikes = np.sort(spikes, axis=-1)[..., :24]
        expected = np.asarray(long.spikes[layer].times)
        np.testing.assert_array_equal(np.isfinite(spikes), np.isfinite(expected))
        happened = np.isfinite(expected)
        assert np.sum(happened & (expected > MIDDLE)) >= 4
        np.testing.assert_allclose(spikes[happened], expected[happened], rtol=0.0, atol=tolerance)
        for states, others in ((long.states, second.states), (long.end.states, second.end.states)):
            pairs = zip(jax.tree.leaves(states[layer]), jax.tree.leaves(others[layer]), strict=True)
            for leaf, other in pairs:
                np.testing.assert_allclose(other, leaf, rtol=0.0, atol=100.0 * tolerance)
    np.testing.assert_allclose(second.end.t, T1)


@pytest.mark.float64
@pytest.mark.parametrize("name", GRADED)
def test_the_gradient_is_that_of_one_long_simulation(name):
    network, method = wired(name, jnp.float64)
    floats, static = eqx.partition((network, input_times(jnp.float64)), eqx.is_inexact_array)

    def loss(simulated, floats):
        solution = simulated(*_placed(eqx.combine(floats, static), method))
        late = jnp.where(solution.spikes["b"].times > MIDDLE, solution.spikes["b"].times, jnp.inf)
        return finite_sum(jnp.sort(late), 1.0) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(solution.end.states))

    def _placed(both, method):
        network, times = both
        return network, method, times

    expected = jax.jit(jax.grad(functools.partial(loss, whole)))(floats)
    found = jax.jit(jax.grad(functools.partial(loss, lambda *args: in_two(*args)[1])))(floats)
    tolerance = 1e-9 if "loop" not in name and name != "internal events" else 1e-5
    for leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert bool(jnp.any(other != 0.0))
        np.testing.assert_allclose(leaf, other, rtol=tolerance, atol=tolerance * float(jnp.max(jnp.abs(other))))


@pytest.mark.modes("float32")
def test_where_a_simulation_is_cut_has_no_derivative(dtype):
    network, method = wired("closed form", dtype)
    early, late = split(input_times(dtype))

    def loss(middle):
        first = sx.simulate(network, early, middle, max_spikes=24, method=method)
        second = sx.simulate(network, late, T1, start=first.end, max_spikes=24, method=method)
        return finite_sum(second.spikes["b"].times, 1.0)

    assert jax.jit(jax.grad(loss))(jnp.asarray(MIDDLE, dtype)) == 0.0


@pytest.mark.modes("float32")
def test_a_stream_in_equal_parts_compiles_once(dtype):
    """The snapshot keeps its shape from the second part on, with delays longer than a part."""
    network, method = wired("closed form", dtype)
    times = input_times(dtype)
    expected = whole(network, method, times).spikes["b"].times
    found, end = [], None
    parts = np.linspace(0.0, T1, 7)
    shapes = []
    for start, stop in itertools.pairwise(parts):
        here = (times > start) & (times <= stop)
        inputs = sx.Spikes(jnp.sort(jnp.where(here, times, jnp.inf)))
        solution = sx.simulate(network, inputs, stop, start=end, max_spikes=8, method=method)
        found, end = [*found, solution.spikes["b"].times], solution.end
        shapes.append(jax.tree.map(jnp.shape, end))
    assert shapes[3] == shapes[4] == shapes[5]
    together = np.sort(np.concatenate(found, axis=-1), axis=-1)[..., :24]
    np.testing.assert_allclose(together, expected, rtol=1e-4)


@pytest.mark.modes("float32")
def test_what_does_not_fit_is_an_error(dtype):
    network, _ = wired("closed form", dtype)
    times = input_times(dtype)
    end = sx.simulate(network, sx.Spikes(times), MIDDLE, max_spikes=24).end
    late = sx.Spikes(jnp.full((2, 3, 1), 20.0, dtype))
    with pytest.raises(ValueError, match="`t0` must be left out"):
        sx.simulate(network, late, T1, t0=10.0, start=end)
    with pytest.raises(ValueError, match=r"`start` must be of shape \(1, 3\)"):
        sx.simulate(network, sx.Spikes(late.times[:1]), T1, start=end)
    with pytest.raises(ValueError, match="`start` must be of the layers"):
        sx.simulate(
            sx.sequential(3, sx.Layer(sx.LIF(), 3, weights=jnp.ones((3, 3))), key=jax.random.key(0)),
            late,
            T1,
            start=end,
        )
    with pytest.raises(ValueError, match="`inputs` must be spikes at or after t0 = 10"):
        sx.simulate(network, sx.Spikes(times), T1, start=end)
    assert sx.simulate(network, sx.Spikes(times), T1, max_spikes=24, until=sx.FirstSpikes()).end is None


@pytest.mark.modes("float32")
def test_a_failed_sample_cannot_go_on_unseen(dtype):
    network, _ = wired("closed form", dtype)
    times = input_times(dtype)
    first = sx.simulate(network, sx.Spikes(times), 18.0, max_spikes=24)
    most = int(jnp.max(first.stats["a"].max_spike_count))
    few = sx.simulate(network, sx.Spikes(times), 18.0, max_spikes={"a": most - 1, "b": 24}, throw=False)
    failed = np.asarray(few.result != sx.RESULTS.successful)
    assert failed.any()
    second = sx.simulate(
        cast(network, dtype),
        sx.Spikes(jnp.full((2, 3, 1), jnp.inf, dtype)),
        T1,
        start=few.end,
        max_spikes=24,
        throw=False,
    )
    np.testing.assert_array_equal(np.asarray(second.result != sx.RESULTS.successful), failed)


@pytest.mark.modes("float32")
def test_all_steps_of_a_continued_simulation_have_the_length_that_is_given(dtype):
    network = sx.sequential(1, sx.Layer(sx.LIF(), 1, weights=jnp.zeros((1, 1), dtype)), key=jax.random.key(0))
    silent = sx.Spikes(jnp.full((1, 1), jnp.inf, dtype))
    end = sx.simulate(network, silent, 10.0, method=sx.EventLoop(dt0=2.0)).end
    found = sx.simulate(network, silent, 20.0, start=end, method=sx.EventLoop(dt0=0.5))
    assert int(found.stats["output"].iterations) == 20


@pytest.mark.modes("float32")
def test_a_spike_at_once_is_not_emitted_again_by_another_method(dtype):
    """A neuron that starts above its threshold spikes there, and the method that goes on knows."""
    network = sx.sequential(1, sx.Layer(sx.LIF(), 1, weights=jnp.zeros((1, 1), dtype)), key=jax.random.key(0))
    silent = sx.Spikes(jnp.full((1, 1), jnp.inf, dtype))
    states = {"output": sx.LIFState(jnp.asarray(1.5, dtype))}
    for first in (sx.ClosedForm(), sx.EventQueue(), sx.Windows(2, sx.ClosedForm())):
        before = sx.simulate(network, silent, 5.0, start=states, method=first)
        after = sx.simulate(network, silent, 10.0, start=before.end, method=sx.EventLoop())
        assert int(before.stats["output"].spikes) == 1 and int(after.stats["output"].spikes) == 0


@pytest.mark.modes("float32")
def test_spikes_under_way_for_which_there_is_no_place_are_reported(dtype):
    """With a delay that is traced the number of places is that of one part, here of two spikes."""
    layers = {"a": sx.Layer(sx.LIF(bias=jnp.asarray(15.0, dtype)), 1), "b": sx.Layer(sx.LI(), 1)}
    weight = jnp.ones((1, 1), dtype)
    connections = [sx.Dense("input", "a", weight), sx.Dense("a", "b", weight, delay=jnp.asarray(9.0, dtype))]
    network = sx.Network(layers, connections, 1, "b")
    silent = sx.Spikes(jnp.full((2, 1, 1), jnp.inf, dtype))

    @eqx.filter_jit
    def part(network, t1, start):
        return sx.simulate(network, silent, t1, start=start, max_spikes=2, throw=False)

    first = part(network, jnp.asarray(2.0, dtype), None)
    assert bool(jnp.all(first.result == sx.RESULTS.successful)) and int(first.stats["a"].spikes[0]) == 1
    second = part(network, jnp.asarray(4.0, dtype), first.end)
    assert bool(jnp.all(second.result == sx.RESULTS.successful))
    third = part(network, jnp.asarray(6.0, dtype), second.end)
    assert bool(jnp.all(third.result == sx.RESULTS.too_many_under_way))
