"""The methods, which find and differentiate the spikes of a network. None depends on a model or on another method."""

from ._base import AbstractMethod as AbstractMethod
from .adjoint import (
    AbstractAdjoint as AbstractAdjoint,
    DiscreteAdjoint as DiscreteAdjoint,
    EventPropAdjoint as EventPropAdjoint,
    ForwardMode as ForwardMode,
)
from .closed_form.method import ClosedForm as ClosedForm
from .event_loop.method import EventLoop as EventLoop
from .event_queue.method import EventQueue as EventQueue
from .windows.method import Windows as Windows
