"""The code of the README and of the documentation runs as it stands."""

import re
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx


pytestmark = pytest.mark.modes("float32")  # the documentation is for JAX as it comes


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
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict = {}
    assert executed("\n".join(blocks), str(README), names) == 1
    return names


def test_the_network_of_the_readme_has_a_gradient_and_shows_its_states(scope):
    assert scope["value"] > 0
    gradient = scope["gradient"]
    assert bool(jnp.all(gradient.connections[0].weight[0] != 0)) and gradient.layers["output"].neuron.tau_mem != 0
    assert scope["solution"].states["output"].v.shape == (81, 3)
    assert scope["solution"].spikes["hidden"].times.shape == (20, 8)
    assert scope["network"](scope["inputs"], t1=40.0, method=sx.EventLoop(diffrax.Heun(), dt0=0.1)).times.shape == (
        3,
        8,
    )


def test_the_neuron_of_the_readme_spikes_and_adapts(scope):
    layer = sx.Layer(scope["AdaptiveLIF"](), 1, weights=sx.init.constant(3.0))
    network = sx.sequential(1, layer, key=jax.random.key(0))
    inputs = sx.Spikes(jnp.arange(0.0, 60.0, 3.0)[None])
    solution = sx.simulate(network, inputs, t1=80.0, saveat=jnp.array([80.0]), max_spikes=32)
    assert solution.stats["output"].spikes > 2
    assert solution.states["output"].w[0, 0] > 0.2


def test_the_neurons_of_the_page_on_extending(capsys):
    """The network from functions learns; the template is that of the page, and agrees with the functions.

    The neuron as text spikes. Both methods find the same spikes with the synapse.
    """
    page = (ROOT / "docs" / "extending.md").read_text()
    functions, text, template, check, synapse = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert template == (ROOT / "docs" / "template.py").read_text()
    names: dict = {"history": []}
    short = functions.replace("1000", "64").replace("range(100)", "range(25)").replace("50", "20")
    short = short.replace("    updates,", "    history.append(float(value))\n    updates,")
    assert executed(short, "extending.md", names) == 1
    assert len(names["history"]) == 25 and names["history"][-1] < 0.9 * names["history"][0]
    of_functions = names["neuron"]
    exec(compile(text, "extending.md", "exec"), names)
    weights = {"exc": sx.init.uniform(0.0, 4.0), "inh": sx.init.uniform(0.0, 1.0)}
    network = sx.sequential(5, sx.Layer(names["neuron"], 50, weights=weights), key=jax.random.key(0))
    times = network(sx.Spikes(jnp.arange(1.0, 6.0)[:, None]), t1=20.0).times
    assert int(jnp.isfinite(times).sum()) > 5
    exec(compile(template, "template.py", "exec"), names)
    assert sx.check_neuron(names["Adapting"]()).remarks == ()
    exec(compile(check, "extending.md", "exec"), names)
    assert " ".join(capsys.readouterr().out.split()) in " ".join(page.split())

    def spikes(layer, method=None):
        network = sx.sequential(1, layer, key=jax.random.key(0))
        inputs = sx.Spikes(jnp.arange(0.0, 60.0, 3.0)[None])
        return network(inputs, t1=80.0, max_spikes=16, method=method).times

    def spikes_of(neuron):
        return spikes(sx.Layer(neuron, 1, weights=sx.init.constant(3.0)))

    written = sx.neuron_from(
        initial_state=of_functions.start,
        dynamics=of_functions.functions["dynamics"],
        spike_condition=of_functions.functions["spike_condition"],
        reset=of_functions.functions["reset"],
        parameters={"tau_mem": 20.0, "step": 0.2},
    )
    assert jnp.array_equal(spikes_of(written), spikes_of(names["Adapting"]()))

    exec(compile(synapse, "extending.md", "exec"), names)
    exact, stepped = (spikes(names["layer"], method) for method in (sx.ClosedForm(), sx.EventLoop()))
    assert int(jnp.isfinite(exact).sum()) > 2
    np.testing.assert_allclose(stepped, exact, rtol=0.0, atol=1e-2)


def test_the_page_on_training(monkeypatch, tmp_path):
    """A network is trained, again in part, saved, and loaded; another one is trained on a stream."""
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
    assert files == {"last.eqx", "best.eqx", "metrics.csv", "metrics.json", "report.html"}
    assert jnp.array_equal(names["network"].connections[1].weight, names["fit"].network.connections[1].weight)
    assert names["spikes"].times.shape == (1, 3, 1)
    assert len(names["losses"]) == 100 and np.mean(names["losses"][-10:]) < 0.3 * np.mean(names["losses"][:10])


def test_the_page_on_nir(monkeypatch, tmp_path):
    """A graph is read, written and read again, and its spikes, too."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "nir.md").read_text()
    names: dict = {}
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), "nir.md", "exec"), names)
    assert names["solution"].stats["lif"].spikes > 4
    times = names["solution"].spikes["lif"].times
    assert jnp.array_equal(names["events"]["lif"].spikes(times.shape[-1]).times[0], times)


def test_the_page_on_brian2(monkeypatch, tmp_path):
    """The script is Python. What it does in Brian2 is tested by itself."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "brian2.md").read_text()
    names: dict = {}
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), "brian2.md", "exec"), names)
    compile((tmp_path / "network.py").read_text(), "network.py", "exec")


def test_the_page_on_derivatives():
    """A Jacobian, a Hessian-vector product, and five networks that learn at once."""
    page = (ROOT / "docs" / "derivatives.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        # Fewer samples than a reader's, for the sake of time.
        exec(compile(code.replace("yin_yang(100", "yin_yang(20"), "derivatives.md", "exec"), names)
    jacobian, spikes = names["jacobian"], names["spike_times"](20.0)
    assert jacobian.shape == (10, 16) and jnp.array_equal(jacobian != 0.0, jnp.isfinite(spikes))
    loss, one, direction = names["loss"], names["one"], names["direction"]
    gradient = jax.jit(jax.grad(loss))
    after, before = (gradient(jax.tree.map(lambda x, d, h=h: x + h * d, one, direction)) for h in (1e-3, -1e-3))
    for exact, a, b in zip(*map(jax.tree.leaves, (names["product"], after, before)), strict=True):
        difference = (a - b) / 2e-3
        np.testing.assert_allclose(exact, difference, rtol=0, atol=0.02 * float(jnp.max(jnp.abs(difference))))
    assert names["values"].shape == (5,) and float(loss(names["best"])) < float(loss(one))


def test_the_page_on_simulation():
    """The printed summary is that of the page, and two parts are one long simulation."""
    page = (ROOT / "docs" / "simulation.md").read_text()
    names: dict = {}
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), "simulation.md", "exec"), names)
    solution = names["solution"]
    # Up to the iterations, which depend on rounding.
    assert all(line.rsplit(maxsplit=1)[0] in page for line in str(solution).splitlines())
    parts = [part.spikes["output"].times for part in (names["first"], names["second"])]
    found = np.sort(np.concatenate(parts, axis=-1), axis=-1)[..., :16]
    np.testing.assert_allclose(found, solution.spikes["output"].times, atol=2e-3)
