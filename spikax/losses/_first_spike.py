"""Losses on the first spikes of the outputs."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import checked_finite, checked_positive, require_spike_times
from ._arguments import checked_labels


def first_spike_cross_entropy(
    times: Any,
    labels: Any,
    *,
    t_silent: Any,
    tau0: Any = 0.5,
    tau1: Any = 6.4,
    alpha: Any = 3e-3,
    throw: bool = True,
) -> Float[Array, "*batch"]:
    r"""The cross entropy of first spike times: the output of the label should spike first, and early.

    With the first spike times $t_k$ of the outputs and the label $l$,

    $$ L = -\log \frac{e^{-t_l / \tau_0}}{\sum_k e^{-t_k / \tau_0}} + \alpha\, (e^{t_l / \tau_1} - 1), $$

    where the sum is over all outputs.

    **A silent output** is treated as a spike at `t_silent`, with a gradient of zero. If `t_silent` is the end of the
    simulation, the loss is continuous when a spike moves across the end. If the output of the label is silent, the loss
    is large, and its gradient delays the outputs that spike. It has no gradient that could make the silent output
    spike, so training may silence all outputs. To prevent that, use a long duration and outputs with a `bias`, which
    spike late if nothing else makes them spike, or [`spikax.silence.pseudospikes`][], or add
    [`spikax.losses.silent_peak`][].

    **Main arguments:**

    - `times`: the first spike times in ms, `inf` for silent outputs, of shape `(*batch, n)`. See
      [`spikax.first_spike`][].
    - `labels`: integers from 0 to `n - 1`, of shape `batch`.

    **Other arguments:**

    - `t_silent`: the spike time assigned to silent outputs, in ms: the end of the simulation, or later.
    - `tau0`: the time scale of the differences between spike times, in ms.
    - `tau1`: the time constant of the second term, which favours early spikes, in ms. The term grows exponentially:
      choose `tau1` such that it stays small up to `t_silent`. In float32 it overflows to `inf` for times above about 88
      `tau1`.
    - `alpha`: the weight of the second term; with 0 there is none.
    - `throw`: whether a compiled function raises for labels out of range. If False, the losses of these samples are
      NaN.

    **Returns:** the losses, of shape `batch`, with finite gradients.

    **Raises:** `TypeError` or `ValueError` for shapes that do not match, labels out of range, and parameters out of
    range. Traced values are checked at run time.

    ??? cite "Reference"
        T. C. Wunderlich, C. Pehle, *Event-based backpropagation can compute exact gradients for spiking neural
        networks*, Scientific Reports 11, 2021, equation 11.
    """
    tau0, tau1 = checked_positive(tau0, "tau0"), checked_positive(tau1, "tau1")
    alpha = checked_finite(alpha, "alpha")
    finite, is_label, invalid = _outputs(times, labels, t_silent, throw)
    label_time = jnp.sum(finite, axis=-1, where=is_label)
    cross_entropy = label_time / tau0 + jax.nn.logsumexp(-finite / tau0, axis=-1)
    # With a weight of zero, an exponential that overflows would be NaN.
    exponent = jnp.where(alpha == 0.0, 0.0, label_time / tau1)
    return cross_entropy + alpha * jnp.expm1(exponent) + invalid


def first_spike_mse(
    times: Any, labels: Any, *, t_label: Any, t_other: Any, t_silent: Any, throw: bool = True
) -> Float[Array, "*batch"]:
    r"""The squared error of first spike times with one target time for the label and one for all other outputs.

    With the first spike times $t_k$ of the outputs,

    $$ L = \frac{1}{2} \sum_k (t_k - T_k)^2, \qquad T_k = t_{label} \text{ for the label, otherwise } t_{other}. $$

    **A silent output** is treated as a spike at `t_silent`, with a gradient of zero. If `t_silent` is the end of the
    simulation, the loss is continuous when a spike moves across the end.

    **Main arguments:**

    - `times`: the first spike times in ms, `inf` for silent outputs, of shape `(*batch, n)`.
    - `labels`: integers from 0 to `n - 1`, of shape `batch`.

    **Other arguments:**

    - `t_label`: the target time of the output of the label, in ms.
    - `t_other`: the target time of the other outputs, in ms.
    - `t_silent`: the spike time assigned to silent outputs, in ms: the end of the simulation, or later.
    - `throw`: as in [`spikax.losses.first_spike_cross_entropy`][].

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** the errors of [`spikax.losses.first_spike_cross_entropy`][].

    ??? cite "Reference"
        S. M. Bohte, J. N. Kok, H. La Poutré, *Error-backpropagation in temporally encoded networks of spiking
        neurons*, Neurocomputing 48, 2002.
    """
    t_label, t_other = checked_finite(t_label, "t_label"), checked_finite(t_other, "t_other")
    finite, is_label, invalid = _outputs(times, labels, t_silent, throw)
    return 0.5 * jnp.sum((finite - jnp.where(is_label, t_label, t_other)) ** 2, axis=-1) + invalid


def first_spike_margin(
    times: Any, labels: Any, *, margin: Any, t_silent: Any, throw: bool = True
) -> Float[Array, "*batch"]:
    r"""The squared error of first spike times relative to the label: the others should spike a margin later.

    With the first spike times $t_k$ of the outputs and the label $l$,

    $$ L = \frac{1}{2} \sum_{k \ne l} (t_k - t_l - \Delta)^2. $$

    The loss is invariant under a common shift of all times.

    **A silent output**, also that of the label, is treated as a spike at `t_silent`, with a gradient of zero. If
    `t_silent` is the end of the simulation, the loss is continuous when a spike moves across the end. If all outputs
    are silent, the loss is only $(n - 1)\, \Delta^2 / 2$, with a gradient of zero. Use
    [`spikax.losses.silent_peak`][] to make them spike.

    **Main arguments:**

    - `times`: the first spike times in ms, `inf` for silent outputs, of shape `(*batch, n)`.
    - `labels`: integers from 0 to `n - 1`, of shape `batch`.

    **Other arguments:**

    - `margin`: the margin $\Delta$ by which the other outputs should spike later than the label, in ms.
    - `t_silent`: the spike time assigned to silent outputs, in ms: the end of the simulation, or later.
    - `throw`: as in [`spikax.losses.first_spike_cross_entropy`][].

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** the errors of [`spikax.losses.first_spike_cross_entropy`][].

    ??? cite "Reference"
        J. Göltz et al., *DelGrad: exact event-based gradients for training delays and weights on spiking neuromorphic
        hardware*, Nature Communications 16, 2025.
    """
    margin = checked_positive(margin, "margin")
    finite, is_label, invalid = _outputs(times, labels, t_silent, throw)
    label_time = jnp.sum(finite, axis=-1, where=is_label, keepdims=True)
    return 0.5 * jnp.sum((finite - label_time - margin) ** 2, axis=-1, where=~is_label) + invalid


def _outputs(
    times: Any, labels: Any, t_silent: Any, throw: bool
) -> tuple[Float[Array, "*batch n"], Bool[Array, "*batch n"], Float[Array, "*batch"]]:
    """The first spike times, with `t_silent` for silent outputs, a mask of the outputs of the labels, and `invalid`.

    The latter is zero, or NaN for a label out of range.
    """
    require_spike_times(times)
    labels, invalid = checked_labels(labels, times, "times", throw)
    t_silent = checked_positive(t_silent, "t_silent")
    times = jnp.asarray(times)
    # Replace `inf` before the arithmetic: its gradient would be NaN, even behind a `where`.
    finite = jnp.where(jnp.isfinite(times), times, t_silent)
    return finite, jax.nn.one_hot(labels, times.shape[-1], dtype=bool), invalid
