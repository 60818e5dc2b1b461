"""The training loop, on a problem that it solves at once."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spikax as sx


def squares(weight, inputs, targets):
    """Losses of a line through the origin; right where it is close."""
    error = weight * inputs - targets
    return error**2, {"accuracy": (jnp.abs(error) < 0.1).astype(error.dtype)}


def data(n, dtype):
    inputs = jnp.linspace(0.5, 1.5, n, dtype=dtype)
    return inputs, 3.0 * inputs


def fit(dtype, objective=squares, **options):
    given = {"optimizer": optax.sgd(0.2), "epochs": 8, "batch_size": 4, **options}
    return sx.train.fit(jnp.asarray(0.0, dtype), objective, data(10, dtype), data(7, dtype), **given)


def test_fit(dtype):
    seen = []
    found = fit(dtype, on_epoch=seen.append)
    np.testing.assert_allclose(found.network, 3.0, atol=0.05)
    assert [epoch.number for epoch in found.history] == [epoch.number for epoch in seen] == list(range(1, 9))
    assert found.history[-1].training["loss"] < 1e-2 * found.history[0].training["loss"]
    assert found.history[found.best - 1].validation["accuracy"] == 1.0


def test_the_best_epoch_is_kept(dtype):
    # The rate, far too large, is right in the first epoch and grows away in the later ones.
    found = fit(dtype, optimizer=optax.sgd(1.2), epochs=3)
    merits = [(epoch.validation["accuracy"], -epoch.validation["loss"]) for epoch in found.history]
    assert found.best == 1 + merits.index(max(merits))
    tested = sx.train.evaluate(found.network, squares, data(7, dtype), batch_size=4)
    assert tested == pytest.approx(found.history[found.best - 1].validation)


def test_the_seed_decides_the_order(dtype):
    one, same, other = (fit(dtype, epochs=1, seed=seed).network for seed in (0, 0, 1))
    assert one == same != other


def test_evaluate_counts_every_sample_once(dtype):
    inputs, targets = data(7, dtype)
    expected = float(jnp.mean((inputs - targets) ** 2))
    for batch_size in (1, 3, 7, 20):
        found = sx.train.evaluate(jnp.asarray(1.0, dtype), squares, (inputs, targets), batch_size=batch_size)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_is_an_error(dtype):
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        fit(dtype, optimizer=optax.sgd(1e30))
