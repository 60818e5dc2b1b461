"""The Heidelberg spiking data sets: spoken digits and words, encoded by a model of the inner ear."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._checks import require, require_instance, require_natural
from .._spikes import Events, on_host
from ._split import require_fewer, set_aside, Split


CHANNELS = 700  # of files without the attribute `channels`, as those of Heidelberg
SOURCE = "Download the files from https://zenkelab.org/datasets/ and unpack them."


class Recordings(NamedTuple):
    """Recordings as lists of events, with labels.

    - `spikes`: a list of one [`spikax.Events`][] per recording, with times in ms on 700 channels, or on those of the
      file. They hold NumPy arrays, so they stay in host memory. [`spikax.datasets.Loader`][] makes batches of them.
    - `labels`: integers from 0, of shape `(n,)`.
    """

    spikes: list[Events]
    labels: np.ndarray


def shd(directory: str | os.PathLike, *, n_validation: int = 816, seed: int = 0) -> Split[Recordings]:
    """Spiking Heidelberg Digits (SHD): 20 classes; 8156 recordings for training, 2264 for test.

    The digits are spoken in English and German. Reads `shd_train.h5` and `shd_test.h5`, available at
    https://zenkelab.org/datasets/. The test set is the official one, in which two speakers do not occur in the training
    data. The validation set is drawn from the training data, stratified by class, so it has the same speakers. Requires
    h5py: `pip install 'spikax[shd]'`.

    **Arguments:**

    - `directory`: the directory with the files.
    - `n_validation`: the number of recordings that are moved from the training to the validation set.
    - `seed`: the seed of their random choice, an integer of at least 0.

    **Returns:** a [`spikax.datasets.Split`][] of [`spikax.datasets.Recordings`][], with labels from 0 to 19.

    **Raises:** `ImportError` without h5py, `FileNotFoundError` for a missing file, `ValueError` for an incomplete or
    unexpected file, `TypeError` or `ValueError` for invalid arguments.

    ??? cite "Reference"
        B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke, *The Heidelberg spiking data sets for the systematic evaluation
        of spiking neural networks*, IEEE Transactions on Neural Networks and Learning Systems 33(7), 2022.
    """
    require_natural(seed, "seed")
    whole, test = (recordings(directory, f"shd_{part}.h5", 20, SOURCE) for part in ("train", "test"))
    require_fewer(n_validation, "n_validation", whole.labels.size)
    rows = set_aside(whole.labels, n_validation, np.random.default_rng(seed))
    parts = (Recordings([whole.spikes[row] for row in part], whole.labels[part]) for part in rows)
    return Split(*parts, test)


def ssc(directory: str | os.PathLike) -> Split[Recordings]:
    """Spiking Speech Commands (SSC): 35 classes; 75 466 recordings for training, 9981 for validation, 20 382 for test.

    Reads `ssc_train.h5`, `ssc_valid.h5` and `ssc_test.h5`. The split is the official one. All spikes are held in
    memory, 8 bytes each. Otherwise as [`spikax.datasets.shd`][].
    """
    return Split(*(recordings(directory, f"ssc_{part}.h5", 35, SOURCE) for part in ("train", "valid", "test")))


def recordings(directory: str | os.PathLike, name: str, classes: int, source: str) -> Recordings:
    """Reads and checks a file; `source` is where a user gets it."""
    require_instance(directory, (str, os.PathLike), "directory", "the path of a folder")
    path = Path(directory) / name
    require(path.is_file(), "directory", f"a folder that holds {name}", str(directory), source, FileNotFoundError)
    times, units, labels, channels = _columns(path, source)
    kinds = [times.dtype, units.dtype, labels.dtype]
    are_lists = times.dtype == units.dtype == object and labels.dtype.kind in "iu"
    require(are_lists, name, "of lists of times and units, and of integer labels", kinds, source)
    sizes = [len(times), len(units), len(labels)]
    require(len(set(sizes)) == 1, name, "of one list of times and of units per label", sizes, source)
    lengths = [part.size for part in times]
    require(lengths == [part.size for part in units], name, "of one unit per time", lengths, source)
    is_time = all(bool(np.all((part >= 0) & (part < np.inf))) for part in times)
    require(is_time, name, "of finite times of at least 0", times)
    is_unit = all(bool(np.all((part >= 0) & (part < channels))) for part in units)
    require(is_unit, name, f"of units from 0 to {channels - 1}", units)
    known_class = bool(np.all((labels >= 0) & (labels < classes)))
    require(known_class, name, f"of labels from 0 to {classes - 1}", labels)
    lists = [on_host(*_in_order(*pair), channels) for pair in zip(times, units, strict=True)]
    return Recordings(lists, labels.astype(np.int32))


def _columns(path: Path, source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The times in seconds and the units of each recording, the labels, and the number of channels."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("Recordings in HDF5 require h5py: `pip install 'spikax[shd]'`.") from error
    try:
        with h5py.File(path, "r") as file:
            columns: Any = file
            channels = int(columns.attrs.get("channels", CHANNELS))
            return columns["spikes/times"][:], columns["spikes/units"][:], columns["labels"][:], channels
    except (OSError, KeyError, TypeError, ValueError) as error:
        expectation = "a complete HDF5 file with `spikes/times`, `spikes/units` and `labels`"
        raise ValueError(f"`{path.name}` must be {expectation}; got {error}. {source}") from error


def _in_order(seconds: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The times in ms, ascending, and the channels."""
    order = np.argsort(seconds, kind="stable")
    # The files store half precision. Convert to float32 before scaling to ms.
    return seconds[order].astype(np.float32) * np.float32(1000), units[order].astype(np.int32)
