"""Labelled images, and their latency code."""

from typing import Any, NamedTuple

import numpy as np

from .._checks import known, require, require_below, require_finite, require_positive
from .._spikes import Events


class Images(NamedTuple):
    """Labelled greyscale images.

    - `images`: the brightness of each pixel, from 0 to 1, of shape `(n, height, width)`.
    - `labels`: integers from 0, of shape `(n,)`.
    """

    images: np.ndarray
    labels: np.ndarray


def image_spikes(images: Any, *, t_early: float = 0.0, t_late: float = 20.0, threshold: float = 1 / 255) -> Events:
    r"""Latency coding of images: one spike per pixel, earlier for brighter pixels.

    A pixel of brightness $p$ above the threshold spikes once, at $t_{early} + (1 - p) (t_{late} - t_{early})$. Darker
    pixels are silent. The defaults are those of Wunderlich and Pehle for MNIST. The result is a list of events per
    image, padded to the length of the longest one. Most pixels are dark, so this takes less room than one entry per
    pixel: less than half for MNIST.

    `sx.Spikes.from_events(events.times, events.channels, events.n)` converts the events to spikes per pixel, as
    [`spikax.Conv`][] requires them.

    **Main arguments:**

    - `images`: the brightness of each pixel, from 0 to 1, a floating-point array of shape `(*batch, height, width)`.
      The pixel in row `i` and column `j` is channel `i * width + j`.

    **Other arguments:**

    - `t_early`: the spike time for brightness 1, in ms.
    - `t_late`: the limit of the spike time for brightness 0, in ms, after `t_early`.
    - `threshold`: the brightness up to which pixels are silent.

    **Returns:** [`spikax.Events`][] with times of shape `(*batch, events)`.

    **Raises:** `TypeError` or `ValueError` for images of another shape or range, times in the wrong order, and traced
    images: call it outside of `jax.jit`.

    ??? cite "Reference"
        T. C. Wunderlich, C. Pehle, *Event-based backpropagation can compute exact gradients for spiking neural
        networks*, Scientific Reports 11, 2021.
    """
    hint = "Divide 8-bit pixels by 255."
    require_finite(images, "images", hint)
    pixels = known(images)
    require(pixels is not None, "images", "concrete, not traced", images, "Encode outside of `jax.jit`.")
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


def image_row_spikes(images: Any, *, t_row: float = 5.0, threshold: float = 1 / 255) -> Events:
    r"""Images row by row, as a sequence: one spike per pixel, in the channel of its column.

    Row $i$ is shown from $i \, t_{row}$ to $(i + 1) \, t_{row}$, as a latency code: a pixel of brightness $p$ above the
    threshold spikes once, at $(i + 1 - p) \, t_{row}$. Darker pixels are silent.

    **Main arguments:**

    - `images`: the brightness of each pixel, from 0 to 1, a floating-point array of shape `(*batch, height, width)`.

    **Other arguments:**

    - `t_row`: the duration of a row, in ms.
    - `threshold`: the brightness up to which pixels are silent.

    **Returns:** [`spikax.Events`][] in as many channels as there are columns, with times of shape `(*batch, events)`.

    **Raises:** as [`spikax.datasets.image_spikes`][].
    """
    require_positive(t_row, "t_row")
    events = image_spikes(images, t_late=t_row, threshold=threshold)
    rows, columns = np.divmod(np.asarray(events.channels), np.shape(images)[-1])
    times = np.asarray(events.times) + t_row * rows
    order = np.argsort(times, axis=-1, kind="stable")
    sorted_times, channels = (np.take_along_axis(leaf, order, axis=-1) for leaf in (times, columns))
    return Events(sorted_times, channels.astype(np.int32), np.shape(images)[-1])
