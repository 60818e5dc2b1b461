"""The task of images row by row, with larger copies of the small digits in place of MNIST."""

import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax import tasks
from spikax.datasets import digits, Images, Split


TASK = tasks.TASKS["sequential-mnist"]
OPTIONS = {"data": "images", "hidden": 24}


@pytest.fixture(autouse=True)
def images(monkeypatch):
    def enlarged(part: Images, n: int) -> Images:
        pixels = np.kron(part.images[:n], np.ones((1, 3, 3)))
        return Images(np.pad(pixels, ((0, 0), (2, 2), (2, 2))), part.labels[:n])

    monkeypatch.setattr(TASK, "images", lambda settings: Split(*(enlarged(part, 250) for part in digits())))
    type(TASK).split.cache_clear()
    yield
    type(TASK).split.cache_clear()


@pytest.mark.modes("float32")
@pytest.mark.parametrize(
    "wiring, neuron", [*((w, "lif") for w in TASK.wirings), *(("recurrent", n) for n in TASK.neurons[1:])]
)
def test_networks_of_the_task(wiring, neuron):
    """All have gradients by all that a wiring learns."""
    settings = TASK.settings(neuron=neuron, wiring=wiring, **OPTIONS)
    network, training = tasks.AbstractTask.build(TASK, settings), TASK.split(settings).training
    assert (
        training.inputs.n == 28
        and float(jnp.max(jnp.where(training.inputs.times < 1e9, training.inputs.times, 0.0))) < 140.0
    )

    def loss(network, inputs):
        return jnp.mean(TASK.measure(network, inputs, training.labels[:3], settings)[0])

    gradient = eqx.filter_eval_shape(eqx.filter_grad(loss), network, training.first(3))
    assert jax.tree.structure(gradient) == jax.tree.structure(eqx.filter(network, eqx.is_inexact_array))
    has_delays = {(c.source, c.target): c.delay is not None for c in network.connections}
    expected = {("input", "hidden"): "delays" in wiring, ("hidden", "output"): False}
    expected |= {("hidden", "hidden"): "delays" in wiring} if "recurrent" in wiring else {}
    assert has_delays == expected


@pytest.mark.slow
@pytest.mark.modes("float32")
def test_the_task_is_learned():
    settings = TASK.settings(**OPTIONS, epochs=12, batch_size=25)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes types
        assert tasks.train(TASK, settings).history[-1].training["accuracy"] > 0.35


@pytest.mark.modes("float32")
def test_neurons_beyond_a_tenth_of_their_capacity_have_a_price():
    times = np.full((1, 2, 30), np.inf, np.float32)
    times[0, 0] = np.linspace(10.0, 150.0, 30)  # neuron 0 spikes too often, neuron 1 once
    times[0, 1, 0] = 10.0
    solution = types.SimpleNamespace(
        spikes={"hidden": sx.Spikes(jnp.asarray(times))},
        states={"output": types.SimpleNamespace(v=jnp.zeros((1, 3, 10)))},
    )
    settings = TASK.settings(**OPTIONS, max_spikes=64)

    def loss(price):
        readout = tasks.Voltage(sx.decode.mean, 1.0, price=price)
        return float(readout.loss_and_prediction(solution, jnp.zeros(1, jnp.int32), settings)[0][0])

    duration = settings.duration
    counts = np.sum(1.0 - np.exp(-(duration - times[0, 0]) / duration))
    assert counts > 6.4
    np.testing.assert_allclose(loss(0.3) - loss(0.0), 0.3 * (counts - 6.4) ** 2 / 4, rtol=1e-4)
