"""The data sets whose answer depends on what lies a delay back."""

import numpy as np
import pytest

from spikax.datasets import delay_copy, delayed_xor
from spikax.tasks import TASKS


pytestmark = pytest.mark.modes("float64")


def test_delay_copy():
    inputs, targets = delay_copy(500, 3, delays=(20.0, 70.0))
    times = np.asarray(inputs.times)[..., 0]
    assert times.shape == (500, 3) and targets.shape == (500, 2)
    np.testing.assert_array_equal(np.isfinite(times[:, :2]), targets == 1)
    np.testing.assert_array_equal(times[:, 2], 70.0)
    delays = 70.0 - np.min(times[:, :2], axis=1)
    assert 20.0 <= delays.min() < 22.0 and 68.0 < delays.max() <= 70.0
    # Both patterns are equally likely, and the delay tells nothing; within five standard deviations.
    assert np.all(np.abs(targets.sum(axis=0) - 250) < 5 * np.sqrt(500 / 4))
    assert abs(np.corrcoef(delays, targets[:, 0])[0, 1]) < 5 / np.sqrt(500)


def shown_pulses(trains, gap):
    """The pulses of all channels of a sample, in order: the channel and the times of each."""
    times, channels = trains.ravel(), np.repeat(np.arange(len(trains)), trains.shape[1])
    order = np.argsort(times)[: np.sum(np.isfinite(times))]
    starts = np.flatnonzero(np.diff(times[order], prepend=-np.inf) > gap)
    parts = zip(np.split(times[order], starts[1:]), np.split(channels[order], starts[1:]), strict=True)
    return [(set(channel), part) for part, channel in parts]


def test_delayed_xor():
    inputs, targets = delayed_xor(300, 5, delays=(60.0, 90.0), lengths=(30.0, 50.0), interval=4.0)
    trains = np.asarray(inputs.times)
    assert trains.shape == (300, 3, 26) and targets.shape == (300,)
    assert np.min(trains) >= 0.0
    for sample, target in zip(trains, targets, strict=True):
        (first, early), (second, late), (cue, last) = shown_pulses(sample, 50.0)
        assert cue == {2} and len(first) == len(second) == 1
        assert target == (first != second)
        assert 280.0 <= last[0] <= 284.0
        for times in (early, late, last):
            # A spike in every interval of a pulse, but perhaps in the one in which it ends.
            assert 7 <= len(times) <= 13 and np.ptp(times) < 50.0
            assert np.all(np.diff(times) < 8.0)
        for before, after in ((early, late), (late, last)):
            assert 60.0 <= after[0] - before[-1] <= 90.0 + 2 * 4.0
    assert abs(targets.sum() - 150) < 5 * np.sqrt(300 / 4)


def test_the_delays_of_delayed_xor_follow_the_duration():
    task = TASKS["delayed-xor"]
    for duration, delays in ((430.0, (100.0, 150.0)), (730.0, (200.0, 300.0))):
        samples = task.split(task.settings(duration=duration)).test
        expected, targets = delayed_xor(1000, 2, delays=delays, lengths=(30.0, 50.0), interval=10.0)
        np.testing.assert_array_equal(samples.inputs.times, expected.times)
        np.testing.assert_array_equal(samples.labels, targets)
        assert duration - 30.0 <= np.min(np.asarray(samples.inputs.times)[:, 2]) < duration - 20.0
    with pytest.raises(ValueError, match="`duration` must be at least 160 ms, for two pulses"):
        task.settings(duration=159.0)


@pytest.mark.parametrize("make", [delay_copy, delayed_xor])
def test_a_seed_tells_the_samples(make):
    for same, seed in ((True, 3), (False, 4)):
        pairs = zip(make(40, 3), make(40, seed), strict=True)
        assert all(np.array_equal(getattr(a, "times", a), getattr(b, "times", b)) == same for a, b in pairs)


def test_a_pulse_has_a_spike_and_the_first_is_not_too_early():
    inputs, _ = delayed_xor(400, 0, delays=(0.1, 0.1), lengths=(0.3, 0.3), interval=0.29)
    assert np.all(np.sum(np.isfinite(np.asarray(inputs.times)), axis=(1, 2)) >= 3)
    assert np.min(np.asarray(inputs.times)) >= 0.0
