"""Makes a data set of spoken digits as spikes: English and German, 20 classes, with voices that only the test has.

    python benchmarks/spoken_digits.py DIRECTORY                # 12 660 recordings on 700 channels, an estimated 480 MB
    python benchmarks/spoken_digits.py DIRECTORY --channels 70  # the same recordings on 70 channels

Requires eSpeak NG 1.51 (`apt-get install espeak-ng`), SciPy and h5py. Writes `spoken_digits_train.h5`,
`spoken_digits_valid.h5` and `spoken_digits_test.h5` in the format of SHD, for `spikax.datasets.spoken_digits`. It uses
two processes. If it is interrupted, the same command continues. At the end it prints a table of the parts with their
SHA-256, which is that of the contents and independent of HDF5. The data set is synthetic. It is not SHD, and accuracies
on the two cannot be compared.

**Speech.** Each voice of eSpeak NG speaks each digit several times, with a random pitch, speed, accent (English only),
onset, level and noise. The three parts have different voices, and similar voices, as `steph` and `steph2`, are in the
same part. The noise is pink, with an amplitude of 3 % to 50 % of that of the speech, which is a signal-to-noise ratio
of 30 to 6 dB. A recording has 1 s.

**Basilar membrane.** Gammatone filters of order 4 behind a high-pass filter with corner `f_m`, the middle ear. The
centre frequencies `f_c` ascend with the channel, evenly spaced on the scale of equivalent rectangular bandwidths. The
filters are applied to positive frequencies only, so that the result `z_c` is the analytic signal:

    Z_c(f) = 2 X(f) (i f / f_m) / (1 + i f / f_m) / (1 + i (f - f_c) / b_c)^4
    b_c = 1.019 * 24.7 Hz * (1 + 4.37 f_c / 1 kHz)

**Inner hair cells.** They follow the envelope `|z_c|`, and the rectified fine structure as far as their phase locking
`p_c` permits: for low frequencies `x_c` is a rectified wave, for high ones the envelope. They saturate, and adapt:

    x_c = |z_c| + p_c Re z_c,    p_c = 1 / (1 + (f_c / f_p)^2)
    u_c = x_c / (x_c + x_0)
    s_c = max(u_c - beta a_c, 0),    tau_a da_c/dt = u_c - a_c

**Nerve.** One leaky integrate-and-fire neuron per channel. It is reset below rest, which makes it refractory. After
each spike the threshold `theta` is drawn anew, uniform between two bounds:

    tau dv_c/dt = g s_c - v_c,    a spike at v_c = theta, then v_c = -1

Euler steps of 0.125 ms, in which spike times are interpolated linearly. Times are rounded to 0.01 ms.

The model behind SHD, the package `lauscher`, instead solves the hydrodynamics of the cochlea, and has pools of
transmitter and 40 fibres per channel. One recording of 0.6 s took it 130 s on 700 channels (on one core, extrapolated
from 35 channels). This model takes 0.15 s.
"""

import argparse
import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.fft


VERSION = "1.51"
WORDS = {
    "en": "zero one two three four five six seven eight nine".split(),
    "de": "null eins zwei drei vier fünf sechs sieben acht neun".split(),
}
ACCENTS = {
    # `en` is British. As `en-gb`, eSpeak NG ignores the voice, and `en-us-nyc` speaks as `en-us`.
    "en": "en en-gb-scotland en-gb-x-gbclan en-gb-x-rp en-gb-x-gbcwmd en-029 en-us".split(),
    "de": ["de"],
}
# Voices of the same name up to a number, or whose sounds of a word correlate by more than 0.85 (as benjamin and adam),
# are in the same part. Of voices that are identical (caleb, klatt, klatt6) only one is here.
VOICES = {
    "train": (
        "adam Alex Andrea Andy AnxiousAndy Demonic Diogo Mario Michael Mike Nguyen RicishayMax RicishayMax2 "
        "RicishayMax3 UniRobot anika anikaRobot announcer antonio aunty klatt klatt2 klatt3 klatt4 klatt5 "
        "croak david edward edward2 f1 f2 f3 f4 f5 gustave kaukovalta m1 m2 m3 m4 m5 m6 m7 m8 marcelo max "
        "miguel pedro quincy robosoft robosoft2 robosoft3 robosoft4 robosoft5 robosoft6 robosoft7 robosoft8 "
        "sandro shelby travis whisper whisperf benjamin boris michel"
    ).split(),
    "valid": ("Annie belinda steph steph2 steph3 ed grandpa Jacky Lee pablo rob Tweaky norbert john").split(),
    "test": (
        "Alicia linda grandma Denis Gene Gene2 Henrique Hugo iven iven2 iven3 iven4 Marco paul robert Storm victor zac"
    ).split(),
}
REPEATS = {"train": 7, "valid": 5, "test": 6}
SHARD, PROCESSES = 48, 2  # recordings that are stored together while the set is made

DURATION, LEAD = 1.0, 0.08  # s; the spikes of the lead are discarded
SPEECH_RATE, RATE = 22050, 8000  # samples per s, of eSpeak NG and of the ear
N_SPEECH, N = (round(rate * (DURATION + LEAD)) for rate in (SPEECH_RATE, RATE))

LOWEST, HIGHEST, MIDDLE_EAR, LOCKING = 60.0, 7000.0, 1000.0, 1000.0  # Hz
HALF, ADAPTED, TAU_ADAPTATION = np.float32(0.4), np.float32(0.6), 0.05  # x_0, beta, s
TAU, GAIN, RESET, THRESHOLDS, MAX_SPIKES = 0.004, np.float32(7.0), -1.0, (0.8, 1.2), 512  # s


@dataclasses.dataclass(frozen=True)
class Recording:
    """What is spoken, by whom, and the seed of everything random in it."""

    part: str
    voice: str
    label: int
    repeat: int

    def random(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, so that the cochlea does not change the speech."""
        name = f"{self.part} {self.voice} {self.label} {self.repeat} {purpose}"
        return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def recordings(part: str, voices: int | None, repeats: int) -> list[Recording]:
    """All recordings of a part, or those of some voices, shuffled."""
    every = VOICES[part]
    n = len(every) if voices is None else voices
    chosen = [every[i * len(every) // n] for i in range(n)]
    rows = itertools.product([part], chosen, range(20), range(repeats))
    every = [Recording(*row) for row in rows]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))]


def speech(recording: Recording) -> np.ndarray:
    """The samples of a spoken digit, without the silence around it. Speaks faster what exceeds 0.9 s."""
    rng = recording.random("speech")
    language = ("en", "de")[recording.label // 10]
    accent = ACCENTS[language][rng.integers(len(ACCENTS[language]))]
    word = WORDS[language][recording.label % 10]
    pitch, speed = rng.integers(20, 81), rng.integers(110, 231)
    for faster in range(0, 220, 20):
        command = ["espeak-ng", "-v", f"{accent}+{recording.voice}", "-p", str(pitch), "-s", str(speed + faster)]
        wav = subprocess.run([*command, "--stdout", word], check=True, capture_output=True).stdout
        samples = read_wav(wav)
        loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
        samples = samples[loud[0] : loud[-1] + 1]
        if samples.size <= 0.9 * SPEECH_RATE:
            return samples
    raise RuntimeError(f"{recording} takes more than 0.9 s.")


def read_wav(wav: bytes) -> np.ndarray:
    """The samples of what eSpeak NG writes to a pipe. Its header does not have the length."""
    rate, start = int.from_bytes(wav[24:28], "little"), wav.index(b"data") + 8
    if rate != SPEECH_RATE:
        raise RuntimeError(f"eSpeak NG has a rate of {rate} Hz, in place of {SPEECH_RATE} Hz.")
    return np.frombuffer(wav[start:], "<i2").astype(float)


def sound(recording: Recording) -> np.ndarray:
    """A recording with noise, in units of the root mean square of the speech, at `SPEECH_RATE`."""
    samples = speech(recording)
    rng = recording.random("room")
    white = np.asarray(scipy.fft.rfft(rng.standard_normal(N_SPEECH)))
    pink = np.asarray(scipy.fft.irfft(white / np.sqrt(np.maximum(np.arange(white.size), 55)), N_SPEECH))
    # Below bin 55, 51 Hz, the noise is white.
    whole = rng.uniform(0.03, 0.5) / rms(pink) * pink
    onset = rng.integers(N_SPEECH - SPEECH_RATE, N_SPEECH - samples.size)
    whole[onset : onset + samples.size] += samples / rms(samples)
    return rng.uniform(0.5, 1.5) * whole


def rms(samples: np.ndarray) -> float:
    return np.sqrt(np.mean(samples * samples))


class BasilarMembrane:
    """The filters, and the hair cells on them."""

    def __init__(self, channels: int):
        lowest, highest = (np.log(1 + 0.00437 * f) for f in (LOWEST, HIGHEST))
        self.centres = (np.exp(np.linspace(lowest, highest, channels)) - 1) / 0.00437
        self.phase_locking = (1 / (1 + (self.centres / LOCKING) ** 2)).astype(np.float32)
        f = np.arange(N) / (DURATION + LEAD)
        middle_ear = (1j * f / MIDDLE_EAR) / (1 + 1j * f / MIDDLE_EAR)
        self.filters = np.empty((channels, N), np.complex64)
        for row, centre in zip(self.filters, self.centres, strict=True):
            row[:] = middle_ear / (1 + 1j * (f - centre) / (25.2 * (1 + 0.00437 * centre))) ** 4

    def __call__(self, sound: np.ndarray, u: np.ndarray) -> None:
        """Writes the output of the hair cells into `u`, of shape `(N, channels)`."""
        spectrum = (np.asarray(scipy.fft.rfft(sound))[:N] * (2 * N / N_SPEECH)).astype(np.complex64)
        for first in range(0, len(self.filters), 16):  # a few at a time stay in the cache
            some = slice(first, first + 16)
            z: Any = scipy.fft.ifft(self.filters[some] * spectrum, overwrite_x=True)
            x = np.abs(z)
            x += self.phase_locking[some, None] * z.real
            x /= x + HALF
            u[:, some] = x.T


def nerve(u: np.ndarray, rngs: list[np.random.Generator]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The spikes of several recordings, from `u` of shape `(N, recordings, channels)`: times in s, and channels."""
    n, channels = u.shape[1:]
    thresholds = [rng.uniform(*THRESHOLDS, (MAX_SPIKES, channels)).astype(np.float32) for rng in rngs]
    thresholds = np.concatenate(thresholds, axis=1)
    theta, counts = thresholds[0].copy(), np.zeros(n * channels, int)
    adaptation, v = np.zeros((2, n * channels), np.float32)
    k, k_adaptation = np.float32(1 / (RATE * TAU)), np.float32(1 / (RATE * TAU_ADAPTATION))
    times, cells = [], []
    for step, now in enumerate(u.reshape(N, -1)):
        adaptation += k_adaptation * (now - adaptation)
        drive = np.maximum(now - ADAPTED * adaptation, 0)
        change = k * (GAIN * drive - v)
        v += change
        spiking = np.flatnonzero(v >= theta)
        if spiking.size:
            after = (v[spiking] - theta[spiking]) / change[spiking]  # as a part of a step
            times.append((step + 1 - after.astype(float)) / RATE - LEAD)
            cells.append(spiking)
            v[spiking] = RESET
            counts[spiking] += 1
            theta[spiking] = thresholds[counts[spiking], spiking]
    time, cell = np.round(np.concatenate(times), 5), np.concatenate(cells)
    recording, channel = np.divmod(cell, channels)
    order = np.lexsort((channel, time, recording))
    order = order[(time[order] >= 0) & (time[order] < DURATION)]
    ends = np.searchsorted(recording[order], np.arange(1, n))
    return [(time[own].astype(np.float32), channel[own].astype(np.uint16)) for own in np.split(order, ends)]


@functools.cache
def basilar_membrane(channels: int) -> BasilarMembrane:
    return BasilarMembrane(channels)


def make_shard(task: tuple[Path, int, list[Recording]]) -> None:
    """Writes the spikes of some recordings, at once or not at all."""
    path, channels, some = task
    spikes = []
    batch = max(1, 5600 // channels)
    for first in range(0, len(some), batch):
        few = some[first : first + batch]
        u = np.empty((N, len(few), channels), np.float32)
        for i, one in enumerate(few):
            basilar_membrane(channels)(sound(one), u[:, i])
        spikes += nerve(u, [one.random("nerve") for one in few])
    times, units = (np.concatenate(column) for column in zip(*spikes, strict=True))
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, times=times, units=units, sizes=[len(t) for t, _ in spikes])
    part.rename(path)


def make(part: str, options: argparse.Namespace) -> None:
    """Writes the file of a part, unless it is there, from shards that are there or are made."""
    every = recordings(part, options.voices, options.repeats or REPEATS[part])
    path = options.directory / f"spoken_digits_{part}.h5"
    if path.exists():
        require_same(path, options.channels, len(every))
        return
    name = f"{part}-{options.channels}-{options.voices or 'all'}-{options.repeats or REPEATS[part]}"
    folder = options.directory / "shards" / name
    folder.mkdir(parents=True, exist_ok=True)
    shards = [every[first : first + SHARD] for first in range(0, len(every), SHARD)]
    tasks = [(folder / f"{i:04}.npz", options.channels, some) for i, some in enumerate(shards)]
    missing = [task for task in tasks if not task[0].exists()]
    with multiprocessing.Pool(PROCESSES) as pool:
        for done, _ in enumerate(pool.imap_unordered(make_shard, missing), 1):
            print(f"\r{part}: {done} of {len(missing)} shards", end="", file=sys.stderr, flush=True)
    with h5py.File(path.with_suffix(".part"), "w") as file:
        file.attrs.update({"channels": options.channels, "eSpeak NG": VERSION})
        file["labels"] = np.array([one.label for one in every], np.uint16)
        file["extra/voice"] = [one.voice for one in every]
        times = file.create_dataset("spikes/times", len(every), h5py.vlen_dtype(np.float32))
        units = file.create_dataset("spikes/units", len(every), h5py.vlen_dtype(np.uint16))
        row = itertools.count()
        for shard, _, _ in tasks:
            with np.load(shard) as stored:
                ends = np.cumsum(stored["sizes"])[:-1]
                for own in zip(*(np.split(stored[name], ends) for name in ("times", "units")), strict=True):
                    i = next(row)
                    times[i], units[i] = own
    path.with_suffix(".part").rename(path)
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def require_same(path: Path, channels: int, n: int) -> None:
    with h5py.File(path) as opened:
        file: Any = opened
        if (file.attrs["channels"], len(file["labels"])) != (channels, n):
            raise SystemExit(f"{path} was made with other options. Give another directory.")


def table_row(path: Path) -> str:
    """What a file holds. The sum is that of labels, sizes, times in s as float32, and channels as uint16."""
    with h5py.File(path) as opened:
        file: Any = opened
        times, units, labels = file["spikes/times"][:], file["spikes/units"][:], file["labels"][:]
        voices, channels = len(set(file["extra/voice"][:])), file.attrs["channels"]
    sizes = np.array([len(t) for t in times], np.uint32)
    digest = hashlib.sha256()
    for column in (labels, sizes, np.concatenate(times), np.concatenate(units)):
        digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    columns = [path.name, channels, voices, len(labels), f"{sizes.mean():.0f}", sizes.min(), sizes.max()]
    return "| " + " | ".join(map(str, [*columns, digest.hexdigest()])) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--channels", type=int, default=700)
    parser.add_argument("--voices", type=int, help="the number of voices of each part; default: all")
    parser.add_argument("--repeats", type=int, help=f"recordings of each digit by each voice; default: {REPEATS}")
    options = parser.parse_args()
    found = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    if VERSION not in found:
        print(f"Expected eSpeak NG {VERSION}; got: {found.strip()}. The speech will differ.", file=sys.stderr)
    for part in REPEATS:
        make(part, options)
    print("\n| file | channels | voices | recordings | spikes per recording | fewest | most | SHA-256 |")
    print("|---|---|---|---|---|---|---|---|")
    for part in REPEATS:
        print(table_row(options.directory / f"spoken_digits_{part}.h5"))


if __name__ == "__main__":
    main()
