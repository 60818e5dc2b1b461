"""Trains the network of the command line with five seeds, and writes `yin-yang.md` beside this file.

    python benchmarks/yin_yang.py [--neuron lif] [--runs runs/benchmark]

Each seed runs in a process of its own, so that its seconds include the compilation. A seed whose
`result.json` is there already, with the same settings, is not run again: call the script again after an interruption.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from spikax import demo


SEEDS = range(5)

PUBLISHED = """\
| method | network | test accuracy |
|---|---|---|
| EventProp, LIF, first-spike loss (Wunderlich & Pehle 2021) | 5-200-3 | 98.10 ± 0.18 % (10 seeds, 100 epochs) |
| Fast & Deep, LIF, first spikes (Göltz et al. 2021) | 5-120-3 | 96.0 % (1 run) |
| DelGrad, LIF, weights and delays | 4-30-3 | 98.2 % (1 run) |
| a network without spikes, for scale | 4-120-3 | 98.7 ± 0.3 % |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neuron", choices=demo.NEURONS, default="lif")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the runs go")
    options = parser.parse_args()
    results = []
    for seed in SEEDS:
        settings = demo.Settings(neuron=options.neuron, seed=seed)
        results.append(result_of(settings, options.runs / f"{options.neuron}-{seed}"))
        latest = results[-1]
        print(f"seed {seed}: test accuracy {latest['test_accuracy']:.1%}, {latest['seconds']:.0f} s", flush=True)
        suffix = "" if options.neuron == "lif" else f"-{options.neuron}"
        Path(__file__).with_name(f"yin-yang{suffix}.md").write_text(page(results))


def result_of(settings: demo.Settings, directory: Path) -> dict:
    """The result of a run: the one in the directory if it has these settings, else a new one."""
    path = directory / "result.json"
    if path.exists():
        result = json.loads(path.read_text())
        if result["settings"] == dataclasses.asdict(settings):
            return result
    chosen = ["--neuron", settings.neuron, "--seed", str(settings.seed), "--out", str(directory)]
    subprocess.run([sys.executable, "-m", "spikax", "train", "yin-yang", *chosen], check=True)
    return json.loads(path.read_text())


def page(results: list[dict]) -> str:
    """The results so far, as Markdown."""
    rows = [
        f"| {r['seed']} | {r['test_accuracy']:.1%} | {r['validation_accuracy']:.1%} | {r['hidden_spikes']:.2f} "
        f"| {r['seconds']:.0f} |"
        for r in results
    ]
    accuracy = 100 * np.array([r["test_accuracy"] for r in results])
    seconds = np.array([r["seconds"] for r in results])
    # A standard deviation takes two.
    spread = f" ± {accuracy.std(ddof=1):.2f}" if len(results) > 1 else ""
    settings = {name: value for name, value in results[0]["settings"].items() if name != "seed"}
    return "\n".join(
        [
            "# Yin-Yang",
            "",
            "Written by `benchmarks/yin_yang.py`. Every seed draws its own samples (5000 to train, 1000 to choose the",
            "epoch, 1000 to test), first weights and shuffling. The seconds are those of the whole run: data,",
            "compilation, training, test and pictures.",
            "",
            "| seed | test accuracy | validation accuracy | spikes per hidden neuron | seconds |",
            "|---|---|---|---|---|",
            *rows,
            f"| **mean** | **{accuracy.mean():.2f}{spread} %** | | | {seconds.mean():.0f} |",
            "",
            f"Settings: {', '.join(f'{name} {value}' for name, value in settings.items())}.",
            "",
            f"Machine: {machine()}.",
            "",
            "Published results, for comparison:",
            "",
            PUBLISHED,
        ]
    )


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
