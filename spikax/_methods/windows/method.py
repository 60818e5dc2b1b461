"""The method `Windows`: recurrent groups by waveform relaxation.

The layers of a group are simulated in time windows. Layers that receive from each other without delay form a part,
which a method simulates as a whole if it can. Within a window, sweeps over all parts are repeated until no arrival
changes. If all delays between parts are longer than the window, no spike arrives in the window in which it is emitted,
and the spikes are final after one sweep.
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
from jaxtyping import Array, Bool, Int

from ..._checks import known, require, require_count, require_instance
from ..._network import Network
from ..._routing import SynapticInput, Train
from .._base import (
    AbstractLayerMethod,
    AbstractMethod,
    Counters,
    drives_of,
    Expected,
    Group,
    LayerPlan,
    LayerResult,
    SimulationState,
)
from .._common.axes import indices
from .._common.events import payload_of
from .._common.rates import fastest
from .._common.reverse_rule import with_reverse_rule
from .._common.trees import add, zeros_like
from .arrivals import Chosen, Incoming, SpikeList, Window
from .fixed_point import FixedPoint, pull_back, solve, Sweeps
from .parts import loops_of, Part, parts_of


class Windows(AbstractMethod):
    """Simulates recurrent groups by waveform relaxation in time windows.

    In each window, sweeps over the layers are repeated until no arrival changes. If all delays within the group are
    longer than a window, one sweep is enough. The number of windows affects the run time, and the results only by
    rounding and by the errors of the solver's steps. As the method of a whole network, it simulates all layers
    together; with `until`, the simulation then ends with the first window after which no sample needs more spikes.

    **Arguments:**

    - `count`: the number of windows. By default a window is about as long as the shortest delay of the group or the
      fastest time constant, whichever is longer. Without delays within recurrent groups there are 32.
    - `method`: the method that simulates each layer within a sweep: one method, or a dictionary by layer name. By
      default each part of the group, whose layers receive from each other without delay, is simulated as a whole by
      the first of [`spikax.ClosedForm`][], [`spikax.EventQueue`][] and [`spikax.EventLoop`][] that supports it; if
      none does, each of its layers by itself.
    - `max_sweeps`: the maximal number of sweeps over a window.
    - `max_arrivals`: the number of arrivals at a neuron in a window for which there is room. More are an error. By
      default there is room for 2048 if all neurons of the layer receive the same arrivals, otherwise for 256; and for
      the mean, if inputs are full and neurons emit twice `max_spikes`; but for no more than can come.
    """

    simulates_single_layers: ClassVar[bool] = False

    count: int | None = eqx.field(static=True, default=None)
    method: AbstractLayerMethod | Mapping[str, AbstractLayerMethod] | None = None
    max_sweeps: int = eqx.field(static=True, default=4096, kw_only=True)
    max_arrivals: int | None = eqx.field(static=True, default=None, kw_only=True)
    _parts: tuple[Part, ...] = eqx.field(default=(), kw_only=True, repr=False)  # as chosen by `completed`

    def __check_init__(self):
        if self.count is not None:
            require_count(self.count, "count")
        require_count(self.max_sweeps, "max_sweeps")
        if self.max_arrivals is not None:
            require_count(self.max_arrivals, "max_arrivals")
        if isinstance(self.method, Mapping):
            given = list(self.method.values())
        else:
            given = [] if self.method is None else [self.method]
        for method in given:
            hint = "For example `sx.EventLoop()`."
            require_instance(method, AbstractLayerMethod, "method", "a method for single layers", hint)

    def limits(self, name):
        (part,) = (part for part in self._parts if name in part.names)
        own = {"max_sweeps": self.max_sweeps}
        return (
            part.method.limits(name) | own | ({} if self.max_arrivals is None else {"max_arrivals": self.max_arrivals})
        )

    def completed(self, network, group, choose):
        if isinstance(self.method, Mapping):
            given = self.method
        else:
            given = {} if self.method is None else dict.fromkeys(group, self.method)
        require(set(given) <= set(group), "method", f"for layers among {list(group)}", list(given))
        return dataclasses.replace(self, _parts=parts_of(network, group, given, choose))

    def supports(self, network, group):
        return all(part.is_supported(network) for part in self._parts)

    def grid(self, network, group, expected):
        count = self.count
        if count is None:
            count = _own_count(network, group, loops_of(network, self._parts), expected.duration)
        each = expected.in_each(count)
        grids = tuple(part.grid(network, each) for part in self._parts)
        places = tuple((name, self.max_arrivals or _places(network, name, expected, count)) for name in group)
        return count, grids, places

    def simulate(self, group, grid):
        context = _Context.of(group, self._parts, grid, self.max_sweeps)
        end = _through_windows(context, group.t0, group.t1)
        methods = {name: type(part.method).__name__ for part in self._parts for name in part.names}
        return {
            name: LayerResult(
                end.before.trains[name],
                end.before.states[name],
                end.saved.get(name),
                end.counters[name],
                f"Windows({methods[name]})",
                context.windows,
            )
            for name in group.layers
        }


def _places(network: Network, name: str, expected: Expected, count: int) -> int:
    """The default number of places for the arrivals at a neuron in a window."""
    total = max(expected.places[name], 1)
    is_shared = not any(c.has_own_arrivals for c in network.incoming(name))
    return min(total, (_SHARED_VOLLEY if is_shared else _OWN_VOLLEY) + math.ceil(total / count))


# The arrivals of a volley of synchronous spikes. Where each neuron has a list of its own, all of these have the length.
_SHARED_VOLLEY, _OWN_VOLLEY = 2048, 256


def _own_count(network: Network, group: tuple[str, ...], loops: tuple[int, ...], duration: float | None) -> int:
    """The default number of windows, from the shortest delay of a loop and the fastest time constant."""
    if duration is None:
        # Any number is correct: the length of a window does not change the result.
        return 16
    if not loops:
        return _COUNT
    given = [network.connections[number].delay for number in loops]
    delays = [None if delay is None else known(delay) for delay in given]
    shortest = min(0.0 if delay is None else float(np.min(delay)) for delay in delays)
    rates = [fastest(network.layers[name].neuron, network.dtype) for name in group]
    known_rates = [rate for rate in rates if rate]
    # Without known rates, windows are as long as the shortest delay if that makes at most 128 windows. Otherwise there
    # are about 16, as for an unknown duration.
    unknown = shortest if shortest >= duration / 128.0 else duration / 16.0
    constant = 1.0 / max(known_rates) if known_rates else unknown
    # A little shorter than the shortest delay, so that a single sweep is enough whatever the rounding.
    return math.floor(duration / max(shortest, constant) * (1.0 + 1e-4)) + 1


# The number of windows for groups without loops: only `until` needs them.
_COUNT = 32


class _PlannedPart(eqx.Module):
    """A part with the network of its own."""

    names: tuple[str, ...] = eqx.field(static=True)
    network: Network
    method: AbstractMethod
    grid: Any = eqx.field(static=True)


class _Context(eqx.Module):
    """The constants of all sweeps over all windows."""

    layers: dict[str, LayerPlan]
    parts: tuple[_PlannedPart, ...]
    incoming: dict[str, Incoming]
    guessed: tuple[str, ...] = eqx.field(static=True)  # the sources whose spikes are guessed
    outside: dict[str, Train]
    under_way: dict[str, Train]
    windows: int = eqx.field(static=True)
    max_sweeps: int = eqx.field(static=True)
    is_ordered: bool = eqx.field(static=True)

    @classmethod
    def of(cls, group: Group, parts: tuple[Part, ...], grid: tuple, max_sweeps: int) -> "_Context":
        network, (count, grids, places) = group.network, (grid[0], grid[1], dict(grid[2]))
        planned = tuple(
            _PlannedPart(part.names, part.alone(network), part.method, grid)
            for part, grid in zip(parts, grids, strict=True)
        )
        loops = loops_of(network, parts)
        incoming = {}
        for part in parts:
            for name in part.names:
                numbers = [
                    number
                    for number, c in enumerate(network.connections)
                    if c.target == name and not part.contains(c.source, c.delay)
                ]
                incoming[name] = Incoming.of(group, name, numbers, loops, places[name])
        guessed = tuple(dict.fromkeys(network.connections[number].source for number in loops))
        trains = group.outside, group.under_way
        return cls(group.layers, planned, incoming, guessed, *trains, count, max_sweeps, group.is_ordered)

    def rounding(self, t: Array) -> Array:
        """By how much two searches may differ that find the same spike."""
        return next(iter(self.incoming.values())).rounding(t)

    def silent(self, name: str) -> Train:
        """The trains of neurons that have not spiked."""
        plan = self.layers[name]
        start, k = plan.start, plan.max_spikes
        payload = payload_of(plan.neuron, start.h, start.state, start.filters)
        empty = jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:2], k), leaf.dtype), payload)
        shape = *start.h.shape[:2], k
        generation = jnp.zeros(shape, jnp.int32) if self.is_ordered else None
        return Train(jnp.full(shape, jnp.inf, start.h.dtype), empty, generation=generation)


class _Sweep(eqx.Module):
    """The results of a sweep over a window."""

    trains: dict[str, Train]  # the spikes in the window
    states: dict[str, SimulationState]
    saved: dict[str, Any]
    counters: dict[str, Counters]


class _Before(eqx.Module):
    """What a window depends on, at its start."""

    states: dict[str, SimulationState]
    trains: dict[str, Train]


class _Progress(eqx.Module):
    """The simulation of a group, up to the start of a window."""

    before: _Before
    saved: dict[str, Any]
    counters: dict[str, Counters]

    @classmethod
    def of(cls, context: _Context) -> "_Progress":
        """The simulation at its start."""
        layers = context.layers
        states, trains = ({name: part(name) for name in layers} for part in (lambda n: layers[n].start, context.silent))
        saved = {name: _unsaved(plan) for name, plan in layers.items() if plan.ts is not None}
        counters = {n: Counters.none(*p.start.h.shape[:2], p.start.h.dtype) for n, p in layers.items()}
        return cls(_Before(states, trains), saved, counters)

    @property
    def count(self) -> dict[str, Int[Array, "batch neurons"]]:
        """The number of spikes of each neuron."""
        return {name: counters.count for name, counters in self.counters.items()}


class _Record(eqx.Module):
    """What the backward pass needs of each window, besides the spikes."""

    states: dict[str, SimulationState]  # at its start
    sweeps: Int[Array, " windows"]
    count: dict[str, Int[Array, "windows_and_one batch neurons"]]  # of the spikes before it, and at the end

    @classmethod
    def of(cls, start: _Progress, windows: int) -> "_Record":
        """The record of no window."""
        states = jax.tree.map(lambda leaf: jnp.zeros((windows, *leaf.shape), leaf.dtype), start.before.states)
        count = jax.tree.map(lambda leaf: jnp.zeros((windows + 1, *leaf.shape), leaf.dtype), start.count)
        return cls(states, jnp.zeros(windows, jnp.int32), count)

    def with_window(self, i: Array, before: _Progress, sweeps: Array, after: _Progress) -> "_Record":
        """With one more window."""
        states = jax.tree.map(lambda rows, row: rows.at[i].set(row), self.states, before.before.states)
        count = jax.tree.map(lambda rows, row: rows.at[i + 1].set(row), self.count, after.count)
        return _Record(states, self.sweeps.at[i].set(sweeps), count)


def _through_windows(context: _Context, t0: Array, t1: Array) -> _Progress:
    """Simulates all windows, up to the one after which no sample needs more spikes."""
    count, fixed = context.windows, lax.stop_gradient
    # The boundaries between windows are not part of the model, so they are constants for the derivative.
    inner = fixed(t0 + (t1 - t0) * jnp.arange(1, count, dtype=t0.dtype) / count)
    boundaries = jnp.concatenate([t0[None], inner, t1[None]])
    after = fixed(boundaries[:-1].at[0].set(-jnp.inf))
    windows = Window(boundaries[:-1], boundaries[1:], after)

    def run(arguments, _):
        return _forward(*arguments)[1]

    def forward(arguments, _):
        number, end, record = _forward(*arguments)
        return end, (number, record, end.before.trains)

    def backward(arguments, _, residual, bar):
        return _backward(*arguments, *residual, eqx.filter(bar, eqx.is_inexact_array))

    return with_reverse_rule(run, forward, backward)((context, windows))


def _forward(context: _Context, windows: Window) -> tuple[Int[Array, ""], _Progress, _Record]:
    """Simulates windows. Returns their number, the end, and the record."""
    wanted = {name: plan.stop_after for name, plan in context.layers.items() if plan.stop_after is not None}
    start = _Progress.of(context)

    def goes_on(carry) -> Array:
        i, at, _ = carry
        if not wanted:
            return i < context.windows
        suffices = jnp.stack([jnp.all(at.counters[name].count >= n) for name, n in wanted.items()])
        return (i < context.windows) & ~jnp.all(suffices)

    def one_window(carry):
        i, at, record = carry
        window = jax.tree.map(lambda rows: rows[i], windows)
        found = _solved(context, window, at.before)
        after = _after(context, at, found, window)
        return i + 1, after, record.with_window(i, at, found.sweeps, after)

    return lax.while_loop(goes_on, one_window, (jnp.int32(0), start, _Record.of(start, context.windows)))


def _backward(
    context: _Context,
    windows: Window,
    number: Int[Array, ""],
    record: _Record,
    trains: dict[str, Train],
    bar: _Progress,
) -> tuple[_Context, Window]:
    """The cotangents of the context and of the boundaries, from that of the end."""
    silent = {name: context.silent(name) for name in trains}
    no_counters = zeros_like(eqx.filter(_Progress.of(context).counters, eqx.is_inexact_array))

    def one_window(carry):
        i, before_bar, context_bar, windows_bar = carry
        i -= 1
        window, states, sweeps = jax.tree.map(lambda rows: rows[i], (windows, record.states, record.sweeps))
        count, after = ({name: rows[j] for name, rows in record.count.items()} for j in (i, i + 1))
        earlier = {name: _spikes_between(train, silent[name], 0, count[name]) for name, train in trains.items()}
        guess = {n: _spikes_between(trains[n], silent[n], count[n], after[n]) for n in context.guessed}

        def continued(earlier, new):
            return {name: _continued(earlier[name], count[name], new[name]) for name in earlier}

        # Linear in the spikes, so any do.
        like = eqx.filter(silent, eqx.is_inexact_array)
        _, pull = jax.vjp(continued, like, like)
        earlier_bar, trains_bar = pull(before_bar.trains)
        rest_bar = _Sweep(trains_bar, before_bar.states, bar.saved, no_counters)
        arguments = context, window, _Before(states, earlier)
        pulled = pull_back(_SWEEPS, arguments, guess, sweeps, rest_bar, context.max_sweeps)
        more, window_bar, before = eqx.filter(pulled, eqx.is_inexact_array)
        before_bar = _Before(before.states, add(before.trains, earlier_bar))
        windows_bar = jax.tree.map(lambda rows, row: rows.at[i].set(row), windows_bar, window_bar)
        return i, before_bar, add(context_bar, more), windows_bar

    zeros = zeros_like(eqx.filter((context, windows), eqx.is_inexact_array))
    carry = (number, bar.before, *zeros)
    _, before_bar, context_bar, windows_bar = lax.while_loop(lambda carry: carry[0] > 0, one_window, carry)
    # The simulation starts from the states of the plans.
    for name, plan_bar in context_bar.layers.items():
        start_bar = add(plan_bar.start, before_bar.states[name])
        context_bar = eqx.tree_at(lambda bar, name=name: bar.layers[name].start, context_bar, start_bar)
    return context_bar, windows_bar


def _spikes_between(train: Train, silent: Train, first: Array | int, after: Array) -> Train:
    """The spikes of each neuron with the numbers from `first` up to `after`, excluded."""
    number = indices(train.places) + jnp.broadcast_to(first, after.shape)[..., None]

    def leaf(whole, empty):
        shifted = jnp.take_along_axis(whole, jnp.minimum(number, train.places - 1), axis=-1)
        return jnp.where(number < jnp.minimum(after, train.places)[..., None], shifted, empty)

    return jax.tree.map(leaf, train, silent)


def _solved(context: _Context, window: Window, before: _Before) -> FixedPoint:
    """The spikes of the group in a window."""
    start = _Progress.of(context)
    nothing = _Sweep(start.before.trains, before.states, start.saved, start.counters)
    guess = {name: nothing.trains[name] for name in context.guessed}
    batch = next(iter(context.layers.values())).start.h.shape[0]
    return solve(_SWEEPS, (context, window, before), guess, nothing, batch, context.max_sweeps)


def _after(context: _Context, at: _Progress, found: FixedPoint, window: Window) -> _Progress:
    """The simulation up to the end of a window."""
    trains, counters = {}, {}
    for name, now in found.rest.counters.items():
        is_valid = found.settled & now.fits
        failed_at = jnp.where(is_valid, now.failed_at, jnp.minimum(now.failed_at, window.start))
        now = dataclasses.replace(now, settled=found.settled, sweeps=found.sweeps, failed_at=failed_at)
        counters[name] = at.counters[name].and_then(now)
        new = found.rest.trains[name]
        if name in context.guessed:
            # As guessed, which differs by rounding: in no other window an arrival may be on the other side of the end.
            guess, rounding = found.guess[name].times, context.rounding(new.times)
            is_same = jnp.isfinite(new.times) & (jnp.abs(guess - new.times) <= rounding)
            new = dataclasses.replace(new, times=jnp.where(is_same, guess, new.times))
        trains[name] = _continued(at.before.trains[name], at.count[name], new)
    return _Progress(_Before(found.rest.states, trains), add(at.saved, found.rest.saved), counters)


def _unsaved(plan: LayerPlan) -> Any:
    """Zero states and drives at the times to save."""
    both = plan.start.state, drives_of(plan.neuron, plan.start.filters)
    return jax.tree.map(lambda leaf: jnp.zeros((len(plan.ts), *leaf.shape), leaf.dtype), both)


def _continued(train: Train, count: Int[Array, "batch neurons"], new: Train) -> Train:
    """A train, continued with the spikes of the window."""
    number = indices(train.places) - count[..., None]

    def leaf(before, new):
        return jnp.where(number < 0, before, jnp.take_along_axis(new, jnp.maximum(number, 0), axis=-1))

    return jax.tree.map(leaf, train, new)


class _Known(eqx.Module):
    """The arrivals at a layer that do not depend on a guess."""

    lists: list[SpikeList]
    chosen: Chosen
    too_many: Bool[Array, " batch"]


class _Prepared(eqx.Module):
    """What all sweeps over a window share."""

    context: _Context
    window: Window
    states: dict[str, SimulationState]
    known: dict[str, _Known]


def _prepare(arguments: tuple[_Context, Window, _Before]) -> _Prepared:
    """Selects the arrivals of earlier spikes, and of those from outside."""
    context, window, before = arguments
    known_arrivals, fixed = {}, lax.stop_gradient
    for name, incoming in context.incoming.items():
        pathways, lists = [], []
        for pathway in incoming.pathways:
            source, trains = pathway.source, context.outside | before.trains
            # Without a delay, earlier spikes have arrived.
            if source in context.outside or pathway.has_delay or pathway.is_apart:
                pathways.append(pathway)
                lists.append(SpikeList.of(trains[source], incoming.neuron))
            if source in context.under_way and pathway.has_delay:
                pathways.append(dataclasses.replace(pathway, is_under_way=True))
                lists.append(SpikeList.of(context.under_way[source], incoming.neuron))
        chosen, too_many = fixed(incoming).select(*fixed((pathways, lists)), incoming.nothing(), 0, window)
        known_arrivals[name] = _Known(lists, chosen, too_many)
    return _Prepared(context, window, before.states, known_arrivals)


def _sweep(prepared: _Prepared, guess: dict[str, Train]) -> tuple[dict[str, Train], _Sweep]:
    """Simulates every part in the window, with a guess of the spikes of those that are simulated later."""
    context, window = prepared.context, prepared.window
    emitted, out = dict(guess), _Sweep({}, {}, {}, {})
    for part in context.parts:
        plans, arrivals, too_many = {}, {}, {}
        for name in part.names:
            plan, start = context.layers[name], prepared.states[name]
            ts = None if plan.ts is None else _times_inside(plan.ts, window)
            plans[name] = dataclasses.replace(plan, start=start, ts=ts, stop_after=None, windows=context.windows)
            arrivals[name], too_many[name] = _received(prepared, name, emitted)
        group = Group(part.network, plans, {}, {}, window.start, window.end, context.is_ordered, arrivals)
        for name, result in part.method.simulate(group, part.grid).items():
            emitted[name] = out.trains[name] = result.train
            out.states[name] = result.end
            out.counters[name] = dataclasses.replace(result.counters, fits=~too_many[name])
            if result.saved is not None:
                inside = _inside(context.layers[name].ts, window)
                out.saved[name] = jax.tree.map(lambda leaf, inside=inside: _where_first(inside, leaf), result.saved)
    return {name: emitted[name] for name in guess}, out


def _received(prepared: _Prepared, name: str, emitted: dict[str, Train]) -> tuple[SynapticInput, Bool[Array, " batch"]]:
    """The arrivals at a layer in the window, and which samples have too many of them."""
    incoming, earlier, fixed = prepared.context.incoming[name], prepared.known[name], lax.stop_gradient
    pathways = [pathway for pathway in incoming.pathways if pathway.source in emitted]
    lists = [SpikeList.of(emitted[pathway.source], incoming.neuron) for pathway in pathways]
    first = sum(spikes.times.shape[1] for spikes in earlier.lists)
    chosen, too_many = fixed(incoming).select(*fixed((pathways, lists, earlier.chosen)), first, prepared.window)
    return incoming.received(chosen, [*earlier.lists, *lists]), too_many | earlier.too_many


def _inside(ts: Array, window: Window) -> Bool[Array, " ts"]:
    return (ts > window.after) & (ts <= window.end)


def _times_inside(ts: Array, window: Window) -> Array:
    """The times inside of a window. The others, whose states are not used, are at its start."""
    return jnp.where(_inside(ts, window), ts, lax.stop_gradient(window.start))


def _where_first(where: Bool[Array, " ts"], leaf: Array) -> Array:
    return jnp.where(where.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)


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


def _converged(prepared: _Prepared, before: dict[str, Train], after: dict[str, Train]) -> Bool[Array, " batch"]:
    """Whether the spikes that arrive in this window are the same as before, up to rounding."""
    context, end = prepared.context, prepared.window.end
    (plan, *_) = context.layers.values()
    same = [jnp.ones(plan.start.h.shape[0], bool)]
    for incoming in context.incoming.values():
        for pathway in incoming.pathways:
            if not pathway.is_guessed:
                continue
            old, new = before[pathway.source], after[pathway.source]
            arrived, arrives = (incoming.first_arrival(pathway, train.times) <= end for train in (old, new))
            pairs = zip(jax.tree.leaves(old.payload), jax.tree.leaves(new.payload), strict=True)
            close = [jnp.abs(new.times - old.times) <= context.rounding(new.times)]
            close += [jnp.abs(now - was) <= 8.0 * jnp.finfo(now.dtype).eps * jnp.abs(now) for was, now in pairs]
            both = jnp.all(jnp.stack(close), axis=0)
            same.append(jnp.all(jnp.where(arrived & arrives, both, arrived == arrives), axis=(1, 2)))
            if old.generation is not None:
                same.append(jnp.all((old.generation == new.generation) | ~arrives, axis=(1, 2)))
    return jnp.all(jnp.stack(same), axis=0)


_SWEEPS = Sweeps(_prepare, _sweep, _converged, _over_relaxed)
