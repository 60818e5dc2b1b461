"""The adaptive exponential integrate-and-fire neuron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter, positive


class AdExState(eqx.Module):
    """The state: the membrane voltage `v` and the adaptation current `w`."""

    v: Array
    w: Array


class AdEx(AbstractNeuron):
    r"""The adaptive exponential integrate-and-fire neuron.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + \Delta\, e^{(v - v_{rheobase}) / \Delta} - w + I + b, \qquad
       \tau_{adapt}\, w' = a\, (v - v_{rest}) - w, $$

    $$ v \leftarrow v_{reset}, \quad w \leftarrow w + \beta \qquad \text{as } v \text{ rises through } v_{peak}. $$

    Voltages are in mV. Currents are divided by the leak conductance, so they are in mV too. The defaults are the
    parameters of the reference: a capacitance of 281 pF, a leak of 30 nS, $a$ = 4 nS and $\beta$ = 80.5 pA. An arrival
    of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `tau_adapt`: the time constant of the adaptation, in ms.
    - `v_rest`: the resting voltage.
    - `v_rheobase`: the rheobase threshold: the highest stationary voltage under a constant current.
    - `slope_factor`: the slope factor $\Delta$ of spike initiation, a voltage, often written $\Delta_T$.
    - `v_peak`: the voltage at which a spike is emitted. From there, $v$ would reach infinity within about
      $\tau_{mem}\, e^{-(v_{peak} - v_{rheobase}) / \Delta}$. A higher peak moves spikes by less than this time, and
      requires shorter steps.
    - `v_reset`: the voltage after a spike, below `v_peak`.
    - `coupling`: the subthreshold adaptation $a$, relative to the leak conductance.
    - `increment`: the increment $\beta$ of the adaptation current at a spike.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        R. Brette, W. Gerstner, *Adaptive exponential integrate-and-fire model as an effective description of neuronal
        activity*, Journal of Neurophysiology 94(5), 2005.
    """

    tau_mem: Scalar = parameter(9.37, positive)
    tau_adapt: Scalar = parameter(144.0, positive)
    v_rest: Scalar = parameter(-70.6)
    v_rheobase: Scalar = parameter(-50.4)
    slope_factor: Scalar = parameter(2.0, positive)
    v_peak: Scalar = parameter(-40.4)
    v_reset: Scalar = parameter(-70.6, below("v_peak", "Otherwise each spike would trigger another one."))
    coupling: Scalar = parameter(0.133)
    increment: Scalar = parameter(2.68)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    def initial_state(self):
        v = jnp.asarray(self.v_rest)
        return AdExState(v=v, w=jnp.zeros_like(v))

    def dynamics(self, t, state, drive):
        escape = self.slope_factor * jnp.exp((state.v - self.v_rheobase) / self.slope_factor)
        v = (self.v_rest - state.v + escape - state.w + total(drive) + self.bias) / self.tau_mem
        return AdExState(v=v, w=(self.coupling * (state.v - self.v_rest) - state.w) / self.tau_adapt)

    def spike_condition(self, t, state):
        return state.v - self.v_peak

    def reset(self, t, state):
        return AdExState(v=jnp.asarray(self.v_reset), w=state.w + self.increment)

    def receive(self, t, state, weight):
        return AdExState(v=state.v + total_impulse(self.synapse, weight), w=state.w)
