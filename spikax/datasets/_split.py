"""The parts of a data set."""

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from .._checks import require, require_count


Part = TypeVar("Part")


class Split(NamedTuple, Generic[Part]):
    """A data set in three parts.

    - `training`: to learn from.
    - `validation`: to choose by, such as when to stop.
    - `test`: to report on, once.
    """

    training: Part
    validation: Part
    test: Part


def set_aside(labels: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The rows that stay, and `n` random ones, in which each class has its share, up to one sample."""
    order = rng.permutation(labels.size)
    by_class = order[np.argsort(labels[order], kind="stable")]
    chosen = by_class[(2 * np.arange(n) + 1) * labels.size // (2 * n)]
    stays = np.ones(labels.size, bool)
    stays[chosen] = False
    return np.flatnonzero(stays), np.sort(chosen)


def require_fewer(n: int, name: str, samples: int) -> None:
    """Raises unless `n` samples can be set aside of so many."""
    require_count(n, name)
    require(n < samples, name, f"below {samples}, the number of training samples", n)
