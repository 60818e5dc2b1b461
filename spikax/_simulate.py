"""The entry: a network, its inputs, and a duration."""

import itertools
import math
import warnings
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._checks import as_array, known, require, require_count, require_finite, require_instance, require_positive
from ._devices import check_devices
from ._engine.adjoint import AbstractAdjoint, DiscreteAdjoint
from ._engine.control import StepControl
from ._engine.loop import Settings, Standing
from ._engine.rates import fastest
from ._engine.reverse import MESSAGE
from ._engine.step import AbstractStepper, make_stepper
from ._engine.units import cast, over_units
from ._method import AbstractMethod, EventLoop, OneClock, ParallelInTime, Task
from ._network import Network
from ._one_clock import simulate_with_one_clock
from ._recurrence import Group, Member, simulate_group, Tally
from ._results import RESULTS
from ._solution import Saved, Solution, Stats
from ._spikes import Events, Spikes
from ._synapse import is_impulsive, is_synapse
from ._types import resolved
from ._until import checked_quota, FirstSpikes
from ._violations import Violations
from ._wiring import hear, Population, Train


def simulate(
    network: Network,
    inputs: Spikes | Events | Mapping[str, Spikes | Events],
    t1: Any,
    *,
    t0: Any = 0.0,
    saveat: Any = None,
    initial_states: Mapping[str, Any] | None = None,
    solver: diffrax.AbstractSolver | None = None,
    dt0: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_spikes: int | Mapping[str, int] = 8,
    max_steps: int = 4096,
    until: FirstSpikes | None = None,
    adjoint: AbstractAdjoint | None = None,
    method: AbstractMethod | None = None,
    windows: int | None = None,
    throw: bool = True,
) -> Solution:
    """Simulates a network from `t0` to `t1`.

    Spikes at `t1` count; inputs after it are ignored.

    **Main arguments:**

    - `network`: the network.
    - `inputs`: the input spikes, [`spikax.Spikes`][] or [`spikax.Events`][], with any leading batch axes; for several
      inputs, a dictionary of them.
    - `t1`: the end of the simulation, in ms.

    **Other arguments:**

    - `t0`: the start of the simulation; no input may come before it.
    - `saveat`: times between `t0` and `t1`, in any order, at which states and drives are saved; either for all
      layers, or a dictionary from names of layers to times. A state at the time of a jump is the one after it.
    - `initial_states`: the states at `t0`, by the name of the layer, in place of the neurons' own; leaves of shape
      `()`, `(neurons,)` or `(*batch, neurons)`.
    - `solver`: any Diffrax solver. Explicit Runge–Kutta methods are fastest. By default `diffrax.Tsit5()`.
      An implicit one needs a root finder that converges, such as `optimistix.Newton(rtol=1e-10, atol=1e-12)`: a step
      whose equations it does not solve is tried again, shorter.
    - `dt0`: with tolerances, the length of the first step; without, that of every step. No step passes an
      arrival, but in the cells of `EventLoop`.
    - `rtol`, `atol`: the error that a step may have is `atol + rtol * |state|`. By default 1e-9 in float64 and 1e-5 in
      float32, unless `dt0` is given alone: then the steps are fixed. Their lengths, once chosen, are constants for the
      derivative, as in Diffrax.
    - `max_spikes`: how many spikes of a neuron can be recorded; one number, or a dictionary by name of layer.
    - `max_steps`: how many steps a layer may take: iterations of the event loop, and, where no solver is needed, spikes
      of a neuron. In windows of time, so many in each sweep over a window, and as many sweeps.
    - `until`: when the simulation may end before `t1`, for example [`spikax.FirstSpikes`][]: at the first spikes of
      the outputs.
    - `adjoint`: how the event loop is differentiated; by default [`spikax.DiscreteAdjoint`][].
    - `method`: how the spikes are found: [`spikax.ParallelInTime`][], for linear neurons, [`spikax.EventLoop`][],
      or, for linear neurons that listen to each other without delay, [`spikax.OneClock`][].
      By default each layer takes the first that suits its neurons, or the event loop where a `solver`, `dt0`, `rtol`
      or `atol` is given. `Solution.stats` reports the choice.
    - `windows`: into how many windows of time the simulation of layers that listen to each other is cut. In each,
      sweeps over the layers are repeated until no spike changes; where delays are longer than a window, one is enough.
      It changes no result but by rounding and the error of the steps, only the time that it takes. By default, a window
      is about as long as the shortest delay, or as the fastest time constant. With `until`, all layers are cut so: the
      simulation ends with the window at whose end no sample needs more.
    - `throw`: whether to raise an error if the simulation of a sample fails. Otherwise `Solution.result` tells, and
      the other samples stay valid.

    **Returns:** a [`spikax.Solution`][].

    **Raises:** `TypeError` or `ValueError` for arguments that cannot be meant; at run time, with `throw`, the message
    of the failing sample's [`spikax.RESULTS`][]: alone under `eqx.filter_jit`, and under `jax.jit` near the end of a
    report of JAX that fills pages.
    """
    require_instance(network, Network, "network", "a `sx.Network`", "For example `sx.sequential(...)`.")
    network = resolved(network)
    sources = _input_spikes(network, inputs)
    _check_span(t0, t1, sources)
    _warn_of_seconds(network, sources, t0)
    adjoint = DiscreteAdjoint() if adjoint is None else adjoint
    require_instance(adjoint, AbstractAdjoint, "adjoint", "an adjoint", "For example `sx.DiscreteAdjoint()`.")
    require_instance(throw, bool, "throw", "True or False")
    check_devices((network, sources), throw)
    require_count(max_steps, "max_steps")
    dtype = network.dtype
    times = {name: jnp.asarray(ts, dtype) for name, ts in _saved_times(network, saveat, t0, t1).items()}
    capacity = _capacity(network, max_spikes)
    methods = _methods(network, method, any(option is not None for option in (solver, dt0, rtol, atol)), windows)
    has_tolerance = any(option is not None for option in (dt0, rtol, atol))
    duration = _duration(t0, t1)
    groups = _groups(network, until, windows)
    quota = checked_quota(until, network, groups, list(times))
    cut = _windows(network, groups, methods, windows, duration)
    plan = _Plan(
        t0=jnp.asarray(t0, dtype),
        t1=jnp.asarray(t1, dtype),
        times=times,
        initial_states=_checked_states(network, initial_states),
        stepper=make_stepper(_checked_solver(solver)),
        control=_control(solver, dt0, rtol, atol, t0, t1, dtype),
        capacity=capacity,
        max_steps=int(max_steps),
        quota=quota,
        adjoint=adjoint,
        methods=methods,
        cells=_cells(network, methods, _expected(network, sources), duration, has_tolerance, cut),
        windows=cut,
        groups=groups,
    )
    run = _run if math.prod(_batch(sources)) > 0 else _run_without_samples
    try:
        solution, violations = run(network, sources, plan)
    except TypeError as error:
        # JAX's own words for forward mode name neither the simulation nor what to do.
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(MESSAGE) from error
    return _throwing(solution, plan, violations) if throw else solution


class _Plan(eqx.Module):
    """All arguments of a simulation but the network and its inputs, checked."""

    t0: Array
    t1: Array
    times: dict[str, Array]
    initial_states: dict[str, Any]
    stepper: AbstractStepper
    control: StepControl
    capacity: dict[str, int] = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    quota: dict[str, int] = eqx.field(static=True)
    adjoint: AbstractAdjoint
    methods: dict[str, AbstractMethod]
    cells: dict[str, int] = eqx.field(static=True)
    windows: dict[str, int] = eqx.field(static=True)  # of each layer that is simulated in windows
    groups: tuple[tuple[str, ...], ...] = eqx.field(static=True)  # of layers that are simulated together

    @property
    def ends_early(self) -> bool:
        """Whether a sample ends before `t1`, where `until` says so: states that are saved are wanted in full."""
        return bool(self.quota) and not self.times


@eqx.filter_jit
def _run(network: Network, sources: dict[str, Spikes | Events], plan: _Plan) -> tuple[Solution, Violations]:
    batch, violations = _batch(sources), Violations.of(network)
    outside = [jnp.any(~((ts >= plan.t0) & (ts <= plan.t1))) for ts in plan.times.values()]
    backwards = jnp.any(jnp.stack([~(plan.t1 > plan.t0), *outside]))
    # With parameters that no method is made for, all samples end where they start.
    plan = eqx.tree_at(lambda plan: plan.t1, plan, jnp.where(violations.any(), plan.t0, plan.t1))
    # Only where arrivals change membranes at once does their order at one instant matter.
    is_ordered = any(is_impulsive(layer.neuron.synapse) for layer in network.layers.values())
    trains = {name: Train.of(spikes, plan.t0.dtype, is_ordered) for name, spikes in sources.items()}
    early = [jnp.any(~(train.times >= plan.t0), axis=range(1, train.times.ndim)) for train in trains.values()]
    invalid = jnp.any(jnp.stack(early), axis=0) | backwards
    # The samples with invalid times run without any input, and are reported.
    trains = {name: _silenced(train, invalid | violations.any()) for name, train in trains.items()}
    saved, tallies, spikes = {}, {}, {}
    for group in plan.groups:
        members = {name: _member(plan, group, name) for name in group}
        populations = {name: _population(network, name, math.prod(batch), plan) for name in group}
        if _is_joint(plan, group):
            found = _simulate_group(network, populations, members, trains, plan)
            trains, saved, tallies = trains | found.trains, saved | found.saved, tallies | found.tally
        else:
            (name,) = group
            heard = hear(network.layers[name], network.incoming(name), trains)
            inputs = heard.inputs(populations[name], plan.t0, plan.t1)
            with jax.named_scope(f"layer {name}"):
                member = members[name]
                outcome, states = member.simulate(inputs, plan.adjoint, member.ts)
            emitted = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[..., 0], 0, -1), outcome.trains)
            trains[name] = Train(emitted.times, emitted.payload, generation=emitted.generation)
            tallies[name] = Tally.of(outcome)
            if states is not None:
                saved[name] = states
    failures = _failures(network, plan, trains, tallies)
    for name in network.layers:
        train = trains[name].first(plan.capacity[name])
        found = jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), (train.times, train.payload))
        spikes[name] = Spikes(*found)
    both = {
        name: jax.tree.map(lambda leaf: _public(leaf, batch), saved[name]) for name in network.layers if name in saved
    }
    states, drives = (Saved((name, pair[i]) for name, pair in both.items()) for i in range(2))
    reports = {
        name: _report(tallies[name], plan, name, failures[name], (invalid, violations), batch)
        for name in network.layers
    }
    results, stats = ({name: report[i] for name, report in reports.items()} for i in range(2))
    return Solution(spikes, states, drives, _overall(results), results, stats), violations


def _run_without_samples(
    network: Network, sources: dict[str, Spikes | Events], plan: _Plan
) -> tuple[Solution, Violations]:
    """The solution of an empty batch, in the shapes that one sample would have."""
    batch = _batch(sources)

    def one(leaf):
        return jnp.zeros((1, *leaf.shape[len(batch) :]), leaf.dtype)

    def none(leaf):
        return jnp.zeros((*batch, *leaf.shape[1:]) if leaf.ndim else (), leaf.dtype)

    states = jax.tree.map(lambda leaf: one(leaf) if 0 in jnp.shape(leaf) else leaf, plan.initial_states)
    plan = eqx.tree_at(lambda plan: plan.initial_states, plan, states)
    shapes = eqx.filter_eval_shape(_run, network, jax.tree.map(one, sources), plan)
    return jax.tree.map(lambda leaf: none(leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, shapes)


def _batch(sources: dict[str, Spikes | Events]) -> tuple[int, ...]:
    """The batch axes."""
    first = next(iter(sources.values()))
    return first.times.shape[:-1] if isinstance(first, Events) else first.times.shape[:-2]


def _silenced(train: Train, invalid: Bool[Array, " batch"]) -> Train:
    where = invalid.reshape(-1, *(1,) * (train.times.ndim - 1))
    return eqx.tree_at(lambda train: train.times, train, jnp.where(where, jnp.inf, train.times))


def _simulate_group(network: Network, populations: dict, members: dict, outside: dict, plan: _Plan) -> Group:
    """Simulates layers that listen to each other."""
    quota = {name: n for name, n in plan.quota.items() if name in members}
    first = next(iter(members))
    if isinstance(plan.methods[first], OneClock):
        return simulate_with_one_clock(network, populations, members, outside, plan.t0, plan.t1, quota)
    options = plan.adjoint, plan.t0, plan.t1, plan.windows[first], quota
    return simulate_group(network, populations, members, outside, *options)


def _is_joint(plan: _Plan, group: tuple[str, ...]) -> bool:
    """Whether the layers of a group are simulated together, in windows or with one clock."""
    return group[0] in plan.windows or isinstance(plan.methods[group[0]], OneClock)


def _member(plan: _Plan, group: tuple[str, ...], name: str) -> Member:
    """How a layer is simulated."""
    settings = Settings(
        plan.stepper,
        plan.control,
        # With room for the first spike of too many: what fails after the end of a sample is no failure.
        plan.capacity[name] + int(plan.ends_early and not isinstance(plan.methods[name], OneClock)),
        plan.max_steps,
        quota=_stop_after(plan, group, name),
        cells=plan.cells[name],
    )
    return Member(plan.methods[name], settings, plan.times.get(name))


def _stop_after(plan: _Plan, group: tuple[str, ...], name: str) -> int | None:
    """For how many spikes a neuron is simulated; together no neuron ends before all do."""
    if _is_joint(plan, group):
        return None
    return plan.quota.get(name, plan.capacity[name] + 1 if plan.ends_early else None)


def _population(network: Network, name: str, batch: int, plan: _Plan) -> Population:
    """The neurons of a layer at `t0`."""
    layer, dtype = network.layers[name], plan.t0.dtype
    shape = (batch, layer.size, 1)

    def placed(leaf):
        return leaf if leaf.ndim == 0 else jnp.broadcast_to(leaf[None, :, None], (*shape, *leaf.shape[1:]))

    parameters, rest = eqx.partition(layer.neuron, eqx.is_array)
    parameters = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, parameters)
    neuron = eqx.combine(jax.tree.map(placed, parameters), rest)
    state = over_units(lambda neuron, _: cast(neuron.initial_state(), dtype), neuron, jnp.zeros(shape))
    if name in plan.initial_states:
        given = cast(plan.initial_states[name], dtype)
        state = jax.tree.map(lambda given, own: _as_state(given, own, name), given, state)
    weight = jax.tree.map(lambda _: jnp.zeros((), dtype), layer.neuron.synapse, is_leaf=is_synapse)
    return Population(neuron, Standing.of(neuron, weight, state, plan.t0, plan.control.h0))


class _Failure(eqx.Module):
    """How a layer failed in each sample, before its end, and whether one that it receives from did."""

    own: tuple[Bool[Array, " batch"], ...]  # in the order of `_CAUSES`
    of_source: Bool[Array, " batch"]


def _failures(
    network: Network, plan: _Plan, trains: dict[str, Train], tallies: dict[str, Tally]
) -> dict[str, _Failure]:
    """What fails after the end of a sample, as `until` sets it, is no failure."""
    end = _ends_at(plan, trains)
    failures, failed_at = {}, {}
    for group in plan.groups:
        own = {name: _failed_at(tallies[name], trains[name], plan.capacity[name]) for name in group}
        sources = {c.source for name in group for c in network.incoming(name)} & set(failed_at)
        together = jnp.min(jnp.stack([*own.values(), *(failed_at[source] for source in sources)]), axis=0)
        failed_at |= dict.fromkeys(group, together)
        for name in group:
            tally = tallies[name]
            too_many = jnp.any(tally.count > plan.capacity[name], axis=1)
            causes = (~tally.settled, too_many, ~tally.finished, tally.stuck, ~tally.finite)
            causes = tuple(cause & (own[name] <= end) for cause in causes)
            failures[name] = _Failure(causes, (together <= end) & (together < jnp.inf))
    return failures


def _failed_at(tally: Tally, train: Train, capacity: int) -> Float[Array, " batch"]:
    """When a layer failed in each sample: `inf` where it did not, and `-inf` where that is not known."""
    if train.places > capacity:
        # There is room for the first spike of too many.
        return jnp.minimum(tally.failed_at, jnp.min(jax.lax.stop_gradient(train.times[..., capacity]), axis=1))
    too_many = jnp.any(tally.count > capacity, axis=1)
    return jnp.where(too_many & (tally.failed_at == jnp.inf), -jnp.inf, tally.failed_at)


def _ends_at(plan: _Plan, trains: dict[str, Train]) -> Float[Array, " batch"] | float:
    """When each sample ends, as `until` sets it: `inf` where the whole duration counts."""
    if not plan.ends_early:
        return jnp.inf
    latest = [jnp.max(trains[name].times[..., n - 1], axis=1) for name, n in plan.quota.items()]
    return jax.lax.stop_gradient(jnp.max(jnp.stack(latest), axis=0))


def _report(
    tally: Tally,
    plan: _Plan,
    name: str,
    failure: _Failure,
    invalid: tuple[Bool[Array, " batch"], Violations],
    batch: tuple[int, ...],
) -> tuple[RESULTS, Stats]:
    """How each sample ended in one layer, and what it took; `invalid` are input times and parameters."""
    times, parameters = invalid
    # Where one layer could not be simulated, none was.
    causes = (failure.of_source | parameters.any(), *failure.own, times, parameters.any(name))
    result = jax.vmap(_ending)(tuple(jnp.broadcast_to(part, times.shape) for part in causes))
    result = jax.tree.map(lambda leaf: leaf.reshape(batch), result)
    stats = Stats(
        spikes=jnp.sum(tally.count, axis=1, dtype=tally.count.dtype).reshape(batch),
        most_spikes=jnp.max(tally.count, axis=1).reshape(batch),
        iterations=tally.iterations,
        rejected_steps=tally.rejected.reshape(batch),
        sweeps=tally.sweeps,
        method=type(plan.methods[name]).__name__,
        windows=plan.windows.get(name, 1),
    )
    return result, stats


def _overall(results: dict[str, RESULTS]) -> RESULTS:
    """How each sample ended: as in the first layer that failed."""

    def one(results):
        overall = RESULTS.successful
        for result in results:
            explains = (overall == RESULTS.successful) | (overall == RESULTS.source_failed)
            overall = RESULTS.where(explains & (result != RESULTS.successful), result, overall)
        return overall

    flat = jax.tree.map(jnp.ravel, list(results.values()))
    shapes = [leaf.shape for leaf in jax.tree.leaves(results)]
    return jax.tree.map(lambda leaf: leaf.reshape(shapes[0]), jax.vmap(one)(flat))


# How a sample can fail; what explains the others comes last.
_CAUSES = (
    RESULTS.source_failed,
    RESULTS.unsettled,
    RESULTS.max_spikes_reached,
    RESULTS.max_steps_reached,
    RESULTS.step_too_small,
    RESULTS.not_finite,
    RESULTS.invalid_times,
    RESULTS.invalid_parameters,
)


def _ending(happened: tuple[Bool[Array, ""], ...]) -> RESULTS:
    """How one sample ended, given which of the causes there were."""
    result = RESULTS.successful
    for here, cause in zip(happened, _CAUSES, strict=True):
        result = RESULTS.where(here, cause, result)
    return result


def _throwing(solution: Solution, plan: _Plan, violations: Violations) -> Solution:
    """The solution, unless a sample failed: then an error at run time."""
    # Parameters have messages of their own, and a layer whose source failed is not the one to look at.
    failures = _CAUSES[1:-1]
    happened, messages = [], []
    for name, result in solution.results.items():
        values = {"max_spikes": plan.capacity[name], "max_steps": plan.max_steps}
        for failure in failures:
            happened.append(jnp.any(result == failure))
            now = ", ".join(f"{argument}={value}" for argument, value in values.items())
            messages.append(f"Layer `{name}` (with {now}): {RESULTS[failure]}")
    happened, messages = jnp.append(violations.happened, jnp.stack(happened)), [*violations.messages, *messages]
    now = known(happened)
    if now is not None:
        # Nothing waits for this error, as other devices would for one that is raised on a device.
        if now.any():
            raise RuntimeError(messages[int(now.argmax())])
        return solution
    floats, rest = eqx.partition(solution, eqx.is_inexact_array)
    floats = eqx.branched_error_if(floats, jnp.any(happened), jnp.argmax(happened), messages)
    return eqx.combine(floats, rest)


def _public(leaf: Array, batch: tuple[int, ...]) -> Array:
    """From (ts, batch, units, 1, ...) to (*batch, ts, neurons, ...)."""
    moved = jnp.moveaxis(leaf[:, :, :, 0], 0, 1)
    return moved.reshape(*batch, *moved.shape[1:])


def _as_state(given: Array, own: Array, name: str) -> Array:
    """From (), (neurons,) or (*batch, neurons) to (batch, neurons, 1)."""
    trailing = own.ndim - 3
    leading = given.ndim - trailing
    inner = given.shape[leading:]
    neurons = own.shape[1]
    samples = math.prod(given.shape[: leading - 1])
    fits = leading == 0 or (given.shape[leading - 1] == neurons and samples in (1, own.shape[0]))
    expectation = f"of shape (), ({neurons},) or (*batch, {neurons}), for {own.shape[0]} samples"
    require(fits, f"initial_states[{name!r}]", expectation, given)
    flat = given.reshape(samples, neurons, 1, *inner) if leading > 0 else given
    return jnp.broadcast_to(flat, own.shape)


def _input_spikes(network: Network, inputs: Any) -> dict[str, Spikes | Events]:
    names = list(network.inputs)
    if not isinstance(inputs, Mapping):
        require(len(names) == 1, "inputs", f"a dictionary with the entries {names}", inputs)
        inputs = {names[0]: inputs}
    require(set(inputs) == set(names), "inputs", f"a dictionary with the entries {names}", sorted(inputs))
    found = {}
    for name, value in inputs.items():
        require_instance(
            value, (Spikes, Events), "inputs", "`sx.Spikes` or `sx.Events`", "Wrap the times in `sx.Spikes`."
        )
        n = value.n if isinstance(value, Events) else value.times.shape[-2]
        got = f"{n} channels, with times of shape {value.times.shape}"
        hint = (
            "" if isinstance(value, Events) else "One spike per channel still needs its own axis: `times[..., None]`."
        )
        require(n == network.inputs[name], "inputs", f"spikes of {network.inputs[name]} channels", got, hint)
        found[name] = value
    shapes = {_batch({name: spikes}) for name, spikes in found.items()}
    require(len(shapes) == 1, "inputs", "of the same batch axes for every input", shapes)
    return found


def _check_span(t0: Any, t1: Any, sources: dict[str, Spikes | Events]) -> None:
    for name, value in (("t0", t0), ("t1", t1)):
        require_finite(float(value) if isinstance(value, int) and not isinstance(value, bool) else value, name)
        require(np.ndim(value) == 0, name, "one number", value, "All samples share it.")
    start, end = known(t0), known(t1)
    if start is None or end is None:
        return
    require(bool(end > start), "t1", f"after t0 = {float(start)}", t1)
    for spikes in sources.values():
        times = known(spikes.times)
        early = times is not None and bool(np.any(times < start))
        require(not early, "inputs", f"spikes at or after t0 = {float(start)}", times, "Shift them, or set `t0`.")


def _warn_of_seconds(network: Network, sources: dict[str, Spikes | Events], t0: Any) -> None:
    """Warns of inputs that end, after `t0`, before a hundredth of any time constant has passed, if all is known."""
    parts = known(t0), *(known(spikes.times) for spikes in sources.values())
    if any(part is None for part in parts):
        return
    start, *times = parts
    ends = [float(np.max(part, initial=-np.inf, where=part < np.inf)) for part in times]
    length = max(ends) - float(start)
    # To look for time constants takes a while, and hardly any is longer than 100 ms.
    if not 0.0 < length < 1.0:
        return
    rates = [fastest(layer.neuron, network.dtype) for layer in network.layers.values()]
    rate = max((rate for rate in rates if rate is not None), default=0.0)
    if 0.0 < length * rate < 0.01:
        message = (
            f"The `inputs` end {length:.3g} ms after `t0`, before a hundredth of the shortest time constant, "
            f"{1.0 / rate:.3g} ms, has passed. Times are in ms: multiply those in seconds by 1000."
        )
        warnings.warn(message, stacklevel=3)


def _saved_times(network: Network, saveat: Any, t0: Any, t1: Any) -> dict[str, Any]:
    if saveat is None:
        return {}
    by_layer = dict(saveat) if isinstance(saveat, Mapping) else dict.fromkeys(network.layers, saveat)
    for name, ts in by_layer.items():
        require(name in network.layers, "saveat", f"for layers among {list(network.layers)}", name)
        ts = as_array(ts, "saveat")
        require(np.ndim(ts) == 1, "saveat", "times of shape (times,)", ts, error=TypeError)
        # In the float type of the simulation, where a rounded `t1` is still `t1`.
        span = [known(part) for part in (t0, t1, ts)]
        if all(part is not None for part in span):
            start, end, when = (np.asarray(part, network.dtype) for part in span)
            inside = bool(np.all((when >= start) & (when <= end)))
            require(inside, "saveat", f"between t0 = {float(start)} and t1 = {float(end)}", ts)
    return by_layer


def _checked_states(network: Network, initial_states: Any) -> dict[str, Any]:
    states = {} if initial_states is None else initial_states
    require_instance(states, Mapping, "initial_states", "a dictionary from names of layers to states")
    for name, state in states.items():
        require(name in network.layers, "initial_states", f"for layers among {list(network.layers)}", name)
        own = jax.tree.structure(network.layers[name].neuron.initial_state())
        same = jax.tree.structure(state) == own
        argument = f"initial_states[{name!r}]"
        require(same, argument, f"of the structure {own}", jax.tree.structure(state))
        for leaf in jax.tree.leaves(state):
            require_finite(as_array(leaf, argument), argument)
    return dict(states)


def _checked_solver(solver: Any) -> diffrax.AbstractSolver:
    solver = diffrax.Tsit5() if solver is None else solver
    require_instance(solver, diffrax.AbstractSolver, "solver", "a Diffrax solver", "For example `diffrax.Tsit5()`.")
    # What Diffrax puts in place of tolerances that its own loop would fill in.
    absent = diffrax.Kvaerno5().root_finder.rtol
    is_whole = all(leaf is not absent for leaf in jax.tree.leaves(solver))
    hint = "Write `root_finder=optimistix.Newton(rtol=1e-10, atol=1e-12)`, for example."
    require(is_whole, "solver", "one with tolerances for its root finder", type(solver).__name__, hint)
    return solver


def _control(solver: Any, dt0: Any, rtol: Any, atol: Any, t0: Any, t1: Any, dtype: Any) -> StepControl:
    for name, value in (("dt0", dt0), ("rtol", rtol), ("atol", atol)):
        if value is not None:
            require_positive(value, name)
            require(np.ndim(value) == 0, name, "one number", value)
    stepper = make_stepper(_checked_solver(solver))
    order = stepper.error_order
    is_fixed = rtol is None and atol is None and (dt0 is not None or order is None)
    if is_fixed:
        hint = f"The solver {type(solver).__name__} estimates no error, and so cannot choose its steps."
        require(dt0 is not None, "dt0", "given", dt0, hint)
        return StepControl(jnp.asarray(dt0, dtype), None, None, None)
    hint = f"The solver {type(solver).__name__} estimates no error: give `dt0` alone."
    require(order is not None, "rtol", "None", rtol, hint)
    default = 1e-9 if dtype == jnp.float64 else 1e-5
    rtol = rtol if rtol is not None else (atol if atol is not None else default)
    atol = atol if atol is not None else rtol
    h0 = dt0 if dt0 is not None else (t1 - t0) / 64
    return StepControl(jnp.asarray(h0, dtype), float(rtol), float(atol), order, stepper.crude_order)


def _methods(
    network: Network, method: AbstractMethod | None, has_solver: bool, windows: int | None
) -> dict[str, AbstractMethod]:
    """The method of each layer: the given one, or the fastest of those that suit."""
    if method is None:
        # Who asks for a solver or its tolerances asks for the loop that uses them, and windows are for sweeps.
        whole = [] if windows is not None else [OneClock()]
        choice = [EventLoop()] if has_solver else [*whole, ParallelInTime(), EventLoop()]
    else:
        require_instance(method, AbstractMethod, "method", "a method", "For example `sx.EventLoop()`.")
        hint = "`solver`, `dt0`, `rtol` and `atol` are for the event loop."
        is_loop = isinstance(method, EventLoop)
        require(is_loop or not has_solver, "method", "`sx.EventLoop()` where a solver is given", method, hint)
        choice = [method]
    methods = {}
    for group in network.groups():
        for name in group:
            suitable = [method for method in choice if method.suits(network, group, name)]
            kind = type(network.layers[name].neuron).__name__
            hint = f"`{name}` has {kind} neurons. Leave `method` out, and each layer takes the fastest that suits it."
            require(len(suitable) > 0, "method", f"one that suits the layer `{name}`", method, hint)
            methods[name] = suitable[0]
    return methods


def _duration(t0: Any, t1: Any) -> float | None:
    """From `t0` to `t1`, where that is known."""
    start, end = known(t0), known(t1)
    return None if start is None or end is None else float(end) - float(start)


def _expected(network: Network, sources: dict[str, Spikes | Events]) -> dict[str, int]:
    """How many spikes are expected to reach each layer: one of each neuron, and all that inputs have places for."""
    emitted = {name: layer.size for name, layer in network.layers.items()}
    for name, spikes in sources.items():
        emitted[name] = math.prod(spikes.times.shape[len(_batch(sources)) :])
    return {name: sum(emitted[c.source] for c in network.incoming(name)) for name in network.layers}


def _cells(
    network: Network,
    methods: dict[str, AbstractMethod],
    expected: dict[str, int],
    duration: float | None,
    has_tolerance: bool,
    windows: dict[str, int],
) -> dict[str, int]:
    """How many cells the method of each layer goes across; none where it stops at every arrival."""
    cells = {}
    for name, layer in network.layers.items():
        parts = windows.get(name, 1)
        share = None if duration is None else duration / parts
        each_alone = any(c.has_own_arrivals for c in network.incoming(name))
        task = Task(layer.neuron, share, expected[name] // parts, network.dtype, has_tolerance, each_alone)
        cells[name] = methods[name].cells(task)
    return cells


def _groups(network: Network, until: FirstSpikes | None, windows: int | None) -> tuple[tuple[str, ...], ...]:
    """The layers that are simulated together, each after those that it listens to."""
    if windows is not None:
        require_count(windows, "windows")
    groups = network.groups()
    # Only together can all layers end early.
    return (tuple(itertools.chain(*groups)),) if until is not None and windows is not None else groups


def _windows(
    network: Network, groups: tuple, methods: dict, windows: int | None, duration: float | None
) -> dict[str, int]:
    """Into how many windows of time each layer is cut that is simulated in windows."""
    cut = {}
    for group in groups:
        is_own = group in network.groups()
        if is_own and (not network.is_recurrent(group) or isinstance(methods[group[0]], OneClock)):
            continue
        cut |= dict.fromkeys(group, _own_windows(network, group, duration) if windows is None else int(windows))
    return cut


def _own_windows(network: Network, group: tuple[str, ...], duration: float | None) -> int:
    """As long as the shortest delay in the group, where it has one, and else as the fastest of its time constants."""
    if duration is None:
        # How long a window is does not matter for what comes out.
        return 16
    inside = [c for c in network.connections if c.source in group and c.target in group]
    delays = [None if c.delay is None else known(c.delay) for c in inside]
    shortest = min(0.0 if delay is None else float(np.min(delay)) for delay in delays)
    rates = [fastest(network.layers[name].neuron, network.dtype) for name in group]
    known_rates = [rate for rate in rates if rate]
    # Of rates that are traced or zero nothing is known: then no spike arrives in its own window, if that makes no more
    # windows than 128, and else there are as many as where the duration is not known.
    unknown = shortest if shortest >= duration / 128.0 else duration / 16.0
    constant = 1.0 / max(known_rates) if known_rates else unknown
    return max(1, math.ceil(duration / max(shortest, constant) * (1.0 - 1e-9)))


def _capacity(network: Network, max_spikes: Any) -> dict[str, int]:
    if not isinstance(max_spikes, Mapping):
        require_count(max_spikes, "max_spikes")
        return dict.fromkeys(network.layers, int(max_spikes))
    require(set(max_spikes) == set(network.layers), "max_spikes", f"for the layers {list(network.layers)}", max_spikes)
    for name, value in max_spikes.items():
        require_count(value, f"max_spikes[{name!r}]")
    return {name: int(value) for name, value in max_spikes.items()}
