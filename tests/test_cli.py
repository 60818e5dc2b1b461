"""The command line: a tiny run with all that it writes, and bad options."""

import json
import os
import subprocess
import sys

import pytest


pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from spikax import __main__ as command, demo


def run(directory, *options):
    """`python -m spikax` with these options, in this directory."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "spikax", *options]
    return subprocess.run(arguments, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_tiny_run(tmp_path):
    done = run(tmp_path, "train", "yin-yang", "--epochs", "1", "--hidden", "10", "--out", "here")
    assert done.returncode == 0, done.stderr
    assert "Test accuracy" in done.stdout
    pictures = ["learning-curve.png", "decision-map.png", "raster.png"]
    names = {"result.json", "settings.json", "network.eqx", *pictures}
    assert {path.name for path in (tmp_path / "here").iterdir()} == names
    for name in pictures:
        assert (tmp_path / "here" / name).read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "here" / "result.json").read_text())
    assert 0.4 < result["test_accuracy"] <= 1.0  # chance is 0.33
    assert result["settings"]["hidden"] == 10 and result["best_epoch"] == 1


def test_a_saved_network_loads_again(tmp_path):
    settings = demo.Settings(hidden=4, seed=3)
    network = demo.build(settings)
    demo.save(tmp_path, network, settings)
    loaded, same = demo.load(tmp_path)
    assert same == settings
    for one, other in zip(network.connections, loaded.connections, strict=True):
        assert (one.weight == other.weight).all()


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--hidden", "0", "`hidden` must be at least 1; got 0"),
        ("--epochs", "-1", "`epochs` must be at least 1; got -1"),
        ("--seed", "-1", "`seed` must be at least 0; got -1"),
        ("--batch-size", "0", "`batch_size` must be at least 1; got 0"),
        ("--batch-size", "9999", "`batch_size` must be at most 5000"),
        ("--learning-rate", "0", "`learning_rate` must be positive; got 0.0"),
        ("--learning-rate", "nan", "`learning_rate` must be finite; got nan"),
    ],
)
def test_bad_values(tmp_path, capsys, option, value, message):
    status = command.main(["train", "yin-yang", option, value, "--out", str(tmp_path)])
    printed = capsys.readouterr()
    assert status == 2
    assert message in printed.err and "Traceback" not in printed.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required"),
        (["train"], "the following arguments are required"),
        (["train", "mnist"], "invalid choice: 'mnist'"),
        (["train", "yin-yang", "--hidden", "many"], "invalid int value: 'many'"),
        (["train", "yin-yang", "--neuron", "rat"], "invalid choice: 'rat'"),
        (["train", "yin-yang", "--hiden", "3"], "unrecognized arguments"),
    ],
)
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path, "train", "yin-yang", "--out", "file/below")
    assert done.returncode == 2
    assert done.stderr.startswith("python -m spikax: ") and "Traceback" not in done.stderr


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["train", "yin-yang", "--help"])
    assert stopped.value.code == 0
    assert "--hidden N" in capsys.readouterr().out
