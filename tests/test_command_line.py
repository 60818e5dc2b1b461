"""The command line, and the demonstration behind it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax import demo
from spikax.__main__ import main


# The command line is for JAX as it comes.
pytestmark = pytest.mark.modes("float32")


def test_help_names_the_first_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "python -m spikax train yin-yang" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--epochs", "0"], "`epochs` must be at least 1; got 0."),
        (["--seed", "-1"], "`seed` must be at least 0; got -1."),
        (["--learning-rate", "-0.1"], "`learning_rate` must be positive; got -0.1."),
    ],
)
def test_bad_settings_end_with_a_message(options, complaint, capsys):
    assert main(["train", "yin-yang", *options]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["train"], ["train", "yin-yang", "--neuron", "hh"], ["train", "xor"]])
def test_bad_options_end_with_usage(options, capsys):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_an_interruption_ends_with_a_message(monkeypatch, tmp_path, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "train_yin_yang", interrupted)
    assert main(["train", "yin-yang", "--out", str(tmp_path)]) == 130
    assert "stopped before the end" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("neuron", demo.NEURONS)
def test_every_output_spikes_even_without_input(neuron):
    settings = demo.Settings(neuron=neuron, hidden=4)
    silence = sx.Spikes(jnp.full((1, 5, 1), jnp.inf))
    solution = demo.respond(demo.build(settings), silence, settings)
    assert bool(jnp.all(solution.spikes["output"].count == 1))


def test_too_small_a_capacity_is_an_error():
    settings = demo.Settings(hidden=4, max_spikes=1)
    network = demo.build(settings)
    strong = jax.tree.map(lambda leaf: 20.0 * leaf, network.connections[0])
    network = sx.Network(network.layers, (strong, network.connections[1]), network.inputs, network.outputs)
    with pytest.raises(RuntimeError, match="max_spikes=1"):
        jax.block_until_ready(demo.respond(network, sx.datasets.yin_yang_spikes(np.zeros((1, 2))), settings))


@pytest.mark.slow
def test_a_run_writes_what_it_promises(monkeypatch, tmp_path, capsys):
    for part in demo.SIZES:
        monkeypatch.setitem(demo.SIZES, part, 60)
    # Optax's Adam mixes types.
    with jax.numpy_dtype_promotion("standard"):
        status = main(
            ["train", "yin-yang", "--hidden", "8", "--epochs", "2", "--batch-size", "20", "--out", str(tmp_path)]
        )
    assert status == 0
    assert "Test accuracy" in capsys.readouterr().out
    pictures = {"learning-curve.png", "decision-map.png", "raster.png"}
    assert {path.name for path in tmp_path.iterdir()} == pictures | {"result.json", "settings.json", "network.eqx"}
    network, settings = demo.load(tmp_path)
    assert settings == demo.Settings(hidden=8, epochs=2, batch_size=20)
    result = json.loads((tmp_path / "result.json").read_text())
    assert demo.test(network, settings)["accuracy"] == pytest.approx(result["test_accuracy"])
