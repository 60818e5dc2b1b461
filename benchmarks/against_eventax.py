"""spikax against Eventax 0.1.0: the same networks, weights and inputs, in one run on one machine.

    python benchmarks/against_eventax.py --eventax PATH/TO/PYTHON

where that Python has `pip install eventax==0.1.0`. Prints the table of `benchmarks/README.md`.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import spikax as sx


PEER = Path(__file__).parent / "peers" / "eventax_first_spikes.py"
T1 = 30.0


def build(model: str, saved, dtype) -> sx.Network:
    """The network that the peer saved."""
    weights, bias = jnp.asarray(saved["weights"], dtype), jnp.asarray(saved["bias"], dtype)
    sources, hidden, outputs = saved["sizes"].tolist()
    neuron = {"LIF": sx.LIF, "QIF": sx.QIF}[model]
    layers = {
        "hidden": sx.Layer(neuron(tau_mem=20.0, bias=bias[:hidden], synapse=sx.ExpSynapse(5.0)), hidden),
        "output": sx.Layer(neuron(tau_mem=20.0, bias=bias[hidden:], synapse=sx.ExpSynapse(5.0)), outputs),
    }
    connections = [
        sx.Dense("input", "hidden", weights[hidden + outputs :, :hidden]),
        sx.Dense("hidden", "output", weights[:hidden, hidden:]),
    ]
    return sx.Network(layers, connections, sources, "output")


def listed(times: np.ndarray, dtype) -> sx.Spikes | sx.Events:
    """The first spikes of all channels: lists of them where most channels are silent, as of images."""
    if np.all(times < np.inf):
        return sx.Spikes(jnp.asarray(times[..., None], dtype))
    most = np.sum(times < np.inf, axis=1).max()
    channels = np.argsort(times, axis=1, kind="stable")[:, :most]
    ascending = np.take_along_axis(times, channels, axis=1)
    return sx.Events(jnp.asarray(ascending, dtype), jnp.asarray(channels, jnp.int32), times.shape[1])


def first_spikes(network: sx.Network, inputs: sx.Spikes | sx.Events, **options) -> tuple[jax.Array, jax.Array]:
    """The first spikes of the output, and whether all that counts was recorded."""
    solution = sx.simulate(
        network, inputs, T1, max_spikes={"hidden": 8, "output": 1}, until=sx.FirstSpikes(), throw=False, **options
    )
    return sx.first_spike(solution.spikes["output"]), jnp.all(solution.result == sx.RESULTS.successful)


def checked(times: jax.Array, fine: jax.Array) -> np.ndarray:
    if not fine:
        raise SystemExit(
            "Some sample was not simulated to its end, or a hidden neuron spiked more often than recorded."
        )
    return np.asarray(times)


def timed(function, *arguments, repeats: int = 9) -> tuple[float, float]:
    """Seconds of the first call, and the median of those after it."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(function(*arguments)))
        return time.perf_counter() - start

    return once(), statistics.median(once() for _ in range(repeats))


METHODS = {"closed form": sx.ClosedForm(), "event loop": sx.EventLoop()}


def measure(model: str, method: str, file: str) -> dict:
    """Seconds of the first gradient call, of the forward pass, and of a gradient; and the first spikes."""
    saved = np.load(file)
    network = build(model, saved, jnp.float32)
    inputs = listed(saved["times"], jnp.float32)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        return jnp.mean(jnp.minimum(first_spikes(network, inputs, method=METHODS[method])[0], T1))

    first, seconds = timed(gradient, network, inputs)
    forward = eqx.filter_jit(lambda network, inputs: first_spikes(network, inputs, method=METHODS[method]))
    _, forward_seconds = timed(forward, network, inputs)
    np.save(file + ".spikes.npy", checked(*forward(network, inputs)))
    return dict(first=first, forward=forward_seconds, gradient=seconds)


def reference(model: str, file: str) -> dict:
    """Saves the first spikes in float64, with steps whose error is below 1e-12."""
    jax.config.update("jax_enable_x64", True)
    saved = np.load(file)
    inputs = listed(saved["times"], jnp.float64)
    network = build(model, saved, jnp.float64)
    exact = eqx.filter_jit(first_spikes)(network, inputs, method=sx.EventLoop(rtol=1e-12, atol=1e-12, max_steps=50_000))
    np.save(file + ".reference.npy", checked(*exact))
    return {}


def compare(python: str, model: str, sizes: str, batch: int) -> list[str]:
    """The rows of a network, one for each method."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "network.npz")
        peer = run(python, str(PEER), model, sizes, str(batch), file)
        run(sys.executable, __file__, "--reference", model, file)
        exact = np.minimum(np.load(file + ".reference.npy"), T1)
        rows = []
        for method in METHODS if model == "LIF" else ("event loop",):
            own = run(sys.executable, __file__, "--measure", model, method, file)
            found = (np.load(file)["first_spikes"], np.load(file + ".spikes.npy"))
            errors = [np.abs(np.minimum(times, T1) - exact) for times in found]
            row = [f"{model} {sizes}, batch {batch}", method]
            for what in ("gradient", "forward", "first"):
                row.append(f"{peer[what]:.3g} s / {own[what]:.3g} s = **{peer[what] / own[what]:.1f}**")
            row.append(f"{own['gradient'] / own['forward']:.1f}")
            row.append(" / ".join(f"{np.max(error):.0e}, {np.median(error):.0e}" for error in errors))
            rows.append("| " + " | ".join(row) + " |")
    return rows


def run(*command: str) -> dict:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return f"{name}, {len(names) or '?'} cores, Python {platform.python_version()}, JAX {jax.__version__}, float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eventax", metavar="PYTHON", help="the Python of an environment with eventax==0.1.0")
    parser.add_argument("--models", nargs="+", choices=("LIF", "QIF"), default=("LIF", "QIF"), help="default: both")
    parser.add_argument("--sizes", nargs="+", default=("5-120-3", "784-100-10"), help="default: 5-120-3 784-100-10")
    parser.add_argument("--measure", nargs=3, metavar=("MODEL", "METHOD", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--reference", nargs=2, metavar=("MODEL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure or arguments.reference:
        task = measure if arguments.measure else reference
        print(json.dumps(task(*(arguments.measure or arguments.reference))))
        return
    if arguments.eventax is None:
        parser.error("--eventax is needed: the Python of an environment with eventax==0.1.0")
    print(f"{machine()}\n")
    print(
        "| network | method | gradient: Eventax / spikax | forward | first gradient call | gradient / forward "
        "| worst, median error (ms) |"
    )
    print("|---|---|---|---|---|---|---|")
    for sizes in arguments.sizes:
        for model in arguments.models:
            print("\n".join(compare(arguments.eventax, model, sizes, 256 if sizes[0] == "5" else 16)), flush=True)


if __name__ == "__main__":
    main()
