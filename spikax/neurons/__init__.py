"""Neuron models, one family per file."""

from ._adex import AdEx as AdEx, AdExState as AdExState
from ._alif import ALIF as ALIF, ALIFState as ALIFState
from ._calcium import CalciumDendrite as CalciumDendrite, CalciumDendriteState as CalciumDendriteState
from ._compartments import Dendrite as Dendrite, MultiCompartment as MultiCompartment
from ._conductance import ConductanceBased as ConductanceBased
from ._egru import EGRU as EGRU, EGRUPayload as EGRUPayload, EGRUState as EGRUState
from ._eif import EIF as EIF, EIFState as EIFState
from ._hodgkin_huxley import HodgkinHuxley as HodgkinHuxley, HodgkinHuxleyState as HodgkinHuxleyState
from ._izhikevich import Izhikevich as Izhikevich, IzhikevichState as IzhikevichState
from ._lif import IF as IF, Integrator as Integrator, LI as LI, LIF as LIF, LIFState as LIFState
from ._morris_lecar import MorrisLecar as MorrisLecar, MorrisLecarState as MorrisLecarState
from ._qif import QIF as QIF, QIFState as QIFState
from ._resonate import ResonateAndFire as ResonateAndFire, ResonateAndFireState as ResonateAndFireState
from ._silent import SilentNeuron as SilentNeuron
from ._wrappers import (
    FilteredBias as FilteredBias,
    FilteredBiasState as FilteredBiasState,
    Refractory as Refractory,
    RefractoryState as RefractoryState,
    SingleSpike as SingleSpike,
    SingleSpikeState as SingleSpikeState,
    Threshold as Threshold,
    ThresholdState as ThresholdState,
)
