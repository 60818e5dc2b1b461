"""Losses on spike times.

All give one number per sample; take the mean over the batch yourself.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._checks import is_number, known, require, require_finite, require_positive


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
    that are not positive, as far as they are known.

    ??? cite "Reference"
        T. C. Wunderlich, C. Pehle, *Event-based backpropagation can compute exact gradients for spiking neural
        networks*, Scientific Reports 11, 2021, equation 11.
    """
    _check_times(times)
    _check_labels(times, labels)
    for name, value in (("t_silent", t_silent), ("tau0", tau0), ("tau1", tau1)):
        require_positive(value, name)
    require_finite(alpha, "alpha")
    times = jnp.asarray(times)
    spikes = jnp.isfinite(times)
    labels = jnp.asarray(labels)[..., None]
    is_label = jnp.arange(times.shape[-1], dtype=labels.dtype) == labels
    # No `inf` enters the arithmetic, as its gradient would be NaN even where it is not chosen.
    finite = jnp.where(spikes, times, t_silent)
    label_time = jnp.sum(finite, axis=-1, where=is_label)
    cross_entropy = label_time / tau0 + jax.nn.logsumexp(-finite / tau0, axis=-1, where=spikes | is_label)
    return cross_entropy + alpha * jnp.expm1(label_time / tau1)


def earliest(times: Any) -> Int[Array, "*batch"]:
    """The output that spikes first, -1 where none spikes: the network's answer; shape `batch`.

    **Arguments:**

    - `times`: the first spike times, `inf` where an output is silent; shape `(*batch, n)`. Of several outputs at the
      same time, the one with the lowest number counts.
    """
    _check_times(times)
    times = jnp.asarray(times)
    return jnp.where(jnp.any(jnp.isfinite(times), axis=-1), jnp.argmin(times, axis=-1), -1)


def _check_times(times: Any) -> None:
    is_right = is_number(times) and jnp.ndim(times) >= 1
    hint = "For example `sx.first_spike(spikes)`."
    require(is_right, "times", "a floating-point array of shape (*batch, n)", times, hint, TypeError)


def _check_labels(times: Any, labels: Any) -> None:
    shape, n = jnp.shape(times)[:-1], jnp.shape(times)[-1]
    is_integer = jnp.issubdtype(jnp.result_type(labels), jnp.integer)
    require(is_integer, "labels", "integers", labels, error=TypeError)
    require(jnp.shape(labels) == shape, "labels", f"of shape {shape}, one per sample of `times`", labels)
    numbers = known(labels)
    inside = numbers is None or bool(np.all((numbers >= 0) & (numbers < n)))
    require(inside, "labels", f"from 0 to n - 1 = {n - 1}", labels)
