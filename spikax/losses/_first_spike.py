"""Losses on the first spikes of the outputs."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._checks import checked_finite, checked_positive
from ._arguments import checked_labels, require_times


def first_spike_cross_entropy(
    times: Any, labels: Any, *, t_silent: Any, tau0: Any = 0.5, tau1: Any = 6.4, alpha: Any = 3e-3
) -> Float[Array, "*batch"]:
    r"""The cross entropy of the first spikes: the neuron of the label shall be the first to spike, and early.

    With the first spike times $t_k$ of the outputs and the label $l$,

    $$ L = -\log \frac{e^{-t_l / \tau_0}}{\sum_k e^{-t_k / \tau_0}} + \alpha\, (e^{t_l / \tau_1} - 1), $$

    where the sum is over the label and all outputs that spike: a wrong output that is silent leaves the sum.

    **A silent label** counts as a spike at `t_silent`, a constant. The loss is then finite and large, and pushes the
    outputs that did spike to later times; but no gradient of a spike time can make the silent neuron spike. If many
    labels stay silent, give that neuron a reason of its own to spike: a `bias` or an input that brings it across its
    threshold late in any case, or a loss on its voltage.

    **Main arguments:**

    - `times`: the first spike times, `inf` where an output is silent; shape `(*batch, n)`. See
      [`spikax.first_spike`][].
    - `labels`: integers from 0 to `n - 1`; shape `batch`.

    **Other arguments:**

    - `t_silent`: when a silent label counts as spiking, in ms: the end of the simulation, or later.
    - `tau0`: how much earlier the label shall spike than the others, in ms.
    - `tau1`: the time constant of the second term, which favours early spikes, in ms. The term overflows, to `inf`,
      for times beyond about 88 `tau1` in float32.
    - `alpha`: the weight of the second term.

    **Returns:** the losses, of shape `batch`, with finite gradients.

    **Raises:** `TypeError` or `ValueError` for shapes that do not match, labels that no output has, and parameters
    that are not positive; for what is traced, an error at run time.

    ??? cite "Reference"
        T. C. Wunderlich, C. Pehle, *Event-based backpropagation can compute exact gradients for spiking neural
        networks*, Scientific Reports 11, 2021, equation 11.
    """
    tau0, tau1 = checked_positive(tau0, "tau0"), checked_positive(tau1, "tau1")
    alpha = checked_finite(alpha, "alpha")
    finite, is_label = _outputs(times, labels, t_silent)
    counts = jnp.isfinite(times) | is_label
    label_time = jnp.sum(finite, axis=-1, where=is_label)
    cross_entropy = label_time / tau0 + jax.nn.logsumexp(-finite / tau0, axis=-1, where=counts)
    return cross_entropy + alpha * jnp.expm1(label_time / tau1)


def first_spike_mse(times: Any, labels: Any, *, t_label: Any, t_other: Any, t_silent: Any) -> Float[Array, "*batch"]:
    r"""The squared error of the first spikes: the neuron of the label shall spike at one time, the others at another.

    With the first spike times $t_k$ of the outputs,

    $$ L = \frac{1}{2} \sum_k (t_k - T_k)^2, \qquad T_k = t_{label} \text{ for the label, else } t_{other}. $$

    **A silent output** counts as a spike at `t_silent`, with a gradient of zero. With the end of the simulation as
    `t_silent` the loss is continuous where a spike appears or leaves there.

    **Main arguments:**

    - `times`: the first spike times, `inf` where an output is silent; shape `(*batch, n)`.
    - `labels`: integers from 0 to `n - 1`; shape `batch`.

    **Other arguments:**

    - `t_label`: when the output of the label shall spike, in ms.
    - `t_other`: when the others shall, in ms.
    - `t_silent`: when a silent output counts as spiking, in ms: the end of the simulation, or later.

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** `TypeError` or `ValueError` as `first_spike_cross_entropy`.

    ??? cite "Reference"
        S. M. Bohte, J. N. Kok, H. La Poutré, *Error-backpropagation in temporally encoded networks of spiking
        neurons*, Neurocomputing 48, 2002.
    """
    t_label, t_other = checked_finite(t_label, "t_label"), checked_finite(t_other, "t_other")
    finite, is_label = _outputs(times, labels, t_silent)
    return 0.5 * jnp.sum((finite - jnp.where(is_label, t_label, t_other)) ** 2, axis=-1)


def first_spike_margin(times: Any, labels: Any, *, margin: Any, t_silent: Any) -> Float[Array, "*batch"]:
    r"""The squared error of the times since the label's spike: the others shall spike a margin later.

    With the first spike times $t_k$ of the outputs and the label $l$,

    $$ L = \frac{1}{2} \sum_{k \ne l} (t_k - t_l - \Delta)^2. $$

    A common shift of all times changes nothing.

    **A silent output**, the label's or another, counts as a spike at `t_silent`, with a gradient of zero. With the
    end of the simulation as `t_silent` the loss is continuous where a spike appears or leaves there. Where all outputs
    are silent they count as simultaneous, and the loss is no more than $(n - 1)\, \Delta^2 / 2$: see
    [`spikax.losses.silent_peak`][] for what makes them spike.

    **Main arguments:**

    - `times`: the first spike times, `inf` where an output is silent; shape `(*batch, n)`.
    - `labels`: integers from 0 to `n - 1`; shape `batch`.

    **Other arguments:**

    - `margin`: how much later than the label the others shall spike, $\Delta$, in ms.
    - `t_silent`: when a silent output counts as spiking, in ms: the end of the simulation, or later.

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** `TypeError` or `ValueError` as `first_spike_cross_entropy`.

    ??? cite "Reference"
        J. Göltz et al., *DelGrad: exact event-based gradients for training delays and weights on spiking neuromorphic
        hardware*, Nature Communications 16, 2025.
    """
    margin = checked_positive(margin, "margin")
    finite, is_label = _outputs(times, labels, t_silent)
    label_time = jnp.sum(finite, axis=-1, where=is_label, keepdims=True)
    return 0.5 * jnp.sum((finite - label_time - margin) ** 2, axis=-1, where=~is_label)


def earliest(times: Any) -> Int[Array, "*batch"]:
    """The output that spikes first, -1 where none spikes: the network's answer; shape `batch`.

    **Arguments:**

    - `times`: the first spike times, `inf` where an output is silent; shape `(*batch, n)`. Of several outputs at the
      same time, the one with the lowest number counts.
    """
    require_times(times)
    times = jnp.asarray(times)
    return jnp.where(jnp.any(jnp.isfinite(times), axis=-1), jnp.argmin(times, axis=-1), -1)


def _outputs(times: Any, labels: Any, t_silent: Any) -> tuple[Float[Array, "*batch n"], Bool[Array, "*batch n"]]:
    """The first spike times, with the silent outputs at `t_silent`, and which output is that of the label."""
    require_times(times)
    labels = checked_labels(labels, times, "times")[..., None]
    t_silent = checked_positive(t_silent, "t_silent")
    times = jnp.asarray(times)
    # No `inf` enters the arithmetic, as its gradient would be NaN even where it is not chosen.
    finite = jnp.where(jnp.isfinite(times), times, t_silent)
    return finite, jnp.arange(times.shape[-1], dtype=labels.dtype) == labels
