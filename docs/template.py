"""A template: the adaptive leaky integrate-and-fire neuron. Copy it, and change the equations."""

import equinox as eqx
import jax
import jax.numpy as jnp

import spikax as sx


class AdaptingState(eqx.Module):
    """The voltage, and the adaptation current."""

    v: jax.Array
    w: jax.Array


class Adapting(sx.AbstractNeuron):
    """tau_mem v' = I - v - w, tau_w w' = -w; v <- 0 and w <- w + step when v rises through 1."""

    # A number is a constant. An array, of shape () or with one value per neuron, is trained.
    tau_mem: sx.Scalar = sx.parameter(20.0, sx.constraints.positive)
    tau_w: sx.Scalar = sx.parameter(100.0, sx.constraints.positive)
    step: sx.Scalar = sx.parameter(0.2)
    synapse: sx.Synapse = sx.ExpSynapse(tau=5.0)

    def initial_state(self):
        return AdaptingState(v=jnp.asarray(0.0), w=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return AdaptingState(v=(drive - state.v - state.w) / self.tau_mem, w=-state.w / self.tau_w)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return AdaptingState(v=jnp.zeros_like(state.v), w=state.w + self.step)
