"""The interface of tasks."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array

from .._checks import require
from .._network import Layer, Network
from .._simulate.entry import simulate
from .._simulate.solution import Solution
from ..datasets import Loader, Split
from ..silence import activity
from ._readouts import AbstractReadout
from ._recipes import NEURONS, READOUTS, Recipe, recipe_for
from ._settings import SETTINGS, Settings
from ._table import merged
from ._wirings import wired


class Samples(NamedTuple):
    """Inputs of a network with their classes.

    - `inputs`: [`spikax.Spikes`][] or [`spikax.Events`][], with one batch axis; or a list of [`spikax.Events`][].
    - `labels`: integers from 0; shape `(n,)`.
    """

    inputs: Any
    labels: np.ndarray

    def first(self, n: int) -> Any:
        """The inputs of the first `n` samples, or of all if there are fewer, with one batch axis."""
        n = min(n, len(self.labels))
        inputs = self.inputs[:n] if isinstance(self.inputs, list) else jax.tree.map(lambda leaf: leaf[:n], self.inputs)
        return next(Loader(inputs, self.labels[:n], batch_size=n).in_order())[0]


class AbstractTask(abc.ABC):
    """A classification task for a network with hidden layers of equal size.

    A subclass defines the samples. The settings and the network for each neuron and readout are rows of the tables
    `SETTINGS` and `RECIPES`.

    - `name`: the name on the command line.
    - `summary`: a description in one line.
    - `story`: a description in a few lines.
    - `classes`: the names of the classes.
    - `channels`: the number of input channels.
    - `samples`: the number of training samples.
    - `neurons`, `readouts`: the supported neurons and readouts; the first ones are the defaults.
    - `picture`: the height and width of the image, if the inputs are images.
    - `needs_data`: whether the data have to be downloaded.
    - `wirings`: the supported wirings; by default connections from layer to layer only.
    - `is_calibrated`: whether `build` scales the weights into all hidden layers to a fraction of neurons that spike.
      Otherwise there is one hidden layer, whose initial weights are for the input.
    """

    name: str
    summary: str
    story: str
    classes: tuple[str, ...]
    channels: int
    samples: int
    neurons: tuple[str, ...] = NEURONS
    readouts: tuple[str, ...] = READOUTS
    picture: tuple[int, int] | None = None
    needs_data: bool = False
    wirings: tuple[str, ...] = ("feed-forward",)
    is_calibrated: bool = False

    @abc.abstractmethod
    def split(self, settings: Settings) -> Split[Samples]:
        """The samples for training, validation and test."""

    def points(self, settings: Settings) -> Split[Any] | None:
        """The points of the plane that the samples encode, with their labels, for all parts; None if not applicable."""
        return None

    def readout(self, settings: Settings) -> AbstractReadout:
        """The readout of the network."""
        return self._recipe(settings).readout

    def settings(self, **given: Any) -> Settings:
        """The settings of a run: the given ones, and for all others the defaults of the task."""
        neuron, readout = given.get("neuron", self.neurons[0]), given.get("readout", self.readouts[0])
        require(neuron in self.neurons, "neuron", f"one of {list(self.neurons)} for the task {self.name}", neuron)
        require(readout in self.readouts, "readout", f"one of {list(self.readouts)} for the task {self.name}", readout)
        chosen = {"neuron": neuron, "readout": readout, "seed": 0}
        settings = Settings(**chosen | merged(SETTINGS, self.name, neuron, readout) | given)
        is_still = settings.shift == 0 or self.picture is not None
        require(is_still, "shift", f"0 for the task {self.name}, whose inputs are no images", settings.shift)
        expectation = f"1 for the task {self.name}, whose initial weights are for a single hidden layer"
        require(settings.layers == 1 or self.is_calibrated, "layers", expectation, settings.layers)
        expectation = f"one of {list(self.wirings)} for the task {self.name}"
        require(settings.wiring in self.wirings, "wiring", expectation, settings.wiring)
        expectation = f"at most {self.samples}, the training data"
        require(settings.batch_size <= self.samples, "batch_size", expectation, settings.batch_size)
        return settings

    def build(self, settings: Settings) -> Network:
        """The network before training."""
        recipe, outputs = self._recipe(settings), self.readout(settings).outputs(len(self.classes))
        weights_in = jax.tree.map(recipe.change_in, recipe.weights_in)
        weights_out = jax.tree.map(recipe.change_out, recipe.weights_out)
        neuron, size = recipe.hidden(settings.hidden, settings.duration), settings.hidden
        hidden = [Layer(neuron, size, weights=weights_in, name=name) for name in settings.hidden_layers]
        output = Layer(recipe.output(outputs, settings.duration), outputs, weights=weights_out, name="output")
        key = jax.random.key(settings.seed)
        return wired(self.channels, *hidden, output, wiring=settings.wiring, recipe=recipe, key=key)

    def options(self, settings: Settings) -> dict[str, Any]:
        """The arguments for `simulate`."""
        capacity = dict.fromkeys(settings.hidden_layers, settings.max_spikes) | {"output": 1}
        return {"t1": settings.duration, "max_spikes": capacity} | self.readout(settings).options(settings)

    def optimizer(self, settings: Settings, steps: int) -> optax.GradientTransformation:
        """The optimiser, Adam, for a number of steps."""
        recipe = self._recipe(settings)
        strides = (*(recipe.stride_in for _ in settings.hidden_layers), recipe.stride_out)
        return optax.chain(
            recipe.clip(settings.clip),
            optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps)),
            optax.stateless(lambda updates, _: _stretched(updates, strides)),
        )

    def _recipe(self, settings: Settings) -> Recipe:
        return recipe_for(self.name, settings.neuron, settings.readout)

    def respond(self, network: Network, inputs: Any, settings: Settings) -> Solution:
        """Simulates a batch. `Solution.results` tells which samples failed."""
        return simulate(network, inputs, **self.options(settings), throw=False)

    def measure(self, network: Network, inputs: Any, labels: Array, settings: Settings) -> tuple[Array, dict]:
        """The objective of the training: the loss, the accuracy, and the activity of the layers.

        A hidden neuron with more than half of `max_spikes` spikes is counted as bursting.
        """
        solution = self.respond(network, inputs, settings)
        loss, answers = self.readout(settings).loss_and_prediction(solution, labels, settings)
        active = activity(solution, burst=(settings.max_spikes + 1) // 2)
        hidden = [active[name]._asdict() for name in settings.hidden_layers]
        measures = {"accuracy": (answers == labels).astype(loss.dtype)}
        measures |= {f"hidden_{name}": sum(each[name] for each in hidden) / len(hidden) for name in hidden[0]}
        if network.layers["output"].neuron.can_spike:
            measures["output_silent"] = active["output"].silent
        return loss, measures | {"results": solution.results}


def _stretched(updates: Network, strides: tuple[float, ...]) -> Network:
    """The updates, with those of the weights into each layer multiplied by the stride of the layer."""

    def weights(network):
        return [connection.weight for connection in network.connections[: len(strides)]]

    pairs = zip(weights(updates), strides, strict=True)
    return eqx.tree_at(weights, updates, [jax.tree.map(lambda w, s=s: s * w, weight) for weight, s in pairs])
