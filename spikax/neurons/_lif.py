"""Integrators, with and without leak, with and without spikes."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse
from .._types import Scalar
from ..constraints import below, parameter, positive
from ._silent import SilentNeuron


class LIFState(eqx.Module):
    """The membrane voltage."""

    v: Array


class LIF(AbstractNeuron):
    r"""The leaky integrate-and-fire neuron.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + b, \qquad v \leftarrow v_{reset} \text{ as } v \text{ rises through }
       v_{threshold}, $$

    with the current $I$ that the synapse delivers. An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`: the voltage at rest.
    - `v_threshold`: the voltage at which the neuron spikes.
    - `v_reset`: the voltage after a spike, below the threshold.
    - `bias`: a constant current $b$.
    - `synapse`: the filter of the arrivals.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 1.3.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    v_rest: Scalar = parameter(0.0)
    v_threshold: Scalar = parameter(1.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Else a spike would set off another."))
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return LIFState(v=jnp.asarray(self.v_rest))

    def dynamics(self, t, state, drive):
        return LIFState(v=(self.v_rest - state.v + drive + self.bias) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return LIFState(v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return LIFState(v=state.v + weight)


class IF(AbstractNeuron):
    r"""The perfect integrator: integrate-and-fire without a leak.

    $$ \tau_{mem}\, v' = I + b, \qquad v \leftarrow v_{reset} \text{ as } v \text{ rises through } v_{threshold}. $$

    Without a leak there is no rest: the neuron starts at $v_{reset}$. An arrival of weight $w$ through a
    `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: how slowly the membrane charges, in ms: a current of one raises $v$ by one in this time.
    - `v_threshold`: the voltage at which the neuron spikes.
    - `v_reset`: the voltage at the start and after a spike, below the threshold.
    - `bias`: a constant current $b$.
    - `synapse`: the filter of the arrivals.

    ??? cite "Reference"
        L. F. Abbott, *Lapicque's introduction of the integrate-and-fire model neuron (1907)*, Brain Research Bulletin
        50(5-6), 1999.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    v_threshold: Scalar = parameter(1.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Else a spike would set off another."))
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return LIFState(v=jnp.asarray(self.v_reset))

    def dynamics(self, t, state, drive):
        return LIFState(v=(drive + self.bias) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return LIFState(v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return LIFState(v=state.v + weight)


class LI(SilentNeuron):
    r"""The leaky integrator: it never spikes, and serves as a readout of voltages.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + b. $$

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`: the voltage at rest.
    - `bias`: a constant current $b$.
    - `synapse`: the filter of the arrivals.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    v_rest: Scalar = parameter(0.0)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return LIFState(v=jnp.asarray(self.v_rest))

    def dynamics(self, t, state, drive):
        return LIFState(v=(self.v_rest - state.v + drive + self.bias) / self.tau_mem)

    def receive(self, t, state, weight):
        return LIFState(v=state.v + weight)
