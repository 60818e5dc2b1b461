"""The Yin-Yang task."""

from ..datasets import Split, yin_yang, yin_yang_spikes, YinYang as YinYangPoints
from ._settings import Settings
from ._task import AbstractTask, Samples


SIZES = Split(training=5000, validation=1000, test=1000)


class YinYang(AbstractTask):
    """Classify points by the part of the Yin-Yang sign that they belong to."""

    name = "yin-yang"
    summary = "the parts of the Yin-Yang sign"
    story = """\
Every point of the sign becomes five spikes, and the network names the part that it
belongs to: yin, yang, or dot."""
    classes = ("yin", "yang", "dot")
    channels = 5
    samples = SIZES.training

    def points(self, settings: Settings) -> Split[YinYangPoints]:
        """The points for training, validation and test, which depend on the seed."""
        # A different seed for each part of each run.
        first = len(SIZES) * settings.seed
        return Split(*(yin_yang(n, first + number) for number, n in enumerate(SIZES)))

    def split(self, settings: Settings) -> Split[Samples]:
        return Split(*(Samples(yin_yang_spikes(points), labels) for points, labels in self.points(settings)))
