"""The Yin-Yang data set."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import encode
from .._checks import (
    is_number,
    require,
    require_below,
    require_count,
    require_finite,
    require_natural,
    require_positive,
)
from .._spikes import Spikes


YIN, YANG, DOT = range(3)


class YinYang(NamedTuple):
    """Samples of the Yin-Yang data set.

    - `points`: the coordinates, between 0 and `2 r_big`, of shape `(n, 2)`.
    - `labels`: 0 for yin, 1 for yang, 2 for a dot, of shape `(n,)`.
    """

    points: np.ndarray
    labels: np.ndarray


def yin_yang(n: int, seed: int, *, r_small: float = 0.1, r_big: float = 0.5) -> YinYang:
    r"""The Yin-Yang data set: points of a disc in three classes, which are not linearly separable.

    The class of each sample is drawn uniformly, then its point by rejection sampling. With the distances $d_l$ and
    $d_r$ of the point $(x, y)$ from the centres of the left and the right dot, $(r_{big} / 2, r_{big})$ and
    $(3\, r_{big} / 2, r_{big})$, the class is

    - dot if $d_l < r_{small}$ or $d_r < r_{small}$;
    - otherwise yang if $d_l \le r_{big} / 2$, or if $y > r_{big}$ and $d_r > r_{big} / 2$;
    - otherwise yin.

    The labels agree with the published data. The same `n` and `seed` return the same samples on every machine. Samples
    of different seeds are independent.

    **Arguments:**

    - `n`: the number of samples.
    - `seed`: the seed, an integer of at least 0. Use different seeds for training, validation and test.
    - `r_small`: the radius of the dots.
    - `r_big`: the radius of the disc, whose centre is `(r_big, r_big)`.

    **Returns:** a named tuple `YinYang` of `points` and `labels`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for dots that do not fit.

    ??? cite "Reference"
        L. Kriener, J. Göltz, M. A. Petrovici, *The Yin-Yang dataset*, Neuro-Inspired Computational Elements
        Conference, 2022, arXiv:2102.08211.
    """
    require_count(n, "n")
    require_natural(seed, "seed")
    require_positive(r_small, "r_small")
    require_positive(r_big, "r_big")
    require_below(r_small, r_big / 2, "r_small", "r_big / 2", "A dot must lie inside its half of the disc.")
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    points = np.empty((n, 2))
    waiting = np.arange(n)
    while waiting.size:
        # Draw one candidate for each sample that has no point of its class yet.
        tries = rng.uniform(0.0, 2 * r_big, size=(waiting.size, 2))
        hits = _classes(tries, r_small, r_big) == labels[waiting]
        points[waiting[hits]] = tries[hits]
        waiting = waiting[~hits]
    return YinYang(points, labels)


def yin_yang_spikes(points: Any, *, t_late: float = 30.0) -> Spikes:
    """Latency coding of Yin-Yang points: four channels for x, y, 1 - x and 1 - y, and a bias channel.

    The fifth channel, the bias, spikes at 0 ms. It marks the start of a sample.

    **Arguments:**

    - `points`: points of the unit square, of shape `(*batch, 2)`.
    - `t_late`: the spike time for the value 1, in ms. The value 0 spikes at 0 ms.

    **Returns:** [`spikax.Spikes`][] with times of shape `(*batch, 5, 1)`.

    **Raises:** `TypeError` or `ValueError` for points of another shape or outside of the unit square.
    """
    is_plane = is_number(points) and jnp.ndim(points) > 0 and jnp.shape(points)[-1] == 2
    require(is_plane, "points", "a floating-point array of shape (*batch, 2)", points)
    require_finite(t_late, "t_late")
    points = jnp.asarray(points)
    bias = jnp.zeros((*points.shape[:-1], 1), points.dtype)
    return encode.latency(jnp.concatenate([points, 1 - points, bias], axis=-1), 0.0, t_late)


def _classes(points: np.ndarray, r_small: float, r_big: float) -> np.ndarray:
    """The class of each point, -1 outside of the disc."""
    x, y = points.T
    left = np.hypot(x - 0.5 * r_big, y - r_big)
    right = np.hypot(x - 1.5 * r_big, y - r_big)
    outside = np.hypot(x - r_big, y - r_big) > r_big
    dot = (left < r_small) | (right < r_small)
    yang = (left <= 0.5 * r_big) | ((y > r_big) & (right > 0.5 * r_big))
    return np.select([outside, dot, yang], [-1, DOT, YANG], YIN)
