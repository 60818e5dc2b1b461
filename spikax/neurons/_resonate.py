"""The resonate-and-fire neuron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter, positive


class ResonateAndFireState(eqx.Module):
    """The state: a current-like variable `u` and a voltage-like variable `v`."""

    u: Array
    v: Array


class ResonateAndFire(AbstractNeuron):
    r"""The resonate-and-fire neuron, with damped subthreshold oscillations.

    With the complex number $z = u + i\,v$,

    $$ z' = \Bigl(-\frac{1}{\tau_{mem}} + i\,\omega\Bigr)\, z + \frac{I + b}{\tau_{mem}}, \qquad
       \omega = \frac{2\pi}{T}, $$

    that is $\tau_{mem}\, u' = -u - \tau_{mem}\,\omega\, v + I + b$ and
    $\tau_{mem}\, v' = -v + \tau_{mem}\,\omega\, u$, and

    $$ z \leftarrow u_{reset} + i\,v_{reset} \qquad \text{as } v \text{ rises through } v_{threshold}. $$

    Two arrivals one period apart can trigger a spike where two arrivals half a period apart do not. Inhibition can
    trigger a rebound spike. An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $u$. In the reference, the
    reset $z \leftarrow i$ leaves the neuron on its threshold. Here the voltage must be reset below it.

    **Arguments:**

    - `tau_mem`: the time constant of the damping, in ms.
    - `period`: the period $T$ of the oscillation, in ms.
    - `v_threshold`: the voltage at which the neuron spikes.
    - `u_reset`, `v_reset`: the state after a spike, with `v_reset` below `v_threshold`.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        E. M. Izhikevich, *Resonate-and-fire neurons*, Neural Networks 14(6-7), 2001.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    period: Scalar = parameter(20.0, positive)
    v_threshold: Scalar = parameter(1.0)
    u_reset: Scalar = parameter(0.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Otherwise each spike would trigger another one."))
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
            u=(total(drive) + self.bias - state.u) / self.tau_mem - omega * state.v,
            v=omega * state.u - state.v / self.tau_mem,
        )

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return ResonateAndFireState(u=jnp.asarray(self.u_reset), v=jnp.asarray(self.v_reset))

    def receive(self, t, state, weight):
        return ResonateAndFireState(u=state.u + total_impulse(self.synapse, weight), v=state.v)
