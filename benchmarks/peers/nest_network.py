"""A sparse network of leaky integrate-and-fire neurons in NEST, at precise times.

    python nest_network.py            writes the spikes of 400 neurons to `tests/nest_network.json`
    python nest_network.py 1000       prints how long 1000 ms of 4000 neurons take, their rate and regularity

needs `nest-simulator` (the file was made with 3.10), which simulates voltage jumps without a time grid. Delays are
multiples of its step.
"""

import json
import pathlib
import sys
import time

import nest
import numpy as np


TESTS = pathlib.Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))
from sparse_network import DELAY, synapses_and_voltages  # noqa: E402


NEURON = {"E_L": -49.0, "V_th": -50.0, "V_reset": -60.0, "C_m": 200.0, "tau_m": 20.0, "t_ref": 5.0}


def simulated(n: int, in_degree: int, t1: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The neurons and the times of all spikes, by neuron, and the seconds of the simulation."""
    source, target, weight, voltage = synapses_and_voltages(n, in_degree)
    nest.resolution = DELAY
    neurons = nest.Create("iaf_psc_delta_ps", n, params=NEURON)
    neurons.V_m = voltage
    ids = np.array(neurons.global_id)
    synapses = {"synapse_model": "static_synapse", "weight": weight, "delay": np.full(len(weight), DELAY)}
    nest.Connect(ids[source], ids[target], conn_spec="one_to_one", syn_spec=synapses)
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    nest.Prepare()
    begin = time.perf_counter()
    nest.Run(t1)
    seconds = time.perf_counter() - begin
    nest.Cleanup()
    times, senders = recorder.events["times"], recorder.events["senders"] - ids[0]
    order = np.lexsort((times, senders))
    return senders[order], times[order], seconds


def main() -> None:
    if len(sys.argv) > 1:
        n, t1 = 4000, float(sys.argv[1])
        neurons, times, seconds = simulated(n, 80, t1)
        gaps = [np.diff(times[neurons == i]) for i in range(n)]
        cv = np.mean([np.std(gap) / np.mean(gap) for gap in gaps if len(gap) > 1])
        print(f"NEST {nest.__version__}: {seconds:.2f} s, {len(times) / n / t1 * 1e3:.2f} Hz, CV {cv:.3f}")
        return
    neurons, times, _ = simulated(400, 80, 100.0)
    spikes = {"t1": 100.0, "neurons": neurons.tolist(), "times": np.round(times, 10).tolist()}
    (TESTS / "nest_network.json").write_text(json.dumps(spikes))


if __name__ == "__main__":
    main()
