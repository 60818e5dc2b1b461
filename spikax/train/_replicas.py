"""Data parallelism: each device has a replica of the network and a share of every batch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .._checks import require, require_count, require_instance
from .._simulate.devices import AXIS


Devices = int | Sequence[jax.Device] | None
"""The devices that share each batch: their number, or a list; None for no division of the batches."""

WHOLE, DIVIDED = PartitionSpec(), PartitionSpec(AXIS)


class Replicas(NamedTuple):
    """The devices with a replica of the network.

    - `own`: those of this process. None if batches are not divided: all is computed where the arrays lie.
    - `every`: those of all processes.
    """

    own: Mesh | None
    every: Mesh | None

    @classmethod
    def on(cls, devices: Devices) -> "Replicas":
        """The replicas on the given devices. Raises `TypeError` or `ValueError` for other arguments than `Devices`."""
        if devices is None:
            return cls(None, None)
        chosen = _chosen(devices)
        processes = {device.process_index for device in chosen}
        hint = "Every process takes part. For example `devices=jax.devices()`."
        is_all = len(processes) == jax.process_count()
        require(is_all, "devices", f"of each of the {jax.process_count()} processes", devices, hint)
        own = [device for device in chosen if device.process_index == jax.process_index()]
        return cls(_mesh(own), _mesh(sorted(chosen, key=lambda device: device.process_index)))

    @property
    def processes(self) -> int:
        """The number of processes that share each batch."""
        return 1 if self.every is None else jax.process_count()

    def over(self, function: Callable, *specs: PartitionSpec) -> Callable:
        """`function`, called on each device of this process with its share; its results are stacked.

        `specs` say for each argument whether it is divided. `function` must give all its results a first axis.
        """
        if self.own is None:
            return function
        return jax.shard_map(function, mesh=self.own, in_specs=specs, out_specs=DIVIDED, check_vma=False)

    def placed(self, network: PyTree) -> PyTree:
        """The network with its arrays on all devices of this process."""
        return network if self.own is None else _moved(network, NamedSharding(self.own, WHOLE))

    def on_one(self, tree: PyTree) -> PyTree:
        """The tree with its arrays on the first device of this process: steps of an optimiser are taken there."""
        return tree if self.own is None else _moved(tree, self.own.devices.flat[0])

    def divided(self, batch: Sequence[PyTree]) -> tuple[PyTree, Any]:
        """The batch of this process, in equal shares on its devices, and which samples of it are real.

        If the number of samples is not divisible by that of the devices, it is filled up with copies of the last one.
        A copy computes nothing that the sample itself does not, so it cannot fail, nor become NaN, by itself.
        """
        samples = samples_of(batch)
        if self.own is None:
            return batch, np.full(samples, True)
        size = -(-samples // self.own.size) * self.own.size
        if size != samples:
            rows = np.minimum(np.arange(size), samples - 1)
            batch = jax.tree.map(lambda leaf: leaf[rows], batch)
        return jax.device_put((batch, np.arange(size) < samples), NamedSharding(self.own, DIVIDED))

    def summed(self, parts: PyTree) -> PyTree:
        """The sum of the entries that all devices have in `joined` arrays: the only communication between devices."""
        if self.every is None:
            return jax.tree.map(lambda leaf: leaf[0], parts)

        def total(parts):
            return jax.tree.map(lambda leaf: lax.psum(leaf[0], AXIS), parts)

        return jax.shard_map(total, mesh=self.every, in_specs=DIVIDED, out_specs=WHOLE, check_vma=False)(parts)

    def here(self, tree: PyTree) -> PyTree:
        """Arrays that all devices have, on the first of this process."""
        return tree if self.every is None else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def joined(self, parts: PyTree) -> PyTree:
        """Arrays with one entry for each device of this process, as arrays with one for each of all devices."""
        if self.own == self.every:
            return parts
        sharding = NamedSharding(self.every, DIVIDED)

        def one(leaf):
            shards = [shard.data for shard in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays((self.every.size, *leaf.shape[1:]), sharding, shards)

        return jax.tree.map(one, parts)

    def gathered(self, value: np.ndarray) -> np.ndarray:
        """The values of all processes, along a new first axis. All processes must call this."""
        if self.processes == 1:
            return value[None]
        # As bytes: JAX would round float64 where x64 is disabled.
        bytes_of = multihost_utils.process_allgather(np.frombuffer(value.tobytes(), np.uint8))
        return np.frombuffer(np.asarray(bytes_of).tobytes(), value.dtype).reshape(self.processes, *value.shape)

    def wait(self) -> None:
        """Waits for all processes."""
        self.gathered(np.zeros(1))

    def texts(self, text: str) -> list[str]:
        """The texts of all processes. All processes must call this."""
        content = np.frombuffer(text.encode(), np.uint8)
        sizes = self.gathered(np.asarray(content.size))
        padded = np.zeros(sizes.max(), np.uint8)
        padded[: content.size] = content
        return [row[:size].tobytes().decode() for row, size in zip(self.gathered(padded), sizes, strict=True)]


def _moved(tree: PyTree, place: Any) -> PyTree:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, place), rest)


def _mesh(devices: list[Any]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _chosen(devices: Any) -> list[Any]:
    """The devices that the argument `devices` selects."""
    if isinstance(devices, list | tuple):
        for device in devices:
            require_instance(device, jax.Device, "devices", "a number, or a list of devices", "See `jax.devices()`.")
        is_set = 0 < len(set(devices)) == len(devices)
        require(is_set, "devices", "at least one device, and each once", devices)
        return list(devices)
    hint = "Or pass a list, for example `devices=jax.devices()`."
    require_count(devices, "devices", hint)
    available = len(jax.devices())
    hint = 'A CPU is divided by `jax.config.update("jax_num_cpu_devices", n)`, before JAX starts.'
    require(devices <= available, "devices", f"at most {available}, the number of `jax.devices()`", devices, hint)
    return jax.devices()[:devices]


def samples_of(batch: Sequence[PyTree]) -> int:
    """The number of samples in a batch `(inputs, targets)`."""
    return jax.tree.leaves(batch[1])[0].shape[0]


class SampleError(eqx.EquinoxRuntimeError):
    """The simulation of a sample failed. Its number in the batch is known."""

    def __init__(self, sample: int, message: str):
        super().__init__(message)
        self.sample = sample


def in_all_processes(run: Callable[[Any], PyTree], batch: Sequence[PyTree], replicas: Replicas) -> PyTree:
    """`run(batch)`, if it fails in no process. Otherwise all processes raise, with the first sample that fails."""
    result = cause = None
    try:
        result = run(batch)
    except eqx.EquinoxRuntimeError as error:
        cause = error
    failed, samples = replicas.gathered(np.asarray([cause is not None, samples_of(batch)])).T
    if not np.any(failed):
        return result
    before = sum(samples[: jax.process_index()])
    texts = replicas.texts("" if cause is None else _description(cause, run, batch, before))
    raise eqx.EquinoxRuntimeError(next(filter(None, texts))) from cause


def _description(error: Exception, run: Callable[[Any], PyTree], batch: Sequence[PyTree], before: int) -> str:
    """What failed, and with which sample. `before` is the number of samples in earlier processes."""
    # Equinox puts the message between a stack and advice.
    message = str(error).rpartition("equinox.EquinoxRuntimeError: ")[2].partition("\n\n---")[0]
    failing = error.sample if isinstance(error, SampleError) else _first_failing(run, batch)
    return message if failing is None else f"Sample {before + failing} of the batch failed. {message}"


def _first_failing(run: Callable[[Any], PyTree], batch: Sequence[PyTree]) -> int | None:
    """The first sample of a batch with which `run` fails, by bisection. None if it fails with no single one.

    `run` gets batches of the same shape as `batch`, of copies of some of its samples, so that it compiles nothing new.
    """

    def fails(rows):
        try:
            run(jax.tree.map(lambda leaf: leaf[np.resize(rows, samples_of(batch))], batch))
        except eqx.EquinoxRuntimeError:
            return True
        return False

    rows = np.arange(samples_of(batch))
    while rows.size > 1:
        first, second = np.array_split(rows, 2)
        rows = first if fails(first) else second
    return int(rows[0]) if fails(rows) else None
