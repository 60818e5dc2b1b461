"""Encoders, which convert numbers to input spikes, and random augmentations of spikes."""

import math
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ._checks import (
    as_array,
    checked,
    checked_below,
    checked_finite,
    checked_positive,
    is_number,
    known,
    require,
    require_below,
    require_count,
    require_finite,
    require_instance,
    require_key,
    require_natural,
)
from ._spikes import Events, Spikes


_Train = TypeVar("_Train", Spikes, Events)


def latency(values: Any, t_early: Any, t_late: Any) -> Spikes:
    r"""Latency coding: one spike per channel, later for larger values.

    $$ t_i = t_{early} + x_i\, (t_{late} - t_{early}). $$

    The spike times are differentiable with respect to all arguments.

    **Arguments:**

    - `values`: the values $x$, from 0 to 1, of shape `(*batch, n)`.
    - `t_early`: the spike time for the value 0, in ms.
    - `t_late`: the spike time for the value 1, in ms, after `t_early`.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n, 1)`.

    **Raises:** `TypeError` for values that are not floating-point numbers, `ValueError` for values outside of `[0, 1]`
    and times in the wrong order. Traced values are checked at run time.
    """
    values = _checked_values(values, 0.0, 1.0)
    t_early = _checked_times(t_early, t_late)
    return Spikes((t_early + jnp.asarray(values) * (t_late - t_early))[..., None])


def population(
    values: Any,
    fields: int,
    t_early: Any,
    t_late: Any,
    *,
    low: Any = 0.0,
    high: Any = 1.0,
    beta: Any = 1.5,
    cutoff: Any = 0.1,
) -> Spikes:
    r"""Population coding: several channels per value with Gaussian receptive fields, earlier for stronger responses.

    The response of field $i = 1, \dots, m$ to a value $x$ between $low$ and $high$ is

    $$ g_i = \exp\left(-\frac{(x - \mu_i)^2}{2 \sigma^2}\right), \qquad
       \mu_i = low + \frac{2 i - 3}{2}\, \frac{high - low}{m - 2}, \qquad
       \sigma = \frac{1}{\beta}\, \frac{high - low}{m - 2}. $$

    It spikes at $t_i = t_{late} - g_i\, (t_{late} - t_{early})$, or not at all if $g_i$ is below the cutoff. The spike
    times are differentiable with respect to the values, the bounds and the times.

    **Main arguments:**

    - `values`: the values $x$, of shape `(*batch, n)`.
    - `fields`: the number $m$ of fields per value, at least 3.
    - `t_early`: the spike time for the strongest response, 1, in ms.
    - `t_late`: the limit of the spike time for weak responses, in ms, after `t_early`.

    **Other arguments:**

    - `low`, `high`: the bounds of the values: numbers, or arrays of shape `(n,)`.
    - `beta`: the distance $\beta$ between neighbouring centres in units of $\sigma$. Larger values narrow the fields.
    - `cutoff`: the weakest response that causes a spike, from 0 to below 1.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n * fields, 1)`, `inf` for silent fields. The fields
    of one value are adjacent.

    **Raises:** `TypeError` for values that are not floating-point numbers, `ValueError` for values outside of the
    bounds, fewer than three fields, and parameters out of range. Traced values are checked at run time.

    ??? cite "Reference"
        S. M. Bohte, H. La Poutré, J. N. Kok, *Unsupervised clustering with spiking neurons by sparse temporal coding
        and multilayer RBF networks*, IEEE Transactions on Neural Networks 13(2), 2002.
    """
    require_count(fields, "fields")
    require(fields >= 3, "fields", "at least 3", fields, "The centres of two fields lie outside of the bounds.")
    low = checked_below(checked_finite(low, "low"), checked_finite(high, "high"), "low", "high")
    beta = checked_positive(beta, "beta")
    cutoff = checked(checked_finite(cutoff, "cutoff"), lambda x: (x >= 0) & (x < 1), "cutoff", "from 0 to below 1")
    values = _checked_values(values, low, high)
    t_early = _checked_times(t_early, t_late)
    values = jnp.asarray(values)
    low, high = (jnp.broadcast_to(jnp.asarray(bound, values.dtype), values.shape) for bound in (low, high))
    distance = ((high - low) / (fields - 2))[..., None]
    number = jnp.expand_dims(jnp.arange(fields, dtype=values.dtype), range(values.ndim))
    centres = low[..., None] + (number - 0.5) * distance
    response = jnp.exp(-0.5 * (beta * (values[..., None] - centres) / distance) ** 2)
    times = jnp.where(response >= cutoff, t_late - response * (t_late - t_early), jnp.inf)
    return Spikes(times.reshape(*times.shape[:-2], -1, 1))


def poisson(rates: Any, t1: float, *, seed: int, t0: float = 0.0) -> Spikes:
    """Homogeneous Poisson processes: random spikes at constant rates.

    The number of spikes of each channel is drawn from a Poisson distribution, and their times uniformly. The capacity
    `k` is the largest number of spikes of a channel, so the shape depends on the seed. The same arguments return the
    same spikes on every machine.

    **Arguments:**

    - `rates`: the rates, in spikes per ms, of shape `(*batch, n)`. 50 Hz is 0.05.
    - `t1`: the end, in ms.
    - `seed`: the seed, an integer of at least 0.
    - `t0`: the start, in ms.

    **Returns:** [`spikax.Spikes`][] with times from `t0` to below `t1`, of shape `(*batch, n, k)`.

    **Raises:** `TypeError` or `ValueError` for negative rates and other invalid arguments, and for traced arguments:
    call it outside of `jax.jit`.
    """
    rates = _known_array(rates, "rates")
    require(rates.ndim >= 1, "rates", "of shape (*batch, n)", rates)
    require(bool(np.all(rates >= 0)), "rates", "at least 0", rates)
    for name, value in (("t0", t0), ("t1", t1)):
        require_finite(value, name)
    require_below(t0, t1, "t0", "t1")
    require_natural(seed, "seed")
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rates * (t1 - t0))
    times = np.full((*rates.shape, max(1, counts.max(initial=0))), np.inf)
    happens = np.arange(times.shape[-1]) < counts[..., None]
    times[happens] = rng.uniform(t0, t1, counts.sum())
    return Spikes(np.sort(times, axis=-1))


def send_on_delta(signal: Any, times: Any, delta: Any) -> Spikes:
    """Send-on-delta sampling: a spike each time a signal has changed by `delta` since the last spike.

    The signal is interpolated linearly between samples. The reference level starts at the first sample. When the signal
    reaches `delta` above the reference, the up channel spikes. When it reaches `delta` below, the down channel spikes.
    Each spike moves the reference to the level that was reached. A steep signal causes several spikes between two
    samples.

    **Arguments:**

    - `signal`: the samples, of shape `(*batch, samples, n)`.
    - `times`: the times of the samples in ms, ascending, of shape `(samples,)`.
    - `delta`: the change that causes a spike: a positive number, or an array of shape `(n,)`.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, 2 n, k)`: `n` up channels, then `n` down channels.
    The capacity `k` is the largest number of spikes of a channel.

    **Raises:** `TypeError` or `ValueError` for shapes that do not match, times that are not ascending, values that are
    not finite, and traced arguments: call it outside of `jax.jit`.

    ??? cite "Reference"
        M. Miskowicz, *Send-on-delta concept: an event-based data reporting strategy*, Sensors 6(1), 2006.
    """
    signal, times, delta = (
        _known_array(value, name) for value, name in ((signal, "signal"), (times, "times"), (delta, "delta"))
    )
    require(signal.ndim >= 2, "signal", "of shape (*batch, samples, n)", signal)
    *batch, samples, n = signal.shape
    require(times.shape == (samples,), "times", f"of shape ({samples},), one for each sample", times)
    require(samples > 0 and bool(np.all(times[1:] > times[:-1])), "times", "ascending, with at least one entry", times)
    require(delta.shape in ((), (n,)), "delta", f"one number, or an array of shape ({n},)", delta)
    require(bool(np.all(delta > 0)), "delta", "positive", delta)
    level = np.moveaxis((signal - signal[..., :1, :]) / delta, -2, 0)
    channel, is_up, crossings = _crossings(level, times)
    channel = (*channel[:-1], np.where(is_up, channel[-1], channel[-1] + n))
    return Spikes(_filled(channel, crossings, (*batch, 2 * n)))


def drop(spikes: _Train, p: Any, *, key: PRNGKeyArray) -> _Train:
    """Deletes each spike independently with probability `p`.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] or [`spikax.Events`][].
    - `p`: the probability of deletion, from 0 to 1.
    - `key`: a JAX random key.

    **Returns:** the remaining spikes, of the same type and shape. Works under `jax.jit`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.
    """
    require_instance(spikes, (Spikes, Events), "spikes", "`sx.Spikes` or `sx.Events`")
    p = checked(checked_finite(p, "p"), lambda p: (p >= 0) & (p <= 1), "p", "from 0 to 1")
    require_key(key, "key")
    is_lost = jax.random.bernoulli(key, p, spikes.times.shape)
    return _at(spikes, jnp.where(is_lost, jnp.inf, spikes.times))


def jitter(spikes: _Train, std: Any, *, t0: float | None = None, key: PRNGKeyArray) -> _Train:
    """Shifts each spike independently by a normally distributed time.

    Without `t0`, a spike may move before the start of a simulation, which then raises an error.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] or [`spikax.Events`][].
    - `std`: the standard deviation of the shifts, in ms, at least 0.
    - `t0`: the start of the simulation, in ms. Spikes that would move before it are reflected at it.
    - `key`: a JAX random key.

    **Returns:** the shifted spikes in ascending order, of the same type and shape. Works under `jax.jit`, and is
    differentiable with respect to the spike times and `std`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.
    """
    require_instance(spikes, (Spikes, Events), "spikes", "`sx.Spikes` or `sx.Events`")
    std = checked(checked_finite(std, "std"), lambda std: std >= 0, "std", "at least 0")
    if t0 is not None:
        t0 = checked_finite(t0, "t0")
    require_key(key, "key")
    times = jnp.asarray(spikes.times)
    moved = times + std * jax.random.normal(key, times.shape, times.dtype)
    if t0 is not None:
        moved = t0 + jnp.abs(moved - t0)
    return _at(spikes, moved)


def shift(spikes: _Train, shape: tuple[int, int], max_shift: int, *, key: PRNGKeyArray) -> _Train:
    """Shifts an image, whose pixels are the channels, by a random whole number of pixels along both axes.

    The shifts are drawn uniformly from `-max_shift` to `max_shift`, independently for each sample and axis. Spikes that
    leave the image are deleted. Pixels that enter it are silent.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] or [`spikax.Events`][].
    - `shape`: the height and the width of the image. The pixel in row `i` and column `j` is channel `i * width + j`, as
      in [`spikax.datasets.image_spikes`][].
    - `max_shift`: the largest shift along an axis, in pixels.
    - `key`: a JAX random key.

    **Returns:** the shifted spikes, of the same type and shape. Works under `jax.jit`, and is differentiable with
    respect to the spike times.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and if the number of pixels is not the number of
    channels.
    """
    require_instance(spikes, (Spikes, Events), "spikes", "`sx.Spikes` or `sx.Events`")
    is_pair = isinstance(shape, tuple) and len(shape) == 2
    require(is_pair, "shape", "the height and the width of the image", shape, error=TypeError)
    for size in shape:
        require_count(size, "shape")
    channels = spikes.n if isinstance(spikes, Events) else spikes.times.shape[-2]
    height, width = shape
    require(height * width == channels, "shape", f"of {channels} pixels, one per channel", shape)
    require_natural(max_shift, "max_shift")
    require_key(key, "key")
    axes = 1 if isinstance(spikes, Events) else 2
    samples = spikes.times.shape[:-axes] + (1,) * axes
    ways = jax.random.randint(key, (2, *samples), -max_shift, max_shift + 1)

    def moved(channel: Array, ways: Array) -> tuple[Array, Array]:
        """The channels after the shift, and whether they are inside of the image."""
        channel = jnp.expand_dims(channel, range(ways.ndim - 1 - channel.ndim))
        row, column = channel // width + ways[0], channel % width + ways[1]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return jnp.where(inside, row * width + column, channel), inside

    if isinstance(spikes, Events):
        new, inside = moved(spikes.channels, ways.astype(spikes.channels.dtype))
        spikes = eqx.tree_at(lambda events: events.channels, spikes, new.astype(spikes.channels.dtype))
        return _at(spikes, jnp.where(inside, spikes.times, jnp.inf))
    # Each channel takes the spike train of the channel that is shifted onto it.
    old, inside = moved(jnp.arange(channels)[:, None], -ways)
    taken = jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, old, axis=-2), spikes)
    return eqx.tree_at(lambda spikes: spikes.times, taken, jnp.where(inside, taken.times, jnp.inf))


def _checked_values(values: Any, low: Any, high: Any) -> Any:
    is_array = is_number(values) and jnp.ndim(values) > 0
    require(is_array, "values", "a floating-point array", values, error=TypeError)
    for name, bound in (("low", low), ("high", high)):
        fits = jnp.shape(bound) in ((), jnp.shape(values)[-1:])
        require(fits, name, f"one number, or an array of shape {jnp.shape(values)[-1:]}", bound)

    def inside(value, low, high):
        # Compare in one dtype: 0.1 in float32 is larger than 0.1 in float64.
        return (value >= low.astype(value.dtype)) & (value <= high.astype(value.dtype))

    are_known = known(low) is not None and known(high) is not None
    is_pair = are_known and jnp.ndim(low) == jnp.ndim(high) == 0
    expectation = f"between {low} and {high}" if is_pair else "between `low` and `high`"
    return checked(values, inside, "values", expectation, "Scale the values to this range first.", (low, high))


def _checked_times(t_early: Any, t_late: Any) -> Any:
    """`t_early`, after checks of both times."""
    return checked_below(checked_finite(t_early, "t_early"), checked_finite(t_late, "t_late"), "t_early", "t_late")


def _known_array(value: Any, name: str) -> np.ndarray:
    """An argument as a finite float64 array. Raises if it is traced."""
    numbers = known(as_array(value, name))
    hint = "The shape of the result depends on it: encode outside of `jax.jit`."
    require(numbers is not None, name, "concrete, not traced", value, hint)
    require(not np.iscomplexobj(numbers), name, "an array of real numbers", value, error=TypeError)
    require(bool(np.all(np.isfinite(numbers))), name, "finite", value)
    return np.asarray(numbers, np.float64)


def _crossings(level: np.ndarray, times: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """The channel, direction and time of each spike, in the order of the samples.

    `level` is the signal in units of `delta`, with the samples along its first axis and the value 0 at the first.
    """
    reference = np.zeros_like(level)
    for i in range(1, len(level)):
        reference[i] = np.clip(reference[i - 1], np.floor(level[i]), np.ceil(level[i]))
    moves = np.diff(reference, axis=0).astype(int)
    place = np.nonzero(moves)
    counts = np.abs(moves[place])
    # From here on, arrays have one entry per spike.
    which = np.repeat(np.arange(counts.size), counts)
    sample, *channel = (index[which] for index in place)
    is_up = moves[place][which] > 0
    nth = 1 + _places(which)
    crossed = reference[:-1][place][which] + np.where(is_up, nth, -nth)
    start, end = level[:-1][place][which], level[1:][place][which]
    before, after = times[sample], times[sample + 1]
    # Rounding must not move a spike past the next sample, and so past the next spike.
    when = np.minimum(before + (crossed - start) / (end - start) * (after - before), after)
    return tuple(channel), is_up, when


def _filled(channel: tuple[np.ndarray, ...], times: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Spike trains of shape `(*shape, k)`, padded with `inf`. Each keeps the given order of its spikes."""
    train = np.ravel_multi_index(channel, shape)
    order = np.argsort(train, kind="stable")
    train, place = train[order], _places(train[order])
    filled = np.full((math.prod(shape), 1 + place.max(initial=0)), np.inf)
    filled[train, place] = times[order]
    return filled.reshape(*shape, -1)


def _places(sorted_numbers: np.ndarray) -> np.ndarray:
    """The number of equal numbers before each entry."""
    return np.arange(sorted_numbers.size) - np.searchsorted(sorted_numbers, sorted_numbers)


def _at(spikes: _Train, times: Array) -> _Train:
    """The spikes at new times, sorted together with their channels or payloads."""
    order = jnp.argsort(times, axis=-1)
    moved = eqx.tree_at(lambda spikes: spikes.times, spikes, times)
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, order, axis=-1), moved)
