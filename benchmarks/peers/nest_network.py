"""The spikes of a sparse network in NEST, at precise times: `tests/nest_network.json`.

    python nest_network.py

needs `nest-simulator` (the file was made with 3.10), which simulates voltage jumps without a time grid. Delays are
multiples of its step.
"""

import json
import pathlib
import sys

import nest
import numpy as np


TESTS = pathlib.Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))
from sparse_network import DELAY, N, synapses_and_voltages  # noqa: E402


T1 = 100.0
NEURON = {"E_L": -49.0, "V_th": -50.0, "V_reset": -60.0, "C_m": 200.0, "tau_m": 20.0, "t_ref": 5.0}


def main() -> None:
    source, target, weight, voltage = synapses_and_voltages()
    nest.resolution = DELAY
    neurons = nest.Create("iaf_psc_delta_ps", N, params=NEURON)
    neurons.V_m = voltage
    ids = np.array(neurons.global_id)
    synapses = {"synapse_model": "static_synapse", "weight": weight, "delay": np.full(len(weight), DELAY)}
    nest.Connect(ids[source], ids[target], conn_spec="one_to_one", syn_spec=synapses)
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    nest.Simulate(T1)
    times, senders = recorder.events["times"], recorder.events["senders"] - ids[0]
    order = np.lexsort((times, senders))
    spikes = {"t1": T1, "neurons": senders[order].tolist(), "times": np.round(times[order], 10).tolist()}
    (TESTS / "nest_network.json").write_text(json.dumps(spikes))


if __name__ == "__main__":
    main()
