"""Times Eventax 0.1.0 on a recurrent network of LIF neurons.

Runs in an environment of its own, with `pip install eventax==0.1.0`:

    python eventax_recurrent.py FILE.npz

The file holds `inner` and `outer`, the weights from neurons and from inputs, `bias`, the input spikes `times` of shape
`(batch, inputs)`, and, for a network with delays, those of every synapse: `inner_delays` and `outer_delays`. The first
spikes of all neurons are added to it, as `first_spikes` in FILE.npz.peer.npy.
"""

import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from eventax.evnn import EvNN
from eventax.neuron_models import LIF
from eventax_first_spikes import measure


T1 = 30.0


def build(saved) -> EvNN:
    neurons, inputs = saved["inner"].shape[0], saved["outer"].shape[0]
    delays = None
    if "inner_delays" in saved:
        delays = jnp.asarray(np.concatenate([saved["inner_delays"], saved["outer_delays"]]), jnp.float32)
    network = EvNN(
        LIF,
        neurons,
        T1,
        inputs,
        key=jax.random.PRNGKey(0),
        wmask=jnp.ones((inputs + neurons, neurons)),
        init_delays=delays,
        buffer_capacity=None if delays is None else int(saved["pending"]),
        solver=diffrax.Euler(),
        solver_stepsize=0.05,
        root_finder=optx.Newton(1e-5, 1e-5, optx.rms_norm),
        max_event_steps=int(saved["events"]),
        thresh=1.0,
        tsyn=5.0,
        tmem=20.0,
        blim=0.1,
        wlim=1.0,
        wmean=0.0,
    )
    weights = jnp.asarray(np.concatenate([saved["inner"], saved["outer"]]), jnp.float32)
    bias = jnp.asarray(saved["bias"], jnp.float32)
    return eqx.tree_at(lambda n: (n.neuron_model.weights, n.neuron_model.ic), network, (weights, bias))


def main(file: str) -> None:
    saved = dict(np.load(file))
    np.save(file + ".peer.npy", measure(build(saved), saved["times"], T1, repeats=1))


if __name__ == "__main__":
    main(sys.argv[1])
