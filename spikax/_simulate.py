"""The entry: a network, its inputs, and a duration."""

import math
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from ._checks import as_array, known, require, require_count, require_finite, require_instance, require_positive
from ._engine.adjoint import AbstractAdjoint, DiscreteAdjoint, Inputs, Outcome
from ._engine.control import StepControl
from ._engine.loop import Settings
from ._engine.step import AbstractStepper, make_stepper
from ._engine.units import cast, over_units
from ._method import AbstractMethod, EventLoop, ParallelInTime, Task
from ._network import Network
from ._neuron import AbstractNeuron
from ._results import RESULTS
from ._solution import Solution, Stats
from ._spikes import Events, Spikes
from ._synapse import is_synapse
from ._types import resolved
from ._until import checked_quota, FirstSpikes


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
    max_steps: int = 1024,
    until: FirstSpikes | None = None,
    adjoint: AbstractAdjoint | None = None,
    method: AbstractMethod | None = None,
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
    - `max_steps`: how often the event loop of a layer may run; parallel in time, a neuron has to spike less often.
    - `until`: when the simulation may end before `t1`, for example [`spikax.FirstSpikes`][]: at the first spikes of
      the outputs.
    - `adjoint`: how the event loop is differentiated; by default [`spikax.DiscreteAdjoint`][].
    - `method`: how the spikes are found: [`spikax.ParallelInTime`][], for linear neurons, or [`spikax.EventLoop`][].
      By default each layer takes the first that suits its neurons, or the event loop where a `solver`, `dt0`, `rtol`
      or `atol` is given. `Solution.stats` reports the choice.
    - `throw`: whether to raise an error if the simulation of a sample fails. Otherwise `Solution.result` tells, and
      the other samples stay valid.

    **Returns:** a [`spikax.Solution`][].

    **Raises:** `TypeError` or `ValueError` for arguments that cannot be meant; at run time, with `throw`, the message
    of the failing sample's [`spikax.RESULTS`][].
    """
    require_instance(network, Network, "network", "a `sx.Network`", "For example `sx.sequential(...)`.")
    network = resolved(network)
    sources = _input_spikes(network, inputs)
    _check_span(t0, t1, sources)
    adjoint = DiscreteAdjoint() if adjoint is None else adjoint
    require_instance(adjoint, AbstractAdjoint, "adjoint", "an adjoint", "For example `sx.DiscreteAdjoint()`.")
    require_instance(throw, bool, "throw", "True or False")
    require_count(max_steps, "max_steps")
    dtype = network.dtype
    times = {name: jnp.asarray(ts, dtype) for name, ts in _saved_times(network, saveat, t0, t1).items()}
    capacity = _capacity(network, max_spikes)
    methods = _methods(network, method, any(option is not None for option in (solver, dt0, rtol, atol)))
    has_tolerance = any(option is not None for option in (dt0, rtol, atol))
    plan = _Plan(
        t0=jnp.asarray(t0, dtype),
        t1=jnp.asarray(t1, dtype),
        times=times,
        initial_states=_checked_states(network, initial_states),
        stepper=make_stepper(_checked_solver(solver)),
        control=_control(solver, dt0, rtol, atol, t0, t1, dtype),
        capacity=capacity,
        max_steps=int(max_steps),
        quota=checked_quota(until, network, list(times)),
        adjoint=adjoint,
        methods=methods,
        cells=_cells(network, methods, sources, capacity, _duration(t0, t1), has_tolerance),
    )
    solution = _run(network, sources, plan)
    return _throwing(solution, plan) if throw else solution


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


@eqx.filter_jit
def _run(network: Network, sources: dict[str, Spikes], plan: _Plan) -> Solution:
    batch = next(iter(sources.values())).times.shape[:-2]
    trains = {name: _flat(spikes.times, plan.t0.dtype) for name, spikes in sources.items()}
    invalid = jnp.stack([jnp.any(~(t >= plan.t0), axis=(1, 2)) for t in trains.values()]).any(axis=0)
    # The samples with invalid times run without any input, and are reported.
    trains = {name: jnp.where(invalid[:, None, None], jnp.inf, times) for name, times in trains.items()}
    payloads = {
        name: jax.tree.map(lambda leaf: _flat(leaf, plan.t0.dtype), spikes.payload) for name, spikes in sources.items()
    }
    spikes, states, drives, results, stats = {}, {}, {}, {}, {}
    for name in network.order():
        given = _layer_inputs(network, name, trains, payloads, plan)
        capacity, ts = plan.capacity[name], plan.times.get(name)
        settings = Settings(
            plan.stepper,
            plan.control,
            capacity,
            plan.max_steps,
            quota=plan.quota.get(name),
            cells=plan.cells[name],
        )
        with jax.named_scope(f"layer {name}"):
            outcome, saved = plan.methods[name].simulate(given, settings, plan.adjoint, ts)
            if saved is not None:
                states[name], drives[name] = jax.tree.map(lambda leaf: _public(leaf, batch), saved)
        found = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[..., 0], 0, -1), outcome.trains)
        trains[name], payloads[name] = found.times, found.payload
        found = jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), found)
        spikes[name] = Spikes(found.times, found.payload)
        results[name], stats[name] = _report(outcome, capacity, invalid, batch, plan.methods[name])
    return Solution(spikes, states or None, drives or None, _overall(results), results, stats)


def _layer_inputs(
    network: Network, name: str, trains: dict[str, Array], payloads: dict[str, PyTree[Array]], plan: _Plan
) -> Inputs:
    layer, dtype = network.layers[name], plan.t0.dtype
    batch = next(iter(trains.values())).shape[0]
    shape = (batch, layer.size, 1)
    connections = network.incoming(name)
    gains = None
    if connections:
        k = max(trains[connection.source].shape[2] for connection in connections)
        padded = [_padded(trains[connection.source], k) for connection in connections]
        times = jnp.concatenate(padded, axis=1)
        gains = _gains(layer.neuron, [payloads[c.source] for c in connections], [trains[c.source] for c in connections])
        weights = [connection.weight for connection in connections]
    else:
        times = jnp.full((batch, 1, 1), jnp.inf, dtype)
        weights = [jax.tree.map(lambda _: jnp.zeros((1, layer.size)), layer.neuron.synapse, is_leaf=is_synapse)]
    weight = jax.tree.map(lambda *leaves: jnp.concatenate(leaves).astype(dtype)[..., None], *weights)

    def placed(leaf):
        return leaf if leaf.ndim == 0 else jnp.broadcast_to(leaf[None, :, None], (*shape, *leaf.shape[1:]))

    parameters, rest = eqx.partition(layer.neuron, eqx.is_array)
    parameters = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, parameters)
    neuron = eqx.combine(jax.tree.map(placed, parameters), rest)
    own = over_units(lambda neuron, _: cast(neuron.initial_state(), dtype), neuron, jnp.zeros(shape))
    state = own
    if name in plan.initial_states:
        given = cast(plan.initial_states[name], dtype)
        state = jax.tree.map(lambda given, own: _as_state(given, own, name), given, own)
    return Inputs(neuron, weight, times, state, plan.t0, plan.t1, gains)


def _gains(neuron: AbstractNeuron, payloads: list[PyTree[Array]], trains: list[Array]) -> PyTree[Array] | None:
    """By what the weight of every spike that reaches a layer is multiplied; None where it is one everywhere.

    The spikes of a source without payload count with their weights.
    """
    gains = [None if payload is None else neuron.gain(payload) for payload in payloads]
    if all(gain is None for gain in gains):
        return None
    ports = jax.tree.structure(neuron.synapse, is_leaf=is_synapse)
    for gain in gains:
        fits = gain is None or jax.tree.structure(gain) == ports
        hint = f"`gain` of {type(neuron).__name__} gives one factor for every port of its synapse."
        require(fits, "gain(payload)", f"of the structure of the synapse, {ports}", jax.tree.structure(gain), hint)
    k = max(times.shape[2] for times in trains)

    def factors(gain, times):
        gain = ports.unflatten([jnp.ones(())] * ports.num_leaves) if gain is None else gain
        gain = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, times.dtype), times.shape), gain)
        return jax.tree.map(lambda leaf: jnp.pad(leaf, ((0, 0), (0, 0), (0, k - leaf.shape[2]))), gain)

    each = [factors(gain, times) for gain, times in zip(gains, trains, strict=True)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *each)


def _report(
    outcome: Outcome, capacity: int, invalid: Bool[Array, " batch"], batch: tuple[int, ...], method: AbstractMethod
):
    """How each sample ended in one layer, and what it took."""
    count = outcome.count[..., 0]
    too_many = jnp.any(count > capacity, axis=1)
    unfinished = jnp.any(~outcome.finished, axis=(1, 2))
    stuck = jnp.any(outcome.stuck, axis=(1, 2))
    result = jax.vmap(_ending)(too_many, unfinished, stuck, invalid)
    result = jax.tree.map(lambda leaf: leaf.reshape(batch), result)
    stats = Stats(
        spikes=jnp.sum(count, axis=1, dtype=count.dtype).reshape(batch),
        most_spikes=jnp.max(count, axis=1).reshape(batch),
        iterations=outcome.iterations,
        rejected_steps=outcome.rejected.reshape(batch),
        method=type(method).__name__,
    )
    return result, stats


def _overall(results: dict[str, RESULTS]) -> RESULTS:
    """How each sample ended: as in the first layer that failed."""

    def one(results):
        overall = RESULTS.successful
        for result in results:
            overall = RESULTS.where(overall == RESULTS.successful, result, overall)
        return overall

    flat = jax.tree.map(jnp.ravel, list(results.values()))
    shapes = [leaf.shape for leaf in jax.tree.leaves(results)]
    return jax.tree.map(lambda leaf: leaf.reshape(shapes[0]), jax.vmap(one)(flat))


def _ending(too_many: Array, unfinished: Array, stuck: Array, invalid: Array) -> RESULTS:
    """How one sample ended; what explains the other failures goes first."""
    result = RESULTS.where(too_many, RESULTS.max_spikes_reached, RESULTS.successful)
    result = RESULTS.where(unfinished, RESULTS.max_steps_reached, result)
    result = RESULTS.where(stuck, RESULTS.step_too_small, result)
    return RESULTS.where(invalid, RESULTS.invalid_times, result)


def _throwing(solution: Solution, plan: _Plan) -> Solution:
    """The solution, unless a sample failed: then an error at run time."""
    failures = (
        RESULTS.max_spikes_reached,
        RESULTS.max_steps_reached,
        RESULTS.step_too_small,
        RESULTS.invalid_times,
    )
    happened, messages = [], []
    for name, result in solution.results.items():
        values = {"max_spikes": plan.capacity[name], "max_steps": plan.max_steps}
        for failure in failures:
            happened.append(jnp.any(result == failure))
            now = ", ".join(f"{argument}={value}" for argument, value in values.items())
            messages.append(f"Layer `{name}` (with {now}): {RESULTS[failure]}")
    happened = jnp.stack(happened)
    floats, rest = eqx.partition(solution, eqx.is_inexact_array)
    floats = eqx.branched_error_if(floats, jnp.any(happened), jnp.argmax(happened), messages)
    return eqx.combine(floats, rest)


def _flat(times: Array, dtype: Any) -> Array:
    """All batch axes as one."""
    return times.reshape(math.prod(times.shape[:-2]), *times.shape[-2:]).astype(dtype)


def _padded(times: Array, k: int) -> Array:
    return jnp.pad(times, ((0, 0), (0, 0), (0, k - times.shape[2])), constant_values=jnp.inf)


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


def _input_spikes(network: Network, inputs: Any) -> dict[str, Spikes]:
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
        spikes = value if isinstance(value, Spikes) else Spikes.from_events(value.times, value.channels, value.n)
        n = spikes.times.shape[-2]
        require(n == network.inputs[name], "inputs", f"spikes of {network.inputs[name]} channels", f"{n} channels")
        found[name] = spikes
    shapes = {spikes.times.shape[:-2] for spikes in found.values()}
    require(len(shapes) == 1, "inputs", "of the same batch axes for every input", shapes)
    return found


def _check_span(t0: Any, t1: Any, sources: dict[str, Spikes]) -> None:
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


def _methods(network: Network, method: AbstractMethod | None, has_solver: bool) -> dict[str, AbstractMethod]:
    """The method of each layer: the given one, or the fastest of those that suit."""
    if method is None:
        # Who asks for a solver or its tolerances asks for the loop that uses them.
        choice = [EventLoop()] if has_solver else [ParallelInTime(), EventLoop()]
    else:
        require_instance(method, AbstractMethod, "method", "a method", "For example `sx.EventLoop()`.")
        hint = "`solver`, `dt0`, `rtol` and `atol` are for the event loop."
        is_loop = isinstance(method, EventLoop)
        require(is_loop or not has_solver, "method", "`sx.EventLoop()` where a solver is given", method, hint)
        choice = [method]
    methods = {}
    for name, layer in network.layers.items():
        suitable = [method for method in choice if method.suits(layer.neuron)]
        kind = type(layer.neuron).__name__
        hint = f"`{name}` has {kind} neurons. Leave `method` out, and each layer takes the fastest that suits it."
        require(len(suitable) > 0, "method", f"one that suits the layer `{name}`", method, hint)
        methods[name] = suitable[0]
    return methods


def _duration(t0: Any, t1: Any) -> float | None:
    """From `t0` to `t1`, where that is known."""
    start, end = known(t0), known(t1)
    return None if start is None or end is None else float(end) - float(start)


def _cells(
    network: Network,
    methods: dict[str, AbstractMethod],
    sources: dict[str, Spikes],
    capacity: dict[str, int],
    duration: float | None,
    has_tolerance: bool,
) -> dict[str, int]:
    """How many cells the method of each layer goes across; none where it stops at every arrival."""
    places = capacity | {name: spikes.times.shape[-1] for name, spikes in sources.items()}
    cells = {}
    for name, layer in network.layers.items():
        reaching = [
            jax.tree.leaves(connection.weight)[0].shape[0] * places[connection.source]
            for connection in network.incoming(name)
        ]
        task = Task(layer.neuron, duration, sum(reaching), network.dtype, has_tolerance)
        cells[name] = methods[name].cells(task)
    return cells


def _capacity(network: Network, max_spikes: Any) -> dict[str, int]:
    if not isinstance(max_spikes, Mapping):
        require_count(max_spikes, "max_spikes")
        return dict.fromkeys(network.layers, int(max_spikes))
    require(set(max_spikes) == set(network.layers), "max_spikes", f"for the layers {list(network.layers)}", max_spikes)
    for name, value in max_spikes.items():
        require_count(value, f"max_spikes[{name!r}]")
    return {name: int(value) for name, value in max_spikes.items()}
