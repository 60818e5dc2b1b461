"""A sparse network of excitatory and inhibitory neurons, as NumPy arrays, for spikax and for other simulators."""

import numpy as np


DELAY = 0.125  # ms


def synapses_and_voltages(n: int, in_degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sources, targets and weights (mV) of all synapses, and the initial voltages (mV).

    Four of five neurons are excitatory. Voltages, weights, thresholds and delays are those of benchmark 4 of
    R. Brette et al., Simulation of networks of spiking neurons, J. Comput. Neurosci. 23, 2007, but for random weights,
    and voltages below the threshold.
    """
    rng = np.random.RandomState(0)  # whose numbers no version of NumPy changes
    source = np.concatenate([rng.choice(n, in_degree, replace=False) for _ in range(n)])
    target = np.repeat(np.arange(n), in_degree)
    weight = np.where(source < 0.8 * n, 0.25, -2.25) * rng.uniform(0.9, 1.1, len(source))
    return source, target, weight, rng.uniform(-60.0, -50.05, n)
