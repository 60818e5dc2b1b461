"""The rule of differentiation over the windows.

The forward pass stores the states at the start of each window, and the number of spikes before it. The backward pass
takes the spikes before a window from all spikes at the end, and solves the transposed fixed-point problem.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..._routing import Train
from .._base import Counters, SimulationState
from .._common.axes import indices
from .._common.differentiation import with_reverse_rule
from .._common.trees import add, zeros_like
from .arrivals import Window
from .context import Before, Context, Progress
from .fixed_point import FixedPoint, Instant, pull_back, solve, Sweeps
from .guess import first_difference, next_guess
from .sweep import guessed_spikes, halfway, prepare, prepare_first_part, Prepared, Sweep, sweep


def through_windows(context: Context, t0: Array, t1: Array) -> Progress:
    """Simulates all windows, up to the one after which no sample needs more spikes."""

    def forward(arguments, _):
        number, end, record = _forward(*arguments)
        return end, (number, record, end.before.trains)

    def backward(arguments, _, residual, bar):
        return _backward(*arguments, *residual, eqx.filter(bar, eqx.is_inexact_array))

    return with_reverse_rule(forward, backward)((context, t0, t1))


class Record(eqx.Module):
    """What the backward pass needs of each window, besides the spikes."""

    window: Window
    states: dict[str, SimulationState]  # at its start
    sweeps: Int[Array, " windows"]
    count: dict[str, Int[Array, "windows_and_one batch neurons"]]  # of the spikes before it, and at the end

    @classmethod
    def of(cls, start: Progress, t0: Array, windows: int) -> "Record":
        """The record of no window."""
        times = jnp.zeros(windows, t0.dtype)
        states = jax.tree.map(lambda leaf: jnp.zeros((windows, *leaf.shape), leaf.dtype), start.before.states)
        count = jax.tree.map(lambda leaf: jnp.zeros((windows + 1, *leaf.shape), leaf.dtype), start.count)
        return cls(Window(times, times, times), states, jnp.zeros(windows, jnp.int32), count)

    def with_window(self, i: Array, window: Window, before: Progress, sweeps: Array, after: Progress) -> "Record":
        """With one more window."""

        def written(rows, row):
            return jax.tree.map(lambda rows, row: rows.at[i].set(row), rows, row)

        count = jax.tree.map(lambda rows, row: rows.at[i + 1].set(row), self.count, after.count)
        states = written(self.states, before.before.states)
        return Record(written(self.window, window), states, self.sweeps.at[i].set(sweeps), count)


class _Forward(eqx.Module):
    """The state of the forward pass, at the start of a window."""

    number: Int[Array, ""]  # of windows so far
    t: Float[Array, ""]
    longest: Float[Array, ""]  # the window is not longer
    at: Progress
    record: Record


def _forward(context: Context, t0: Array, t1: Array) -> tuple[Int[Array, ""], Progress, Record]:
    """Simulates windows. Returns their number, the end, and the record.

    A window in which more spikes arrive than there is room for is divided.
    """
    wanted = {name: plan.stop_after for name, plan in context.layers.items() if plan.stop_after is not None}
    start, rows = Progress.of(context), context.max_windows
    boundaries = t0 + (t1 - t0) * jnp.arange(1, context.windows + 1, dtype=t0.dtype) / context.windows
    # The boundaries between windows are not part of the model, so they are constants.
    boundaries = lax.stop_gradient(boundaries.at[-1].set(t1))

    def goes_on(state: _Forward) -> Array:
        goes_on = (state.t < t1) & (state.number < rows) | (state.number == 0)
        if not wanted:
            return goes_on
        suffices = jnp.stack([jnp.all(state.at.counters[name].count >= n) for name, n in wanted.items()])
        return goes_on & ~jnp.all(suffices)

    def one_window(state: _Forward) -> _Forward:
        i, at = state.number, state.at
        following = boundaries[jnp.minimum(jnp.searchsorted(boundaries, state.t, side="right"), len(boundaries) - 1)]
        end = jnp.minimum(following, state.t + state.longest)
        window = Window(state.t, end, jnp.where(i == 0, -jnp.inf, state.t))
        was_valid = _all_samples(at.counters, lambda counters: counters.failed_at == jnp.inf)
        prepared = prepare_first_part(context, window, at.before, was_valid)
        window = prepared.window
        found = _solved(prepared, at)
        middle = halfway(context, window)
        now = found.results.counters
        fits = _all_samples(now, lambda counters: counters.fits)
        # A sample that fails otherwise, or has failed, needs no other window.
        is_valid = was_valid & found.settled & _all_samples(now, lambda counters: counters.finite & counters.finished)
        is_done = jnp.all(fits | ~is_valid) | (middle >= window.end)

        def next_window(state: _Forward) -> _Forward:
            after = _after(context, at, found, window)
            record = state.record.with_window(i, window, at, found.sweeps, after)
            # After a part of a window, the next one may be twice as long.
            longest = jnp.where(state.longest < jnp.inf, 2.0 * (window.end - state.t), jnp.inf)
            return _Forward(i + 1, lax.stop_gradient(window.end), longest, after, record)

        def again(state: _Forward) -> _Forward:
            return dataclasses.replace(state, longest=middle - state.t)

        return lax.cond(is_done, next_window, again, state)

    never = jnp.full_like(t0, jnp.inf)
    state = _Forward(jnp.int32(0), t0, never, start, Record.of(start, t0, rows))
    end = lax.while_loop(goes_on, one_window, state)
    return end.number, _checked(end, t1), end.record


def _all_samples(counters: dict[str, Counters], of_layer: Callable[[Counters], Array]) -> Bool[Array, " batch"]:
    """For which samples something holds in all layers."""
    return jnp.all(jnp.stack([of_layer(part) for part in counters.values()]), axis=0)


def _checked(end: _Forward, t1: Array) -> Progress:
    """The end. If the record was too short, there was no room for all arrivals."""
    is_whole = (end.t >= t1) | (end.number < len(end.record.sweeps))

    def of_layer(counters: Counters) -> Counters:
        failed_at = jnp.where(is_whole, counters.failed_at, jnp.minimum(counters.failed_at, end.t))
        return dataclasses.replace(counters, fits=counters.fits & is_whole, failed_at=failed_at)

    return dataclasses.replace(end.at, counters={name: of_layer(part) for name, part in end.at.counters.items()})


def _backward(
    context: Context,
    t0: Array,
    t1: Array,
    number: Int[Array, ""],
    record: Record,
    trains: dict[str, Train],
    bar: Progress,
) -> tuple[Context, Array, Array]:
    """The cotangents of the context, of the start and of the end, from that of the results."""
    silent = {name: context.silent(name, train.places) for name, train in trains.items()}
    new_silent = {name: context.silent(name, context.places(name)) for name in trains}
    no_counters = zeros_like(eqx.filter(Progress.of(context).counters, eqx.is_inexact_array))

    def one_window(carry):
        i, before_bar, context_bar, ends_bar = carry
        i -= 1
        window, states, sweeps = jax.tree.map(lambda rows: rows[i], (record.window, record.states, record.sweeps))
        count, after = ({name: rows[j] for name, rows in record.count.items()} for j in (i, i + 1))
        earlier = {name: _spikes_between(train, silent[name], 0, count[name]) for name, train in trains.items()}
        guess = {n: _spikes_between(trains[n], new_silent[n], count[n], after[n]) for n in context.guessed}

        def continued(earlier, new):
            return {name: _continued(earlier[name], count[name], new[name]) for name in earlier}

        # Linear in the spikes, so any do.
        _, pull = jax.vjp(continued, *eqx.filter((silent, new_silent), eqx.is_inexact_array))
        earlier_bar, trains_bar = pull(before_bar.trains)
        results_bar = Sweep(trains_bar, before_bar.states, bar.saved, no_counters)
        arguments = context, window, Before(states, earlier)
        all_final = _instant(context, jnp.inf)
        pulled = pull_back(_SWEEPS, arguments, guess, all_final, sweeps, results_bar, context.max_sweeps)
        more, window_bar, before = eqx.filter(pulled, eqx.is_inexact_array)
        before_bar = Before(before.states, add(before.trains, earlier_bar))
        at_ends = jnp.where(i == 0, window_bar.start, 0.0), jnp.where(window.end >= t1, window_bar.end, 0.0)
        return i, before_bar, add(context_bar, more), add(ends_bar, at_ends)

    zeros = zeros_like(eqx.filter((context, (t0, t1)), eqx.is_inexact_array))
    carry = (number, bar.before, *zeros)
    _, before_bar, context_bar, ends_bar = lax.while_loop(lambda carry: carry[0] > 0, one_window, carry)
    # The simulation starts from the states of the plans.
    for name, plan_bar in context_bar.layers.items():
        start_bar = add(plan_bar.start, before_bar.states[name])
        context_bar = eqx.tree_at(lambda bar, name=name: bar.layers[name].start, context_bar, start_bar)
    return context_bar, *ends_bar


def _spikes_between(train: Train, silent: Train, first: Array | int, after: Array) -> Train:
    """The spikes of each neuron with the numbers from `first` up to `after`, excluded, as trains like `silent`."""
    number = indices(silent.places) + jnp.broadcast_to(first, after.shape)[..., None]

    def leaf(whole, empty):
        shifted = jnp.take_along_axis(whole, jnp.minimum(number, train.places - 1), axis=-1)
        return jnp.where(number < jnp.minimum(after, train.places)[..., None], shifted, empty)

    return jax.tree.map(leaf, train, silent)


def _solved(prepared: Prepared, at: Progress) -> FixedPoint:
    """The spikes of the group in a window."""
    context = prepared.context
    start = Progress.of(context)
    silent = {name: context.silent(name, context.places(name)) for name in context.layers}
    nothing = Sweep(silent, at.before.states, start.saved, start.counters)
    guess = {name: silent[name] for name in context.guessed}
    found = solve(_SWEEPS, prepared, guess, _instant(context, -jnp.inf), nothing, context.max_sweeps)
    counters = {name: _with_room(context, name, at.count[name], now) for name, now in found.results.counters.items()}
    return dataclasses.replace(found, results=dataclasses.replace(found.results, counters=counters))


def _with_room(context: Context, name: str, before: Int[Array, "batch neurons"], now: Counters) -> Counters:
    """Without room for the spikes of a window, these do not fit, unless they could not be recorded anyway."""
    places, most = context.places(name), context.layers[name].max_spikes
    is_lost = (now.count > places) & (before + places < most)
    return dataclasses.replace(now, fits=now.fits & ~jnp.any(is_lost, axis=1))


def _instant(context: Context, t: float) -> Instant:
    """The same time in all samples."""
    h = next(iter(context.layers.values())).start.h
    return Instant(jnp.full(len(h), t, h.dtype), jnp.zeros(len(h), jnp.int32) if context.is_ordered else None)


def _after(context: Context, at: Progress, found: FixedPoint, window: Window) -> Progress:
    """The simulation up to the end of a window."""
    trains, counters = {}, {}
    for name, now in found.results.counters.items():
        is_valid = found.settled & now.fits
        failed_at = jnp.where(is_valid, now.failed_at, jnp.minimum(now.failed_at, window.start))
        now = dataclasses.replace(now, settled=found.settled, sweeps=found.sweeps, failed_at=failed_at)
        counters[name] = at.counters[name].and_then(now)
        trains[name] = _continued(at.before.trains[name], at.count[name], found.results.trains[name])
    return Progress(Before(found.results.states, trains), add(at.saved, found.results.saved), counters)


def _continued(train: Train, count: Int[Array, "batch neurons"], new: Train) -> Train:
    """A train, continued with the spikes of the window."""
    number = indices(train.places) - count[..., None]
    is_new = (number >= 0) & (number < new.places)

    def leaf(before, new):
        return jnp.where(is_new, jnp.take_along_axis(new, jnp.where(is_new, number, 0), axis=-1), before)

    return jax.tree.map(leaf, train, new)


# The fixed-point problem of a window.
_SWEEPS = Sweeps(prepare, sweep, guessed_spikes, first_difference, next_guess)
