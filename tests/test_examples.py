"""The examples do what they say, in a short form."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

import spikax as sx
from spikax import tasks

from .conftest import MODE


EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(request):
    # The long tests run in float64 only.
    if MODE != "float32" and request.node.get_closest_marker("slow") is None:
        pytest.skip("the examples are for JAX as it comes: one mode is enough")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    # Optax mixes dtypes, which strict promotion forbids.
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield load


def test_one_neuron_with_a_dendrite_learns_xor(example):
    xor = example("dendritic_xor")
    training = xor.train(xor.dendritic, xor.first_weights(0, 4, 180.0, 300.0), steps=40)
    assert np.max(xor.accuracy(xor.dendritic, training.first)) < 1.0
    np.testing.assert_array_equal(xor.accuracy(xor.dendritic, training.last), np.ones(4))
    assert np.all(training.losses[-1] < 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["delay_copy", "delayed_xor"])
def test_gated_units_begin_to_learn(example, name, tmp_path):
    """The loss falls, and the figure can be drawn."""
    pytest.importorskip("matplotlib")
    script = example(name)
    script.TASK.sizes = sx.datasets.Split(640, 32, 32) if name == "delay_copy" else sx.datasets.Split(8, 4, 4)
    settings = script.TASK.settings(epochs=3, **({} if name == "delay_copy" else {"batch_size": 4}))
    trained = tasks.train(script.TASK, settings)
    losses = [epoch.training["loss"] for epoch in trained.history]
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]
    script.draw(trained, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()


def test_delays_are_learned(example):
    yin_yang = example("yin_yang_delays")
    yin_yang.SAMPLES.update(training=100, validation=50, test=50)
    settings = yin_yang.Settings(hidden=6, epochs=12, batch_size=50)
    network, history = yin_yang.train(settings, seed=0)
    assert max(epoch.validation for epoch in history) > history[0].validation
    for before, after in zip(yin_yang.build(settings, seed=0).connections, network.connections, strict=True):
        assert np.all(np.asarray(after.delay.value) > 0)
        assert np.any(np.abs(after.delay.value / before.delay.value - 1) > 0.05)


def test_a_population_learns_when_to_spike(example):
    regression = example("temporal_regression")
    training = regression.train(seed=0, steps=20, samples=10)
    assert np.mean(training.errors[-5:]) < 0.8 * training.errors[0]


def test_a_convolutional_network_reads_digits(example):
    convolution = example("convolution")
    training, test = convolution.digits(seed=0)
    assert len(training.labels) + len(test.labels) == 1797
    some = convolution.Images(test.images[:30], test.labels[:30])
    times = convolution.encoded(some.images).times.reshape(30, 8, 8)
    np.testing.assert_array_equal(np.isfinite(times), some.images > 0)
    counts = convolution.confusion(convolution.build(seed=0), some)
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(some.labels, minlength=10))


@pytest.mark.slow
def test_the_parameters_of_a_neuron_are_found_from_its_spikes(example):
    with jax.enable_x64(True):
        script = example("fit_neuron")
        found = script.fit(script.record(0), 0)
    np.testing.assert_allclose(found.parameters[-1], list(script.TRUE.values()), rtol=1e-6)
    assert found.errors[-1] < 1e-6 < 10.0 < found.errors[0]


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill(example, tmp_path, monkeypatch):
    """Finished trials are not repeated, and the one that was interrupted goes on from its last epoch."""
    pytest.importorskip("optuna")
    pytest.importorskip("matplotlib")
    script = example("learning_rates")
    script.GRID, script.SAMPLES, script.EPOCHS = {"learning_rate": [1e-3, 1e-2], "seed": [0]}, 100, 3
    fit, trained = sx.train.fit, []

    def recording(*arguments, epochs, **options):
        trained.append([])
        # The second trial is interrupted in its second epoch.
        short = 1 if len(trained) == 2 else epochs
        result = fit(*arguments, epochs=short, callbacks=[lambda epoch, _: trained[-1].append(epoch.number)], **options)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(sx.train, "fit", recording)
    with pytest.raises(KeyboardInterrupt):
        script.run(script.study_of(tmp_path), tmp_path)
    for _ in range(2):
        study = script.study_of(tmp_path)
        script.run(study, tmp_path)
        assert trained == [[1, 2, 3], [1], [2, 3]]
    assert np.all((script.errors(study) >= 0.0) & (script.errors(study) < 1.0))
    script.draw(study, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").exists()
