"""The exponential integrate-and-fire neuron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter, positive


class EIFState(eqx.Module):
    """The state: the membrane voltage `v`."""

    v: Array


class EIF(AbstractNeuron):
    r"""The exponential integrate-and-fire neuron.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + \Delta\, e^{(v - v_{rheobase}) / \Delta} + I + b, \qquad
       v \leftarrow v_{reset} \text{ as } v \text{ rises through } v_{peak}. $$

    An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`: the resting voltage.
    - `v_rheobase`: the rheobase threshold: the highest stationary voltage under a constant current.
    - `slope_factor`: the slope factor $\Delta$ of spike initiation, a voltage, often written $\Delta_T$.
    - `v_peak`: the voltage at which a spike is emitted.
    - `v_reset`: the voltage after a spike, below `v_peak`.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        N. Fourcaud-Trocmé, D. Hansel, C. van Vreeswijk, N. Brunel, *How spike generation mechanisms determine the
        neuronal response to fluctuating inputs*, Journal of Neuroscience 23(37), 2003.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    v_rest: Scalar = parameter(0.0)
    v_rheobase: Scalar = parameter(1.0)
    slope_factor: Scalar = parameter(0.2, positive)
    v_peak: Scalar = parameter(2.0)
    v_reset: Scalar = parameter(0.0, below("v_peak", "Otherwise each spike would trigger another one."))
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    def initial_state(self):
        return EIFState(v=jnp.asarray(self.v_rest))

    def dynamics(self, t, state, drive):
        escape = self.slope_factor * jnp.exp((state.v - self.v_rheobase) / self.slope_factor)
        return EIFState(v=(self.v_rest - state.v + escape + total(drive) + self.bias) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - self.v_peak

    def reset(self, t, state):
        return EIFState(v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return EIFState(v=state.v + total_impulse(self.synapse, weight))
