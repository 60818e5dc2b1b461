"""Recurrent networks in spikax and in Eventax 0.1.0, with and without delays, in one run on one machine.

    python benchmarks/recurrence.py --eventax PATH/TO/PYTHON

where that Python has `pip install eventax==0.1.0`. 100 LIF neurons listen to 20 inputs and to each other, 30 ms.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from against_eventax import machine, run, timed

import spikax as sx


PEER = Path(__file__).parent / "peers" / "eventax_recurrent.py"
T1 = 30.0


def build(saved, dtype) -> sx.Network:
    """The network that the peer saved: its first rows are those of the neurons, the others those of the inputs."""
    weights, bias, delays = (jnp.asarray(saved[name], dtype) for name in ("weights", "bias", "delays"))
    n = weights.shape[1]
    inner, outer = (None, None) if delays.ndim == 0 else (delays[:n], delays[n:])
    layer = sx.Layer(sx.LIF(tau_mem=20.0, bias=bias, synapse=sx.ExpSynapse(5.0)), n)
    connections = [sx.Dense("input", "layer", weights[n:], outer), sx.Dense("layer", "layer", weights[:n], inner)]
    return sx.Network({"layer": layer}, connections, weights.shape[0] - n, "layer")


def simulated(network: sx.Network, inputs: sx.Spikes, **options) -> sx.Solution:
    return sx.simulate(network, inputs, T1, max_spikes=16, throw=False, **options)


def measure(file: str, **options) -> dict[str, float]:
    """Seconds of the first gradient call, of the forward pass, and of a gradient; sweeps, windows, and errors."""
    saved = np.load(file)
    network = build(saved, jnp.float32)
    inputs = sx.Spikes(jnp.asarray(saved["times"], jnp.float32))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        times = sx.first_spike(simulated(network, inputs, **options).spikes["layer"])
        return jnp.mean(jnp.minimum(times, T1))

    first, seconds = timed(gradient, network, inputs)
    forward = eqx.filter_jit(lambda network, inputs: simulated(network, inputs, **options))
    _, forward_seconds = timed(forward, network, inputs)
    solution = forward(network, inputs)
    if not jnp.all(solution.result == sx.RESULTS.successful):
        raise SystemExit("Some sample was not simulated to its end.")
    found = np.minimum(np.asarray(sx.first_spike(solution.spikes["layer"])), T1)
    difference = np.abs(found - np.minimum(saved["first_spikes"], T1))
    stats = solution.stats["layer"]
    return dict(
        first=first,
        forward=forward_seconds,
        gradient=seconds,
        spikes=float(jnp.mean(stats.spikes)) / network.layers["layer"].size,
        windows=stats.windows,
        sweeps=int(stats.sweeps),
        difference=float(np.median(difference)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eventax", metavar="PYTHON", required=True, help="an environment with eventax==0.1.0")
    parser.add_argument(
        "--windows", type=int, nargs="+", default=[None], help="windows to try; by default spikax's own"
    )
    options = parser.parse_args()
    print(f"{machine()}\n")
    print(
        "| delays | gradient: Eventax / spikax | forward | first gradient call | spikes per neuron | windows, sweeps "
        "| median difference (ms) |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for has_delays in (0, 1):
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "network.npz")
            peer = run(options.eventax, str(PEER), str(has_delays), file)
            for windows in options.windows:
                own = measure(file, windows=windows)
                cells = ["1 to 4 ms, each synapse its own" if has_delays else "none"]
                for what in ("gradient", "forward", "first"):
                    cells.append(f"{peer[what]:.3g} s / {own[what]:.3g} s = **{peer[what] / own[what]:.1f}**")
                cells += [f"{own['spikes']:.1f}", f"{own['windows']}, {own['sweeps']}", f"{own['difference']:.0e}"]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", False)
    sys.exit(main())
