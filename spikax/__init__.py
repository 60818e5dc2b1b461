"""Event-based spiking neural networks in continuous time, with exact gradients."""

from . import _interrupted as _interrupted


# isort: split
from . import (
    constraints as constraints,
    datasets as datasets,
    decode as decode,
    encode as encode,
    init as init,
    losses as losses,
    nir as nir,
    plot as plot,
    silence as silence,
    train as train,
)
from ._check_neuron import check_neuron as check_neuron, NeuronReport as NeuronReport
from ._connection import (
    AbstractConnection as AbstractConnection,
    Conv as Conv,
    Dense as Dense,
    OneToOne as OneToOne,
    Rectangular as Rectangular,
    Sparse as Sparse,
    Synapses as Synapses,
)
from ._methods import (
    AbstractAdjoint as AbstractAdjoint,
    AbstractMethod as AbstractMethod,
    ClosedForm as ClosedForm,
    DiscreteAdjoint as DiscreteAdjoint,
    EventLoop as EventLoop,
    EventPropAdjoint as EventPropAdjoint,
    EventQueue as EventQueue,
    ForwardMode as ForwardMode,
    Windows as Windows,
)
from ._network import (
    dense_between as dense_between,
    Layer as Layer,
    Network as Network,
    recurrent as recurrent,
    sequential as sequential,
)
from ._neuron import AbstractNeuron as AbstractNeuron, Event as Event
from ._parameters import Fixed as Fixed, Masked as Masked, Positive as Positive, Signed as Signed
from ._report import report as report
from ._saving import load as load, save as save
from ._simulate import (
    FirstSpikes as FirstSpikes,
    RESULTS as RESULTS,
    simulate as simulate,
    Snapshot as Snapshot,
    Solution as Solution,
    Stats as Stats,
)
from ._spikes import Events as Events, first_spike as first_spike, Spikes as Spikes
from ._synapse import (
    AbstractSynapse as AbstractSynapse,
    AlphaState as AlphaState,
    AlphaSynapse as AlphaSynapse,
    DeltaSynapse as DeltaSynapse,
    ExpSynapse as ExpSynapse,
    FilteredHoldState as FilteredHoldState,
    FilteredHoldSynapse as FilteredHoldSynapse,
    HoldSynapse as HoldSynapse,
    Synapse as Synapse,
)
from ._types import AbstractParameter as AbstractParameter, Scalar as Scalar
from ._version import __version__ as __version__
from .brian import to_brian2 as to_brian2
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
    FilteredBias as FilteredBias,
    FilteredBiasState as FilteredBiasState,
    HodgkinHuxley as HodgkinHuxley,
    HodgkinHuxleyState as HodgkinHuxleyState,
    IF as IF,
    Integrator as Integrator,
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
    Threshold as Threshold,
    ThresholdState as ThresholdState,
)
from .neurons._function import FunctionNeuron as FunctionNeuron, neuron_from as neuron_from
from .neurons.equations import (
    EquationNeuron as EquationNeuron,
    neuron_from_equations as neuron_from_equations,
)
from .nir import (
    from_nir as from_nir,
    from_nir_data as from_nir_data,
    to_nir as to_nir,
    to_nir_data as to_nir_data,
)
