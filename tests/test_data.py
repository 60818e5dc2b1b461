"""Data sets, what turns them into spikes, and the batches they come in."""

import gzip
import re
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax.datasets import fashion_mnist, image_row_spikes, image_spikes, Loader, mnist, nmnist, Recordings, shd, ssc


pytestmark = pytest.mark.modes("float64")  # the code is that of NumPy; what depends on the mode says so


def numbered(n=11, batch_size=3, **options):
    """Samples that tell which they are, in every part of their tree."""
    spikes = sx.Spikes(np.arange(float(n))[:, None, None] + np.zeros((n, 2, 1)))
    return Loader({"a": spikes, "b": np.arange(n)}, (np.arange(n),), batch_size=batch_size, **options)


def seen(batches):
    return [np.asarray(targets[0]).tolist() for _, targets in batches]


@pytest.mark.modes("float32", "float64")
def test_a_batch_holds_the_same_samples_in_every_array():
    loader = numbered()
    batches = list(loader.epoch(1))
    assert len(batches) == len(loader) == 3 and loader.samples == 11
    for inputs, (targets,) in batches:
        assert isinstance(inputs["a"], sx.Spikes) and isinstance(targets, jax.Array)
        assert inputs["a"].times.dtype == jnp.result_type(float)
        np.testing.assert_array_equal(inputs["a"].times[:, 1, 0], targets)
        np.testing.assert_array_equal(inputs["b"], targets)
    drawn = np.concatenate(seen(batches))
    assert np.unique(drawn).size == 9  # none twice


def test_the_order_follows_from_seed_and_epoch():
    first = seen(numbered().epoch(4))
    assert seen(numbered().epoch(4)) == first
    assert seen(numbered().epoch(5)) != first and seen(numbered(seed=1).epoch(4)) != first
    loader = numbered()
    next(loader.epoch(3))
    assert seen(loader.epoch(4, start=1)) == first[1:] and seen(loader.epoch(4, start=3)) == []
    # The samples left over are others in other epochs.
    assert set(np.concatenate([np.ravel(seen(loader.epoch(number))) for number in range(8)])) == set(range(11))


@pytest.mark.parametrize("n, batch_size, counts", [(11, 4, [4, 4, 3]), (8, 4, [4, 4]), (3, 5, [3])])
def test_evaluation_counts_every_sample_once(n, batch_size, counts):
    batches = list(numbered(n, batch_size).in_order())
    assert [count for *_, count in batches] == counts
    assert all(targets[0].shape == (batch_size,) for _, targets, _ in batches)
    assert np.concatenate([targets[0][:count] for _, targets, count in batches]).tolist() == list(range(n))


def event_lists(lengths):
    """Lists whose first channel tells which they are."""
    return [sx.Events(np.arange(float(k)), np.full(k, i), len(lengths)) for i, k in enumerate(lengths)]


def test_lists_of_events_are_filled_up_and_not_cut():
    lengths = [3, 17, 8, 1, 0, 9, 12, 5]
    lists = event_lists(lengths)
    lists[2] = sx.Events(np.append(lists[2].times, np.inf), np.append(lists[2].channels, 2), 8)
    loader = Loader(lists, np.arange(8), batch_size=2)
    assert loader.lengths == (5, 9, 13, 17)
    for events, samples in loader.epoch(0):
        needed = max(lengths[sample] for sample in np.asarray(samples))
        assert events.times.shape[1] == min(length for length in loader.lengths if length >= needed)
        lists = (np.asarray(part) for part in (events.times, events.channels, samples))
        for times, channels, sample in zip(*lists, strict=True):
            happened = np.isfinite(times)
            np.testing.assert_array_equal(times[happened], np.arange(lengths[sample]))
            np.testing.assert_array_equal(channels[happened], sample)
    assert {events.times.shape for events, *_ in loader.in_order()} == {(2, 17)}
    assert Loader(event_lists([0, 0]), np.arange(2), batch_size=2).lengths == (1,)


LISTS = event_lists([2, 3])


def test_lists_of_similar_length_can_be_put_together():
    sizes = np.random.default_rng(0).integers(1, 100, 200)
    lists = [sx.Events(np.arange(float(size)), np.zeros(size, int), 1) for size in sizes]
    places, seen_by = {}, {}
    for grouped in (False, True):
        loader = Loader(lists, np.arange(200), batch_size=4, group_by_length=grouped)
        batches = list(loader.epoch(0))
        seen_by[grouped] = [samples.tolist() for _, samples in batches]
        places[grouped] = sum(events.times.size for events, _ in batches)
        assert seen_by[grouped] == [samples.tolist() for _, samples in loader.epoch(0)]
        assert sorted(np.concatenate(seen_by[grouped])) == list(range(200))
    assert places[True] < 0.8 * places[False]
    # By its text `fit` knows whether a training that goes on has the same batches.
    assert "group_by_length=True" in repr(loader)
    # Long ones do not come last.
    longest = [sizes[batch].max() for batch in seen_by[True]]
    assert longest != sorted(longest) and longest[:16] != sorted(longest[:16])


@pytest.mark.parametrize(
    "name, error, build",
    [
        ("inputs", TypeError, lambda: Loader(None, np.ones(2), batch_size=1)),
        ("inputs", TypeError, lambda: Loader([], np.ones(2), batch_size=1)),
        ("inputs", TypeError, lambda: Loader([1.0, 2.0], np.ones(2), batch_size=1)),
        ("inputs", TypeError, lambda: Loader(np.asarray(["a", "b"]), np.ones(2), batch_size=1)),
        ("inputs", TypeError, lambda: Loader(jax.random.split(jax.random.key(0)), np.ones(2), batch_size=1)),
        ("inputs", ValueError, lambda: Loader(np.ones(()), np.ones(2), batch_size=1)),
        ("inputs", ValueError, lambda: Loader(np.ones(0), np.ones(0), batch_size=1)),
        ("inputs", ValueError, lambda: Loader((np.ones(2), np.ones(3)), np.ones(2), batch_size=1)),
        ("inputs", ValueError, lambda: Loader(sx.Spikes(np.ones((2, 1))), np.ones(2), batch_size=1)),
        ("inputs", ValueError, lambda: Loader(LISTS[0], np.ones(2), batch_size=1)),
        ("inputs", TypeError, lambda: Loader([LISTS[0], np.ones(2)], np.ones(2), batch_size=1)),
        ("inputs", ValueError, lambda: Loader([LISTS[0], *event_lists([2])], np.ones(2), batch_size=1)),
        ("inputs", ValueError, lambda: Loader([sx.Events([[1.0]], [[0]], 2)], np.ones(1), batch_size=1)),
        ("targets", ValueError, lambda: Loader(LISTS, np.ones(3), batch_size=1)),
        ("targets", TypeError, lambda: Loader(LISTS, None, batch_size=1)),
        ("batch_size", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=0)),
        ("batch_size", TypeError, lambda: Loader(LISTS, np.ones(2), batch_size=1.0)),
        ("batch_size", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=3).epoch(0)),
        ("seed", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=1, seed=-1)),
        ("group_by_length", TypeError, lambda: Loader(LISTS, np.ones(2), batch_size=1, group_by_length=1)),
        ("group_by_length", ValueError, lambda: Loader(np.ones(2), np.ones(2), batch_size=1, group_by_length=True)),
        ("number", TypeError, lambda: Loader(LISTS, np.ones(2), batch_size=1).epoch(1.0)),
        ("number", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=1).epoch(-1)),
        ("start", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=1).epoch(0, start=3)),
    ],
)
def test_the_loader_refuses(name, error, build):
    with pytest.raises(error, match=f"`{name}` must be .*; got"):
        build()


def test_the_fields_of_a_population_are_the_published_ones():
    times = np.asarray(
        sx.encode.population(np.asarray([[2.0, 4.0]]), 5, 1.0, 11.0, low=0.0, high=6.0, cutoff=0.0).times
    )
    assert times.shape == (1, 10, 1)
    # Three fields apart by two, the outer ones centred one outside of the bounds.
    centres, width = np.asarray([-1.0, 1.0, 3.0, 5.0, 7.0]), 2.0 / 1.5
    response = np.exp(-((np.asarray([[2.0], [4.0]]) - centres) ** 2) / (2 * width**2))
    np.testing.assert_allclose(times.reshape(2, 5), 11.0 - 10.0 * response, rtol=1e-12)


@pytest.mark.modes("float64", "mixed")
def test_a_field_without_response_is_silent(dtype):
    @jax.jit
    def gradient(values):
        def total(values):
            times = sx.encode.population(values, 8, 0.0, 10.0, high=jnp.asarray([1.0, 2.0], dtype)).times
            return jnp.sum(jnp.where(jnp.isfinite(times), times, 0.0)), times

        return jax.grad(total, has_aux=True)(values)

    slope, times = gradient(jnp.asarray([0.3, 1.1], dtype))
    happened = np.isfinite(times)
    assert times.dtype == dtype and 0 < happened.sum() < 16 and np.all(np.asarray(times)[happened] <= 9.0)
    assert np.all(np.isfinite(slope)) and np.all(np.asarray(slope) != 0.0)


def test_encoders_are_differentiable_in_all_their_arguments():
    @jax.jit
    def weighted(values, low, high, beta, early, late, std):
        spikes = sx.encode.population(values, 4, early, late, low=low, high=high, beta=beta, cutoff=0.0)
        times = sx.encode.jitter(spikes, std, key=jax.random.key(0)).times
        return jnp.sum(jnp.sin(jnp.arange(1.0, 9.0)) * times[:, 0])

    point = (np.asarray([0.3, 1.1]), -0.1, np.asarray([1.0, 2.0]), 1.5, 1.0, 9.0, 0.7)
    point = jax.tree.map(jnp.asarray, point)
    gradient = jax.jit(jax.grad(weighted, argnums=tuple(range(7))))(*point)
    leaves, structure = jax.tree.flatten(point)
    for i, (leaf, bar) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):

        def moved(h, i=i, leaf=leaf):
            return weighted(*jax.tree.unflatten(structure, [*leaves[:i], leaf + h, *leaves[i + 1 :]]))

        np.testing.assert_allclose(np.sum(bar), (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-6)


def test_poisson_spikes_have_the_rates_and_a_capacity_that_fits():
    rates = np.asarray([[0.0, 0.02, 0.5]] * 40)
    spikes = sx.encode.poisson(rates, 120.0, seed=3, t0=20.0)
    times = np.asarray(spikes.times)
    counts = np.isfinite(times).sum(axis=-1)
    assert counts.max() == times.shape[-1]
    assert np.all((times >= 20.0) & ((times < 120.0) | np.isinf(times)))
    # Within five standard deviations of the mean of 40 Poisson numbers.
    np.testing.assert_array_less(np.abs(counts.mean(axis=0) - rates[0] * 100), 5 * np.sqrt(rates[0] * 100 / 40) + 1e-9)
    assert abs(times[np.isfinite(times)].mean() - 70.0) < 5 * 100 / np.sqrt(12 * counts.sum())
    np.testing.assert_array_equal(times, sx.encode.poisson(rates, 120.0, seed=3, t0=20.0).times)
    assert not np.array_equal(counts, np.isfinite(sx.encode.poisson(rates, 120.0, seed=4, t0=20.0).times).sum(-1))
    assert sx.encode.poisson(np.zeros((2, 3)), 1.0, seed=0).times.shape == (2, 3, 1)


def sent_on_delta(signal, times, delta):
    """The spikes of one signal, one at a time, from the definition: their times and signs."""
    reference, spikes = signal[0], []
    for x0, x1, t0, t1 in zip(signal, signal[1:], times, times[1:], strict=False):
        while abs(x1 - reference) >= delta:
            sign = np.sign(x1 - reference)
            reference += sign * delta
            spikes.append((t0 + (reference - x0) / (x1 - x0) * (t1 - t0), sign))
    return spikes


def test_threshold_sends_on_delta():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.5, 2.0, 60))
    signal = np.cumsum(rng.standard_normal((2, 60, 3)), axis=1)
    delta = np.asarray([0.5, 1.0, 100.0])
    spikes = np.asarray(sx.encode.send_on_delta(signal, times, delta).times)
    assert spikes.shape[:2] == (2, 6) and np.isfinite(spikes).sum(axis=-1).max() == spikes.shape[2]
    for sample in range(2):
        for i in range(3):
            expected = sent_on_delta(signal[sample, :, i], times, delta[i])
            for channel, sign in ((i, 1), (i + 3, -1)):
                trains = spikes[sample, channel]
                np.testing.assert_allclose(trains[np.isfinite(trains)], [t for t, s in expected if s == sign])
    assert len(sent_on_delta(signal[0, :, 0], times, 0.5)) > 60  # several between two samples


def test_threshold_of_a_signal_that_reaches_its_levels_at_samples():
    signal = np.asarray([0.0, 1.0, 1.0, 0.0, 2.0, 2.0])[:, None]
    times = np.asarray(sx.encode.send_on_delta(signal, np.arange(6.0), 1.0).times)
    np.testing.assert_array_equal(times, [[1.0, 3.5, 4.0], [3.0, np.inf, np.inf]])
    assert np.all(np.isinf(sx.encode.send_on_delta(np.ones((4, 2)), np.arange(4.0), 1.0).times))


@pytest.mark.modes("mixed")
def test_lost_and_moved_spikes_stay_in_order(dtype):
    times = jnp.broadcast_to(jnp.arange(400.0, dtype=dtype), (2, 3, 400))
    spikes = sx.Spikes(times, payload={"a": times})
    key = jax.random.key(0)
    fewer = jax.jit(sx.encode.drop)(spikes, 0.2, key=key)
    happened = jnp.isfinite(fewer.times)
    assert abs(np.mean(np.asarray(happened)) - 0.8) < 5 * np.sqrt(0.16 / 2400)
    assert fewer.times.dtype == dtype and bool(jnp.all(fewer.times[..., 1:] >= fewer.times[..., :-1]))
    np.testing.assert_array_equal(fewer.times[happened], fewer.payload["a"][happened])
    moved = sx.encode.jitter(spikes, 2.0, key=key)
    shifts = np.asarray(moved.times - moved.payload["a"])
    assert bool(jnp.all(moved.times[..., 1:] >= moved.times[..., :-1])) and not jnp.all(moved.payload["a"] == times)
    assert abs(np.mean(shifts)) < 5 * 2.0 / np.sqrt(2400) and abs(np.std(shifts) - 2.0) < 5 * 2.0 / np.sqrt(4800)
    within = sx.encode.jitter(spikes, 2.0, t0=1.0, key=key).times
    reflected = jnp.sort(jnp.where(moved.times < 1.0, 2.0 - moved.times, moved.times), axis=-1)
    assert jnp.min(moved.times) < -1.0 and jnp.min(within) >= 1.0
    np.testing.assert_allclose(within, reflected, rtol=1e-6)
    # Events carry their channels along.
    events = sx.Events(np.arange(8.0), np.arange(8), 8)
    late = sx.encode.jitter(events, 3.0, key=key)
    again = np.argsort(np.asarray(late.channels))
    assert not np.array_equal(again, np.arange(8))
    np.testing.assert_allclose(late.times[again] - np.arange(8.0), 3.0 * jax.random.normal(key, (8,)), atol=1e-5)
    np.testing.assert_array_equal(sx.encode.drop(events, 1.0, key=key).times, jnp.inf)


def test_pictures_move_as_a_whole(dtype):
    height, width, most = 3, 4, 2
    times = jnp.arange(200.0 * height * width, dtype=dtype).reshape(200, height * width, 1)
    spikes = sx.Spikes(times, payload=times)
    moved = jax.jit(lambda spikes, key: sx.encode.shift(spikes, (height, width), most, key=key))(spikes, KEY)
    assert moved.times.dtype == dtype
    seen = set()
    for before, after in zip(np.asarray(times), np.asarray(moved.times), strict=True):
        pictures = before.reshape(height, width), after.reshape(height, width)
        ways = {
            way for way in np.ndindex(5, 5) if np.array_equal(slid(pictures[0], way[0] - 2, way[1] - 2), pictures[1])
        }
        assert len(ways) == 1
        seen |= ways
    assert len(seen) == 25
    happened = np.isfinite(moved.times)
    np.testing.assert_array_equal(moved.times[happened], moved.payload[happened])
    # The same pictures as lists.
    events = sx.encode.shift(spikes.events(), (height, width), most, key=KEY)
    as_trains = sx.Spikes.from_events(events.times, events.channels, events.n, max_spikes=1)
    np.testing.assert_array_equal(as_trains.times, moved.times)
    assert events.times.dtype == dtype and events.channels.dtype == spikes.events().channels.dtype


def slid(picture, down, right):
    """A picture moved, with `inf` where nothing comes in."""
    height, width = picture.shape
    around = np.pad(picture, ((height, height), (width, width)), constant_values=np.inf)
    return around[height - down : 2 * height - down, width - right : 2 * width - right]


VALUES, SIGNAL, TIMES, KEY = np.full((2, 3), 0.5), np.ones((4, 2)), np.arange(4.0), jax.random.key(0)
SPIKES = sx.Spikes(np.ones((2, 1)))


@pytest.mark.parametrize(
    "name, error, build",
    [
        ("values", ValueError, lambda: sx.encode.population(VALUES + 1.0, 5, 0.0, 1.0)),
        ("values", TypeError, lambda: sx.encode.population("a", 5, 0.0, 1.0)),
        ("fields", ValueError, lambda: sx.encode.population(VALUES, 2, 0.0, 1.0)),
        ("fields", TypeError, lambda: sx.encode.population(VALUES, 5.0, 0.0, 1.0)),
        ("low", ValueError, lambda: sx.encode.population(VALUES, 5, 0.0, 1.0, low=1.0)),
        ("low", ValueError, lambda: sx.encode.population(VALUES, 5, 0.0, 1.0, low=np.zeros(2))),
        ("beta", ValueError, lambda: sx.encode.population(VALUES, 5, 0.0, 1.0, beta=0.0)),
        ("cutoff", ValueError, lambda: sx.encode.population(VALUES, 5, 0.0, 1.0, cutoff=1.0)),
        ("t_early", ValueError, lambda: sx.encode.population(VALUES, 5, 1.0, 1.0)),
        ("rates", ValueError, lambda: sx.encode.poisson(-VALUES, 1.0, seed=0)),
        ("rates", ValueError, lambda: sx.encode.poisson(np.asarray([np.nan]), 1.0, seed=0)),
        ("rates", TypeError, lambda: sx.encode.poisson("a", 1.0, seed=0)),
        ("rates", ValueError, lambda: sx.encode.poisson(0.1, 1.0, seed=0)),
        ("rates", ValueError, lambda: jax.jit(lambda x: sx.encode.poisson(x, 1.0, seed=0).times)(VALUES)),
        ("t0", ValueError, lambda: sx.encode.poisson(VALUES, 1.0, seed=0, t0=1.0)),
        ("t1", ValueError, lambda: sx.encode.poisson(VALUES, np.inf, seed=0)),
        ("seed", TypeError, lambda: sx.encode.poisson(VALUES, 1.0, seed=None)),
        ("signal", ValueError, lambda: sx.encode.send_on_delta(TIMES, TIMES, 1.0)),
        ("signal", ValueError, lambda: sx.encode.send_on_delta(SIGNAL * np.nan, TIMES, 1.0)),
        ("times", ValueError, lambda: sx.encode.send_on_delta(SIGNAL, TIMES[:2], 1.0)),
        ("times", ValueError, lambda: sx.encode.send_on_delta(SIGNAL, TIMES[::-1], 1.0)),
        ("delta", ValueError, lambda: sx.encode.send_on_delta(SIGNAL, TIMES, 0.0)),
        ("delta", ValueError, lambda: sx.encode.send_on_delta(SIGNAL, TIMES, np.ones(3))),
        ("spikes", TypeError, lambda: sx.encode.drop(TIMES, 0.1, key=KEY)),
        ("p", ValueError, lambda: sx.encode.drop(SPIKES, 1.1, key=KEY)),
        ("key", TypeError, lambda: sx.encode.drop(SPIKES, 0.1, key=0)),
        ("spikes", TypeError, lambda: sx.encode.jitter(None, 0.1, key=KEY)),
        ("spikes", TypeError, lambda: sx.encode.shift(TIMES, (1, 2), 1, key=KEY)),
        ("shape", ValueError, lambda: sx.encode.shift(SPIKES, (2, 2), 1, key=KEY)),
        ("shape", TypeError, lambda: sx.encode.shift(SPIKES, 2, 1, key=KEY)),
        ("shape", TypeError, lambda: sx.encode.shift(SPIKES, (1.0, 2.0), 1, key=KEY)),
        ("max_shift", ValueError, lambda: sx.encode.shift(SPIKES, (1, 2), -1, key=KEY)),
        ("key", TypeError, lambda: sx.encode.shift(SPIKES, (1, 2), 1, key=0)),
        ("std", ValueError, lambda: sx.encode.jitter(SPIKES, -0.1, key=KEY)),
        ("std", TypeError, lambda: sx.encode.jitter(SPIKES, "a", key=KEY)),
        ("t0", TypeError, lambda: sx.encode.jitter(SPIKES, 0.1, t0="a", key=KEY)),
        ("key", TypeError, lambda: sx.encode.jitter(SPIKES, 0.1, key=None)),
    ],
)
def test_the_encoders_refuse(name, error, build):
    with pytest.raises(error, match=f"`{name}` must be .*; got"):
        build()


def test_the_digits_are_complete_and_in_parts_with_all_classes():
    parts = sx.datasets.digits()
    assert [len(part.labels) for part in parts] == [1077, 360, 360]
    images = np.concatenate([part.images for part in parts])
    assert images.shape == (1797, 8, 8) and images.min() == 0.0 and images.max() == 1.0
    assert np.all(images * 16 == np.round(images * 16)) and images.sum() * 16 == 561718
    whole = np.bincount(np.concatenate([part.labels for part in parts]))
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as published
    for part in parts:
        assert np.all(np.abs(np.bincount(part.labels) - whole * len(part.labels) / 1797) < 2)
    again, other = sx.datasets.digits(seed=0), sx.datasets.digits(seed=1)
    np.testing.assert_array_equal(again.test.images, parts.test.images)
    assert not np.array_equal(other.test.images, parts.test.images)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Files of MNIST, of 20 samples for training and 5 for the test; those for training are compressed."""
    for part, n in (("train", 20), ("t10k", 5)):
        images = np.arange(n)[:, None, None] + np.zeros((n, 28, 28), int)
        images[:, 0, 1] = 255
        for name, data in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", np.arange(n) % 10)):
            if part == "train":
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(data)))
            else:
                (tmp_path / name).write_bytes(idx(data))
    return tmp_path


def test_mnist_reads_its_files(folder):
    training, validation, test = mnist(folder, n_validation=10)
    assert training.images.shape == (10, 28, 28) and training.images.dtype == np.float32
    assert sorted(validation.labels) == sorted(training.labels) == list(range(10))
    for part in (training, validation, test):
        sample = np.round(part.images[:, 3, 2] * 255).astype(int)
        np.testing.assert_array_equal(sample % 10, part.labels)
        np.testing.assert_array_equal(part.images[:, 0, 1], 1.0)
    drawn = np.concatenate([training.images[:, 3, 2], validation.images[:, 3, 2]])
    assert np.unique(drawn).size == 20
    np.testing.assert_array_equal(mnist(str(folder), n_validation=10).training.images, training.images)
    assert not np.array_equal(mnist(folder, n_validation=10, seed=1).training.images, training.images)
    np.testing.assert_array_equal(fashion_mnist(folder, n_validation=10).test.images, test.images)


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    "name, data, error",
    [
        (IMAGES, None, FileNotFoundError),
        (IMAGES, b"", ValueError),
        (IMAGES, b"no gzip", ValueError),
        (IMAGES, gzip.compress(b"foreign"), ValueError),
        (IMAGES, gzip.compress(idx(np.zeros((20, 28, 28))))[:-9], ValueError),
        (IMAGES, gzip.compress(idx(np.zeros((20, 28, 28)))[:-1]), ValueError),
        (IMAGES, gzip.compress(idx(np.zeros((20, 28, 28))) + b"0"), ValueError),
        (IMAGES, gzip.compress(idx(np.zeros((20, 8, 8)))), ValueError),
        (LABELS, gzip.compress(idx(np.zeros((20, 28, 28)))), ValueError),
        (LABELS, gzip.compress(idx(np.zeros(19))), ValueError),
        (LABELS, gzip.compress(idx(np.full(20, 10))), ValueError),
    ],
    # A file of gzip holds the time, which names of tests must not.
    ids=["none", "empty", "plain", "foreign", "cut", "short", "long", "small", "images", "few", "eleven classes"],
)
def test_mnist_refuses_files(folder, name, data, error):
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    with pytest.raises(error, match=f"{name[:12]}.*; got"):
        mnist(folder, n_validation=10)


def test_image_spikes_are_the_published_code():
    images = np.zeros((2, 2, 3), np.float32)
    images[0, 0] = [1.0, 0.25, 1 / 255]
    images[1, 1, 2] = 2 / 255
    events = image_spikes(images)
    assert events.n == 6 and events.times.dtype == np.float32
    np.testing.assert_allclose(events.times, [[0.0, 15.0], [(1 - 2 / 255) * 20, np.inf]], rtol=1e-6)
    assert events.channels[0].tolist() == [0, 1] and int(events.channels[1, 0]) == 5
    np.testing.assert_allclose(image_spikes(images[0], t_early=1.0, t_late=2.0, threshold=0.5).times, [1.0])
    assert image_spikes(np.zeros((3, 2, 2))).times.shape == (3, 1)


def test_rows_of_images_come_one_after_the_other():
    images = np.array([[[1.0, 0.0, 0.5], [0.0, 0.75, 1.0]], [[0.0, 0.0, 0.0], [0.25, 0.0, 0.0]]])
    events = image_row_spikes(images, t_row=4.0)
    assert events.n == 3
    np.testing.assert_allclose(events.times, [[0.0, 2.0, 4.0, 5.0], [7.0, np.inf, np.inf, np.inf]])
    assert np.asarray(events.channels)[0].tolist() == [0, 2, 2, 1] and events.channels[1, 0] == 0
    np.testing.assert_allclose(image_row_spikes(images[1], threshold=0.2).times, [8.75])


def write_recordings(path, labels, seed, **columns):
    """A file as those of Heidelberg; gives its times in s and its units."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 9, len(labels))
    columns = {
        "spikes/times": [np.sort(rng.uniform(0.0, 1.0, size)).astype(np.float16) for size in sizes],
        "spikes/units": [rng.integers(0, 700, size) for size in sizes],
    } | columns
    with h5py.File(path, "w") as file:
        for (name, rows), kind in zip(columns.items(), (np.float16, np.uint16), strict=True):
            data = file.create_dataset(name, (len(rows),), h5py.vlen_dtype(kind))
            for i, row in enumerate(rows):
                data[i] = row
        file["labels"] = np.asarray(labels, np.uint16)
    return columns["spikes/times"], columns["spikes/units"]


def test_the_data_of_heidelberg_in_milliseconds(tmp_path):
    labels = np.repeat(np.arange(20), 2)
    write_recordings(tmp_path / "shd_train.h5", labels, seed=0)
    times, units = write_recordings(tmp_path / "shd_test.h5", labels[::-1], seed=1)
    training, validation, test = shd(tmp_path, n_validation=20)
    assert sorted(training.labels) == sorted(validation.labels) == list(range(20))
    np.testing.assert_array_equal(test.labels, labels[::-1])
    for events, t, unit in zip(test.spikes, times, units, strict=True):
        assert isinstance(events, sx.Events) and events.n == 700 and isinstance(events.times, np.ndarray)
        np.testing.assert_allclose(events.times, 1000 * t.astype(float), rtol=1e-6)
        np.testing.assert_array_equal(events.channels, unit)
    batch, _ = next(Loader(test.spikes, test.labels, batch_size=40).epoch(0))
    assert np.isfinite(batch.times).sum() == sum(t.size for t in times)
    assert len(training.spikes) == 20 and len(shd(tmp_path, n_validation=1).training.spikes) == 39
    for part in ("train", "valid", "test"):
        write_recordings(tmp_path / f"ssc_{part}.h5", [34, 0], seed=2)
    assert [part.labels.tolist() for part in ssc(tmp_path)] == [[34, 0]] * 3


@pytest.mark.parametrize(
    "columns, labels",
    [
        ({"spikes/times": [[0.1], [-0.1]], "spikes/units": [[1], [2]]}, [0, 1]),
        ({"spikes/times": [[0.1], [np.nan]], "spikes/units": [[1], [2]]}, [0, 1]),
        ({"spikes/times": [[0.1], [0.2]], "spikes/units": [[1], [700]]}, [0, 1]),
        ({"spikes/times": [[0.1], [0.2]], "spikes/units": [[1], [2, 3]]}, [0, 1]),
        ({"spikes/times": [[0.1], [0.2]], "spikes/units": [[1]]}, [0, 1]),
        ({}, [0, 20]),
    ],
)
def test_shd_refuses_rubbish_in_a_file(tmp_path, columns, labels):
    write_recordings(tmp_path / "shd_train.h5", labels, seed=0, **columns)
    with pytest.raises(ValueError, match="`shd_train.h5` must be of .*; got"):
        shd(tmp_path)


def test_shd_refuses_other_files(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    with pytest.raises(FileNotFoundError, match="`directory` must be a folder that holds shd_train.h5"):
        shd(tmp_path)
    path = tmp_path / "shd_train.h5"
    path.write_bytes(b"foreign")
    with pytest.raises(ValueError, match="complete HDF5 file"):
        shd(tmp_path)
    with h5py.File(path, "w") as file:
        file["labels"] = np.zeros(2)
    with pytest.raises(ValueError, match="spikes/times"):
        shd(tmp_path)
    with h5py.File(path, "w") as file:
        for name in ("spikes/times", "spikes/units", "labels"):
            file[name] = np.zeros(2, int)
    with pytest.raises(ValueError, match="lists of times"):
        shd(tmp_path)
    write_recordings(path, np.zeros(300), seed=0)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match="complete HDF5 file"):
        shd(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="spikax\\[shd\\]"):
        shd(tmp_path)


def camera_bytes(events):
    """A file as those of N-MNIST, of events (x, y, p, us)."""
    return b"".join((x << 32 | y << 24 | p << 23 | us).to_bytes(5, "big") for x, y, p, us in events)


@pytest.fixture
def camera_folder(tmp_path):
    """Files of N-MNIST, two of each label for training and one for the test, whose last pixel tells the label."""
    for part, n in (("Train", 2), ("Test", 1)):
        for label in range(10):
            folder = tmp_path / part / str(label)
            folder.mkdir(parents=True)
            for number in range(n):
                events = [(0, 0, 1, 2**23 - 1), (label, 33, 0, 937)]
                (folder / f"{number:05}.bin").write_bytes(camera_bytes(events))
    return tmp_path


def test_nmnist_reads_its_files(camera_folder):
    overflow = [(33, 2, 1, 100), (255, 240, 1, 8191), (3, 4, 0, 5), (0, 240, 0, 0), (5, 6, 1, 7)]
    (camera_folder / "Test" / "9" / "00000.bin").write_bytes(camera_bytes(overflow))
    training, validation, test = nmnist(camera_folder, n_validation=10)
    assert sorted(training.labels) == sorted(validation.labels) == test.labels.tolist() == list(range(10))
    float_type = jnp.result_type(float)
    for part in (training, validation, Recordings(test.spikes[:9], test.labels[:9])):
        for events, label in zip(part.spikes, part.labels, strict=True):
            assert events.n == 2312 and isinstance(events.times, np.ndarray)
            np.testing.assert_array_equal(events.times, np.asarray([0.937, 8388.607], float_type))
            assert events.channels.tolist() == [33 * 34 + label, 34 * 34]
    np.testing.assert_array_equal(test.spikes[9].times, np.asarray([0.1, 8.197, 16.391], float_type))
    assert test.spikes[9].channels.tolist() == [34 * 34 + 2 * 34 + 33, 4 * 34 + 3, 34 * 34 + 6 * 34 + 5]
    batch, labels = next(Loader(training.spikes, training.labels, batch_size=10).epoch(0))
    assert batch.times.shape == (10, 2) and labels.shape == (10,)


@pytest.mark.parametrize("data", [b"", b"1234", camera_bytes([(0, 0, 0, 1)]) + b"1", camera_bytes([(34, 0, 0, 1)])])
def test_nmnist_refuses_files(camera_folder, data):
    (camera_folder / "Train" / "3" / "00001.bin").write_bytes(data)
    with pytest.raises(ValueError, match="`Train/3/00001.bin` must be of .*; got"):
        nmnist(camera_folder, n_validation=10)


@pytest.mark.parametrize(
    "name, error, build",
    [
        ("directory", FileNotFoundError, lambda folder: nmnist(folder)),
        ("directory", TypeError, lambda folder: nmnist(None)),
        ("seed", ValueError, lambda folder: nmnist(folder, seed=-1)),
        ("seed", TypeError, lambda folder: sx.datasets.digits(seed="a")),
        ("seed", ValueError, lambda folder: mnist(folder, seed=-1)),
        ("directory", TypeError, lambda folder: mnist(None)),
        ("directory", FileNotFoundError, lambda folder: fashion_mnist(folder / "elsewhere")),
        ("n_validation", ValueError, lambda folder: mnist(folder)),
        ("n_validation", TypeError, lambda folder: mnist(folder, n_validation=0.5)),
        ("directory", TypeError, lambda folder: shd(1)),
        ("directory", TypeError, lambda folder: ssc(None)),
        ("seed", TypeError, lambda folder: shd(folder, seed=None)),
        ("images", TypeError, lambda folder: image_spikes(np.ones((2, 2), np.uint8))),
        ("images", ValueError, lambda folder: image_spikes(np.ones(4))),
        ("images", ValueError, lambda folder: image_spikes(np.ones((2, 2)) * 255)),
        ("images", ValueError, lambda folder: image_spikes(np.full((2, 2), np.nan))),
        ("t_early", ValueError, lambda folder: image_spikes(np.ones((2, 2)), t_early=20.0)),
        ("threshold", TypeError, lambda folder: image_spikes(np.ones((2, 2)), threshold="a")),
        ("t_row", ValueError, lambda folder: image_row_spikes(np.ones((2, 2)), t_row=0.0)),
        ("images", ValueError, lambda folder: image_row_spikes(np.ones(4))),
    ],
)
def test_the_data_sets_refuse(name, error, build, folder):
    with pytest.raises(error, match=f"`{name}` must be .*; got"):
        build(folder)


@pytest.mark.modes("float32")  # the documentation is for JAX as it comes
def test_the_page_on_data(folder):
    pytest.importorskip("h5py")
    for part in ("train", "test"):
        write_recordings(folder / f"shd_{part}.h5", np.arange(20), seed=0)
    root = Path(__file__).parent.parent
    page = (root / "docs" / "data.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    for name in ("mnist", "shd"):
        code = code.replace(f'{name}("data/{name}")', f"{name}(folder, n_validation=10)")
    code = code.replace('"examples/spoken_digits"', 'root / "examples" / "spoken_digits"')
    names: dict = {"folder": folder, "root": root}
    exec(compile(code, "data.md", "exec"), names)
    assert names["training"].images.shape == (10, 28, 28) and names["inputs"].n == 784
    assert names["spoken"].training.labels.shape == (100,) and names["spoken"].test.spikes[0].n == 70
    assert names["fewer"].times.shape == names["noise"].times.shape == names["moved"].times.shape
    assert names["count"] == 5 and names["spikes"].times.shape[1] in names["loader"].lengths


@pytest.mark.parametrize(
    "name, value, encode",
    [
        ("values", 1.5, lambda x: sx.encode.latency(x[None], 0.0, 1.0)),
        ("t_early", 2.0, lambda x: sx.encode.latency(jnp.zeros(1, x.dtype), x, 1.0)),
        ("values", 1.5, lambda x: sx.encode.population(x[None], 4, 0.0, 1.0)),
        ("low", 1.5, lambda x: sx.encode.population(jnp.zeros(1, x.dtype), 4, 0.0, 1.0, low=x)),
        ("cutoff", 1.5, lambda x: sx.encode.population(jnp.zeros(1, x.dtype), 4, 0.0, 1.0, cutoff=x)),
        ("beta", 0.0, lambda x: sx.encode.population(jnp.zeros(1, x.dtype), 4, 0.0, 1.0, beta=x)),
        ("p", 1.5, lambda x: sx.encode.drop(SPIKES, x, key=KEY)),
        ("std", -1.0, lambda x: sx.encode.jitter(SPIKES, x, key=KEY)),
        ("t0", np.inf, lambda x: sx.encode.jitter(SPIKES, jnp.ones_like(x), t0=x, key=KEY)),
    ],
)
def test_encoders_are_checked_under_jit(name, value, encode, dtype):
    spikes = eqx.filter_jit(lambda x: encode(x).times)
    with pytest.raises(RuntimeError, match=f"`{name}` must be"):
        jax.block_until_ready(spikes(jnp.asarray(value, dtype)))
