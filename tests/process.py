"""One of two processes that train together, with two devices each; see test_devices.py."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spikax as sx
from spikax.datasets import Loader
from spikax.train import _checkpoint


def objective(network, inputs, targets):
    times = sx.first_spike(network(inputs, 30.0, max_spikes=4))[:, 0]
    happened = jnp.isfinite(times)
    losses = jnp.where(happened, (jnp.where(happened, times, 0.0) - targets) ** 2, 100.0)
    return losses, {"latency": jnp.where(happened, times, 30.0)}


def data(failing=None):
    """Eleven samples of two input spikes. A spike before the beginning is an error."""
    times = np.sort(np.random.default_rng(0).uniform(0.0, 10.0, (11, 2, 1)))
    if failing is not None:
        times[failing] = -1.0
    return sx.Spikes(jnp.asarray(times)), jnp.linspace(8.0, 12.0, 11)


def build(seed=0):
    layer = sx.Layer(sx.LIF(), 1, weights=sx.init.normal(4.0, 0.5))
    return sx.sequential(2, layer, key=jax.random.key(seed))


def fit(directory, epochs, devices, network=None):
    network = build() if network is None else network
    training, validation = Loader(*data(), batch_size=5, seed=1), Loader(*data(), batch_size=3)
    return sx.train.fit(
        network,
        objective,
        training,
        validation,
        optimizer=optax.adam(0.05),
        epochs=epochs,
        directory=directory,
        devices=devices,
    )


def refusal(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (ValueError, RuntimeError) as error:
        return str(error)
    raise AssertionError("no error")


def never(*_):
    raise AssertionError("process 1 writes")


def main(index, port, epochs, directory):
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    devices = jax.devices()
    assert len(devices) == 4 and jax.process_index() == index
    if index == 1:
        _checkpoint.write = never
    result = fit(directory, epochs, devices)
    if index == 0:
        (directory / "result.json").write_text(json.dumps([epoch._asdict() for epoch in result.history]))
    if epochs > 1:
        return
    # A batch of five samples, three of them here and two there, and a sample that fails there.
    inputs, targets = data(failing=4)
    own = np.array_split(np.arange(5), 2)[index]
    value_and_grad = sx.train.value_and_grad(objective, devices=devices)
    told = refusal(value_and_grad, build(), sx.Spikes(inputs.times[own]), targets[own])
    assert told.startswith("Sample 4 of the batch failed. Layer `output`"), told
    told = refusal(sx.train.evaluate, build(), objective, Loader(inputs, targets, batch_size=5), devices=devices)
    assert told.startswith("Batch 1: Sample 4 of the batch failed."), told
    # Processes that do not agree.
    assert "`network` must be the same in all processes" in refusal(fit, None, 1, devices, build(seed=index))
    assert "`devices` must be of each of the 2 processes" in refusal(fit, None, 1, None)
    assert "`devices` must be of each of the 2 processes" in refusal(fit, None, 1, 2)
    # Without devices, each evaluates by itself.
    alone = sx.train.evaluate(build(), objective, Loader(*data(), batch_size=3))
    together = sx.train.evaluate(build(), objective, Loader(*data(), batch_size=3), devices=devices)
    assert all(np.isclose(alone[name], together[name], rtol=1e-12) for name in alone)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
