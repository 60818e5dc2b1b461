"""Event-based spiking neural networks in continuous time, with exact gradients."""

from . import _interrupted as _interrupted  # before all that takes time


# isort: split
from . import (
    constraints as constraints,
    datasets as datasets,
    encode as encode,
    init as init,
    losses as losses,
    plot as plot,
    silence as silence,
    train as train,
)
from ._check_neuron import check_neuron as check_neuron
from ._connection import (
    AbstractConnection as AbstractConnection,
    Conv as Conv,
    Dense as Dense,
    OneToOne as OneToOne,
    Sparse as Sparse,
    Synapses as Synapses,
)
from ._engine.adjoint import AbstractAdjoint as AbstractAdjoint, DiscreteAdjoint as DiscreteAdjoint
from ._method import (
    AbstractMethod as AbstractMethod,
    EventLoop as EventLoop,
    OneClock as OneClock,
    ParallelInTime as ParallelInTime,
)
from ._network import Layer as Layer, Network as Network, recurrent as recurrent, sequential as sequential
from ._neuron import AbstractNeuron as AbstractNeuron, Event as Event
from ._parameters import Masked as Masked, Positive as Positive, Signed as Signed
from ._results import RESULTS as RESULTS
from ._saving import load as load, save as save
from ._simulate import simulate as simulate
from ._solution import Solution as Solution, Stats as Stats
from ._spikes import Events as Events, first_spike as first_spike, Spikes as Spikes
from ._synapse import (
    AbstractSynapse as AbstractSynapse,
    AlphaState as AlphaState,
    AlphaSynapse as AlphaSynapse,
    DeltaSynapse as DeltaSynapse,
    ExpSynapse as ExpSynapse,
    Synapse as Synapse,
)
from ._types import AbstractParameter as AbstractParameter, Scalar as Scalar
from ._until import FirstSpikes as FirstSpikes
from ._version import __version__ as __version__
from ._written import FunctionNeuron as FunctionNeuron, neuron_from as neuron_from
from .constraints import parameter as parameter
from .neurons import (
    AdEx as AdEx,
    AdExState as AdExState,
    ALIF as ALIF,
    ALIFState as ALIFState,
    CalciumDendrite as CalciumDendrite,
    CalciumDendriteState as CalciumDendriteState,
    ConductanceBased as ConductanceBased,
    Dendrite as Dendrite,
    EGRU as EGRU,
    EGRUPayload as EGRUPayload,
    EGRUState as EGRUState,
    EIF as EIF,
    EIFState as EIFState,
    HodgkinHuxley as HodgkinHuxley,
    HodgkinHuxleyState as HodgkinHuxleyState,
    IF as IF,
    Izhikevich as Izhikevich,
    IzhikevichState as IzhikevichState,
    LI as LI,
    LIF as LIF,
    LIFState as LIFState,
    MorrisLecar as MorrisLecar,
    MorrisLecarState as MorrisLecarState,
    MultiCompartment as MultiCompartment,
    QIF as QIF,
    QIFState as QIFState,
    Refractory as Refractory,
    RefractoryState as RefractoryState,
    ResonateAndFire as ResonateAndFire,
    ResonateAndFireState as ResonateAndFireState,
    SilentNeuron as SilentNeuron,
    SingleSpike as SingleSpike,
    SingleSpikeState as SingleSpikeState,
)
