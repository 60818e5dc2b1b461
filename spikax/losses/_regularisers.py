"""Terms that are added to a loss: bounds on spike counts and times, and a reason to spike for silent neurons."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import checked_below, checked_finite, is_number, require, require_instance
from .._spikes import Spikes
from ._arguments import require_array, require_times


def count_bounds(counts: Any, *, low: Any = 0.0, high: Any = float("inf")) -> Float[Array, "*batch"]:
    r"""How far spike counts lie outside of bounds, squared, as a mean over the neurons.

    $$ L = \frac{1}{2 n} \sum_j \left( \max(0, low - c_j)^2 + \max(0, c_j - high)^2 \right). $$

    Counts of each sample bound the activity in each sample; their mean over the batch, `jnp.mean(counts, axis=0)`,
    bounds the rate of each neuron, which may then be silent in some samples and busy in others.

    **A silent neuron** contributes $low^2 / 2n$. Its count has no gradient, as no spike is there that could move:
    [`spikax.losses.silent_peak`][] makes it spike.

    **Arguments:**

    - `counts`: the counts, of shape `(*batch, n)`: see [`spikax.losses.spike_count`][], which is smooth.
    - `low`, `high`: the bounds; by default there is none.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.

    ??? cite "Reference"
        F. Zenke, T. P. Vogels, *The remarkable robustness of surrogate gradient learning for instilling complex
        function in spiking neural networks*, Neural Computation 33(4), 2021.
    """
    require_array(counts, "counts", "(*batch, n)", "For example `sx.losses.spike_count(spikes, tau=5.0, t1=60.0)`.")
    low = _checked_bounds(low, high, "low", "high")
    return 0.5 * jnp.mean(_outside(jnp.asarray(counts), low, high), axis=-1)


def time_bounds(times: Any, *, early: Any = -float("inf"), late: Any = float("inf")) -> Float[Array, "*batch"]:
    r"""How far spike times lie outside of bounds, squared, as a mean over the neurons.

    $$ L = \frac{1}{2 n} \sum_j \left( \max(0, t_{early} - t_j)^2 + \max(0, t_j - t_{late})^2 \right). $$

    With `late` alone it asks for early spikes, with `early` alone for late ones.

    **A silent neuron** contributes nothing.

    **Arguments:**

    - `times`: spike times, `inf` where a neuron is silent; shape `(*batch, n)`. See [`spikax.first_spike`][].
    - `early`, `late`: the bounds, in ms; by default there is none.

    **Returns:** the losses, of shape `batch`, in ms².

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.

    ??? cite "Reference"
        J. Göltz et al., *Fast and energy-efficient neuromorphic deep learning with first-spike times*, Nature Machine
        Intelligence 3, 2021, which favours early spikes, in another form.
    """
    require_times(times)
    early = _checked_bounds(early, late, "early", "late")
    times = jnp.asarray(times)
    spikes = jnp.isfinite(times)
    # No `inf` enters the arithmetic, as its gradient would be NaN even where it is not chosen.
    return 0.5 * jnp.mean(jnp.where(spikes, _outside(jnp.where(spikes, times, 0.0), early, late), 0.0), axis=-1)


def silent_peak(conditions: Any, spikes: Spikes, *, margin: Any = 0.0) -> Float[Array, "*batch"]:
    r"""How far silent neurons stay below their thresholds, as a mean over the neurons.

    With the spike condition $g_j$ of each neuron, which rises through zero at a spike,

    $$ L = \frac{1}{n} \sum_{j \text{ silent}} \max(0, m - \max_t g_j(t)). $$

    Spike times give a silent neuron no gradient; the peak of its spike condition gives it one, for any neuron
    model, that lifts the peak until the neuron spikes. The maximum is taken over the saved times.

    **A silent neuron** contributes its distance from the threshold, and the margin; **one that spikes** contributes
    nothing. Without a margin the loss is continuous where a neuron begins to spike.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat={"hidden": ts})
    conditions = sx.silence.spike_conditions(network.layers["hidden"], ts, solution.states["hidden"])
    loss += 0.1 * sx.losses.silent_peak(conditions, solution.spikes["hidden"])
    ```

    It asks each neuron to spike in every sample. For hidden neurons that is more than a sparse code wants: weigh it
    lightly. For outputs it has to outweigh what silences them: beside [`spikax.losses.first_spike_cross_entropy`][], to
    which a silent label costs `t_silent / tau0` and which pushes the outputs that did spike to later times, give it a
    weight of this size.

    **Arguments:**

    - `conditions`: the spike conditions at the saved times, of shape `(*batch, times, n)`: see
      [`spikax.silence.spike_conditions`][].
    - `spikes`: the spikes of the same neurons, with times of shape `(*batch, n, k)`.
    - `margin`: how far above the threshold the peak is to be lifted, in the units of the spike condition.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.
    """
    require_array(conditions, "conditions", "(*batch, times, n)", "See `sx.silence.spike_conditions`.")
    require_instance(spikes, Spikes, "spikes", "`sx.Spikes`")
    margin = checked_finite(margin, "margin")
    peaks = jnp.max(jnp.asarray(conditions), axis=-2)
    shape = spikes.times.shape[:-1]
    require(peaks.shape == shape, "conditions", f"of shape {(*shape[:-1], 'times', shape[-1])}", conditions)
    distance = jnp.maximum(margin - peaks, 0.0)
    return jnp.mean(jnp.where(jnp.isfinite(spikes.times[..., 0]), 0.0, distance), axis=-1)


def _outside(x: Array, low: Any, high: Any) -> Array:
    """The squared distance from the interval between the bounds."""
    return jnp.maximum(low - x, 0.0) ** 2 + jnp.maximum(x - high, 0.0) ** 2


def _checked_bounds(low: Any, high: Any, low_name: str, high_name: str) -> Any:
    """The lower bound."""
    for name, value in ((low_name, low), (high_name, high)):
        require(is_number(value), name, "a real number or a floating-point array", value, error=TypeError)
    return checked_below(low, high, low_name, high_name)
