"""The interfaces for linear neurons in closed form: their flow, and the search for crossings.

All arrays have the last axes `(batch, units)`. The membrane states v and the filters x may have one more axis before
them, for the variables of a neuron, and so may their changes. The annotations omit this axis.
"""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._neuron import AbstractNeuron


class Interval(eqx.Module):
    """An interval of the motion up to a knot: the state at its start, after any spike there, and v at its end."""

    start: Array
    v: Array
    x: Array
    end: Array
    v_end: Array


class AbstractFlow(eqx.Module):
    """The flow of the neurons of a layer between arrivals, which is affine in v and x.

    The filters x evolve autonomously, and drive v.
    """

    neuron: eqx.AbstractVar[AbstractNeuron | None]  # None for the concatenated neurons of several layers

    @classmethod
    @abc.abstractmethod
    def of(cls, neuron: AbstractNeuron, state: PyTree[Array], t: Array) -> "AbstractFlow":
        """The flow of neurons whose parameters are shared, or have the axes `(batch, units, 1)`.

        Only the structure of `state` and the shapes of its leaves per neuron are used.
        """

    @staticmethod
    @abc.abstractmethod
    def pack(state: PyTree[Array], filters: PyTree[Array]) -> tuple[Array, Array]:
        """v and x, from leaves with the leading axes `(batch, units, 1)`."""

    @staticmethod
    @abc.abstractmethod
    def unpack(v: Array, x: Array, state: PyTree[Array], filters: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
        """The state and the filters, structured as `state` and `filters`. v and x may have further leading axes."""

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """The approximate number of floats per neuron and knot."""

    @abc.abstractmethod
    def propagators(self, s: Float[Array, "intervals batch lanes"]) -> PyTree[Array]:
        """The propagators over intervals of the lengths `s`, for `step`."""

    @abc.abstractmethod
    def step(self, propagator: PyTree[Array], v: Array, x: Array, weight: PyTree[Array]) -> tuple[Array, Array]:
        """The state after an interval and an arrival of the given weight at its end."""

    @abc.abstractmethod
    def after(self, v: Array, x: Array, s: Array) -> tuple[Array, Array]:
        """The state after a time s without arrivals."""

    @abc.abstractmethod
    def jumped(self, x: Array, weight: Float[Array, "ports batch units"]) -> Array:
        """The filters after an arrival."""

    @abc.abstractmethod
    def fading(self, x: Array) -> Array:
        """x'."""

    @abc.abstractmethod
    def kept(self, change: Array, s: Array) -> Array:
        """The effect of a `change` of v on v, a time s later."""

    @abc.abstractmethod
    def changed(self, knots: Any, propagators: PyTree[Array], change: Any, place: Int[Array, "batch units"]) -> Array:
        """v at the knots with the `change` of the last spike. Only knots after the one at `place` are used."""

    @abc.abstractmethod
    def speed(self, v: Array, x: Array) -> Array:
        """v' at a state."""

    @abc.abstractmethod
    def condition(self, v: Array) -> Array:
        """The spike condition."""

    @abc.abstractmethod
    def steepness(self, speed: Array) -> Array:
        """The slope of the condition for the given v'."""

    @abc.abstractmethod
    def reset(self, t: Array, v: Array) -> Array:
        """v directly after a spike."""


class AbstractFinder(eqx.Module):
    """The search for zero crossings of the condition within an interval."""

    @classmethod
    @abc.abstractmethod
    def of(cls, flow: Any) -> "AbstractFinder":
        """The finder for neurons with this flow, which has the type that the finder requires."""

    @property
    @abc.abstractmethod
    def reach(self) -> Float[Array, ""]:
        """The length of intervals up to which `may_cross` tells much; `inf` if there is no such length."""

    @abc.abstractmethod
    def may_cross(self, interval: Interval) -> Bool[Array, "..."]:
        """Whether there may be a crossing in the interval: a cheap test that misses none."""

    @abc.abstractmethod
    def crosses(self, interval: Interval) -> Bool[Array, "..."]:
        """Whether there is a crossing, as precisely as possible without a search. It misses none."""

    @abc.abstractmethod
    def starts_above(self, interval: Interval) -> Bool[Array, "batch units"]:
        """Whether the condition is above zero at the start of the interval."""

    @abc.abstractmethod
    def crossing(
        self, interval: Interval, wanted: Bool[Array, "batch units"]
    ) -> tuple[Float[Array, "batch units"], Bool[Array, "batch units"]]:
        """The time of the first crossing for the neurons where it is `wanted`, and whether there is one."""
