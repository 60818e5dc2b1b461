"""Handwritten digits, small and large."""

import abc
import functools

import numpy as np

from .._checks import require
from .._spikes import Events
from ..datasets import digits, image_row_spikes, image_spikes, Images, mnist, Split
from ..silence import calibrated
from ._settings import Settings, WIRINGS
from ._task import AbstractTask, Samples
from ._wirings import STORY


class _Images(AbstractTask):
    """Classification of grey images, in which brighter pixels spike earlier.

    - `fraction`: the fraction of hidden neurons that spike in a sample before training.
    """

    fraction: float
    is_calibrated = True

    @abc.abstractmethod
    def images(self, settings: Settings) -> Split[Images]:
        """The images for training, validation and test."""

    # Cached, since training, test and figures use the spikes, and those of MNIST take seconds.
    @functools.lru_cache(maxsize=1)  # noqa: B019 (a task lives as long as the program)
    def split(self, settings):
        return Split(*(Samples(self.encode(part.images), part.labels) for part in self.images(settings)))

    def encode(self, images: np.ndarray) -> Events:
        """The input spikes of images."""
        return image_spikes(images)

    def build(self, settings):
        """The network, with weights into the hidden layer scaled to the number of bright pixels in the data."""
        network = super().build(settings)
        inputs = self.split(settings).training.inputs
        some = Events(inputs.times[:100], inputs.channels[:100], inputs.n)
        options = {"t1": settings.duration, "max_spikes": 64}
        return calibrated(network, some, fraction=dict.fromkeys(settings.hidden_layers, self.fraction), **options)


class Digits(_Images):
    """The small digits, of 8 x 8 pixels."""

    name = "digits"
    summary = "handwritten digits of 8 x 8 pixels, which come with spikax"
    story = """\
Every bright pixel of an image of 8 x 8 becomes a spike, the brighter the earlier, and
the network names the digit."""
    classes = tuple("0123456789")
    channels = 64
    picture = (8, 8)
    fraction = 0.3
    readouts = ("mean-voltage", "max-voltage", "first-spike")
    samples = 1077

    def images(self, settings):
        return digits(seed=settings.seed)


class MNIST(_Images):
    """The digits of MNIST, of 28 x 28 pixels."""

    name = "mnist"
    summary = "handwritten digits of 28 x 28 pixels, from the files of MNIST"
    story = """\
Every bright pixel of an image of 28 x 28 becomes a spike, the brighter the earlier, and
the network names the digit. --data is the directory with the four files of MNIST, such
as train-images-idx3-ubyte.gz."""
    classes = tuple("0123456789")
    channels = 784
    picture = (28, 28)
    fraction = 0.2
    samples = 55_000
    readouts = ("mean-voltage", "max-voltage", "first-spike")
    needs_data = True

    def images(self, settings):
        hint = "Download the four files of MNIST, and say where they are: `--data DIR`."
        require(settings.data is not None, "data", "the directory of the files of MNIST", settings.data, hint)
        return mnist(settings.data, seed=settings.seed)


class SequentialMNIST(MNIST):
    """The digits of MNIST row by row, from top to bottom, on a channel for each column."""

    name = "sequential-mnist"
    summary = "the digits of MNIST row by row, as a sequence"
    story = f"""\
The rows of an image of 28 x 28 are shown one after the other, for 5 ms each, on a channel
for each column: a bright pixel is a spike, the brighter the earlier. The network names the
digit. --data is the directory with the four files of MNIST.
{STORY}"""
    channels = 28
    picture = None
    fraction = 0.5
    neurons = ("lif", "alif", "egru")
    readouts = ("last-voltage", "max-voltage")
    wirings = WIRINGS

    def encode(self, images):
        return image_row_spikes(images)
