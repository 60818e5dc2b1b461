"""Failures: reported for the sample and the layer where they happen, and for no other."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import cast, finite_sum


# What is reported for which sample depends on no float type, but for the divergence.
pytestmark = pytest.mark.modes("float32")

T1 = 30.0
STEPS = {"method": sx.EventLoop(diffrax.Heun(), dt0=0.5)}  # two stages compile fast
WEIGHTS = np.array([[5.0, 3.0], [4.0, 6.0]])


def two_layers(neuron, dtype):
    layers = sx.Layer(neuron, 2, weights=jnp.asarray(WEIGHTS)), sx.Layer(sx.LI(), 1, weights=sx.init.constant(1.0))
    return cast(sx.sequential(2, *layers, key=jax.random.key(0)), dtype)


@pytest.fixture(scope="module")
def busy(dtype):
    """Three samples, the middle one with far more input than the others."""
    times = np.full((3, 2, 12), np.inf)
    times[:, 0, 0], times[:, 1, 0] = 2.0, 4.0
    times[1] = np.arange(1.0, 13.0)
    return jnp.asarray(times, dtype)


def graded(network, **options):
    """The solution, and the gradient of the output's voltages and the hidden spikes of the first and last sample."""
    arrays, static = eqx.partition(network, eqx.is_inexact_array)
    dtype = network.dtype

    def value(arrays, times):
        saveat = {"output": jnp.asarray([T1], dtype)}
        solution = sx.simulate(
            eqx.combine(arrays, static), sx.Spikes(times), T1, saveat=saveat, throw=False, **STEPS, **options
        )
        valid = solution.spikes["hidden"].times[::2]
        total = finite_sum(valid, jnp.ones_like(valid)) + jnp.sum(solution.states["output"].v[::2])
        return total, solution

    def run(times):
        (_, solution), gradient = jax.value_and_grad(value, (0, 1), has_aux=True)(arrays, times)
        return solution, gradient

    return jax.jit(run)


@pytest.fixture(scope="module")
def run(dtype):
    """A run with room for all spikes."""
    return graded(two_layers(sx.LIF(), dtype), max_spikes={"hidden": 48, "output": 1})


@pytest.fixture(scope="module")
def enough(run, busy):
    return run(busy)


@pytest.fixture(scope="module")
def too_few_spikes(dtype, busy):
    return graded(two_layers(sx.LIF(), dtype), max_spikes={"hidden": 4, "output": 1})(busy)


def is_(result, item):
    return np.asarray(result == item).tolist()


def test_success_and_its_numbers(enough, busy):
    solution, _ = enough
    assert is_(solution.result, sx.RESULTS.successful) == [True] * 3
    count = np.asarray(solution.spikes["hidden"].count)
    stats = solution.stats["hidden"]
    np.testing.assert_array_equal(stats.spikes, count.sum(axis=1))
    np.testing.assert_array_equal(stats.max_spike_count, count.max(axis=1))
    assert count[1].max() > 4 >= count[::2].max() >= 1
    # Every spike takes at least one rejected trial, that of the step which crosses.
    assert np.all(np.asarray(stats.rejected_steps) >= np.asarray(stats.spikes))
    # The busiest neuron takes its plain steps, its arrivals and its spikes one after the other.
    assert int(stats.iterations) > T1 / 0.5
    assert np.all(np.asarray(solution.stats["output"].spikes) == 0)


def test_too_many_spikes_in_one_sample(enough, too_few_spikes):
    (whole, gradient), (short, short_gradient) = enough, too_few_spikes
    assert is_(short.result, sx.RESULTS.max_spikes_reached) == [False, True, False]
    assert is_(short.results["hidden"], sx.RESULTS.max_spikes_reached) == [False, True, False]
    assert is_(short.results["output"], sx.RESULTS.source_failed) == [False, True, False]
    np.testing.assert_array_equal(short.stats["hidden"].max_spike_count, whole.stats["hidden"].max_spike_count)
    np.testing.assert_array_equal(short.spikes["hidden"].times, whole.spikes["hidden"].times[..., :4])
    np.testing.assert_array_equal(short.states["output"].v[::2], whole.states["output"].v[::2])
    for leaf, same in zip(jax.tree.leaves(gradient), jax.tree.leaves(short_gradient), strict=True):
        np.testing.assert_allclose(same, leaf, rtol=1e-6, atol=1e-6)


def test_too_many_steps_in_one_sample(dtype, busy):
    """The busy sample needs more iterations than the others: a limit between them stops only that one."""
    network = two_layers(sx.LIF(), dtype)

    def hidden(times, max_steps, throw=False):
        options = STEPS | {"method": sx.EventLoop(dt0=5.0, max_steps=max_steps), "max_spikes": 48}
        return sx.simulate(network, sx.Spikes(times), T1, throw=throw, **options)

    full = hidden(busy, 4096)
    quiet = int(hidden(busy.at[1].set(jnp.inf), 4096).stats["hidden"].iterations)
    assert quiet < int(full.stats["hidden"].iterations)
    stopped = hidden(busy, quiet)
    assert is_(stopped.result, sx.RESULTS.max_steps_reached) == [False, True, False]
    assert is_(stopped.results["hidden"], sx.RESULTS.max_steps_reached) == [False, True, False]
    # Another limit is another program, and the compiler may round differently.
    np.testing.assert_allclose(stopped.spikes["hidden"].times[::2], full.spikes["hidden"].times[::2], rtol=1e-6)
    assert int(stopped.stats["hidden"].iterations) == quiet
    with pytest.raises(RuntimeError, match="Layer `hidden` .*max_steps=.*Raise `max_steps`"):
        hidden(busy, quiet, throw=True)


def test_throwing_names_the_layer_and_the_remedy(dtype, busy):
    """Of a simulation and of a call."""
    network, options = two_layers(sx.LIF(), dtype), STEPS | {"max_spikes": {"hidden": 4, "output": 1}}
    for run in (functools.partial(sx.simulate, network), network):
        with pytest.raises(RuntimeError, match="Layer `hidden` .*max_spikes=.*Raise `max_spikes`"):
            run(sx.Spikes(busy), T1, **options)


class ExplosiveState(eqx.Module):
    v: jax.Array


class Explosive(sx.AbstractNeuron):
    """v' = (v² - v + drive) / 5: escapes to infinity in finite time unless it stays below one."""

    synapse: sx.AbstractSynapse = sx.ExpSynapse(5.0)

    def initial_state(self):
        return ExplosiveState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return ExplosiveState((state.v**2 - state.v + drive) / 5.0)

    def spike_condition(self, t, state):
        return -jnp.ones_like(state.v)

    def reset(self, t, state):
        return state


@pytest.mark.modes("float32", "float64", "mixed")
def test_diverging_dynamics(dtype, busy):
    explosion = graded(two_layers(Explosive(), dtype))
    calm = busy.at[0].set(jnp.inf).at[2, 1].set(jnp.inf).at[2, 0, 0].set(28.0)
    solution, gradient = explosion(calm)
    assert is_(solution.result, sx.RESULTS.step_too_small) == [False, True, False]
    assert is_(solution.results["hidden"], sx.RESULTS.step_too_small) == [False, True, False]
    replaced, same_gradient = explosion(calm.at[1].set(jnp.inf))
    assert is_(replaced.result, sx.RESULTS.successful) == [True] * 3
    np.testing.assert_array_equal(solution.states["output"].v[::2], replaced.states["output"].v[::2])
    for leaf, same in zip(jax.tree.leaves(gradient), jax.tree.leaves(same_gradient), strict=True):
        assert bool(jnp.all(jnp.isfinite(leaf)))
        np.testing.assert_allclose(same, leaf, rtol=1e-6, atol=1e-6)


def test_invalid_times_of_one_sample(run, enough, busy):
    valid, gradient = enough
    for bad in (-1.0, jnp.nan):
        solution, same_gradient = run(busy.at[1, 0, 0].set(bad))
        assert is_(solution.result, sx.RESULTS.invalid_times) == [False, True, False]
        np.testing.assert_array_equal(solution.spikes["hidden"].times[::2], valid.spikes["hidden"].times[::2])
        assert int(jnp.sum(solution.stats["hidden"].spikes[1])) == 0
        for leaf, same in zip(jax.tree.leaves(gradient), jax.tree.leaves(same_gradient), strict=True):
            np.testing.assert_allclose(same, leaf, rtol=1e-6, atol=1e-6)


@pytest.mark.modes("float32")
def test_what_a_solution_shows(busy, dtype):
    """How many samples ended how in each layer, what the busiest neuron did, and the method."""
    options = {"max_spikes": {"hidden": 4, "output": 1}, "throw": False}
    solution = sx.simulate(two_layers(sx.LIF(), dtype), sx.Spikes(busy), T1, **options)
    head, columns, hidden, output = str(solution).splitlines()
    assert head == "Solution: 3 samples, 1 failed"
    assert columns.split("  ")[1] == "layer" and "ClosedForm" in hidden and "1 max_spikes_reached" in hidden
    assert "1 source_failed" in output
    most = int(jnp.max(solution.stats["hidden"].max_spike_count))
    assert f" {most} " in hidden and most > 4
    html = solution._repr_html_()
    assert html.count("<tr>") == 3 and "max_spikes_reached" in html
    jax.jit(lambda times: [sx.simulate(two_layers(sx.LIF(), dtype), sx.Spikes(times), T1, **options)])(busy)
    assert str(sx.simulate(two_layers(sx.LIF(), dtype), sx.Spikes(busy[:0]), T1)).startswith("Solution: 0 samples")
