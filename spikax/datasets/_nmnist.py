"""N-MNIST, read from its files."""

import os
from pathlib import Path

import numpy as np

from .._checks import require, require_instance, require_natural
from .._spikes import Events
from ._heidelberg import Recordings
from ._split import require_fewer, set_aside, Split


WIDTH = HEIGHT = 34
BYTES = 5  # of an event
OVERFLOW = 240  # a row that no sensor of this size has
SOURCE = "Get the files at https://www.garrickorchard.com/datasets/n-mnist and unpack them."


def nmnist(directory: str | os.PathLike, *, n_validation: int = 5000, seed: int = 0) -> Split[Recordings]:
    """N-MNIST: MNIST, recorded by a moving event camera; 55 000 for training, 5 000 for validation, 10 000 for test.

    Reads all files `Train/<label>/*.bin` and `Test/<label>/*.bin`, in the order of their names. All events are held in
    memory, 8 bytes each. A part of the files gives a smaller data set. The test set is the official one. The validation
    set is drawn from the training data, stratified by class.

    A file is a list of events of 40 bits, the highest bit first: 8 bits for the column `x`, 8 for the row `y`, 1 for
    the polarity `p` (1: brighter), and 23 for the time in us. An event with the row 240 is an overflow of the clock: it
    adds 2^13 us to all following times.

    **Arguments:**

    - `directory`: the directory with the folders `Train` and `Test`.
    - `n_validation`: the number of recordings that are moved from the training to the validation set.
    - `seed`: the seed of their random choice, an integer of at least 0.

    **Returns:** a [`spikax.datasets.Split`][] of [`spikax.datasets.Recordings`][], with times in ms from the start of
    each recording, on `2 * 34 * 34` channels, `(p * 34 + y) * 34 + x`, and labels from 0 to 9.

    **Raises:** `FileNotFoundError` for a missing folder or a folder without files, `ValueError` for an incomplete or
    unexpected file, `TypeError` or `ValueError` for invalid arguments.

    ??? cite "Reference"
        G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor, *Converting static image datasets to spiking neuromorphic
        datasets using saccades*, Frontiers in Neuroscience 9, 2015.
    """
    require_instance(directory, (str, os.PathLike), "directory", "the path of a folder")
    require_natural(seed, "seed")
    whole, test = (_recordings(Path(directory) / part) for part in ("Train", "Test"))
    require_fewer(n_validation, "n_validation", whole.labels.size)
    rows = set_aside(whole.labels, n_validation, np.random.default_rng(seed))
    parts = (Recordings([whole.spikes[row] for row in part], whole.labels[part]) for part in rows)
    return Split(*parts, test)


def _recordings(folder: Path) -> Recordings:
    files = [(path, label) for label in range(10) for path in sorted((folder / str(label)).glob("*.bin"))]
    expectation = f"a folder with files {folder.name}/<label>/*.bin"
    require(len(files) > 0, "directory", expectation, str(folder.parent), SOURCE, FileNotFoundError)
    return Recordings([_events(path) for path, _ in files], np.asarray([label for _, label in files], np.int32))


def _events(path: Path) -> Events:
    data = np.fromfile(path, np.uint8)
    name = "/".join(path.parts[-3:])
    is_whole = data.size > 0 and data.size % BYTES == 0
    require(is_whole, name, f"of one or more events of {BYTES} bytes", f"{data.size} bytes", SOURCE)
    x, y, *low = data.reshape(-1, BYTES).T.astype(np.int64)
    happened = y != OVERFLOW
    stamps = ((low[0] & 0x7F) << 16 | low[1] << 8 | low[2]) + 2**13 * np.cumsum(~happened)
    inside = bool(np.all((x < WIDTH) & (y < HEIGHT) | ~happened))
    require(inside, name, f"of events in an image of {WIDTH} x {HEIGHT} pixels", data, SOURCE)
    columns = {"t": stamps, "p": low[0] >> 7, "y": y, "x": x}
    columns = {key: column[happened] for key, column in columns.items()}
    return Events.from_array(columns, {"p": 2, "y": HEIGHT, "x": WIDTH})
