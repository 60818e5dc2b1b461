"""Connections: who reaches whom, with what weight, and after what delay."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from ._checks import as_array, known, require, require_count, require_finite, require_instance
from ._types import resolved
from .constraints import Checked, finite, not_negative, require_constraints


# Of every connection, whatever its class.
CONSTRAINTS = {"weight": (finite,), "delay": (finite, not_negative)}


class Synapses(eqx.Module):
    """The synapses of a connection, in a list of slots for every target."""

    weight: PyTree[Float[Array, "slots targets"]]
    source: Int[Array, "slots targets"] | None = None  # to whom they listen; by default each slot to its own source
    delay: Float[Array, "slots lanes"] | None = None  # of every target, or one for all
    exists: Bool[Array, "slots targets"] | None = None  # by default all do


class AbstractConnection(Checked):
    """Synapses from the neurons of a source to those of a target.

    - `source`: the name of the layer, or of the input, whose spikes travel.
    - `target`: the name of the layer at which they arrive.
    - `weight`: an array, or a parameter such as [`spikax.Signed`][] or [`spikax.Masked`][]; for a synapse with named
      ports, a dictionary of them, of one shape.
    - `delay`: how long a spike travels, in ms: one that is emitted at t arrives at t + delay. A number is a constant,
      an array learns; `sx.Positive` keeps one that learns positive.
    - `shape`: the numbers of sources and of targets.
    """

    source: eqx.AbstractVar[str]
    target: eqx.AbstractVar[str]
    weight: eqx.AbstractVar[Any]
    delay: eqx.AbstractVar[Any]
    shape: eqx.AbstractVar[tuple[int, int]]

    @abc.abstractmethod
    def synapses(self) -> Synapses:
        """Weight, source and delay of every synapse."""

    @property
    def has_own_arrivals(self) -> bool:
        """Whether what arrives, or when, differs between the neurons of the target."""
        return True

    def _check_weight(self, expectation: str) -> None:
        """Raises unless names and weights are what they must be; a weight has the axes that `expectation` names."""
        require_instance(self.source, str, "source", "the name of a layer or of an input")
        require_instance(self.target, str, "target", "the name of a layer")
        leaves = jax.tree.leaves(resolved(self.weight))
        require(len(leaves) > 0, "weight", f"an array of shape {expectation}", self.weight, error=TypeError)
        for leaf in leaves:
            is_float = isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
            hint = "Write `weight.astype(float)`." if hasattr(leaf, "dtype") else "Wrap it in `jnp.asarray`."
            require(is_float, "weight", "a floating-point array", leaf, hint, TypeError)
            require_constraints(leaf, "weight", CONSTRAINTS["weight"])
            require(leaf.ndim == expectation.count(",") + 1, "weight", f"of shape {expectation}", leaf)
            require(leaf.shape == leaves[0].shape, "weight", f"of one shape in all ports, {leaves[0].shape}", leaf)

    def _check_delay(self, *shapes: tuple[int, ...]) -> None:
        """Raises unless the delay is none, or one number, or numbers in one of these shapes, none below zero."""
        if self.delay is None:
            return
        delay = resolved(self.delay)
        require_finite(delay, "delay")
        require(np.shape(delay) in ((), *shapes), "delay", f"of a shape among {[(), *shapes]}", delay)
        require_constraints(delay, "delay", CONSTRAINTS["delay"])


class Dense(AbstractConnection):
    """Every neuron of `source` reaches every neuron of `target`.

    **Arguments:**

    - `source`: the name of the layer, or of the input, whose spikes travel.
    - `target`: the name of the layer at which they arrive.
    - `weight`: shape `(sources, targets)`; for a synapse with named ports, a dictionary of such arrays.
    - `delay`: how long a spike travels, in ms: of shape `()`, `(sources,)` or `(sources, targets)`. By default
      no time at all.

    Delays of every synapse by itself cost as much as a list of arrivals for each target.
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any
    delay: Any = None

    def __check_init__(self):
        self._check_weight("(sources, targets)")
        self._check_delay(self.shape[:1], self.shape)

    @property
    def shape(self):
        return jax.tree.leaves(resolved(self.weight))[0].shape

    @property
    def has_own_arrivals(self):
        return np.ndim(resolved(self.delay)) == 2

    def synapses(self):
        delay = None if self.delay is None else jnp.asarray(self.delay)
        if delay is not None and delay.ndim < 2:
            delay = jnp.broadcast_to(delay, self.shape[:1])[:, None]
        return Synapses(self.weight, delay=delay)


class OneToOne(AbstractConnection):
    """Each neuron of `source` reaches the neuron of `target` with the same number.

    **Arguments:**

    - `source`, `target`: the names of the layers, which are of one size.
    - `weight`: shape `(neurons,)`; for a synapse with named ports, a dictionary of such arrays.
    - `delay`: how long a spike travels, in ms: of shape `()` or `(neurons,)`. By default no time at all.
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any
    delay: Any = None

    def __check_init__(self):
        self._check_weight("(neurons)")
        self._check_delay(self.shape[:1])

    @property
    def shape(self):
        (n,) = jax.tree.leaves(resolved(self.weight))[0].shape
        return n, n

    def synapses(self):
        delay = None if self.delay is None else jnp.broadcast_to(jnp.asarray(self.delay), self.shape[:1])[None]
        source = jnp.arange(self.shape[0], dtype=jnp.int32)[None]
        return Synapses(jax.tree.map(lambda leaf: leaf[None], self.weight), source, delay)


class Sparse(AbstractConnection):
    """A list of synapses, each from one neuron of `source` to one of `target`.

    What a simulation costs follows the largest number of synapses at a target, not the product of both sizes.

    **Arguments:**

    - `source`, `target`: the names of the source and of the target.
    - `sources`, `targets`: integers of shape `(synapses,)`: from which neuron to which each synapse leads.
    - `weight`: shape `(synapses,)`; for a synapse with named ports, a dictionary of such arrays.
    - `delay`: how long a spike travels, in ms: of shape `()` or `(synapses,)`. By default no time at all.
    - `shape`: the numbers of neurons of source and target.

    Raises `TypeError` or `ValueError` for indices outside of the shape, and for arrays of other shapes.
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any
    delay: Any
    shape: tuple[int, int] = eqx.field(static=True)
    sources: Int[Array, " synapses"]
    slots: Int[Array, "slots targets"]  # the number of the synapse; one more than there are where there is none

    def __init__(
        self, source: str, target: str, sources: Any, targets: Any, weight: Any, *, shape: Any, delay: Any = None
    ):
        self.source, self.target, self.weight, self.delay = source, target, weight, delay
        is_pair = isinstance(shape, tuple | list) and len(shape) == 2
        require(is_pair, "shape", "a pair: the numbers of sources and of targets", shape, error=TypeError)
        for size in shape:
            require_count(size, "shape")
        self.shape = (int(shape[0]), int(shape[1]))
        numbers = []
        for name, value, n in (("sources", sources, shape[0]), ("targets", targets, shape[1])):
            index = known(as_array(value, name))
            hint = "Who reaches whom must be known outside of `jax.jit`."
            is_list = index is not None and index.ndim == 1 and np.issubdtype(index.dtype, np.integer)
            require(is_list and index.size > 0, name, "a list of integers", value, hint, TypeError)
            require(bool(np.all((index >= 0) & (index < n))), name, f"from 0 to {n - 1}", value)
            numbers.append(index)
        require(len(numbers[0]) == len(numbers[1]), "targets", f"as many as the sources, {len(numbers[0])}", targets)
        self.sources = jnp.asarray(numbers[0], jnp.int32)
        self.slots = jnp.asarray(_slots(numbers[1], self.shape[1]), jnp.int32)

    def __check_init__(self):
        self._check_weight("(synapses)")
        self._check_delay(self.sources.shape)
        n, leaf = self.sources.shape[0], jax.tree.leaves(resolved(self.weight))[0]
        require(leaf.shape == (n,), "weight", f"of shape ({n},), one for every synapse", leaf)
        self._check_lists(n)

    def _check_lists(self, n: int) -> None:
        """Raises unless sources and slots are those of `n` synapses, as of a file: one made here has no others."""
        sources, slots = (
            known(as_array(part, name)) for part, name in ((self.sources, "sources"), (self.slots, "slots"))
        )
        if sources is None or slots is None:
            return
        is_list = sources.ndim == 1 and np.issubdtype(sources.dtype, np.integer)
        inside = is_list and bool(np.all((sources >= 0) & (sources < self.shape[0])))
        require(inside, "sources", f"a list of integers from 0 to {self.shape[0] - 1}", self.sources)
        is_table = slots.ndim == 2 and slots.shape[1] == self.shape[1] and np.issubdtype(slots.dtype, np.integer)
        each_once = is_table and np.array_equal(np.sort(slots[slots != n]), np.arange(n))
        expectation = f"of shape (slots, {self.shape[1]}), with each synapse once and {n} where there is none"
        require(each_once, "slots", expectation, self.slots)

    def synapses(self):
        exists = self.slots < self.sources.shape[0]
        number = jnp.where(exists, self.slots, 0)

        def listed(leaf):
            return jnp.where(exists, leaf[number], jnp.zeros((), leaf.dtype))

        delay = None if self.delay is None else jnp.broadcast_to(jnp.asarray(self.delay), self.sources.shape)[number]
        return Synapses(jax.tree.map(listed, self.weight), self.sources[number], delay, exists)


def _slots(targets: np.ndarray, n: int) -> np.ndarray:
    """The numbers of the synapses of each target, of shape `(slots, n)`; where there is none, the number of all."""
    order = np.argsort(targets, kind="stable")
    count = np.bincount(targets, minlength=n)
    place = np.arange(len(targets)) - np.repeat(np.cumsum(count) - count, count)
    slots = np.full((max(int(count.max()), 1), n), len(targets))
    slots[place, targets[order]] = order
    return slots


class Conv(AbstractConnection):
    """A convolution over a grid of neurons, in two dimensions.

    The neurons of both layers stand for images of shape `(channels, height, width)`, flattened in this order.

    **Arguments:**

    - `source`, `target`: the names of the source and of the target.
    - `weight`: the kernel, of shape `(channels out, channels in, height, width)`, shared by all places; for a synapse
      with named ports, a dictionary of such arrays.
    - `image`: the height and width of the source's image.
    - `stride`, `padding`: how far the kernel moves on, and by how many silent neurons each side is extended.
    - `delay`: how long a spike travels, in ms: one number, or an array of shape `()`. By default no time at all.
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any
    image: tuple[int, int] = eqx.field(static=True, kw_only=True)
    stride: int = eqx.field(static=True, default=1, kw_only=True)
    padding: int = eqx.field(static=True, default=0, kw_only=True)
    delay: Any = eqx.field(default=None, kw_only=True)

    def __check_init__(self):
        self._check_weight("(out, in, height, width)")
        self._check_delay()
        is_pair = isinstance(self.image, tuple) and len(self.image) == 2
        require(is_pair, "image", "a pair: height and width", self.image, error=TypeError)
        for size in self.image:
            require_count(size, "image")
        require_count(self.stride, "stride")
        is_padding = isinstance(self.padding, int) and self.padding >= 0
        require(is_padding, "padding", "an integer of at least 0", self.padding)
        fits = all(size >= 1 for size in self.image_out)
        require(fits, "weight", f"a kernel that fits into the image {self.image}", self._kernel())

    def _kernel(self) -> tuple[int, int, int, int]:
        return jax.tree.leaves(resolved(self.weight))[0].shape

    @property
    def image_out(self) -> tuple[int, int]:
        """The height and width of the target's image."""
        height, width = (
            (size + 2 * self.padding - kernel) // self.stride + 1
            for size, kernel in zip(self.image, self._kernel()[2:], strict=True)
        )
        return height, width

    @property
    def shape(self):
        out, channels, *_ = self._kernel()
        return channels * self.image[0] * self.image[1], out * self.image_out[0] * self.image_out[1]

    def synapses(self):
        out, *patch = self._kernel()
        height, width = self.image_out
        c, ky, kx = (axis.reshape(-1, 1, 1) for axis in np.indices(patch))
        row = np.arange(height)[:, None] * self.stride - self.padding + ky
        column = np.arange(width) * self.stride - self.padding + kx
        inside = (row >= 0) & (row < self.image[0]) & (column >= 0) & (column < self.image[1])
        source = np.where(inside, (c * self.image[0] + row) * self.image[1] + column, 0)

        def everywhere(x):
            """The same in every channel of the target."""
            return jnp.broadcast_to(jnp.asarray(x)[:, None], (x.shape[0], out, height, width)).reshape(len(x), -1)

        def shared(kernel):
            flat = kernel.reshape(out, -1).T[:, :, None]
            return jnp.broadcast_to(flat, (*flat.shape[:2], height * width)).reshape(flat.shape[0], -1)

        delay = None if self.delay is None else jnp.broadcast_to(jnp.asarray(self.delay), (len(source), 1))
        source, exists = everywhere(source.astype(np.int32)), everywhere(inside)
        return Synapses(jax.tree.map(shared, self.weight), source, delay, exists)
