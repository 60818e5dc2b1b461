"""Decoders: from spikes and voltages of the outputs to scores and predicted classes."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._checks import as_array, checked, require, require_float_array, require_spike_times


def earliest(times: Any) -> Int[Array, "*batch"]:
    """The predicted class: the index of the output that spikes first, or -1 if all outputs are silent.

    **Arguments:**

    - `times`: the first spike times in ms, `inf` for silent outputs, of shape `(*batch, n)`.

    **Returns:** integers of shape `batch`. Ties are resolved in favour of the lowest index.
    """
    require_spike_times(times)
    times = jnp.asarray(times)
    return jnp.where(jnp.any(jnp.isfinite(times), axis=-1), jnp.argmin(times, axis=-1), -1)


def largest(scores: Any) -> Int[Array, "*batch"]:
    """The predicted class: the index of the output with the largest score.

    **Arguments:**

    - `scores`: the scores, of shape `(*batch, n)`.

    **Returns:** integers of shape `batch`. Ties are resolved in favour of the lowest index.
    """
    require_float_array(scores, "scores", "(*batch, n)")
    return jnp.argmax(jnp.asarray(scores), axis=-1)


def maximum(v: Any) -> Float[Array, "*batch n"]:
    """The maximum of the saved voltages of each output.

    The maximum is taken over the times of `saveat` only, so save often enough to resolve the peaks. The derivative is
    that of the largest saved voltage.

    **Arguments:**

    - `v`: voltages or other saved values, of shape `(*batch, times, n)`, for example `solution.states["output"].v`.

    **Returns:** the scores, of shape `(*batch, n)`.
    """
    _require_saved(v)
    return jnp.max(jnp.asarray(v), axis=-2)


def mean(v: Any) -> Float[Array, "*batch n"]:
    """The mean of the saved voltages of each output. Argument and result as in [`spikax.decode.maximum`][]."""
    _require_saved(v)
    return jnp.mean(jnp.asarray(v), axis=-2)


def integral(v: Any, ts: Any) -> Float[Array, "*batch n"]:
    """The integral of the voltage of each output over time, by the trapezoidal rule.

    **Arguments:**

    - `v`: as in [`spikax.decode.maximum`][].
    - `ts`: the times at which `v` was saved, in ms, ascending, of shape `(times,)`.

    **Returns:** the scores, of shape `(*batch, n)`.
    """
    _require_saved(v)
    v, ts = jnp.asarray(v), as_array(ts, "ts")
    require(jnp.shape(ts) == v.shape[-2:-1], "ts", f"of shape ({v.shape[-2]},), the times of `v`", ts)
    ts = checked(ts, lambda ts: ts[1:] > ts[:-1], "ts", "ascending", "Pass `saveat` in ascending order.")
    middle, widths = 0.5 * (v[..., 1:, :] + v[..., :-1, :]), jnp.diff(jnp.asarray(ts, v.dtype))
    return jnp.einsum("...tn,t->...n", middle, widths, precision=jax.lax.Precision.HIGHEST)


def last(v: Any) -> Float[Array, "*batch n"]:
    """The voltage of each output at the last saved time. Argument and result as in [`spikax.decode.maximum`][]."""
    _require_saved(v)
    return jnp.asarray(v)[..., -1, :]


def _require_saved(v: Any) -> None:
    hint = 'For example `solution.states["output"].v`.'
    require_float_array(v, "v", "(*batch, times, n)", hint)
    require(jnp.shape(v)[-2] > 0, "v", "saved at one time or more", v, "Pass `saveat` to `sx.simulate`.")
