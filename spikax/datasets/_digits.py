"""The digits of 8 x 8 pixels, which are included in the package."""

from importlib import resources

import numpy as np

from .._checks import require_natural
from ._images import Images
from ._split import set_aside, Split


N_TEST = N_VALIDATION = 360


def digits(*, seed: int = 0) -> Split[Images]:
    """Handwritten digits of 8 x 8 pixels: 1077 samples for training, 360 for validation, 360 for the test.

    The data are included in the package. They have no official split. It is drawn at random, stratified by class.

    **Arguments:**

    - `seed`: the seed of the split, an integer of at least 0.

    **Returns:** a [`spikax.datasets.Split`][] of [`spikax.datasets.Images`][], with images of shape `(n, 8, 8)` and
    labels from 0 to 9.

    **Raises:** `TypeError` or `ValueError` for an invalid seed.

    ??? cite "Reference"
        E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998,
        doi:10.24432/C50P49, licence CC BY 4.0: the 1797 samples of its test part.
    """
    require_natural(seed, "seed")
    with (resources.files(__package__) / "digits.npz").open("rb") as file, np.load(file) as stored:
        images, labels = stored["images"].astype(np.float32) / 16, stored["labels"].astype(np.int32)
    rng = np.random.default_rng(seed)
    rest, test = set_aside(labels, N_TEST, rng)
    training, validation = (rest[rows] for rows in set_aside(labels[rest], N_VALIDATION, rng))
    return Split(*(Images(images[rows], labels[rows]) for rows in (training, validation, test)))
