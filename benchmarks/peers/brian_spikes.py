"""Spike times of single neurons in Brian2 2.9.0, as a reference for the tests.

Runs in an environment of its own, with `pip install brian2==2.9.0 "numpy<2.4"`, and prints JSON:

    python brian_spikes.py > ../../tests/brian.json

Each neuron has a constant current and an exponential synapse, and sees the same arrivals. Brian2 finds spikes on a grid
of steps, and so is late by up to a step at each; hence the short one.
"""

import json

import brian2 as b
import numpy as np


STEP = 0.001
T1 = 50.0
ARRIVALS = (2.0, 7.0, 7.5, 16.0, 31.0)
SYNAPSE = "dI/dt = -I / (5*ms) : 1\n"
RATES = """
x = (v + 40) / 10 : 1
y = (v + 55) / 10 : 1
dm/dt = (x / (1 - exp(-x)) * (1 - m) - 4 * exp(-(v + 65) / 18) * m) / ms : 1
dh/dt = (0.07 * exp(-(v + 65) / 20) * (1 - h) - h / (1 + exp(-(v + 35) / 10))) / ms : 1
dn/dt = (0.1 * y / (1 - exp(-y)) * (1 - n) - 0.125 * exp(-(v + 65) / 80) * n) / ms : 1
"""
# The equations, the threshold, the reset, the method, the state at the start, and the weight of an arrival.
NEURONS = {
    "LIF": (
        "dv/dt = (0.05 - v + I + 1.2) / (20*ms) : 1",
        ("v > 1", "v = -0.1", "exact"),
        {"v": 0.05},
        1.5,
    ),
    # The voltage goes to infinity and comes back from minus infinity: 0.004 ms each beyond 5000.
    "QIF": (
        "dv/dt = (v * (v - 1) + I + 2) / (20*ms) : 1",
        ("v > 5000", "v = -5000", "rk4"),
        {"v": 0.0},
        40.0,
    ),
    "EIF": (
        "dv/dt = (0.05 - v + 0.2 * exp((v - 1) / 0.2) + I + 1.2) / (20*ms) : 1",
        ("v > 2", "v = -0.1", "rk4"),
        {"v": 0.05},
        1.5,
    ),
    "ALIF": (
        "dv/dt = (0.05 - v + I + 1.4) / (20*ms) : 1\nda/dt = -a / (80*ms) : 1",
        ("v > 1 + a", "v = -0.1; a += 0.3", "exact"),
        {"v": 0.05, "a": 0.0},
        1.5,
    ),
    "AdEx": (
        """dv/dt = (-70.6 - v + 2 * exp((v + 50.4) / 2) - w + I + 27) / (9.37*ms) : 1
        dw/dt = (0.133 * (v + 70.6) - w) / (144*ms) : 1""",
        ("v > -40.4", "v = -70.6; w += 2.68", "rk4"),
        {"v": -70.6, "w": 0.0},
        10.0,
    ),
    "Izhikevich": (
        """dv/dt = (0.04 * v**2 + 5 * v + 140 - u + I + 10) / ms : 1
        du/dt = 0.02 * (0.2 * v - u) / ms : 1""",
        ("v > 30", "v = -65; u += 8", "rk4"),
        {"v": -70.0, "u": -14.0},
        10.0,
    ),
    "HodgkinHuxley": (
        "dv/dt = (I + 10 - 120 * m**3 * h * (v - 50) - 36 * n**4 * (v + 77) - 0.3 * (v + 54.387)) / ms : 1" + RATES,
        ("v > 0", "", "rk4"),
        # The steady state of the gates at -65 mV.
        {"v": -65.0, "m": 0.05293248525724958, "h": 0.5961207535084603, "n": 0.3176769140606970},
        5.0,
    ),
}


def spikes(equations: str, event: tuple[str, str, str], start: dict[str, float], weight: float) -> list[float]:
    threshold, reset, method = event
    neuron = b.NeuronGroup(
        1,
        equations + "\n" + SYNAPSE,
        threshold=threshold,
        reset=reset,
        # A spike that resets nothing is counted once.
        refractory=False if reset else threshold,
        method=method,
    )
    for name, value in start.items():
        setattr(neuron, name, value)
    monitor = b.SpikeMonitor(neuron)
    network = b.Network(neuron, monitor)
    now = 0.0
    for stop in ARRIVALS:
        network.run((stop - now) * b.ms)
        neuron.I += weight
        now = stop
    network.run((T1 - now) * b.ms)
    # A spike noted at t has happened between t and t plus a step.
    return [round(t, 6) for t in np.asarray(monitor.t / b.ms) + 0.5 * STEP]


if __name__ == "__main__":
    b.prefs.codegen.target = "numpy"
    b.defaultclock.dt = STEP * b.ms
    found = {name: {"weight": neuron[-1], "spikes": spikes(*neuron)} for name, neuron in NEURONS.items()}
    print(json.dumps({"step": STEP, "t1": T1, "arrivals": ARRIVALS, "neurons": found}, indent=1))
