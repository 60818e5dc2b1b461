"""Spoken digits, as lists of events: synthetic ones, or the Spiking Heidelberg Digits."""

import functools
from pathlib import Path
from typing import Any

from .._checks import require
from .._spikes import Events
from ..datasets import Recordings, shd, Split, spoken_digits
from ..silence import calibrated
from ._settings import WIRINGS
from ._task import AbstractTask, Samples
from ._wirings import STORY


class SpokenDigits(AbstractTask):
    """Spoken digits on 70 channels. Of files with more, as many neighbours as needed become one channel."""

    name = "spoken-digits"
    summary = "spoken digits in two languages, from files of recordings as spikes"
    story = f"""\
A recording of a spoken digit is a list of spikes of a model of the ear, and the network
names the digit. --data is the directory with spoken_digits_train.h5, spoken_digits_valid.h5
and spoken_digits_test.h5, or with those of the Spiking Heidelberg Digits, shd_train.h5 and
shd_test.h5. Spikes after --duration are left out; some recordings of Heidelberg last up to
1.4 s.
{STORY}"""
    classes = tuple(map(str, range(20)))
    channels = 70
    samples = 7340
    neurons = ("lif", "alif", "qif", "egru")
    readouts = ("last-voltage", "max-voltage")
    wirings = WIRINGS
    needs_data = True
    is_calibrated = True

    # Cached, since training, test and figures use the recordings.
    @functools.lru_cache(maxsize=1)  # noqa: B019 (a task lives as long as the program)
    def split(self, settings):
        hint = "Make them with `benchmarks/spoken_digits.py`, or download those of Heidelberg: `--data DIR`."
        require(settings.data is not None, "data", "the directory of the recordings", settings.data, hint)
        is_of_heidelberg = (Path(settings.data) / "shd_train.h5").exists()
        parts = shd(settings.data, seed=settings.seed) if is_of_heidelberg else spoken_digits(settings.data)
        return Split(*(self._samples(part, settings.duration) for part in parts))

    def _samples(self, recordings: Recordings, duration: float) -> Samples:
        return Samples([_on_channels(one, self.channels, duration) for one in recordings.spikes], recordings.labels)

    def build(self, settings):
        """The network, with weights scaled so that most hidden neurons spike in a recording."""
        some = self.split(settings).training.first(64)
        options = {"t1": settings.duration, "max_spikes": 4 * settings.max_spikes}
        return calibrated(super().build(settings), some, fraction=dict.fromkeys(settings.hidden_layers, 0.8), **options)


def _on_channels(events: Events, channels: int, duration: float) -> Any:
    """The events up to the end of the sample, with neighbouring channels as one."""
    inside = events.times <= duration
    return Events(events.times[inside], events.channels[inside] * channels // events.n, channels)
