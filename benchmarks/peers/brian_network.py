"""The spikes of a recurrent network with delays in Brian2 2.9.0, as a reference for the tests.

Runs in an environment of its own, with `pip install brian2==2.9.0 "numpy<2.4"`, and prints JSON:

    python brian_network.py > ../../tests/brian_network.json

100 LIF neurons receive from 20 inputs and from each other, through sparse synapses, each with its own delay. Brian2
finds spikes on a grid of time steps, up to one step late, so the step is short. The delays lie on the grid.
"""

import json

import brian2 as b
import numpy as np


STEP, T1 = 0.001, 40.0
NEURONS, INPUTS = 100, 20
EQUATIONS = """
dv/dt = (-v + I + bias) / (20*ms) : 1
dI/dt = -I / (5*ms) : 1
bias : 1
"""


def drawn(sources: int, share: float, mean: float, std: float, rng: np.random.Generator) -> dict[str, list]:
    """Synapses: from whom, to whom, how strong, and how late."""
    source, target = np.nonzero(rng.uniform(size=(sources, NEURONS)) < share)
    weight = np.round(rng.normal(mean, std, source.size), 3)
    delay = np.round(rng.uniform(1.0, 5.0, source.size), 2)
    return {"sources": source.tolist(), "targets": target.tolist(), "weight": weight.tolist(), "delay": delay.tolist()}


def wired(sources, neurons, wires: dict[str, list]):
    synapses = b.Synapses(sources, neurons, "w : 1", on_pre="I_post += w")
    synapses.connect(i=wires["sources"], j=wires["targets"])
    synapses.w = wires["weight"]
    synapses.delay = np.asarray(wires["delay"]) * b.ms
    return synapses


def main() -> None:
    rng = np.random.default_rng(0)
    biases = np.round(rng.uniform(0.0, 0.3, NEURONS), 3)
    times = np.round(rng.uniform(0.0, 25.0, INPUTS), 2)
    inner = drawn(NEURONS, 0.1, 0.1, 0.4, rng)
    outer = drawn(INPUTS, 0.5, 1.6, 0.5, rng)
    neurons = b.NeuronGroup(NEURONS, EQUATIONS, threshold="v > 1", reset="v = 0", method="exact")
    neurons.bias = biases
    inputs = b.SpikeGeneratorGroup(INPUTS, np.arange(INPUTS), times * b.ms)
    monitor = b.SpikeMonitor(neurons)
    network = b.Network(neurons, inputs, wired(neurons, neurons, inner), wired(inputs, neurons, outer), monitor)
    network.run(T1 * b.ms)
    spikes = [[] for _ in range(NEURONS)]
    for neuron, t in zip(np.asarray(monitor.i), np.asarray(monitor.t / b.ms), strict=True):
        # A spike noted at t has happened between t and t plus a step.
        spikes[int(neuron)].append(round(float(t) + 0.5 * STEP, 6))
    given = {"step": STEP, "t1": T1, "bias": biases.tolist(), "times": times.tolist(), "inner": inner, "outer": outer}
    print(json.dumps(given | {"spikes": spikes}))


if __name__ == "__main__":
    b.prefs.codegen.target = "numpy"
    b.defaultclock.dt = STEP * b.ms
    main()
