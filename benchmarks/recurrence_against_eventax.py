"""A recurrent network: 100 LIF neurons that receive from 20 inputs and from each other, float32, batch 64.

    python benchmarks/recurrence_against_eventax.py [--eventax PATH/TO/PYTHON]

Prints the tables of `benchmarks/README.md`. The loss is the mean of the first spikes of all neurons; the simulation
ends with the last of them, in spikax and in Eventax. With delays every synapse has its own, of 1 to 4 ms; against
Eventax the batch is then 16, as it takes minutes. Another row is the network of Eventax's own example of regression: 20
QIF neurons, one output, and the loss is the mean of its first spikes.
"""

import argparse
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from against_eventax import machine, run, timed

import spikax as sx


PEERS = Path(__file__).parent / "peers"
SOURCES, NEURONS, BATCH, T1 = 20, 100, 64, 30.0


def drawn(has_delays: bool, neurons: int = NEURONS, batch: int = BATCH) -> dict[str, np.ndarray]:
    """Weights, delays, biases and input spikes."""
    rng = np.random.default_rng(0)
    scale = (NEURONS / neurons) ** 0.5
    given = {
        "inner": rng.normal(0.0, 0.1 * scale, (neurons, neurons)),
        "outer": rng.normal(0.8, 0.4, (SOURCES, neurons)),
        "bias": rng.uniform(0.0, 0.1, neurons),
        "times": rng.uniform(0.0, 20.0, (batch, SOURCES)),
    }
    if has_delays:
        given |= {f"{name}_delays": rng.uniform(1.0, 4.0, given[name].shape) for name in ("inner", "outer")}
    return given


def build(given: dict[str, np.ndarray]) -> tuple[sx.Network, sx.Spikes]:
    """The network, and its inputs."""
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in given.items()}
    neuron = sx.LIF(tau_mem=20.0, bias=arrays["bias"], synapse=sx.ExpSynapse(5.0))
    connections = [
        sx.Dense("layer", "layer", arrays["inner"], arrays.get("inner_delays")),
        sx.Dense("input", "layer", arrays["outer"], arrays.get("outer_delays")),
    ]
    network = sx.Network({"layer": sx.Layer(neuron, arrays["bias"].shape[0])}, connections, SOURCES, "layer")
    return network, sx.Spikes(arrays["times"][..., None])


def measure(network: sx.Network, inputs: sx.Spikes, t1: float = T1, **options) -> tuple[dict, sx.Solution]:
    """Seconds of the first gradient call, of a gradient, and of the forward pass; and what the latter gives."""
    (name,) = network.output_names

    def simulated(network, inputs):
        return sx.simulate(network, inputs, t1, max_spikes=16, throw=False, **options)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        return jnp.mean(jnp.minimum(sx.first_spike(simulated(network, inputs).spikes[name]), t1))

    first, seconds = timed(gradient, network, inputs)
    forward = eqx.filter_jit(simulated)
    _, forward_seconds = timed(forward, network, inputs)
    solution = forward(network, inputs)
    if not jnp.all(solution.result == sx.RESULTS.successful):
        raise SystemExit("Some sample was not simulated to its end.")
    return dict(first=first, gradient=seconds, forward=forward_seconds), solution


def against_eventax(python: str, has_delays: bool) -> str:
    """A row of the table."""
    given = drawn(has_delays, batch=16 if has_delays else BATCH)
    # An event of Eventax is a spike, or, with delays, the arrival of a spike at a neuron.
    events = {"events": 20_000 if has_delays else 400, "pending": 8_000}
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "network.npz")
        np.savez(file, **given, **events)
        peer = run(python, str(PEERS / "eventax_recurrent.py"), file)
        first_spikes = np.load(file + ".peer.npy")
    name = "100 LIF, delays of 1 to 4 ms, batch 16" if has_delays else "100 LIF, no delays, batch 64"
    return compared(name, peer, first_spikes, *build(given), T1)


def regression(python: str) -> str:
    """The row of Eventax's own example, on its network, which it saves."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "network.npz")
        peer = run(python, str(PEERS / "eventax_regression.py"), file)
        saved = np.load(file)
        weights, bias, times = (jnp.asarray(saved[name], jnp.float32) for name in ("weights", "bias", "times"))
        first_spikes = saved["first_spikes"]
    neurons = len(bias) - 1
    own = [sx.QIF(tau_mem=20.0, bias=part, synapse=sx.ExpSynapse(5.0)) for part in (bias[:neurons], bias[neurons:])]
    layers = {"hidden": sx.Layer(own[0], neurons), "output": sx.Layer(own[1], 1)}
    connections = [
        sx.Dense("input", "hidden", weights[neurons + 1 :, :neurons]),
        sx.Dense("hidden", "hidden", weights[:neurons, :neurons]),
        sx.Dense("hidden", "output", weights[:neurons, neurons:]),
    ]
    network = sx.Network(layers, connections, 1, "output")
    return compared("20 QIF and an output, batch 64", peer, first_spikes, network, sx.Spikes(times), 80.0)


def compared(name: str, peer: dict, expected: np.ndarray, network: sx.Network, inputs: sx.Spikes, t1: float) -> str:
    """A row: times of both libraries, and by how much the first spikes differ."""
    own, solution = measure(network, inputs, t1, until=sx.FirstSpikes())
    times = np.asarray(sx.first_spike(solution.spikes[network.output_names[0]]))
    difference = np.abs(np.minimum(times, t1) - np.minimum(expected, t1))
    row = [name]
    for what in ("gradient", "forward", "first"):
        row.append(f"{peer[what]:.3g} s / {own[what]:.3g} s = **{peer[what] / own[what]:.1f}**")
    return "| " + " | ".join([*row, f"{np.max(difference):.0e}, {np.median(difference):.0e}"]) + " |"


def against_size() -> None:
    """Prints the times of a simulation to `T1`, for several sizes of the network and several methods."""
    print("| neurons | delays | method | first gradient call | forward | gradient | spikes per neuron |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for neurons, has_delays, options in (
        (100, False, {}),
        (100, False, {"method": sx.Windows(6)}),
        (100, True, {}),
        (1000, False, {}),
    ):
        seconds, solution = measure(*build(drawn(has_delays, neurons)), **options)
        stats = solution.stats["layer"]
        is_queue = stats.method == "EventQueue"
        method = "event queue" if is_queue else f"{stats.windows} windows, {int(stats.sweeps)} sweeps"
        row = [str(neurons), "1 to 4 ms" if has_delays else "none", method]
        row += [f"{seconds[what]:.3g} s" for what in ("first", "forward", "gradient")]
        row.append(f"{float(jnp.mean(stats.spikes)) / neurons:.1f}")
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eventax", metavar="PYTHON", help="the Python of an environment with eventax==0.1.0")
    options = parser.parse_args()
    print(f"{machine()}\n", flush=True)
    if options.eventax is not None:
        print("| network | gradient: Eventax / spikax | forward | first call | worst, median difference (ms) |")
        print("|---|---|---|---|---|", flush=True)
        print(regression(options.eventax), flush=True)
        for has_delays in (False, True):
            print(against_eventax(options.eventax, has_delays), flush=True)
        print()
    against_size()


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", False)
    main()
