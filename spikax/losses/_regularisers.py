"""Regularisers: bounds on spike counts and spike times, and a term that makes silent neurons spike."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import (
    checked_below,
    checked_finite,
    is_number,
    require,
    require_float_array,
    require_instance,
    require_spike_times,
)
from .._spikes import Spikes


def count_bounds(counts: Any, *, low: Any = 0.0, high: Any = float("inf")) -> Float[Array, "*batch"]:
    r"""The squared distance of spike counts from an interval, averaged over neurons.

    $$ L = \frac{1}{2 n} \sum_j \left( \max(0, low - c_j)^2 + \max(0, c_j - high)^2 \right). $$

    Pass the counts $c$ of each sample to bound the activity in each sample. Pass their mean over the batch,
    `jnp.mean(counts, axis=0)`, to bound the mean activity of each neuron.

    **A silent neuron** contributes $low^2 / 2n$, with a gradient of zero. Use [`spikax.losses.silent_peak`][] to make
    it spike.

    **Arguments:**

    - `counts`: the counts, of shape `(*batch, n)`. [`spikax.losses.spike_count`][] returns differentiable counts.
    - `low`, `high`: the bounds. By default there are none.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.

    ??? cite "Reference"
        F. Zenke, T. P. Vogels, *The remarkable robustness of surrogate gradient learning for instilling complex
        function in spiking neural networks*, Neural Computation 33(4), 2021.
    """
    require_float_array(
        counts, "counts", "(*batch, n)", "For example `sx.losses.spike_count(spikes, tau=5.0, t1=60.0)`."
    )
    low = _checked_bounds(low, high, "low", "high")
    return 0.5 * jnp.mean(_outside(jnp.asarray(counts), low, high), axis=-1)


def time_bounds(times: Any, *, early: Any = -float("inf"), late: Any = float("inf")) -> Float[Array, "*batch"]:
    r"""The squared distance of spike times from an interval, averaged over neurons.

    $$ L = \frac{1}{2 n} \sum_j \left( \max(0, t_{early} - t_j)^2 + \max(0, t_j - t_{late})^2 \right). $$

    With `late` only, it penalises late spikes. With `early` only, it penalises early spikes.

    **A silent neuron** contributes nothing.

    **Arguments:**

    - `times`: spike times in ms, `inf` for silent neurons, of shape `(*batch, n)`. See [`spikax.first_spike`][].
    - `early`, `late`: the bounds, in ms. By default there are none.

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.

    ??? cite "Reference"
        J. Göltz et al., *Fast and energy-efficient neuromorphic deep learning with first-spike times*, Nature Machine
        Intelligence 3, 2021, for a regulariser of another form that favours early spikes.
    """
    require_spike_times(times)
    early = _checked_bounds(early, late, "early", "late")
    times = jnp.asarray(times)
    spikes = jnp.isfinite(times)
    # Replace `inf` before the arithmetic: its gradient would be NaN, even behind a `where`.
    return 0.5 * jnp.mean(jnp.where(spikes, _outside(jnp.where(spikes, times, 0.0), early, late), 0.0), axis=-1)


def silent_peak(conditions: Any, spikes: Spikes, *, margin: Any = 0.0) -> Float[Array, "*batch"]:
    r"""The distance of silent neurons from their thresholds, averaged over neurons.

    With the spike condition $g_j$ of each neuron, which rises through zero at a spike, and the margin $m$,

    $$ L = \frac{1}{n} \sum_{j \text{ silent}} \max(0, m - \max_t g_j(t)). $$

    A silent neuron has no spike time, and so no gradient. The peak of its spike condition has a gradient for any neuron
    model. Minimising this term raises the peak until the neuron spikes. The maximum is taken over the saved times.

    **A silent neuron** contributes its distance from the threshold plus the margin. **A neuron that spikes**
    contributes zero. For a margin of zero, the loss is continuous where a neuron begins to spike.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat={"hidden": ts})
    conditions = sx.silence.spike_conditions(network.layers["hidden"], ts, solution.states["hidden"])
    loss += 0.1 * sx.losses.silent_peak(conditions, solution.spikes["hidden"])
    ```

    The term drives each neuron to spike in every sample. Use a small weight for hidden neurons, if their code should
    be sparse. For outputs, the weight must be large enough to balance the loss. In
    [`spikax.losses.first_spike_cross_entropy`][] a silent label costs about `t_silent / tau0` and delays the outputs
    that spike, so use a weight of this size.

    **Arguments:**

    - `conditions`: the spike conditions at the saved times, of shape `(*batch, times, n)`. See
      [`spikax.silence.spike_conditions`][].
    - `spikes`: the spikes of the same neurons, with times of shape `(*batch, n, k)`.
    - `margin`: the distance above the threshold to which peaks are raised, in the units of the spike condition.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.
    """
    require_float_array(conditions, "conditions", "(*batch, times, n)", "See `sx.silence.spike_conditions`.")
    require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
    margin = checked_finite(margin, "margin")
    peaks = jnp.max(jnp.asarray(conditions), axis=-2)
    shape = spikes.times.shape[:-1]
    require(peaks.shape == shape, "conditions", f"of shape {(*shape[:-1], 'times', shape[-1])}", conditions)
    distance = jnp.maximum(margin - peaks, 0.0)
    return jnp.mean(jnp.where(jnp.isfinite(spikes.times[..., 0]), 0.0, distance), axis=-1)


def _outside(x: Array, low: Any, high: Any) -> Array:
    """The squared distance from the interval between `low` and `high`."""
    return jnp.maximum(low - x, 0.0) ** 2 + jnp.maximum(x - high, 0.0) ** 2


def _checked_bounds(low: Any, high: Any, low_name: str, high_name: str) -> Any:
    """The lower bound, after checks of both bounds."""
    for name, value in ((low_name, low), (high_name, high)):
        require(is_number(value), name, "a real number or a floating-point array", value, error=TypeError)
    return checked_below(low, high, low_name, high_name)
