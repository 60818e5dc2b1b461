"""Connections: synapses with weights and delays, from a source to a target."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from ._checks import as_array, known, require, require_count, require_finite, require_instance, require_natural
from ._constraints import Checked, require_constraints
from ._types import resolved
from .constraints import finite, not_negative, parameter, positive


# The constraints of all connections, whatever their class.
CONSTRAINTS = {"weight": (finite,), "delay": (finite, not_negative)}


class Synapses(eqx.Module):
    """The synapses of a connection, as a list of slots for each target."""

    weight: PyTree[Float[Array, "slots targets"]]
    source: Int[Array, "slots targets"] | None = None  # the source of each slot; by default slot i has source i
    delay: Float[Array, "slots lanes"] | None = None  # one lane per target, or one lane for all
    exists: Bool[Array, "slots targets"] | None = None  # by default all synapses exist


class AbstractConnection(Checked):
    """Synapses from the neurons of a source to the neurons of a target.

    - `source`: the name of the source layer or input.
    - `target`: the name of the target layer.
    - `weight`: an array, or a parameter such as [`spikax.Signed`][] or [`spikax.Masked`][]; for a synapse with named
      ports, a dictionary of them, all of one shape.
    - `delay`: the delay, in ms: a spike emitted at t arrives at t + delay. A number is constant, an array is trained;
      `sx.Positive` keeps a trained delay positive.
    - `shape`: the numbers of source and target neurons.
    """

    source: eqx.AbstractVar[str]
    target: eqx.AbstractVar[str]
    weight: eqx.AbstractVar[Any]
    delay: eqx.AbstractVar[Any]
    shape: eqx.AbstractVar[tuple[int, int]]

    @abc.abstractmethod
    def synapses(self) -> Synapses:
        """The weight, source and delay of each synapse."""

    def deliveries(self) -> "tuple[AbstractConnection, ...]":
        """The connections that deliver its spikes in a simulation: itself, or several."""
        return (self,)

    @property
    def has_own_arrivals(self) -> bool:
        """Whether the arrivals or their times differ between the neurons of the target."""
        return True

    def _check_weight(self, expectation: str) -> None:
        """Raises unless names and weights are valid. `expectation` names the axes of a weight."""
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
            require(leaf.shape == leaves[0].shape, "weight", f"of the same shape in all ports, {leaves[0].shape}", leaf)

    def _check_delay(self, *shapes: tuple[int, ...]) -> None:
        """Raises unless the delay is None, or non-negative and of shape `()` or one of `shapes`."""
        if self.delay is None:
            return
        delay = resolved(self.delay)
        require_finite(delay, "delay")
        require(np.shape(delay) in ((), *shapes), "delay", f"of one of the shapes {[(), *shapes]}", delay)
        require_constraints(delay, "delay", CONSTRAINTS["delay"])


class Dense(AbstractConnection):
    """All-to-all synapses from the neurons of `source` to the neurons of `target`.

    **Arguments:**

    - `source`: the name of the source layer or input.
    - `target`: the name of the target layer.
    - `weight`: shape `(sources, targets)`; for a synapse with named ports, a dictionary of such arrays.
    - `delay`: the delays, in ms; shape `()`, `(sources,)` or `(sources, targets)`. By default there is no delay. A
      separate delay for each synapse costs more: each target then has its own list of arrivals.

    **Raises:** `TypeError` or `ValueError` for weights or delays that are not finite, negative delays, and wrong
    shapes.
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
    """One-to-one synapses, from neuron i of `source` to neuron i of `target`.

    **Arguments:**

    - `source`, `target`: the names of source and target, which have the same size.
    - `weight`: shape `(neurons,)`; for a synapse with named ports, a dictionary of such arrays.
    - `delay`: the delays, in ms; shape `()` or `(neurons,)`. By default there is no delay.

    **Raises:** `TypeError` or `ValueError`, as [`spikax.Dense`][].
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
    """Sparse synapses, as a list.

    The cost of a simulation grows with the largest number of synapses per target, not with the product of both sizes.

    **Arguments:**

    - `source`, `target`: the names of source and target.
    - `sources`, `targets`: the source and target neuron of each synapse; integers of shape `(synapses,)`.
    - `weight`: shape `(synapses,)`; for a synapse with named ports, a dictionary of such arrays.
    - `shape`: the numbers of source and target neurons.
    - `delay`: the delays, in ms; shape `()` or `(synapses,)`. By default there is no delay.

    The indices are arrays of integers, which `jax.grad` refuses: take gradients with `eqx.filter_grad`.

    **Raises:** `TypeError` or `ValueError` for indices outside of `shape`, and otherwise as [`spikax.Dense`][].
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any
    delay: Any
    shape: tuple[int, int] = eqx.field(static=True)
    sources: Int[Array, " synapses"]
    slots: Int[Array, "slots targets"]  # the index of the synapse; the number of synapses if there is none

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
            hint = "It must not be traced: create the connection outside `jax.jit`."
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
        """Raises unless sources and slots describe `n` synapses. Only those read from a file can be invalid."""
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
    """The indices of the synapses of each target; shape `(slots, n)`. Empty slots hold the number of synapses."""
    order = np.argsort(targets, kind="stable")
    count = np.bincount(targets, minlength=n)
    place = np.arange(len(targets)) - np.repeat(np.cumsum(count) - count, count)
    slots = np.full((max(int(count.max()), 1), n), len(targets))
    slots[place, targets[order]] = order
    return slots


class Conv(AbstractConnection):
    """A two-dimensional convolution: a cross-correlation, as in all deep learning libraries.

    The neurons of source and target are images of shape `(channels, height, width)`, flattened in this order.

    **Arguments:**

    - `source`, `target`: the names of source and target.
    - `weight`: the kernel, of shape `(channels out, channels in / groups, height, width)`; for a synapse with named
      ports, a dictionary of such arrays.
    - `image`: the height and width of the source image.
    - `stride`: the step of the kernel, in neurons; one number, or a pair: of rows and of columns.
    - `padding`: the number of silent neurons that extend each side of the source image; one number, or a pair.
    - `dilation`: the distance of neighbouring entries of the kernel, in neurons; one number, or a pair.
    - `groups`: the number of groups, of equal size, into which the channels of source and target are divided. Each
      group of the target receives from the same group of the source.
    - `delay`: the delay, in ms; shape `()`. By default there is no delay.

    **Raises:** `TypeError` or `ValueError` for a kernel that does not fit into the image, channels that cannot be
    divided into groups, and otherwise as [`spikax.Dense`][].
    """

    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True)
    weight: Any
    image: tuple[int, int] = eqx.field(static=True, kw_only=True)
    stride: int | tuple[int, int] = eqx.field(static=True, default=1, kw_only=True)
    padding: int | tuple[int, int] = eqx.field(static=True, default=0, kw_only=True)
    dilation: int | tuple[int, int] = eqx.field(static=True, default=1, kw_only=True)
    groups: int = eqx.field(static=True, default=1, kw_only=True)
    delay: Any = eqx.field(default=None, kw_only=True)

    def __check_init__(self):
        self._check_weight("(out, in / groups, height, width)")
        self._check_delay()
        is_pair = isinstance(self.image, tuple) and len(self.image) == 2
        require(is_pair, "image", "a pair: height and width", self.image, error=TypeError)
        for size in self.image:
            require_count(size, "image")
        for name in ("stride", "dilation"):
            for number in _pair(getattr(self, name), name):
                require_count(number, name)
        for number in _pair(self.padding, "padding"):
            require_natural(number, "padding")
        require_count(self.groups, "groups")
        out = self._kernel()[0]
        require(out % self.groups == 0, "groups", f"a divisor of the {out} channels of the target", self.groups)
        fits = all(size >= 1 for size in self.image_out)
        require(fits, "weight", f"a kernel that fits into the image {self.image}", self._kernel())

    def _kernel(self) -> tuple[int, int, int, int]:
        return jax.tree.leaves(resolved(self.weight))[0].shape

    @property
    def image_out(self) -> tuple[int, int]:
        """The height and width of the target image."""
        pairs = (_pair(getattr(self, name), name) for name in ("stride", "padding", "dilation"))
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(self.image, self._kernel()[2:], *pairs, strict=True)
        )
        return height, width

    @property
    def shape(self):
        out, channels, *_ = self._kernel()
        sources = channels * self.groups * self.image[0] * self.image[1]
        return sources, out * self.image_out[0] * self.image_out[1]

    def synapses(self):
        source, exists = patches(
            self.image,
            self.image_out,
            self._kernel(),
            stride=_pair(self.stride, "stride"),
            padding=_pair(self.padding, "padding"),
            dilation=_pair(self.dilation, "dilation"),
            groups=self.groups,
        )
        delay = None if self.delay is None else jnp.broadcast_to(jnp.asarray(self.delay), (len(source), 1))
        places = self.image_out[0] * self.image_out[1]

        def shared(kernel):
            flat = kernel.reshape(len(kernel), -1).T[:, :, None]
            return jnp.broadcast_to(flat, (*flat.shape[:2], places)).reshape(flat.shape[0], -1)

        return Synapses(jax.tree.map(shared, self.weight), jnp.asarray(source, jnp.int32), delay, jnp.asarray(exists))


def _pair(value: Any, name: str) -> tuple[int, int]:
    """The value for rows and for columns."""
    if isinstance(value, tuple):
        require(len(value) == 2, name, "one integer, or a pair", value, error=TypeError)
        return value
    return value, value


def patches(
    image: tuple[int, int],
    image_out: tuple[int, int],
    kernel: tuple[int, int, int, int],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The sources of each target of a convolution, and whether they exist: integers and bools `(slots, targets)`.

    `kernel` is the shape of the kernel, each of whose entries for one channel of the target is a slot. `padding` is
    that above and on the left.
    """
    out, *patch = kernel
    channel, *offsets = (axis.reshape(-1, 1, 1) for axis in np.indices(patch))
    row, column = (
        axis * step - before + distance * offset
        for axis, step, before, distance, offset in zip(
            np.ogrid[: image_out[0], : image_out[1]], stride, padding, dilation, offsets, strict=True
        )
    )
    inside = (row >= 0) & (row < image[0]) & (column >= 0) & (column < image[1])
    # The first channel of the source in the group of each channel of the target.
    first = np.arange(out) // (out // groups) * patch[0]
    channels = (first + channel[..., 0])[:, :, None, None]
    source = (channels * image[0] + row[:, None]) * image[1] + column[:, None]
    exists = np.broadcast_to(inside[:, None], source.shape).reshape(len(channel), -1)
    return np.where(exists, source.reshape(len(channel), -1), 0), exists


class _AbstractDerived(AbstractConnection):
    """A connection between the same neurons as another one."""

    connection: eqx.AbstractVar[AbstractConnection]

    @property
    def source(self):
        return self.connection.source

    @property
    def target(self):
        return self.connection.target

    @property
    def shape(self):
        return self.connection.shape

    @property
    def has_own_arrivals(self):
        return self.connection.has_own_arrivals


class Rectangular(_AbstractDerived):
    r"""Synapses through which a spike arrives as a rectangle: it acts for a duration, and is then taken back.

    A spike that another connection delivers at $t$ with the weight $w$ arrives with $w$ at $t$, and with $-w$ at
    $t + T$. For a synapse that keeps its value, [`spikax.HoldSynapse`][] or [`spikax.FilteredHoldSynapse`][], this is a
    rectangle of height $w$ and duration $T$.

    **Arguments:**

    - `connection`: the connection, such as a [`spikax.Dense`][], which holds the weights and the delays.
    - `duration`: the duration $T$, in ms; shape `()`.

    **Raises:** `TypeError` or `ValueError` for another kind of connection, or a duration that is not positive.
    """

    connection: AbstractConnection
    duration: Any = parameter(dataclasses.MISSING, positive)

    def __check_init__(self):
        require_instance(self.connection, AbstractConnection, "connection", "a connection, such as a `sx.Dense`")
        require(np.ndim(resolved(self.duration)) == 0, "duration", "of shape ()", self.duration)

    @property
    def weight(self):
        return self.connection.weight

    @property
    def delay(self):
        return self.connection.delay

    def synapses(self):
        return self.connection.synapses()

    def deliveries(self):
        # Two connections, not one with twice the synapses: spikes without a delay then start without one, too.
        return tuple(part for c in self.connection.deliveries() for part in (c, _Ends(c, self.duration)))


class _Ends(_AbstractDerived):
    """The ends of rectangular spikes: the spikes of a connection, later and with the opposite weight."""

    connection: AbstractConnection
    duration: Any

    @property
    def weight(self):
        return jax.tree.map(lambda w: -w, self.connection.weight)

    @property
    def delay(self):
        duration, delay = self.duration, self.connection.delay
        # Known delays stay known in a compiled function.
        array = np if known(duration) is not None and known(delay) is not None else jnp
        delay = array.asarray(0.0 if delay is None else delay)
        return delay + array.asarray(duration, delay.dtype)

    def synapses(self):
        starts = self.connection.synapses()
        slots = jax.tree.leaves(starts.weight)[0].shape[0]
        start = jnp.zeros((slots, 1), jnp.result_type(self.duration)) if starts.delay is None else starts.delay
        delay = start + jnp.asarray(self.duration, start.dtype)
        return Synapses(jax.tree.map(lambda w: -w, starts.weight), starts.source, delay, starts.exists)
