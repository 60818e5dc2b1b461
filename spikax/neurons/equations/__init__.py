"""Neurons written as text."""

from .neuron import EquationNeuron as EquationNeuron, neuron_from_equations as neuron_from_equations
