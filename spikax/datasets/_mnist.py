"""MNIST and Fashion-MNIST, read from their files."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from .._checks import require, require_instance, require_natural
from ._images import Images
from ._split import require_fewer, set_aside, Split


def mnist(directory: str | os.PathLike, *, n_validation: int = 5000, seed: int = 0) -> Split[Images]:
    """MNIST: handwritten digits of 28 x 28 pixels; 55 000 for training, 5 000 for validation, 10 000 for test.

    Reads the files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, uncompressed or compressed with the suffix `.gz`. The test set is the official one. The
    validation set is drawn from the training data, stratified by class.

    **Arguments:**

    - `directory`: the directory with the files.
    - `n_validation`: the number of samples that are moved from the training to the validation set.
    - `seed`: the seed of their random choice, an integer of at least 0.

    **Returns:** a [`spikax.datasets.Split`][] of [`spikax.datasets.Images`][], with images of shape `(n, 28, 28)` and
    labels from 0 to 9.

    **Raises:** `FileNotFoundError` for a missing file, `ValueError` for an incomplete or unexpected file, `TypeError`
    or `ValueError` for invalid arguments.

    ??? cite "Reference"
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*,
        Proceedings of the IEEE 86(11), 1998.
    """
    return _split(
        directory, n_validation, seed, "Get the files at https://storage.googleapis.com/cvdf-datasets/mnist/."
    )


def fashion_mnist(directory: str | os.PathLike, *, n_validation: int = 5000, seed: int = 0) -> Split[Images]:
    """Fashion-MNIST: images of clothes of 28 x 28 pixels; 55 000 for training, 5 000 for validation, 10 000 for test.

    Arguments, result and errors as in [`spikax.datasets.mnist`][]. The files have the same names as those of MNIST, so
    keep them in a separate directory.

    ??? cite "Reference"
        H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning
        algorithms*, arXiv:1708.07747, 2017.
    """
    return _split(directory, n_validation, seed, "Get the files at https://github.com/zalandoresearch/fashion-mnist.")


def _split(directory: str | os.PathLike, n_validation: int, seed: int, source: str) -> Split[Images]:
    require_instance(directory, (str, os.PathLike), "directory", "the path of a folder")
    require_natural(seed, "seed")
    training, test = (_images(Path(directory), part, source) for part in ("train", "t10k"))
    require_fewer(n_validation, "n_validation", training.labels.size)
    rows = set_aside(training.labels, n_validation, np.random.default_rng(seed))
    return Split(*(Images(training.images[part], training.labels[part]) for part in rows), test)


def _images(directory: Path, part: str, source: str) -> Images:
    images = _idx(directory, f"{part}-images-idx3-ubyte", 3, source)
    labels = _idx(directory, f"{part}-labels-idx1-ubyte", 1, source)
    require(images.shape[1:] == (28, 28), f"{part}-images-idx3-ubyte", "images of 28 x 28 pixels", images)
    fits = len(labels) == len(images)
    require(fits, f"{part}-labels-idx1-ubyte", f"labels of {len(images)} images", labels, "The files belong together.")
    require(bool(np.all(labels < 10)), f"{part}-labels-idx1-ubyte", "labels from 0 to 9", labels)
    return Images(images.astype(np.float32) / 255, labels.astype(np.int32))


def _idx(directory: Path, name: str, axes: int, source: str) -> np.ndarray:
    """The array in an IDX file: two zero bytes, the type, the number of axes, their lengths, and the data."""
    paths = [path for path in (directory / name, directory / f"{name}.gz") if path.is_file()]
    expectation = f"a folder that holds {name} or {name}.gz"
    require(len(paths) > 0, "directory", expectation, str(directory), source, FileNotFoundError)
    data = _contents(paths[0], source)
    head = 4 + 4 * axes
    is_idx = len(data) >= head and data[:4] == bytes([0, 0, 8, axes])
    require(is_idx, paths[0].name, f"an IDX file of bytes with {axes} axes", data[:4], source)
    shape = np.frombuffer(data, ">u4", axes, 4).tolist()
    expected = head + math.prod(shape)
    require(len(data) == expected, paths[0].name, f"of {expected} bytes, as its header states", len(data), source)
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _contents(path: Path, source: str) -> bytes:
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"`{path.name}` must be a complete gzip file; got {error}. {source}") from error
