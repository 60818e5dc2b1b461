"""The Yin-Yang task."""

from typing import Any

from .. import init
from ..datasets import Split, yin_yang, yin_yang_spikes, YinYang as YinYangPoints
from ._settings import Settings
from ._task import AbstractTask, Samples


SIZES = Split(training=5000, validation=1000, test=1000)


class YinYang(AbstractTask):
    """Which part of the Yin-Yang sign a point belongs to."""

    name = "yin-yang"
    summary = "the parts of the Yin-Yang sign"
    story = """\
Every point of the sign becomes five spikes, and the network names the part that it
belongs to: yin, yang, or dot."""
    classes = ("yin", "yang", "dot")
    channels = 5
    samples = SIZES.training

    def defaults(self, neuron: str, readout: str) -> dict[str, Any]:
        return {
            "hidden": 120,
            # An epoch takes a second with LIF neurons, and most of a minute with dendrites, which have own events.
            "epochs": {"lif": 100, "dendritic": 15}.get(neuron, 50),
            "batch_size": 50,
            "learning_rate": 5e-3,
            "clip": 0.5,
            # The inputs end at 30 ms; outputs that are inhibited spike long after, and silent ones teach nothing.
            "duration": 120.0 if readout == "first-spike" else 40.0,
            "max_spikes": 8,
        }

    def recipe(self, settings):
        recipe = super().recipe(settings)
        # With a standard deviation of 1.5 fewer points are learned, by 0.2 % in training and test.
        return recipe._replace(weights_in=init.normal(2.5, 2.5)) if settings.neuron == "lif" else recipe

    def points(self, settings: Settings) -> Split[YinYangPoints]:
        """The points of all parts: others in every run."""
        # A seed for each part of each run.
        first = len(SIZES) * settings.seed
        return Split(*(yin_yang(n, first + number) for number, n in enumerate(SIZES)))

    def split(self, settings: Settings) -> Split[Samples]:
        return Split(*(Samples(yin_yang_spikes(points), labels) for points, labels in self.points(settings)))
