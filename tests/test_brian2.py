"""Scripts for Brian2: their equations are those of the classes, and where Brian2 imports, they give the same spikes.

`make test-lowest` runs them in an environment with Brian2, which does not import with NumPy 2.4 and later.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax._neuron import stops_at_arrivals
from spikax._synapse import is_synapse
from spikax.brian._models import model_of

from .helpers import single_layer


pytestmark = pytest.mark.float64

T1, DT = 40.0, 0.01
EXP = sx.ExpSynapse(5.0)
PORTS = {"exc": sx.ExpSynapse(4.0), "inh": sx.AlphaSynapse(3.0), "kick": sx.DeltaSynapse()}
EACH = jnp.asarray([1.0, 1.1])
# A neuron, whose current lets it spike several times, and the scale of its weights.
NEURONS = {
    "LIF": (sx.LIF(20.0, 0.05, EACH, -0.1, 1.6, EXP), 1.0),
    "IF": (sx.IF(10.0 * EACH, 1.0, -0.1, 0.6, EXP), 1.0),
    "ALIF": (sx.ALIF(10.0, 15.0, 0.05, 1.0, -0.1, 0.2, 1.8, EXP), 1.0),
    "EIF": (sx.EIF(10.0, 0.05, 1.0, 0.2, 1.6, -0.1, 1.6, EXP), 1.0),
    "AdEx": (sx.AdEx(5.0, 40.0, v_peak=-44.0, bias=35.0, synapse=EXP), 10.0),
    "Izhikevich": (sx.Izhikevich(0.05, 0.21, -60.0, 4.0, bias=12.0, synapse=EXP), 5.0),
    "QIF": (sx.QIF(10.0 * EACH, 3.0, EXP), 5.0),
    "ResonateAndFire": (sx.ResonateAndFire(20.0, 15.0, bias=3.0, u_reset=0.3, synapse=EXP), 5.0),
    "HodgkinHuxley": (sx.HodgkinHuxley(bias=15.0, synapse=EXP), 5.0),
    "MorrisLecar": (sx.MorrisLecar(2.0, recovery=0.5, bias=110.0, synapse=EXP), 20.0),
    "alpha": (sx.LIF(10.0, bias=1.6, synapse=sx.AlphaSynapse(3.0)), 1.0),
    "delta": (sx.LIF(10.0, bias=1.6, synapse=sx.DeltaSynapse()), 0.1),
    "hold": (sx.LIF(10.0, bias=1.6, synapse=sx.HoldSynapse()), 0.05),
    "filtered hold": (sx.LIF(10.0, bias=1.6, synapse=sx.FilteredHoldSynapse(3.0)), 0.05),
    "ports": (sx.EIF(10.0, bias=1.6, v_peak=1.6, synapse=PORTS), {"exc": 1.0, "inh": -0.5, "kick": 0.05}),
    "QIF, delta": (sx.QIF(10.0, 3.0, sx.DeltaSynapse()), 0.5),
    "conductances": (
        sx.ConductanceBased(sx.LIF(10.0, bias=1.6, synapse={"a": EXP, "b": EXP}), {"a": 3.0, "b": -0.5 * EACH}),
        {"a": 0.5, "b": 0.2},
    ),
    "conductance": (sx.ConductanceBased(sx.LIF(10.0, bias=1.6, synapse=EXP), 3.0), 0.5),
    "filtered bias": (sx.FilteredBias(sx.LIF(10.0, synapse=EXP), 2.0 * EACH, 4.0), 1.0),
    "threshold": (sx.Threshold(sx.LI(2.0, synapse=sx.ExpSynapse(2.0)), 0.5), 4.0),
    "refractory": (sx.Refractory(sx.LIF(10.0, bias=2.0, synapse=EXP), 2.0 * EACH), 1.0),
    "refractory, frozen": (sx.Refractory(sx.ALIF(10.0, 15.0, bias=2.5, synapse=EXP), 2.0, frozen=["v"]), 1.0),
    "refractory, delta": (sx.Refractory(sx.LIF(10.0, bias=2.0, synapse=sx.DeltaSynapse()), 4.0), 0.3),
    "single spike": (sx.SingleSpike(sx.LIF(10.0, bias=2.0, synapse=EXP)), 1.0),
    "single spike, free": (sx.SingleSpike(sx.LIF(10.0, bias=2.0, synapse=EXP), freezes=False), 1.0),
    "text": (
        sx.neuron_from_equations(
            """
            dv/dt = (current - v) / tau_mem : 1 (unless refractory)
            dw/dt = (tanh(v) - w) / (20*ms) : 1
            current = bias + 0.1 * sin(t / (3*ms)) + exc * (2 - v) + inh * (-1 - v) - w : 1
            """,
            threshold="1 < v",
            reset="v = -0.1 * w; w += 0.1",
            receive="v += 2 * kick",
            initial_state="w = 0.1",
            parameters={"tau_mem": 10.0 * EACH, "bias": 2.5},
            synapse=PORTS,
            refractory=1.5,
        ),
        {"exc": 0.3, "inh": 0.1, "kick": 0.02},
    ),
}
# How often a neuron spikes at least. The others do so twice.
ONCE = ("single spike", "single spike, free", "threshold")


def one_layer(name):
    """A layer of two neurons and four input channels, and input spikes on the grid of Brian2."""
    neuron, scale = NEURONS[name]
    rng = np.random.default_rng(3)
    weight = jax.tree.map(lambda scale: scale * rng.uniform(0.2, 1.0, (4, 2)), scale)
    times = np.round(np.sort(rng.uniform(0.5, 0.8 * T1, (4, 3))), 2)
    return single_layer(neuron, weight, jnp.float64), sx.Spikes(jnp.asarray(times))


def variables(state):
    """A state by variable, as the equations name them."""
    if not hasattr(state, "inner"):
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return variables(state.inner) | ({"filtered": state.i} if hasattr(state, "i") else {})


@pytest.mark.parametrize("name", [name for name in NEURONS if not name.startswith(("refractory", "single", "text"))])
def test_the_equations_are_those_of_the_class(name):
    """Rates, threshold, reset and arrivals, at random states near the one at the start."""
    neuron = jax.tree.map(lambda x: x if jnp.ndim(x) == 0 else x[0], NEURONS[name][0])
    written = model_of("neuron", neuron).neuron
    rng = np.random.default_rng(0)
    for t in (0.0, 7.0):
        state = jax.tree.map(lambda x: jnp.asarray(x + rng.uniform(0.01, 0.1)), neuron.initial_state())
        drive = jax.tree.map(lambda _: jnp.asarray(rng.uniform(0.1, 1.0)), neuron.synapse, is_leaf=is_synapse)
        drives = drive if isinstance(drive, dict) else dict.fromkeys(written.synapse, drive)
        own, given, t = variables(state), drives, jnp.asarray(t)
        pairs = [
            (variables(neuron.dynamics(t, state, drive)), written.dynamics(t, own, given)),
            (variables(neuron.reset(t, state)), written.reset(t, own)),
            (neuron.spike_condition(t, state), written.spike_condition(t, own)),
        ]
        if stops_at_arrivals(neuron):
            pairs.append((variables(neuron.receive(t, state, drive)), written.receive(t, own, given)))
        for expected, found in pairs:
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-13), found, expected)


def simulated(network, inputs):
    """The spikes that spikax finds, and the states half way."""
    solution = sx.simulate(network, inputs, T1, max_spikes=64, saveat=jnp.asarray([0.5 * T1]))
    return solution.spikes, solution.states


def recurrent_network():
    """Two recurrent layers with a delay for each synapse, on the grid; rectangles; a silent output."""
    rng = np.random.default_rng(0)

    def dense(source, target, shape, low, high):
        delay = np.round(rng.uniform(1.0, 4.0, shape), 2)
        return sx.Dense(source, target, jnp.asarray(rng.uniform(low, high, shape)), jnp.asarray(delay))

    layers = {
        "a": sx.Layer(sx.LIF(10.0, bias=jnp.asarray(rng.uniform(1.2, 1.6, 6)), synapse=EXP), 6),
        "b": sx.Layer(sx.QIF(10.0, 2.0, synapse=sx.HoldSynapse()), 4),
        "output": sx.Layer(sx.LI(10.0, synapse=EXP), 2),
    }
    kernel = jnp.asarray(rng.uniform(0.0, 0.3, (1, 1, 3, 1)))
    connections = [
        dense("a", "a", (6, 6), -0.4, 0.3),
        sx.Rectangular(dense("a", "b", (6, 4), 0.0, 1.0), jnp.asarray(2.5)),
        dense("b", "a", (4, 6), -0.4, 0.3),
        sx.Sparse("b", "output", [0, 0, 1, 3], [0, 1, 1, 0], jnp.asarray([1.0, 0.5, -0.3, 0.7]), shape=(4, 2)),
        sx.OneToOne("input", "a", jnp.asarray(rng.uniform(0.0, 1.0, 6)), delay=0.5),
        sx.Conv("input", "a", kernel, image=(3, 2), padding=(1, 0)),
    ]
    times = np.round(np.sort(rng.uniform(0.5, 30.0, (6, 3))), 2)
    return sx.Network(layers, connections, 6, "output"), sx.Spikes(jnp.asarray(times))


def test_the_script_is_python():
    """Also for a layer whose name is no name of Python, and inputs without spikes."""
    compile(sx.to_brian2(*recurrent_network(), T1), "script", "exec")
    layers = {"a 'b'": sx.Layer(sx.LIF(), 2)}
    network = sx.Network(layers, [sx.Dense("x.y", "a 'b'", jnp.ones((3, 2)))], {"x.y": 3}, "a 'b'")
    script = sx.to_brian2(network, {"x.y": sx.Events(jnp.full(2, jnp.inf), jnp.zeros(2, int), 3)}, 5, dt=0.1)
    compile(script, "script", "exec")
    assert "DT, T1 = 0.1, 5.0" in script and "source(3, [], [])" in script


def a_layer(neuron, weight=1.0):
    return single_layer(
        neuron, jax.tree.map(lambda _: np.full((1, 1), weight), neuron.synapse, is_leaf=is_synapse), float
    )


class Doubled(sx.ExpSynapse):
    """A synapse of a user, which is none of those that it derives from."""

    def drive(self, state):
        return 2.0 * state


ONE = sx.Spikes(jnp.asarray([[1.0]]))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "network, inputs, options, message",
    [
        (a_layer(sx.EGRU()), ONE, {}, r"`layers\['output'\].neuron` must be one of LIF, .*got 'EGRU'.*text"),
        (a_layer(sx.CalciumDendrite()), ONE, {}, "must be one of LIF, .*got 'CalciumDendrite'"),
        (a_layer(sx.Refractory(sx.EGRU())), ONE, {}, r"`layers\['output'\].neuron.neuron` must be one of"),
        (a_layer(sx.Refractory(sx.Refractory(sx.LIF()))), ONE, {}, "neuron.neuron` must be one of"),
        (
            a_layer(sx.Refractory(sx.LIF(synapse=sx.DeltaSynapse()), held_fraction=0.5)),
            ONE,
            {},
            "`layers.*.held_fraction` must be zero, for Brian2; got 0.5",
        ),
        (a_layer(sx.LIF(synapse=Doubled())), ONE, {}, "neuron.synapse` must be one of DeltaSynapse.*got 'Doubled'"),
        (
            a_layer(sx.neuron_from_equations("dv/dt = i - v : 1\ni = I : 1", threshold="v > 1", reset="v = 0")),
            ONE,
            {},
            "which Brian2 uses; got .'i'.",
        ),
        (a_layer(sx.LIF()), sx.Spikes(jnp.ones((2, 1, 1))), {}, r"`inputs\['input'\]` must be of one sample"),
        (a_layer(sx.LIF()), sx.Spikes(jnp.asarray([[1.001, 1.002]])), {}, "`dt` must be so short that no channel"),
        (a_layer(sx.LIF()), sx.Spikes(jnp.ones((2, 1))), {}, "`inputs` must be spikes of 1 channels"),
        (a_layer(sx.LIF()), sx.Spikes(jnp.ones((1, 1)), jnp.ones((1, 1))), {}, "without a payload, for Brian2"),
        (a_layer(sx.LIF()), ONE, {"dt": 0.0}, "`dt` must be positive"),
        (a_layer(sx.LIF()), ONE, {"t1": -1.0}, "`t1` must be after"),
        (sx.LIF(), ONE, {}, "`network` must be a `sx.Network`"),
    ],
)
def test_what_brian_cannot_hold_is_told(network, inputs, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sx.to_brian2(network, inputs, **({"t1": T1} | options))


def test_a_traced_network_is_refused():
    with pytest.raises(ValueError, match="`network` must be of known numbers"):
        eqx.filter_jit(lambda network: sx.to_brian2(network, ONE, T1))(a_layer(sx.LIF()))


@pytest.fixture(scope="module")
def in_brian(tmp_path_factory):
    """All that the scripts find in Brian2, run in one process: spikes by layer, and the states half way."""
    if importlib.util.find_spec("brian2") is None:
        pytest.skip("needs Brian2: `make test-lowest`")
    folder = tmp_path_factory.mktemp("brian2")
    for number, name in enumerate([*NEURONS, "recurrent"]):
        network, inputs = recurrent_network() if name == "recurrent" else one_layer(name)
        (folder / f"{number}.py").write_text(sx.to_brian2(network, inputs, T1, dt=DT))
    code = f"""
import json, runpy
found = []
for number in range({len(NEURONS) + 1}):
    names = runpy.run_path(f"{{number}}.py")
    spikes = {{name: [i.tolist(), t.tolist()] for name, (i, t) in names["spikes"].items()}}
    states = {{n: {{k: x[..., x.shape[-1] // 2].tolist() for k, x in s.items()}} for n, s in names["states"].items()}}
    found.append([spikes, states])
open("found.json", "w").write(json.dumps(found))
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return dict(zip([*NEURONS, "recurrent"], json.loads((folder / "found.json").read_text()), strict=True))


def lateness(found, times):
    """How late the spikes of Brian2 are, for each neuron; raises unless all neurons spike as often."""
    indices, when = map(np.asarray, found)
    late = []
    for neuron, row in enumerate(np.asarray(times)):
        own, expected = when[indices == neuron], row[np.isfinite(row)]
        assert len(own) == len(expected)
        late.append(own - expected)
    return late


@pytest.mark.parametrize("name", NEURONS)
def test_brian_finds_the_same_spikes(name, in_brian):
    """Each spike is late by a step at most, and by what those before it were late."""
    network, inputs = one_layer(name)
    spikes, _ = simulated(network, inputs)
    for late in lateness(in_brian[name][0]["output"], spikes["output"].times):
        assert len(late) >= (1 if name in ONCE else 2)
        assert np.all(late > -0.1 * DT) and np.all(late <= 1.5 * DT * np.arange(1, len(late) + 1))


def test_brian_finds_the_same_recurrent_network(in_brian):
    network, inputs = recurrent_network()
    spikes, states = simulated(network, inputs)
    found, recorded = in_brian["recurrent"]
    for name in ("a", "b"):
        late = np.concatenate(lateness(found[name], spikes[name].times))
        assert len(late) >= 8 and np.max(np.abs(late)) < 10 * DT
    np.testing.assert_allclose(recorded["output"]["v"], states["output"].v[0], atol=1e-2)
