"""Batches of samples, in an order that can be had again."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import require, require_count, require_instance, require_natural
from .._spikes import Events, Spikes


RUNGS = 4


class Loader:
    """Batches of samples: shuffled, for training, and in order, for evaluation.

    The data stay in the memory of the host until a batch is asked for; a batch holds JAX arrays. The order of an epoch
    follows from `seed` and the number of the epoch alone, so that a training can be taken up at any batch of any epoch
    without anything stored.

    **Main arguments:**

    - `inputs`: a pytree of arrays with the samples along their first axis, such as [`spikax.Spikes`][] of shape
      `(samples, n, k)`; or a list of [`spikax.Events`][], one without batch axes for each sample.
    - `targets`: a pytree of arrays with the samples along their first axis, such as labels.

    **Other arguments:**

    - `batch_size`: the number of samples in a batch.
    - `seed`: the seed of the order, an integer of at least 0.

    Lists of events differ in their lengths; those of a batch are filled up with `inf` to one of `lengths`: a quarter,
    a half, three quarters or all of the longest list. A function that takes batches is therefore compiled for four
    shapes at most, and no event is cut off.

    **Attributes:** `samples`, their number; `batch_size`; `seed`; `lengths`, ascending, empty where the inputs are
    arrays. `len(loader)` is the number of batches in an epoch: the samples left over, fewer than `batch_size`, sit
    out the epoch, others in each.

    **Raises:** `TypeError` or `ValueError` for data that are no samples, or not equally many.
    """

    def __init__(self, inputs: Any, targets: PyTree, *, batch_size: int, seed: int = 0):
        require_count(batch_size, "batch_size")
        require_natural(seed, "seed")
        is_list = isinstance(inputs, list | tuple) and any(isinstance(item, Events) for item in inputs)
        self._inputs = _lists(inputs) if is_list else _arrays(inputs, "inputs")
        self._targets = _arrays(targets, "targets")
        self.samples, self.batch_size, self.seed = self._inputs.samples, batch_size, seed
        same = self._targets.samples == self.samples
        require(same, "targets", f"for {self.samples} samples, as `inputs`", self._targets.samples)
        self.lengths = self._inputs.lengths

    def __len__(self) -> int:
        return self.samples // self.batch_size

    def __repr__(self) -> str:
        return f"Loader({self.samples} samples, batch_size={self.batch_size}, seed={self.seed})"

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Any, PyTree]]:
        """The batches of an epoch, each a pair of inputs and targets.

        **Arguments:**

        - `number`: the number of the epoch, an integer of at least 0.
        - `start`: how many batches to leave out, up to `len(loader)`: those that were seen before an interruption.

        **Raises:** `TypeError` or `ValueError` for other numbers, and where there are fewer samples than in a batch.
        """
        require_natural(number, "number")
        require_natural(start, "start")
        enough = self.batch_size <= self.samples
        require(enough, "batch_size", f"at most {self.samples}, the number of samples", self.batch_size)
        require(start <= len(self), "start", f"at most {len(self)}, the number of batches", start)
        order = np.random.default_rng([self.seed, number]).permutation(self.samples)
        rows = order[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
        return (self._batch(batch, self.lengths) for batch in rows[start:])

    def in_order(self) -> Iterator[tuple[Any, PyTree, int]]:
        """All samples in their order: batches of inputs, targets, and how many of them count.

        All batches have one shape, so that one compilation serves them. The last one is filled up with the first
        samples: only as many as the third entry says are new, and those come first.
        """
        starts = range(0, self.samples, self.batch_size)
        rows = [np.arange(start, start + self.batch_size) % self.samples for start in starts]
        counts = [min(self.batch_size, self.samples - start) for start in starts]
        one_length = self.lengths[-1:]
        return ((*self._batch(batch, one_length), count) for batch, count in zip(rows, counts, strict=True))

    def _batch(self, rows: np.ndarray, lengths: tuple[int, ...]) -> tuple[Any, PyTree]:
        return self._inputs.take(rows, lengths), self._targets.take(rows, lengths)


class _Arrays(NamedTuple):
    """Samples along the first axis of arrays."""

    tree: PyTree
    samples: int
    lengths: tuple[int, ...] = ()

    def take(self, rows: np.ndarray, lengths: tuple[int, ...]) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[rows]), self.tree)


class _Lists(NamedTuple):
    """A list of events for each sample."""

    times: list[np.ndarray]
    channels: list[np.ndarray]
    n: int
    lengths: tuple[int, ...]
    dtype: Any

    @property
    def samples(self) -> int:
        return len(self.times)

    def take(self, rows: np.ndarray, lengths: tuple[int, ...]) -> Events:
        """The lists of a batch, filled up to the first of the lengths that holds them all."""
        longest = max(self.times[row].size for row in rows)
        length = next(length for length in lengths if length >= longest)
        times = np.full((rows.size, length), np.inf, self.dtype)
        channels = np.zeros((rows.size, length), np.int32)
        for place, row in enumerate(rows):
            size = self.times[row].size
            times[place, :size], channels[place, :size] = self.times[row], self.channels[row]
        return Events(times, channels, self.n)


def _arrays(tree: PyTree, name: str) -> _Arrays:
    for node in jax.tree.leaves(tree, is_leaf=_is_train):
        axes = {Spikes: 3, Events: 2}.get(type(node), 1)
        hint = "The first axis is that of the samples."
        arrays = jax.tree.leaves(node)
        for leaf in arrays:
            is_array = isinstance(leaf, np.ndarray | jax.Array)
            of_numbers = is_array and (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool)
            require(bool(of_numbers), name, "a pytree of arrays of numbers", leaf, hint, TypeError)
            require(leaf.ndim >= axes, name, f"arrays of at least {axes} axes", leaf, hint)
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(tree)}
    require(len(sizes) > 0, name, "a pytree of arrays", tree, error=TypeError)
    require(len(sizes) == 1, name, "arrays of equally many samples", sorted(sizes))
    samples = sizes.pop()
    require(samples > 0, name, "of at least one sample", samples)
    return _Arrays(jax.tree.map(np.asarray, tree), samples)


def _lists(lists: Sequence[Any]) -> _Lists:
    hint = "Every sample has a list of its own; several inputs of a network are a dictionary of arrays."
    for events in lists:
        require_instance(events, Events, "inputs", "a list of `sx.Events` alone", hint)
        require(events.times.ndim == 1, "inputs", "a list of `sx.Events` without batch axes", events.times, hint)
    sizes = {events.n for events in lists}
    require(len(sizes) == 1, "inputs", "lists with the same number `n` of channels", sorted(sizes))
    # What is `inf` already is no event, and comes last.
    counts = [int(np.sum(np.asarray(events.times) < np.inf)) for events in lists]
    times = [np.asarray(events.times)[:count] for events, count in zip(lists, counts, strict=True)]
    channels = [np.asarray(events.channels)[:count] for events, count in zip(lists, counts, strict=True)]
    longest = max(1, *counts)
    # In quarters: finer steps would save little padding, as a batch has a long list as a rule, and compile more.
    lengths = {-(-longest * rung // RUNGS) for rung in range(1, RUNGS + 1)}
    dtype = np.result_type(*{train.dtype for train in times})
    return _Lists(times, channels, sizes.pop(), tuple(sorted(lengths)), dtype)


def _is_train(node: Any) -> bool:
    return isinstance(node, Spikes | Events)
