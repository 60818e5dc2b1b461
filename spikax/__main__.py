"""The command line: `python -m spikax`."""

import argparse
import dataclasses
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx

from . import demo, plot, train
from ._spikes import Spikes
from .datasets import yin_yang_spikes


_DESCRIPTION = """\
spikax: event-based spiking neural networks, trained with exact gradients.

Try it out:

  python -m spikax train yin-yang

trains a small network (5 inputs, 120 hidden neurons, 3 outputs) to tell the three
parts of the Yin-Yang sign apart, in a few minutes, and draws what it has learned."""

_TRAIN = """\
Train a network on the Yin-Yang task: every point of the sign becomes five spikes, and the
output neuron that spikes first names the part: yin, yang, or dot.

The directory --out then holds
  result.json         test accuracy, seconds, settings
  learning-curve.png  the error over the epochs
  decision-map.png    the answer to every point of the plane
  raster.png          the spikes of one sample
  network.eqx         the trained network, which with settings.json
                      `spikax.demo.load(directory)` reads again"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return _complain("stopped before the end; no result was written.", 130)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        return _complain(str(error), 2)
    except eqx.EquinoxRuntimeError as error:
        return _complain(str(error).partition("\n\n")[0], 1)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m spikax", description=_DESCRIPTION, formatter_class=shape)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser("train", help="train a network on a task", description="Train a network on a task.")
    tasks = command.add_subparsers(title="tasks", required=True, metavar="TASK")
    task = tasks.add_parser("yin-yang", help="the Yin-Yang task", description=_TRAIN, formatter_class=shape)
    task.set_defaults(run=_train_yin_yang)
    default = demo.Settings()
    task.add_argument("--neuron", choices=demo.NEURONS, default=default.neuron, help="the model (default: %(default)s)")
    numbers = {
        "hidden": "hidden neurons",
        "epochs": "times through the training data",
        "seed": "seed of the samples, the first weights, and the shuffling",
        "batch-size": "samples in a step",
        "learning-rate": "of Adam, at the start; it falls to zero along a cosine",
    }
    for name, text in numbers.items():
        value = getattr(default, name.replace("-", "_"))
        sign = "X" if isinstance(value, float) else "N"
        task.add_argument(f"--{name}", type=type(value), default=value, metavar=sign, help=f"{text} (default: {value})")
    out = Path("runs/yin-yang")
    task.add_argument("--out", type=Path, default=out, metavar="DIR", help="where to write (default: %(default)s)")
    return parser


def _train_yin_yang(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    _require_extra()
    names = {field.name for field in dataclasses.fields(demo.Settings)}
    settings = demo.Settings(**{name: value for name, value in vars(options).items() if name in names})
    options.out.mkdir(parents=True, exist_ok=True)
    fit = _train_visibly(settings)
    tested = demo.test(fit.network, settings)
    demo.save(options.out, fit.network, settings)
    _draw(options.out, fit, settings, tested["accuracy"])
    result = {
        "test_accuracy": tested["accuracy"],
        "validation_accuracy": fit.history[fit.best - 1].validation["accuracy"],
        "hidden_spikes": tested["hidden_spikes"],
        "best_epoch": fit.best,
        "seconds": round(time.perf_counter() - start, 1),
        "seed": settings.seed,
        "settings": dataclasses.asdict(settings),
    }
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"Test accuracy {tested['accuracy']:.1%}, after {result['seconds']:.0f} s. See {options.out}")
    return 0


def _require_extra() -> None:
    """Raises `ImportError` before the training rather than after it."""
    for name in ("matplotlib", "tqdm"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"the command line needs {name}: `pip install 'spikax[cli]'`.") from error


def _train_visibly(settings: demo.Settings) -> train.Fit:
    """Trains behind a progress bar."""
    from tqdm import tqdm

    layout = "{desc} {bar} {percentage:3.0f} %, {remaining} left{postfix}"
    with tqdm(total=settings.epochs, bar_format=layout, desc="compiling", dynamic_ncols=True, mininterval=0) as bar:

        def show(epoch: train.Epoch) -> None:
            bar.set_description_str(f"epoch {epoch.number}/{settings.epochs}", refresh=False)
            bar.set_postfix_str(
                f"loss {epoch.training['loss']:.3f}, validation accuracy {epoch.validation['accuracy']:.1%}, "
                f"{epoch.validation['hidden_spikes']:.2f} spikes per hidden neuron",
                refresh=False,
            )
            bar.update()

        return demo.train_yin_yang(settings, on_epoch=show)


def _draw(out: Path, fit: train.Fit, settings: demo.Settings, accuracy: float) -> None:
    """Draws the three pictures."""
    from matplotlib.patches import Circle

    figure = _figure(6.0, 4.0)
    ax = plot.learning_curve(fit.history, figure.gca())
    ax.set_title(f"Yin-Yang, {settings.hidden} hidden {settings.neuron.upper()} neurons: test accuracy {accuracy:.1%}")
    figure.savefig(out / "learning-curve.png", dpi=150)

    figure = _figure(6.0, 6.2)
    points, labels = demo.points_of("test", settings)
    ax = plot.decision_map(lambda at: demo.answer(fit.network, at, settings), points, labels, figure.gca())
    ax.add_patch(Circle((0.5, 0.5), 0.5, fill=False, color="#26303b", linewidth=0.8, clip_on=False))
    figure.savefig(out / "decision-map.png", dpi=150)

    figure = _figure(7.0, 5.0)
    inputs = yin_yang_spikes(points[:1])
    spikes = demo.respond(fit.network, inputs, settings).spikes
    names = [name for group in fit.network.groups() for name in group]
    layers = [("input", inputs), *((name, spikes[name]) for name in names)]
    layers = [(name, Spikes(layer.times[0])) for name, layer in layers]
    ax = plot.raster(layers, figure.gca(), colours=("#4f9d69", "#26303b", "#e07b39"))
    answer = int(demo.answer(fit.network, points[:1], settings)[0])
    ax.set_title(f"A sample of the class {demo.CLASSES[labels[0]]}; the answer is {_named(answer)}")
    figure.savefig(out / "raster.png", dpi=150)


def _figure(width: float, height: float) -> Any:
    """A figure outside of pyplot, which needs no screen and keeps none open."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _named(answer: int) -> str:
    return demo.CLASSES[answer] if answer >= 0 else "none"


def _complain(message: str, status: int) -> int:
    print(f"python -m spikax: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
