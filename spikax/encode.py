"""Encoders, from numbers to input spikes, and noise on spikes."""

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


Train = TypeVar("Train", Spikes, Events)


def latency(values: Any, t_early: Any, t_late: Any) -> Spikes:
    r"""One spike per channel, the later the larger its value.

    $$ t_i = t_{early} + x_i\, (t_{late} - t_{early}). $$

    The spike times are differentiable with respect to all arguments.

    **Arguments:**

    - `values`: the values $x$ between 0 and 1, of shape `(*batch, n)`.
    - `t_early`: when a channel of value 0 spikes, in ms.
    - `t_late`: when a channel of value 1 spikes, in ms; after `t_early`.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n, 1)`.

    **Raises:** `TypeError` for values that are not floating-point numbers; `ValueError` for values outside
    `[0, 1]` and for times in the wrong order; for what is traced, an error at run time.
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
    r"""Every value is seen by several neurons, each with a Gaussian receptive field, and the best suited spikes first.

    The field $i$ of $m$, from 1, responds to the value $x$ between `low` and `high` with

    $$ g_i = \exp\left(-\frac{(x - \mu_i)^2}{2 \sigma^2}\right), \qquad
       \mu_i = low + \frac{2 i - 3}{2}\, \frac{high - low}{m - 2}, \qquad
       \sigma = \frac{1}{\beta}\, \frac{high - low}{m - 2}, $$

    and spikes at $t_i = t_{late} - g_i\, (t_{late} - t_{early})$, or not at all if $g_i$ is below the cutoff. The
    spike times are differentiable with respect to the values, the bounds and the times.

    **Main arguments:**

    - `values`: the values $x$, of shape `(*batch, n)`.
    - `fields`: the number $m$ of fields for each value, at least 3.
    - `t_early`: when a field spikes whose centre is the value, in ms.
    - `t_late`: the limit for a field without response, in ms; after `t_early`.

    **Other arguments:**

    - `low`, `high`: the bounds of the values: a number, or an array with one for each of the `n`.
    - `beta`: how narrow the fields are: their distance in standard deviations.
    - `cutoff`: the weakest response that gives a spike, from 0 to below 1.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, n * fields, 1)`, `inf` where a field is silent. The
    fields of one value lie side by side.

    **Raises:** `TypeError` for values that are not floating-point numbers; `ValueError` for values outside of the
    bounds, fewer than three fields, and parameters out of range; for what is traced, an error at run time.

    ??? cite "Reference"
        S. M. Bohte, H. La Poutré, J. N. Kok, *Unsupervised clustering with spiking neurons by sparse temporal coding
        and multilayer RBF networks*, IEEE Transactions on Neural Networks 13(2), 2002.
    """
    require_count(fields, "fields")
    require(fields >= 3, "fields", "at least 3", fields, "Two of them have their centres outside of the bounds.")
    low = checked_below(checked_finite(low, "low"), checked_finite(high, "high"), "low", "high")
    beta = checked_positive(beta, "beta")
    cutoff = checked(checked_finite(cutoff, "cutoff"), lambda x: (x >= 0) & (x < 1), "cutoff", "from 0 to below 1")
    values = _checked_values(values, low, high)
    t_early = _checked_times(t_early, t_late)
    values = jnp.asarray(values)[..., None]
    low, high = (jnp.asarray(bound, values.dtype)[..., None] for bound in (low, high))
    distance = (high - low) / (fields - 2)
    centres = low + (jnp.arange(fields, dtype=values.dtype) - 0.5) * distance
    response = jnp.exp(-0.5 * (beta * (values - centres) / distance) ** 2)
    times = jnp.where(response >= cutoff, t_late - response * (t_late - t_early), jnp.inf)
    return Spikes(times.reshape(*times.shape[:-2], -1, 1))


def poisson(rates: Any, t1: float, *, seed: int, t0: float = 0.0) -> Spikes:
    """Spikes of Poisson processes with constant rates.

    The number of spikes of each channel is drawn first, then their times, uniformly. The capacity `k` is the largest
    of the numbers, so no spike is lost; it changes with the seed, and with it the shape. The same arguments give the
    same spikes on every machine.

    **Arguments:**

    - `rates`: spikes per ms, of shape `(*batch, n)`: 0.05 for 50 Hz.
    - `t1`: the end, in ms.
    - `seed`: the seed, an integer of at least 0.
    - `t0`: the beginning, in ms.

    **Returns:** [`spikax.Spikes`][] with times from `t0` to below `t1`, of shape `(*batch, n, k)`.

    **Raises:** `TypeError` or `ValueError` for negative rates and for anything that is not known, such as arguments
    under `jax.jit`.
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


def threshold(signal: Any, times: Any, delta: Any) -> Spikes:
    """Send on delta: a spike each time a sampled signal has moved by `delta` since its last one.

    The reference starts at the first sample. As soon as the signal, a straight line between samples, lies `delta` above
    the reference, the up channel spikes; as soon as it lies `delta` below, the down channel; and the reference moves
    there. The spike times are those of the crossings, linearly interpolated.
    A steep signal gives several spikes between two samples.

    **Arguments:**

    - `signal`: the samples, of shape `(*batch, samples, n)`.
    - `times`: when they were taken, in ms; ascending, shape `(samples,)`.
    - `delta`: the move that gives a spike: a positive number, or an array with one for each of the `n`.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, 2 n, k)`: the up channels of all `n`, then the down
    channels. The capacity `k` is the largest number of spikes of a channel.

    **Raises:** `TypeError` or `ValueError` for shapes that do not match, times that do not ascend, and for anything
    that is not finite or not known, such as arguments under `jax.jit`.

    ??? cite "Reference"
        M. Miskowicz, *Send-on-delta concept: an event-based data reporting strategy*, Sensors 6(1), 2006.
    """
    signal, times, delta = (
        _known_array(value, name) for value, name in ((signal, "signal"), (times, "times"), (delta, "delta"))
    )
    require(signal.ndim >= 2, "signal", "of shape (*batch, samples, n)", signal)
    *batch, samples, n = signal.shape
    require(times.shape == (samples,), "times", f"of shape ({samples},), one for each sample", times)
    require(samples > 0 and bool(np.all(times[1:] > times[:-1])), "times", "ascending, at least one", times)
    require(delta.shape in ((), (n,)), "delta", f"one number, or an array of shape ({n},)", delta)
    require(bool(np.all(delta > 0)), "delta", "positive", delta)
    level = np.moveaxis((signal - signal[..., :1, :]) / delta, -2, 0)
    channel, is_up, crossings = _crossings(level, times)
    channel = (*channel[:-1], np.where(is_up, channel[-1], channel[-1] + n))
    return Spikes(_filled(channel, crossings, (*batch, 2 * n)))


def drop(spikes: Train, p: Any, *, key: PRNGKeyArray) -> Train:
    """Loses each spike with probability `p`, independently of the others.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] or [`spikax.Events`][].
    - `p`: the probability, from 0 to 1.
    - `key`: the random key.

    **Returns:** the same with fewer spikes, in the same shape. Works under `jax.jit`.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.
    """
    require_instance(spikes, (Spikes, Events), "spikes", "`sx.Spikes` or `sx.Events`")
    p = checked(checked_finite(p, "p"), lambda p: (p >= 0) & (p <= 1), "p", "from 0 to 1")
    require_key(key, "key")
    is_lost = jax.random.bernoulli(key, p, spikes.times.shape)
    return _at(spikes, jnp.where(is_lost, jnp.inf, spikes.times))


def jitter(spikes: Train, std: Any, *, t0: float | None = None, key: PRNGKeyArray) -> Train:
    """Moves each spike by a normally distributed time of its own.

    Without `t0` no limit holds the spikes: one may move to before the beginning of a simulation, which then refuses it.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] or [`spikax.Events`][].
    - `std`: the standard deviation, in ms, at least 0.
    - `t0`: the beginning, in ms: a spike that would move to before it moves as far behind it.
    - `key`: the random key.

    **Returns:** the same at other times, in order again. Works under `jax.jit`, and is differentiable with respect to
    the spike times and `std`.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.
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


def shift(spikes: Train, shape: tuple[int, int], most: int, *, key: PRNGKeyArray) -> Train:
    """Moves the picture that the channels make, in each sample by whole numbers of pixels of its own.

    Along both axes it moves by up to `most` pixels in either direction, all of which are equally likely. What leaves
    the picture is lost, and nothing comes in.

    **Arguments:**

    - `spikes`: [`spikax.Spikes`][] or [`spikax.Events`][].
    - `shape`: the height and the width of the picture; the pixel in row `i` and column `j` is channel `i * width + j`,
      as [`spikax.datasets.image_spikes`][] has it.
    - `most`: the longest way along an axis, in pixels.
    - `key`: the random key.

    **Returns:** the same on other channels, in the same shape. Works under `jax.jit`, and is differentiable with
    respect to the spike times.

    **Raises:** `TypeError` or `ValueError` for anything else, and for a picture with another number of pixels than
    there are channels.
    """
    require_instance(spikes, (Spikes, Events), "spikes", "`sx.Spikes` or `sx.Events`")
    is_pair = isinstance(shape, tuple) and len(shape) == 2
    require(is_pair, "shape", "the height and the width of the picture", shape, error=TypeError)
    for size in shape:
        require_count(size, "shape")
    channels = spikes.n if isinstance(spikes, Events) else spikes.times.shape[-2]
    height, width = shape
    require(height * width == channels, "shape", f"of {channels} pixels, one for each channel", shape)
    require_natural(most, "most")
    require_key(key, "key")
    axes = 1 if isinstance(spikes, Events) else 2
    samples = spikes.times.shape[:-axes] + (1,) * axes
    ways = jax.random.randint(key, (2, *samples), -most, most + 1)

    def moved(channel: Array, ways: Array) -> tuple[Array, Array]:
        """Where channels go, and whether that is inside of the picture."""
        row, column = channel // width + ways[0], channel % width + ways[1]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return jnp.where(inside, row * width + column, channel), inside

    if isinstance(spikes, Events):
        new, inside = moved(spikes.channels, ways.astype(spikes.channels.dtype))
        spikes = eqx.tree_at(lambda events: events.channels, spikes, new.astype(spikes.channels.dtype))
        return _at(spikes, jnp.where(inside, spikes.times, jnp.inf))
    # Each channel has the train of the one from which it comes.
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
        # In one type: 0.1 in float32 is more than 0.1 in float64.
        return (value >= low.astype(value.dtype)) & (value <= high.astype(value.dtype))

    are_known = known(low) is not None and known(high) is not None
    is_pair = are_known and jnp.ndim(low) == jnp.ndim(high) == 0
    expectation = f"between {low} and {high}" if is_pair else "between `low` and `high`"
    return checked(values, inside, "values", expectation, "Scale each channel to this range first.", (low, high))


def _checked_times(t_early: Any, t_late: Any) -> Any:
    """The earlier time."""
    return checked_below(checked_finite(t_early, "t_early"), checked_finite(t_late, "t_late"), "t_early", "t_late")


def _known_array(value: Any, name: str) -> np.ndarray:
    """The finite numbers of an argument, in the precision of Python."""
    numbers = known(as_array(value, name))
    hint = "The number of spikes, and with it the shape, depends on it: encode outside of `jax.jit`."
    require(numbers is not None, name, "known", value, hint)
    require(not np.iscomplexobj(numbers), name, "an array of real numbers", value, error=TypeError)
    require(bool(np.all(np.isfinite(numbers))), name, "finite", value)
    return np.asarray(numbers, np.float64)


def _crossings(level: np.ndarray, times: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """All crossings of the next whole number: in which channel, whether upward, and when; in the order of the samples.

    `level` has the samples along its first axis, and is 0 at the first.
    """
    reference = np.zeros_like(level)
    for i in range(1, len(level)):
        reference[i] = np.clip(reference[i - 1], np.floor(level[i]), np.ceil(level[i]))
    moves = np.diff(reference, axis=0).astype(int)
    place = np.nonzero(moves)
    counts = np.abs(moves[place])
    # From here on, one entry for each crossing.
    which = np.repeat(np.arange(counts.size), counts)
    sample, *channel = (index[which] for index in place)
    is_up = moves[place][which] > 0
    nth = 1 + _places(which)
    crossed = reference[:-1][place][which] + np.where(is_up, nth, -nth)
    start, end = level[:-1][place][which], level[1:][place][which]
    before, after = times[sample], times[sample + 1]
    # Rounding must not carry a spike past the sample, and so past the next spike.
    when = np.minimum(before + (crossed - start) / (end - start) * (after - before), after)
    return tuple(channel), is_up, when


def _filled(channel: tuple[np.ndarray, ...], times: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Trains with the spikes of each channel in the order given, padded with `inf`; shape `(*shape, k)`."""
    train = np.ravel_multi_index(channel, shape)
    order = np.argsort(train, kind="stable")
    train, place = train[order], _places(train[order])
    filled = np.full((math.prod(shape), 1 + place.max(initial=0)), np.inf)
    filled[train, place] = times[order]
    return filled.reshape(*shape, -1)


def _places(sorted_numbers: np.ndarray) -> np.ndarray:
    """How many equal numbers come before each."""
    return np.arange(sorted_numbers.size) - np.searchsorted(sorted_numbers, sorted_numbers)


def _at(spikes: Train, times: Array) -> Train:
    """The spikes at other times, in order; whatever belongs to a spike moves along."""
    order = jnp.argsort(times, axis=-1)
    moved = eqx.tree_at(lambda spikes: spikes.times, spikes, times)
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, order, axis=-1), moved)
