"""How a network names a class."""

import abc
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .. import losses
from .._network import Layer
from .._solution import Solution
from .._spikes import first_spike
from .._synapse import ExpSynapse
from .._until import FirstSpikes
from ..neurons import LI
from ._recipes import Recipe
from ._settings import Settings


class AbstractReadout(abc.ABC):
    """The output layer, and what its answer and loss are."""

    @abc.abstractmethod
    def layer(self, recipe: Recipe, classes: int) -> Layer:
        """The output layer, with its weights."""

    def strides(self, recipe: Recipe) -> tuple[float, float]:
        """How much longer than the learning rate the steps of the weights into both layers are."""
        return recipe.strides

    @abc.abstractmethod
    def options(self, settings: Settings) -> dict[str, Any]:
        """Arguments for `simulate`."""

    @abc.abstractmethod
    def judged(self, solution: Solution, labels: Array, settings: Settings) -> tuple[Array, Array]:
        """The loss of each sample, and the class that the network names, -1 where it names none."""


class FirstSpike(AbstractReadout):
    """The output that spikes first names the class; the loss is the cross entropy of the first spikes.

    `tau0` and `tau1` are the time constants of the loss.
    """

    # With the 0.5 ms of the literature Yin-Yang was 0.6 % lower in test, with LIF neurons. The second term must not
    # outgrow the first for late spikes, as of inhibited outputs.
    def __init__(self, tau0: float = 0.2, tau1: float = 20.0):
        self.tau0, self.tau1 = tau0, tau1

    def layer(self, recipe, classes):
        return Layer(recipe.output, classes, weights=recipe.weights_out)

    def options(self, settings):
        return {"until": FirstSpikes()}

    def judged(self, solution, labels, settings):
        times = first_spike(solution.spikes["output"])
        loss = losses.first_spike_cross_entropy(
            times, labels, t_silent=settings.duration, tau0=self.tau0, tau1=self.tau1
        )
        return loss, losses.earliest(times)


class Voltage(AbstractReadout):
    """The outputs are leaky integrators; the maximum or the mean of their voltages over the sample names the class.

    The voltages are saved every millisecond. Their maxima or means, times `scale`, are the scores of a cross entropy.
    """

    def __init__(self, score: Callable[[Array], Array], scale: float):
        self.score, self.scale = score, scale

    def layer(self, recipe, classes):
        return Layer(LI(20.0, synapse=ExpSynapse(5.0)), classes, weights=recipe.weights_read)

    def strides(self, recipe):
        # A spike moves the voltage by a sixth of its weight, and scores of a cross entropy differ by several units.
        return recipe.strides[0], 4.0

    def options(self, settings):
        return {"saveat": {"output": jnp.linspace(0.0, settings.duration, round(settings.duration) + 1)}}

    def judged(self, solution, labels, settings):
        scores = self.scale * self.score(solution.states["output"].v)
        return losses.cross_entropy(scores, labels), losses.largest(scores)


READOUTS: dict[str, AbstractReadout] = {
    "first-spike": FirstSpike(),
    "max-voltage": Voltage(losses.maximum, 1.0),
    # The mean over a sample is about a quarter of the maximum.
    "mean-voltage": Voltage(losses.mean, 4.0),
}
