"""The event-based gated recurrent unit (EGRU) in continuous time."""

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
    """The state: the cell value `c`."""

    c: Array


class EGRUPayload(eqx.Module):
    """The payload of a spike: the cell value `c` and the reset gate `gate`, right before the spike."""

    c: Array
    gate: Array


class EGRU(AbstractNeuron):
    r"""The event-based gated recurrent unit (EGRU) in continuous time.

    $$ \tau_{mem}\, c' = u\,(z - c), \qquad u = \sigma(a_u + b_u), \quad r = \sigma(a_r + b_r), \quad
       z = \tanh(a_z + b_z), $$

    where the pre-activations $a$ are the drives of the three ports of the synapse. The unit spikes when $c$ rises
    through the threshold, and $c \leftarrow 0$. A spike transmits the cell value $c^-$ and the gate $r^-$ right before
    it. At a target, it causes

    $$ a_u \leftarrow a_u + w_u\, c^-, \qquad a_r \leftarrow a_r + w_r\, c^-, \qquad
       a_z \leftarrow a_z + w_z\, r^- c^-. $$

    A connection to these units has three weights, `{"u": ..., "r": ..., "z": ...}`, and so has `weights` of the layer.
    Spikes without a payload, such as input spikes, count as $c^- = r^- = 1$. Other neuron models ignore the payload.

    **Arguments:**

    - `tau_mem`: the time constant of the cell value, in ms.
    - `threshold`: the cell value at which the unit spikes, between 0 and 1.
    - `bias_u`, `bias_r`, `bias_z`: the biases $b$ of the gates and of the target.
    - `synapse`: a dictionary of synapses with the ports `"u"`, `"r"` and `"z"`.

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
