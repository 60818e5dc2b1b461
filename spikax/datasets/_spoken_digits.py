"""Spoken digits that a speech synthesiser and a model of the ear make."""

import os

from ._heidelberg import Recordings, recordings
from ._split import Split


SOURCE = "Make the files with `python benchmarks/spoken_digits.py DIRECTORY`, from the repository of spikax."


def spoken_digits(directory: str | os.PathLike) -> Split[Recordings]:
    """Synthetic spoken digits as spikes: 20 classes; 9100 recordings for training, 1400 for validation, 2160 for test.

    eSpeak NG speaks the digits in English (labels 0 to 9) and German (10 to 19), with noise. A model of the ear encodes
    each recording of 1 s as spikes on 700 channels, or on fewer, with frequencies from 60 Hz to 7 kHz in ascending
    order. No voice is in two parts: 65 are in the training set, 14 in the validation set and 18 in the test set. Reads
    `spoken_digits_train.h5`, `spoken_digits_valid.h5` and `spoken_digits_test.h5`, which `benchmarks/spoken_digits.py`
    of the repository makes. They have the format of the Spiking Heidelberg Digits, but are another data set: accuracies
    on the two cannot be compared. Requires h5py: `pip install 'spikax[shd]'`.

    **Arguments:**

    - `directory`: the directory with the files.

    **Returns:** a [`spikax.datasets.Split`][] of [`spikax.datasets.Recordings`][], with labels from 0 to 19 and times
    from 0 to 1000 ms.

    **Raises:** `ImportError` without h5py, `FileNotFoundError` for a missing file, `ValueError` for an incomplete or
    unexpected file, `TypeError` for another directory.
    """
    parts = ("train", "valid", "test")
    return Split(*(recordings(directory, f"spoken_digits_{part}.h5", 20, SOURCE) for part in parts))
