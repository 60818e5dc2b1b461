"""The neuron models, one family per file."""

from ._egru import EGRU as EGRU, EGRUPayload as EGRUPayload, EGRUState as EGRUState
from ._eif import EIF as EIF, EIFState as EIFState
from ._lif import LI as LI, LIF as LIF, LIFState as LIFState
from ._qif import QIF as QIF, QIFState as QIFState
