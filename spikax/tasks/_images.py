"""Handwritten digits, small and large."""

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp

from .. import init
from .._checks import require
from .._spikes import Events
from .._synapse import ExpSynapse
from ..datasets import digits, image_spikes, Images, mnist, Split
from ..init import Initializer
from ..neurons import Izhikevich
from ..silence import calibrated
from ._readouts import FirstSpike
from ._settings import Settings
from ._task import AbstractTask, Samples


class _Images(AbstractTask):
    """Grey images, bright pixels first.

    - `fraction`: of the hidden neurons, how many spike in a sample before training.
    """

    fraction: float

    @abc.abstractmethod
    def images(self, settings: Settings) -> Split[Images]:
        """The images of all parts."""

    # Training, test and pictures ask for the spikes, and those of MNIST take seconds.
    @functools.lru_cache(maxsize=1)  # noqa: B019 (a task lives as long as the program)
    def split(self, settings):
        return Split(*(Samples(image_spikes(part.images), part.labels) for part in self.images(settings)))

    def recipe(self, settings):
        """Weights around zero: with a hundred inputs of one sign all neurons would tell how bright an image is.

        Those into the outputs are small: from scores far apart, most of them wrong, training would begin by silencing
        neurons.
        """
        recipe = super().recipe(settings)
        if settings.neuron == "izhikevich":
            # Within a sample, neurons that adapt slowly spike once, and tell little more. Scaled to be active, the
            # weights of a long synapse are about as small as those of the other neurons.
            neuron = Izhikevich.preset("fast_spiking", synapse=ExpSynapse(50.0))
            recipe = recipe._replace(hidden=neuron, strides=(1.0, 1.0))
        return recipe._replace(
            weights_in=_centred(recipe.weights_in, 1.0),
            weights_out=_centred(recipe.weights_out, 0.1),
            weights_read=init.normal(0.0, 0.1),
        )

    def readout(self, settings):
        # With 0.2 images are learned more slowly: after three epochs of 5000 of MNIST 85 % are right, with 0.5 88 %.
        return FirstSpike(tau0=0.5) if settings.readout == "first-spike" else super().readout(settings)

    def build(self, settings):
        """The weights into the hidden layer are scaled: how many pixels are bright differs between data sets."""
        network = super().build(settings)
        inputs = self.split(settings).training.inputs
        some = Events(inputs.times[:100], inputs.channels[:100], inputs.n)
        options = {"t1": settings.duration, "max_spikes": 64}
        return calibrated(network, some, fraction={"hidden": self.fraction}, **options)


def _centred(initializers: Any, factor: float) -> Any:
    """The same, for each port, times a factor and less the mean of what is drawn."""

    def one(initializer: Initializer) -> Initializer:
        def centred(key, shape):
            weights = initializer(key, shape)
            return factor * (weights - jnp.mean(weights))

        return centred

    return jax.tree.map(one, initializers)


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

    def defaults(self, neuron: str, readout: str) -> dict[str, Any]:
        return {
            "hidden": 300,
            "epochs": 50,
            "batch_size": 32,
            "learning_rate": 5e-3 if readout == "first-spike" else 1e-2,
            "clip": 0.5,
            # In a mean over a longer time dark pixels, which spike last, at 20 ms, count as much as bright ones.
            "duration": {"first-spike": 60.0, "mean-voltage": 25.0}.get(readout, 40.0),
            "max_spikes": 32,
            "drop": 0.05,
            "jitter": 1.0,
        }


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

    def defaults(self, neuron: str, readout: str) -> dict[str, Any]:
        if neuron == "lif":
            epochs, rate = (16, 7e-3) if readout == "first-spike" else (18, 5e-3)
            size = {"hidden": 350, "epochs": epochs, "batch_size": 50, "learning_rate": rate}
        else:
            known = {"eif": (6, 2e-2), "izhikevich": (7, 1.5e-2), "egru": (6, 1.2e-2)}
            epochs, rate = (5, 4e-3) if readout == "first-spike" else known.get(neuron, (5, 4e-3))
            size = {"hidden": 100, "epochs": epochs, "batch_size": 100, "learning_rate": rate}
        if readout == "first-spike":
            # The inputs end at 20 ms; outputs that are inhibited spike long after, and silent ones teach nothing.
            own = {"duration": 200.0, "max_spikes": 40, "drop": 0.05, "shift": 1}
        else:
            own = {"duration": 30.0, "max_spikes": 32, "drop": 0.1}
        return size | own | {"clip": 0.5}
