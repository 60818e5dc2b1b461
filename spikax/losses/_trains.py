"""Losses on whole spike trains, and a count of spikes that is smooth in their times."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import checked_finite, checked_positive, require_instance
from .._spikes import Spikes
from ._arguments import require_trains


def spike_times(spikes: Spikes, targets: Spikes, *, t_silent: Any) -> Float[Array, "*batch"]:
    r"""The squared error of all spike times, the k-th spike of a neuron against its k-th target.

    $$ L = \frac{1}{2} \sum_{j, k} (t_{jk} - T_{jk})^2. $$

    **A missing spike**, and a missing target, count as one at `t_silent`, with a gradient of zero: a silent neuron
    contributes $(t_{silent} - T_{jk})^2 / 2$ for each of its targets, a spike without a target is pushed towards
    `t_silent`, and where both are missing nothing is added. With the end of the simulation as `t_silent` the loss is
    continuous where a spike appears or leaves there.

    **Main arguments:**

    - `spikes`: the spikes, with times of shape `(*batch, n, k)`.
    - `targets`: the wanted ones, with times of shape `(*batch, n, l)`.

    **Other arguments:**

    - `t_silent`: when a missing spike counts, in ms: the end of the simulation, or later.

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.

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
    r"""The squared van Rossum distance of two sets of spike trains: that of the trains filtered by an exponential.

    $$ L = \sum_j \frac{1}{\tau} \int_0^{t_1} (f_j - g_j)^2\, dt, \qquad f_j(t) = \sum_{t_{jk} < t}
       e^{-(t - t_{jk}) / \tau}, \qquad g_j \text{ likewise for the targets.} $$

    No grid of times is needed: the integral is a sum over pairs of spikes, in which a and b, of one neuron, contribute

    $$ \pm \tfrac{1}{2} \left( e^{-|a - b| / \tau} - e^{-(2 t_1 - a - b) / \tau} \right), $$

    with the minus for a spike and a target. Each spike far from all targets, and from $t_1$, adds 1/2. The distance has
    a corner where a spike meets its target; there its derivative counts as zero, the mean of both sides.

    **A silent neuron** contributes the filtered train of its targets, with a gradient of zero. A spike contributes less
    and less the nearer it is to $t_1$, and nothing there: the loss is continuous where it appears or leaves. Spikes and
    targets after $t_1$ lie outside of the integral.

    **Main arguments:**

    - `spikes`: the spikes, with times of shape `(*batch, n, k)`.
    - `targets`: the wanted ones, with times of shape `(*batch, n, l)`.

    **Other arguments:**

    - `tau`: the time constant of the filter, in ms: how precise the times shall be.
    - `t1`: the end of the simulation, in ms.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.

    ??? cite "Reference"
        M. C. W. van Rossum, *A novel spike distance*, Neural Computation 13(4), 2001. C. Houghton, T. Kreuz, *On the
        efficient calculation of van Rossum distances*, Network: Computation in Neural Systems 23, 2012, for the sum.
    """
    require_trains(spikes, targets)
    tau = checked_positive(tau, "tau")
    t1 = checked_finite(t1, "t1")
    ages = jnp.concatenate([_age(spikes, t1), _age(targets, t1)], axis=-1) / tau
    signs = jnp.where(jnp.arange(ages.shape[-1]) < spikes.times.shape[-1], 1.0, -1.0).astype(ages.dtype)
    a, b = ages[..., :, None], ages[..., None, :]
    pairs = jnp.exp(-jnp.abs(a - b)) - jnp.exp(-(a + b))
    return 0.5 * jnp.sum(signs[:, None] * signs * pairs, axis=(-3, -2, -1))


def spike_count(spikes: Spikes, *, tau: Any, t1: Any) -> Float[Array, "*batch n"]:
    r"""How many spikes each neuron has, as a smooth function of their times.

    $$ c_j = \sum_k \left( 1 - e^{-(t_1 - t_{jk}) / \tau} \right). $$

    A spike counts nearly one long before the end of the simulation, and nothing at it. So the count is continuous where
    a spike appears or leaves there, and its derivative is exact: an earlier spike counts more. It is the area, up to
    $t_1$, of the train filtered by an exponential of area one.

    These are scores: `cross_entropy(spike_count(spikes, tau=5.0, t1=60.0), labels)` makes the output of the label the
    busiest. See [`spikax.losses.count_bounds`][] for bounds on them.

    **A silent neuron** has the count zero, with a gradient of zero.

    **Arguments:**

    - `spikes`: the spikes, with times of shape `(*batch, n, k)`.
    - `tau`: how long before the end a spike begins to count less, in ms.
    - `t1`: the end of the simulation, in ms. Spikes after it count nothing.

    **Returns:** the counts, of shape `(*batch, n)`.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.

    ??? cite "Reference"
        For the filter: M. C. W. van Rossum, *A novel spike distance*, Neural Computation 13(4), 2001.
    """
    require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
    tau = checked_positive(tau, "tau")
    t1 = checked_finite(t1, "t1")
    return jnp.sum(-jnp.expm1(-_age(spikes, t1) / tau), axis=-1)


def _age(spikes: Spikes, t1: Any) -> Float[Array, "*batch n k"]:
    """How long ago at `t1` each spike was. What is no spike until then has the age zero, at which none counts."""
    # The time is chosen before the subtraction: no `inf` enters the arithmetic.
    return t1 - jnp.where(spikes.times < t1, spikes.times, t1)


def _extended(times: Float[Array, "*batch n k"], k: int, value: Any) -> Float[Array, "*batch n l"]:
    """With places up to `k`, all of the same value."""
    missing = jnp.broadcast_to(jnp.asarray(value, times.dtype), (*times.shape[:-1], k - times.shape[-1]))
    return jnp.concatenate([times, missing], axis=-1)
