"""What is asked of linear neurons to simulate them parallel in time: how they move, and where they may spike.

All arrays have the axes `(batch, units)` last. An array v of membranes, or x of filters, may have one more before them,
for the variables of a neuron; so may whatever is added to it. Here they are written without it.
"""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._neuron import AbstractNeuron


class Stretch(eqx.Module):
    """A stretch of actual motion up to a knot: the state where it starts, after any spike there, and v at its end."""

    start: Array
    v: Array
    x: Array
    end: Array
    v_end: Array


class AbstractMotion(eqx.Module):
    """The motion of the neurons of a layer between arrivals, which is linear in v and x up to a constant.

    The filters x move by themselves, and v by itself and as they drive it.
    """

    @classmethod
    @abc.abstractmethod
    def of(cls, neuron: AbstractNeuron, state: PyTree[Array], weight: PyTree[Array], t: Array) -> "AbstractMotion":
        """That of neurons whose parameters have the axes `(batch, units, 1)` where they are not shared.

        Of `state` and `weight` the structure counts, and the shapes of what one neuron has.
        """

    @staticmethod
    @abc.abstractmethod
    def pack(state: PyTree[Array], filters: PyTree[Array]) -> tuple[Array, Array]:
        """v and x, from leaves with the axes `(batch, units, 1)` first."""

    @staticmethod
    @abc.abstractmethod
    def unpack(v: Array, x: Array, state: PyTree[Array], filters: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
        """The state and the filters of which v and x may have further axes first, as `state` and `filters` are."""

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """How many numbers a neuron takes at a knot, roughly."""

    @abc.abstractmethod
    def flows(self, s: Float[Array, "stretches batch lanes"]) -> PyTree[Array]:
        """What stretches of the lengths `s` do, as `step` takes it."""

    @abc.abstractmethod
    def step(self, flow: PyTree[Array], v: Array, x: Array, weight: PyTree[Array]) -> tuple[Array, Array]:
        """The state after a stretch, and an arrival of the given weight at its end."""

    @abc.abstractmethod
    def after(self, v: Array, x: Array, s: Array) -> tuple[Array, Array]:
        """The state after a time s without arrivals."""

    @abc.abstractmethod
    def kept(self, change: Array, s: Array) -> Array:
        """What is left of a change of v after a time s."""

    @abc.abstractmethod
    def changed(self, knots: Any, flows: PyTree[Array], change: Any, place: Int[Array, "batch units"]) -> Array:
        """v at the knots, with the `change` of the last spike; only what is behind the knot at `place` counts."""

    @abc.abstractmethod
    def speed(self, v: Array, x: Array) -> Array:
        """v' at a state."""

    @abc.abstractmethod
    def condition(self, v: Array) -> Array:
        """The spike condition."""

    @abc.abstractmethod
    def steepness(self, speed: Array) -> Array:
        """The slope of the condition where v moves with the given speed."""

    @abc.abstractmethod
    def reset(self, t: Array, v: Array) -> Array:
        """v right after a spike."""


class AbstractFinder(eqx.Module):
    """Where a condition crosses zero within a stretch."""

    @classmethod
    @abc.abstractmethod
    def of(cls, motion: Any) -> "AbstractFinder":
        """That of neurons with this motion, which is of the kind that the finder is for."""

    @abc.abstractmethod
    def may_cross(self, stretch: Stretch) -> Bool[Array, "..."]:
        """Whether a closer look at the stretch is worthwhile; it misses no crossing."""

    @abc.abstractmethod
    def crosses(self, stretch: Stretch) -> Bool[Array, "..."]:
        """The same, as closely as it can be told without a search."""

    @abc.abstractmethod
    def starts_above(self, stretch: Stretch) -> Bool[Array, "batch units"]:
        """Whether the condition is above zero before any motion."""

    @abc.abstractmethod
    def crossing(
        self, stretch: Stretch, wanted: Bool[Array, "batch units"]
    ) -> tuple[Float[Array, "batch units"], Bool[Array, "batch units"]]:
        """The time of the first crossing of the neurons for which it is `wanted`, and whether there is one."""
