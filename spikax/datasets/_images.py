"""Images with labels, and their spikes."""

from typing import Any, NamedTuple

import numpy as np

from .._checks import known, require, require_below, require_finite
from .._spikes import Events


class Images(NamedTuple):
    """Grey images, and what each shows.

    - `images`: the brightness of each pixel, from 0 to 1; shape `(n, height, width)`.
    - `labels`: integers from 0; shape `(n,)`.
    """

    images: np.ndarray
    labels: np.ndarray


def image_spikes(images: Any, *, t_early: float = 0.0, t_late: float = 20.0, threshold: float = 1 / 255) -> Events:
    r"""The latency code of images: bright pixels spike early, dark ones not at all.

    A pixel of brightness $p$ above the threshold spikes once, at $t_{early} + (1 - p) (t_{late} - t_{early})$. The
    defaults are those of the recipe for MNIST by Wunderlich and Pehle. The spikes come as lists, sorted by time, which
    are as long as the image with the most spikes needs: as most pixels are dark, a simulation looks through fewer
    places than with one for each pixel, for MNIST less than half as many.

    `sx.Spikes.from_events(events.times, events.channels, events.n)` has the same spikes for each pixel, as a
    convolution needs them.

    **Main arguments:**

    - `images`: the brightness of each pixel, from 0 to 1; floating-point, of shape `(*batch, height, width)`. The
      pixel in row `i` and column `j` is channel `i * width + j`.

    **Other arguments:**

    - `t_early`: when a pixel of brightness 1 spikes, in ms.
    - `t_late`: the limit for dark pixels, in ms; after `t_early`.
    - `threshold`: the brightness up to which a pixel is silent.

    **Returns:** [`spikax.Events`][] with times of shape `(*batch, events)`.

    **Raises:** `TypeError` or `ValueError` for images of another shape or range, times in the wrong order, and for
    anything that is not known, such as images under `jax.jit`.

    ??? cite "Reference"
        T. C. Wunderlich, C. Pehle, *Event-based backpropagation can compute exact gradients for spiking neural
        networks*, Scientific Reports 11, 2021.
    """
    hint = "Divide pixels of one byte by 255."
    require_finite(images, "images", hint)
    pixels = known(images)
    require(pixels is not None, "images", "known", images, "Encode outside of `jax.jit`.")
    has_axes = pixels.ndim >= 2 and pixels.shape[-1] * pixels.shape[-2] > 0
    require(has_axes, "images", "of shape (*batch, height, width)", images)
    require(bool(np.all((pixels >= 0) & (pixels <= 1))), "images", "between 0 and 1", images, hint)
    for name, value in (("t_early", t_early), ("t_late", t_late), ("threshold", threshold)):
        require_finite(value, name)
    require_below(t_early, t_late, "t_early", "t_late")
    flat = pixels.reshape(*pixels.shape[:-2], -1)
    spikes = flat > threshold
    most = max(1, np.sum(spikes, axis=-1).max(initial=0))
    times = np.where(spikes, t_early + (1 - flat) * (t_late - t_early), np.inf)
    channels = np.argsort(times, axis=-1, kind="stable")[..., :most]
    return Events(np.take_along_axis(times, channels, axis=-1), channels.astype(np.int32), flat.shape[-1])
