"""Neurons that never spike."""

import jax.numpy as jnp

from .._neuron import AbstractNeuron


class SilentNeuron(AbstractNeuron):
    """Base class of neurons that never spike: readouts, or compartments of [`spikax.MultiCompartment`][].

    Its spikes need no root search. As a compartment it only adds its dynamics.
    """

    def spike_condition(self, t, state):
        return -jnp.ones_like(t)

    def reset(self, t, state):
        return state

    @property
    def can_spike(self):
        return False
