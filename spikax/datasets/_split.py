"""Splits of a data set into training, validation and test sets."""

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from .._checks import require, require_count


Part = TypeVar("Part")


class Split(NamedTuple, Generic[Part]):
    """A data set split into three parts.

    - `training`: the training set.
    - `validation`: the validation set, for model selection and early stopping.
    - `test`: the test set, for the final evaluation.
    """

    training: Part
    validation: Part
    test: Part


def set_aside(labels: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The remaining rows, and `n` random rows, stratified by class up to one sample."""
    order = rng.permutation(labels.size)
    by_class = order[np.argsort(labels[order], kind="stable")]
    chosen = by_class[(2 * np.arange(n) + 1) * labels.size // (2 * n)]
    stays = np.ones(labels.size, bool)
    stays[chosen] = False
    return np.flatnonzero(stays), np.sort(chosen)


def require_fewer(n: int, name: str, samples: int) -> None:
    """Raises unless `n` is a count below `samples`."""
    require_count(n, name)
    require(n < samples, name, f"below {samples}, the number of training samples", n)
