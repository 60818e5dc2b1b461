"""The exponential integrate-and-fire neuron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import require_below, require_finite, require_positive
from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, require_synapse, Synapse
from .._types import Scalar


class EIFState(eqx.Module):
    """The membrane voltage."""

    v: Array


class EIF(AbstractNeuron):
    r"""The exponential integrate-and-fire neuron.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + \Delta\, e^{(v - v_{rheobase}) / \Delta} + I + b, \qquad
       v \leftarrow v_{reset} \text{ as } v \text{ rises through } v_{peak}. $$

    An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`: the voltage at rest.
    - `v_rheobase`: the voltage beyond which the membrane escapes by itself.
    - `sharpness`: the slope factor $\Delta$ of the escape, a voltage.
    - `v_peak`: the voltage at which the spike is counted.
    - `v_reset`: the voltage after a spike, below the peak.
    - `bias`: a constant current $b$.
    - `synapse`: the filter of the arrivals.

    ??? cite "Reference"
        N. Fourcaud-Trocmé, D. Hansel, C. van Vreeswijk, N. Brunel, *How spike generation mechanisms determine the
        neuronal response to fluctuating inputs*, Journal of Neuroscience 23(37), 2003.
    """

    tau_mem: Scalar = 20.0
    v_rest: Scalar = 0.0
    v_rheobase: Scalar = 1.0
    sharpness: Scalar = 0.2
    v_peak: Scalar = 2.0
    v_reset: Scalar = 0.0
    bias: Scalar = 0.0
    synapse: Synapse = ExpSynapse()

    def __check_init__(self):
        require_positive(self.tau_mem, "tau_mem")
        require_positive(self.sharpness, "sharpness")
        for name in ("v_rest", "v_rheobase", "v_peak", "v_reset", "bias"):
            require_finite(getattr(self, name), name)
        require_below(self.v_reset, self.v_peak, "v_reset", "v_peak", "Else a spike would set off another.")
        require_synapse(self.synapse)

    def initial_state(self):
        return EIFState(v=jnp.asarray(self.v_rest))

    def dynamics(self, t, state, drive):
        escape = self.sharpness * jnp.exp((state.v - self.v_rheobase) / self.sharpness)
        return EIFState(v=(self.v_rest - state.v + escape + drive + self.bias) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.v - self.v_peak

    def reset(self, t, state):
        return EIFState(v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return EIFState(v=state.v + weight)
