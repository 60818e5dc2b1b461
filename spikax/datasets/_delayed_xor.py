"""The delayed-memory XOR task."""

import math
from typing import NamedTuple

import numpy as np

from .._checks import require_below, require_count, require_natural, require_positive, require_range
from .._spikes import Spikes


class DelayedXOR(NamedTuple):
    """Samples of the delayed-memory XOR task.

    - `inputs`: the spikes of the two bits and of the cue, [`spikax.Spikes`][] with times of shape `(n, 3, k)`.
    - `targets`: the exclusive or of the bits, 0 or 1, of shape `(n,)`.
    """

    inputs: Spikes
    targets: np.ndarray


def delayed_xor(
    n: int,
    seed: int,
    *,
    delays: tuple[float, float] = (100.0, 200.0),
    lengths: tuple[float, float] = (30.0, 50.0),
    interval: float = 5.0,
) -> DelayedXOR:
    r"""The delayed-memory XOR task: report the exclusive or of two successive bits after a cue.

    A bit is encoded as a pulse of spikes in channel 0 for the value 0 and in channel 1 for the value 1. The cue is a
    pulse in channel 2. A pulse of length $l$ has one spike at a random time of each interval of length $\Delta$. Spikes
    beyond $l$ are omitted. Bits, lengths $l_1, l_2, l_{cue}$ and delays $d_1, d_2$ are drawn independently from uniform
    distributions. The pulses start at

    $$ t_{cue} = 2\, (l_{max} + d_{max}), \qquad t_2 = t_{cue} - d_2 - l_2, \qquad t_1 = t_2 - d_1 - l_1. $$

    The cue starts at the same time in all samples, so all outputs can be read out at the same time. The same `n` and
    `seed` return the same samples on every machine. Samples of different seeds are independent.

    **Arguments:**

    - `n`: the number of samples.
    - `seed`: the seed, an integer of at least 0. Use different seeds for training, validation and test.
    - `delays`: the shortest and the longest delay after the pulse of a bit, in ms.
    - `lengths`: the shortest and the longest pulse, in ms.
    - `interval`: the mean interval $\Delta$ between spikes of a pulse, in ms, below the shortest pulse.

    **Returns:** a named tuple `DelayedXOR` of `inputs` and `targets`. The capacity `k` suffices for two of the longest
    pulses.

    **Raises:** `TypeError` or `ValueError` for invalid arguments.

    ??? cite "Reference"
        D. Huh, T. J. Sejnowski, *Gradient descent for spiking neural networks*, Advances in Neural Information
        Processing Systems 31, 2018.
    """
    require_count(n, "n")
    require_natural(seed, "seed")
    require_range(delays, "delays")
    require_range(lengths, "lengths")
    require_positive(interval, "interval")
    require_below(interval, lengths[0], "interval", "lengths[0]", "Otherwise a pulse may have no spike.")
    rng = np.random.default_rng(seed)
    bits = rng.integers(2, size=(n, 2))
    length = rng.uniform(*lengths, size=(n, 3))
    pause = rng.uniform(*delays, size=(n, 2))
    cue = np.full(n, 2 * (lengths[1] + delays[1]))
    second = cue - pause[:, 1] - length[:, 1]
    # A sum of non-negative terms: a difference of sums could be rounded to below zero.
    first = np.sum(lengths[1] - length[:, :2] + delays[1] - pause, axis=1)
    places = math.ceil(lengths[1] / interval)
    times = _pulses(rng, np.stack([first, second, cue], axis=-1), length, interval, places)
    channels = np.concatenate([bits, np.full((n, 1), 2)], axis=-1)
    shown = channels[:, None, :, None] == np.arange(3)[:, None, None]
    # A channel has at most two pulses. Sorting moves the padding, and pulses of other channels, to the end.
    trains = np.sort(np.where(shown, times[:, None], np.inf).reshape(n, 3, -1), axis=-1)[..., : 2 * places]
    return DelayedXOR(Spikes(trains), bits[:, 0] ^ bits[:, 1])


def _pulses(rng: np.random.Generator, starts: np.ndarray, lengths: np.ndarray, interval: float, k: int) -> np.ndarray:
    """The spike times of each pulse, of shape `(*starts.shape, k)`: one per interval, `inf` beyond the pulse."""
    times = (np.arange(k) + rng.uniform(size=(*starts.shape, k))) * interval
    return np.where(times < lengths[..., None], starts[..., None] + times, np.inf)
