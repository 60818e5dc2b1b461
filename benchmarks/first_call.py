"""What the first call of a gradient costs: seconds of tracing, lowering and compilation, and the size of the program.

    python benchmarks/first_call.py [NETWORK ...]

Prints a table, by default of all networks. Each row is measured in a process of its own, with XLA's default settings
and without its newer code generator for fusions, which compiles faster, but to slower code. Weights are random; the
loss is the mean first spike of the outputs, in float32. "Processor" counts the seconds of all threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from against_eventax import machine
from tables import row, title

import spikax as sx


T1, BATCH = 30.0, 32
NETWORKS = {
    "LIF 5-120-3": (sx.LIF, (5, 120, 3)),
    "QIF 5-120-3": (sx.QIF, (5, 120, 3)),
    "LIF 784-100-10": (sx.LIF, (784, 100, 10)),
}
SETTINGS = {"default": "", "no fusion emitters": "--xla_cpu_use_fusion_emitters=false"}


def build(name: str) -> tuple[sx.Network, sx.Spikes | sx.Events]:
    neuron, (channels, hidden, outputs) = NETWORKS[name]
    mean, std = (1.5, 0.8) if channels == 5 else (0.1, 0.1)
    layers = (
        sx.Layer(neuron(bias=jnp.zeros(hidden)), hidden, weights=sx.init.normal(mean, std)),
        sx.Layer(neuron(bias=jnp.zeros(outputs)), outputs, weights=sx.init.normal(0.3, 0.2)),
    )
    rng = np.random.default_rng(0)
    if channels == 5:
        inputs = sx.Spikes(jnp.asarray(rng.uniform(0.0, 20.0, (BATCH, channels, 1)), jnp.float32))
    else:
        # An image: one spike each of 150 pixels.
        lit = np.stack([rng.choice(channels, 150, replace=False) for _ in range(BATCH)])
        times = np.sort(rng.uniform(0.0, 20.0, lit.shape), axis=1)
        inputs = sx.Events(jnp.asarray(times, jnp.float32), jnp.asarray(lit, jnp.int32), channels)
    return sx.sequential(channels, *layers, key=jax.random.key(1)), inputs


def loss(network: sx.Network, inputs: sx.Spikes | sx.Events) -> jax.Array:
    capacity = {"hidden": 8, "output": 1}
    solution = sx.simulate(network, inputs, T1, max_spikes=capacity, until=sx.FirstSpikes(), throw=False)
    return jnp.mean(jnp.minimum(sx.first_spike(solution.spikes["output"]), T1))


def equations(jaxpr: jax.extend.core.Jaxpr) -> int:
    """The number of equations, with those of the functions that are called."""
    inner = [
        getattr(leaf, "jaxpr", leaf)
        for equation in jaxpr.eqns
        for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr"))
    ]
    return len(jaxpr.eqns) + sum(equations(part) for part in inner if hasattr(part, "eqns"))


def measure(name: str) -> dict[str, float]:
    """The seconds of each stage of the first call, and of later calls."""
    network, inputs = build(name)
    floats, rest = eqx.partition(network, eqx.is_inexact_array)
    gradient = jax.jit(lambda floats, inputs: jax.grad(lambda f: loss(eqx.combine(f, rest), inputs))(floats))
    clock = [time.perf_counter()]
    traced = gradient.trace(floats, inputs)
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    before = time.process_time()
    compiled = lowered.compile()
    processor = time.process_time() - before
    clock.append(time.perf_counter())
    later = []
    for _ in range(21):
        start = time.perf_counter()
        jax.block_until_ready(compiled(floats, inputs))
        later.append(time.perf_counter() - start)
    stages = dict(zip(("trace", "lower", "compile"), np.diff(clock).tolist(), strict=True))
    size = equations(traced.jaxpr.jaxpr)
    return stages | {"processor": processor, "equations": size, "later": statistics.median(later[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"among {list(NETWORKS)}; by default all")
    parser.add_argument("--measure", metavar="NETWORK", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    print(machine())
    title(["network", "XLA", "trace, lower, compile", "processor", "equations", "later calls"])
    for name in options.networks or NETWORKS:
        for setting, flags in SETTINGS.items():
            command = [sys.executable, __file__, "--measure", name]
            done = subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True, capture_output=True)
            found = json.loads(done.stdout)
            stages = ", ".join(f"{found[stage]:.1f} s" for stage in ("trace", "lower", "compile"))
            size, later = f"{found['equations']:.0f}", f"{1e3 * found['later']:.1f} ms"
            row([name, setting, stages, f"{found['processor']:.1f} s", size, later])


if __name__ == "__main__":
    main()
