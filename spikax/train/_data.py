"""Batches of any origin: of a `Loader`, of another library, or of a function."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import require
from ..datasets import Loader
from ._replicas import Replicas


Data = Loader | Callable[[int], Iterable[Any]] | Iterable[Any]
"""A `Loader`; a function of the number of an epoch that returns its batches; or an iterable of batches."""


class Batches(NamedTuple):
    """Batches for training and evaluation.

    - `epoch`: a function of the number of an epoch that returns its batches `(inputs, targets)`.
    - `in_order`: a function that returns the batches `(inputs, targets, count)` of all samples, for evaluation.
    - `steps`: the number of batches in an epoch, if it is known.
    - `is_repeatable`: whether an epoch has the same batches after an interruption.
    - `text`: what identifies the data in a checkpoint.
    """

    epoch: Callable[[int], Iterable[tuple[Any, Any]]]
    in_order: Callable[[], Iterable[tuple[Any, Any, int]]]
    steps: int | None
    is_repeatable: bool
    text: str


def as_batches(data: Any, name: str, replicas: Replicas) -> Batches:
    """The batches of the argument `name`, of a `Loader` the share of this process.

    Raises `TypeError` for other data than `Data`.
    """
    if isinstance(data, Loader):
        # The share has the text of the whole: a training may go on with another number of processes.
        share = data if replicas.processes == 1 else data.share(jax.process_index(), replicas.processes)
        return Batches(share.epoch, share.in_order, len(data), True, repr(data))
    is_function = callable(data)
    expectation = "a `sx.datasets.Loader`, an iterable of batches, or a function of the number of an epoch"
    hint = "For example `sx.datasets.Loader(inputs, targets, batch_size=50)`."
    require(is_function or isinstance(data, Iterable), name, expectation, data, hint, TypeError)
    # Told by its type: to call `iter` would start the workers of a loader of PyTorch, and change its random numbers.
    ends = isinstance(data, Iterator)
    hint = "An iterator ends after one epoch. Pass a function that makes a new one: `lambda epoch: batches(epoch)`."
    require(not ends, name, expectation, data, hint, TypeError)

    def epoch(number):
        return _pairs(data(number) if is_function else data, name)

    def in_order():
        return ((inputs, targets, jax.tree.leaves(targets)[0].shape[0]) for inputs, targets in epoch(0))

    steps = len(data) if isinstance(data, Sized) else None
    text = "a function" if is_function else type(data).__name__
    return Batches(epoch, in_order, steps, is_function or isinstance(data, list | tuple), text)


def _pairs(batches: Any, name: str) -> Iterator[tuple[PyTree, PyTree]]:
    """The batches with arrays of JAX. Raises unless each is a pair, and if there are none."""
    require(isinstance(batches, Iterable), name, "a function that returns an iterable", batches, error=TypeError)
    batch = None
    for batch in batches:
        is_pair = isinstance(batch, list | tuple) and len(batch) == 2
        require(is_pair, name, "an iterable of batches `(inputs, targets)`", batch, error=TypeError)
        inputs, targets = (jax.tree.map(lambda leaf: _array(leaf, name), part) for part in batch)
        require(len(jax.tree.leaves(targets)) > 0, name, "of batches with targets", targets, error=TypeError)
        yield inputs, targets
    hint = "An iterator ends after one epoch: a function has to make a new one."
    require(batch is not None, name, "of at least one batch in each epoch", "none", hint)


def _array(leaf: Any, name: str) -> Array:
    """A leaf of a batch as an array of JAX. It may be of another library."""
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    is_numeric = array.ndim > 0 and (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool)
    expectation = "of batches of arrays of numbers, with samples along the first axis"
    require(bool(is_numeric), name, expectation, leaf, error=TypeError)
    return jnp.asarray(array)
