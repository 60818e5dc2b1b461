"""The motion of neurons between two points, as a differentiable map."""

import abc
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..._neuron import AbstractNeuron
from ..._synapse import drive_of, evolve_filters
from ..._types import State
from .axes import cast, over_units
from .trees import tree_where, zeros_like


Ends = tuple[PyTree[Array], PyTree[Array]]  # states and filters


class AbstractMotion(eqx.Module):
    """The motion of neurons, whose derivative is that of the forward pass or that of the differential equation."""

    @abc.abstractmethod
    def end(self, neuron: AbstractNeuron, t: Array, state: State, filters: Any, h: Array, line: Any = None) -> State:
        """The state of one neuron at `t + h`, with the drive of its filters, or of the line if given."""

    @abc.abstractmethod
    def end_and_slope(
        self, neuron: AbstractNeuron, t: Array, state: PyTree, filters: PyTree, h: Array, *line: Any
    ) -> tuple[Ends, Ends]:
        """States and filters at `t + h`, and their derivatives by h, of neurons with the axes of units."""


class ContinuousMotion(AbstractMotion):
    """The solution of the differential equation, with the continuous adjoint as its derivative.

    The time runs from 0 to 1, so that h is a parameter, as are the start and all parameters of the neuron.
    """

    solver: diffrax.AbstractSolver
    stepsize_controller: diffrax.AbstractStepSizeController | None  # None for the default tolerances of the float type
    dt0: Array | float | None
    max_steps: int = eqx.field(static=True)

    def end(self, neuron, t, state, filters, h, line=None):
        parameters, rest = eqx.partition(neuron, eqx.is_inexact_array)

        def field(share, state, given):
            parameters, t, filters, h = given
            slope = _slope(eqx.combine(parameters, rest), t + share * h, state, filters, share * h)
            return jax.tree.map(lambda leaf: jnp.where(h > 0.0, h * leaf, 0.0), slope)

        # A neuron that has failed stays where it is, since the solver would not come to an end.
        is_finite = jnp.all(
            jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((t, state, filters, h))])
        )
        given = state
        t, h, state, filters = tree_where(is_finite, (t, h, state, filters), zeros_like((t, h, state, filters)))
        moves = h > 0.0
        controller, dt0 = self.stepsize_controller, None
        if controller is None:
            tolerance = 1e-9 if h.dtype == jnp.float64 else 1e-5
            controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
        if self.dt0 is not None:
            # The lengths of steps are constants.
            dt0 = lax.stop_gradient(jnp.minimum(jnp.asarray(self.dt0, t.dtype) / jnp.where(moves, h, 1.0), 1.0))
        options = {"stepsize_controller": controller, "max_steps": self.max_steps}
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver,
            jnp.zeros((), t.dtype),
            jnp.ones((), t.dtype),
            dt0,
            state,
            (parameters, t, filters, h),
            adjoint=diffrax.BacksolveAdjoint(solver=self.solver, dt0=None if dt0 is None else -dt0, **options),
            **options,
        )
        start = _slope(neuron, t, state, filters, jnp.zeros_like(h))
        end = jax.tree.map(
            lambda end, state, slope: jnp.where(moves, end[0], state + h * slope), solution.ys, state, start
        )
        return tree_where(is_finite, end, given)

    def end_and_slope(self, neuron, t, state, filters, h):
        def one(neuron, t, state, filters, h):
            end = self.end(neuron, t, state, filters, h)
            evolved, fading = jax.jvp(lambda h: evolve_filters(neuron.synapse, filters, h), (h,), (jnp.ones_like(h),))
            return (end, evolved), (_slope(neuron, t + h, end, filters, h), fading)

        return over_units(one, neuron, t, state, filters, h)


def _slope(neuron: AbstractNeuron, t: Array, state: State, filters: Any, elapsed: Array) -> State:
    """The slope of the state of one neuron, at the time `elapsed` after that of the filters."""
    drive = drive_of(neuron.synapse, evolve_filters(neuron.synapse, filters, elapsed))
    return cast(neuron.dynamics(t, state, drive), elapsed.dtype)
