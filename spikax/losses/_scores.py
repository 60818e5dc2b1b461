"""Scores of the outputs from their states, and the cross entropy over any scores."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import as_array, checked, require
from ._arguments import checked_labels, require_array


def cross_entropy(scores: Any, labels: Any) -> Float[Array, "*batch"]:
    r"""The cross entropy over scores: the output of the label shall have the largest.

    $$ L = -\log \frac{e^{x_l}}{\sum_k e^{x_k}}. $$

    Scores are voltages, by [`spikax.losses.maximum`][], `mean`, `integral` or `last`, or counts of spikes, by
    [`spikax.losses.spike_count`][]; a factor in front of them says how far apart they shall be.

    **A silent output** has a voltage as any other, with a gradient: nothing about it is special. By counts its score
    is zero, with a gradient of zero.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat={"output": ts})
    scores = sx.losses.maximum(solution.states["output"].v)
    loss = jnp.mean(sx.losses.cross_entropy(scores, labels))
    ```

    **Arguments:**

    - `scores`: shape `(*batch, n)`.
    - `labels`: integers from 0 to `n - 1`; shape `batch`.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for shapes that do not match, and labels that no output has; for labels
    that are traced, an error at run time.

    ??? cite "Reference"
        T. Nowotny, J. P. Turner, J. C. Knight, *Loss shaping enhances exact gradient learning with Eventprop in spiking
        neural networks*, Neuromorphic Computing and Engineering 5, 2025, which compares scores by the maximum, the
        mean, the integral and the last voltage.
    """
    require_array(scores, "scores", "(*batch, n)")
    scores, labels = jnp.asarray(scores), checked_labels(labels, scores, "scores")[..., None]
    of_label = jnp.take_along_axis(scores, labels, axis=-1)[..., 0]
    return jax.nn.logsumexp(scores, axis=-1) - of_label


def largest(scores: Any) -> Int[Array, "*batch"]:
    """The output with the largest score: the network's answer; shape `batch`.

    **Arguments:**

    - `scores`: shape `(*batch, n)`. Of several outputs with the same score, the one with the lowest number counts.
    """
    require_array(scores, "scores", "(*batch, n)")
    return jnp.argmax(jnp.asarray(scores), axis=-1)


def maximum(v: Any) -> Float[Array, "*batch n"]:
    """The largest of the saved voltages of each output.

    It is the maximum over the times of `saveat` alone: save often enough to see the peaks. Its derivative is that of
    the largest sample, and exact.

    **Arguments:**

    - `v`: the voltages, or anything else that was saved, of shape `(*batch, times, n)`: `solution.states["output"].v`.
    """
    _require_saved(v)
    return jnp.max(jnp.asarray(v), axis=-2)


def mean(v: Any) -> Float[Array, "*batch n"]:
    """The mean of the saved voltages of each output; `v` as of [`spikax.losses.maximum`][]."""
    _require_saved(v)
    return jnp.mean(jnp.asarray(v), axis=-2)


def integral(v: Any, ts: Any) -> Float[Array, "*batch n"]:
    """The integral of the voltage of each output over time, by the trapezoidal rule.

    **Arguments:**

    - `v`: as of [`spikax.losses.maximum`][].
    - `ts`: the times at which it was saved, in ms, ascending; shape `(times,)`.
    """
    _require_saved(v)
    v, ts = jnp.asarray(v), as_array(ts, "ts")
    require(jnp.shape(ts) == v.shape[-2:-1], "ts", f"of shape ({v.shape[-2]},), the times of `v`", ts)
    ts = checked(ts, lambda ts: ts[1:] > ts[:-1], "ts", "ascending", "Give `saveat` in order.")
    return jnp.trapezoid(v, jnp.asarray(ts, v.dtype), axis=-2)


def last(v: Any) -> Float[Array, "*batch n"]:
    """The voltage of each output at the last of the saved times; `v` as of [`spikax.losses.maximum`][]."""
    _require_saved(v)
    return jnp.asarray(v)[..., -1, :]


def _require_saved(v: Any) -> None:
    hint = 'For example `solution.states["output"].v`.'
    require_array(v, "v", "(*batch, times, n)", hint)
    require(jnp.shape(v)[-2] > 0, "v", "saved at one time or more", v, "Give `saveat` to `sx.simulate`.")
