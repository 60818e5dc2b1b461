"""spikax against jaxsnn 0.3.0 and Spyx 1.0.0: gradients, in one run on one machine.

    python benchmarks/against_others.py --jaxsnn PATH/TO/PYTHON --spyx PATH/TO/PYTHON

each the Python of an environment with that package. Prints the tables of `benchmarks/README.md`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from against_eventax import machine, run, timed

import spikax as sx


PEERS = Path(__file__).parent / "peers"


def network_of(weights: list[np.ndarray], neuron: sx.LIF) -> sx.Network:
    sizes = [weights[0].shape[0], *(weight.shape[1] for weight in weights)]
    layers = {"hidden": sx.Layer(neuron, sizes[1]), "output": sx.Layer(neuron, sizes[2])}
    hidden, output = (jnp.asarray(weight, jnp.float32) for weight in weights)
    connections = [sx.Dense("input", "hidden", hidden), sx.Dense("hidden", "output", output)]
    return sx.Network(layers, connections, sizes[0], "output")


def measure(network: sx.Network, times: np.ndarray, t1: float, hidden_spikes: int) -> tuple[dict, np.ndarray]:
    """Seconds of the first gradient and of those after it, and the first spikes of the outputs."""
    inputs = sx.Spikes(jnp.asarray(times[..., None], jnp.float32))

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def gradient(network, inputs):
        capacity = {"hidden": hidden_spikes, "output": 1}
        solution = sx.simulate(network, inputs, t1, max_spikes=capacity, until=sx.FirstSpikes())
        first = sx.first_spike(solution.spikes["output"])
        return jnp.mean(jnp.minimum(first, t1)), first

    first, seconds = timed(gradient, network, inputs, repeats=21)
    return dict(first=first, gradient=seconds), np.asarray(gradient(network, inputs)[0][1])


def against_jaxsnn(python: str, batch: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "network.npz")
        peer = run(python, str(PEERS / "jaxsnn_gradient.py"), str(batch), file)
        saved = np.load(file)
    # One spike per neuron, as there: after it the membrane is out of reach of the threshold.
    neuron = sx.LIF(tau_mem=10.0, v_reset=-1000.0, synapse=sx.ExpSynapse(5.0))
    # There a weight moves v' by w / tau_mem too, but the current is counted in units of 1 / tau_syn.
    own, first = measure(network_of([saved["weight5"], saved["weight100"]], neuron), saved["times"], 20.0, 1)
    difference = np.abs(np.minimum(first, 20.0) - np.minimum(saved["first_spikes"], 20.0))
    return f"jaxsnn 0.3.0 | 5-100-3, batch {batch} | {_pair(peer, own)} | {np.median(difference):.0e}"


def against_spyx(python: str, batch: int) -> str:
    peer = run(python, str(PEERS / "spyx_gradient.py"), "120", str(batch), "30")
    random = np.random.RandomState(0)
    weights = [random.uniform(0.0, 4.0, (5, 120)), random.uniform(0.0, 1.0, (120, 3))]
    points = random.rand(batch, 2)
    times = np.concatenate([points, 1 - points, np.zeros((batch, 1))], axis=1) * 30.0
    own, _ = measure(network_of(weights, sx.LIF(synapse=sx.ExpSynapse(5.0))), times, 30.0, 8)
    return f"Spyx 1.0.0, 30 steps of 1 ms | 5-120-3, batch {batch} | {_pair(peer, own)} | "


def _pair(peer: dict, own: dict) -> str:
    ratios = []
    for what in ("gradient", "first"):
        ratios.append(f"{peer[what]:.3g} s / {own[what]:.3g} s = **{peer[what] / own[what]:.2f}**")
    return " | ".join(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jaxsnn", metavar="PYTHON", help="the Python of an environment with jaxsnn==0.3.0")
    parser.add_argument("--spyx", metavar="PYTHON", help="the Python of an environment with spyx==1.0.0")
    arguments = parser.parse_args()
    if arguments.jaxsnn is None and arguments.spyx is None:
        parser.error("give --jaxsnn or --spyx, the Python of an environment with that package")
    print(f"{machine()}\n")
    print("| peer | network | gradient: peer / spikax | first call | median difference of first spikes (ms) |")
    print("|---|---|---|---|---|")
    if arguments.jaxsnn:
        print(f"| {against_jaxsnn(arguments.jaxsnn, 64)} |", flush=True)
    if arguments.spyx:
        print(f"| {against_spyx(arguments.spyx, 256)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
