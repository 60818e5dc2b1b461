"""The dendritic calcium action potential."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._checks import require_below, require_finite, require_positive
from .._neuron import AbstractNeuron, Event
from .._synapse import ExpSynapse, require_synapse, Synapse
from .._types import Scalar


class CalciumDendriteState(eqx.Module):
    """The voltage of the dendrite, and its calcium action potential."""

    v: Array
    rise: Array
    fall: Array
    strength: Array
    phase: Array  # 0 ready, 1 before the voltage is read, 2 before the fall sets in, 3 until the dendrite is ready
    started: Array  # when the voltage last set off an action potential


class CalciumDendrite(AbstractNeuron):
    r"""A dendrite with the calcium action potential of human cortical neurons of layer 2/3.

    $$ \tau_{mem}\, v' = -(v - v_{rest}) + I + w\, K\, (A - B), \qquad
       \tau_{rise}\, A' = A (1 - A), \qquad \tau_{fall}\, B' = B (1 - B). $$

    As $v$ rises through $v_{threshold}$, unless an action potential is younger than the refractory period, one
    starts. Its strength $K$ is the smaller, the further the input drives the dendrite beyond its threshold:

    $$ A \leftarrow 10^{-3}, \quad B \leftarrow 0, \quad K \leftarrow \min\Bigl(1, \exp\Bigl(-\frac{1}{\delta}\,
       \frac{v - v_{threshold}}{v_{threshold} - v_{rest}}\Bigr)\Bigr) \quad \text{after the time } t_{read}, \qquad
       B \leftarrow 10^{-3} \quad \text{after the time } t_{fall}. $$

    $A - B$ peaks with about 0.6 shortly after $t_{fall}$. The voltage is read a while after the crossing, since events
    are exact here: at the crossing itself, $v$ is $v_{threshold}$ whatever the input.

    The dendrite emits no spikes. It is a compartment of `MultiCompartment`.

    **Arguments:**

    - `tau_mem`: the membrane time constant, in ms.
    - `v_rest`, `v_threshold`: the voltages at rest, and at which an action potential starts, in mV.
    - `amplitude`: the current $w$ of a full action potential, in mV as all currents here.
    - `sharpness`: how fast the strength falls with the voltage, $\delta$, a number.
    - `t_read`, `t_fall`, `t_refractory`: when the voltage is read, the fall sets in, and the next action potential may
      start, in ms after the crossing, in this order. By default the fall sets in 21 ms after the rise, as in humans.
    - `tau_rise`, `tau_fall`: the time constants of rise and fall, in ms.
    - `bias`: a constant current.
    - `synapse`: the filter of the arrivals, for a dendrite on its own.

    ??? cite "Reference"
        A. Gidon et al., *Dendritic action potentials and computation in human layer 2/3 cortical neurons*, Science
        367, 2020; the model is ModelDB 254217.
    """

    tau_mem: Scalar = 10.0
    v_rest: Scalar = -75.0
    v_threshold: Scalar = -36.0
    amplitude: Scalar = 200.0
    sharpness: Scalar = 0.3
    t_read: Scalar = 1.0
    t_fall: Scalar = 22.0
    t_refractory: Scalar = 200.0
    tau_rise: Scalar = 3.0
    tau_fall: Scalar = 0.4
    bias: Scalar = 0.0
    synapse: Synapse = ExpSynapse()

    def __check_init__(self):
        for name in ("tau_mem", "sharpness", "t_read", "t_fall", "t_refractory", "tau_rise", "tau_fall"):
            require_positive(getattr(self, name), name)
        for name in ("v_rest", "v_threshold", "amplitude", "bias"):
            require_finite(getattr(self, name), name)
        require_below(self.v_rest, self.v_threshold, "v_rest", "v_threshold")
        require_below(self.t_read, self.t_fall, "t_read", "t_fall")
        require_below(self.t_fall, self.t_refractory, "t_fall", "t_refractory")
        require_synapse(self.synapse)

    def initial_state(self):
        zero = jnp.asarray(0.0)
        return CalciumDendriteState(
            jnp.asarray(self.v_rest), rise=zero, fall=zero, strength=zero, phase=zero, started=zero
        )

    def dynamics(self, t, state, drive):
        calcium = self.amplitude * state.strength * (state.rise - state.fall)
        still = jnp.zeros_like(state.v)
        return CalciumDendriteState(
            v=(self.v_rest - state.v + drive + calcium + self.bias) / self.tau_mem,
            rise=state.rise * (1.0 - state.rise) / self.tau_rise,
            fall=state.fall * (1.0 - state.fall) / self.tau_fall,
            strength=still,
            phase=still,
            started=still,
        )

    def spike_condition(self, t, state):
        return -jnp.ones_like(state.v)

    def reset(self, t, state):
        return state

    def receive(self, t, state, weight):
        return dataclasses.replace(state, v=state.v + weight)

    def internal_events(self):
        def after(phase, delay, jump):
            """The event a time `delay` after the start, in the given phase."""
            return Event(lambda t, state: jnp.where(_is_in(state, phase), t - state.started - delay, -1.0), jump)

        return (
            Event(lambda t, state: state.v - self.v_threshold, self._start),
            after(1.0, self.t_read, self._read),
            after(2.0, self.t_fall, self._fall),
            after(3.0, self.t_refractory, lambda t, state: dataclasses.replace(state, phase=0.0)),
        )

    def _start(self, t, state):
        # A crossing within the refractory period counts for nothing; it has to be one from below afterwards.
        is_ready = _is_in(state, 0.0)
        return dataclasses.replace(
            state, phase=jnp.where(is_ready, 1.0, state.phase), started=jnp.where(is_ready, t, state.started)
        )

    def _read(self, t, state):
        excess = (state.v - self.v_threshold) / (self.v_threshold - self.v_rest)
        # The smaller of the exponents, not of the exponentials, which overflow far below the threshold.
        strength = jnp.exp(jnp.minimum(-excess / self.sharpness, 0.0))
        return dataclasses.replace(state, rise=1e-3, fall=0.0, strength=strength, phase=2.0)

    def _fall(self, t, state):
        return dataclasses.replace(state, fall=1e-3, phase=3.0)


def _is_in(state: CalciumDendriteState, phase: float) -> Bool[Array, ""]:
    return jnp.abs(state.phase - phase) < 0.5
