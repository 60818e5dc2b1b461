"""Tables of defaults for tasks, neurons and readouts."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Row(NamedTuple):
    """Defaults for some tasks, neurons and readouts: their names, and the values by name."""

    names: tuple[tuple[str, ...], ...]
    parts: dict[str, Any]

    def fits(self, *names: str) -> bool:
        """Whether the row is for this task, neuron and readout."""
        return all(some == ("*",) or name in some for some, name in zip(self.names, names, strict=True))


def row(names: str, **parts: Any) -> Row:
    """A row for `"TASK NEURON READOUT"`: each is a name, several names separated by `|`, or `*` for all."""
    return Row(tuple(tuple(some.split("|")) for some in names.split()), parts)


def merged(table: Sequence[Row], task: str, neuron: str, readout: str) -> dict[str, Any]:
    """The values of all rows that fit. Later rows take precedence."""
    parts: dict[str, Any] = {}
    for each in table:
        parts |= each.parts if each.fits(task, neuron, readout) else {}
    return parts
