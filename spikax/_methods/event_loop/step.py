"""One step of one neuron: the map from the state at `t` to the state at `t + h`."""

import abc
import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._neuron import AbstractNeuron
from ..._synapse import drive_of, evolve_filters
from ..._types import State
from .._common.axes import over_units
from .._common.compute_once import compute_once, derivative_once
from .._common.events import conditions, conditions_along, magnitudes
from .._common.motion import AbstractMotion
from .bins import Line


class Error(eqx.Module):
    """The estimated error of a step.

    The estimate is a single number per variable, and on a long step it may be close to zero by accident. The squared
    errors of cruder, independent embedded methods reveal this. They are zero if there are no such methods.
    """

    estimate: State
    crude_square: State


class Step(eqx.Module):
    """The result of a step: the state at its end, the slopes at both ends, and the estimated error."""

    state: State
    first_slope: State
    last_slope: State
    error: Error


class AbstractStepper(eqx.Module):
    """A single step of a solver for a single neuron."""

    error_order: eqx.AbstractVar[float | None]
    crude_order: eqx.AbstractVar[float]
    stability: eqx.AbstractVar[float]  # a step of length h of x' = -r x shrinks x if r h is less

    @abc.abstractmethod
    def step(self, field: Callable[[Array, State], State], state: State, h: Float[Array, ""]) -> Step:
        """A step of length `h` of x' = field(elapsed, x), with `elapsed` from 0 to `h`."""


class UnrolledStepper(AbstractStepper):
    """An explicit Runge–Kutta method, unrolled from its tableau."""

    nodes: tuple[float, ...] = eqx.field(static=True)
    stages: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    weights: tuple[float, ...] = eqx.field(static=True)
    error_weights: tuple[float, ...] = eqx.field(static=True)
    crude_weights: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    ends_with_slope: bool = eqx.field(static=True)  # the last stage is the slope at the end, as in methods with FSAL
    error_order: float | None = eqx.field(static=True)
    crude_order: float = eqx.field(static=True)
    stability: float = eqx.field(static=True)

    def step(self, field, state, h):
        slopes = [field(jnp.zeros_like(h), state)]
        for node, stage in zip(self.nodes, self.stages, strict=True):
            slopes.append(field(node * h, _combine(state, h, stage, slopes)))
        end = _combine(state, h, self.weights, slopes)
        last = slopes[-1] if self.ends_with_slope else field(h, end)
        zero = jax.tree.map(jnp.zeros_like, state)
        estimate = _combine(zero, h, self.error_weights, slopes)
        crude = [_combine(zero, h, weights, slopes) for weights in self.crude_weights]
        square = jax.tree.map(lambda zero, *parts: sum((x * x for x in parts), zero), zero, *crude)
        return Step(end, slopes[0], last, Error(estimate, square))


class DiffraxStepper(AbstractStepper):
    """Any other solver, through its own `step`."""

    solver: diffrax.AbstractSolver
    error_order: float | None = eqx.field(static=True)
    crude_order: float = eqx.field(static=True, default=1.0)
    stability: float = eqx.field(static=True, default=math.inf)  # known for explicit methods alone

    def step(self, field, state, h):
        term = diffrax.ODETerm(lambda elapsed, x, args: field(elapsed, x))
        start = jnp.zeros_like(h)
        memory = self.solver.init(term, start, h, state, None)
        end, error, _, _, result = self.solver.step(term, start, h, state, None, memory, False)
        zero = jax.tree.map(jnp.zeros_like, state)
        first, last = field(start, state), field(h, end)
        # If the implicit equations were not solved, the loop rejects the step and tries a shorter one.
        solved = result == diffrax.RESULTS.successful
        end = jax.tree.map(lambda leaf: jnp.where(solved, leaf, jnp.nan), end)
        return Step(end, first, last, Error(zero if error is None else error, zero))


def make_stepper(solver: diffrax.AbstractSolver) -> AbstractStepper:
    """The stepper of a Diffrax solver."""
    term = diffrax.ODETerm(lambda t, y, args: y)
    is_adaptive = isinstance(solver, diffrax.AbstractAdaptiveSolver)
    order = float(solver.error_order(term)) if is_adaptive else None
    tableau = getattr(solver, "tableau", None)
    if isinstance(solver, diffrax.AbstractERK) and isinstance(tableau, diffrax.ButcherTableau):
        nodes, weights, errors = (tuple(part.tolist()) for part in (tableau.c, tableau.b_sol, tableau.b_error))
        stages = tuple(tuple(entry.tolist()) for entry in tableau.a_lower)
        crude, crude_order = _crude_weights(tableau, order)
        orders = order, crude_order, _stability(tableau)
        return UnrolledStepper(nodes, stages, weights, errors, crude, bool(tableau.fsal), *orders)
    if getattr(solver, "scan_kind", "bounded") is None:
        # The replay takes a VJP of a JVP. The default scan over the stages of an implicit method does not support it.
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda leaf: leaf is None)
    return DiffraxStepper(solver, order)


def _stability(tableau: diffrax.ButcherTableau) -> float:
    """The length of the interval of stability on the negative real axis."""
    matrix, stages = _matrix(tableau), np.ones(tableau.num_stages)
    z = np.linspace(0.0, 50.0, 5001)[1:]
    # A step of x' = -x of length z multiplies x by a polynomial in -z.
    factor = np.ones_like(z)
    for power in range(1, tableau.num_stages + 1):
        factor += (-z) ** power * (tableau.b_sol @ stages)
        stages = matrix @ stages
    is_stable = np.abs(factor) <= 1.0
    return float(z[-1] if is_stable.all() else z[np.argmin(is_stable)])


def _matrix(tableau: diffrax.ButcherTableau) -> np.ndarray:
    matrix = np.zeros((tableau.num_stages, tableau.num_stages))
    for i, entry in enumerate(tableau.a_lower):
        matrix[i + 1, : len(entry)] = entry
    return matrix


def _crude_weights(tableau: diffrax.ButcherTableau, order: float | None) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Up to two weight vectors of the stages, orthogonal to the error weights and to each other, and their error order.

    An embedded method of order 3 satisfies four order conditions, one of order 1 a single condition. The differences
    of two such methods form the null space of the conditions.
    """
    if order is None or order < 3:
        return (), 1.0
    matrix = _matrix(tableau)
    nodes = np.concatenate([[0.0], tableau.c])
    conditions = [np.ones_like(nodes), nodes, nodes**2, matrix @ nodes]
    reached = min(int(order) - 2, 3)
    conditions = np.stack([*conditions[: (1, 2, 4)[reached - 1]], tableau.b_error])
    _, sizes, directions = np.linalg.svd(conditions)
    rank = int(np.sum(sizes > 1e-10 * sizes[0]))
    return tuple(tuple(entry) for entry in directions[rank : rank + 2].tolist()), reached + 1.0


def _combine(state: State, h: Array, weights: tuple[float, ...], slopes: list[State]) -> State:
    used = [(w, slope) for w, slope in zip(weights, slopes, strict=False) if w != 0.0]
    if not used:
        return state

    def leaf(x, *slopes):
        total = sum(w * slope for (w, _), slope in zip(used, slopes, strict=True))
        return x + (h * total).astype(x.dtype)

    return jax.tree.map(leaf, state, *(slope for _, slope in used))


class Trial(eqx.Module):
    """A trial step of one neuron: its end, and each event condition with its slope at both ends."""

    state: State
    slope: State
    filters: Any
    filter_slope: Any
    error: Error
    g0: tuple[Array, ...]
    d0: tuple[Array, ...]
    g1: tuple[Array, ...]
    d1: tuple[Array, ...]
    magnitude: tuple[Array, ...]  # the magnitude of the terms of each condition at the end


def move(
    neuron: AbstractNeuron,
    stepper: AbstractStepper,
    t: Array,
    state: State,
    filters: Any,
    h: Array,
    line: Line | None = None,
) -> Step:
    """A step of length `h`, with the drive of the synaptic filters, or of the line if given."""

    def field(elapsed, state):
        state = jax.tree.map(derivative_once, state)
        drive = drive_of(neuron.synapse, evolve_filters(neuron.synapse, filters, elapsed))
        drive = drive if line is None else line.drive(elapsed, h, drive)
        slope = neuron.dynamics(t + elapsed, state, drive)
        # The border of the neuron's own code, forwards and when a step is replayed: nothing of it is computed twice.
        return jax.tree.map(lambda slope, x: compute_once(jnp.asarray(slope, x.dtype)), slope, state)

    return stepper.step(field, state, h)


def try_step(
    neuron: AbstractNeuron,
    stepper: AbstractStepper,
    t: Array,
    state: State,
    filters: Any,
    h: Array,
    line: Line | None = None,
) -> Trial:
    """A trial step of one neuron from `t` to `t + h`."""
    taken = move(neuron, stepper, t, state, filters, h, line)
    end = jax.tree.map(lambda leaf: compute_once(leaf), taken.state)
    one = jnp.ones_like(t)

    g0, d0 = conditions_along(neuron, t, state, one, taken.first_slope)
    g1, d1 = conditions_along(neuron, t + h, end, one, taken.last_slope)
    magnitude = magnitudes(neuron, t + h, end)
    evolved, filter_slope = jax.jvp(lambda h: evolve_filters(neuron.synapse, filters, h), (h,), (one,))
    return Trial(end, taken.last_slope, evolved, filter_slope, taken.error, g0, d0, g1, d1, magnitude)


class OneStep(AbstractMotion):
    """The motion by one step of a solver."""

    stepper: AbstractStepper

    def end(self, neuron, t, state, filters, h, line=None):
        return move(neuron, self.stepper, t, state, filters, h, line).state

    def end_and_slope(self, neuron, t, state, filters, h, *line):
        def one(neuron, t, state, filters, h, *line):
            return self.end(neuron, t, state, filters, h, *line), evolve_filters(neuron.synapse, filters, h)

        def end_of(h):
            return over_units(one, neuron, t, state, filters, h, *line)

        return jax.jvp(end_of, (h,), (jnp.ones_like(h),))


def drive_error_bound(
    neuron: AbstractNeuron, t: Array, state: State, drive: Any, h: Array, variation: Any
) -> tuple[Float[Array, ""], ...]:
    """A bound of the error of each condition within a bin whose drive is replaced by its line.

    Let G be the integral of drive minus line from the start of the bin; it vanishes at both ends. For a drive that is
    a step of height one, |G| is at most h / 12, at the step. Every drive is a sum of steps, so |G| <= h V / 12 with
    its total variation V. To first order in h the error of the state is G df/ddrive, and that of the condition g is
    G ∇g·df/ddrive. The term h d/dt of it is for membranes that the drive reaches only through another variable.
    """

    def speed(state):
        slope = neuron.dynamics(t, state, drive)
        return jax.jvp(lambda state: conditions(neuron, t, state), (state,), (slope,))[1]

    def along(push):
        slope = jax.jvp(lambda drive: neuron.dynamics(t, state, drive), (drive,), (push,))[1]
        direct = jax.jvp(lambda state: conditions(neuron, t, state), (state,), (slope,))[1]
        later = jax.jvp(speed, (state,), (slope,))[1]
        return tuple(jnp.abs(now) + h * jnp.abs(then) for now, then in zip(direct, later, strict=True))

    # Each port separately, since their effects may have opposite signs.
    leaves, structure = jax.tree.flatten(variation)
    nothing = [jnp.zeros_like(leaf) for leaf in leaves]
    parts = [along(structure.unflatten([*nothing[:i], leaf, *nothing[i + 1 :]])) for i, leaf in enumerate(leaves)]
    return tuple(sum(by_port) * (h / 12.0) for by_port in zip(*parts, strict=True))
