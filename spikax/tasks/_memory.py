"""Memory tasks, for recurrent networks of gated units."""

import abc

import numpy as np
from jaxtyping import Int

from .._checks import require
from .._spikes import Spikes
from ..datasets import delay_copy, delayed_xor, Split
from ._task import AbstractTask, Samples


class _Memory(AbstractTask):
    """A task for recurrent gated units, which keep their state while their gates are closed."""

    neurons = ("egru",)
    readouts = ("last-voltage",)
    wirings = ("recurrent",)
    channels = 3
    sizes: Split[int]

    @abc.abstractmethod
    def part(self, n: int, seed: int, duration: float) -> tuple[Spikes, Int[np.ndarray, " n"]]:
        """Inputs and classes of samples of this duration."""

    def split(self, settings):
        first = len(self.sizes) * settings.seed
        duration = settings.duration
        return Split(*(Samples(*self.part(n, first + number, duration)) for number, n in enumerate(self.sizes)))


class DelayCopy(_Memory):
    """Report a pattern after a cue, which comes 50 to 150 ms later."""

    name = "delay-copy"
    summary = "two gated units remember a pattern and report it after a cue"
    story = """\
A sample shows the pattern (1, 0) or (0, 1), as a spike in one of two channels. 50 to 150 ms
later a third channel, the cue, spikes, and 30 ms after it two readouts should name the
pattern; before the cue they should be silent."""
    classes = ("1 0", "0 1")
    sizes = Split(training=3200, validation=320, test=1000)
    samples = sizes.training

    def part(self, n, seed, duration):
        inputs, targets = delay_copy(n, seed)
        return inputs, np.argmax(targets, axis=1)


class DelayedXOR(_Memory):
    """Report after a cue whether two bits differ, which come 100 to 150 ms after each other."""

    name = "delayed-xor"
    summary = "gated units remember two bits and report after a cue whether they differ"
    story = """\
A sample shows two bits, each as a pulse of 30 to 50 ms in one of two channels; a delay of
100 to 150 ms follows each. Then a third channel, the cue, has a pulse, and 30 ms after its
start the readout should report whether the bits differ. A longer --duration makes the
delays longer: 2130 ms those of 667 to 1000 ms."""
    classes = ("same", "different")
    sizes = Split(training=3200, validation=320, test=1000)
    samples = sizes.training

    def settings(self, **given):
        settings = super().settings(**given)
        shortest = _CUE + 2.0 * (_PULSE[1] + _SHORTEST)
        expectation = f"at least {shortest:g} ms, for two pulses with delays and a cue"
        require(settings.duration >= shortest, "duration", expectation, settings.duration)
        return settings

    def part(self, n, seed, duration):
        # Two pulses with their delays, and the cue.
        longest = (duration - _CUE) / 2.0 - _PULSE[1]
        return delayed_xor(n, seed, delays=(longest / 1.5, longest), lengths=_PULSE, interval=10.0)


_PULSE, _CUE, _SHORTEST = (30.0, 50.0), 30.0, 15.0
