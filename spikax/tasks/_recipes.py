"""Hidden neurons, and how their first weights are drawn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .. import init
from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse
from ..neurons import CalciumDendrite, Dendrite, EGRU, EIF, Izhikevich, LIF, MultiCompartment, QIF


class Recipe(NamedTuple):
    """The neurons of a network, and how their first weights are drawn.

    The strides say how far a step of the optimiser goes, for the weights into the hidden and into the output layer:
    neurons measure their input in different units.

    - `hidden`, `output`: the neurons; the outputs are those whose first spikes name the class.
    - `weights_in`, `weights_out`: how the weights into both layers are drawn.
    - `strides`: how much longer than the learning rate the steps of both are.
    - `weights_read`: how the weights into leaky integrators are drawn, where their voltages name the class.
    """

    hidden: AbstractNeuron
    output: AbstractNeuron
    weights_in: Any
    weights_out: Any
    strides: tuple[float, float] = (1.0, 1.0)
    weights_read: Any = init.normal(0.0, 1.0)


# The bias brings every output across its threshold in the end, whatever its input: none stays silent, and so each has
# a gradient. Only the first spike of an output counts.
RECIPES: Mapping[str, Recipe] = {
    "lif": Recipe(LIF(), LIF(bias=1.5), init.normal(2.5, 1.5), init.normal(0.3, 0.3)),
    "qif": Recipe(QIF(), QIF(bias=2.0), init.normal(10.0, 8.0), init.normal(1.0, 1.0), (5.0, 4.0)),
    "eif": Recipe(EIF(), EIF(bias=1.5), init.normal(2.5, 1.5), init.normal(0.3, 0.3)),
    "izhikevich": Recipe(
        Izhikevich(synapse=ExpSynapse(20.0)), LIF(bias=1.5), init.normal(2.5, 2.5), init.normal(0.3, 0.3), (5.0, 2.0)
    ),
    "egru": Recipe(
        EGRU(),
        EGRU(bias_z=0.6),
        {"u": init.normal(0.0, 0.5), "r": init.normal(0.0, 0.5), "z": init.normal(1.0, 1.0)},
        {"u": init.normal(0.0, 0.5), "r": init.normal(0.0, 0.5), "z": init.normal(0.3, 0.5)},
    ),
    "dendritic": Recipe(
        MultiCompartment(
            LIF(15.0),
            {"dendrite": Dendrite(CalciumDendrite(10.0, 0.0, 2.2, 16.0, t_read=2.0, t_fall=23.0), 0.1, 0.5)},
            synapse={"dendrite": ExpSynapse(3.0), "soma": ExpSynapse(5.0)},
        ),
        LIF(bias=1.5),
        {"dendrite": init.normal(5.5, 3.3), "soma": init.normal(1.1, 1.1)},
        init.normal(0.3, 0.3),
    ),
}

NEURONS = tuple(RECIPES)
