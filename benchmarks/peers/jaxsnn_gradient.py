"""Times a gradient of jaxsnn 0.3.0 on the network of its own Yin-Yang example: 5-100-3, one spike per neuron.

Runs in an environment of its own, with `pip install jaxsnn==0.3.0`:

    python jaxsnn_gradient.py BATCH FILE.npz

Saves the network and its inputs, in units of the synaptic time constant of 5 ms.
"""

import json
import statistics
import sys
import time
from functools import partial

import jax
import numpy as np
from jaxsnn.base.dataset import yinyang_dataset
from jaxsnn.event.encode import encode, spatio_temporal_encode, target_temporal_encode
from jaxsnn.event.loss import mse_loss
from jaxsnn.event.modules import LIF, LIFParameters, Linear, Source
from jaxsnn.event.topology import Topology
from jaxsnn.examples.event.utils import loss_wrapper


def main(batch: int, file: str, repeats: int = 5) -> None:
    parameters = LIFParameters(v_reset=-1000.0, v_th=1.0, tau_syn=5e-3, tau_mem=1e-2)
    samples = yinyang_dataset(jax.random.PRNGKey(0), batch, mirror=True, bias_spike=0.0)
    spikes = jax.vmap(partial(spatio_temporal_encode, t_late=1e-2, duplication=1, duplicate_neurons=False))
    targets = jax.vmap(
        partial(target_temporal_encode, n_classes=3, correct_target_time=0.9 * 5e-3, wrong_target_time=1.1 * 5e-3)
    )
    inputs, target = encode(samples, spikes, targets)
    builder = Topology(t_max=2e-2)
    builder.add(
        {
            "inp": Source(5),
            "lif1": LIF(100, 50, parameters),
            "lif2": LIF(3, 53, parameters),
            "syn1": Linear(mean=3.0, std=1.6, min_delay=0.0),
            "syn2": Linear(mean=0.5, std=0.8, min_delay=0.0),
        }
    )
    builder.connect([("inp", "syn1"), ("syn1", "lif1"), ("lif1", "syn2"), ("syn2", "lif2")])
    initialise, apply = builder.done()
    weights = initialise(jax.random.PRNGKey(1))
    loss = partial(loss_wrapper, apply, mse_loss, parameters.tau_mem, "lif2", 3)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(gradient(weights, ({"inp": inputs}, target)))
        return time.perf_counter() - start

    first = once()
    seconds = statistics.median(once() for _ in range(repeats))
    (_, (first_spikes, _)), _ = gradient(weights, ({"inp": inputs}, target))
    times = np.full((batch, 5), np.inf)
    rows = np.arange(batch)[:, None]
    times[rows, np.asarray(inputs.idx)] = np.asarray(inputs.time)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(weights)]
    matrices = {f"weight{leaf.shape[0]}": leaf for leaf in leaves if leaf.ndim == 2 and leaf.shape[1] > 1}
    np.savez(file, times=times * 1e3, first_spikes=np.asarray(first_spikes) * 1e3, **matrices)
    print(json.dumps(dict(first=first, gradient=seconds)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
