"""Integrate-and-fire neurons with and without leak, and the leaky integrator."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter, positive
from ._silent import SilentNeuron


class LIFState(eqx.Module):
    """The state: the membrane voltage `v`."""

    v: Array


class LIF(AbstractNeuron):
    r"""The leaky integrate-and-fire neuron.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + b, \qquad v \leftarrow v_{reset} \text{ as } v \text{ rises through }
       v_{threshold}, $$

    where the current $I$ is the drive. An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`: the resting voltage.
    - `v_threshold`: the voltage at which the neuron spikes.
    - `v_reset`: the voltage after a spike, below `v_threshold`.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 1.3.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    v_rest: Scalar = parameter(0.0)
    v_threshold: Scalar = parameter(1.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Otherwise each spike would trigger another one."))
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return LIFState(v=jnp.asarray(self.v_rest))

    def dynamics(self, t, state, drive):
        return LIFState(v=(self.v_rest - state.v + total(drive) + self.bias) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return LIFState(v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return LIFState(v=state.v + total_impulse(self.synapse, weight))


class IF(AbstractNeuron):
    r"""The perfect integrate-and-fire neuron, without a leak.

    $$ \tau_{mem}\, v' = I + b, \qquad v \leftarrow v_{reset} \text{ as } v \text{ rises through } v_{threshold}. $$

    There is no resting voltage: the neuron starts at $v_{reset}$. An arrival of weight $w$ through a
    `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the time in which a current of one raises $v$ by one, in ms.
    - `v_threshold`: the voltage at which the neuron spikes.
    - `v_reset`: the initial voltage and the voltage after a spike, below `v_threshold`.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        L. F. Abbott, *Lapicque's introduction of the integrate-and-fire model neuron (1907)*, Brain Research Bulletin
        50(5-6), 1999.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    v_threshold: Scalar = parameter(1.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Otherwise each spike would trigger another one."))
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return LIFState(v=jnp.asarray(self.v_reset))

    def dynamics(self, t, state, drive):
        return LIFState(v=(total(drive) + self.bias) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return LIFState(v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return LIFState(v=state.v + total_impulse(self.synapse, weight))


class LI(SilentNeuron):
    r"""The leaky integrator, which never spikes. It serves as a voltage readout.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + b. $$

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`: the resting voltage.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.
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
        return LIFState(v=(self.v_rest - state.v + total(drive) + self.bias) / self.tau_mem)

    def receive(self, t, state, weight):
        return LIFState(v=state.v + total_impulse(self.synapse, weight))


class Integrator(SilentNeuron):
    r"""The perfect integrator, without a leak, which never spikes.

    $$ \tau_{mem}\, v' = I + b, \qquad v(t_0) = 0. $$

    **Arguments:**

    - `tau_mem`: the time in which a current of one raises $v$ by one, in ms.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return LIFState(v=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return LIFState(v=(total(drive) + self.bias) / self.tau_mem)

    def receive(self, t, state, weight):
        return LIFState(v=state.v + total_impulse(self.synapse, weight))
