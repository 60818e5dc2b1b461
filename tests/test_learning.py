"""Encoders, data sets, and pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax import plot, train
from spikax.datasets import yin_yang, yin_yang_spikes


def test_latency_is_the_published_code(dtype):
    spikes = sx.encode.latency(jnp.asarray([[0.0, 0.5, 1.0]], dtype), 2.0, 30.0)
    assert spikes.times.shape == (1, 3, 1)
    np.testing.assert_allclose(spikes.times[0, :, 0], [2.0, 16.0, 30.0], rtol=1e-6)


def test_latency_is_differentiable_in_all_arguments(dtype):
    def total(values, early, late):
        return jnp.sum(sx.encode.latency(values, early, late).times)

    arguments = jnp.asarray([0.25, 0.5], dtype), jnp.asarray(1.0, dtype), jnp.asarray(5.0, dtype)
    values, early, late = jax.grad(total, argnums=(0, 1, 2))(*arguments)
    np.testing.assert_allclose(values, [4.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose([early, late], [1.25, 0.75], rtol=1e-6)


@pytest.mark.parametrize(
    "values, early, late, error",
    [
        ([1.5], 0.0, 30.0, ValueError),
        ([-0.1], 0.0, 30.0, ValueError),
        ([np.nan], 0.0, 30.0, ValueError),
        ([0.5], 30.0, 30.0, ValueError),
        ([0.5], np.inf, 30.0, ValueError),
        (None, 0.0, 30.0, TypeError),
    ],
)
def test_latency_refuses(values, early, late, error, dtype):
    with pytest.raises(error, match="must be"):
        sx.encode.latency(values if values is None else jnp.asarray(values, dtype), early, late)


def published_class(x, y, r_small=0.1, r_big=0.5):
    """The class of a point, one at a time, from the definition in the reference."""
    d_right = np.sqrt((x - 1.5 * r_big) ** 2 + (y - r_big) ** 2)
    d_left = np.sqrt((x - 0.5 * r_big) ** 2 + (y - r_big) ** 2)
    if d_right < r_small or d_left < r_small:
        return 2
    return int(r_small < d_left <= 0.5 * r_big or (y > r_big and d_right > 0.5 * r_big))


def test_yin_yang_has_the_published_classes():
    points, labels = yin_yang(2000, 7)
    assert points.shape == (2000, 2) and labels.shape == (2000,)
    assert np.all(np.hypot(*(points - 0.5).T) <= 0.5)
    assert [published_class(*point) for point in points] == list(labels)
    # Drawn uniformly: a third each, within five standard deviations.
    assert np.all(np.abs(np.bincount(labels) - 2000 / 3) < 5 * np.sqrt(2000 * 2 / 9))


def test_yin_yang_is_reproducible_and_scales():
    again = yin_yang(50, 3)
    np.testing.assert_array_equal(yin_yang(50, 3).points, again.points)
    assert not np.array_equal(yin_yang(50, 4).points, again.points)
    np.testing.assert_allclose(yin_yang(50, 3, r_small=0.2, r_big=1.0).points, 2 * again.points)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "arguments, options, error",
    [
        ((0, 1), {}, ValueError),
        ((2.5, 1), {}, TypeError),
        ((10, -1), {}, ValueError),
        ((10, "a"), {}, TypeError),
        ((10, 1), {"r_small": 0.3}, ValueError),
        ((10, 1), {"r_big": -1.0}, ValueError),
    ],
)
def test_yin_yang_refuses(arguments, options, error):
    with pytest.raises(error, match="must be"):
        yin_yang(*arguments, **options)


def test_yin_yang_spikes(dtype):
    spikes = yin_yang_spikes(jnp.asarray([[0.1, 0.8]], dtype))
    np.testing.assert_allclose(spikes.times[0, :, 0], [3.0, 24.0, 27.0, 6.0, 0.0], rtol=1e-5)
    with pytest.raises(ValueError, match="points"):
        yin_yang_spikes(jnp.zeros((4, 3), dtype))


@pytest.fixture
def ax():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    return figure.gca()


def test_raster_draws_a_stroke_per_spike(ax, dtype):
    spikes = sx.Spikes(jnp.asarray([[1.0, 2.0], [3.0, jnp.inf], [jnp.inf, jnp.inf]], dtype))
    assert plot.raster(spikes, ax) is ax
    assert sum(len(rows.get_segments()) for rows in ax.collections) == 3
    with pytest.raises(ValueError, match="one sample"):
        plot.raster(sx.Spikes(spikes.times[None]), ax)


def test_learning_curve_and_decision_map(ax):
    history = [train.Epoch(i, 1.0, {"accuracy": 0.5, "loss": 1.0}, {"accuracy": 0.6, "loss": 0.9}) for i in (1, 2)]
    assert plot.learning_curve(history, ax) is ax and len(ax.lines) == 2
    with pytest.raises(ValueError, match="measure"):
        plot.learning_curve(history, ax, measure="brightness")
    history = [epoch._replace(training=epoch.training | {"gradient_norm": 2.0}) for epoch in history]
    assert len(plot.learning_curve(history, ax.figure.subplots(), measure="gradient_norm").lines) == 1
    ax = ax.figure.subplots()
    points, labels = yin_yang(20, 0)
    assert plot.decision_map(lambda points: (points[:, 0] > 0.5).astype(int), points, labels, ax, resolution=9) is ax
    with pytest.raises(ValueError, match="labels"):
        plot.decision_map(lambda points: points, points, None, ax)
