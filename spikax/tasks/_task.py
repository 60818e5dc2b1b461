"""What a task is."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from .._checks import require
from .._network import Layer, Network, sequential
from .._results import RESULTS
from .._simulate import simulate
from .._solution import Solution
from ..datasets import Split
from ..neurons import SilentNeuron
from ..silence import activity
from ._readouts import AbstractReadout, READOUTS
from ._recipes import NEURONS, Recipe, RECIPES
from ._settings import Settings


class Samples(NamedTuple):
    """Inputs of a network, and the class of each.

    - `inputs`: [`spikax.Spikes`][] or [`spikax.Events`][], with one batch axis.
    - `labels`: integers from 0; shape `(n,)`.
    """

    inputs: Any
    labels: np.ndarray


class AbstractTask(abc.ABC):
    """A task in which a network with one hidden layer names the class of each sample.

    - `name`: what it is called on the command line.
    - `summary`: what it is about, in a line.
    - `story`: the same in a few lines.
    - `classes`: what the classes are called.
    - `channels`: how many channels the inputs have.
    - `samples`: how many there are to learn from.
    - `neurons`, `readouts`: which there are settings for; the first ones are the defaults.
    - `picture`: the height and the width of the picture that the channels make, if they do.
    - `needs_data`: whether the data do not come with spikax.
    """

    name: str
    summary: str
    story: str
    classes: tuple[str, ...]
    channels: int
    samples: int
    neurons: tuple[str, ...] = NEURONS
    readouts: tuple[str, ...] = tuple(READOUTS)
    picture: tuple[int, int] | None = None
    needs_data: bool = False

    @abc.abstractmethod
    def defaults(self, neuron: str, readout: str) -> dict[str, Any]:
        """The settings for this neuron and readout, but for these two and the seed."""

    @abc.abstractmethod
    def split(self, settings: Settings) -> Split[Samples]:
        """The samples to learn from, to choose by, and to test with."""

    def recipe(self, settings: Settings) -> Recipe:
        """The neurons and their first weights."""
        return RECIPES[settings.neuron]

    def readout(self, settings: Settings) -> AbstractReadout:
        """How the network names a class."""
        return READOUTS[settings.readout]

    def settings(self, **given: Any) -> Settings:
        """The settings of a run: those that are given, and for all others what suits the task."""
        neuron, readout = given.get("neuron", self.neurons[0]), given.get("readout", self.readouts[0])
        require(neuron in self.neurons, "neuron", f"one of {list(self.neurons)} for the task {self.name}", neuron)
        require(readout in self.readouts, "readout", f"one of {list(self.readouts)} for the task {self.name}", readout)
        chosen = {"neuron": neuron, "readout": readout, "seed": 0}
        settings = Settings(**chosen | self.defaults(neuron, readout) | given)
        is_still = settings.shift == 0 or self.picture is not None
        require(is_still, "shift", f"0 for the task {self.name}, which has no images", settings.shift)
        expectation = f"at most {self.samples}, the training data"
        require(settings.batch_size <= self.samples, "batch_size", expectation, settings.batch_size)
        return settings

    def build(self, settings: Settings) -> Network:
        """The network before its training."""
        recipe = self.recipe(settings)
        return sequential(
            self.channels,
            Layer(recipe.hidden, settings.hidden, weights=recipe.weights_in),
            self.readout(settings).layer(recipe, len(self.classes)),
            key=jax.random.key(settings.seed),
        )

    def options(self, settings: Settings) -> dict[str, Any]:
        """Arguments for `simulate`: how the network is simulated."""
        capacity = {"hidden": settings.max_spikes, "output": 1}
        return {"t1": settings.duration, "max_spikes": capacity} | self.readout(settings).options(settings)

    def optimizer(self, settings: Settings, steps: int) -> optax.GradientTransformation:
        """Adam, for so many steps."""
        strides = self.readout(settings).strides(self.recipe(settings))
        return optax.chain(
            optax.clip_by_global_norm(settings.clip),
            optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps)),
            optax.stateless(lambda updates, _: _stretched(updates, strides)),
        )

    def respond(self, network: Network, inputs: Any, settings: Settings) -> Solution:
        """The simulation of a batch, and an error unless it holds all that counts."""
        solution = simulate(network, inputs, **self.options(settings), throw=False)
        message = (
            f"In some sample a hidden neuron spiked more than `max_spikes={settings.max_spikes}` times, or the event "
            "loop did not reach the end. Raise `max_spikes`, or lower the learning rate."
        )
        floats, rest = eqx.partition(solution, eqx.is_inexact_array)
        floats = eqx.error_if(floats, ~jnp.all(solution.result == RESULTS.successful), message)
        return eqx.combine(floats, rest)

    def measure(self, network: Network, inputs: Any, labels: Array, settings: Settings) -> tuple[Array, dict]:
        """The objective of the training: the loss, the accuracy, and how active the layers are.

        A hidden neuron is bursting with more than half of `max_spikes`.
        """
        solution = self.respond(network, inputs, settings)
        loss, answers = self.readout(settings).judged(solution, labels, settings)
        active = activity(solution, burst=(settings.max_spikes + 1) // 2)
        measures = {"accuracy": (answers == labels).astype(loss.dtype)}
        measures |= {f"hidden_{name}": value for name, value in active["hidden"]._asdict().items()}
        if not isinstance(network.layers["output"].neuron, SilentNeuron):
            measures["output_silent"] = active["output"].silent
        return loss, measures


def _stretched(updates: Network, strides: tuple[float, float]) -> Network:
    """The updates of the weights, times the stride of their layer."""

    def weights(network):
        return [connection.weight for connection in network.connections]

    pairs = zip(weights(updates), strides, strict=True)
    return eqx.tree_at(weights, updates, [jax.tree.map(lambda w, s=s: s * w, weight) for weight, s in pairs])
