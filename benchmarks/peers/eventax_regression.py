"""Times Eventax 0.1.0 on the network of its own example of regression, and saves the network with its first spikes.

Runs in an environment of its own, with `pip install eventax==0.1.0`:

    python eventax_regression.py FILE.npz

Twenty QIF neurons, each of which receives from all others and from the input, and one output that receives from them,
with the settings of `examples/regression.ipynb`: 80 ms, steps of 0.1 ms, a batch of 64. The loss is the mean of the
first output spikes.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from eventax.evnn import EvNN
from eventax.neuron_models import QIF
from eventax_first_spikes import measure


T1, NEURONS = 80.0, 20


def build() -> EvNN:
    mask = np.zeros((NEURONS + 2, NEURONS + 1), np.float32)
    mask[:NEURONS] = 1.0 - np.eye(NEURONS, NEURONS + 1)
    mask[NEURONS + 1, :NEURONS] = 1.0
    is_output = jnp.arange(NEURONS + 1) == NEURONS
    return EvNN(
        QIF,
        NEURONS + 1,
        T1,
        1,
        key=jax.random.PRNGKey(0),
        wmask=jnp.asarray(mask),
        output_neurons=is_output,
        input_neurons=~is_output,
        solver_stepsize=0.1,
        max_event_steps=500,
        tsyn=5.0,
        tmem=20.0,
        blim=0.5,
        wlim=40.0,
        wmean=20.0,
    )


def main(file: str) -> None:
    network = build()
    second = np.random.default_rng(0).uniform(0.0, 30.0, 64)
    times = np.stack([np.zeros(64), second], axis=1)[:, None]
    spikes, neurons = measure(network, times, T1, repeats=9), network.neuron_model
    weights, bias = np.asarray(neurons.weights), np.asarray(neurons.ic)
    np.savez(file, times=times, weights=weights, bias=bias, first_spikes=spikes)


if __name__ == "__main__":
    main(sys.argv[1])
