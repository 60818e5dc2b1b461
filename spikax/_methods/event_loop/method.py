"""The method `EventLoop`: any neuron, with an ODE solver."""

import dataclasses
import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..._checks import require, require_count, require_instance, require_positive
from ..._network import Network
from ..._neuron import AbstractNeuron, stops_at_arrivals
from ..._routing import Train
from ..._synapse import drive_of, evolve_filters
from .._base import AbstractLayerMethod, Counters, Expected, LayerPlan, LayerResult, SimulationState, spikes_first
from .._common import rates
from .._common.axes import add_scaled, cast, over_units, spread
from .._common.trees import tree_where, zeros_like
from ..group_input import group_input, inner_weights
from .dense_output import dense_output
from .problem import Settings
from .shared_clock import are_alike, as_layers, as_one_unit, wanted_of
from .simulation import LoopEnd, LoopOutcome, through_steps
from .step import AbstractStepper, make_stepper, OneStep
from .step_control import adaptive_steps, fixed_steps, require_controller, StepControl


class EventLoop(AbstractLayerMethod):
    """Any neuron, by the steps of an ODE solver.

    The loop steps from arrival to arrival, each neuron at its own pace, and finds spikes by root finding inside the
    steps. Where many spikes arrive it can step across them: it divides the time into equal bins, and one step across a
    bin takes, in place of the drive, the straight line with the same integral and first moment. The error of that is
    of third order in the length of a bin where the drive jumps at arrivals, and of fourth order where it is continuous,
    as with [`spikax.AlphaSynapse`][]. Bins in which the neuron spikes, or may spike, are refined: the loop goes through
    them from arrival to arrival.

    The neurons of a recurrent group without delays share a clock: a spike reaches all of them at once, and the steps
    are as short as any of them needs. For this, all of them must receive the same spikes at the same times: by
    [`spikax.Dense`][] connections, without a delay of each synapse, and not by [`spikax.DeltaSynapse`][]. Neurons of
    several layers must be of one kind, and may have other parameters. All other recurrent groups, and those with `bin`,
    go through [`spikax.Windows`][], with this method in each.

    **Arguments:**

    - `solver`: a Diffrax solver; by default `diffrax.Tsit5()`. Explicit Runge–Kutta methods are fastest. An implicit
      one needs a root finder with tolerances, such as `optimistix.Newton(rtol=1e-10, atol=1e-12)`. A step whose
      equations it does not solve is tried again, shorter.
    - `stepsize_controller`: `diffrax.ConstantStepSize()`, which needs `dt0`, or a `diffrax.PIDController`. The error of
      a step is the largest over the variables of a neuron, so `norm` must be the default; `dtmin` must be None. Unlike
      in Diffrax, an accepted step may be followed by a shorter one.
    - `rtol`, `atol`: short for a controller: the error of a step may be `atol + rtol * |state|`. By default 1e-9 in
      float64 and 1e-5 in float32. If only one is given, the other has the same value.
    - `dt0`: the length of the first step, in ms; given alone, the length of every step. No step passes an arrival, but
      those across bins. A simulation that continues another begins with the step length that the other ended with, or
      with `dt0` if all steps have that length.
    - `max_steps`: the bound of the loop: how many trial steps a layer may take; neurons that share a clock, together
      that many for each of them.
    - `bin`: the length of a bin, in ms; the loop takes the next shorter one that divides the duration. By default a
      20th (in float32 a 10th) of the fastest time constant of synapse and membrane, and no bins where they cannot be,
      or would not pay: where the synapse has no filter, or a parameter of its own for every neuron; where the slope of
      the state is not linear in the drive, as that of [`spikax.EGRU`][]; where no more than two spikes are expected in
      each; where `dt0`, `rtol`, `atol` or a controller is given; or where time constants or duration are traced.

    The lengths of steps, once chosen, are constants for the derivative, as in Diffrax. Adaptive steps of an explicit
    solver are at most half as long as its stability allows at the initial state, without drive: at rest, longer ones
    would have no error, and derivatives that grow with each of them.

    **Raises:** `TypeError` or `ValueError` for options that contradict each other, or that the loop cannot honour.
    """

    solver: diffrax.AbstractSolver = eqx.field(default_factory=diffrax.Tsit5)
    stepsize_controller: diffrax.AbstractStepSizeController | None = eqx.field(default=None, kw_only=True)
    rtol: float | None = eqx.field(default=None, kw_only=True)
    atol: float | None = eqx.field(default=None, kw_only=True)
    dt0: Any = eqx.field(default=None, kw_only=True)
    max_steps: int = eqx.field(static=True, default=4096, kw_only=True)
    bin: float | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self):
        _require_solver(self.solver)
        require_count(self.max_steps, "max_steps")
        for name in ("rtol", "atol", "dt0", "bin"):
            value = getattr(self, name)
            if value is not None:
                require_positive(value, name)
                is_one = np.ndim(value) == 0 and (name == "dt0" or not isinstance(value, jax.Array))
                require(is_one, name, "one number", value)
        if self.stepsize_controller is not None:
            require_controller(self.stepsize_controller)
            for name in ("rtol", "atol"):
                hint = "The controller has tolerances of its own."
                require(
                    getattr(self, name) is None, name, "None beside `stepsize_controller`", getattr(self, name), hint
                )
        self._require_steps(make_stepper(self.solver))

    def _require_steps(self, stepper: AbstractStepper) -> None:
        kind = type(self.solver).__name__
        if self._has_fixed_steps(stepper):
            hint = f"The solver {kind} estimates no error, and so cannot choose its steps."
            hint = hint if stepper.error_order is None else "`diffrax.ConstantStepSize` has steps of the length `dt0`."
            require(self.dt0 is not None, "dt0", "given", self.dt0, hint)
        else:
            name = "rtol" if self.stepsize_controller is None else "stepsize_controller"
            hint = f"The solver {kind} estimates no error: give `dt0` alone."
            require(stepper.error_order is not None, name, "None", getattr(self, name), hint)

    def _has_fixed_steps(self, stepper: AbstractStepper) -> bool:
        if self.stepsize_controller is not None:
            return isinstance(self.stepsize_controller, diffrax.ConstantStepSize)
        return self.rtol is None and self.atol is None and (self.dt0 is not None or stepper.error_order is None)

    def completed(self, network, group, choose):
        # Traced, so that another length does not recompile.
        return self if self.dt0 is None else dataclasses.replace(self, dt0=jnp.asarray(self.dt0))

    def limits(self, name):
        return {"max_steps": self.max_steps}

    def supports_layer(self, network, name):
        return True

    def layer_grid(self, network, name, expected):
        if self.bin is None:
            return self._own_bins(network, name, expected)
        obstacle = _obstacle(network, name, expected) or _nonlinearity(network, name)
        hint = f"{obstacle} Leave `bin` out: the loop then stops at the arrivals."
        require(not obstacle, "bin", "None for this layer", self.bin, hint)
        # The margin is for quotients that are integers up to rounding.
        return max(1, math.ceil(expected.duration / self.bin * (1.0 - 1e-9)))

    def _own_bins(self, network: Network, name: str, expected: Expected) -> int:
        """The number of bins that are fine enough for the float type; zero if bins do not pay."""
        options = self.stepsize_controller, self.rtol, self.atol, self.dt0
        if any(option is not None for option in options) or _obstacle(network, name, expected):
            return 0
        rate = rates.fastest(network.layers[name].neuron, network.dtype)
        if rate is None:
            return 0
        # The margin is for products that are integers up to the rounding of the rate.
        finest = expected.duration * rate * (20 if network.dtype == jnp.float64 else 10) * (1.0 - 1e-6)
        # In multiples of 16, so that another duration rarely recompiles.
        bins = 16 * math.ceil(finest / 16)
        # An iteration of the loop takes about twice as long with bins.
        pays = 2 * bins < expected.arrivals[name]
        return bins if pays and not _nonlinearity(network, name) else 0

    def supports(self, network, group):
        return super().supports(network, group) or self._shares_clock(network, group)

    def grid(self, network, group, expected):
        # A unit of several neurons stops at all arrivals.
        return 0 if self._shares_clock(network, group) else super().grid(network, group, expected)

    def simulate(self, group, grid):
        if not self._shares_clock(group.network, tuple(group.layers)):
            return super().simulate(group, grid)
        plans = list(group.layers.values())
        unit, received = as_one_unit(plans), group_input(group)
        weight = jax.tree.map(lambda leaf: leaf[:, None, :], received.weight)
        received = dataclasses.replace(received, weight=weight)
        inner = jax.tree.map(lambda leaf: leaf.astype(group.t0.dtype), inner_weights(group))
        neurons = sum(plan.start.h.shape[1] for plan in plans)
        settings = self._settings(unit, self.max_steps * neurons, group.t0, group.t1, 0)
        settings = dataclasses.replace(settings, stop_after=wanted_of(plans))
        with jax.named_scope(f"layers {', '.join(group.layers)}"):
            outcome = through_steps(unit, received, inner, group.t0, group.t1, settings)
        parts = zip(group.layers.items(), as_layers(outcome, plans), strict=True)
        return {name: self._result(plan, settings, part, group.t1) for (name, plan), part in parts}

    def _shares_clock(self, network: Network, group: tuple[str, ...]) -> bool:
        """Whether the layers are recurrent, and one unit: all neurons receive all spikes and inputs at once.

        With `bin`, recurrent layers go through windows, in which each neuron has bins.
        """
        if self.bin is not None or not network.is_recurrent(group):
            return False
        neurons = [network.layers[name].neuron for name in group]
        if any(map(stops_at_arrivals, neurons)) or not are_alike(neurons):
            return False
        connections = [c for name in group for c in network.incoming(name)]
        return all(c.delay is None if c.source in group else not c.has_own_arrivals for c in connections)

    def simulate_layer(self, plan, received, t0, t1, grid):
        hint = "It goes from event to event, and so does the simulation with it."
        require(self.bin is None or plan.adjoint.motion is None, "bin", "None with this `adjoint`", self.bin, hint)
        weight = jax.tree.map(lambda leaf: leaf[..., None], received.weight)
        settings = self._settings(plan, self.max_steps, t0, t1, grid)
        received = dataclasses.replace(received, weight=weight)
        return self._result(plan, settings, through_steps(plan, received, None, t0, t1, settings), t1)

    def _settings(self, plan: LayerPlan, max_steps: int, t0: Any, t1: Any, bins: int) -> Settings:
        stepper = make_stepper(self.solver)
        limits = plan.max_spikes, max_steps, plan.stop_after
        return Settings(stepper, self._control(stepper, plan, t0, t1), *limits, bins, plan.windows)

    def _result(self, plan: LayerPlan, settings: Settings, outcome: LoopOutcome, t1: Any) -> LayerResult:
        saved = None
        if plan.ts is not None:
            reached = lax.stop_gradient(outcome.end.t)
            motion = plan.adjoint.motion or OneStep(settings.stepper)
            saved = dense_output(plan.neuron, motion, outcome.found, plan.ts, reached)
        return _result(plan.neuron, outcome, t1, saved)

    def _control(self, stepper: AbstractStepper, plan: LayerPlan, t0: Any, t1: Any) -> StepControl:
        dtype = t0.dtype
        if self._has_fixed_steps(stepper):
            return fixed_steps(self.dt0, dtype)
        dt0 = (t1 - t0) / 64 if self.dt0 is None else self.dt0
        controller = self.stepsize_controller
        if controller is None:
            default = 1e-9 if dtype == jnp.float64 else 1e-5
            rtol = next(option for option in (self.rtol, self.atol, default) if option is not None)
            atol = rtol if self.atol is None else self.atol
            controller = diffrax.PIDController(rtol=rtol, atol=atol, factormax=5.0)
        rate = rates.fastest_of_membrane(plan.neuron, jax.tree.leaves(plan.start.state)[0])
        return adaptive_steps(stepper, controller, dt0, rate, dtype)


def _result(neuron: AbstractNeuron, outcome: LoopOutcome, t1: Any, saved: Any) -> LayerResult:
    end, trains = outcome.end, outcome.trains
    ok = end.finished & ~end.stuck
    stopped_at = jnp.where(ok, jnp.inf, lax.stop_gradient(end.t))
    counters = Counters.once(
        count=end.count[..., 0],
        # As a sum, not `any`: JAX cannot differentiate `any` of the output of a custom rule.
        finished=_none_of(~end.finished),
        finite=_is_finite(end),
        failed_at=jnp.min(stopped_at, axis=(1, 2)),
        iterations=outcome.iterations,
        rejected=jnp.sum(end.rejected, axis=(1, 2), dtype=jnp.int32),
        stuck=~_none_of(end.stuck),
    )
    times, payload, generation = jax.tree.map(spikes_first, (trains.times, trains.payload, trains.generation))
    at_end = _at_the_end(neuron, end, t1)
    state = SimulationState(*at_end, end.readiness, lax.stop_gradient(end.h), end.stuck)
    return LayerResult(Train(times, payload, generation=generation), state, saved, counters, "EventLoop")


def _at_the_end(neuron: AbstractNeuron, end: LoopEnd, t1: Any) -> tuple[Any, Any]:
    """States and filters at `t1`, where units ended on an arrival or an event at that very time, also as that moves.

    A Taylor polynomial in the time that is left, which is zero, gives their first and second derivatives.
    """

    def slopes(t, state, filters):
        def one(neuron, t, state, filters):
            slope = cast(neuron.dynamics(t, state, drive_of(neuron.synapse, filters)), t.dtype)
            still = jnp.zeros_like(t)
            return slope, jax.jvp(lambda h: evolve_filters(neuron.synapse, filters, h), (still,), (still + 1.0,))[1]

        return over_units(one, neuron, t, state, filters)

    t = spread(end.t, end.count)
    leaves = jax.tree.leaves(lax.stop_gradient(slopes(t, end.state, end.filters)))
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x), axis=tuple(range(3, x.ndim))) for x in leaves]), axis=0)
    is_at_end = finite & (t >= t1)
    # Elsewhere at rest, so that no derivative is NaN.
    rest = over_units(lambda neuron, t: cast(neuron.initial_state(), t.dtype), neuron, t)
    state = tree_where(is_at_end, end.state, rest)
    filters = tree_where(is_at_end, end.filters, zeros_like(end.filters))
    slope = slopes(t, state, filters)
    _, curvature = jax.jvp(slopes, (t, state, filters), (jnp.ones_like(t), *slope))
    # A singular slope, such as that of a square root at zero, has no finite curvature: zero times that is NaN.
    curvature = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0), curvature)
    left = jnp.where(is_at_end, lax.stop_gradient(t) - t, 0.0)
    return add_scaled(add_scaled((end.state, end.filters), left, slope), 0.5 * left**2, curvature)


def _is_finite(end: LoopEnd) -> Any:
    """Whether all states of a sample are finite."""
    point = lax.stop_gradient((end.state, end.filters))
    finite = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(point)]
    return jnp.all(jnp.stack(finite), axis=0)


def _none_of(where: Any) -> Any:
    """Whether `where` holds for no unit of a sample."""
    return jnp.sum(jnp.where(where, 1, 0), axis=(1, 2)) == 0


def _obstacle(network: Network, name: str, expected: Expected) -> str:
    """Why a layer cannot have bins; empty if it can."""
    neuron = network.layers[name].neuron
    if stops_at_arrivals(neuron):
        return "An arrival through a `DeltaSynapse` changes the membrane directly."
    if any(leaf.ndim > 0 for leaf in jax.tree.leaves(eqx.filter(neuron.synapse, eqx.is_array))):
        return "The filters differ between neurons."
    if any(c.has_own_arrivals for c in network.incoming(name)):
        return "Each neuron has its own arrivals, due to its synapses or their delays."
    if expected.duration is None:
        return "The duration is traced, and the number of bins would depend on it."
    return ""


def _nonlinearity(network: Network, name: str) -> str:
    """Why the dynamics rule out bins; empty if they do not. This traces the neuron."""
    if rates.is_linear_in_drive(network.layers[name].neuron, network.dtype):
        return ""
    return "The slope of the state is not linear in the drive, so the straight-line drive of a bin would change it."


def _require_solver(solver: Any) -> None:
    require_instance(solver, diffrax.AbstractSolver, "solver", "a Diffrax solver", "For example `diffrax.Tsit5()`.")
    # The placeholder of Diffrax for tolerances that its own loop would fill in.
    absent = diffrax.Kvaerno5().root_finder.rtol
    is_whole = all(leaf is not absent for leaf in jax.tree.leaves(solver))
    hint = "Write `root_finder=optimistix.Newton(rtol=1e-10, atol=1e-12)`, for example."
    require(is_whole, "solver", "one with tolerances for its root finder", type(solver).__name__, hint)
