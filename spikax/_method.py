"""The ways to simulate a layer."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._checks import require, require_positive
from ._engine import rates
from ._engine.adjoint import AbstractAdjoint, Inputs, Outcome
from ._engine.affine import is_affine
from ._engine.loop import Settings, Standing, Trains
from ._engine.parallel import find_spikes, Given, Limits
from ._network import Network
from ._neuron import AbstractNeuron, stops_at_arrivals
from ._observe import observe
from ._synapse import is_synapse


class Task(eqx.Module):
    """What is known of a layer before it is simulated."""

    neuron: AbstractNeuron
    duration: float | None = eqx.field(static=True)  # None while it is traced
    arrivals: int = eqx.field(static=True)  # the places of all spike trains that reach the layer
    dtype: Any = eqx.field(static=True)
    has_tolerance: bool = eqx.field(static=True)  # the user gave the length or the error of a step
    each_alone: bool = eqx.field(static=True, default=False)  # every neuron has arrivals of its own


class AbstractMethod(eqx.Module):
    """How the spikes of a layer are found."""

    @abc.abstractmethod
    def suits(self, network: Network, group: tuple[str, ...], name: str) -> bool:
        """Whether a layer can be simulated so, in the group of those that it reaches and that reach it."""

    @abc.abstractmethod
    def cells(self, task: Task) -> int:
        """How many cells it goes across in a layer; none where it stops at every arrival, or needs no step."""


class AbstractLayerMethod(AbstractMethod):
    """How the spikes of a layer are found, given what arrives."""

    @abc.abstractmethod
    def simulate(
        self, inputs: Inputs, settings: Settings, adjoint: AbstractAdjoint, ts: Float[Array, " ts"] | None
    ) -> tuple[Outcome, tuple[PyTree[Array], PyTree[Array]] | None]:
        """The spikes, and the states and drives at `ts`."""


class EventLoop(AbstractLayerMethod):
    """Step after step of an ODE solver: for any neuron.

    The loop stops at every arrival, or goes across the arrivals in cells, which suits many arrivals. The cells are
    equal, and one step across a cell takes in place of the drive the straight line with the same integral and first
    moment; its error falls with the fourth power of the length. Cells in which the neuron spikes, or may, are gone
    through from arrival to arrival.

    **Arguments:**

    - `cell`: the length of a cell, in ms; the loop takes the next one that divides the duration. By default a 20th
      (in float32 an 8th) of the fastest time constant of synapse and membrane, and no cells where they cannot be, or
      would not pay: where the synapse has no filter, or a parameter of its own for every neuron; where fewer spikes
      than cells can arrive; where `dt0`, `rtol` or `atol` are given; or where time constants or duration are traced.
    """

    cell: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.cell is not None:
            require_positive(self.cell, "cell")

    def suits(self, network, group, name):
        return True

    def cells(self, task):
        if self.cell is None:
            return _own_cells(task)
        obstacle = _obstacle(task)
        hint = f"{obstacle} Leave `cell` out, and the loop stops at arrivals where it has to."
        require(not obstacle, "cell", "None for this layer", self.cell, hint)
        # The margin is for a quotient that is whole but for its rounding.
        return max(1, math.ceil(task.duration / self.cell * (1.0 - 1e-9)))

    def simulate(self, inputs, settings, adjoint, ts):
        outcome = adjoint.simulate(inputs, settings, ts)
        saved = None if ts is None else observe(inputs.neuron, settings.stepper, outcome.found, ts)
        return outcome, saved


class ParallelInTime(AbstractLayerMethod):
    """All arrivals at once, in closed form, one pass per spike: for linear neurons.

    The neuron says that it is linear (`is_linear`), has one variable and no internal events, and its synapse is an
    exponential filter.
    """

    def suits(self, network, group, name):
        return is_affine(network.layers[name].neuron)

    def cells(self, task):
        return 0

    def simulate(self, inputs, settings, adjoint, ts):
        (weight,) = jax.tree.leaves(inputs.weight)
        state, filters = jax.tree.map(lambda leaf: leaf[..., 0], (inputs.start.state, inputs.start.filters))
        (x,) = jax.tree.leaves(filters)
        here = inputs.times, inputs.source, state, x, inputs.t0, inputs.t1
        given = Given(inputs.neuron, weight[..., 0], *here)
        # No neuron may spike more often than there may be passes: so one that spikes without end holds up no other.
        quota = settings.max_steps if settings.quota is None else min(settings.quota, settings.max_steps)
        found = find_spikes(given, Limits(settings.max_spikes, quota), ts)
        finished = (found.count < settings.max_steps) | (quota < settings.max_steps)
        outcome = Outcome(
            trains=Trains(found.times[..., None], None),
            end=_standing(inputs.start, *found.end),
            found=None,
            count=found.count[..., None],
            rejected=jnp.zeros(found.count.shape[0], jnp.int32),
            finished=finished[..., None],
            stuck=~found.finite[..., None],
            iterations=found.passes,
        )
        if found.saved is None:
            return outcome, None
        v, x = (leaf[..., None] for leaf in found.saved)
        drive = jax.tree.map(lambda _: x, inputs.neuron.synapse, is_leaf=is_synapse)
        return outcome, (jax.tree.structure(state).unflatten([v]), drive)


class OneClock(AbstractMethod):
    """From event to event of any neuron, in closed form: for linear neurons that listen to each other without delay.

    All layers of a recurrent group share a clock, and each sample has its own. The neurons are those for which
    [`spikax.ParallelInTime`][] is. What comes from outside of the group may have delays, if those are not of every
    synapse.
    """

    def suits(self, network, group, name):
        wires = [c for member in group for c in network.incoming(member)]
        inner = [c for c in wires if c.source in group]
        outer = [c for c in wires if c.source not in group]
        is_wired = inner and all(c.delay is None for c in inner) and not any(c.has_own_arrivals for c in outer)
        return bool(is_wired) and all(is_affine(network.layers[member].neuron) for member in group)

    def cells(self, task):
        return 0


def _standing(start: Standing, v: Array, x: Array) -> Standing:
    """How neurons with one variable and one filter stand, that stood at the start as `start` says."""
    (state, filters) = (jax.tree.structure(part) for part in (start.state, start.filters))
    return Standing(state.unflatten([v[..., None]]), filters.unflatten([x[..., None]]), start.readiness, start.h)


def _obstacle(task: Task) -> str:
    """Why there can be no cells; empty where there can."""
    if stops_at_arrivals(task.neuron):
        return "An arrival through a `DeltaSynapse` moves the membrane at once."
    if any(leaf.ndim > 0 for leaf in jax.tree.leaves(eqx.filter(task.neuron.synapse, eqx.is_array))):
        return "The filters differ between neurons."
    if task.each_alone:
        return "Every neuron has arrivals of its own, through its synapses or their delays."
    if task.duration is None:
        return "The duration is traced, and the number of cells would depend on it."
    return ""


def _own_cells(task: Task) -> int:
    """Cells where they are fine enough for the float type, and fewer than the arrivals."""
    if _obstacle(task) or task.duration is None or task.has_tolerance:
        return 0
    rate = rates.fastest(task.neuron, task.dtype)
    if rate is None:
        return 0
    finest = task.duration * rate * (20 if task.dtype == jnp.float64 else 8)
    # Sixteen at a time, so that another duration seldom compiles anew.
    cells = 16 * math.ceil(min(finest, task.arrivals) / 16)
    return cells if finest <= cells < task.arrivals else 0
