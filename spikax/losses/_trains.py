"""Losses on spike trains, and a spike count that is differentiable in the spike times."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import checked_finite, checked_positive, require_instance
from .._spikes import Spikes
from ._arguments import require_trains


def spike_times(spikes: Spikes, targets: Spikes, *, t_silent: Any) -> Float[Array, "*batch"]:
    r"""The squared error of all spike times: the k-th spike of a neuron is compared with its k-th target.

    $$ L = \frac{1}{2} \sum_{j, k} (t_{jk} - T_{jk})^2. $$

    **A missing spike or target** is replaced by `t_silent`, with a gradient of zero. A silent neuron contributes
    $(t_{silent} - T_{jk})^2 / 2$ for each of its targets. A spike without a target is driven towards `t_silent`. If
    `t_silent` is the end of the simulation, the loss is continuous when a spike moves across the end.

    **Main arguments:**

    - `spikes`: the spikes, with times of shape `(*batch, n, k)`.
    - `targets`: the target spikes, with times of shape `(*batch, n, l)`.

    **Other arguments:**

    - `t_silent`: the time that replaces missing spikes and targets, in ms: the end of the simulation, or later.

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.

    ??? cite "Reference"
        S. M. Bohte, J. N. Kok, H. La Poutré, *Error-backpropagation in temporally encoded networks of spiking
        neurons*, Neurocomputing 48, 2002, for one spike per neuron.
    """
    require_trains(spikes, targets)
    t_silent = checked_positive(t_silent, "t_silent")
    both = [jnp.where(jnp.isfinite(times), times, t_silent) for times in (spikes.times, targets.times)]
    longest = max(times.shape[-1] for times in both)
    found, wanted = (_extended(times, longest, t_silent) for times in both)
    return 0.5 * jnp.sum((found - wanted) ** 2, axis=(-2, -1))


def van_rossum(spikes: Spikes, targets: Spikes, *, tau: Any, t1: Any) -> Float[Array, "*batch"]:
    r"""The squared van Rossum distance of spike trains: the squared distance of exponentially filtered trains.

    $$ L = \sum_j \frac{1}{\tau} \int_0^{t_1} (f_j - g_j)^2\, dt, \qquad f_j(t) = \sum_{t_{jk} < t}
       e^{-(t - t_{jk}) / \tau}, \qquad g_j \text{ likewise for the targets.} $$

    The integral is computed exactly, without a time grid. It is a sum over all pairs of spikes and targets of one
    neuron. A pair with times $a$ and $b$ contributes

    $$ \pm \tfrac{1}{2} \left( e^{-|a - b| / \tau} - e^{-(2 t_1 - a - b) / \tau} \right), $$

    with a minus sign for a spike and a target. A spike far from all others and from $t_1$ contributes 1/2. The loss
    has a kink where a spike coincides with a target. Its derivative there is set to zero, the mean of both sides.

    **A silent neuron** contributes the filtered train of its targets, with a gradient of zero. The contribution of a
    spike vanishes as it approaches $t_1$, so the loss is continuous when a spike moves across $t_1$. Spikes and targets
    after $t_1$ contribute nothing.

    **Main arguments:**

    - `spikes`: the spikes, with times of shape `(*batch, n, k)`.
    - `targets`: the target spikes, with times of shape `(*batch, n, l)`.

    **Other arguments:**

    - `tau`: the time constant of the filter, in ms. It sets the required precision of spike times.
    - `t1`: the end of the simulation, in ms.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.

    ??? cite "Reference"
        M. C. W. van Rossum, *A novel spike distance*, Neural Computation 13(4), 2001. C. Houghton, T. Kreuz, *On the
        efficient calculation of van Rossum distances*, Network: Computation in Neural Systems 23, 2012, for the sum.
    """
    require_trains(spikes, targets)
    tau = checked_positive(tau, "tau")
    t1 = checked_finite(t1, "t1")
    ages = jnp.concatenate([_age(spikes, t1), _age(targets, t1)], axis=-1) / tau
    signs = jnp.where(jnp.arange(ages.shape[-1]) < spikes.times.shape[-1], 1.0, -1.0).astype(ages.dtype)
    weight = jnp.expand_dims(jnp.outer(signs, signs), range(ages.ndim - 1))
    a, b = ages[..., :, None], ages[..., None, :]
    pairs = jnp.exp(-jnp.abs(a - b)) - jnp.exp(-(a + b))
    return 0.5 * jnp.sum(weight * pairs, axis=(-3, -2, -1))


def spike_count(spikes: Spikes, *, tau: Any, t1: Any) -> Float[Array, "*batch n"]:
    r"""The number of spikes of each neuron, as a differentiable function of the spike times.

    $$ c_j = \sum_k \left( 1 - e^{-(t_1 - t_{jk}) / \tau} \right). $$

    This is the integral, up to $t_1$, of the spike train filtered by a normalised exponential. A spike counts almost
    one well before the end of the simulation, and zero at the end. The count is therefore continuous when a spike moves
    across the end, and earlier spikes count more.

    The counts can serve as scores: `cross_entropy(spike_count(spikes, tau=5.0, t1=60.0), labels)` trains the output of
    the label to have the largest count. [`spikax.losses.count_bounds`][] bounds them.

    **A silent neuron** has the count zero, with a gradient of zero.

    **Arguments:**

    - `spikes`: the spikes, with times of shape `(*batch, n, k)`.
    - `tau`: the time constant of the filter, in ms. Spikes count less within about `tau` before the end.
    - `t1`: the end of the simulation, in ms. Later spikes are not counted.

    **Returns:** the counts, of shape `(*batch, n)`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.

    ??? cite "Reference"
        For the filter: M. C. W. van Rossum, *A novel spike distance*, Neural Computation 13(4), 2001.
    """
    require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
    tau = checked_positive(tau, "tau")
    t1 = checked_finite(t1, "t1")
    return jnp.sum(-jnp.expm1(-_age(spikes, t1) / tau), axis=-1)


def _age(spikes: Spikes, t1: Any) -> Float[Array, "*batch n k"]:
    """The time from each spike to `t1`. For missing spikes and those after `t1` it is zero, which adds nothing."""
    # Replace `inf` before the subtraction: its gradient would be NaN, even behind a `where`.
    return t1 - jnp.where(spikes.times < t1, spikes.times, t1)


def _extended(times: Float[Array, "*batch n k"], k: int, value: Any) -> Float[Array, "*batch n l"]:
    """The times, padded with `value` to `k` entries per neuron."""
    missing = jnp.broadcast_to(jnp.asarray(value, times.dtype), (*times.shape[:-1], k - times.shape[-1]))
    return jnp.concatenate([times, missing], axis=-1)
