"""Times Eventax 0.1.0 on a 5-HIDDEN-3 network, and saves the network with its first output spikes.

Runs in an environment of its own, with `pip install eventax==0.1.0`:

    python eventax_first_spikes.py {LIF,QIF} HIDDEN BATCH FILE.npz
"""

import json
import statistics
import sys
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from eventax.evnn import FFEvNN
from eventax.neuron_models import LIF, QIF


def build(model: str, hidden: int, t1: float) -> FFEvNN:
    options = {
        "LIF": dict(thresh=1.0, tsyn=5.0, tmem=20.0, blim=0.1, wlim=4.0, wmean=2.0),
        "QIF": dict(tsyn=5.0, tmem=20.0, blim=1.0, wlim=40.0, wmean=20.0),
    }[model]
    return FFEvNN(
        layers=[hidden, 3],
        in_size=5,
        neuron_model={"LIF": LIF, "QIF": QIF}[model],
        max_solver_time=t1,
        key=jax.random.PRNGKey(0),
        # Euler with short steps is what its documentation uses throughout.
        solver=diffrax.Euler(),
        solver_stepsize=0.05,
        root_finder=optx.Newton(1e-5, 1e-5, optx.rms_norm),
        max_event_steps=400,
        **options,
    )


def timed(function, *arguments, repeats: int = 3) -> tuple[float, float]:
    """Seconds of the first call, and the median of those after it."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start

    return once(), statistics.median(once() for _ in range(repeats))


def main(model: str, hidden: int, batch: int, file: str, t1: float = 30.0) -> None:
    points = np.random.RandomState(0).rand(batch, 2)
    times = np.concatenate([points, 1 - points, np.zeros((batch, 1))], axis=1) * t1
    inputs = jnp.asarray(times[..., None], jnp.float32)
    network = build(model, hidden, t1)
    forward = eqx.filter_jit(lambda network, inputs: jax.vmap(network.ttfs)(inputs))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        return jnp.mean(jnp.minimum(jax.vmap(network.ttfs)(inputs), t1))

    first_gradient, gradient_seconds = timed(gradient, network, inputs)
    _, forward_seconds = timed(forward, network, inputs)
    neurons = network.neuron_model
    np.savez(
        file,
        times=times,
        weights=np.asarray(neurons.weights),
        bias=np.asarray(neurons.ic),
        first_spikes=np.asarray(forward(network, inputs)),
    )
    print(json.dumps(dict(first=first_gradient, forward=forward_seconds, gradient=gradient_seconds)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
