"""Linear nodes of NIR as lists of synapses, and as connections."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import require
from .._connection import AbstractConnection, Conv, Dense, OneToOne, patches, Sparse
from .._parameters import Fixed
from ._graph import as_shape, require_shape, Step


class SynapseList(NamedTuple):
    """A linear map with delays: entry i adds `weight[i]` times what `source[i]` was, `delay[i]` ago, to `target[i]`."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    delay: np.ndarray
    size: int  # of the target

    def applied(self, constant: np.ndarray) -> np.ndarray:
        """What the map makes of a constant signal."""
        return np.bincount(self.target, self.weight * constant[self.source], self.size)

    def then(self, other: "SynapseList") -> "SynapseList":
        """The map followed by another one. The order is that of the signals between them; zeros are no synapses."""
        order = np.argsort(other.source, kind="stable")
        order = order[other.weight[order] != 0]
        count = np.bincount(other.source[order], minlength=self.size)
        mine = np.argsort(self.target, kind="stable")
        mine = mine[self.weight[mine] != 0]
        repeats = count[self.target[mine]]
        first = np.repeat((np.cumsum(count) - count)[self.target[mine]], repeats)
        number = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        mine, theirs = np.repeat(mine, repeats), order[first + number]
        weight, delay = self.weight[mine] * other.weight[theirs], self.delay[mine] + other.delay[theirs]
        return SynapseList(self.source[mine], other.target[theirs], weight, delay, other.size)


class Convolution(NamedTuple):
    """A convolution or a pooling of images."""

    image: tuple[int, int]
    image_out: tuple[int, int]
    kernel: np.ndarray  # (out, in / groups, height, width)
    stride: tuple[int, int]
    padding: tuple[int, int]  # above and on the left
    dilation: tuple[int, int]
    groups: int
    is_symmetric: bool  # the padding
    bias: np.ndarray
    learns: bool
    shape: tuple[int, ...]  # of what it emits

    def synapses(self) -> SynapseList:
        """The convolution as a list."""
        options = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        source, exists = patches(self.image, self.image_out, self.kernel.shape, **options)
        places = self.image_out[0] * self.image_out[1]
        weight = np.repeat(self.kernel.reshape(len(self.kernel), -1).T, places, axis=1)
        target = np.broadcast_to(np.arange(source.shape[1]), source.shape)
        return _listed(source[exists], target[exists], weight[exists], source.shape[1])


CONVOLUTIONS = ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d")
LINEAR = ("Linear", "Affine", "Scale", "Delay", "Flatten", *CONVOLUTIONS)


def shape_after(name: str, node: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a linear node emits."""
    kind = type(node).__name__
    if kind in CONVOLUTIONS:
        return convolution(name, node, shape).shape
    if kind in ("Linear", "Affine"):
        require_shape(shape, (*node.weight.shape[:-2], node.weight.shape[-1]), name)
        return node.weight.shape[:-1]
    if kind == "Flatten":
        return _flat(name, node, shape)
    require(kind in (*LINEAR, "LI"), name, f"one of the nodes {', '.join(LINEAR)}", kind)
    require_shape(shape, _factor(node).shape, name)
    return shape


def bias_of(name: str, node: Any, shape: tuple[int, ...]) -> np.ndarray | float:
    """The constant that a linear node adds, flat."""
    kind = type(node).__name__
    if kind in CONVOLUTIONS:
        conv = convolution(name, node, shape)
        return np.repeat(conv.bias, conv.image_out[0] * conv.image_out[1])
    if kind != "Affine":
        return 0.0
    out = node.weight.shape[:-1]
    require(np.shape(node.bias) == out, f"{name}.bias", f"of shape {out}", node.bias)
    return np.asarray(node.bias, np.float64).ravel()


def synapses_of(name: str, node: Any, shape: tuple[int, ...]) -> SynapseList:
    """A linear node as a list, for signals of this shape."""
    kind, size = type(node).__name__, int(np.prod(shape))
    if kind in CONVOLUTIONS:
        return convolution(name, node, shape).synapses()
    if kind in ("Linear", "Affine"):
        weight = np.asarray(node.weight, np.float64)
        out, into = weight.shape[-2:]
        block, target, source = np.indices(weight.reshape(-1, out, into).shape).reshape(3, -1)
        return _listed(block * into + source, block * out + target, weight.ravel(), weight[..., 0].size)
    each = np.arange(size)
    if kind == "Delay":
        delay = _factor(node).ravel()
        require(bool(np.all(delay >= 0)), f"{name}.delay", "at least 0", delay)
        return _listed(each, each, np.ones(size), size, delay)
    return _listed(each, each, _factor(node).ravel() if kind in ("Scale", "LI") else np.ones(size), size)


def convolution(name: str, node: Any, shape: tuple[int, ...]) -> Convolution:
    """A convolution or pooling, for images of this shape. A line of Conv1d is an image of one row."""
    kind = type(node).__name__
    axes = 1 if kind == "Conv1d" else 2
    require(len(shape) == axes + 1, name, f"the target of signals with {axes + 1} axes", shape)
    image = (1,) * (2 - axes) + shape[1:]
    if kind in ("Conv1d", "Conv2d"):
        if node.input_shape is not None:
            require_shape(shape[1:], as_shape(node.input_shape), f"{name}.input_shape")
        weight = np.asarray(node.weight, np.float64)
        kernel = weight.reshape(*weight.shape[:2], *_pair(weight.shape[2:], axes, 1))
        groups, dilation = int(node.groups), _pair(node.dilation, axes, 1)
        bias = np.zeros(len(kernel)) if node.bias is None else np.asarray(node.bias, np.float64)
        require(bias.shape == (len(kernel),), f"{name}.bias", f"of shape ({len(kernel)},)", node.bias)
    else:
        size = _pair(node.kernel_size, axes, 1)
        kernel = np.ones((shape[0], 1, *size)) / (size[0] * size[1] if kind == "AvgPool2d" else 1.0)
        groups, dilation, bias = shape[0], (1, 1), np.zeros(shape[0])
    stride, channels = _pair(node.stride, axes, 1), kernel.shape[1] * groups
    require(shape[0] == channels, name, f"the target of {channels} channels", shape[0])
    extent = [d * (k - 1) for d, k in zip(dilation, kernel.shape[2:], strict=True)]
    padding, after = _paddings(name, node, axes, extent, stride)
    sizes = zip(image, padding, after, extent, stride, strict=True)
    height, width = ((n + p + q - e - 1) // s + 1 for n, p, q, e, s in sizes)
    require(min(height, width) >= 1, name, f"a kernel that fits into the image {image}", kernel.shape[2:])
    out = (len(kernel), height, width) if axes == 2 else (len(kernel), width)
    learns, is_symmetric = kind.startswith("Conv"), padding == after
    image_out = (height, width)
    return Convolution(image, image_out, kernel, stride, padding, dilation, groups, is_symmetric, bias, learns, out)


def _paddings(
    name: str, node: Any, axes: int, extent: Sequence[int], stride: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding above and on the left, and that below and on the right."""
    if not isinstance(node.padding, str):
        padding = _pair(node.padding, axes, 0)
        return padding, padding
    require(node.padding in ("same", "valid"), f"{name}.padding", "a number, 'same' or 'valid'", node.padding)
    if node.padding == "valid":
        return (0, 0), (0, 0)
    require(stride == (1, 1), f"{name}.stride", "one with the padding 'same'", stride)
    above, left = (e // 2 for e in extent)
    return (above, left), (extent[0] - above, extent[1] - left)


def connection(
    source: str,
    target: str,
    path: Sequence[Step],
    gain: np.ndarray,
    unit: float | None,
    dtype: Any,
) -> AbstractConnection | None:
    """The connection through linear nodes.

    `gain` multiplies the weights of each target. `unit` is the unit of the delays in ms, None if there are no delays.
    Without a weight other than zero there is no connection.
    """
    convs = [step for step in path if type(step.node).__name__ in CONVOLUTIONS]
    delays = [_factor(step.node).ravel() for step in path if type(step.node).__name__ == "Delay"]
    only_these = all(type(step.node).__name__ in (*CONVOLUTIONS, "Delay", "Flatten") for step in path)
    if len(convs) == 1 and only_these and all(np.all(delay == delay[0]) for delay in delays):
        delay = _delays(np.asarray(sum(float(delay[0]) for delay in delays) * (unit or 1.0)), dtype)
        found = _as_conv(source, target, convolution(*convs[0]), gain, delay, dtype)
        if found is not None:
            return found
    each = np.arange(gain.size)
    lists = [synapses_of(*part) for part in path if type(part.node).__name__ != "Flatten"]
    whole = _listed(each, each, np.ones(gain.size), gain.size) if not lists else lists[0]
    for other in lists[1:]:
        whole = whole.then(other)
    whole = whole._replace(weight=whole.weight * gain[whole.target])
    kinds = {type(node).__name__ for _, node, _ in path}
    sources = int(np.prod(path[0].shape)) if path else gain.size
    is_fixed = not kinds & {"Linear", "Affine", "Scale", "Conv1d", "Conv2d"}
    return _as_connection(source, target, whole, sources, is_fixed, unit, dtype)


def _as_conv(source: str, target: str, conv: Convolution, gain: np.ndarray, delay: Any, dtype: Any) -> Conv | None:
    """A convolution, unless its padding or the gain within a channel is not the same everywhere."""
    by_channel = gain.reshape(len(conv.kernel), -1)
    if not conv.is_symmetric or not np.all(by_channel == by_channel[:, :1]):
        return None
    kernel = jnp.asarray(conv.kernel * by_channel[:, :1, None, None], dtype)
    options = {name: getattr(conv, name) for name in ("image", "stride", "padding", "dilation", "groups")}
    return Conv(source, target, kernel if conv.learns else Fixed(kernel), delay=delay, **options)


def _as_connection(
    source: str, target: str, whole: SynapseList, sources: int, is_fixed: bool, unit: float | None, dtype: Any
) -> AbstractConnection | None:
    """A list as a connection: one to one, dense, or sparse if most weights are zero."""
    exists = whole.weight != 0
    if not np.any(exists):
        return None

    def stored(value: np.ndarray) -> Any:
        array = jnp.asarray(value, dtype)
        return Fixed(array) if is_fixed else array

    size, place = whole.size, whole.source * whole.size + whole.target
    delay = whole.delay if unit is None else whole.delay * unit
    if sources == size and np.array_equal(whole.source, np.arange(size)) and np.array_equal(whole.target, whole.source):
        return OneToOne(source, target, stored(whole.weight), _delays(delay, dtype))
    order = np.argsort(place, kind="stable")
    if np.array_equal(place[order], np.arange(sources * size)) and 2 * np.sum(exists) >= exists.size:
        weight, delay = (part[order].reshape(sources, size) for part in (whole.weight, delay))
        delay = delay[:, 0] if np.all(delay == delay[:, :1]) else delay
        return Dense(source, target, stored(weight), _delays(delay, dtype))
    chosen = [part[exists] for part in (whole.source, whole.target, whole.weight, delay)]
    shape = (sources, size)
    return Sparse(source, target, *chosen[:2], stored(chosen[2]), shape=shape, delay=_delays(chosen[3], dtype))


def _delays(delay: np.ndarray, dtype: Any) -> Any:
    """Delays in ms, constant: None if there are none, and one number if all are equal."""
    if not np.any(delay):
        return None
    return constant(delay, dtype)


def constant(value: np.ndarray, dtype: Any) -> Any:
    """A constant parameter: one number if all are equal, else one for each neuron or synapse."""
    return float(value.flat[0]) if np.all(value == value.flat[0]) else Fixed(jnp.asarray(value, dtype))


def _listed(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, size: int, delay: np.ndarray | None = None
) -> SynapseList:
    return SynapseList(source, target, weight, np.zeros(weight.size) if delay is None else delay, size)


def _factor(node: Any) -> np.ndarray:
    """The scales or delays of a node; of a LI, whose filter is a part of its target, the resistances."""
    names = {"Scale": "scale", "Delay": "delay", "LI": "r"}
    return np.asarray(getattr(node, names[type(node).__name__]), np.float64)


def _flat(name: str, node: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a Flatten. The order of the numbers stays as it is."""
    given = node.input_type["input"]
    if given is not None:
        require_shape(shape, as_shape(given), name)
    axes = len(shape)
    first, last = (int(axis) + axes * (axis < 0) for axis in (node.start_dim, node.end_dim))
    if axes <= 1:
        return shape
    require(0 <= first <= last < axes, name, f"a Flatten of axes among {axes}", (node.start_dim, node.end_dim))
    return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


def _pair(value: Any, axes: int, single: int) -> tuple[int, int]:
    """The value for rows and for columns; `single` for the one row of a line."""
    numbers = [int(number) for number in np.ravel(value)]
    return (single, numbers[0]) if axes == 1 else (numbers[0], numbers[-1])
