"""The report of a simulation: results and statistics per sample and layer, and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._checks import known
from .._methods._base import LayerResult
from .._network import Network
from .._routing import Train
from .._spikes import Spikes
from .plan import Plan
from .results import CAUSES, RESULTS
from .snapshot import LayerSnapshot, Snapshot
from .solution import Saved, Solution, Stats
from .violations import Violations


def reported(
    network: Network,
    plan: Plan,
    trains: dict[str, Train],
    found: dict[str, LayerResult],
    under_way: dict[str, Train],
    invalid: tuple[Bool[Array, " batch"], Violations, Bool[Array, " batch"]],
    batch: tuple[int, ...],
) -> Solution:
    """Returns the solution. `invalid`: invalid times, invalid parameters, too many spikes under way."""
    failures = _failures(network, plan, trains, found)
    results = {name: _result(name, failures[name], invalid, batch) for name in network.layers}
    overall = _overall(results)
    spikes, saved = {}, {}
    for name in network.layers:
        train = trains[name].first(plan.capacity[name])
        parts = jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), (train.times, train.payload))
        spikes[name] = Spikes(*parts)
        if found[name].saved is not None:
            saved[name] = jax.tree.map(lambda leaf: _public(leaf, batch), found[name].saved)
    ts = Saved((name, plan.saveat[name]) for name in saved)
    states, drives = (Saved((name, pair[i]) for name, pair in saved.items()) for i in range(2))
    stats = {name: _stats(found[name], batch) for name in network.layers}
    end = None if plan.stop_after else _snapshot(plan, found, under_way, overall, batch)
    return Solution(spikes, ts, states, drives, end, overall, results, stats)


def raised(solution: Solution, plan: Plan, violations: Violations) -> Solution:
    """Returns the solution, or raises a run-time error if a sample failed."""
    # Parameters have their own messages. A layer whose source failed is not the cause.
    failures = list(CAUSES.values())[1:-1]
    happened, messages = [], []
    for name, result in solution.results.items():
        limits = ", ".join(f"{argument}={value}" for argument, value in plan.limits(name).items())
        for failure in failures:
            happened.append(jnp.any(result == failure))
            messages.append(f"Layer `{name}` (with {limits}): {RESULTS[failure]}")
    happened, messages = jnp.append(violations.happened, jnp.stack(happened)), [*violations.messages, *messages]
    now = known(happened)
    if now is not None:
        # Raised on the host: an error raised on a device would leave other devices waiting.
        if now.any():
            raise RuntimeError(messages[int(now.argmax())])
        return solution
    floats, rest = eqx.partition(solution, eqx.is_inexact_array)
    floats = eqx.branched_error_if(floats, jnp.any(happened), jnp.argmax(happened), messages)
    return eqx.combine(floats, rest)


class _Failure(eqx.Module):
    """How a layer failed in each sample before its end, and whether a source or its group failed."""

    own: tuple[Bool[Array, " batch"], ...]  # in the order of `CAUSES`
    of_source: Bool[Array, " batch"]


def _failures(
    network: Network, plan: Plan, trains: dict[str, Train], found: dict[str, LayerResult]
) -> dict[str, _Failure]:
    """The failures of each layer. A failure after the end of a sample, as set by `until`, does not count."""
    end = _ends_at(plan, trains)
    failures, failed_at = {}, {}
    for group in plan.groups:
        own = {name: _failed_at(found[name], plan.capacity[name]) for name in group.names}
        sources = {c.source for name in group.names for c in network.incoming(name)} & set(failed_at)
        together = jnp.min(jnp.stack([*own.values(), *(failed_at[source] for source in sources)]), axis=0)
        failed_at |= dict.fromkeys(group.names, together)
        for name in group.names:
            counters = found[name].counters
            too_many = jnp.any(counters.count > plan.capacity[name], axis=1)
            causes = ~counters.settled, ~counters.fits, too_many, ~counters.finished, counters.stuck, ~counters.finite
            causes = tuple(cause & (own[name] <= end) for cause in causes)
            failures[name] = _Failure(causes, (together <= end) & (together < jnp.inf))
    return failures


def _failed_at(result: LayerResult, capacity: int) -> Float[Array, " batch"]:
    """When a layer failed in each sample: `inf` if it did not, and `-inf` if the time is unknown."""
    train, counters = result.train, result.counters
    if train.places > capacity:
        # The first spike beyond the capacity was recorded.
        return jnp.minimum(counters.failed_at, jnp.min(lax.stop_gradient(train.times[..., capacity]), axis=1))
    too_many = jnp.any(counters.count > capacity, axis=1)
    return jnp.where(too_many & (counters.failed_at == jnp.inf), -jnp.inf, counters.failed_at)


def _ends_at(plan: Plan, trains: dict[str, Train]) -> Float[Array, " batch"] | float:
    """When each sample ends, as set by `until`: `inf` if the whole duration counts."""
    if not plan.ends_early:
        return jnp.inf
    latest = [jnp.max(trains[name].times[..., n - 1], axis=1) for name, n in plan.stop_after.items()]
    return lax.stop_gradient(jnp.max(jnp.stack(latest), axis=0))


def _result(name: str, failure: _Failure, invalid: tuple, batch: tuple[int, ...]) -> RESULTS:
    """How each sample ended in one layer."""
    times, parameters, no_place = invalid
    # Invalid parameters of one layer stop the simulation of all layers.
    causes = (failure.of_source | parameters.any(), *failure.own, no_place, times, parameters.any(name))
    result = jax.vmap(_ending)(tuple(jnp.broadcast_to(part, times.shape) for part in causes))
    return jax.tree.map(lambda leaf: leaf.reshape(batch), result)


def _ending(happened: tuple[Bool[Array, ""], ...]) -> RESULTS:
    """How one sample ended, given which causes of failure occurred."""
    result = RESULTS.successful
    for here, cause in zip(happened, CAUSES.values(), strict=True):
        result = RESULTS.where(here, cause, result)
    return result


def _overall(results: dict[str, RESULTS]) -> RESULTS:
    """How each sample ended: the result of the first layer that failed."""

    def one(results):
        overall = RESULTS.successful
        for result in results:
            explains = (overall == RESULTS.successful) | (overall == RESULTS.source_failed)
            overall = RESULTS.where(explains & (result != RESULTS.successful), result, overall)
        return overall

    flat = jax.tree.map(jnp.ravel, list(results.values()))
    shapes = [leaf.shape for leaf in jax.tree.leaves(results)]
    return jax.tree.map(lambda leaf: leaf.reshape(shapes[0]), jax.vmap(one)(flat))


def _stats(result: LayerResult, batch: tuple[int, ...]) -> Stats:
    """The statistics of a layer."""
    counters = result.counters
    return Stats(
        spikes=jnp.sum(counters.count, axis=1, dtype=counters.count.dtype).reshape(batch),
        max_spike_count=jnp.max(counters.count, axis=1).reshape(batch),
        iterations=counters.iterations,
        rejected_steps=counters.rejected.reshape(batch),
        sweeps=counters.sweeps,
        method=result.method,
        windows=result.windows,
    )


def _snapshot(
    plan: Plan, found: dict[str, LayerResult], under_way: dict[str, Train], overall: RESULTS, batch: tuple[int, ...]
) -> Snapshot:
    """The snapshot at the end. The states of failed samples are NaN."""
    failed = overall != RESULTS.successful

    def marked(leaf):
        where = failed.reshape(*batch, *(1,) * (leaf.ndim - len(batch)))
        return jnp.where(where, jnp.nan, leaf)

    layers = {}
    for name, result in found.items():
        layer = LayerSnapshot.of(result.end, batch)
        layers[name] = eqx.tree_at(lambda layer: layer.state, layer, jax.tree.map(marked, layer.state))
    layers = {name: layers[name] for name in plan.capacity}
    # No spike before `t1` depends on it: it has no derivative, neither as an end nor as a start.
    return Snapshot.of(lax.stop_gradient(plan.t1), layers, under_way, batch)


def _public(leaf: Array, batch: tuple[int, ...]) -> Array:
    """From (ts, batch, units, 1, ...) to (*batch, ts, neurons, ...)."""
    moved = jnp.moveaxis(leaf[:, :, :, 0], 0, 1)
    return moved.reshape(*batch, *moved.shape[1:])
