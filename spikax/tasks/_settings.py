"""The settings of a run."""

import dataclasses

from .._checks import require, require_count, require_finite, require_instance, require_natural, require_positive


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run; `AbstractTask.settings` fills in what suits a task.

    - `neuron`: the model of the hidden neurons.
    - `readout`: what names the class: `"first-spike"`, the output that spikes first; `"max-voltage"` or
      `"mean-voltage"`, the leaky integrator whose voltage has the highest maximum or mean.
    - `hidden`: the number of hidden neurons.
    - `epochs`: how often to go through the training data.
    - `seed`: the seed of the samples or of their parts, of the first weights, and of the shuffling.
    - `batch_size`: the number of samples in a step.
    - `learning_rate`: of Adam, at the start; it falls to zero along a cosine.
    - `clip`: the largest norm of a gradient; longer ones are shortened to it.
    - `duration`: how long a sample is simulated, in ms.
    - `max_spikes`: how often a hidden neuron may spike in a sample. One more is an error.
    - `drop`: the share of the input spikes that are lost at random in training.
    - `jitter`: the standard deviation by which input spikes move at random in training, in ms.
    - `shift`: by how many pixels images move along either axis, at random in training.
    - `data`: the directory of the data, for those that do not come with spikax.

    Raises `TypeError` or `ValueError` for anything that cannot be meant.
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

    def __post_init__(self):
        for name in ("hidden", "epochs", "batch_size", "max_spikes"):
            require_count(getattr(self, name), name)
        require_natural(self.seed, "seed")
        require_natural(self.shift, "shift")
        for name in ("learning_rate", "clip", "duration"):
            require_positive(getattr(self, name), name)
        require_finite(self.jitter, "jitter")
        require(self.jitter >= 0, "jitter", "at least 0", self.jitter)
        require_finite(self.drop, "drop")
        require(0.0 <= self.drop < 1.0, "drop", "from 0 and below 1", self.drop)
        if self.data is not None:
            require_instance(self.data, str, "data", "the path of a directory")
