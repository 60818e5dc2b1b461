"""The gradients of recurrent networks: what recurrence and delays cost, and how the cost grows with the size.

    python benchmarks/recurrence.py [delays] [neurons] [recordings] [sizes] [sparse]

Prints tables, by default all of them. Networks and inputs are random; the loss is the sum of all spike times, so that
all spikes count. Times are medians, in float32.
"""

import dataclasses
import json
import math
import pathlib
import resource
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from against_eventax import timed
from surrogate import Decays, Leaky
from tables import main, row, title

import spikax as sx


sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
from sparse_network import DELAY, synapses_and_voltages


@dataclasses.dataclass(frozen=True)
class Measured:
    """Seconds of the first gradient call and of later ones, and what was simulated."""

    first: float
    gradient: float
    forward: float
    solution: sx.Solution

    def columns(self, base: "Measured | None" = None) -> list[str]:
        """The columns of a table, in relation to those of another network."""
        stats = self.solution.stats["layer"]
        ratio = "" if base is None else f" = **{self.gradient / base.gradient:.1f}**"
        calls = "" if base is None else f" = {self.first / base.first:.1f}"
        method = stats.method if stats.windows == 1 else f"{stats.method}, {stats.windows}, {int(stats.sweeps)} sweeps"
        neurons = self.solution.spikes["layer"].times.shape[1]
        spikes = f"{float(jnp.mean(stats.spikes)) / neurons:.1f}"
        return [method, spikes, f"{self.forward:.3g} s", f"{self.gradient:.3g} s{ratio}", f"{self.first:.1f} s{calls}"]


COLUMNS = ["method", "spikes of a neuron", "forward", "gradient", "first gradient call"]


def measured(network: sx.Network, inputs: sx.Spikes | sx.Events, t1: float, repeats: int = 3, **options) -> Measured:
    """Simulates a network, and differentiates the sum of its spike times by all weights, delays and parameters."""

    def simulated(network):
        return sx.simulate(network, inputs, t1, throw=False, **options)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        times = [spikes.times for spikes in simulated(network).spikes.values()]
        return sum(jnp.sum(jnp.where(jnp.isfinite(t), t, 0.0)) for t in times)

    first, seconds = timed(gradient, network, repeats=repeats)
    forward = eqx.filter_jit(simulated)
    _, forward_seconds = timed(forward, network, repeats=repeats)
    solution = forward(network)
    if not jnp.all(solution.result == sx.RESULTS.successful):
        raise SystemExit(f"Some sample was not simulated to its end:\n{solution}")
    return Measured(first, seconds, forward_seconds, solution)


def array(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def events(rng: np.random.Generator, batch: int, number: int, channels: int, t1: float) -> sx.Events:
    """Events at random times in random channels."""
    times = np.sort(rng.uniform(0.0, t1, (batch, number)), axis=-1)
    return sx.Events(array(times), jnp.asarray(rng.integers(0, channels, (batch, number)), jnp.int32), channels)


def delays() -> None:
    """128 LIF neurons with 1600 input events in 700 channels, 200 ms, batch 16, and delays of several kinds."""
    rng, neurons, channels, t1 = np.random.default_rng(0), 128, 700, 200.0
    inputs = events(rng, 16, 1600, channels, t1)
    outer = array(rng.normal(0.06, 0.2, (channels, neurons)))
    inner = array(rng.normal(0.0, 0.1, (neurons, neurons)))

    def each(low: float, high: float) -> list[jax.Array]:
        """Delays of all synapses; negative ones are zero."""
        shapes = (channels, neurons), (neurons, neurons)
        return [array(np.maximum(rng.uniform(low, high, shape), 0.0)) for shape in shapes]

    cases = {
        "no delays": (None, None),
        "`delay=0.0`": (0.0, 0.0),
        "one delay, 5 ms": (None, array(np.asarray(5.0))),
        "a delay of each synapse, 5 to 9 ms": each(5.0, 9.0),
        "of each synapse, 0 to 30 ms, a tenth of them 0": each(-3.0, 30.0),
    }
    title(["delays", *COLUMNS])
    base = None
    for name, (of_inputs, of_layer) in cases.items():
        connections = [sx.Dense("input", "layer", outer, of_inputs), sx.Dense("layer", "layer", inner, of_layer)]
        network = sx.Network({"layer": sx.Layer(sx.LIF(), neurons)}, connections, channels, "layer")
        found = measured(network, inputs, t1, max_spikes=32)
        base = base or found
        row([name, *found.columns(base)])


PORTS = {"exc": sx.ExpSynapse(2.0), "inh": sx.ExpSynapse(8.0)}
# The neurons, and the scale of their weights: the mean of those of the inputs, and the spread of all.
NEURONS = {
    "LIF": (sx.LIF(), 0.13, 1.0),
    "ALIF": (sx.ALIF(), 0.16, 1.0),
    "LIF, two ports": (sx.LIF(synapse=PORTS), 0.35, 1.0),
    "QIF": (sx.QIF(), 1.5, 15.0),
    "EIF": (sx.EIF(), 0.12, 1.0),
    "Izhikevich": (sx.Izhikevich(), 0.9, 8.0),
    "EGRU": (sx.EGRU(), 0.2, 1.0),
}


def layer(name: str, neurons: int, channels: int, is_recurrent: bool) -> sx.Network:
    """A layer of one kind of neuron."""
    neuron, mean, scale = NEURONS[name]
    rng = np.random.default_rng(1)

    def weights(rows: int, mean: float, spread: float, sign: float = 0.0) -> jax.Array:
        drawn = rng.normal(mean, spread, (rows, neurons))
        return array(sign * np.abs(drawn) if sign else drawn)

    if name == "EGRU":
        outer = {port: weights(channels, mean, 0.6) for port in "urz"}
        inner = {port: weights(neurons, 0.0, 0.3) for port in "urz"}
    elif "ports" in name:
        outer = {"exc": weights(channels, mean, 0.3, 1.0), "inh": weights(channels, 0.02, 0.02, -1.0)}
        inner = {"exc": weights(neurons, 0.0, 0.1, 1.0), "inh": weights(neurons, 0.0, 0.05, -1.0)}
    else:
        outer, inner = weights(channels, mean, 0.15 * scale), weights(neurons, 0.0, 0.05 * scale)
    loops = [sx.Dense("layer", "layer", inner)] if is_recurrent else []
    connections = [sx.Dense("input", "layer", outer), *loops]
    return sx.Network({"layer": sx.Layer(neuron, neurons)}, connections, channels, "layer")


def neurons() -> None:
    """100 neurons of several kinds with 800 input events, 100 ms, batch 16, with and without recurrence."""
    times = np.sort(np.random.default_rng(0).uniform(0.0, 100.0, (16, 100, 8)), axis=-1)
    title(["neurons", "recurrent", *COLUMNS])
    for name in NEURONS:
        base = None
        for is_recurrent in (False, True):
            network = layer(name, 100, 100, is_recurrent)
            found = measured(network, sx.Spikes(array(times)), 100.0, max_spikes=32)
            base = base or found
            row([name, "yes" if is_recurrent else "no", *found.columns(base)])


RECORDINGS = ("no delays", "a delay of each synapse, 5 to 9 ms", "surrogate gradients, steps of 1 ms")


def report(name: str) -> None:
    """Prints the columns of a recording, and the peak memory of this process in GiB, as JSON."""
    print(json.dumps([recording(name), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))


def recording(name: str) -> list[str]:
    """One row: 700 channels, 256 recurrent LIF neurons and 20 leaky integrators, 1000 ms, 8000 events, batch 16."""
    rng, (channels, hidden, classes), t1 = np.random.default_rng(0), (700, 256, 20), 1000.0
    inputs = events(rng, 16, 8000, channels, t1)
    outer, inner = rng.normal(0.06, 0.2, (channels, hidden)), rng.normal(-0.02, 0.1, (hidden, hidden))
    readout = rng.normal(0.0, 0.1, (hidden, classes))
    if name == RECORDINGS[2]:
        weights = [array(part) for part in (outer, inner, readout)]
        first, seconds = timed(jax.jit(jax.grad(surrogate_loss)), weights, *as_steps(inputs, int(t1)), repeats=3)
        return [f"{seconds:.3g} s", f"{first:.1f} s", ""]
    has_delays = name == RECORDINGS[1]
    shapes = (channels, hidden), (hidden, hidden)
    given = [array(rng.uniform(5.0, 9.0, shape)) if has_delays else None for shape in shapes]
    connections = [
        sx.Dense("input", "layer", array(outer), given[0]),
        sx.Dense("layer", "layer", array(inner), given[1]),
        sx.Dense("layer", "output", array(readout)),
    ]
    layers = {"layer": sx.Layer(sx.LIF(), hidden), "output": sx.Layer(sx.LI(), classes)}
    network = sx.Network(layers, connections, channels, "output")
    grid = jnp.linspace(10.0, t1, 100, dtype=jnp.float32)

    def simulated(network):
        return sx.simulate(network, inputs, t1, max_spikes=128, saveat={"output": grid}, throw=False)

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradient(network):
        solution = simulated(network)
        return jnp.mean(jax.nn.logsumexp(jnp.mean(solution.states["output"].v, axis=1), axis=-1)), solution

    first, seconds = timed(gradient, network, repeats=3)
    solution = gradient(network)[1]
    if not jnp.all(solution.result == sx.RESULTS.successful):
        raise SystemExit(f"Some sample was not simulated to its end:\n{solution}")
    spikes = float(jnp.mean(solution.stats["layer"].spikes)) / hidden
    return [f"{seconds:.3g} s", f"{first:.1f} s", f"{spikes:.0f}"]


def as_steps(inputs: sx.Events, steps: int) -> tuple[jax.Array]:
    """The numbers of events in steps of 1 ms."""
    counts = np.zeros((steps, len(inputs.times), inputs.n), np.float32)
    sample = np.broadcast_to(np.arange(len(inputs.times))[:, None], inputs.times.shape)
    np.add.at(counts, (np.minimum(np.asarray(inputs.times, int), steps - 1), sample, np.asarray(inputs.channels)), 1.0)
    return (jnp.asarray(counts),)


def surrogate_loss(weights: list[jax.Array], counts: jax.Array) -> jax.Array:
    """The same network in steps of 1 ms, with the default time constants, as `jax.lax.scan`."""
    outer, inner, readout = weights
    decay = Decays.of(1.0, 20.0, 5.0)  # the time constants of `sx.LIF()`

    def step(carry, count):
        layer, s, output = carry
        layer, s = layer.after(count @ outer + s @ inner, decay).fired()
        output = output.after(s @ readout, decay)
        return (layer, s, output), output.v

    batch, hidden, classes = counts.shape[1], *readout.shape
    layer, output = Leaky.at_rest(batch, hidden), Leaky.at_rest(batch, classes)
    _, outputs = jax.lax.scan(step, (layer, jnp.zeros_like(layer.v), output), counts)
    return jnp.mean(jax.nn.logsumexp(jnp.mean(outputs, axis=0), axis=-1))


def recordings() -> None:
    """Recordings of the size of spoken digits, each row in a process of its own, whose memory is reported."""
    title(["700-256-20, 1000 ms, 8000 events, batch 16", "gradient", "first", "spikes of a neuron", "peak memory"])
    for name in RECORDINGS:
        command = [sys.executable, "-c", "import sys, recurrence; recurrence.report(sys.argv[1])", name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent)
        if done.returncode:
            raise SystemExit(done.stderr)
        columns, memory = json.loads(done.stdout.splitlines()[-1])
        row([name, *columns, f"{memory:.1f} GiB"])


def sizes() -> None:
    """How the gradient grows if something doubles: 100 neurons, batch 16, 100 ms, 800 events."""
    title(["neurons", "usual", "batch 32", "200 neurons", "200 ms", "1600 events"])
    usual = {"batch": 16, "neurons": 100, "t1": 100.0, "spikes": 8}
    for name in ("LIF", "ALIF", "QIF"):
        columns, base = [name], None
        for doubled in (None, *usual):
            given = {what: 2 * value if what == doubled else value for what, value in usual.items()}
            # The same rate of events in twice the time.
            number = 2 * given["spikes"] if doubled == "t1" else given["spikes"]
            times = np.random.default_rng(0).uniform(0.0, given["t1"], (given["batch"], 100, number))
            network = layer(name, given["neurons"], 100, True)
            seconds = measured(network, sx.Spikes(array(np.sort(times))), given["t1"], max_spikes=64).gradient
            base = base or seconds
            columns.append(f"{seconds:.3g} s" if doubled is None else f"{seconds / base:.1f}")
        row(columns)


def sparse() -> None:
    """4000 neurons with 320 000 synapses, whose activity keeps itself up: as `peers/nest_network.py 1000`."""
    n, in_degree = 4000, 80
    source, target, weight, voltage = synapses_and_voltages(n, in_degree)
    lif = sx.LIF(20.0, v_rest=-49.0, v_threshold=-50.0, v_reset=-60.0, synapse=sx.DeltaSynapse())
    neuron = sx.Refractory(lif, 5.0)
    loop = sx.Sparse("layer", "layer", source, target, array(weight), shape=(n, n), delay=array(np.asarray(DELAY)))
    silent = sx.Dense("input", "layer", jnp.zeros((1, n)))
    network = sx.Network({"layer": sx.Layer(neuron, n)}, [silent, loop], 1, "layer")
    start = jax.tree.map(lambda leaf: jnp.full((1, n), leaf), neuron.initial_state())
    start = eqx.tree_at(lambda state: state.inner.v, start, array(voltage)[None])
    inputs = sx.Spikes(jnp.full((1, 1, 1), jnp.inf))
    title(["4000 LIF neurons, delay 0.125 ms", "seconds", "first", "rate", "CV of intervals", "method"])

    def simulated(network, t1, max_spikes):
        # No spike arrives in its own window.
        method = sx.Windows(math.floor(t1 / DELAY * 1.02), max_arrivals=32)
        return sx.simulate(
            network, inputs, t1, start={"layer": start}, max_spikes=max_spikes, method=method, throw=False
        )

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradient(network):
        solution = simulated(network, 100.0, 8)
        times = solution.spikes["layer"].times
        return jnp.sum(jnp.where(jnp.isfinite(times), times, 0.0)), solution

    forward = eqx.filter_jit(lambda network: (None, simulated(network, 1000.0, 48)))
    for name, function, t1 in (("1000 ms", forward, 1000.0), ("100 ms, with the gradient", gradient, 100.0)):
        first, seconds = timed(function, network, repeats=1)
        _, solution = function(network)
        if not jnp.all(solution.result == sx.RESULTS.successful):
            raise SystemExit(f"The sample was not simulated to its end:\n{solution}")
        gaps = [np.diff(train[np.isfinite(train)]) for train in np.asarray(solution.spikes["layer"].times[0])]
        cv = np.mean([np.std(gap) / np.mean(gap) for gap in gaps if len(gap) > 1])
        rate = float(solution.stats["layer"].spikes[0]) / n / t1 * 1e3
        stats = solution.stats["layer"]
        row([name, f"{seconds:.3g} s", f"{first:.1f} s", f"{rate:.2f} Hz", f"{cv:.3f}", f"{stats.method}"])


if __name__ == "__main__":
    tables = {"delays": delays, "neurons": neurons, "recordings": recordings, "sizes": sizes, "sparse": sparse}
    main(tables, __doc__)
