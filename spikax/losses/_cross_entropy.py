"""The softmax cross entropy of scores."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import require_float_array
from ._arguments import checked_labels


def cross_entropy(scores: Any, labels: Any, *, throw: bool = True) -> Float[Array, "*batch"]:
    r"""The softmax cross entropy of scores: the output of the label should have the largest score.

    $$ L = -\log \frac{e^{x_l}}{\sum_k e^{x_k}}, $$

    with the scores $x_k$ and the label $l$. Scores are voltages, from [`spikax.decode.maximum`][],
    [`spikax.decode.mean`][], [`spikax.decode.integral`][] or [`spikax.decode.last`][], or spike counts, from
    [`spikax.losses.spike_count`][]. Multiply them by a constant to set the scale on which they should differ.

    **A silent output** has a voltage with a gradient like any other output. If scores are spike counts, its score is
    zero, with a gradient of zero.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat={"output": ts})
    scores = sx.decode.maximum(solution.states["output"].v)
    loss = jnp.mean(sx.losses.cross_entropy(scores, labels))
    ```

    **Arguments:**

    - `scores`: the scores $x$, of shape `(*batch, n)`.
    - `labels`: integers from 0 to `n - 1`, of shape `batch`.
    - `throw`: whether a compiled function raises for labels out of range. If False, the losses of these samples are
      NaN.

    **Returns:** the losses, of shape `batch`.

    **Raises:** `TypeError` or `ValueError` for shapes that do not match and labels out of range. Traced labels are
    checked at run time.

    ??? cite "Reference"
        T. Nowotny, J. P. Turner, J. C. Knight, *Loss shaping enhances exact gradient learning with Eventprop in spiking
        neural networks*, Neuromorphic Computing and Engineering 5, 2025. It compares the maximum, the mean, the
        integral and the last voltage as scores.
    """
    require_float_array(scores, "scores", "(*batch, n)")
    scores = jnp.asarray(scores)
    labels, invalid = checked_labels(labels, scores, "scores", throw)
    of_label = jnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(scores, axis=-1) - of_label + invalid
