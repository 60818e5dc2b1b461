"""Trains networks on the tasks of the command line, and writes the table of their results, `RESULTS.md`.

    python benchmarks/results.py                        # all that is still missing, in this order; hours
    python benchmarks/results.py --only yin-yang-lif    # those whose name begins so
    python benchmarks/results.py --write                # only the table, from the results that are there

A result is a file in `benchmarks/results`, named by task, neuron, readout and seed; a run that has one is not repeated.
Each is one command, `python -m spikax train TASK --neuron ... --readout ... --seed ...`, with the settings of the task
and those that the entry changes; one that is interrupted goes on from its last epoch. `--mnist DIR` is the directory
with the four files of MNIST, `--spoken-digits DIR` that of `benchmarks/spoken_digits.py`.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from spikax.tasks import Settings, TASKS


HERE = Path(__file__).parent
RESULTS = HERE / "results"


class Entry(NamedTuple):
    """A row of the table: what is trained, with how many seeds, and what is known of it.

    `changed` are the settings that are not the defaults of the task.
    """

    task: str
    neuron: str
    readout: str
    seeds: int
    published: str = ""
    changed: Mapping[str, Any] = MappingProxyType({})

    @property
    def name(self) -> str:
        changes = (f"{name}-{value}" for name, value in self.changed.items())
        return "-".join([self.task, self.neuron, self.readout, *changes])


WIRINGS = [{}, *({"wiring": name} for name in ("feed-forward", "recurrent", "recurrent-delays"))]
YIN_YANG = "98.10 ± 0.18 % (EventProp, 5-200-3, 10 seeds)"
ENTRIES = [
    Entry("yin-yang", "lif", "first-spike", 10, YIN_YANG),
    *(Entry("yin-yang", neuron, "first-spike", 10) for neuron in ("qif", "eif", "izhikevich", "egru")),
    Entry("yin-yang", "dendritic", "first-spike", 3),
    *(Entry("yin-yang", neuron, "mean-voltage", 10) for neuron in ("lif", "qif", "eif", "izhikevich", "egru")),
    Entry("digits", "lif", "mean-voltage", 3),
    Entry("delay-copy", "egru", "last-voltage", 3, "100 % bitwise (EGRU, 2 units)"),
    Entry("delayed-xor", "egru", "last-voltage", 3),
    # Delays up to 300 and 1000 ms, in place of 150.
    Entry("delayed-xor", "egru", "last-voltage", 1, changed={"duration": 730, "max_spikes": 160}),
    Entry("delayed-xor", "egru", "last-voltage", 1, changed={"duration": 2130, "max_spikes": 400}),
    Entry("mnist", "lif", "mean-voltage", 3, "97.58 ± 0.12 % (EventProp, largest voltage, 10 seeds)"),
    Entry("mnist", "lif", "first-spike", 3, "97.0 % (one hidden layer of 350)"),
    *(Entry("mnist", neuron, "mean-voltage", 3) for neuron in ("qif", "eif", "izhikevich", "egru")),
    Entry("mnist", "lif", "mean-voltage", 1, changed={"layers": 2}),
    *(Entry("sequential-mnist", "lif", "last-voltage", 1, changed=changed) for changed in WIRINGS),
    *(Entry("spoken-digits", "lif", "last-voltage", 1, changed=changed) for changed in WIRINGS),
    *(Entry("spoken-digits", neuron, "last-voltage", 1) for neuron in ("alif", "qif", "egru")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="beginnings of the names of results")
    parser.add_argument("--mnist", metavar="DIR", help="the directory with the files of MNIST")
    parser.add_argument("--spoken-digits", metavar="DIR", help="the directory with the spoken digits")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="where the runs go")
    parser.add_argument("--write", action="store_true", help="train nothing")
    options = parser.parse_args()
    data = {"mnist": options.mnist, "sequential-mnist": options.mnist, "spoken-digits": options.spoken_digits}
    wanted = [(entry, seed) for entry in ENTRIES for seed in range(entry.seeds)]
    # First a seed of each, then another one.
    for entry, seed in sorted(wanted, key=lambda pair: pair[1]):
        name = f"{entry.name}-{seed}"
        is_asked = name.startswith(tuple(options.only)) and not options.write
        has_data = not TASKS[entry.task].needs_data or data[entry.task] is not None
        if is_asked and has_data and not (RESULTS / f"{name}.json").exists():
            run(entry, seed, options.runs / name, data.get(entry.task))
            write()
    write()


def run(entry: Entry, seed: int, directory: Path, data: str | None) -> None:
    """Trains a network, and keeps its result."""
    command = [sys.executable, "-m", "spikax", "train", entry.task]
    command += ["--neuron", entry.neuron, "--readout", entry.readout]
    command += [] if data is None else ["--data", data]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in entry.changed.items()]
    subprocess.run([*command, "--seed", str(seed), "--out", str(directory)], check=True)
    result = json.loads((directory / "result.json").read_text())
    result["settings"].pop("data")
    RESULTS.mkdir(exist_ok=True)
    result["machine"] = machine()
    (RESULTS / f"{entry.name}-{seed}.json").write_text(json.dumps(result, indent=1) + "\n")


def write() -> None:
    """The table of all results that are there."""
    lines = [
        "# Results",
        "",
        "Written by `benchmarks/results.py` from the files in `benchmarks/results`. The epoch is chosen by",
        "validation, the accuracy is that of the test. The last epoch in its place: in 32 runs of yin-yang, with LIF,",
        "QIF and EGRU, 0.05 % better on average, with a standard deviation of 0.28 %; but in the run of delayed-xor",
        "with a duration of 730 ms, whose training became unstable, 62.0 % in place of 98.5 %.",
        "",
        "The seconds are those of the training, with compilation and validation; most runs shared their machine",
        "with others, and took longer than alone; some went on, from a checkpoint, on another one. The standard",
        "deviation is over seeds, of which each draws its own samples or parts, first weights and shuffling.",
        "",
        "| task | neuron | readout | network | wiring | epochs | seeds | test accuracy | each "
        "| spikes per hidden neuron | seconds | published |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    machines = set()
    for entry in ENTRIES:
        results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{entry.name}-[0-9]*.json"))]
        if results:
            lines.append(row(entry, results))
            machines |= {result["machine"] for result in results}
    lines += ["", *(f"Machine: {name}." for name in sorted(machines))]
    (HERE / "RESULTS.md").write_text("\n".join(lines) + "\n")


def row(entry: Entry, results: list[dict]) -> str:
    accuracy = np.array([100.0 * result["test_accuracy"] for result in results])
    spread = f" ± {accuracy.std(ddof=1):.2f}" if len(results) > 1 else ""
    task = TASKS[entry.task]
    # Networks of other settings are not of one mean.
    each = [Settings(**result["settings"] | {"seed": 0}) for result in results]
    assert all(one == other for one, other in itertools.pairwise(each)), entry.name
    settings = each[0]
    others = [f"{name} {value:g}" for name, value in entry.changed.items() if name not in ("wiring", "layers")]
    columns = [
        ", ".join([entry.task, *others]),
        entry.neuron,
        entry.readout,
        "-".join(map(str, [task.channels, *[settings.hidden] * settings.layers, len(task.classes)])),
        settings.wiring,
        str(settings.epochs),
        ", ".join(str(result["seed"]) for result in results),
        f"**{accuracy.mean():.2f}{spread} %**",
        ", ".join(f"{value:.1f}" for value in accuracy),
        f"{np.mean([result['hidden_spikes'] for result in results]):.2f}",
        f"{np.median([result['training_seconds'] for result in results]):.0f}",
        entry.published,
    ]
    return "| " + " | ".join(columns) + " |"


def machine() -> str:
    """The processor, the number of cores that this process may use, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "equinox", "diffrax"))
    processor = names[0] if names else platform.processor()
    return f"{processor}, {cores} core(s), Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
