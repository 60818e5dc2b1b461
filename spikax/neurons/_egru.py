"""The event-based gated recurrent unit, in continuous time."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import require
from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse
from .._types import Scalar
from ..constraints import parameter, positive


class EGRUState(eqx.Module):
    """The value of the cell."""

    c: Array


class EGRUPayload(eqx.Module):
    """What a spike carries: the value of the cell and its reset gate, right before the spike."""

    c: Array
    gate: Array


class EGRU(AbstractNeuron):
    r"""The event-based gated recurrent unit, in continuous time.

    $$ \tau_{mem}\, c' = u\,(z - c), \qquad u = \sigma(a_u + b_u), \quad r = \sigma(a_r + b_r), \quad
       z = \tanh(a_z + b_z), $$

    with the pre-activations $a$ that the three ports of the synapse deliver. As $c$ rises through the threshold, the
    unit spikes, and $c \leftarrow 0$. A spike of a unit with the cell value $c^-$ and the gate $r^-$ right before it
    counts at its targets as

    $$ a_u \leftarrow a_u + w_u\, c^-, \qquad a_r \leftarrow a_r + w_r\, c^-, \qquad
       a_z \leftarrow a_z + w_z\, r^- c^-. $$

    A connection to these units has three weights, `{"u": ..., "r": ..., "z": ...}`, and so has `weights` of the layer.
    Spikes that carry nothing, such as those of an input, count as $c^- = r^- = 1$; other neurons do not mind what the
    spikes of these units carry.

    **Arguments:**

    - `tau_mem`: the time constant of the cell, in ms.
    - `threshold`: the cell value at which the unit spikes, between 0 and 1.
    - `bias_u`, `bias_r`, `bias_z`: the constant parts $b$ of the pre-activations.
    - `synapse`: the filters of the arrivals, with the ports `"u"`, `"r"` and `"z"`.

    ??? cite "Reference"
        A. Subramoney, K. K. Nazeer, M. Schöne, C. Mayr, D. Kappel, *Efficient recurrent architectures through activity
        sparsity and sparse back-propagation through time*, ICLR 2023.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    threshold: Scalar = parameter(0.3, positive)
    bias_u: Scalar = parameter(0.0)
    bias_r: Scalar = parameter(0.0)
    bias_z: Scalar = parameter(0.0)
    synapse: Synapse = eqx.field(default_factory=lambda: {port: ExpSynapse() for port in ("u", "r", "z")})

    def __check_init__(self):
        has_ports = isinstance(self.synapse, dict) and set(self.synapse) == {"u", "r", "z"}
        require(has_ports, "synapse", 'a dictionary with the ports "u", "r" and "z"', self.synapse)

    def initial_state(self):
        return EGRUState(c=jnp.zeros(()))

    def dynamics(self, t, state, drive):
        update = jax.nn.sigmoid(drive["u"] + self.bias_u)
        target = jnp.tanh(drive["z"] + self.bias_z)
        return EGRUState(c=update * (target - state.c) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.c - self.threshold

    def reset(self, t, state):
        return EGRUState(c=jnp.zeros_like(state.c))

    def payload(self, t, state, drive):
        return EGRUPayload(c=state.c, gate=jax.nn.sigmoid(drive["r"] + self.bias_r))

    def gain(self, payload):
        return {"u": payload.c, "r": payload.c, "z": payload.gate * payload.c}
