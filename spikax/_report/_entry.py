"""The report of a training run."""

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import tasks
from .._checks import require, require_instance
from .._files import replacing
from .._network import Network
from .._simulate.solution import Solution
from .._spikes import Events, Spikes
from .._version import __version__
from ..plot._learning import checked_classes
from ..train import read_history
from ..train._checkpoint import LAST, read_identity
from . import _sections as sections
from ._figures import style
from ._page import page
from ._sections import Evidence


def report(
    directory: str | os.PathLike,
    *,
    network: Network | None = None,
    inputs: Spikes | Events | Mapping[str, Spikes | Events] | None = None,
    solution: Solution | None = None,
    labels: Any = None,
    answers: Any = None,
    names: Sequence[str] | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the report of a training run as an HTML page, `report.html`, into its directory.

    ```python
    solution = sx.simulate(fit.network, inputs, t1=60.0, saveat=ts, max_spikes=16)
    answers = sx.decode.earliest(sx.first_spike(solution.spikes["output"]))
    sx.report("runs/first", network=fit.network, inputs=inputs, solution=solution, labels=labels, answers=answers)
    ```

    The page is a single file. It has no scripts and fetches nothing. It follows the light or dark mode of the browser.

    The directory of [`spikax.train.fit`][] has the settings and the curve of every measure. It has neither data nor the
    way in which answers are read from spikes, so everything else comes from the arguments. A part whose argument is
    missing is named in the page. In the directory of `python -m spikax train`, the task is known: without arguments, up
    to 200 samples of its test data are simulated, and all of them are classified.

    **Main arguments:**

    - `directory`: the `directory` of [`spikax.train.fit`][], or `--out` of `python -m spikax train`.

    **Other arguments:**

    - `network`: the network, for its layers, connections and number of parameters.
    - `inputs`: the inputs of the simulation, for the raster, with one batch axis.
    - `solution`: the result of [`spikax.simulate`][] with one batch axis. Raster and voltages are those of its first
      sample; silent neurons are counted in all of them. Voltages need `saveat`.
    - `labels`, `answers`: classes and predictions of any number of samples, for the confusion matrix: integers of shape
      `(n,)`; -1 for no prediction. With `solution`, the first one is that of its first sample.
    - `names`: the names of the classes; by default their numbers.
    - `figures`: further Matplotlib figures by title.

    **Returns:** the path of the page.

    **Raises:** `ValueError` or `TypeError` for invalid arguments, and for a directory without a finished epoch or with
    damaged files. `ImportError` without Matplotlib.
    """
    directory = Path(directory)
    with style():
        history = _history(directory)
        identity = read_identity(directory) if (directory / LAST).is_file() else None
        given = {"network": network, "inputs": inputs, "solution": solution, "labels": labels, "answers": answers}
        given |= {"names": names, "figures": figures}
        by_hand = sorted(name for name, part in given.items() if part is not None)
        if not by_hand and _is_of_a_task(directory):
            given |= tasks.evidence(tasks.read(directory))
        evidence = _checked(**given)
        best = max(history, key=lambda epoch: epoch.score)
        parts = [
            sections.overview(history, best, evidence),
            sections.learning(history, best),
            sections.answers(evidence),
            *sections.others(evidence),
            sections.sample(evidence),
            sections.silence(evidence),
            sections.network(evidence, identity),
            sections.settings(identity),
        ]
    today = datetime.date.today().isoformat()
    lead = f"A training run of spikax {__version__}, reported on {today}"
    text = page(directory.resolve().name, lead, parts, by_hand)
    path = directory / "report.html"
    with replacing(path) as file:
        file.write(text.encode())
    return path


def given_to(path: Path) -> list[str]:
    """The arguments of `report` with which a page was written."""
    found = re.search('<meta name="given" content="([a-z ]*)">', path.read_text()) if path.is_file() else None
    return found[1].split() if found else []


def _history(directory: Path) -> list:
    path = directory / "metrics.json"
    hint = "It must be that of `sx.train.fit` or of `python -m spikax train`, after at least one epoch."
    require(path.is_file(), "directory", f"one with the file {path.name}", str(directory), hint)
    return read_history(directory)


def _is_of_a_task(directory: Path) -> bool:
    """Whether the command line has written a directory. The settings of others may have a file of this name, too."""
    try:
        given = json.loads((directory / "settings.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(given, dict) and given.get("task") in tasks.TASKS


def _checked(network: Any, inputs: Any, solution: Any, labels: Any, answers: Any, names: Any, figures: Any) -> Evidence:
    """The arguments of `report`. Raises unless each is valid and of use."""
    if network is not None:
        require_instance(network, Network, "network", "a `sx.Network`")
    if solution is not None:
        require_instance(solution, Solution, "solution", "a `sx.Solution`", "For example `sx.simulate(...)`.")
        one = all(train.times.ndim == 3 and train.times.shape[0] > 0 for train in solution.spikes.values())
        require(one, "solution", "that of inputs with one batch axis, of at least one sample", solution)
        same = network is None or set(solution.spikes) == set(network.layers)
        require(same, "solution", "that of `network`", list(solution.spikes))
    if inputs is not None:
        require(solution is not None, "inputs", "given with `solution`, and only then", inputs)
        inputs = _checked_inputs(inputs, network)
    both = (labels is None) == (answers is None)
    require(both, "answers", "given with `labels`, and only then", answers)
    if labels is not None:
        labels, answers = checked_classes(labels, answers)
    if names is not None:
        require(labels is not None, "names", "given with `labels`, and only then", names)
        names = tuple(str(name) for name in names)
        n = int(max(labels.max(), answers.max())) + 1
        require(len(names) >= n, "names", f"at least {n}, one for every class", names)
    figures = {} if figures is None else figures
    require_instance(figures, Mapping, "figures", "a dictionary of Matplotlib figures by title")
    for title, figure in figures.items():
        is_figure = hasattr(figure, "savefig")
        require(is_figure, f"figures[{title!r}]", "a Matplotlib figure", figure, error=TypeError)
    return Evidence(network, inputs, solution, labels, answers, names, figures)


def _checked_inputs(inputs: Any, network: Network | None) -> dict[str, Spikes | Events]:
    """The inputs by name, each with one batch axis."""
    if not isinstance(inputs, Mapping):
        inputs = {"input" if network is None else next(iter(network.inputs)): inputs}
    for name, train in inputs.items():
        require_instance(train, (Spikes, Events), "inputs", "`sx.Spikes` or `sx.Events`, or a dictionary of them")
        one = np.ndim(train.times) == (2 if isinstance(train, Events) else 3)
        require(one, f"inputs[{name!r}]", "with one batch axis, as `solution`", train.times)
    return dict(inputs)
