"""The dendritic calcium action potential."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._neuron import Event
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter, positive
from ._silent import SilentNeuron


# The initial value of `started`, in ms: no action potential has occurred yet.
_LONG_AGO = -1e9


class CalciumDendriteState(eqx.Module):
    """The state: the voltage `v`, and strength and start time of the last calcium action potential."""

    v: Array
    strength: Array  # -1 between the start of an action potential and the time at which the voltage is read
    started: Array


class CalciumDendrite(SilentNeuron):
    r"""A dendrite with the calcium action potential of human layer 2/3 cortical neurons.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + b + w\, K\, (A - B). $$

    An action potential starts when $v$ rises through $v_{threshold}$, or at the end of the refractory period if $v$ is
    above $v_{threshold}$ then. At a time $t_{read}$ after the start, the voltage determines its strength $K$, which
    decreases with the excess over the threshold:

    $$ K \leftarrow \min\Bigl(1, \exp\Bigl(-\frac{1}{\delta}\,
       \frac{v - v_{threshold}}{v_{threshold} - v_{rest}}\Bigr)\Bigr). $$

    At a time $s$ after the start, the time course of the action potential is $A - B$ with

    $$ A = \Lambda\Bigl(\frac{s - t_{read}}{\tau_{rise}}\Bigr), \quad
       B = \Lambda\Bigl(\frac{s - t_{fall}}{\tau_{fall}}\Bigr), \qquad
       \Lambda(x) = \frac{1}{1 + 999\, e^{-x}}. $$

    These are the solutions of $\tau_{rise}\, A' = A (1 - A)$ and $\tau_{fall}\, B' = B (1 - B)$ with the value
    $10^{-3}$ at $t_{read}$ and $t_{fall}$. In the reference, $B = 0$ before $t_{fall}$. $A - B$ has a peak of about 0.6
    shortly after $t_{fall}$. Before $t_{read}$ the calcium current is zero, so a start ends the previous action
    potential. The voltage is read after the start and not at it, because events are located exactly: at the crossing,
    $v$ equals $v_{threshold}$ for every input.

    The dendrite emits no spikes. Use it as a compartment of [`spikax.MultiCompartment`][].

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`, `v_threshold`: the resting voltage, and the voltage at which an action potential starts, in mV.
    - `amplitude`: the current $w$ of an action potential of strength one. Currents are in mV.
    - `width`: the dimensionless width $\delta$ of the decrease of the strength with the voltage.
    - `t_read`, `t_fall`, `t_refractory`: the times, in ms after the start, at which the voltage is read, the fall
      begins, and the next action potential may start. They must be in ascending order. By default the fall begins 21 ms
      after the rise, as in humans.
    - `tau_rise`, `tau_fall`: the time constants of rise and fall, in ms.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model. It is used only if the dendrite is not part of a `MultiCompartment`.

    ??? cite "Reference"
        A. Gidon et al., *Dendritic action potentials and computation in human layer 2/3 cortical neurons*, Science
        367, 2020; the model is ModelDB 254217.
    """

    tau_mem: Scalar = parameter(10.0, positive)
    v_rest: Scalar = parameter(-75.0, below("v_threshold"))
    v_threshold: Scalar = parameter(-36.0)
    amplitude: Scalar = parameter(200.0)
    width: Scalar = parameter(0.3, positive)
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
            v=(self.v_rest - state.v + total(drive) + calcium + self.bias) / self.tau_mem, strength=still, started=still
        )

    def receive(self, t, state, weight):
        return dataclasses.replace(state, v=state.v + total_impulse(self.synapse, weight))

    def internal_events(self):
        # A single event suffices: no action potential starts while the voltage is still to be read.
        return (Event(self._condition, self._jump),)

    def _condition(self, t, state):
        age = t - state.started
        starts = jnp.minimum(state.v - self.v_threshold, age - self.t_refractory)
        return jnp.where(_waits(state), age - self.t_read, starts)

    def _jump(self, t, state):
        waits = _waits(state)
        excess = (state.v - self.v_threshold) / (self.v_threshold - self.v_rest)
        # Limit the exponent, not the exponential, which overflows far below the threshold.
        strength = jnp.exp(jnp.minimum(-excess / self.width, 0.0))
        return dataclasses.replace(
            state, strength=jnp.where(waits, strength, -1.0), started=jnp.where(waits, state.started, t)
        )


def _waits(state: CalciumDendriteState) -> Bool[Array, ""]:
    """Whether the voltage is still to be read."""
    return state.strength < -0.5


def _logistic(x: Array) -> Array:
    """The solution of y' = y (1 - y) with y = 0.001 at zero."""
    return jax.nn.sigmoid(x - math.log(999.0))
