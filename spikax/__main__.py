"""The command line: `python -m spikax`."""

import argparse
import contextlib
import ctypes
import dataclasses
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax

from . import tasks
from ._checks import require_count
from ._files import replacing
from ._report import given_to, report
from ._version import __version__
from .tasks import AbstractTask, TASKS
from .train import ProgressBar


_DESCRIPTION = """\
spikax: event-based spiking neural networks, trained with exact gradients.

Try it out:

  python -m spikax train yin-yang

trains a small network (5 inputs, 120 hidden neurons, 3 outputs) to tell the three
parts of the Yin-Yang sign apart, in a few minutes, and draws what it has learned."""

_TRAIN = """\
{story}

The directory --out then holds
  result.json           test accuracy, seconds, settings
  metrics.csv, .json    loss and accuracy of every epoch
  *.png                 the error over the epochs, the answers, and a sample
  network.zip           the trained network, for `spikax.load`
  last.eqx, best.eqx    checkpoints: the same command continues an interrupted run
`python -m spikax report DIR` adds report.html, all of this on one page."""

_NUMBERS = {
    "hidden": "neurons of a hidden layer",
    "layers": "hidden layers",
    "epochs": "passes over the training data",
    "seed": "random seed of samples, initial weights, and shuffling",
    "batch-size": "samples per step",
    "learning-rate": "initial learning rate of Adam, with cosine decay to zero",
    "clip": "maximal norm of a gradient; larger gradients are scaled down",
    "duration": "of a sample, in ms",
    "max-spikes": "maximal number of spikes of a hidden neuron in a sample; one more is an error",
    "drop": "fraction of input spikes dropped at random in training",
    "jitter": "standard deviation of the random jitter of input spikes in training, in ms",
    "shift": "maximal random shift of images along each axis in training, in pixels",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            # On its own line, since the progress bar may be on the current one.
            warnings.showwarning = lambda message, *_, **__: print(f"\npython -m spikax: {message}", file=sys.stderr)
            return options.run(options)
    except KeyboardInterrupt:
        return _complain("stopped before the end; the same command continues from the last epoch.", 130)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        return _complain(str(error), 2)
    except eqx.EquinoxRuntimeError as error:
        return _complain(str(error).partition("\n\n")[0], 1)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m spikax", description=_DESCRIPTION, formatter_class=shape)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser("train", help="train a network on a task", description="Train a network on a task.")
    named = command.add_subparsers(title="tasks", required=True, metavar="TASK")
    for task in TASKS.values():
        _add_task(named, task, shape)
    told = "Test the network of a run, and draw its pictures again."
    command = commands.add_parser("evaluate", help="test the network of a run", description=told)
    command.add_argument("directory", type=Path, metavar="DIR", help="where the run was written")
    command.set_defaults(run=_evaluate)
    told = "Write the report of a run, `report.html` in its directory: settings, curves, answers, a sample."
    command = commands.add_parser("report", help="write the report of a run, an HTML page", description=told)
    command.add_argument("directory", type=Path, metavar="DIR", help="where the run was written, also by `train.fit`")
    command.set_defaults(run=_report)
    told = "Show versions and devices, and what is in the directory of a run."
    command = commands.add_parser("info", help="show versions, devices, and a run", description=told)
    command.add_argument("directory", type=Path, metavar="DIR", nargs="?", help="where a run was written")
    command.set_defaults(run=_info)
    return parser


def _add_task(named: argparse._SubParsersAction, task: AbstractTask, shape: type) -> None:
    """Adds the options of a task. Defaults depend on the task, the neuron and the readout."""
    story = _TRAIN.format(story=task.story)
    parser = named.add_parser(task.name, help=task.summary, description=story, formatter_class=shape)
    parser.set_defaults(run=_train, task=task)
    default = task.settings(**({"data": "."} if task.needs_data else {}))
    for name, choices in (("neuron", task.neurons), ("readout", task.readouts)):
        told = {"neuron": "the model of the hidden neurons", "readout": "what names the class"}[name]
        parser.add_argument(f"--{name}", choices=choices, help=f"{told} (default: {choices[0]})")
    for name, text in _NUMBERS.items():
        if (name == "shift" and task.picture is None) or (name == "layers" and not task.is_calibrated):
            continue
        value = getattr(default, name.replace("-", "_"))
        sign = "X" if isinstance(value, float) else "N"
        told = f"{text} (default: {value})"
        parser.add_argument(f"--{name}", type=type(value), metavar=sign, help=told)
    if len(task.wirings) > 1:
        told = f"what is learned besides weights from layer to layer (default: {default.wiring})"
        parser.add_argument("--wiring", choices=task.wirings, help=told)
    if task.needs_data:
        parser.add_argument("--data", metavar="DIR", required=True, help="the directory of the data")
    told = "devices that share each batch: GPUs, or parts of the CPU, of which each has its own loops (default: one)"
    parser.add_argument("--devices", type=int, metavar="N", help=told)
    out = Path("runs") / task.name
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="where to write (default: %(default)s)")


def _train(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    _require_extra()
    names = {field.name for field in dataclasses.fields(tasks.Settings)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    settings = options.task.settings(**given)
    if options.devices is not None:
        _divide_cpu(options.devices)
    options.out.mkdir(parents=True, exist_ok=True)
    with ProgressBar(settings.epochs) as bar:
        trained = tasks.train(options.task, settings, directory=options.out, callbacks=(bar,), devices=options.devices)
    tasks.write(options.out, trained)
    best = max(trained.history, key=lambda epoch: epoch.score)
    result = _tested(options.out, trained) | {
        "validation_accuracy": best.validation["accuracy"],
        "best_epoch": best.number,
        "seconds": round(time.perf_counter() - start, 1),
        "training_seconds": round(sum(epoch.seconds for epoch in trained.history), 1),
        "seed": settings.seed,
        "task": options.task.name,
        "settings": dataclasses.asdict(settings),
    }
    with replacing(options.out / "result.json") as file:
        file.write((json.dumps(result, indent=2) + "\n").encode())
    print(f"Test accuracy {result['test_accuracy']:.1%}, after {result['seconds']:.0f} s. See {options.out}")
    return 0


def _divide_cpu(devices: int) -> None:
    """Lets JAX see the CPU as so many devices, unless it has started, or its options name another number."""
    require_count(devices, "devices")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)


def _evaluate(options: argparse.Namespace) -> int:
    _require_extra()
    trained = tasks.read(options.directory)
    result = _tested(options.directory, trained)
    print(f"Test accuracy {result['test_accuracy']:.1%}, {result['hidden_spikes']:.2f} spikes per hidden neuron.")
    return 0


def _tested(out: Path, trained: tasks.Trained) -> dict[str, float]:
    """The accuracy and the activity on the test data. Also draws the figures."""
    tested = tasks.test(trained)
    for name, figure in tasks.figures(trained, tested["accuracy"]):
        figure.savefig(out / f"{name}.png", dpi=150)
    return {"test_accuracy": tested["accuracy"], "hidden_spikes": tested["hidden_spikes"]}


def _report(options: argparse.Namespace) -> int:
    path = options.directory / "report.html"
    lost = given_to(path)
    if lost:
        told = f"{path} was written by `sx.report` with {', '.join(lost)}, which this command does not know."
        raise ValueError(f"{told} To replace it, delete it first.")
    print(f"See {report(options.directory)}")
    return 0


def _info(options: argparse.Namespace) -> int:
    versions = {name: importlib.metadata.version(name) for name in ("jax", "equinox", "diffrax", "optax")}
    print(f"spikax {__version__}, Python {platform.python_version()}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"devices: {', '.join(str(device) for device in jax.devices())}")
    if options.directory is not None:
        trained = tasks.read(options.directory)
        settings = {name: value for name, value in dataclasses.asdict(trained.settings).items() if value is not None}
        print(f"\n{trained.task.name}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
        result = options.directory / "result.json"
        if result.is_file():
            print(f"test accuracy {json.loads(result.read_text())['test_accuracy']:.1%}")
        else:
            print(f"{len(trained.history)} of {trained.settings.epochs} epochs so far")
        print(f"\n{trained.network}")
    return 0


def _require_extra() -> None:
    """Raises `ImportError` before the training instead of after it."""
    for name in ("matplotlib", "platformdirs", "tqdm"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"the command line needs {name}: `pip install 'spikax[cli]'`.") from error


def _cache_compiled_functions() -> None:
    """Stores compiled functions in the user's cache directory, unless JAX's own options name another one."""
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        import platformdirs
    except ImportError:
        return
    # Code compiled for one processor may not run on another, and machines may share the directory.
    directory = Path(platformdirs.user_cache_dir("spikax")) / platform.node()
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _keep_freed_memory() -> None:
    """Keeps freed memory in the process, where the C library is that of GNU.

    JAX allocates the arrays of each call anew. Large ones would be returned to the system when they are freed, and come
    back page by page: with QIF neurons on MNIST, that took two fifths of the time of a gradient.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    # Of `malloc.h`. Each thread would have a heap of its own, too small for these arrays.
    arena_max, mmap_max, trim_threshold = -8, -4, -1
    for option, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, -1)):
        set_option(option, value)


def _complain(message: str, status: int) -> int:
    print(f"python -m spikax: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # From here on an interrupt raises an exception, so that open files are closed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _cache_compiled_functions()
    _keep_freed_memory()
    sys.exit(main())
