"""The time of a gradient on a GPU and on the CPU beside it, over the batch: from which size on the GPU is faster.

    python benchmarks/gpu.py

needs a JAX that finds a GPU. Prints the table of `benchmarks/README.md`. The networks are like those of
`against_eventax.py`, with weights drawn from the same ranges but without biases, up to the first spikes of the outputs.
"""

import argparse
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from against_eventax import first_spikes, machine
from scaling import median

import spikax as sx


T1 = 30.0


class Case(NamedTuple):
    """A network, and the batches to try."""

    model: type[sx.AbstractNeuron]
    sizes: tuple[int, int, int]
    largest: float  # weight
    batches: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.model.__name__}-{'-'.join(map(str, self.sizes))}"


SMALL, WIDE = (64, 256, 1024, 4096, 16384), (16, 64, 256, 1024)
CASES = [
    Case(sx.LIF, (5, 120, 3), 4.0, SMALL),
    Case(sx.QIF, (5, 120, 3), 40.0, SMALL),
    Case(sx.LIF, (784, 100, 10), 0.125, WIDE),
    Case(sx.QIF, (784, 100, 10), 1.25, WIDE),
    Case(sx.LIF, (784, 350, 10), 0.125, WIDE),
]


def network_of(case: Case) -> sx.Network:
    sources, hidden, outputs = case.sizes
    layers = [
        sx.Layer(case.model(), hidden, weights=sx.init.uniform(0.0, case.largest)),
        sx.Layer(case.model(), outputs, weights=sx.init.uniform(0.0, case.largest)),
    ]
    return sx.sequential(sources, *layers, key=jax.random.key(0))


def inputs_of(sources: int, batch: int) -> sx.Events:
    """Points of a plane as the times of five channels, or spikes in 160 channels of many."""
    rng = np.random.default_rng(0)
    if sources == 5:
        points = rng.random((batch, 2))
        times = np.concatenate([points, 1 - points, np.zeros((batch, 1))], axis=1) * T1
        channels = np.argsort(times, axis=1)
        times = np.sort(times, axis=1)
    else:
        times = np.sort(rng.random((batch, 160)) * T1 * 2 / 3, axis=1)
        channels = np.argsort(rng.random((batch, sources)), axis=1)[:, :160]
    return sx.Events(jnp.asarray(times, jnp.float32), jnp.asarray(channels, jnp.int32), sources)


def gradient_of(network: sx.Network, inputs: sx.Events) -> Callable[[], Any]:
    """The compiled gradient of the mean first spike."""

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network, inputs):
        times, fine = first_spikes(network, inputs)
        times = eqx.error_if(times, ~fine, "Some sample was not simulated to its end.")
        return jnp.mean(jnp.minimum(times, T1))

    return lambda: gradient(network, inputs)


@contextmanager
def alone() -> Iterator[None]:
    """Processes that measure side by side compile together and take turns here."""
    with open(Path(tempfile.gettempdir()) / "spikax-benchmarks.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def seconds(case: Case, batch: int, device: str) -> float:
    """The median time of a gradient."""
    with jax.default_device(jax.devices(device)[0]):
        # The first call, which compiles, may run beside others.
        gradient = gradient_of(network_of(case), inputs_of(case.sizes[0], batch))
        jax.block_until_ready(jax.tree.leaves(gradient()))
        with alone():
            return median(gradient, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--devices", nargs="+", choices=("gpu", "cpu"), default=("gpu", "cpu"))
    parser.add_argument("--batches", nargs="+", type=int, help="in place of those of each network")
    options = parser.parse_args()
    print(f"{machine()}; {len(os.sched_getaffinity(0))} cores used; {jax.devices()[0].device_kind}\n")
    print("| " + " | ".join(["network", "batch", *(f"{device}, ms" for device in options.devices)]) + " |")
    print("|---" * (2 + len(options.devices)) + "|")
    for case in (case for case in CASES if case.name in options.only):
        for batch in options.batches or case.batches:
            times = [f"{1e3 * seconds(case, batch, device):.1f}" for device in options.devices]
            print("| " + " | ".join([case.name, str(batch), *times]) + " |", flush=True)


if __name__ == "__main__":
    main()
