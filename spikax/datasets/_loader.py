"""Batches of samples in a reproducible order."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import require, require_count, require_instance, require_natural
from .._spikes import Events, Spikes


RUNGS = 4
# Among the samples of so many batches, those of similar lengths come together. Of the spoken digits, with more batches
# hardly less is padded, and a batch holds nearly as many classes as a random one.
GROUPED = 16


class Loader:
    """Makes batches of samples: shuffled for training, and in order for evaluation.

    The data stay in host memory. Each batch is converted to JAX arrays on request. The order of an epoch is determined
    by `seed` and the number of the epoch, so training can be resumed at any batch without stored state.

    **Main arguments:**

    - `inputs`: a pytree of arrays with samples along the first axis, such as [`spikax.Spikes`][] with times of shape
      `(samples, n, k)`; or a list of one [`spikax.Events`][] per sample, without batch axes.
    - `targets`: a pytree of arrays with samples along the first axis, such as labels.

    **Other arguments:**

    - `batch_size`: the number of samples in a batch.
    - `seed`: the seed of the shuffling, an integer of at least 0.
    - `group_by_length`: whether the shuffled batches hold lists of similar lengths, which need less padding: among the
      samples of every 16 batches, those of similar lengths are put together. The batches are then shuffled.

    Lists of events differ in length. The lists of a batch are padded with `inf` to one of `lengths`: a quarter, a half,
    three quarters or all of the longest list. A function of batches is therefore compiled for at most four shapes, and
    no event is lost.

    **Attributes:** the number of `samples`; `batch_size`; `seed`; `lengths`, ascending, empty if the inputs are arrays.
    `len(loader)` is the number of batches per epoch. If `batch_size` does not divide the number of samples, each epoch
    omits the remainder, a different one in each epoch.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for different numbers of inputs and targets.
    """

    def __init__(self, inputs: Any, targets: PyTree, *, batch_size: int, seed: int = 0, group_by_length: bool = False):
        require_count(batch_size, "batch_size")
        require_natural(seed, "seed")
        is_list = isinstance(inputs, list | tuple) and any(isinstance(item, Events) for item in inputs)
        self._inputs = _lists(inputs) if is_list else _arrays(inputs, "inputs")
        self._targets = _arrays(targets, "targets")
        self.samples, self.batch_size, self.seed = self._inputs.samples, batch_size, seed
        same = self._targets.samples == self.samples
        require(same, "targets", f"for {self.samples} samples, like `inputs`", self._targets.samples)
        self.lengths = self._inputs.lengths
        require_instance(group_by_length, bool, "group_by_length", "True or False")
        hint = "Arrays have one length."
        require(is_list or not group_by_length, "group_by_length", "False for arrays", group_by_length, hint)
        self._grouped = group_by_length
        self._share = 0, 1

    def __len__(self) -> int:
        return self.samples // self.batch_size

    def __repr__(self) -> str:
        index, count = self._share
        share = f", share={index}/{count}" if count > 1 else ""
        grouped = ", group_by_length=True" if self._grouped else ""
        return f"Loader({self.samples} samples, batch_size={self.batch_size}, seed={self.seed}{grouped}{share})"

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Any, PyTree]]:
        """An iterator over the shuffled batches of an epoch, each a pair `(inputs, targets)`.

        **Arguments:**

        - `number`: the number of the epoch, an integer of at least 0.
        - `start`: the number of batches to skip, up to `len(loader)`, for example those before an interruption.

        **Raises:** `TypeError` or `ValueError` for invalid arguments, and for fewer samples than `batch_size`.
        """
        require_natural(number, "number")
        require_natural(start, "start")
        enough = self.batch_size <= self.samples
        require(enough, "batch_size", f"at most {self.samples}, the number of samples", self.batch_size)
        require(start <= len(self), "start", f"at most {len(self)}, the number of batches", start)
        return (self._batch(batch, self.lengths) for batch in self._shuffled(number)[start:])

    def in_order(self) -> Iterator[tuple[Any, PyTree, int]]:
        """An iterator over all samples in their order: batches `(inputs, targets, count)`.

        All batches have the same shape, so a function of them is compiled once. The last batch is padded with the first
        samples of the data set: only its first `count` samples are valid.
        """
        starts = range(0, self.samples, self.batch_size)
        rows = [np.arange(start, start + self.batch_size) % self.samples for start in starts]
        counts = [int(np.sum(self._own(np.arange(start, start + self.batch_size)) < self.samples)) for start in starts]
        one_length = self.lengths[-1:]
        return ((*self._batch(batch, one_length), count) for batch, count in zip(rows, counts, strict=True))

    def share(self, index: int, count: int) -> "Loader":
        """A loader of one of `count` shares of every batch, for one of several processes.

        The share of a batch of n samples has n / count of them, rounded up or down. Together the shares are the batches
        of this loader, in their order. Each process reads its share only, which matters if the arrays are memory maps
        of NumPy. [`spikax.train.fit`][] takes the share of a process by itself.

        **Arguments:**

        - `index`: the number of the share, such as `jax.process_index()`.
        - `count`: the number of shares, at most `batch_size`, such as `jax.process_count()`.

        **Raises:** `TypeError` or `ValueError` for invalid arguments.
        """
        require_natural(index, "index")
        require_count(count, "count")
        require(index < count, "index", f"below `count`, {count}", index)
        require(count <= self.batch_size, "count", f"at most {self.batch_size}, the size of a batch", count)
        share = copy.copy(self)
        share._share = index, count
        return share

    def _shuffled(self, number: int) -> np.ndarray:
        """The samples of each batch of an epoch."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.samples)[: len(self) * self.batch_size]
        if not self._grouped:
            return order.reshape(len(self), self.batch_size)
        parts = np.split(order, range(GROUPED * self.batch_size, order.size, GROUPED * self.batch_size))
        by_length = [part[np.argsort(self._inputs.sizes[part], kind="stable")] for part in parts]
        return rng.permutation(np.concatenate(by_length).reshape(len(self), self.batch_size))

    def _batch(self, rows: np.ndarray, lengths: tuple[int, ...]) -> tuple[Any, PyTree]:
        rows = self._own(rows)
        return self._inputs.take(rows, lengths), self._targets.take(rows, lengths)

    def _own(self, rows: np.ndarray) -> np.ndarray:
        index, count = self._share
        return np.array_split(rows, count)[index]


class _Arrays(NamedTuple):
    """A pytree of arrays with samples along the first axis."""

    tree: PyTree
    samples: int
    lengths: tuple[int, ...] = ()

    @property
    def sizes(self) -> np.ndarray:
        """All samples have the same size."""
        return np.ones(self.samples, int)

    def take(self, rows: np.ndarray, lengths: tuple[int, ...]) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[rows]), self.tree)


class _Lists(NamedTuple):
    """One list of events per sample."""

    times: list[np.ndarray]
    channels: list[np.ndarray]
    n: int
    lengths: tuple[int, ...]
    dtype: Any

    @property
    def samples(self) -> int:
        return len(self.times)

    @property
    def sizes(self) -> np.ndarray:
        """The number of events of each sample."""
        return np.array([times.size for times in self.times])

    def take(self, rows: np.ndarray, lengths: tuple[int, ...]) -> Events:
        """The lists of a batch, padded to the smallest of `lengths` that holds them all."""
        longest = max(self.times[row].size for row in rows)
        length = next(length for length in lengths if length >= longest)
        times = np.full((rows.size, length), np.inf, self.dtype)
        channels = np.zeros((rows.size, length), np.int32)
        for place, row in enumerate(rows):
            size = self.times[row].size
            times[place, :size], channels[place, :size] = self.times[row], self.channels[row]
        return Events(times, channels, self.n)


def _how_to_load(leaf: Any) -> str:
    """What to do with data that are not arrays of numbers."""
    if getattr(getattr(leaf, "dtype", None), "names", None):
        return "Recordings become events by `sx.Events.from_array`."
    return "A list of numbers becomes an array by `np.asarray`."


def _arrays(tree: PyTree, name: str) -> _Arrays:
    for node in jax.tree.leaves(tree, is_leaf=_is_train):
        axes = {Spikes: 3, Events: 2}.get(type(node), 1)
        hint = "The first axis is the sample axis."
        arrays = jax.tree.leaves(node)
        for leaf in arrays:
            is_array = isinstance(leaf, np.ndarray | jax.Array)
            of_numbers = is_array and (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool)
            require(bool(of_numbers), name, "a pytree of arrays of numbers", leaf, _how_to_load(leaf), TypeError)
            require(leaf.ndim >= axes, name, f"arrays of at least {axes} axes", leaf, hint)
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(tree)}
    require(len(sizes) > 0, name, "a pytree of arrays", tree, error=TypeError)
    require(len(sizes) == 1, name, "arrays with the same number of samples", sorted(sizes))
    samples = sizes.pop()
    require(samples > 0, name, "of at least one sample", samples)
    return _Arrays(jax.tree.map(np.asarray, tree), samples)


def _lists(lists: Sequence[Any]) -> _Lists:
    hint = "Pass one list per sample. For several inputs of a network, pass a dictionary of arrays."
    for events in lists:
        require_instance(events, Events, "inputs", "a list of `sx.Events`", hint)
        require(events.times.ndim == 1, "inputs", "a list of `sx.Events` without batch axes", events.times, hint)
    sizes = {events.n for events in lists}
    require(len(sizes) == 1, "inputs", "lists with the same number `n` of channels", sorted(sizes))
    # Remove existing padding: times of `inf`, which come last.
    counts = [int(np.sum(np.asarray(events.times) < np.inf)) for events in lists]
    times = [np.asarray(events.times)[:count] for events, count in zip(lists, counts, strict=True)]
    channels = [np.asarray(events.channels)[:count] for events, count in zip(lists, counts, strict=True)]
    longest = max(1, *counts)
    # Quarters: most batches contain a long list, so finer steps would save little padding and compile more shapes.
    lengths = {-(-longest * rung // RUNGS) for rung in range(1, RUNGS + 1)}
    dtype = np.result_type(*{train.dtype for train in times})
    return _Lists(times, channels, sizes.pop(), tuple(sorted(lengths)), dtype)


def _is_train(node: Any) -> bool:
    return isinstance(node, Spikes | Events)
