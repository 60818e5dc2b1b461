"""The code of the README and of the documentation runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import spikax as sx

from .conftest import MODE


ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def executed(code, name, names):
    """Runs code, and tells how often it traces its loss: once, or each step of a training compiles anew."""
    loss, traces = sx.losses.first_spike_cross_entropy, []

    def counting(*arguments, **options):
        traces.append(1)
        return loss(*arguments, **options)

    # Optax mixes dtypes, which strict promotion forbids.
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(sx.losses, "first_spike_cross_entropy", counting)
        exec(compile(code, name, "exec"), names)
    return len(traces)


@pytest.fixture(scope="module")
def scope():
    if MODE != "float32":
        pytest.skip("the README is for JAX as it comes: one mode is enough")

    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 4
    # Smaller numbers than a reader's, for the sake of time.
    code = "\n".join(blocks).replace("1000", "20").replace("50", "10").replace("121", "7")
    names: dict = {}
    assert executed(code, str(README), names) == 1
    return names


def test_the_network_of_the_readme_learns_and_shows_its_states(scope):
    assert scope["value"] > 0
    assert scope["solution"].states["output"].v.shape == (20, 7, 3)
    assert scope["solution"].spikes["hidden"].times.shape == (20, 10, 16)


def test_the_layers_of_the_readme_listen_to_each_other(scope):
    assert scope["wired"].groups() == (("a", "b"), ("out",))
    assert scope["spikes"].times.shape == (20, 3, 32)


def test_the_neuron_of_the_readme_spikes_and_adapts(scope):
    layer = sx.Layer(scope["Adapting"](), 1, weights=sx.init.constant(3.0))
    network = sx.sequential(1, layer, key=jax.random.key(0))
    inputs = sx.Spikes(jnp.arange(0.0, 60.0, 3.0)[None])
    solution = sx.simulate(network, inputs, t1=80.0, saveat=jnp.array([80.0]), max_spikes=32)
    assert solution.stats["output"].spikes > 2
    assert solution.states["output"].w[0, 0] > 0.2


def test_the_neurons_of_the_page_on_extending():
    """The network from functions learns; the template is that of the page, and agrees with the functions."""
    if MODE != "float32":
        pytest.skip("the documentation is for JAX as it comes: one mode is enough")
    page = (ROOT / "docs" / "extending.md").read_text()
    functions, template = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert template == (ROOT / "docs" / "template.py").read_text()
    names: dict = {"history": []}
    short = functions.replace("1000", "64").replace("range(100)", "range(25)").replace("50", "20")
    short = short.replace("    updates,", "    history.append(float(value))\n    updates,")
    assert executed(short, "extending.md", names) == 1
    assert len(names["history"]) == 25 and names["history"][-1] < 0.9 * names["history"][0]
    exec(compile(template, "template.py", "exec"), names)
    assert sx.check_neuron(names["Adapting"]()) == ()

    def spikes(neuron):
        layer = sx.Layer(neuron, 1, weights=sx.init.constant(3.0))
        network = sx.sequential(1, layer, key=jax.random.key(0))
        return network(sx.Spikes(jnp.arange(0.0, 60.0, 3.0)[None]), t1=80.0, max_spikes=16).times

    written = sx.neuron_from(
        initial_state=names["neuron"].start,
        dynamics=names["neuron"].functions["dynamics"],
        spike_condition=names["neuron"].functions["spike_condition"],
        reset=names["neuron"].functions["reset"],
        parameters={"tau_mem": 20.0, "step": 0.2},
    )
    assert jnp.array_equal(spikes(written), spikes(names["Adapting"]()))


def test_the_page_on_training(monkeypatch, tmp_path):
    """A network is trained, again in part, saved, and loaded."""
    if MODE != "float32":
        pytest.skip("the documentation is for JAX as it comes: one mode is enough")
    pytest.importorskip("tqdm")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "training.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    # Smaller numbers than a reader's, for the sake of time.
    short = code.replace("5000", "40").replace("1000", "20").replace("=50", "=20").replace("60,", "6,")
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(short.replace("=20,", "=2,").replace("Bar(20)", "Bar(2)"), "training.md", "exec"), names)
    assert len(names["fit"].history) == 2 and len(names["history"]) == 2 and len(names["two_speeds"].history) == 2
    files = {path.name for path in (tmp_path / "runs" / "first").iterdir()}
    assert files == {"last.eqx", "best.eqx", "metrics.csv", "metrics.json"}
    assert jnp.array_equal(names["network"].connections[1].weight, names["fit"].network.connections[1].weight)
    assert names["spikes"].times.shape == (1, 3, 1)
