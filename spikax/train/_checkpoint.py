"""The directory of a training: checkpoints, to go on after an interruption, and the measures of each epoch."""

import csv
import io
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .._checks import AsText, require
from .._files import replacing
from .._version import __version__
from ._epoch import Epoch


FORMAT = 2  # of a checkpoint. Raise it when older files cannot be read any more.
LAST, BEST = "last.eqx", "best.eqx"


class TrainState(NamedTuple):
    """Where a training stands.

    - `network`, `state`: the network and the state of the optimiser, after all epochs so far.
    - `best`: the network of the best epoch.
    - `history`: the epochs.
    """

    network: Any
    state: Any
    best: Any
    history: list[Epoch]

    @property
    def best_number(self) -> int:
        """The number of the best epoch, the first of several; 0 before any."""
        return max(self.history, key=lambda epoch: epoch.score).number if self.history else 0


def identity(network: Any, state: Any, **others: Any) -> dict[str, Any]:
    """What identifies a training, in JSON: two with different identities cannot go on from each other's checkpoints.

    It has the structure of the network with its constants, that of the optimiser's state, and what else is given.
    """
    return {"network": _text(network), "optimizer": _text(state)} | others


def write(directory: Path, train_state: TrainState, identity: Mapping[str, Any]) -> None:
    """Writes the checkpoint of the last epoch, and the best network; of each file all, or nothing."""
    history = [epoch._asdict() for epoch in train_state.history]
    content = {"format": FORMAT, "spikax": __version__, "identity": identity, "history": history}
    leaves = _serialised(train_state)
    header = content | {"crc32": _checksum(content, leaves)}
    if train_state.best_number == train_state.history[-1].number:
        with replacing(directory / BEST) as file:
            eqx.tree_serialise_leaves(file, train_state.best)
    _write_measures(directory, train_state.history)
    # Last, as the training goes on from here: what was not written before is then written again.
    with replacing(directory / LAST) as file:
        file.write(json.dumps(header).encode() + b"\n" + leaves)


def read(directory: Path, start: TrainState, identity: Mapping[str, Any]) -> TrainState:
    """The state of the training in a directory; `start` if it has not begun.

    Raises `ValueError` for a checkpoint of another training or of another format, and for a file that is none.
    """
    path = directory / LAST
    if not path.exists():
        return start
    line, _, leaves = path.read_bytes().partition(b"\n")
    header = _header(line, path)
    try:
        is_whole = header.pop("crc32") == _checksum(header, leaves)
        history = [_epoch(**epoch) for epoch in header["history"]]
        theirs = dict(header["identity"])
    except _DAMAGES as error:
        raise ValueError(f"`directory` must hold a checkpoint in {LAST}; {path} is none: {error}.") from error
    if not is_whole:
        raise ValueError(f"`directory` must hold a whole checkpoint; {path} is damaged: its checksum differs.")
    _require_same(path, theirs, identity)
    like = (start.network, start.state, start.best)
    try:
        return TrainState(*eqx.tree_deserialise_leaves(io.BytesIO(leaves), like, _leaf), history)
    except _DAMAGES as error:
        raise ValueError(f"`directory` must hold a whole checkpoint; {path} is damaged: {error}.") from error


def read_identity(directory: Path) -> dict[str, Any]:
    """What identifies the training in a directory: see `identity`. Reads only the first line of the checkpoint.

    Raises `ValueError` for a checkpoint of another format, and for a file that is none.
    """
    path = directory / LAST
    with open(path, "rb") as file:
        header = _header(file.readline(), path)
    require(isinstance(header.get("identity"), dict), "directory", f"one with a checkpoint in {LAST}", str(path))
    return header["identity"]


# The exceptions of json, NumPy and Equinox for a damaged file.
_DAMAGES = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, EOFError, OverflowError)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _leaf(file: io.BytesIO, like: Any) -> Any:
    """Reads a leaf as Equinox does. Raises before memory is allocated for more numbers than the file holds."""
    if not eqx.is_array_like(like):
        return like
    start = file.tell()
    shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    size, rest = math.prod(shape) * dtype.itemsize, -file.tell() + file.seek(0, io.SEEK_END)
    if size > rest:
        raise ValueError(f"it has an array of {size} bytes, and {rest} bytes are left")
    file.seek(start)
    return eqx.default_deserialise_filter_spec(file, like)


def _header(line: bytes, path: Path) -> dict[str, Any]:
    """The first line of a checkpoint. Raises unless it has the right format."""
    try:
        header = json.loads(line)
        version, writer = header["format"], header.get("spikax")
    except _DAMAGES as error:
        raise ValueError(f"`directory` must hold a checkpoint in {LAST}; {path} is none: {error}.") from error
    # Before anything else: of the rest, another format may have another form.
    expectation = f"one with a checkpoint of format {FORMAT}, that of spikax {__version__}"
    hint = f"spikax {writer} wrote {path}: go on with that version, or begin anew in another `directory`."
    require(version == FORMAT, "directory", expectation, version, hint)
    return header


def _epoch(number: int, seconds: float, training: dict[str, float], validation: dict[str, float]) -> Epoch:
    """An epoch of a checkpoint. Raises unless it has the right types."""
    parts = ({str(name): float(value) for name, value in part.items()} for part in (training, validation))
    epoch = Epoch(int(number), float(seconds), *parts)
    _ = epoch.score  # of which the best epoch is chosen
    return epoch


def checksum(train_state: TrainState, identity: Mapping[str, Any]) -> int:
    """A number that differs, but for chance, between two different trainings or states of one."""
    epochs = [epoch._asdict() for epoch in train_state.history]
    return _checksum({"identity": identity, "history": epochs}, _serialised(train_state))


def _serialised(train_state: TrainState) -> bytes:
    leaves = io.BytesIO()
    eqx.tree_serialise_leaves(leaves, (train_state.network, train_state.state, train_state.best))
    return leaves.getvalue()


def _checksum(content: Mapping[str, Any], leaves: bytes) -> int:
    return zlib.crc32(leaves, zlib.crc32(json.dumps(content).encode()))


def _require_same(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises unless the identities agree, with the first line in which they do not."""
    # As it would be read from a file: a tuple comes back as a list.
    ours = json.loads(json.dumps(ours))
    for name in ours:
        lines = [_lines(part.get(name)) for part in (theirs, ours)]
        length = max(map(len, lines))
        padded = (part + [""] * (length - len(part)) for part in lines)
        for old, new in zip(*padded, strict=True):
            expectation = f"as in the checkpoint {path}, `{old}`"
            hint = "To begin anew, choose another `directory`, or empty this one."
            require(old == new, name, expectation, AsText(f"`{new}`"), hint)


def _lines(value: Any) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)
    return [line.strip(" ,") for line in text.splitlines()]


def _text(tree: Any) -> str:
    # The address of an object differs between two runs.
    return re.sub(r" at 0x[0-9a-f]+", "", eqx.tree_pformat(tree))


def _write_measures(directory: Path, history: list[Epoch]) -> None:
    """The measures of all epochs, one a line in `metrics.csv`, and in `metrics.json`, where what is not finite is null.

    Both are written anew after every epoch: there is never half a line.
    """
    rows = [{"epoch": epoch.number} | epoch.measures for epoch in history]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    finite = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in rows]
    for name, text in (("metrics.csv", table.getvalue()), ("metrics.json", json.dumps(finite, indent=1) + "\n")):
        with replacing(directory / name) as file:
            file.write(text.encode())


def read_history(directory: str | os.PathLike) -> list[Epoch]:
    """The epochs of a training, from the file `metrics.json` that [`spikax.train.fit`][] wrote into a directory.

    What was not finite comes back as NaN. Raises `OSError` where there is no such file, and `ValueError` for a damaged
    one.
    """
    path = Path(directory) / "metrics.json"

    def part(row: dict[str, Any], prefix: str) -> dict[str, float]:
        values = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
        return {name: math.nan if value is None else value for name, value in values.items()}

    try:
        rows = json.loads(path.read_text())
        history = [
            _epoch(row["epoch"], row["seconds"], part(row, "training_"), part(row, "validation_")) for row in rows
        ]
    except _DAMAGES as error:
        raise ValueError(f"`directory` must hold the measures of a training; {path} is damaged: {error}.") from error
    require(len(history) > 0, "directory", f"one with at least one epoch in {path.name}", str(directory))
    return history
