"""The code of the README runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import spikax as sx

from .conftest import MODE


README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def scope():
    if MODE != "float32":
        pytest.skip("the README is for JAX as it comes: one mode is enough")

    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    # Smaller numbers than a reader's, for the sake of time.
    code = "\n".join(blocks).replace("1000", "20").replace("50", "10").replace("121", "7")
    names: dict = {}
    # Optax mixes dtypes, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(code, str(README), "exec"), names)
    return names


def test_the_network_of_the_readme_learns_and_shows_its_states(scope):
    assert scope["value"] > 0
    assert scope["solution"].states["output"].v.shape == (20, 7, 3)
    assert scope["solution"].spikes["hidden"].times.shape == (20, 10, 16)


def test_the_neuron_of_the_readme_spikes_and_adapts(scope):
    layer = sx.Layer(scope["Adapting"](), 1, weights=sx.init.constant(3.0))
    network = sx.sequential(1, layer, key=jax.random.key(0))
    inputs = sx.Spikes(jnp.arange(0.0, 60.0, 3.0)[None])
    solution = sx.simulate(network, inputs, t1=80.0, saveat=jnp.array([80.0]), max_spikes=32)
    assert solution.stats["output"].spikes > 2
    assert solution.states["output"].w[0, 0] > 0.2
