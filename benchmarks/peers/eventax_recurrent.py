"""Times Eventax 0.1.0 on a recurrent network, and saves the network with its first spikes.

Runs in an environment of its own, with `pip install eventax==0.1.0`:

    python eventax_recurrent.py {0,1} FILE.npz

where 1 stands for delays, of every synapse its own.
"""

import json
import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from eventax.evnn import EvNN
from eventax.neuron_models import LIF
from eventax_first_spikes import timed


SOURCES, NEURONS, BATCH, T1 = 20, 100, 64, 30.0


def build(has_delays: bool) -> EvNN:
    random = np.random.RandomState(1)
    rows = SOURCES + NEURONS
    delays = jnp.asarray(random.uniform(1.0, 4.0, (rows, NEURONS)), jnp.float32)
    return EvNN(
        LIF,
        NEURONS,
        T1,
        SOURCES,
        key=jax.random.PRNGKey(0),
        init_delays=delays if has_delays else None,
        buffer_capacity=20_000 if has_delays else None,
        solver=diffrax.Euler(),
        solver_stepsize=0.05,
        root_finder=optx.Newton(1e-5, 1e-5, optx.rms_norm),
        max_event_steps=2000,
        thresh=1.0,
        tsyn=5.0,
        tmem=20.0,
        blim=0.1,
        # Drawn anew below: here only their shape counts.
        wlim=1.0,
        wmean=0.0,
    )


def main(has_delays: bool, file: str) -> None:
    random = np.random.RandomState(0)
    times = np.sort(random.uniform(0.0, 20.0, (BATCH, SOURCES, 1)), axis=-1)
    recurrent, outside = random.normal(0.0, 0.1, (NEURONS, NEURONS)), random.normal(0.8, 0.4, (SOURCES, NEURONS))
    weights = jnp.asarray(np.concatenate([recurrent, outside]), jnp.float32)
    network = build(has_delays)
    network = eqx.tree_at(lambda network: network.neuron_model.weights, network, weights)
    inputs = jnp.asarray(times, jnp.float32)
    forward = eqx.filter_jit(lambda network, inputs: jax.vmap(network.ttfs)(inputs))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        return jnp.mean(jnp.minimum(jax.vmap(network.ttfs)(inputs), T1))

    first, seconds = timed(gradient, network, inputs)
    _, forward_seconds = timed(forward, network, inputs)
    np.savez(
        file,
        times=times,
        weights=np.asarray(network.neuron_model.weights),
        bias=np.asarray(network.neuron_model.ic),
        delays=np.asarray(network.delays) if has_delays else np.zeros(()),
        first_spikes=np.asarray(forward(network, inputs)),
    )
    print(json.dumps(dict(first=first, forward=forward_seconds, gradient=seconds)))


if __name__ == "__main__":
    main(sys.argv[1] == "1", sys.argv[2])
