"""The examples do what they say, in a short form."""

import importlib.util
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .conftest import MODE


EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example():
    if MODE != "float32":
        pytest.skip("the examples are for JAX as it comes: one mode is enough")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    # Optax mixes dtypes, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        yield load


def test_one_neuron_with_a_dendrite_learns_xor(example):
    xor = example("dendritic_xor")
    training = xor.train(xor.dendritic, xor.first_weights(0, 4, 180.0, 300.0), steps=40)
    assert np.max(xor.accuracy(xor.dendritic, training.first)) < 1.0
    np.testing.assert_array_equal(xor.accuracy(xor.dendritic, training.last), np.ones(4))
    assert np.all(training.losses[-1] < 0.2)


def test_two_gated_units_begin_to_copy(example):
    copy = example("delay_copy")
    training = copy.train(0, steps=30)
    assert np.mean(training.losses[-5:]) < 0.9 * np.mean(training.losses[:2])


def test_the_network_of_delayed_xor_is_trained_at_all(example):
    xor = example("delayed_xor")
    training = xor.train(0, steps=2, batch=4)
    first, last = (eqx.filter(network, eqx.is_inexact_array) for network in (training.first, training.last))
    assert all(jax.tree.leaves(jax.tree.map(lambda old, new: bool(jnp.any(old != new)), first, last)))
    assert np.all(np.isfinite(training.losses))
