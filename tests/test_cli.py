"""The command line as a process of its own: a tiny run with all that it writes, and complaints without a traceback."""

import json
import os
import signal
import subprocess
import sys

import pytest


pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
# A process of its own, which knows of no mode.
pytestmark = pytest.mark.modes("float32")


def run(directory, *options):
    """`python -m spikax train yin-yang` with these options, in this directory."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "spikax", "train", "yin-yang", *options]
    return subprocess.run(arguments, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)


def test_a_tiny_run(tmp_path):
    done = run(tmp_path, "--epochs", "1", "--hidden", "10", "--out", "here")
    assert done.returncode == 0, done.stderr
    assert "Test accuracy" in done.stdout
    pictures = ["learning-curve.png", "confusion-matrix.png", "decision-map.png", "raster.png"]
    others = ["settings.json", "metrics.json", "metrics.csv", "network.zip", "last.eqx", "best.eqx"]
    names = {"result.json", *pictures, *others}
    assert {path.name for path in (tmp_path / "here").iterdir()} == names
    for name in pictures:
        assert (tmp_path / "here" / name).read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "here" / "result.json").read_text())
    assert 0.4 < result["test_accuracy"] <= 1.0  # chance is 0.33
    assert result["settings"]["hidden"] == 10 and result["best_epoch"] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (["--hidden", "0"], "`hidden` must be at least 1; got 0"),
        (["--learning-rate", "nan"], "`learning_rate` must be finite; got nan"),
        (["--batch-size", "9999"], "`batch_size` must be at most 5000"),
        (["--out", "file/below"], "file"),
        (["--hiden", "3"], "unrecognized arguments"),
    ],
)
def test_complaints(tmp_path, options, message):
    (tmp_path / "file").write_text("")
    done = run(tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    # Whatever is wrong is found before the training begins.
    assert "compiling" not in done.stderr


def test_an_interruption_while_it_imports_ends_with_a_line(tmp_path):
    """JAX takes seconds to import. This one takes for ever, and is interrupted."""
    (tmp_path / "jax.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    arguments = [sys.executable, "-m", "spikax", "info"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 130
    assert done.stderr == "\npython -m spikax: stopped before the beginning; call the same command again.\n"


def test_an_interruption_in_the_first_seconds_ends_with_a_line(tmp_path):
    """Whenever it comes: there is a line, and no traceback."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "spikax", "train", "yin-yang", "--out", "here"]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    # The progress bar: the imports are over, and the first step compiles.
    assert process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "python -m spikax: stopped before the end" in told and "Traceback" not in told
