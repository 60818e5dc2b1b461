"""Encoders: from numbers to input spikes."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ._checks import is_number, known, require, require_below, require_finite
from ._spikes import Spikes


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
    `[0, 1]` and for times in the wrong order, as far as they are known.
    """
    hint = "Scale each channel to this range first."
    require(is_number(values) and jnp.ndim(values) > 0, "values", "a floating-point array", values, error=TypeError)
    numbers = known(values)
    inside = numbers is None or bool(np.all((numbers >= 0) & (numbers <= 1)))
    require(inside, "values", "between 0 and 1", values, hint)
    require_finite(t_early, "t_early")
    require_finite(t_late, "t_late")
    require_below(t_early, t_late, "t_early", "t_late")
    return Spikes((t_early + jnp.asarray(values) * (t_late - t_early))[..., None])
