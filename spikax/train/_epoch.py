"""What happened in an epoch."""

from typing import NamedTuple


class Epoch(NamedTuple):
    """What happened in an epoch.

    - `number`: the number of the epoch, from 1.
    - `seconds`: how long it took, with its validation.
    - `training`: the mean of the loss and of each measure over its batches, while the network was learning; and
      `"gradient_norm"`, the largest norm of the gradient in a step, before the optimiser clips it.
    - `validation`: the mean of the loss and of each measure over the validation data, after it.
    """

    number: int
    seconds: float
    training: dict[str, float]
    validation: dict[str, float]

    @property
    def measures(self) -> dict[str, float]:
        """All numbers by name, as in `metrics.csv`: `"seconds"`, `"training_loss"`, `"validation_loss"`, ..."""
        training = {f"training_{name}": value for name, value in self.training.items()}
        validation = {f"validation_{name}": value for name, value in self.validation.items()}
        return {"seconds": self.seconds} | training | validation

    @property
    def score(self) -> tuple[float, float]:
        """The criterion of the best epoch: the accuracy in validation, if it is measured, and then a low loss."""
        return self.validation.get("accuracy", 0.0), -self.validation["loss"]
