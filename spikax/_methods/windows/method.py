"""The method `Windows`: recurrent groups by waveform relaxation.

Within each time window, sweeps over the layers of the group are repeated until no arrival changes. If every delay is
longer than the window, no spike arrives in the window in which it is emitted, and the spikes are final after one sweep.
Without recurrence a single sweep is made.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..._checks import known, require, require_count, require_instance
from ..._network import Network
from ..._routing import SynapticInput, Train
from .._base import (
    AbstractLayerMethod,
    AbstractMethod,
    Counters,
    drives_of,
    Group,
    LayerPlan,
    LayerResult,
    SimulationState,
)
from .._common.axes import indices
from .._common.events import payload_of
from .._common.rates import fastest
from .._common.trees import add
from .fixed_point import FixedPoint, solve


class Windows(AbstractMethod):
    """Simulates recurrent groups by waveform relaxation in time windows.

    In each window, sweeps over the layers are repeated until no arrival changes. If all delays within the group are
    longer than a window, one sweep is enough. The number of windows affects the run time, and the results only by
    rounding and by the errors of the solver's steps. As the method of a whole network, it simulates all layers
    together; with `until`, the simulation then ends with the first window after which no sample needs more spikes.

    **Arguments:**

    - `count`: the number of windows. By default a window is about as long as the shortest delay of the group or the
      fastest time constant, whichever is longer.
    - `method`: the method that simulates each layer within a sweep: one method, or a dictionary by layer name. By
      default [`spikax.ClosedForm`][] if it supports the layer, else [`spikax.EventLoop`][].
    - `max_sweeps`: the maximal number of sweeps over a window.
    """

    simulates_single_layers: ClassVar[bool] = False

    count: int | None = eqx.field(static=True, default=None)
    method: AbstractLayerMethod | Mapping[str, AbstractLayerMethod] | None = None
    max_sweeps: int = eqx.field(static=True, default=4096, kw_only=True)

    def __check_init__(self):
        if self.count is not None:
            require_count(self.count, "count")
        require_count(self.max_sweeps, "max_sweeps")
        if isinstance(self.method, Mapping):
            given = list(self.method.values())
        else:
            given = [] if self.method is None else [self.method]
        for method in given:
            hint = "For example `sx.EventLoop()`."
            require_instance(method, AbstractLayerMethod, "method", "a method for single layers", hint)

    @property
    def _by_layer(self) -> Mapping[str, AbstractLayerMethod]:
        """The method of each layer, once `completed` has chosen them all."""
        return self.method if isinstance(self.method, Mapping) else {}

    def limits(self, name):
        return self._by_layer[name].limits(name) | {"max_sweeps": self.max_sweeps}

    def completed(self, choose, group):
        given = self.method if isinstance(self.method, Mapping) else dict.fromkeys(group, self.method)
        require(set(given) <= set(group), "method", f"for layers among {list(group)}", list(given))
        methods = {name: (given.get(name) or choose(name)).completed(choose, (name,)) for name in group}
        return dataclasses.replace(self, method=methods)

    def supports(self, network, group):
        return all(self._by_layer[name].supports_layer(network, name) for name in group)

    def grid(self, network, group, expected):
        count = _own_count(network, group, expected.duration) if self.count is None else self.count
        each = expected.in_each(count)
        return count, tuple((name, self._by_layer[name].layer_grid(network, name, each)) for name in group)

    def simulate(self, group, grid):
        count, grids = grid
        context = _Context(group, dict(self._by_layer), dict(grids), self.max_sweeps)
        end = _through_windows(context, count)
        return {
            name: LayerResult(
                end.trains[name],
                end.states[name],
                end.saved.get(name),
                end.counters[name],
                f"Windows({type(self._by_layer[name]).__name__})",
                count,
            )
            for name in group.layers
        }


def _own_count(network: Network, group: tuple[str, ...], duration: float | None) -> int:
    """The default number of windows, from the shortest delay in the group and the fastest time constant."""
    if duration is None:
        # Any number is correct: the length of a window does not change the result.
        return 16
    inside = [c for c in network.connections if c.source in group and c.target in group]
    delays = [None if c.delay is None else known(c.delay) for c in inside]
    shortest = min((0.0 if delay is None else float(np.min(delay)) for delay in delays), default=0.0)
    rates = [fastest(network.layers[name].neuron, network.dtype) for name in group]
    known_rates = [rate for rate in rates if rate]
    # Without known rates, windows are as long as the shortest delay if that makes at most 128 windows. Otherwise there
    # are 16, as for an unknown duration.
    unknown = shortest if shortest >= duration / 128.0 else duration / 16.0
    constant = 1.0 / max(known_rates) if known_rates else unknown
    return max(1, math.ceil(duration / max(shortest, constant) * (1.0 - 1e-9)))


class _Window(eqx.Module):
    """A time window, open at its start and closed at its end. The first window is closed at both ends."""

    start: Float[Array, "*windows"]
    end: Float[Array, "*windows"]
    after: Float[Array, "*windows"]  # the start, or -inf for the first window


class _Context(eqx.Module):
    """The constants of all sweeps over all windows."""

    group: Group
    methods: dict[str, AbstractLayerMethod]
    grids: dict[str, int]
    max_sweeps: int = eqx.field(static=True)


class _Progress(eqx.Module):
    """The simulation of a group, up to the start of a window."""

    states: dict[str, SimulationState]
    trains: dict[str, Train]
    saved: dict[str, Any]
    counters: dict[str, Counters]


class _Sweep(eqx.Module):
    """The results of a sweep over a window besides the spikes."""

    states: dict[str, SimulationState]
    saved: dict[str, Any]
    counters: dict[str, Counters]


def _through_windows(context: _Context, count: int) -> _Progress:
    """Simulates all windows. Windows after no sample needs more spikes are skipped."""
    group = context.group
    wanted = {name: plan.stop_after for name, plan in group.layers.items() if plan.stop_after is not None}

    def step(at: _Progress, window: _Window) -> tuple[_Progress, None]:
        if not wanted:
            return _through_window(context, window, at), None
        suffices = jnp.stack([jnp.all(at.counters[name].count >= n) for name, n in wanted.items()])
        go_on = lambda at, window: _through_window(context, window, at)  # noqa: E731
        return lax.cond(jnp.all(suffices), lambda at, _: at, go_on, at, window), None

    start = _Progress(
        states={name: plan.start for name, plan in group.layers.items()},
        trains={name: _silent(plan, group.is_ordered) for name, plan in group.layers.items()},
        saved={name: _unsaved(plan) for name, plan in group.layers.items() if plan.ts is not None},
        counters={name: Counters.none(*p.start.h.shape[:2], group.t0.dtype) for name, p in group.layers.items()},
    )
    # The boundaries between windows are not part of the model, so they are constants for the derivative.
    t0, t1 = group.t0, group.t1
    inner = lax.stop_gradient(t0 + (t1 - t0) * jnp.arange(1, count, dtype=t0.dtype) / count)
    boundaries = jnp.concatenate([t0[None], inner, t1[None]])
    after = boundaries[:-1].at[0].set(-jnp.inf)
    end, _ = lax.scan(step, start, _Window(boundaries[:-1], boundaries[1:], after))
    return end


def _through_window(context: _Context, window: _Window, before: _Progress) -> _Progress:
    """The simulation up to the end of a window."""
    found = _fixed_point(context, window, before)
    start = lax.stop_gradient(window.start)
    counters = {}
    for name, now in found.rest.counters.items():
        failed_at = jnp.where(found.settled, now.failed_at, jnp.minimum(now.failed_at, start))
        now = dataclasses.replace(now, settled=found.settled, sweeps=found.sweeps, failed_at=failed_at)
        counters[name] = before.counters[name].and_then(now)
    return _Progress(found.rest.states, found.value, add(before.saved, found.rest.saved), counters)


def _fixed_point(context: _Context, window: _Window, before: _Progress) -> FixedPoint:
    """The spikes of the group up to the end of a window."""
    network, arguments = context.group.network, (context, window, before)
    parts = (part for part in network.groups() if set(part) <= set(context.group.layers))
    if any(network.is_recurrent(part) for part in parts):
        return solve(_sweep, _converged, _over_relaxed, arguments, before.trains, context.max_sweeps)
    # A sweep simulates each layer after all that it receives from.
    value, rest = _sweep(arguments, before.trains)
    batch = next(iter(before.trains.values())).times.shape[0]
    return FixedPoint(value, rest, jnp.ones(batch, bool), jnp.int32(1))


def _silent(plan: LayerPlan, is_ordered: bool) -> Train:
    """The trains of neurons that have not spiked."""
    start, k = plan.start, plan.max_spikes
    payload = payload_of(plan.neuron, start.h, start.state, start.filters)
    empty = jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:2], k), leaf.dtype), payload)
    shape = *start.h.shape[:2], k
    generation = jnp.zeros(shape, jnp.int32) if is_ordered else None
    return Train(jnp.full(shape, jnp.inf, start.h.dtype), empty, generation=generation)


def _unsaved(plan: LayerPlan) -> Any:
    """Zero states and drives at the times to save."""
    both = plan.start.state, drives_of(plan.neuron, plan.start.filters)
    return jax.tree.map(lambda leaf: jnp.zeros((len(plan.ts), *leaf.shape), leaf.dtype), both)


def _sweep(arguments: tuple[_Context, _Window, _Progress], guess: dict[str, Train]) -> tuple[dict[str, Train], _Sweep]:
    """Simulates every layer of the group in the window, with a guess of the spikes of the group."""
    context, window, before = arguments
    trains, rest = dict(guess), _Sweep({}, {}, {})
    for name, plan in context.group.layers.items():
        received = _received(context, window, name, trains)
        ts = None if plan.ts is None else jnp.clip(plan.ts, window.start, window.end)
        here = dataclasses.replace(plan, start=before.states[name], ts=ts, stop_after=None)
        with jax.named_scope(f"layer {name}"):
            result = context.methods[name].simulate_layer(here, received, window.start, window.end, context.grids[name])
        trains[name] = _continued(before.trains[name], before.counters[name].count, result.train)
        rest.states[name], rest.counters[name] = result.end, result.counters
        if result.saved is not None:
            inside = (plan.ts > window.after) & (plan.ts <= window.end)
            rest.saved[name] = jax.tree.map(lambda leaf, inside=inside: _where_first(inside, leaf), result.saved)
    return trains, rest


def _received(context: _Context, window: _Window, name: str, trains: dict[str, Train]) -> SynapticInput:
    """The arrivals at a layer in the window."""
    return context.group.received(name, trains).within(window.after, window.end)


def _where_first(where: Bool[Array, " ts"], leaf: Array) -> Array:
    return jnp.where(where.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)


def _continued(train: Train, count: Int[Array, "batch neurons"], new: Train) -> Train:
    """A train, continued with the spikes of the window."""
    number = indices(train.places) - count[..., None]

    def leaf(before, new):
        return jnp.where(number < 0, before, jnp.take_along_axis(new, jnp.maximum(number, 0), axis=-1))

    return jax.tree.map(leaf, train, new)


def _over_relaxed(guess: dict[str, Train], emitted: dict[str, Train]) -> dict[str, Train]:
    """The next guess.

    A spike that is guessed too early may cause itself: if a neuron excites itself, directly or through others, the
    spike moves a little later in each sweep. A guess that is too late does no harm, since a spike does not depend on
    later ones. So a spike that moves later is moved three times as far, unless it moves by little more than rounding.
    """

    def later(was, now):
        rounding = 1e4 * jnp.finfo(now.dtype).eps
        moves_on = jnp.isfinite(now) & (now - jnp.where(was < now, was, now) > rounding * jnp.abs(now))
        return jnp.where(moves_on, now + 2.0 * (now - jnp.where(moves_on, was, 0.0)), now)

    return {name: dataclasses.replace(now, times=later(guess[name].times, now.times)) for name, now in emitted.items()}


def _converged(
    arguments: tuple[_Context, _Window, _Progress], before: dict[str, Train], after: dict[str, Train]
) -> Bool[Array, " batch"]:
    """Whether the arrivals at every layer in this window are the same as before, up to rounding."""
    context, window, _ = arguments
    same = []
    for name in context.group.layers:
        old, new = (_received(context, window, name, trains) for trains in (before, after))
        arrived, arrives = jnp.isfinite(old.times), jnp.isfinite(new.times)
        pairs = zip(jax.tree.leaves((old.times, old.gains)), jax.tree.leaves((new.times, new.gains)), strict=True)
        for was, now in pairs:
            close = jnp.abs(now - was) <= 8.0 * jnp.finfo(now.dtype).eps * jnp.abs(now)
            same.append(jnp.all(jnp.where(arrived & arrives, close, arrived == arrives), axis=(1, 2)))
        if old.generation is not None:
            same.append(jnp.all((old.generation == new.generation) | ~arrives, axis=(1, 2)))
    return jnp.all(jnp.stack(same), axis=0)
