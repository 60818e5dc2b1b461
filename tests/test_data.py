"""Data sets, what turns them into spikes, and the batches they come in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax.datasets import Loader


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
        needed = max(lengths[sample] for sample in samples)
        assert events.times.shape[1] == min(length for length in loader.lengths if length >= needed)
        for times, channels, sample in zip(events.times, events.channels, samples, strict=True):
            happened = np.isfinite(times)
            np.testing.assert_array_equal(times[happened], np.arange(lengths[sample]))
            np.testing.assert_array_equal(channels[happened], sample)
    assert {events.times.shape for events, *_ in loader.in_order()} == {(2, 17)}
    assert Loader(event_lists([0, 0]), np.arange(2), batch_size=2).lengths == (1,)


LISTS = event_lists([2, 3])


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
        ("number", TypeError, lambda: Loader(LISTS, np.ones(2), batch_size=1).epoch(1.0)),
        ("number", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=1).epoch(-1)),
        ("start", ValueError, lambda: Loader(LISTS, np.ones(2), batch_size=1).epoch(0, start=3)),
    ],
)
def test_the_loader_refuses(name, error, build):
    with pytest.raises(error, match=f"`{name}` must be .*; got"):
        build()
