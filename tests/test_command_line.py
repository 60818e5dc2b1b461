"""The command line, and the tasks behind it."""

import contextlib
import dataclasses
import functools
import json
import os
import platform
import subprocess
import sys
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax import tasks
from spikax.__main__ import main
from spikax.tasks._table import merged


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
        (["--devices", "0"], "`devices` must be at least 1; got 0."),
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

    monkeypatch.setattr(tasks, "train", interrupted)
    assert main(["train", "yin-yang", "--out", str(tmp_path)]) == 130
    assert "stopped before the end" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """A function that trains until a number of epochs have ended, and is then interrupted."""
    monkeypatch.setattr("spikax.tasks._yin_yang.SIZES", sx.datasets.Split(20, 20, 20))
    monkeypatch.setattr("spikax.__main__.tasks.figures", lambda *_: ())

    def run(epochs):
        class Bar:
            def step(self, epoch, share):
                if epoch > epochs:
                    raise KeyboardInterrupt

            def __call__(self, epoch, network):
                pass

        monkeypatch.setattr("spikax.__main__.ProgressBar", lambda _: contextlib.nullcontext(Bar()))
        options = ["--hidden", "4", "--epochs", "3", "--batch-size", "20", "--out", str(tmp_path)]
        with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes types
            return main(["train", "yin-yang", *options])

    return run


def test_a_run_that_was_stopped_can_be_looked_at(stopped, tmp_path, capsys):
    directory = str(tmp_path)
    assert stopped(0) == 130
    assert main(["info", directory]) == 2
    assert "The first epoch of the run has not ended" in capsys.readouterr().err
    assert stopped(1) == 130
    assert main(["info", directory]) == 0
    told = capsys.readouterr().out
    assert "yin-yang: neuron lif" in told and "1 of 3 epochs so far" in told and "4 neurons" in told
    assert main(["evaluate", directory]) == 0
    assert "Test accuracy" in capsys.readouterr().out
    before = (tmp_path / "settings.json").read_text()
    assert main(["train", "yin-yang", "--hidden", "5", "--batch-size", "20", "--out", directory]) == 2
    assert "as in the checkpoint" in capsys.readouterr().err
    assert (tmp_path / "settings.json").read_text() == before
    (tmp_path / "best.eqx").write_bytes(b"text")
    assert main(["info", directory]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_warning_is_a_line(monkeypatch, tmp_path, capsys):
    def warned(*_, **__):
        warnings.warn("all gradients were zero", stacklevel=1)
        raise ValueError("enough")

    monkeypatch.setattr(tasks, "train", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["train", "yin-yang", "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "python -m spikax: all gradients were zero" in lines and "python -m spikax: enough" in lines


COMBINATIONS = [
    (name, neuron, readout)
    for name, task in tasks.TASKS.items()
    for neuron in task.neurons
    for readout in task.readouts
]


@pytest.mark.parametrize(
    "names, expected",
    [
        ("yin-yang lif first-spike", {"hidden": 120, "epochs": 100, "learning_rate": 5e-3, "duration": 120.0}),
        ("yin-yang dendritic max-voltage", {"epochs": 15, "duration": 40.0, "max_spikes": 8, "drop": 0.0}),
        ("digits qif mean-voltage", {"learning_rate": 1e-2, "duration": 25.0, "jitter": 1.0}),
        ("digits lif first-spike", {"learning_rate": 5e-3, "duration": 60.0, "batch_size": 32}),
        ("mnist lif mean-voltage", {"hidden": 350, "epochs": 18, "learning_rate": 5e-3, "shift": 0}),
        ("mnist egru max-voltage", {"hidden": 100, "epochs": 6, "learning_rate": 1.2e-2, "batch_size": 100}),
        ("mnist egru first-spike", {"epochs": 5, "learning_rate": 4e-3, "duration": 200.0, "shift": 1}),
        ("mnist lif first-spike", {"epochs": 16, "learning_rate": 7e-3, "max_spikes": 40, "drop": 0.05}),
        ("sequential-mnist alif last-voltage", {"hidden": 256, "duration": 260.0, "wiring": "delays"}),
        ("delay-copy egru last-voltage", {"hidden": 2, "clip": 0.05, "duration": 180.0}),
        ("delayed-xor egru last-voltage", {"hidden": 8, "learning_rate": 0.025, "max_spikes": 64}),
    ],
)
def test_settings_follow_from_task_neuron_and_readout(names, expected):
    name, neuron, readout = names.split()
    settings = dataclasses.asdict(tasks.TASKS[name].settings(neuron=neuron, readout=readout))
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize("table", [tasks.SETTINGS, tasks.RECIPES], ids=["settings", "recipes"])
def test_every_row_of_a_table_is_of_use(table):
    """It fits a combination, and nothing in it is what it would be without it."""
    for number, row in enumerate(table):
        others = [*table[:number], *table[number + 1 :]]
        fitting = [names for names in COMBINATIONS if row.fits(*names)]
        for key, part in row.parts.items():
            without = [merged(others, *names).get(key) for names in fitting]
            assert any(other is None or other != part for other in without), (row.names, key)


TASK = tasks.YinYang()
SILENCE = sx.Spikes(jnp.full((1, 5, 1), jnp.inf))


@pytest.mark.parametrize("neuron", tasks.NEURONS)
def test_every_output_spikes_even_without_input(neuron):
    settings = TASK.settings(neuron=neuron, hidden=4)
    solution = TASK.respond(TASK.build(settings), SILENCE, settings)
    assert bool(jnp.all(solution.spikes["output"].count == 1))


def test_a_readout_by_voltage():
    """The highest voltage names the class, and the loss has a gradient of the weights."""
    settings = TASK.settings(readout="max-voltage", hidden=20)
    inputs, labels = sx.datasets.yin_yang_spikes(np.full((2, 2), 0.4)), jnp.asarray([0, 2])

    def loss(network):
        return TASK.measure(network, inputs, labels, settings)[0].sum()

    network = TASK.build(settings)
    gradient = jax.grad(loss)(network)
    assert all(bool(jnp.any(connection.weight != 0)) for connection in gradient.connections)
    trained = tasks.Trained(TASK, settings, network, [])
    voltage = TASK.respond(network, inputs, settings).states["output"].v
    np.testing.assert_array_equal(tasks.answers(trained, inputs), np.argmax(np.max(voltage, axis=1), axis=1))


@pytest.mark.modes("float32")
def test_two_hidden_layers():
    """Both learn, each with the step of hidden layers, and the measures are their means."""
    with pytest.raises(ValueError, match="`layers` must be 1 for the task yin-yang"):
        TASK.settings(layers=2)
    task = tasks.Digits()
    settings = task.settings(neuron="qif", hidden=6, layers=2)
    training = task.split(settings).training
    inputs, labels = training.first(8), jnp.asarray(training.labels[:8])
    network = task.build(settings)
    assert list(network.layers) == ["hidden1", "hidden2", "output"] == [*settings.hidden_layers, "output"]

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(network):
        loss, measures = task.measure(network, inputs, labels, settings)
        spikes = task.respond(network, inputs, settings).spikes
        return loss.sum(), (measures, [spikes[name].count for name in settings.hidden_layers])

    found, (measures, counts) = gradient(network)
    assert all(int(jnp.sum(count)) > 0 for count in counts)
    np.testing.assert_allclose(measures["hidden_spikes"], jnp.mean(jnp.concatenate(counts, axis=-1), axis=-1))
    assert all(bool(jnp.any(connection.weight != 0)) for connection in found.connections)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes types
        optimizer = task.optimizer(settings, 10)
        steps, _ = optimizer.update(found, optimizer.init(found), network)
    strides = [5.0, 5.0, 4.0]  # of the recipe; Adam's first step is the learning rate
    largest = [float(jnp.max(jnp.abs(c.weight))) / settings.learning_rate for c in steps.connections]
    np.testing.assert_allclose(largest, strides, rtol=1e-3)


@pytest.mark.parametrize("readout", TASK.readouts)
def test_what_is_compiled_can_be_stored(readout):
    """JAX's compilation cache holds no function that calls Python."""
    settings = TASK.settings(readout=readout, hidden=4)
    inputs, labels = sx.datasets.yin_yang_spikes(np.full((2, 2), 0.4)), jnp.asarray([0, 2])
    objective, network = functools.partial(TASK.measure, settings=settings), TASK.build(settings)
    jaxpr = jax.make_jaxpr(jax.grad(lambda *given: objective(*given)[0].sum()))(network, inputs, labels)
    assert "callback" not in str(jaxpr)
    assert "callback" in str(jax.make_jaxpr(lambda x: eqx.error_if(x, x > 0, ""))(1.0))  # the word is right


def test_too_small_a_capacity_is_an_error():
    settings = TASK.settings(hidden=4, max_spikes=1)
    network = TASK.build(settings)
    strong = jax.tree.map(lambda leaf: 20.0 * leaf, network.connections[0])
    network = sx.Network(network.layers, (strong, network.connections[1]), network.inputs, network.outputs)
    inputs, trained = sx.datasets.yin_yang_spikes(np.zeros((2, 2))), tasks.Trained(TASK, settings, network, [])
    message = "Layer `hidden`: A neuron emitted more spikes than `max_spikes`"
    with pytest.raises(RuntimeError, match=message):
        tasks.answers(trained, inputs)
    with pytest.raises(RuntimeError, match=f"Sample 0 of the batch failed. {message}"):
        sx.train.evaluate(network, functools.partial(TASK.measure, settings=settings), [(inputs, np.zeros(2, int))])


def test_images_start_with_the_wanted_share_of_spikes():
    task = tasks.Digits()
    settings = task.settings(hidden=20)
    inputs, labels = task.split(settings).training
    assert task.channels == inputs.n and len(task.classes) == labels.max() + 1
    network = task.build(settings)
    some = sx.Events(inputs.times[:100], inputs.channels[:100], inputs.n)
    count = sx.simulate(network, some, settings.duration, max_spikes=64).spikes["hidden"].count
    assert abs(float(jnp.mean(count > 0)) - task.fraction) < 0.06


def test_mnist_says_where_its_data_must_be(capsys):
    with pytest.raises(SystemExit):
        main(["train", "mnist"])
    assert "--data" in capsys.readouterr().err
    assert main(["train", "mnist", "--data", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_info(capsys):
    assert main(["info"]) == 0
    assert f"spikax {sx.__version__}" in capsys.readouterr().out
    assert main(["info", "nowhere"]) == 2
    assert "settings.json" in capsys.readouterr().err


@pytest.mark.slow
def test_the_report_of_a_run(stopped, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    # The decision map takes 22,500 samples: too long for a test.
    monkeypatch.setattr(
        "spikax.tasks._figures._decision_map", lambda *_: pytest.importorskip("matplotlib.figure").Figure()
    )
    assert stopped(1) == 130
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    path = tmp_path / "report.html"
    assert capsys.readouterr().out == f"See {path}\n"
    page = path.read_text()
    assert "of 20 samples are right" in page and '<th scope="row">yang</th>' in page
    assert "<h2>Decision map</h2>" in page and '<th scope="row">neuron</th><td>lif</td>' in page
    # After its first spike, an output has no voltage.
    assert page.count("Not in this report.") == 1 and "The voltages of output" in page
    assert main(["report", "nowhere"]) == 2
    assert "metrics.json" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_writes_what_it_promises(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("spikax.tasks._yin_yang.SIZES", sx.datasets.Split(60, 60, 60))
    # Optax's Adam mixes types.
    with jax.numpy_dtype_promotion("standard"):
        command = ["train", "yin-yang", "--hidden", "8", "--epochs", "2", "--batch-size", "20", "--out", str(tmp_path)]
        assert main(command) == 0
    assert "Test accuracy" in capsys.readouterr().out
    pictures = {"learning-curve.png", "confusion-matrix.png", "decision-map.png", "raster.png"}
    others = {"result.json", "settings.json", "metrics.json", "metrics.csv", "network.zip", "last.eqx", "best.eqx"}
    assert {path.name for path in tmp_path.iterdir()} == pictures | others
    trained = tasks.read(tmp_path)
    assert trained.settings == TASK.settings(hidden=8, epochs=2, batch_size=20) and len(trained.history) == 2
    result = json.loads((tmp_path / "result.json").read_text())
    assert tasks.test(trained)["accuracy"] == pytest.approx(result["test_accuracy"])
    assert main(["evaluate", str(tmp_path)]) == 0
    assert main(["info", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"Test accuracy {result['test_accuracy']:.1%}" in told and "8 neurons" in told


@pytest.mark.slow
def test_a_second_run_compiles_nothing(tmp_path):
    """It finds all it compiles in the user's cache directory."""

    def stored(number):
        command = [sys.executable, "-m", "spikax", "train", "yin-yang", "--epochs", "1", "--hidden", "4"]
        out = ["--out", str(tmp_path / f"run{number}")]
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        subprocess.run([*command, *out], env=environment, check=True, capture_output=True)
        return {path.name for path in (tmp_path / "cache").rglob("*-cache")}

    first = stored(1)
    assert any("_sums" in name for name in first)
    assert stored(2) == first


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the C library of GNU")
def test_memory_that_was_freed_is_used_again():
    """A large array gets no new pages each time, also in another thread."""
    program = """
import resource, threading
from spikax.__main__ import _keep_freed_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def all_faults(found):
    faults(1)
    found.append(faults(8))

found = []
all_faults(found)
_keep_freed_memory()
all_faults(found)
thread = threading.Thread(target=all_faults, args=(found,))
thread.start()
thread.join()
print(*found)
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    before, after, in_thread = map(int, told.split())
    assert before > 100 * max(after, in_thread, 100), told


def test_a_cpu_is_divided_into_devices(tmp_path):
    """A batch is shared by as many devices as the command line names."""
    program = """
import sys
import jax
from spikax import tasks
from spikax.__main__ import main

def train(*_, devices, **__):
    raise ValueError(f"{devices} of {len(jax.devices('cpu'))}")

tasks.train = train
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, "train", "yin-yang", "--out", str(tmp_path), "--devices", "3"]
    for flags, told in (("", "3 of 3"), ("--xla_force_host_platform_device_count=2", "3 of 2")):
        environment = os.environ | {"XLA_FLAGS": flags}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.returncode == 2 and told in ended.stderr, ended.stderr
