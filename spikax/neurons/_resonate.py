"""The resonate-and-fire neuron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse
from .._types import Scalar
from ..constraints import below, parameter, positive


class ResonateAndFireState(eqx.Module):
    """The real and the imaginary part of the state: a current-like and a voltage-like variable."""

    u: Array
    v: Array


class ResonateAndFire(AbstractNeuron):
    r"""The resonate-and-fire neuron: its voltage rings, and input in time with that makes it spike.

    With the complex number $z = u + i\,v$,

    $$ z' = \Bigl(-\frac{1}{\tau_{mem}} + i\,\omega\Bigr)\, z + \frac{I + b}{\tau_{mem}}, \qquad
       \omega = \frac{2\pi}{T}, $$

    that is $\tau_{mem}\, u' = -u - \tau_{mem}\,\omega\, v + I + b$ and
    $\tau_{mem}\, v' = -v + \tau_{mem}\,\omega\, u$, and

    $$ z \leftarrow u_{reset} + i\,v_{reset} \qquad \text{as } v \text{ rises through } v_{threshold}. $$

    Two arrivals a period apart can make it spike where two that are half a period apart do not, and so can inhibition,
    by the rebound. An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $u$. In the reference the reset leaves
    the neuron on its threshold, $z \leftarrow i$; here the voltage falls to a value below it.

    **Arguments:**

    - `tau_mem`: the time constant with which the oscillation fades, in ms.
    - `period`: how long an oscillation lasts, $T$, in ms.
    - `v_threshold`: the voltage at which the neuron spikes.
    - `u_reset`, `v_reset`: the state after a spike, with the voltage below the threshold.
    - `bias`: a constant current $b$.
    - `synapse`: the filter of the arrivals.

    ??? cite "Reference"
        E. M. Izhikevich, *Resonate-and-fire neurons*, Neural Networks 14(6-7), 2001.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    period: Scalar = parameter(20.0, positive)
    v_threshold: Scalar = parameter(1.0)
    u_reset: Scalar = parameter(0.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Else a spike would set off another."))
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return ResonateAndFireState(u=jnp.asarray(0.0), v=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        omega = 2.0 * jnp.pi / self.period
        return ResonateAndFireState(
            u=(drive + self.bias - state.u) / self.tau_mem - omega * state.v,
            v=omega * state.u - state.v / self.tau_mem,
        )

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return ResonateAndFireState(u=jnp.asarray(self.u_reset), v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return ResonateAndFireState(u=state.u + weight, v=state.v)
