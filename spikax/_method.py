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
from ._engine.loop import Settings, Standing, Trains
from ._engine.parallel import find_spikes, Given, has_closed_form, Limits, pieces, suits
from ._engine.units import over_units
from ._network import Network
from ._neuron import AbstractNeuron, stops_at_arrivals
from ._observe import observe
from ._synapse import drive_of


class Task(eqx.Module):
    """What is known of a layer before it is simulated."""

    neuron: AbstractNeuron
    duration: float | None = eqx.field(static=True)  # None while it is traced
    arrivals: int = eqx.field(static=True)  # so many spikes are expected to reach the layer
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
      (in float32 a 10th) of the fastest time constant of synapse and membrane, and no cells where they cannot be, or
      would not pay: where the synapse has no filter, or a parameter of its own for every neuron; where the slope of the
      state is not linear in the drive, as that of [`spikax.EGRU`][]; where no more than two spikes are expected in each
      (one of every neuron, and as many of an input as it has places); where `dt0`, `rtol` or `atol` are given; or where
      time constants or duration are traced.
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
        obstacle = _obstacle(task) or _bend(task)
        hint = f"{obstacle} Leave `cell` out, and the loop stops at arrivals where it has to."
        require(not obstacle, "cell", "None for this layer", self.cell, hint)
        # The margin is for a quotient that is whole but for its rounding.
        return max(1, math.ceil(task.duration / self.cell * (1.0 - 1e-9)))

    def simulate(self, inputs, settings, adjoint, ts):
        outcome = adjoint.simulate(inputs, settings, ts)
        saved = None if ts is None else observe(
            inputs.neuron, settings.stepper, outcome.found, ts, outcome.reached
        )
        return outcome, saved


class ParallelInTime(AbstractLayerMethod):
    """All arrivals at once, without a solver, one pass per spike: for linear neurons.

    The neuron says that it is linear (`is_linear`). It has no internal events and no `DeltaSynapse`, but any number of
    variables, and of ports with any filters. With one variable behind an exponential filter all is known in closed
    form, which is fastest. Others may oscillate: their motion is the exponential of a matrix, exact to rounding, and
    bounds of the condition's derivatives see to it that no spike is missed. For the bounds the time is cut into pieces,
    as short as the fastest motion of the neuron, or into 32 where its parameters or the duration are traced. Their
    number matters only for how long it takes.
    """

    def suits(self, network, group, name):
        return suits(network.layers[name].neuron)

    def cells(self, task):
        return pieces(task.neuron, task.duration, task.dtype)

    def simulate(self, inputs, settings, adjoint, ts):
        # No neuron may spike more often than there may be passes: so one that spikes without end holds up no other.
        quota = settings.max_steps if settings.quota is None else min(settings.quota, settings.max_steps)
        found = find_spikes(Given.of(inputs), Limits(settings.max_spikes, quota, settings.cells), ts)
        finished = (found.count < settings.max_steps) | (quota < settings.max_steps)
        # Written so: JAX has no derivative of `all`, even for what a rule of our own gives as constant.
        finite = ~jnp.any(~found.finite, axis=1)
        # When a neuron that spikes without end was given up, or left the finite numbers, is not known.
        failed_at = jnp.where(jnp.all(finished, axis=1) & finite, jnp.inf, -jnp.inf).astype(inputs.t0.dtype)
        # Filters keep a membrane from a spike at the instant of an arrival.
        generation = None if inputs.generation is None else jnp.zeros(found.times[..., None].shape, jnp.int32)
        outcome = Outcome(
            trains=Trains(found.times[..., None], None, generation),
            end=Standing(*found.end, inputs.start.readiness, inputs.start.h),
            found=None,
            count=found.count[..., None],
            rejected=jnp.zeros(found.count.shape[0], jnp.int32),
            finished=finished[..., None],
            stuck=jnp.zeros(finished[..., None].shape, bool),
            finite=finite,
            reached=None,
            failed_at=failed_at,
            iterations=found.passes,
        )
        if found.saved is None:
            return outcome, None
        states, filters = found.saved

        def drive(neuron, filters):
            return drive_of(neuron.synapse, filters)

        drives = jax.vmap(lambda filters: over_units(drive, inputs.neuron, filters))(filters)
        return outcome, (states, drives)


class OneClock(AbstractMethod):
    """From event to event of any neuron, in closed form: for linear neurons that listen to each other without delay.

    All layers of a recurrent group share a clock, and each sample has its own. The neurons say that they are linear,
    and have one variable and one exponential synapse. What comes from outside of the group may have delays, if those
    are not of every synapse.
    """

    def suits(self, network, group, name):
        wires = [c for member in group for c in network.incoming(member)]
        inner = [c for c in wires if c.source in group]
        outer = [c for c in wires if c.source not in group]
        neurons = [network.layers[member].neuron for member in group]
        is_wired = inner and all(c.delay is None for c in inner) and not any(c.has_own_arrivals for c in outer)
        return bool(is_wired) and all(suits(neuron) and has_closed_form(neuron) for neuron in neurons)

    def cells(self, task):
        return 0


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


def _bend(task: Task) -> str:
    """Why its dynamics rule out cells; empty where they do not. To know, the neuron is traced."""
    if rates.is_linear_in_drive(task.neuron, task.dtype):
        return ""
    return "The slope of the state is not linear in the drive, whose line would move it elsewhere."


def _own_cells(task: Task) -> int:
    """Cells that are fine enough for the float type, where they pay."""
    if _obstacle(task) or task.duration is None or task.has_tolerance:
        return 0
    rate = rates.fastest(task.neuron, task.dtype)
    if rate is None:
        return 0
    # The margin is for a product that is whole but for the rounding of the rate.
    finest = task.duration * rate * (20 if task.dtype == jnp.float64 else 10) * (1.0 - 1e-6)
    # Sixteen at a time, so that another duration seldom compiles anew.
    cells = 16 * math.ceil(finest / 16)
    # An iteration of the loop takes about twice as long where there are cells.
    return cells if 2 * cells < task.arrivals and not _bend(task) else 0
