"""The sparse network of `nest_network.py` in Brian2, on a grid of time steps.

    python brian_sparse.py 1000

prints how long 1000 ms of 4000 neurons take, their rate and regularity. Runs in an environment of its own, with
`pip install brian2==2.9.0 "numpy<2.4"`. The steps are as long as the delay, 0.125 ms. A first, short run compiles, by
Cython if there is a compiler.
"""

import pathlib
import sys
import time

import brian2 as b
import numpy as np


sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
from sparse_network import DELAY, synapses_and_voltages


EQUATIONS = "dv/dt = (-49*mV - v) / (20*ms) : volt (unless refractory)"


def network(n: int, in_degree: int) -> tuple[b.Network, b.SpikeMonitor]:
    """The network, and what records its spikes."""
    source, target, weight, voltage = synapses_and_voltages(n, in_degree)
    condition, reset = "v > -50*mV", "v = -60*mV"
    neurons = b.NeuronGroup(n, EQUATIONS, threshold=condition, reset=reset, refractory=5 * b.ms, method="exact")
    neurons.v = voltage * b.mV
    synapses = b.Synapses(neurons, neurons, "w : volt", on_pre="v_post += w * int(not_refractory_post)")
    synapses.connect(i=source, j=target)
    synapses.w = weight * b.mV
    synapses.delay = DELAY * b.ms
    monitor = b.SpikeMonitor(neurons)
    return b.Network(neurons, synapses, monitor), monitor


def main() -> None:
    n, t1, warm_up = 4000, float(sys.argv[1]), 1.0
    b.defaultclock.dt = DELAY * b.ms
    whole, monitor = network(n, 80)
    whole.run(warm_up * b.ms)
    begin = time.perf_counter()
    whole.run((t1 - warm_up) * b.ms)
    seconds = time.perf_counter() - begin
    times, senders = np.asarray(monitor.t / b.ms), np.asarray(monitor.i)
    gaps = [np.diff(times[senders == i]) for i in range(n)]
    cv = np.mean([np.std(gap) / np.mean(gap) for gap in gaps if len(gap) > 1])
    print(f"Brian2 {b.__version__}: {seconds:.2f} s, {len(times) / n / t1 * 1e3:.2f} Hz, CV {cv:.3f}")


if __name__ == "__main__":
    main()
