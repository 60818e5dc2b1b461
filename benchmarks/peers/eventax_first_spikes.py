"""Times Eventax 0.1.0 on a network with one hidden layer, and saves the network with its first output spikes.

Runs in an environment of its own, with `pip install eventax==0.1.0`:

    python eventax_first_spikes.py {LIF,QIF} {5-120-3,784-100-10} BATCH FILE.npz
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


def inputs_of(sources: int, batch: int, t1: float) -> np.ndarray:
    """Spike times `(batch, sources)`: those of points of the plane, or of 160 channels out of many."""
    random = np.random.RandomState(0)
    if sources == 5:
        points = random.rand(batch, 2)
        return np.concatenate([points, 1 - points, np.zeros((batch, 1))], axis=1) * t1
    times = np.full((batch, sources), np.inf)
    for row in times:
        row[random.permutation(sources)[:160]] = random.rand(160) * t1 * 2 / 3
    return times


def build(model: str, sizes: list[int], t1: float) -> FFEvNN:
    # As many arrivals as there are in the wide network need weights as much smaller.
    share = 1.0 if sizes[0] == 5 else 5 / 160
    options = {
        "LIF": dict(thresh=1.0, tsyn=5.0, tmem=20.0, blim=0.1, wlim=4.0 * share, wmean=2.0 * share),
        "QIF": dict(tsyn=5.0, tmem=20.0, blim=1.0, wlim=40.0 * share, wmean=20.0 * share),
    }[model]
    return FFEvNN(
        layers=sizes[1:],
        in_size=sizes[0],
        neuron_model={"LIF": LIF, "QIF": QIF}[model],
        max_solver_time=t1,
        key=jax.random.PRNGKey(0),
        # Euler with short steps is what its documentation uses throughout.
        solver=diffrax.Euler(),
        solver_stepsize=0.05,
        root_finder=optx.Newton(1e-5, 1e-5, optx.rms_norm),
        max_event_steps=400 if sizes[0] == 5 else 1000,
        **options,
    )


def timed(function, *arguments, repeats: int = 3) -> tuple[float, float]:
    """Seconds of the first call, and the median of those after it."""

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start

    return once(), statistics.median(once() for _ in range(repeats))


def measure(network, times: np.ndarray, t1: float, repeats: int = 3) -> np.ndarray:
    """Prints the seconds of first spikes and of the gradient of their mean, and returns the spikes.

    Inputs have the shape `(batch, inputs)` or `(batch, inputs, spikes)`.
    """
    inputs = jnp.asarray(times[..., None] if times.ndim == 2 else times, jnp.float32)
    forward = eqx.filter_jit(lambda network, inputs: jax.vmap(network.ttfs)(inputs))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network, inputs):
        return jnp.mean(jnp.minimum(jax.vmap(network.ttfs)(inputs), t1))

    first, seconds = timed(gradient, network, inputs, repeats=repeats)
    _, forward_seconds = timed(forward, network, inputs, repeats=repeats)
    print(json.dumps(dict(first=first, forward=forward_seconds, gradient=seconds)))
    return np.asarray(forward(network, inputs))


def main(model: str, network_sizes: str, batch: int, file: str, t1: float = 30.0) -> None:
    sizes = list(map(int, network_sizes.split("-")))
    times, network = inputs_of(sizes[0], batch, t1), build(model, sizes, t1)
    spikes, neurons = measure(network, times, t1), network.neuron_model
    weights, bias = np.asarray(neurons.weights), np.asarray(neurons.ic)
    np.savez(file, times=times, weights=weights, bias=bias, sizes=sizes, first_spikes=spikes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
