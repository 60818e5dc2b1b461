"""Readouts: the prediction of a class and the loss."""

import abc
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from .. import decode, losses
from .._simulate.solution import Solution
from .._simulate.stopping import FirstSpikes
from .._spikes import first_spike, Spikes
from ._settings import Settings


class AbstractReadout(abc.ABC):
    """The prediction of a class from the spikes or voltages of the output layer, and the loss."""

    def outputs(self, classes: int) -> int:
        """The number of outputs for a number of classes; by default one per class."""
        return classes

    @abc.abstractmethod
    def options(self, settings: Settings) -> dict[str, Any]:
        """Arguments for `simulate`."""

    @abc.abstractmethod
    def loss_and_prediction(self, solution: Solution, labels: Array, settings: Settings) -> tuple[Array, Array]:
        """The loss of each sample, and the predicted class, -1 for no prediction."""


class FirstSpike(AbstractReadout):
    """Predicts the class whose output spikes first. The loss is the cross entropy of the first spikes.

    `tau0` and `tau1` are the time constants of the loss.
    """

    # With `tau0` of 0.5 ms, as in the literature, the test accuracy of Yin-Yang with LIF neurons was 0.6 % lower. The
    # second term of the loss must not dominate the first for late spikes, as of inhibited outputs.
    def __init__(self, tau0: float = 0.2, tau1: float = 20.0):
        self.tau0, self.tau1 = tau0, tau1

    def options(self, settings):
        return {"until": FirstSpikes()}

    def loss_and_prediction(self, solution, labels, settings):
        times = first_spike(solution.spikes["output"])
        loss = losses.first_spike_cross_entropy(
            times, labels, t_silent=settings.duration, tau0=self.tau0, tau1=self.tau1, throw=False
        )
        return loss, decode.earliest(times)


class Voltage(AbstractReadout):
    """Predicts the class whose output voltage has the highest score, as its maximum or its mean over the sample.

    The voltages are saved at intervals of `every` ms, or only at the end if it is None. Their scores, times `scale`,
    are the logits of a cross entropy. The loss includes `price` times [`spikax.losses.count_bounds`][] of the hidden
    neurons: neurons that excite each other would spike more and more, until one exceeds `max_spikes`. The counts weight
    each spike by the time since then, so that all spikes have a gradient, and are bounded by a tenth of `max_spikes`.
    """

    def __init__(self, score: Callable[[Array], Array], scale: float, every: float | None = 1.0, price: float = 0.0):
        self.score, self.scale, self.every, self.price = score, scale, every, price

    def options(self, settings):
        if self.every is None:
            return {"saveat": {"output": jnp.asarray([settings.duration])}}
        times = round(settings.duration / self.every) + 1
        return {"saveat": {"output": jnp.linspace(0.0, settings.duration, times)}}

    def loss_and_prediction(self, solution, labels, settings):
        scores = self.scale * self.score(solution.states["output"].v)
        loss = losses.cross_entropy(scores, labels, throw=False)
        return loss + self._cost_of_activity(solution, settings), decode.largest(scores)

    def _cost_of_activity(self, solution: Solution, settings: Settings) -> Array | float:
        if not self.price:
            return 0.0
        duration = settings.duration
        trains = [solution.spikes[name] for name in settings.hidden_layers]
        counts = [losses.spike_count(each, tau=duration, t1=duration) for each in trains]
        return self.price * sum(losses.count_bounds(each, high=settings.max_spikes / 10) for each in counts)


class Logits(AbstractReadout):
    """Predicts a class by bits, whose logits are the output voltages at a few times.

    The times are `early` and the end of the sample. A class is predicted if all bits at all times match its `codes`, of
    shape `(classes, times, bits)`. The loss includes a cost of activity, in units of the cross entropy: `price` times
    the time since each spike, summed over the spikes of a unit, as a fraction of the duration.
    """

    def __init__(self, early: tuple[float, ...], codes: np.ndarray, price: float):
        self.early, self.codes, self.price = early, codes, price

    def outputs(self, classes):
        return self.codes.shape[2]

    def options(self, settings):
        return {"saveat": {"output": jnp.asarray((*self.early, settings.duration))}}

    def loss_and_prediction(self, solution, labels, settings):
        logits = solution.states["output"].v
        codes = jnp.asarray(self.codes, logits.dtype)
        loss = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, codes[labels]), axis=(1, 2))
        fits = jnp.all((logits[:, None] > 0.0) == (codes[None] == 1.0), axis=(2, 3))
        named = jnp.where(jnp.any(fits, axis=1), jnp.argmax(fits, axis=1), -1)
        trains = [solution.spikes[name] for name in settings.hidden_layers]
        return loss + self.price * sum(_activity(each, settings.duration) for each in trains), named


def _activity(spikes: Spikes, t1: float) -> Array:
    """The time since each spike, summed, as a fraction of the duration; the mean over the units of each sample."""
    happened = jnp.isfinite(spikes.times)
    since = jnp.where(happened, t1 - jnp.where(happened, spikes.times, t1), 0.0)
    return jnp.mean(jnp.sum(since, axis=-1), axis=-1) / t1
