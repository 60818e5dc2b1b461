"""Spoken digits: the sample of 70 channels in `examples/spoken_digits`, its reader, and the model of the ear."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax.__main__ import main
from spikax._spikes import on_host
from spikax.datasets import spoken_digits
from spikax.tasks import AbstractTask, Settings, TASKS
from spikax.tasks._spoken_digits import _on_channels


ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "spoken_digits"
# As `benchmarks/spoken_digits.py DIRECTORY --channels 70 --voices 5 --repeats 1` prints them.
SUMS = {
    "train": "95c41dcb41c8f3a72f14b196c0803e7d20f8530fe7fa9291d66106293104823c",
    "valid": "61ee3d9155e9536cd1b29bd74a741b0fda977da66c53cd47f705d47cde3478dc",
    "test": "a4e907b814f27501c185d397be837da37db93cdcf3b8f9f69d80be359c6d4e5f",
}
h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def split():
    return spoken_digits(SAMPLE)


def test_each_part_has_each_digit_by_each_of_its_voices(split):
    voices = []
    for part, read in zip(SUMS, split, strict=True):
        assert np.bincount(read.labels).tolist() == [5] * 20 and len(read.spikes) == 100
        with h5py.File(SAMPLE / f"spoken_digits_{part}.h5") as file:
            of_part = file["extra/voice"].asstr()[:]
        assert len(set(zip(of_part, read.labels.tolist(), strict=True))) == 100
        voices += set(of_part)
    assert len(voices) == len(set(voices)) == 15


def test_spikes_are_sorted_and_within_a_second(split):
    for part in split:
        for events in part.spikes:
            assert isinstance(events, sx.Events) and events.n == 70 and isinstance(events.times, np.ndarray)
            assert events.times.size > 40 and np.all(np.diff(events.times) >= 0)
            assert events.times[0] >= 0.0 and events.times[-1] < 1000.0
        every = np.concatenate([events.channels for events in part.spikes])
        assert set(every.tolist()) >= set(range(5, 70))  # there is little speech below 100 Hz


def test_the_sums_of_the_sample():
    for part, expected in SUMS.items():
        with h5py.File(SAMPLE / f"spoken_digits_{part}.h5") as file:
            labels, times, units = (file[name][:] for name in ("labels", "spikes/times", "spikes/units"))
        sizes = np.array([len(one) for one in times], "<u4")
        columns = [
            labels.astype("<u2"),
            sizes,
            np.concatenate(times).astype("<f4"),
            np.concatenate(units).astype("<u2"),
        ]
        assert hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest() == expected


def test_digits_of_new_voices_are_recognised(split):
    """The nearest of the mean counts of the classes, relative to all counts: far above chance, 5 %, and not perfect."""

    def counts(part):
        rows = np.log1p([np.bincount(events.channels, minlength=70) for events in part.spikes])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    known = counts(split.training)
    means = np.stack([known[split.training.labels == label].mean(0) for label in range(20)])
    nearest = np.argmax(counts(split.test) @ means.T, axis=1)
    assert 0.25 < np.mean(nearest == split.test.labels) < 0.9


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds spoken_digits_train.h5; .*benchmarks/spoken_digits.py"):
        spoken_digits(tmp_path)
    with pytest.raises(TypeError, match="`directory` must be"):
        spoken_digits(None)
    for part in SUMS:
        content = (SAMPLE / f"spoken_digits_{part}.h5").read_bytes()
        (tmp_path / f"spoken_digits_{part}.h5").write_bytes(content)
    with h5py.File(tmp_path / "spoken_digits_test.h5", "a") as file:
        file.attrs["channels"] = 60
    with pytest.raises(ValueError, match="`spoken_digits_test.h5` must be of units from 0 to 59"):
        spoken_digits(tmp_path)


@pytest.fixture(scope="module")
def ear():
    """The program that makes the data set, which the source distribution does not have."""
    folder = ROOT / "benchmarks"
    if not folder.is_dir():
        pytest.skip("needs the benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        import spoken_digits as module

        yield module


def heard(ear, *sounds):
    """The spikes that sounds cause on 50 channels: times in s, and channels."""
    membrane = ear.BasilarMembrane(50)
    u = np.empty((ear.N, len(sounds), 50), np.float32)
    for i, sound in enumerate(sounds):
        membrane(sound, u[:, i])
    return ear.nerve(u, [np.random.default_rng(i) for i in range(len(sounds))])


@pytest.mark.modes("float32")
def test_a_tone_is_heard_at_its_place_and_phase(ear):
    t = np.arange(ear.N_SPEECH) / ear.SPEECH_RATE
    silence, *tones = heard(ear, 0 * t, *(np.sin(2 * np.pi * f * t) for f in (200.0, 4000.0)))
    assert silence[0].size == 0
    centres = ear.BasilarMembrane(50).centres
    for (_, channels), f in zip(tones, (200.0, 4000.0), strict=True):
        loudest = np.argmax(np.bincount(channels, minlength=50))
        assert abs(loudest - np.argmin(np.abs(centres - f))) <= 2
    # The vector strength of the channel of a low tone is high, that of a high tone low.
    strengths = []
    for (times, channels), f in zip(tones, (200.0, 4000.0), strict=True):
        own = times[channels == np.argmin(np.abs(centres - f))].astype(float)
        assert own.size > 20
        strengths.append(np.abs(np.mean(np.exp(2j * np.pi * f * own))))
    assert strengths[0] > 0.8 > 0.4 > strengths[1]


@pytest.mark.modes("float32")
def test_recordings_do_not_depend_on_those_beside_them(ear):
    rng = np.random.default_rng(0)
    sounds = rng.standard_normal((2, ear.N_SPEECH))
    pair, alone = heard(ear, *sounds), heard(ear, sounds[0])
    assert pair[0][0].size > 100
    np.testing.assert_array_equal(pair[0], alone[0])


@pytest.mark.modes("float32")
def test_no_voice_is_in_two_parts(ear):
    names = [{voice.lower().rstrip("0123456789") for voice in voices} for voices in ear.VOICES.values()]
    assert not set.intersection(*names) and sum(map(len, names)) == len(set.union(*names))
    assert sum(map(len, ear.VOICES.values())) == len({voice for voices in ear.VOICES.values() for voice in voices})


SPOKEN = TASKS["spoken-digits"]


@pytest.mark.modes("float32")
@pytest.mark.parametrize(
    "wiring, neuron", [*((w, "lif") for w in SPOKEN.wirings), *(("delays", n) for n in SPOKEN.neurons[1:])]
)
def test_networks_of_the_task(wiring, neuron):
    """All have gradients by all that a wiring learns, traced with a batch of recordings, of which each is a list."""
    settings = SPOKEN.settings(neuron=neuron, hidden=6, wiring=wiring, data=str(SAMPLE))
    network, training = AbstractTask.build(SPOKEN, settings), SPOKEN.split(settings).training
    delayed = {(c.source, c.target): c.delay is not None for c in network.connections}
    expected = {("input", "hidden"): "delays" in wiring, ("hidden", "output"): False}
    expected |= {("hidden", "hidden"): "delays" in wiring} if "recurrent" in wiring else {}
    assert delayed == expected

    def loss(network, inputs):
        return jnp.mean(SPOKEN.measure(network, inputs, training.labels[:3], settings)[0])

    gradient = eqx.filter_eval_shape(eqx.filter_grad(loss), network, training.first(3))
    shapes = [leaf.shape for leaf in jax.tree.leaves(gradient)]
    assert shapes.count((70, 6)) == (len(jax.tree.leaves(network.connections[0].weight)) + ("delays" in wiring))


@pytest.mark.modes("float32")
def test_the_task_joins_channels_and_ends_at_its_duration():
    events = on_host(np.array([0.5, 3.0, 8.0], np.float32), np.array([0, 699, 9]), 700)
    joined = _on_channels(events, 70, 5.0)
    assert joined.n == 70 and joined.times.tolist() == [0.5, 3.0] and joined.channels.tolist() == [0, 69]


@pytest.mark.modes("float32")
def test_a_wiring_is_one_of_the_task():
    with pytest.raises(ValueError, match="`wiring` must be one of .'delays', 'feed-forward', .*got 'all'"):
        SPOKEN.settings(data=".", wiring="all")
    with pytest.raises(ValueError, match="`wiring` must be one of .* got None"):
        Settings(**dataclasses.asdict(SPOKEN.settings(data=".")) | {"wiring": None})
    with pytest.raises(ValueError, match="`wiring` must be one of .'feed-forward'. for the task yin-yang"):
        TASKS["yin-yang"].settings(wiring="delays")


@pytest.mark.slow
@pytest.mark.modes("float32")
def test_the_command_line_learns_spoken_digits(tmp_path):
    """Not the voices of the test, of which there are too few, but those of the training."""
    options = ["--data", str(SAMPLE), "--epochs", "40", "--hidden", "32", "--batch-size", "20", "--wiring", "recurrent"]
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes types
        assert main(["train", "spoken-digits", *options, "--out", str(tmp_path)]) == 0
    last = json.loads((tmp_path / "metrics.json").read_text())[-1]
    assert last["training_accuracy"] > 0.5
