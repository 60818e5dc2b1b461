"""A sparse network of excitatory and inhibitory neurons, as NumPy arrays, for spikax and for other simulators."""

import numpy as np


N = 400
IN_DEGREE = 80
EXCITATORY = 320
DELAY = 0.125  # ms


def synapses_and_voltages() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sources, targets and weights (mV) of all synapses, and the initial voltages (mV)."""
    rng = np.random.RandomState(0)  # whose numbers no version of NumPy changes
    source = np.concatenate([rng.choice(N, IN_DEGREE, replace=False) for _ in range(N)])
    target = np.repeat(np.arange(N), IN_DEGREE)
    weight = np.where(source < EXCITATORY, 0.25, -2.25) * rng.uniform(0.9, 1.1, len(source))
    return source, target, weight, rng.uniform(-60.0, -50.05, N)
