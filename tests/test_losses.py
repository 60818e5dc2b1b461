"""Losses on first spike times: their values, what silence does, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx


T_SILENT = 40.0


@pytest.fixture(scope="module")
def loss():
    def cross_entropy(times, labels, **options):
        return sx.losses.first_spike_cross_entropy(times, labels, t_silent=T_SILENT, **options)

    return jax.jit(cross_entropy, static_argnames=("tau0", "tau1", "alpha"))


def test_value(loss, dtype):
    times = np.array([[3.0, 3.5, 5.0], [8.0, 7.5, 7.0]])
    labels = np.array([0, 1])
    expected = []
    for row, label in zip(times, labels, strict=True):
        weights = np.exp(-row / 0.5)
        expected.append(-np.log(weights[label] / weights.sum()) + 3e-3 * (np.exp(row[label] / 6.4) - 1.0))
    np.testing.assert_allclose(loss(jnp.asarray(times, dtype), jnp.asarray(labels)), expected, rtol=1e-5)


def test_parameters(loss, dtype):
    times = np.array([3.0, 3.5, 5.0])
    weights = np.exp(-times / 2.0)
    expected = -np.log(weights[2] / weights.sum()) + 0.1 * (np.exp(0.5) - 1.0)
    found = loss(jnp.asarray(times, dtype), jnp.asarray(2), tau0=2.0, tau1=10.0, alpha=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_silent_wrong_output_leaves_the_sum(loss, dtype):
    silent = loss(jnp.asarray([3.0, jnp.inf, 5.0], dtype), jnp.asarray(0))
    without = loss(jnp.asarray([3.0, 5.0], dtype), jnp.asarray(0))
    np.testing.assert_allclose(silent, without, rtol=1e-6)


def test_a_silent_label_counts_as_late(loss, dtype):
    silent = loss(jnp.asarray([jnp.inf, 3.0], dtype), jnp.asarray(0))
    late = loss(jnp.asarray([T_SILENT, 3.0], dtype), jnp.asarray(0))
    np.testing.assert_allclose(silent, late, rtol=1e-6)
    assert np.isfinite(silent)


@pytest.mark.parametrize("times", [[3.0, 3.5, 5.0], [np.inf, 3.0, 4.0], [3.0, np.inf, np.inf], [np.inf] * 3])
def test_gradients_are_finite_and_those_of_finite_differences(loss, dtype, times):
    times = jnp.asarray(times, dtype)
    gradient = jax.grad(lambda times: loss(times, jnp.asarray(0)))(times)
    assert bool(jnp.all(jnp.isfinite(gradient)))
    assert bool(jnp.all(jnp.where(jnp.isfinite(times), True, gradient == 0)))
    step = 1e-2
    for i in range(3):
        ahead, behind = (loss(times.at[i].add(s), jnp.asarray(0)) for s in (step, -step))
        np.testing.assert_allclose(gradient[i], (ahead - behind) / (2 * step), rtol=1e-2, atol=2e-3)


def test_the_gradient_favours_the_label(loss, dtype):
    gradient = jax.grad(lambda times: loss(times, jnp.asarray(0)))(jnp.asarray([3.0, 3.2], dtype))
    assert gradient[0] > 0 > gradient[1]  # descending makes the label earlier, the other later


def test_earliest(dtype):
    times = jnp.asarray([[3.0, 2.0, 4.0], [jnp.inf, jnp.inf, 1.0], [2.0, 2.0, 2.0], [jnp.inf] * 3], dtype)
    np.testing.assert_array_equal(sx.losses.earliest(times), [1, 2, 0, -1])
    assert int(sx.losses.earliest(times[0])) == 1
