"""The settings of a run."""

import dataclasses

from .._checks import require, require_count, require_finite, require_instance, require_natural, require_positive
from ._table import row


WIRINGS = ("delays", "feed-forward", "recurrent", "recurrent-delays")
"""The values of `Settings.wiring`."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run. `AbstractTask.settings` fills in the defaults of a task.

    - `neuron`: the model of the hidden neurons.
    - `readout`: the readout of the class: `"first-spike"`, the output that spikes first; `"max-voltage"` or
      `"mean-voltage"`, the leaky integrator whose voltage has the highest maximum or mean; `"last-voltage"`, the
      voltages at the end, one for each class, or in the memory tasks one for each bit of the class.
    - `hidden`: the number of neurons of a hidden layer.
    - `layers`: the number of hidden layers.
    - `epochs`: the number of passes over the training data.
    - `seed`: the random seed of the samples or of their split, of the initial weights, and of the shuffling.
    - `batch_size`: the number of samples per step.
    - `learning_rate`: the initial learning rate of Adam, with cosine decay to zero.
    - `clip`: the maximal norm of a gradient. Larger gradients are scaled down to it.
    - `duration`: the duration of a sample, in ms.
    - `max_spikes`: the maximal number of spikes of a hidden neuron in a sample. One more is an error.
    - `drop`: the fraction of input spikes that are dropped at random in training.
    - `jitter`: the standard deviation of the random jitter of input spikes in training, in ms.
    - `shift`: the maximal random shift of images along each axis in training, in pixels.
    - `data`: the directory of the data, for data sets that do not come with spikax.
    - `wiring`: the connections. `"feed-forward"`: weights from layer to layer; `"delays"`: with a learned delay of each
      synapse onto a hidden neuron; `"recurrent"`: with recurrent weights within the hidden layers;
      `"recurrent-delays"`: with both, and learned delays of the recurrent connections.

    **Raises:** `TypeError` or `ValueError` for invalid values.
    """

    neuron: str
    readout: str
    hidden: int
    epochs: int
    seed: int
    batch_size: int
    learning_rate: float
    clip: float
    duration: float
    max_spikes: int
    drop: float = 0.0
    jitter: float = 0.0
    shift: int = 0
    data: str | None = None
    layers: int = 1
    wiring: str = "feed-forward"

    def __post_init__(self):
        for name in ("hidden", "layers", "epochs", "batch_size", "max_spikes"):
            require_count(getattr(self, name), name)
        require_natural(self.seed, "seed")
        require_natural(self.shift, "shift")
        for name in ("learning_rate", "clip", "duration"):
            require_positive(getattr(self, name), name)
        require_finite(self.jitter, "jitter")
        require(self.jitter >= 0, "jitter", "at least 0", self.jitter)
        require_finite(self.drop, "drop")
        require(0.0 <= self.drop < 1.0, "drop", "from 0 and below 1", self.drop)
        require(self.wiring in WIRINGS, "wiring", f"one of {list(WIRINGS)}", self.wiring)
        if self.data is not None:
            require_instance(self.data, str, "data", "the path of a directory")

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """The names of the hidden layers."""
        return ("hidden",) if self.layers == 1 else tuple(f"hidden{i + 1}" for i in range(self.layers))


SETTINGS = (
    row(
        "yin-yang * *",
        hidden=120,
        epochs=50,
        batch_size=50,
        learning_rate=5e-3,
        clip=0.5,
        duration=40.0,
        max_spikes=8,
    ),
    # An epoch takes a second with LIF neurons, and most of a minute with dendrites, which have their own events.
    row("yin-yang lif *", epochs=100),
    row("yin-yang dendritic *", epochs=15),
    # The inputs end at 30 ms. Inhibited outputs spike long after that, and silent outputs have no gradient.
    row("yin-yang * first-spike", duration=120.0),
    row(
        "digits * *",
        hidden=300,
        epochs=50,
        batch_size=32,
        learning_rate=1e-2,
        clip=0.5,
        duration=40.0,
        max_spikes=32,
        drop=0.05,
        jitter=1.0,
    ),
    # In a mean over a longer time, dark pixels, which spike last, at 20 ms, would count as much as bright ones.
    row("digits * mean-voltage", duration=25.0),
    row("digits * first-spike", learning_rate=5e-3, duration=60.0),
    row(
        "mnist * *",
        hidden=100,
        epochs=5,
        batch_size=100,
        learning_rate=4e-3,
        clip=0.5,
        duration=30.0,
        max_spikes=32,
        drop=0.1,
    ),
    row("mnist lif *", hidden=350, epochs=18, batch_size=50, learning_rate=5e-3),
    row("mnist eif *", epochs=6, learning_rate=2e-2),
    row("mnist izhikevich *", epochs=7, learning_rate=1.5e-2),
    row("mnist egru *", epochs=6, learning_rate=1.2e-2),
    # The inputs end at 20 ms. Inhibited outputs spike long after that, and silent outputs have no gradient.
    row(
        "mnist * first-spike",
        epochs=5,
        learning_rate=4e-3,
        duration=200.0,
        max_spikes=40,
        drop=0.05,
        shift=1,
    ),
    row("mnist lif first-spike", epochs=16, learning_rate=7e-3),
    row("delay-copy|delayed-xor * *", wiring="recurrent"),
    row(
        "delay-copy * *",
        hidden=2,
        epochs=8,
        batch_size=64,
        learning_rate=0.02,
        clip=0.05,
        duration=180.0,
        max_spikes=48,
    ),
    row(
        "delayed-xor * *",
        hidden=8,
        epochs=12,
        batch_size=32,
        learning_rate=0.025,
        clip=0.1,
        duration=430.0,
        max_spikes=64,
    ),
    row(
        "spoken-digits * *",
        hidden=128,
        epochs=10,
        batch_size=32,
        learning_rate=1e-2,
        clip=1.0,
        duration=1000.0,
        max_spikes=250,
        wiring="delays",
    ),
    # The inputs end at 140 ms, and arrive up to 100 ms later.
    row(
        "sequential-mnist * *",
        hidden=256,
        epochs=6,
        batch_size=100,
        learning_rate=1e-2,
        clip=1.0,
        duration=260.0,
        max_spikes=64,
        wiring="delays",
    ),
)
"""The settings for each task, neuron and readout: general rows first, then exceptions."""
