"""The Morris–Lecar neuron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import parameter, positive


class MorrisLecarState(eqx.Module):
    """The state: the membrane voltage `v` and the fraction `n` of open potassium channels."""

    v: Array
    n: Array


class MorrisLecar(AbstractNeuron):
    r"""The Morris–Lecar model of the barnacle giant muscle fibre, in mV, ms, µF/cm², mS/cm² and µA/cm².

    $$ C\, v' = -g_{Ca}\, m_\infty(v)\, (v - v_{Ca}) - g_K\, n\, (v - v_K) - g_{leak}\, (v - v_{leak}) + I + b, $$

    $$ n' = \lambda \cosh\!\Big(\frac{v - v_3}{2\, v_4}\Big)\, (n_\infty(v) - n), \qquad
       m_\infty = \tfrac12 + \tfrac12 \tanh \frac{v - v_1}{v_2}, \quad
       n_\infty = \tfrac12 + \tfrac12 \tanh \frac{v - v_3}{v_4}. $$

    A spike is emitted when $v$ rises through $v_{threshold}$. There is no reset: the state is unchanged, and the next
    spike requires that $v$ has fallen below the threshold. An arrival of weight $w$ through a `DeltaSynapse` adds $w$
    to $v$.

    **Arguments:**

    - `capacitance`: the membrane capacitance $C$.
    - `g_calcium`, `g_potassium`, `g_leak`: the maximal conductances.
    - `v_calcium`, `v_potassium`, `v_leak`: the reversal potentials.
    - `v1`, `v2`: the half-activation voltage and the width of the activation curve of the calcium channels.
    - `v3`, `v4`: the same for the potassium channels.
    - `recovery`: the minimal rate $\lambda$ of the potassium channels, in 1/ms.
    - `v_rest`: the initial voltage. The potassium channels start in their steady state at this voltage. The default is
      the resting voltage.
    - `v_threshold`: the voltage at which a spike is emitted.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        C. Morris, H. Lecar, *Voltage oscillations in the barnacle giant muscle fiber*, Biophysical Journal 35(1), 1981;
        with the parameters of J. Rinzel, B. Ermentrout, *Analysis of neural excitability and oscillations*, in C. Koch,
        I. Segev (eds.), *Methods in Neuronal Modeling*, MIT Press, 1998, where firing begins at a Hopf bifurcation.
    """

    capacitance: Scalar = parameter(20.0, positive)
    g_calcium: Scalar = parameter(4.4, positive)
    g_potassium: Scalar = parameter(8.0, positive)
    g_leak: Scalar = parameter(2.0, positive)
    v_calcium: Scalar = parameter(120.0)
    v_potassium: Scalar = parameter(-84.0)
    v_leak: Scalar = parameter(-60.0)
    v1: Scalar = parameter(-1.2)
    v2: Scalar = parameter(18.0, positive)
    v3: Scalar = parameter(2.0)
    v4: Scalar = parameter(30.0, positive)
    recovery: Scalar = parameter(0.04, positive)
    v_rest: Scalar = parameter(-60.855)
    v_threshold: Scalar = parameter(0.0)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    def initial_state(self):
        v = jnp.asarray(self.v_rest)
        return MorrisLecarState(v=v, n=_open(v, self.v3, self.v4))

    def dynamics(self, t, state, drive):
        v, n = state.v, state.n
        calcium = self.g_calcium * _open(v, self.v1, self.v2) * (v - self.v_calcium)
        potassium = self.g_potassium * n * (v - self.v_potassium)
        leak = self.g_leak * (v - self.v_leak)
        rate = self.recovery * jnp.cosh((v - self.v3) / (2.0 * self.v4))
        return MorrisLecarState(
            v=(total(drive) + self.bias - calcium - potassium - leak) / self.capacitance,
            n=rate * (_open(v, self.v3, self.v4) - n),
        )

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return state

    def receive(self, t, state, weight):
        return MorrisLecarState(v=state.v + total_impulse(self.synapse, weight), n=state.n)


def _open(v: Array, middle: Scalar, width: Scalar) -> Array:
    """The fraction of open channels in the steady state."""
    return 0.5 + 0.5 * jnp.tanh((v - middle) / width)
