"""The dendritic calcium action potential."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._neuron import Event
from .._synapse import ExpSynapse, Synapse
from .._types import Scalar
from ..constraints import below, parameter, positive
from ._silent import SilentNeuron


# Of the start of an action potential before the first one, in ms.
_LONG_AGO = -1e9


class CalciumDendriteState(eqx.Module):
    """The voltage of the dendrite, and its last calcium action potential."""

    v: Array
    strength: Array  # -1 from the start of an action potential until the voltage is read
    started: Array


class CalciumDendrite(SilentNeuron):
    r"""A dendrite with the calcium action potential of human cortical neurons of layer 2/3.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + w\, K\, (A - B). $$

    An action potential starts as $v$ rises through $v_{threshold}$ or, where $v$ is above it at the end of the
    refractory period, then. It sets in a time $t_{read}$ later, with a strength $K$ that is the smaller, the further
    the input drives the dendrite beyond its threshold by then:

    $$ K \leftarrow \min\Bigl(1, \exp\Bigl(-\frac{1}{\delta}\,
       \frac{v - v_{threshold}}{v_{threshold} - v_{rest}}\Bigr)\Bigr). $$

    A time $s$ after its start the course of the action potential is

    $$ A = \Lambda\Bigl(\frac{s - t_{read}}{\tau_{rise}}\Bigr), \quad
       B = \Lambda\Bigl(\frac{s - t_{fall}}{\tau_{fall}}\Bigr), \qquad
       \Lambda(x) = \frac{1}{1 + 999\, e^{-x}}, $$

    the solutions of $\tau_{rise}\, A' = A (1 - A)$ and of $\tau_{fall}\, B' = B (1 - B)$ that are $10^{-3}$ at
    $t_{read}$ and at $t_{fall}$; the reference has $B = 0$ before $t_{fall}$. $A - B$ peaks with about 0.6 shortly
    after $t_{fall}$. Before $t_{read}$ there is no current: a start ends the last action potential. The voltage is read
    a while after the start, since events are exact here: at the crossing itself, $v$ is $v_{threshold}$ whatever the
    input.

    The dendrite emits no spikes. It is a compartment of `MultiCompartment`.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`, `v_threshold`: the voltages at rest, and at which an action potential starts, in mV.
    - `amplitude`: the current $w$ of a full action potential, in mV as all currents here.
    - `sharpness`: how fast the strength falls with the voltage, $\delta$, a number.
    - `t_read`, `t_fall`, `t_refractory`: when the voltage is read, the fall sets in, and the next action potential may
      start, in ms after the start, in this order. By default the fall sets in 21 ms after the rise, as in humans.
    - `tau_rise`, `tau_fall`: the time constants of rise and fall, in ms.
    - `bias`: a constant current.
    - `synapse`: the filter of the arrivals, for a dendrite on its own.

    ??? cite "Reference"
        A. Gidon et al., *Dendritic action potentials and computation in human layer 2/3 cortical neurons*, Science
        367, 2020; the model is ModelDB 254217.
    """

    tau_mem: Scalar = parameter(10.0, positive)
    v_rest: Scalar = parameter(-75.0, below("v_threshold"))
    v_threshold: Scalar = parameter(-36.0)
    amplitude: Scalar = parameter(200.0)
    sharpness: Scalar = parameter(0.3, positive)
    t_read: Scalar = parameter(1.0, positive, below("t_fall"))
    t_fall: Scalar = parameter(22.0, positive, below("t_refractory"))
    t_refractory: Scalar = parameter(200.0, positive)
    tau_rise: Scalar = parameter(3.0, positive)
    tau_fall: Scalar = parameter(0.4, positive)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    def initial_state(self):
        return CalciumDendriteState(
            v=jnp.asarray(self.v_rest), strength=jnp.asarray(0.0), started=jnp.asarray(_LONG_AGO)
        )

    def dynamics(self, t, state, drive):
        age = t - state.started
        course = _logistic((age - self.t_read) / self.tau_rise) - _logistic((age - self.t_fall) / self.tau_fall)
        calcium = self.amplitude * jnp.where(_waits(state), 0.0, state.strength) * course
        still = jnp.zeros_like(state.v)
        return CalciumDendriteState(
            v=(self.v_rest - state.v + drive + calcium + self.bias) / self.tau_mem, strength=still, started=still
        )

    def receive(self, t, state, weight):
        return dataclasses.replace(state, v=state.v + weight)

    def internal_events(self):
        # One event, since nothing starts while the voltage is still to be read.
        return (Event(self._condition, self._jump),)

    def _condition(self, t, state):
        age = t - state.started
        starts = jnp.minimum(state.v - self.v_threshold, age - self.t_refractory)
        return jnp.where(_waits(state), age - self.t_read, starts)

    def _jump(self, t, state):
        waits = _waits(state)
        excess = (state.v - self.v_threshold) / (self.v_threshold - self.v_rest)
        # The smaller of the exponents, not of the exponentials, which overflow far below the threshold.
        strength = jnp.exp(jnp.minimum(-excess / self.sharpness, 0.0))
        return dataclasses.replace(
            state, strength=jnp.where(waits, strength, -1.0), started=jnp.where(waits, state.started, t)
        )


def _waits(state: CalciumDendriteState) -> Bool[Array, ""]:
    """Whether the voltage is still to be read."""
    return state.strength < -0.5


def _logistic(x: Array) -> Array:
    """The solution of y' = y (1 - y) with y = 0.001 at zero."""
    return jax.nn.sigmoid(x - math.log(999.0))
