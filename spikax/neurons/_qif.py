"""The quadratic integrate-and-fire neuron."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._held import held
from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse
from .._types import Scalar
from ..constraints import parameter, positive


class QIFState(eqx.Module):
    """The phase of the membrane, from 0 right after a spike to 1 at the next."""

    phi: Array

    @property
    def v(self) -> Array:
        """The membrane voltage, infinite at a spike."""
        return -math.pi / jnp.tan(math.pi * self.phi)


class QIF(AbstractNeuron):
    r"""The quadratic integrate-and-fire neuron, in its phase form.

    The voltage follows $\tau_{mem}\, V' = V (V - 1) + I + b$, rises to infinity at a spike, and returns from minus
    infinity. The phase $\varphi$ with $V = \pi \tan(\pi (\varphi - 1/2))$ passes through a spike smoothly:

    $$ \tau_{mem}\, \varphi' = \cos^2 \pi\varphi + \tfrac{1}{\pi} \cos \pi\varphi \sin \pi\varphi
       + \tfrac{1}{\pi^2} \sin^2 \pi\varphi\, (I + b), \qquad
       \varphi \leftarrow 0 \text{ as } \varphi \text{ rises through } 1. $$

    The resting voltage is 0 ($\varphi = 1/2$). An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $V$.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `bias`: a constant current $b$.
    - `synapse`: the filter of the arrivals.

    ??? cite "Reference"
        C. Klos, R.-M. Memmesheimer, *Smooth exact gradient descent learning in spiking neural networks*, 2023,
        arXiv:2309.14523.
    """

    tau_mem: Scalar = parameter(20.0, positive)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    def initial_state(self):
        return QIFState(phi=jnp.asarray(0.5))

    def dynamics(self, t, state, drive):
        # The squares as cosines of the double angle: one sine and one cosine in all.
        cosine, sine = _circle(state.phi, t)
        leak = 0.5 * (1.0 + cosine) + sine * (0.5 / math.pi)
        return QIFState(phi=(leak + (1.0 - cosine) * (0.5 / math.pi**2) * (drive + self.bias)) / self.tau_mem)

    def spike_condition(self, t, state):
        return state.phi - 1.0

    def reset(self, t, state):
        return QIFState(phi=jnp.zeros_like(state.phi))

    def receive(self, t, state, weight):
        # V + w = pi tan(pi (phi - 1/2)), written so that it holds at phi = 0 and 1 too.
        sine, cosine = jnp.sin(math.pi * state.phi), jnp.cos(math.pi * state.phi)
        return QIFState(phi=0.5 + jnp.arctan2(weight / math.pi * sine - cosine, sine) / math.pi)


@jax.custom_jvp
def _circle(turns: Array, t: Array) -> tuple[Array, Array]:
    """Cosine and sine of an angle in turns, each computed once for a step and its derivative.

    They are most of the work of a step. By their power series up to a quarter turn, and the formulas of the double
    angle, a simulation takes less than half of the time on CPUs; the error is five units of the last place.
    """
    half = math.pi * (turns - jnp.round(turns))
    square = half * half
    # The first term left out is below a hundredth of the float's precision.
    terms = 7 if jnp.finfo(turns.dtype).bits <= 32 else 12
    sine, cosine = jnp.zeros_like(turns), jnp.zeros_like(turns)
    for n in reversed(range(terms)):
        sine = (-1) ** n / math.factorial(2 * n + 1) + square * sine
        cosine = (-1) ** n / math.factorial(2 * n) + square * cosine
    sine = half * sine
    return held(1.0 - 2.0 * sine * sine, t), held(2.0 * sine * cosine, t)


@_circle.defjvp
def _circle_jvp(primals, tangents):
    cosine, sine = _circle(*primals)
    turn = 2.0 * math.pi * tangents[0]
    return (cosine, sine), (-sine * turn, cosine * turn)
