"""The ways to simulate a layer."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._engine.adjoint import AbstractAdjoint, Inputs, Outcome
from ._engine.affine import is_affine
from ._engine.loop import Settings
from ._engine.parallel import find_spikes, Given, Limits
from ._neuron import AbstractNeuron
from ._observe import observe
from ._synapse import is_synapse


class AbstractMethod(eqx.Module):
    """How the spikes of a layer are found."""

    @abc.abstractmethod
    def suits(self, neuron: AbstractNeuron) -> bool:
        """Whether neurons of this kind can be simulated so."""

    @abc.abstractmethod
    def simulate(
        self, inputs: Inputs, settings: Settings, adjoint: AbstractAdjoint, ts: Float[Array, " ts"] | None
    ) -> tuple[Outcome, tuple[PyTree[Array], PyTree[Array]] | None]:
        """The spikes, and the states and drives at `ts`."""


class EventLoop(AbstractMethod):
    """Step after step of an ODE solver: for any neuron."""

    def suits(self, neuron):
        return True

    def simulate(self, inputs, settings, adjoint, ts):
        outcome = adjoint.simulate(inputs, settings, ts)
        saved = None if ts is None else observe(inputs.neuron, settings.stepper, outcome.found, ts)
        return outcome, saved


class ParallelInTime(AbstractMethod):
    """All arrivals at once, in closed form, one pass per spike: for linear neurons.

    The neuron says that it is linear (`is_linear`), has one variable and no internal events, and its synapse is an
    exponential filter.
    """

    def suits(self, neuron):
        return is_affine(neuron)

    def simulate(self, inputs, settings, adjoint, ts):
        (weight,) = jax.tree.leaves(inputs.weight)
        state = jax.tree.map(lambda leaf: leaf[..., 0], inputs.initial_state)
        given = Given(inputs.neuron, weight[..., 0], inputs.times, state, inputs.t0, inputs.t1)
        # No neuron may spike more often than there may be passes: so one that spikes without end holds up no other.
        quota = settings.max_steps if settings.quota is None else min(settings.quota, settings.max_steps)
        found = find_spikes(given, Limits(settings.max_spikes, quota), ts)
        finished = (found.count < settings.max_steps) | (quota < settings.max_steps)
        outcome = Outcome(
            trains=found.times[..., None],
            found=None,
            count=found.count[..., None],
            rejected=jnp.zeros(found.count.shape[0], jnp.int32),
            finished=finished[..., None],
            stuck=~found.finite[..., None],
            iterations=found.passes,
        )
        if ts is None:
            return outcome, None
        v, x = (leaf[..., None] for leaf in found.saved)
        drive = jax.tree.map(lambda _: x, inputs.neuron.synapse, is_leaf=is_synapse)
        return outcome, (jax.tree.structure(state).unflatten([v]), drive)
