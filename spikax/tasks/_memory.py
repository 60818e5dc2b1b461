"""Tasks that ask for a memory: gated units that listen to each other, and readouts of what they remember."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from .. import init
from .._network import Layer, recurrent
from .._parameters import Signed
from .._spikes import Spikes
from .._synapse import ExpSynapse
from ..datasets import delay_copy, delayed_xor, Split
from ..neurons import EGRU, LI
from ._readouts import AbstractReadout
from ._task import AbstractTask, Samples


class _Logits(AbstractReadout):
    """Leaky integrators, whose voltages are the logits of bits, read at a few times.

    They rise for long after a spike and hardly fall. So an earlier spike counts more, as one more spike does, and the
    derivative with respect to spike times also tells what a change of their number would do. For the same reason the
    price of activity, which the loss contains, is the time since each spike.
    """

    def __init__(self, times: tuple[float, ...], codes: np.ndarray, weights: Any, price: float):
        self.times = times
        self.codes = codes  # what the bits shall be, of shape `(classes, times, bits)`
        self.weights = weights
        self.price = price  # in units of the cross entropy

    def layer(self, recipe, classes):
        bits = self.codes.shape[2]
        neuron = LI(20.0, bias=jnp.zeros(bits), synapse=ExpSynapse(1000.0))
        return Layer(neuron, bits, weights=self.weights, name="output")

    def options(self, settings):
        return {"saveat": {"output": jnp.asarray(self.times)}}

    def judged(self, solution, labels, settings):
        logits = solution.states["output"].v
        codes = jnp.asarray(self.codes, logits.dtype)
        loss = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, codes[labels]), axis=(1, 2))
        # A class is named by all bits, at all times.
        fits = jnp.all((logits[:, None] > 0.0) == (codes == 1.0), axis=(2, 3))
        named = jnp.where(jnp.any(fits, axis=1), jnp.argmax(fits, axis=1), -1)
        return loss + self.price * _activity(solution.spikes["hidden"], settings.duration), named


def _activity(spikes: Spikes, t1: float) -> Array:
    """The time since each spike, added up, as a share of the duration: the mean over the units of each sample."""
    happened = jnp.isfinite(spikes.times)
    since = jnp.where(happened, t1 - jnp.where(happened, spikes.times, t1), 0.0)
    return jnp.mean(jnp.sum(since, axis=-1), axis=-1) / t1


class _Wiring(NamedTuple):
    """How the first weights are drawn, of the channels and between the units, and how long a spike travels there."""

    channels: Any
    units: Any
    delay: float


class _Memory(AbstractTask):
    """Gated units that listen to each other, and keep what their cells hold while their gates are closed."""

    neurons = ("egru",)
    readouts = ("last-voltage",)
    channels = 3
    sizes: Split[int]

    @abc.abstractmethod
    def part(self, n: int, seed: int) -> tuple[Spikes, Int[np.ndarray, " n"]]:
        """Inputs and classes."""

    @abc.abstractmethod
    def wiring(self, n: int) -> _Wiring:
        """The weights of `n` units."""

    def split(self, settings):
        first = len(self.sizes) * settings.seed
        return Split(*(Samples(*self.part(n, first + number)) for number, n in enumerate(self.sizes)))

    def build(self, settings):
        n, wiring = settings.hidden, self.wiring(settings.hidden)
        # An open gate would forget within milliseconds, and this one, nearly closed at rest, within 280 ms.
        gates = {"bias_u": jnp.full(n, -4.0), "bias_r": jnp.zeros(n)}
        unit = EGRU(tau_mem=5.0, **gates, synapse={port: ExpSynapse(10.0) for port in ("u", "r", "z")})
        return recurrent(
            self.channels,
            Layer(unit, n, weights=wiring.channels, name="hidden"),
            self.readout(settings).layer(self.recipe(settings), len(self.classes)),
            key=jax.random.key(settings.seed),
            weights=wiring.units,
            delay=wiring.delay,
        )

    def optimizer(self, settings, steps):
        """Adam, for so many steps; `clip` bounds each entry of the gradient."""
        return optax.chain(
            optax.clip(settings.clip), optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps))
        )


class DelayCopy(_Memory):
    """A pattern is shown, and reported after a cue, 50 to 150 ms later."""

    name = "delay-copy"
    summary = "two gated units remember a pattern and report it after a cue"
    story = """\
A sample shows the pattern (1, 0) or (0, 1), as a spike in one of two channels. 50 to 150 ms
later a third channel, the cue, spikes, and 30 ms after it two readouts shall name the
pattern; while the cue has not come, they shall be silent."""
    classes = ("1 0", "0 1")
    sizes = Split(training=3200, validation=320, test=1000)
    samples = sizes.training

    def defaults(self, neuron: str, readout: str) -> dict[str, Any]:
        sizes = {"hidden": 2, "epochs": 8, "batch_size": 64}
        return sizes | {"learning_rate": 0.02, "clip": 0.05, "duration": 180.0, "max_spikes": 48}

    def readout(self, settings):
        # Nothing when the cue comes, at 150 ms, and the pattern at the end.
        codes = np.array([[[0, 0], [1, 0]], [[0, 0], [0, 1]]])
        return _Logits((150.0, settings.duration), codes, init.normal(0.0, 0.3), 0.05)

    def part(self, n, seed):
        inputs, targets = delay_copy(n, seed)
        return inputs, np.argmax(targets, axis=1)

    def wiring(self, n):
        """A pattern moves the cells, each in a random direction, and the cue makes all units spike."""
        means = {"u": (10.0, 10.0), "r": (0.0, 0.0), "z": (0.0, 4.0)}
        spreads = {"u": 0.5, "r": 0.5, "z": 1.5}
        channels = {port: _columns(means[port], (spreads[port],) * 2) for port in means}
        return _Wiring(channels, {port: init.normal(0.0, 0.5) for port in means}, 5.0)


class DelayedXOR(_Memory):
    """Whether two bits differ, 100 to 150 ms after each other, is reported after a cue."""

    name = "delayed-xor"
    summary = "gated units remember two bits and report after a cue whether they differ"
    story = """\
A sample shows two bits, each as a pulse of 30 to 50 ms in one of two channels; a delay of
100 to 150 ms follows each. Then a third channel, the cue, has a pulse, and 30 ms after its
start the readout shall say whether the bits differ."""
    classes = ("same", "different")
    sizes = Split(training=3200, validation=320, test=1000)
    samples = sizes.training

    def defaults(self, neuron: str, readout: str) -> dict[str, Any]:
        sizes = {"hidden": 8, "epochs": 12, "batch_size": 32}
        return sizes | {"learning_rate": 0.025, "clip": 0.1, "duration": 430.0, "max_spikes": 64}

    def readout(self, settings):
        def balanced(key, shape):
            """Weights whose sum is zero: at first all units spike alike, and shall not push to one side."""
            drawn = 0.5 * jax.random.normal(key, shape)
            return drawn - jnp.mean(drawn)

        return _Logits((settings.duration,), np.array([[[0]], [[1]]]), balanced, 0.1)

    def part(self, n, seed):
        return delayed_xor(n, seed, delays=(100.0, 150.0), lengths=(30.0, 50.0), interval=10.0)

    def wiring(self, n):
        """A bit moves the cells a little, each in a random direction, and the cue makes all units spike."""

        def inhibition(key, shape):
            """Weights that stay negative: units that excited each other would go on without an input."""
            return Signed(-0.3 * jnp.abs(jax.random.normal(key, shape)), -jnp.ones(shape))

        channels = {
            "u": _columns((1.5, 5.0), (0.7, 0.7)),
            "r": init.normal(0.0, 0.5),
            "z": _columns((0.0, 2.0), (1.5, 0.5)),
        }
        return _Wiring(channels, {"u": init.normal(0.0, 0.3), "r": init.normal(0.0, 0.3), "z": inhibition}, 10.0)


def _columns(means: tuple[float, float], spreads: tuple[float, float]) -> Any:
    """Weights of two channels alike, and of the cue: their means, and how they differ between units."""

    def drawn(key, shape):
        mean, spread = (jnp.array([[bit], [bit], [cue]]) for bit, cue in (means, spreads))
        return mean + spread * jax.random.normal(key, shape)

    return drawn
