"""Spikes from lists of arrays and from tables of events, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx


TRAINS = [[[3.0, 1.0], [], [2.5]], [np.asarray([7.0]), np.asarray([4, 5, 6]), ()]]
SORTED = [[[1.0, 3.0], [], [2.5]], [[7.0], [4.0, 5.0, 6.0], []]]
CAMERA = {"p": 2, "y": 3, "x": 4}


def as_lists(node):
    return node.tolist() if isinstance(node, np.ndarray) else [as_lists(item) for item in node]


def test_trains_of_any_length_become_spikes_and_come_back():
    spikes = sx.Spikes.from_trains(TRAINS)
    assert spikes.times.shape == (2, 3, 3) and spikes.times.dtype == jnp.result_type(float)
    np.testing.assert_array_equal(spikes.times[0], [[1.0, 3.0, np.inf], [np.inf] * 3, [2.5, np.inf, np.inf]])
    events = sx.Events.from_trains(TRAINS)
    assert events.times.shape == (2, 4) and events.n == 3
    np.testing.assert_array_equal(events.times, [[1.0, 2.5, 3.0, np.inf], [4.0, 5.0, 6.0, 7.0]])
    np.testing.assert_array_equal(events.channels, [[0, 2, 0, 0], [1, 1, 1, 0]])
    assert as_lists(spikes.to_trains()) == as_lists(events.to_trains()) == SORTED
    one = sx.Spikes.from_trains(TRAINS[0], max_spikes=4)
    assert one.times.shape == (3, 4) and as_lists(one.to_trains()) == SORTED[0]
    deep = sx.Events.from_trains([TRAINS, TRAINS])
    assert deep.times.shape == (2, 2, 4) and as_lists(deep.to_trains()) == [SORTED, SORTED]
    assert sx.Spikes.from_trains([[], []]).times.shape == (2, 1)


def test_events_and_spikes_from_trains_agree():
    spikes, events = sx.Spikes.from_trains(TRAINS), sx.Events.from_trains(TRAINS)
    np.testing.assert_array_equal(events.spikes().times, spikes.times)


class Quantity(np.ndarray):
    """A stand-in for the quantities of Neo: times in s, whose unit NumPy does not see."""

    def rescale(self, unit):
        assert unit == "ms"
        return Quantity._of(1000.0 * np.asarray(self))

    @property
    def magnitude(self):
        return np.asarray(self)

    @staticmethod
    def _of(array):
        return np.asarray(array).view(Quantity)


def test_units_are_converted():
    seconds = [[0.001, 0.0025], []]
    np.testing.assert_array_equal(sx.Spikes.from_trains(seconds, unit="s").times, [[1.0, 2.5], [np.inf, np.inf]])
    quantities = [Quantity._of(train) for train in seconds]
    np.testing.assert_allclose(sx.Spikes.from_trains(quantities).times, [[1.0, 2.5], [np.inf, np.inf]], rtol=1e-6)
    ticks = np.asarray([1000, 2500])
    for unit, factor in (("us", 1), ("ns", 1000)):
        assert as_lists(sx.Spikes.from_trains([factor * ticks], unit=unit).to_trains()) == [[1.0, 2.5]]


def test_a_column_of_lists_is_a_list_of_trains():
    column = np.empty(2, object)
    column[:] = [[1.0], [2.0, 3.0]]
    assert as_lists(sx.Spikes.from_trains(column).to_trains()) == [[1.0], [2.0, 3.0]]


def recording(stamps, **columns):
    """A structured array with events in the corners of an image of 3 x 4 pixels."""
    array = np.zeros(len(stamps), [("x", np.int16), ("y", np.int16), ("t", np.asarray(stamps).dtype), ("p", bool)])
    array["t"] = stamps
    array["x"][1], array["y"][1], array["p"][2] = 3, 2, True
    for name, column in columns.items():
        array[name] = column
    return array


def test_events_of_a_camera():
    events = sx.Events.from_array(recording([30, 1500, 20]), CAMERA)
    assert events.n == 24 and isinstance(events.times, np.ndarray) and events.channels.dtype == np.int32
    np.testing.assert_array_equal(events.times, np.asarray([0.02, 0.03, 1.5], jnp.result_type(float)))
    assert events.channels.tolist() == [12, 0, 11]
    # Names of other columns, floats, and tables of another kind.
    table = {"timestamp": np.asarray([0.002, 0.001]), "unit": np.asarray([5, 1], np.uint16), "label": ["a", "b"]}
    events = sx.Events.from_array(table, {"unit": 6}, time="timestamp", unit="s")
    assert events.n == 6 and events.channels.tolist() == [1, 5]
    np.testing.assert_allclose(events.times, [1.0, 2.0], rtol=1e-6)
    empty = sx.Events.from_array({"t": np.zeros(0, int), "x": np.zeros(0, int)}, {"x": 6}, start=2**60)
    assert empty.times.shape == (0,) and as_lists(empty.to_trains()) == [[]] * 6


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_stamps_since_the_epoch_are_exact(kind):
    now = 1_764_441_919_123_456
    stamps = np.asarray([now + 1, now, now + 300_001], kind)
    events = sx.Events.from_array(recording(stamps), CAMERA, start=now)
    expected = np.asarray([0.0, 0.001, 300.001], jnp.result_type(float))
    np.testing.assert_array_equal(events.times, expected)
    before = sx.Events.from_array(recording(stamps), CAMERA, start=stamps[0] + 1)
    np.testing.assert_array_equal(before.times[:2], np.asarray([-0.002, -0.001], expected.dtype))


@pytest.mark.modes("float32")
def test_times_that_a_float_cannot_hold_are_refused():
    with pytest.raises(ValueError, match=r"`array\['t'\]` must be of times that float32 holds to 1 us.*`start`"):
        sx.Events.from_array(recording([1, 2, 1_764_441_919_123_456]), CAMERA)
    with pytest.raises(ValueError, match="`trains` must be of times that float32 holds to 1 us"):
        sx.Spikes.from_trains([[1e6 / 3]])
    assert sx.Events.from_array(recording([1, 2, 30_000_000]), CAMERA).times[2] == 30_000.0


def test_recordings_make_batches():
    recordings = [sx.Events.from_array(recording([10, 20, 30][:k] + [40] * (3 - k)), CAMERA) for k in (1, 2, 3)]
    loader = sx.datasets.Loader(recordings, np.arange(3), batch_size=3)
    events, _ = next(loader.epoch(0))
    assert events.times.shape == (3, 3) and events.n == 24


def camera(**changes):
    table = {"t": np.arange(3), "x": np.arange(3), "p": np.asarray([0, 1, 1])} | changes
    return lambda: sx.Events.from_array(table, {"p": 2, "x": 3})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "name, error, build",
    [
        ("trains", TypeError, lambda: sx.Spikes.from_trains(1.0)),
        ("trains", TypeError, lambda: sx.Spikes.from_trains([])),
        ("trains", TypeError, lambda: sx.Spikes.from_trains("ab")),
        ("trains", TypeError, lambda: sx.Spikes.from_trains({"a": [1.0]})),
        ("trains", TypeError, lambda: sx.Spikes.from_trains(np.ones((2, 3)))),
        ("trains", TypeError, lambda: sx.Spikes.from_trains([["a"]])),
        ("trains", TypeError, lambda: sx.Spikes.from_trains([[1j], [2.0]])),
        ("trains", ValueError, lambda: sx.Spikes.from_trains([[1.0], 2.0])),
        ("trains", ValueError, lambda: sx.Spikes.from_trains([[1.0, np.inf], []])),
        ("trains", ValueError, lambda: sx.Spikes.from_trains([[np.nan], []])),
        ("trains", ValueError, lambda: sx.Spikes.from_trains([[[1.0], []], [[1.0]]])),
        ("trains", ValueError, lambda: sx.Spikes.from_trains([[[1.0], []], [1.0, 2.0]])),
        ("trains", ValueError, lambda: sx.Events.from_trains([np.ones((2, 3))])),
        ("max_spikes", ValueError, lambda: sx.Spikes.from_trains([[1.0, 2.0]], max_spikes=1)),
        ("max_spikes", TypeError, lambda: sx.Spikes.from_trains([[1.0, 2.0]], max_spikes=2.0)),
        ("unit", ValueError, lambda: sx.Spikes.from_trains([[1.0]], unit="min")),
        ("unit", ValueError, lambda: sx.Events.from_trains([[1.0]], unit=1e-3)),
        ("times", ValueError, lambda: jax.jit(lambda x: sx.Spikes(x).to_trains())(jnp.ones((2, 1)))),
        ("array", TypeError, lambda: sx.Events.from_array(None, CAMERA)),
        ("array", TypeError, lambda: sx.Events.from_array(np.ones((3, 4)), {"x": 2})),
        ("array['t']", TypeError, camera(t=np.ones((3, 1)))),
        ("array['t']", TypeError, camera(t=["a", "b", "c"])),
        ("array", ValueError, lambda: sx.Events.from_array({"t": np.ones(2)}, {"x": 2})),
        ("array", ValueError, lambda: sx.Events.from_array(recording([1, 2, 3]), {"channel": 2})),
        ("array['t']", TypeError, camera(t=np.ones(3, bool))),
        ("array['t']", ValueError, camera(t=np.asarray([0.0, 1.0, np.nan]))),
        ("array['x']", ValueError, camera(x=np.asarray([0, 1, 3]))),
        ("array['x']", ValueError, camera(x=np.asarray([0, 1]))),
        ("array['x']", ValueError, camera(x=np.arange(3.0))),
        ("array['p']", ValueError, camera(p=np.asarray([-1, 1, 1]))),
        ("channels", TypeError, lambda: sx.Events.from_array(recording([1, 2, 3]), 24)),
        ("channels", TypeError, lambda: sx.Events.from_array(recording([1, 2, 3]), {})),
        ("channels['p']", TypeError, lambda: sx.Events.from_array(recording([1, 2, 3]), {"p": 2.0})),
        ("channels", ValueError, lambda: sx.Events.from_array(recording([1, 2, 3]), {"x": 2**20, "y": 2**20})),
        ("time", TypeError, lambda: sx.Events.from_array(recording([1, 2, 3]), CAMERA, time=0)),
        ("unit", ValueError, lambda: sx.Events.from_array(recording([1, 2, 3]), CAMERA, unit="tick")),
        ("start", TypeError, lambda: sx.Events.from_array(recording([1, 2, 3]), CAMERA, start=1.0)),
        ("start", ValueError, lambda: sx.Events.from_array(recording([1, 2, 3]), CAMERA, start=2**70)),
    ],
)
def test_rubbish_is_refused(name, error, build):
    with pytest.raises(error) as caught:
        build()
    assert str(caught.value).startswith(f"`{name}` must be ") and "; got " in str(caught.value)
