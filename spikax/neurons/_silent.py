"""Neurons that never spike."""

import jax.numpy as jnp

from .._neuron import AbstractNeuron


class SilentNeuron(AbstractNeuron):
    """A neuron that never spikes: a readout, or a compartment of [`spikax.MultiCompartment`][].

    To a cell, such a compartment costs nothing but its motion: nobody has to look out for its spikes.
    """

    def spike_condition(self, t, state):
        return -jnp.ones_like(t)

    def reset(self, t, state):
        return state
