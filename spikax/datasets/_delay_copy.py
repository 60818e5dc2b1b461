"""The delay-copy task."""

from typing import NamedTuple

import numpy as np

from .._checks import require_count, require_natural, require_range
from .._spikes import Spikes


class DelayCopy(NamedTuple):
    """Samples of the delay-copy task.

    - `inputs`: the spikes of pattern and cue, [`spikax.Spikes`][] with times of shape `(n, 3, 1)`.
    - `targets`: the patterns, 0 or 1, of shape `(n, 2)`.
    """

    inputs: Spikes
    targets: np.ndarray


def delay_copy(n: int, seed: int, *, delays: tuple[float, float] = (50.0, 150.0)) -> DelayCopy:
    r"""The delay-copy task: report a pattern when a cue comes after a delay.

    The pattern of each sample is (1, 0) or (0, 1) with equal probability, encoded as one spike in channel 0 or in
    channel 1. After a delay $d$, drawn from a uniform distribution, channel 2, the cue, spikes. The spike times are

    $$ t_{pattern} = d_{max} - d, \qquad t_{cue} = d_{max}. $$

    The cue comes at the same time in all samples, so all outputs can be read out at the same time. The same `n` and
    `seed` return the same samples on every machine. Samples of different seeds are independent.

    **Arguments:**

    - `n`: the number of samples.
    - `seed`: the seed, an integer of at least 0. Use different seeds for training, validation and test.
    - `delays`: the shortest and the longest delay, in ms. The cue comes at the longest delay.

    **Returns:** a named tuple `DelayCopy` of `inputs` and `targets`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments.

    ??? cite "Reference"
        A. Subramoney, K. K. Nazeer, M. Schöne, C. Mayr, D. Kappel, *Efficient recurrent architectures through activity
        sparsity and sparse back-propagation through time*, ICLR 2023.
    """
    require_count(n, "n")
    require_natural(seed, "seed")
    require_range(delays, "delays")
    rng = np.random.default_rng(seed)
    channel = rng.integers(2, size=n)
    times = np.full((n, 3, 1), np.inf)
    times[np.arange(n), channel, 0] = delays[1] - rng.uniform(*delays, size=n)
    times[:, 2] = delays[1]
    return DelayCopy(Spikes(times), np.eye(2, dtype=int)[channel])
