"""The Yin-Yang data against the published definition, and its encoding as spikes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx


def published_class(x, y, r_small=0.1, r_big=0.5):
    """The class of a point, in the words of the reference implementation of Kriener et al."""
    right, left = np.hypot(x - 1.5 * r_big, y - r_big), np.hypot(x - 0.5 * r_big, y - r_big)
    if right < r_small or left < r_small:
        return 2
    first = right <= r_small
    second = r_small < left <= 0.5 * r_big
    third = y > r_big and right > 0.5 * r_big
    return int(first or second or third)


@pytest.mark.parametrize("n", [1, 7, 3000])
def test_exact_count(n):
    points, labels = sx.datasets.yin_yang(n, 0)
    assert points.shape == (n, 2) and labels.shape == (n,)


@pytest.mark.parametrize("radii", [{}, {"r_small": 0.2, "r_big": 1.0}])
def test_classes(radii):
    points, labels = sx.datasets.yin_yang(2000, 1, **radii)
    big = radii.get("r_big", 0.5)
    assert np.all(np.hypot(*(points - big).T) <= big)
    np.testing.assert_array_equal(labels, [published_class(x, y, **radii) for x, y in points])


def test_classes_are_balanced():
    _, labels = sx.datasets.yin_yang(9000, 2)
    np.testing.assert_allclose(np.bincount(labels, minlength=3), 3000, atol=200)


def test_points_fill_their_class():
    """Uniformly: the share of the left dot among both is one half."""
    points, labels = sx.datasets.yin_yang(9000, 3)
    dots = points[labels == 2]
    np.testing.assert_allclose(np.mean(dots[:, 0] < 0.5), 0.5, atol=0.05)
    np.testing.assert_allclose(dots[dots[:, 0] < 0.5].mean(axis=0), [0.25, 0.5], atol=0.01)


def test_seeds():
    one, same, other = (sx.datasets.yin_yang(100, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.points, same.points)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert not np.any(np.all(one.points == other.points, axis=1))


def test_spikes(dtype):
    points = jnp.asarray([[0.0, 0.25], [1.0, 0.5]], dtype)
    spikes = sx.datasets.yin_yang_spikes(points, t_late=20.0)
    assert spikes.times.shape == (2, 5, 1) and spikes.times.dtype == dtype
    np.testing.assert_allclose(spikes.times[..., 0], [[0.0, 5.0, 20.0, 15.0, 0.0], [20.0, 10.0, 0.0, 10.0, 0.0]])


def test_latency_code(dtype):
    values = jnp.asarray([0.0, 0.5, 1.0], dtype)
    np.testing.assert_allclose(sx.encode.latency(values, 2.0, 12.0).times, [[2.0], [7.0], [12.0]])
    slope = jax.grad(lambda values: jnp.sum(sx.encode.latency(values, 2.0, 12.0).times))(values)
    np.testing.assert_allclose(slope, 10.0)
