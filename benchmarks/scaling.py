"""How the time of a gradient grows with the batch, the hidden layer, and the input spikes.

    python benchmarks/scaling.py

Writes `benchmarks/scaling.png`, and prints tables. The network is 5-HIDDEN-3 LIF, float32; and a layer of 100 QIF
neurons, which the event loop simulates, over its arrivals.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from against_eventax import machine

import spikax as sx


T1 = 30.0
BASE = {"batch": 64, "hidden": 60, "input spikes": 10}
SWEEPS = {
    "batch": [32, 64, 128, 256, 512],
    "hidden": [30, 60, 120, 240, 480],
    "input spikes": [5, 10, 20, 40, 80],
}
QIF_ARRIVALS = [50, 100, 200, 500]


def seconds(batch: int, hidden: int, spikes: int, repeats: int = 9) -> float:
    """The median time of a gradient, compiled."""
    rng = np.random.default_rng(0)
    # The weights shrink with the number of spikes, so that the neurons spike about as often at any size.
    network = sx.sequential(
        5,
        sx.Layer(sx.LIF(), hidden, weights=sx.init.uniform(0.0, 20.0 / spikes)),
        sx.Layer(sx.LIF(), 3, weights=sx.init.uniform(0.0, 30.0 / hidden)),
        key=jax.random.key(0),
    )
    inputs = sx.Spikes(np.sort(rng.uniform(0.0, T1, (batch, 5, spikes // 5)), axis=-1).astype(np.float32))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        spikes = network(inputs, T1, max_spikes={"hidden": 8, "output": 16})
        return jnp.mean(jnp.minimum(sx.first_spike(spikes), T1))

    return median(lambda: gradient(network), repeats)


def median(function: Callable[[], Any], repeats: int) -> float:
    """The median time of a call, after a first one."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(function()))
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def qif_seconds(arrivals: int, repeats: int = 9) -> float:
    """The median time of a gradient of 100 QIF neurons, batch 64, to which 50 sources send so many spikes."""
    rng = np.random.default_rng(0)
    layer = sx.Layer(sx.QIF(), 100, weights=sx.init.uniform(0.0, 600.0 / arrivals))
    network = sx.sequential(50, layer, key=jax.random.key(0))
    inputs = sx.Spikes(np.sort(rng.uniform(0.0, T1, (64, 50, arrivals // 50)), axis=-1).astype(np.float32))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return jnp.mean(jnp.minimum(sx.first_spike(network(inputs, T1)), T1))

    return median(lambda: gradient(network), repeats)


def main() -> None:
    print(f"{machine()}\n")
    tables = {name: [seconds(*(BASE | {name: size}).values()) for size in sizes] for name, sizes in SWEEPS.items()}
    results = dict(tables)
    tables["arrivals at QIF"] = [qif_seconds(arrivals) for arrivals in QIF_ARRIVALS]
    for name, values in tables.items():
        sizes = SWEEPS.get(name, QIF_ARRIVALS)
        ratios = [b / a for a, b in itertools.pairwise(values)]
        print(f"| {name} | " + " | ".join(str(size) for size in sizes) + " |")
        print("|---" * (len(sizes) + 1) + "|")
        print("| ms | " + " | ".join(f"{1e3 * value:.1f}" for value in values) + " |")
        print("| times the one before | | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |\n", flush=True)
    draw(results)


def draw(results: dict[str, list[float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    for ax, (name, values) in zip(figure.subplots(1, 3, sharey=True), results.items(), strict=True):
        sizes = SWEEPS[name]
        ax.loglog(sizes, [1e3 * value for value in values], "o-", color="#3b6fb6", label="gradient")
        linear = [1e3 * values[-1] * size / sizes[-1] for size in sizes]
        ax.loglog(sizes, linear, "--", color="#9aa5b1", linewidth=1, label="proportional")
        ax.set_xlabel(name)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    first = figure.axes[0]
    first.set_ylabel("time of a gradient (ms)")
    first.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    first.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("scaling.png"), dpi=150)


if __name__ == "__main__":
    main()
