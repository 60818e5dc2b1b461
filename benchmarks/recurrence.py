"""The time of a recurrent network, over the number of windows into which its simulation is cut.

    python benchmarks/recurrence.py [--windows 3 6 12] [--delays]

100 LIF neurons listen to 20 inputs and to each other, batch 64, 30 ms, float32; with `--delays`, every synapse has its
own, of 1 to 4 ms.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from against_eventax import machine, timed

import spikax as sx


SOURCES, NEURONS, BATCH, T1 = 20, 100, 64, 30.0


def build(has_delays: bool) -> tuple[sx.Network, sx.Spikes]:
    """The network, and its inputs."""
    rng = np.random.default_rng(0)

    def array(values):
        return jnp.asarray(values, jnp.float32)

    inner, outer = rng.normal(0.0, 0.1, (NEURONS, NEURONS)), rng.normal(0.8, 0.4, (SOURCES, NEURONS))
    delays = [array(rng.uniform(1.0, 4.0, w.shape)) if has_delays else None for w in (inner, outer)]
    neuron = sx.LIF(bias=array(rng.uniform(0.0, 0.1, NEURONS)))
    connections = [
        sx.Dense("layer", "layer", array(inner), delays[0]),
        sx.Dense("input", "layer", array(outer), delays[1]),
    ]
    network = sx.Network({"layer": sx.Layer(neuron, NEURONS)}, connections, SOURCES, "layer")
    return network, sx.Spikes(array(rng.uniform(0.0, 20.0, (BATCH, SOURCES, 1))))


def measure(network: sx.Network, inputs: sx.Spikes, windows: int) -> list[str]:
    """A row of the table."""

    def simulated(network, inputs):
        return sx.simulate(network, inputs, T1, max_spikes=16, windows=windows, throw=False)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        return jnp.mean(jnp.minimum(sx.first_spike(simulated(network, inputs).spikes["layer"]), T1))

    first, seconds = timed(gradient, network, inputs, repeats=5)
    forward = eqx.filter_jit(simulated)
    _, forward_seconds = timed(forward, network, inputs, repeats=5)
    solution = forward(network, inputs)
    if not jnp.all(solution.result == sx.RESULTS.successful):
        raise SystemExit("Some sample was not simulated to its end.")
    stats = solution.stats["layer"]
    spikes = float(jnp.mean(stats.spikes)) / NEURONS
    return [
        str(windows),
        str(int(stats.sweeps)),
        *(f"{s:.3g} s" for s in (first, forward_seconds, seconds)),
        f"{spikes:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, nargs="+", default=(3, 6, 12), help="default: 3 6 12")
    parser.add_argument("--delays", action="store_true", help="every synapse has a delay of its own")
    options = parser.parse_args()
    print(f"{machine()}\n\n| windows | sweeps | first gradient call | forward | gradient | spikes per neuron |")
    print("|---|---|---|---|---|---|", flush=True)
    for windows in options.windows:
        print("| " + " | ".join(measure(*build(options.delays), windows)) + " |", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", False)
    main()
