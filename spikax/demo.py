"""The Yin-Yang task from end to end: what `python -m spikax train yin-yang` does.

```python
from spikax import demo

settings = demo.Settings(hidden=60, epochs=10)
trained = demo.train_yin_yang(settings)
print(demo.test(trained.network, settings)["accuracy"])
```
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from . import init, losses, train
from ._checks import require, require_count, require_positive
from ._network import Layer, Network, sequential
from ._neuron import AbstractNeuron
from ._results import RESULTS
from ._simulate import simulate
from ._solution import Solution
from ._spikes import first_spike, Spikes
from ._synapse import ExpSynapse
from ._until import FirstSpikes
from .datasets import Loader, yin_yang, yin_yang_spikes, YinYang
from .neurons import CalciumDendrite, Dendrite, EGRU, EIF, Izhikevich, LIF, MultiCompartment, QIF


CLASSES = ("yin", "yang", "dot")

# How many samples there are to train, to choose an epoch, and to test.
SIZES = {"training": 5000, "validation": 1000, "test": 1000}


class _Recipe(NamedTuple):
    """The neurons of a network, and how their first weights are drawn.

    The strides say how far a step of the optimiser goes, for the weights into the hidden and into the output layer:
    neurons measure their input in different units.
    """

    hidden: AbstractNeuron
    output: AbstractNeuron
    weights_in: Any
    weights_out: Any
    strides: tuple[float, float] = (1.0, 1.0)


# The bias brings every output across its threshold in the end, whatever its input: none stays silent, and so each has
# a gradient. Only the first spike of an output counts.
_RECIPES = {
    "lif": _Recipe(LIF(), LIF(bias=1.5), init.normal(2.5, 1.5), init.normal(0.3, 0.3)),
    "qif": _Recipe(QIF(), QIF(bias=2.0), init.normal(10.0, 8.0), init.normal(1.0, 1.0), (5.0, 4.0)),
    "eif": _Recipe(EIF(), EIF(bias=1.5), init.normal(2.5, 1.5), init.normal(0.3, 0.3)),
    "izhikevich": _Recipe(
        Izhikevich(synapse=ExpSynapse(20.0)), LIF(bias=1.5), init.normal(2.5, 2.5), init.normal(0.3, 0.3), (5.0, 2.0)
    ),
    "egru": _Recipe(
        EGRU(),
        EGRU(bias_z=0.6),
        {"u": init.normal(0.0, 0.5), "r": init.normal(0.0, 0.5), "z": init.normal(1.0, 1.0)},
        {"u": init.normal(0.0, 0.5), "r": init.normal(0.0, 0.5), "z": init.normal(0.3, 0.5)},
    ),
    "dendritic": _Recipe(
        MultiCompartment(
            LIF(15.0),
            {"dendrite": Dendrite(CalciumDendrite(10.0, 0.0, 2.2, 16.0, t_read=2.0, t_fall=23.0), 0.1, 0.5)},
            synapse={"dendrite": ExpSynapse(3.0), "soma": ExpSynapse(5.0)},
        ),
        LIF(bias=1.5),
        {"dendrite": init.normal(5.5, 3.3), "soma": init.normal(1.1, 1.1)},
        init.normal(0.3, 0.3),
    ),
}

NEURONS = tuple(_RECIPES)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run.

    - `neuron`: `"lif"`, `"qif"`, `"eif"`, `"izhikevich"`, `"egru"` or `"dendritic"`.
    - `hidden`: the number of hidden neurons.
    - `epochs`: how often to go through the training data.
    - `seed`: the seed of the samples, of the first weights, and of the shuffling.
    - `batch_size`: the number of samples in a step.
    - `learning_rate`: of Adam, at the start; it falls to zero along a cosine.
    - `clip`: the largest norm of a gradient; longer ones are shortened to it.
    - `duration`: how long a sample is simulated, in ms. The inputs end at 30 ms.
    - `max_spikes`: how often a hidden neuron may spike in a sample. One more is an error.

    Raises `TypeError` or `ValueError` for anything else.
    """

    neuron: str = "lif"
    hidden: int = 120
    epochs: int = 50
    seed: int = 0
    batch_size: int = 50
    learning_rate: float = 5e-3
    clip: float = 0.5
    duration: float = 60.0
    max_spikes: int = 8

    def __post_init__(self):
        require(self.neuron in NEURONS, "neuron", f"one of {list(NEURONS)}", self.neuron)
        for name in ("hidden", "epochs", "batch_size", "max_spikes"):
            require_count(getattr(self, name), name)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        samples = SIZES["training"]
        require(self.batch_size <= samples, "batch_size", f"at most {samples}, the training data", self.batch_size)
        for name in ("learning_rate", "clip", "duration"):
            require_positive(getattr(self, name), name)
        require(self.duration > 30.0, "duration", "above 30, where the inputs end", self.duration)


def build(settings: Settings) -> Network:
    """The network of a run, before its training."""
    recipe = _RECIPES[settings.neuron]
    return sequential(
        5,
        Layer(recipe.hidden, settings.hidden, weights=recipe.weights_in),
        Layer(recipe.output, len(CLASSES), weights=recipe.weights_out),
        key=jax.random.key(settings.seed),
    )


def points_of(part: str, settings: Settings) -> YinYang:
    """The points and labels of the part `"training"`, `"validation"` or `"test"`: others in every run."""
    require(part in SIZES, "part", f"one of {list(SIZES)}", part)
    # A seed for each part of each run.
    return yin_yang(SIZES[part], len(SIZES) * settings.seed + list(SIZES).index(part))


def samples(part: str, settings: Settings) -> tuple[Spikes, Array]:
    """The input spikes and labels of the part `"training"`, `"validation"` or `"test"`."""
    points, labels = points_of(part, settings)
    return yin_yang_spikes(points), jnp.asarray(labels)


def respond(network: Network, inputs: Spikes, settings: Settings) -> Solution:
    """The simulation of a batch, and an error unless it holds all that counts."""
    capacity = {"hidden": settings.max_spikes, "output": 1}
    solution = simulate(network, inputs, settings.duration, max_spikes=capacity, until=FirstSpikes(), throw=False)
    fine = solution.result == RESULTS.successful
    message = (
        f"In some sample a hidden neuron spiked more than `max_spikes={settings.max_spikes}` times, or the event loop "
        "did not reach the end. Raise `max_spikes`, or lower the learning rate."
    )
    checked = eqx.error_if(solution.spikes["output"].times, ~jnp.all(fine), message)
    return eqx.tree_at(lambda solution: solution.spikes["output"].times, solution, checked)


def objective(settings: Settings) -> train.Objective:
    """The loss of the first spikes, the accuracy, and the spikes per hidden neuron."""

    def measure(network: Network, inputs: Spikes, labels: Array):
        solution = respond(network, inputs, settings)
        times = first_spike(solution.spikes["output"])
        loss = losses.first_spike_cross_entropy(times, labels, t_silent=settings.duration)
        right = (losses.earliest(times) == labels).astype(times.dtype)
        return loss, {"accuracy": right, "hidden_spikes": solution.stats["hidden"].spikes / settings.hidden}

    return measure


def train_yin_yang(settings: Settings, on_epoch: Callable[[train.Epoch], Any] | None = None) -> train.Fit:
    """Trains a network on the Yin-Yang data; `on_epoch` is called at the end of each epoch."""
    steps = settings.epochs * (SIZES["training"] // settings.batch_size)
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps)),
        optax.stateless(lambda updates, _: _stretched(updates, _RECIPES[settings.neuron].strides)),
    )
    return train.fit(
        build(settings),
        objective(settings),
        Loader(*samples("training", settings), batch_size=settings.batch_size, seed=settings.seed),
        Loader(*samples("validation", settings), batch_size=settings.batch_size),
        optimizer=optimizer,
        epochs=settings.epochs,
        callbacks=() if on_epoch is None else (lambda epoch, _: on_epoch(epoch),),
    )


def _stretched(updates: Network, strides: tuple[float, float]) -> Network:
    """The updates of the weights, times the stride of their layer."""

    def weights(network):
        return [connection.weight for connection in network.connections]

    pairs = zip(weights(updates), strides, strict=True)
    return eqx.tree_at(weights, updates, [jax.tree.map(lambda w, s=s: s * w, weight) for weight, s in pairs])


def test(network: Network, settings: Settings) -> dict[str, float]:
    """The mean loss, accuracy and spikes per hidden neuron on the test data."""
    data = Loader(*samples("test", settings), batch_size=SIZES["test"])
    return train.evaluate(network, objective(settings), data)


def answer(network: Network, points: Any, settings: Settings) -> np.ndarray:
    """The class that a network gives to each point, shape `(n, 2)`; -1 where no output spikes."""
    points = np.asarray(points)
    batches = Loader(yin_yang_spikes(points), points, batch_size=SIZES["test"]).in_order()
    return np.concatenate([_answer(network, inputs, settings)[:count] for inputs, _, count in batches])


@eqx.filter_jit
def _answer(network: Network, inputs: Spikes, settings: Settings) -> Array:
    return losses.earliest(first_spike(respond(network, inputs, settings).spikes["output"]))


def save(directory: Path, network: Network, settings: Settings) -> None:
    """Writes a network into a directory, as `network.eqx` and, to rebuild it, `settings.json`."""
    (directory / "settings.json").write_text(json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    eqx.tree_serialise_leaves(directory / "network.eqx", network)


def load(directory: Path | str) -> tuple[Network, Settings]:
    """Reads a network, and the settings of its run, from the directory that `save` or the command line wrote."""
    directory = Path(directory)
    settings = Settings(**json.loads((directory / "settings.json").read_text()))
    return eqx.tree_deserialise_leaves(directory / "network.eqx", build(settings)), settings
