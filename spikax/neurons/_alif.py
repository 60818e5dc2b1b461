"""The leaky integrate-and-fire neuron with an adaptive threshold."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter, positive


class ALIFState(eqx.Module):
    """The state: the membrane voltage `v` and the increase `a` of the threshold."""

    v: Array
    a: Array


class ALIF(AbstractNeuron):
    r"""The adaptive leaky integrate-and-fire neuron. Each spike raises its threshold, which then decays.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + b, \qquad \tau_{adapt}\, a' = -a, $$

    $$ v \leftarrow v_{reset}, \quad a \leftarrow a + \beta \qquad
       \text{as } v \text{ rises through } v_{threshold} + a. $$

    An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `tau_adapt`: the time constant of the threshold's decay, in ms.
    - `v_rest`: the resting voltage.
    - `v_threshold`: the baseline threshold.
    - `v_reset`: the voltage after a spike, below `v_threshold`.
    - `increment`: the increment $\beta$ of the threshold at a spike.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        G. Bellec, D. Salaj, A. Subramoney, R. Legenstein, W. Maass, *Long short-term memory and learning-to-learn in
        networks of spiking neurons*, Advances in Neural Information Processing Systems 31, 2018.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    tau_adapt: Scalar = parameter(200.0, positive)
    v_rest: Scalar = parameter(0.0)
    v_threshold: Scalar = parameter(1.0)
    v_reset: Scalar = parameter(0.0, below("v_threshold", "Otherwise each spike would trigger another one."))
    increment: Scalar = parameter(0.2)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        v = jnp.asarray(self.v_rest)
        return ALIFState(v=v, a=jnp.zeros_like(v))

    def dynamics(self, t, state, drive):
        return ALIFState(
            v=(self.v_rest - state.v + total(drive) + self.bias) / self.tau_mem, a=-state.a / self.tau_adapt
        )

    def spike_condition(self, t, state):
        return state.v - self.v_threshold - state.a

    def reset(self, t, state):
        return ALIFState(v=jnp.asarray(self.v_reset), a=state.a + self.increment)

    def receive(self, t, state, weight):
        return ALIFState(v=state.v + total_impulse(self.synapse, weight), a=state.a)
