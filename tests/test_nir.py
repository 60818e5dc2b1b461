"""Networks and spikes in the Neuromorphic Intermediate Representation, against its equations and in round trips."""

import itertools
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import spikax as sx
from spikax._types import resolved

from .helpers import random_inputs


T1 = 40.0
PULSE, BOX = sx.nir.Dirac(1e-3), sx.nir.Rectangle(2e-3)


def array(*values):
    return np.array(values)


# Two neurons each, with different parameters, in seconds.
POPULATIONS = {
    "LIF": nir.LIF(array(0.02, 0.01), array(0.9, 1.2), array(0.1, -0.05), array(1.0, 0.8), array(-0.2, 0.1)),
    "CubaLIF": nir.CubaLIF(
        array(5e-3, 8e-3), array(0.02, 0.01), array(2.0, 1.5), array(0.1, -0.05), array(1.0, 0.8), array(-0.2, 0.1), 3.0
    ),
    "IF": nir.IF(array(50.0, 80.0), array(1.0, 0.8), array(-0.2, 0.1)),
    "LI": nir.LI(array(0.02, 0.01), array(0.9, 1.2), array(0.1, -0.05)),
    "CubaLI": nir.CubaLI(array(5e-3, 8e-3), array(0.02, 0.01), array(2.0, 1.5), array(0.1, -0.05), 3.0),
    "I": nir.I(array(50.0, 80.0)),
}
# The weights of pulses: a current of one for a millisecond moves each of these neurons by a different amount.
WEIGHT = {"LIF": 25.0, "LI": 25.0, "CubaLIF": 3.0, "CubaLI": 3.0, "IF": 30.0, "I": 30.0}


def graph_of(*nodes, inputs=3):
    """A chain of nodes from an input of a size or shape, which nir may name as it likes."""
    shape = np.array([inputs]) if isinstance(inputs, int) else np.array(inputs)
    names = ["input", *(f"{i}" for i in range(len(nodes))), "output"]
    parts = [nir.Input({"input": shape}), *nodes, nir.Output(np.array(np.shape(nodes[-1].r)))]
    return nir.NIRGraph(dict(zip(names, parts, strict=True)), list(itertools.pairwise(names)), type_check=False)


def parameters_of(node, neuron):
    """The parameters of one neuron of a population, zero and one for those that it does not have."""
    own = {name: value[neuron] for name, value in vars(node).items() if isinstance(value, np.ndarray)}
    return {"v_leak": 0.0, "w_in": 1.0, "tau": own.get("tau_mem")} | own


def reference(node, neuron, arrivals, bias, spike, t1):
    """Spike times, and the voltage at `t1`, of one neuron under `(time, weight)`: its equations, by SciPy; seconds."""
    p, kind = parameters_of(node, neuron), type(node).__name__
    area = getattr(spike, "area", None)
    jumps = [(t, w) for t, w in arrivals] if area else [(t + d, s * w) for t, w in arrivals for d, s in ends(spike)]
    start = p["v_leak"] if kind not in ("IF", "I") else p.get("v_reset", 0.0)
    y, held, t, spikes = np.array([start, 0.0]), bias, 0.0, []

    def slope(t, y):
        v, i = y
        current = i if "Cuba" in kind else held
        v_slope = (p["v_leak"] - v + p["r"] * current) / p["tau"] if kind not in ("IF", "I") else p["r"] * held
        return [v_slope, (p["w_in"] * held - i) / p["tau_syn"] if "Cuba" in kind else 0.0]

    def crossing(t, y):
        return y[0] - p.get("v_threshold", np.inf)

    crossing.terminal, crossing.direction = True, 1.0
    for stop, weight in [*sorted(jumps), (t1, 0.0)]:
        while t < stop:
            found = solve_ivp(slope, (t, stop), y, "DOP853", events=crossing, rtol=1e-11, atol=1e-11)
            t, y = found.t[-1], found.y[:, -1]
            if found.status == 1:
                spikes.append(t)
                y = np.array([p["v_reset"], y[1]])
        if area is None:
            held += weight
        elif "Cuba" in kind:
            y = y + np.array([0.0, p["w_in"] * weight * area / p["tau_syn"]])
        else:
            y = y + np.array([p["r"] * weight * area / (p["tau"] if kind in ("LIF", "LI") else 1.0), 0.0])
        if crossing(t, y) > 0:
            spikes.append(t)
            y = np.array([p["v_reset"], y[1]])
    return np.array(spikes), y[0]


def ends(spike):
    return ((0.0, 1.0), (spike.duration, -1.0))


@pytest.mark.float64
@pytest.mark.parametrize("spike", [PULSE, BOX], ids=["pulses", "rectangles"])
@pytest.mark.parametrize("kind", POPULATIONS)
def test_neurons_follow_the_equations_of_nir(kind, spike, dtype, accurate):
    """Spikes and final voltages, with a constant input, of neurons with different parameters."""
    node = POPULATIONS[kind]
    rng = np.random.default_rng(3)
    scale = WEIGHT[kind] * (1.0 if spike is PULSE else 0.5)
    affine = nir.Affine(scale * rng.uniform(-0.3, 1.0, (2, 3)), array(0.15, 0.12))
    network = sx.from_nir(graph_of(affine, node), spike=spike, time_unit="s", dtype=dtype)
    inputs = random_inputs(1, (3, 4), 0.8 * T1, dtype)
    found = sx.simulate(network, inputs, T1, max_spikes=24)
    assert network.dtype == dtype
    for neuron in range(2):
        times = np.asarray(inputs.times, np.float64) / 1000.0
        arrivals = [(t, w) for w, train in zip(affine.weight[neuron], times, strict=True) for t in train]
        spikes, v = reference(node, neuron, arrivals, affine.bias[neuron], spike, T1 / 1000.0)
        if kind in ("LIF", "CubaLIF", "IF"):
            assert len(spikes) > 1
        train = found.spikes["1"].times[neuron]
        np.testing.assert_allclose(train[: len(spikes)], 1000.0 * spikes, rtol=0.0, atol=2.0 * accurate)
        assert not bool(jnp.any(jnp.isfinite(train[len(spikes) :])))
        state = found.end.states["1"]
        np.testing.assert_allclose(state.v[neuron], v, rtol=0.0, atol=2.0 * accurate)


@pytest.mark.float64
@pytest.mark.parametrize("spike", [PULSE, BOX], ids=["pulses", "rectangles"])
@pytest.mark.parametrize("kind", ["LIF", "LI"])
def test_voltages_that_other_neurons_receive(kind, spike, dtype, accurate):
    """A LI between linear nodes: its voltage, by SciPy, is the current of the neurons that receive it."""
    rng = np.random.default_rng(5)
    scale = 30.0 if spike is PULSE else 15.0
    first = nir.Affine(scale * rng.uniform(-0.2, 1.0, (2, 3)), array(0.3, -0.2))
    li = nir.LI(array(5e-3, 5e-3), array(0.9, 1.2), array(0.1, -0.05))
    second, node = nir.Affine(rng.uniform(0.2, 1.0, (2, 2)), array(0.1, 0.2)), POPULATIONS[kind]
    network = sx.from_nir(graph_of(first, li, second, node), spike=spike, time_unit="s", dtype=dtype)
    assert list(network.layers) == ["3"]
    inputs = random_inputs(1, (3, 4), 0.8 * T1, dtype)
    found = sx.simulate(network, inputs, T1, max_spikes=24)
    times = np.asarray(inputs.times, np.float64).ravel() / 1000.0
    weights = np.repeat(first.weight.T, 4, axis=0)
    area = getattr(spike, "area", None)
    pairs = list(zip(times, weights, strict=True))
    arrivals = [(t, w * area, 0.0) for t, w in pairs] if area else []
    arrivals += [] if area else [(t + d, 0.0 * w, s * w) for t, w in pairs for d, s in ends(spike)]
    u, held, t = li.v_leak.copy(), first.bias.copy(), 0.0
    v, spikes = node.v_leak.copy(), [[], []]
    threshold = getattr(node, "v_threshold", np.full(2, np.inf))

    def slope(t, y):
        u, v = y[:2], y[2:]
        current = second.weight @ u + second.bias
        return np.concatenate([(li.v_leak - u + li.r * held) / li.tau, (node.v_leak - v + node.r * current) / node.tau])

    crossings = [lambda t, y, k=k: y[2 + k] - threshold[k] for k in range(2)]
    for crossing in crossings:
        crossing.terminal, crossing.direction = True, 1.0
    for stop, pulse, step in [*sorted(arrivals, key=lambda part: part[0]), (T1 / 1000.0, np.zeros(2), np.zeros(2))]:
        while t < stop:
            y = np.concatenate([u, v])
            part = solve_ivp(slope, (t, stop), y, "DOP853", events=crossings, rtol=1e-11, atol=1e-11)
            t, u, v = part.t[-1], part.y[:2, -1], part.y[2:, -1].copy()
            for k in range(2):
                if part.t_events[k].size:
                    spikes[k].append(t)
                    v[k] = node.v_reset[k]
        u, held = u + li.r * pulse / li.tau, held + step
    np.testing.assert_allclose(found.end.states["3"].v, v, rtol=0.0, atol=2.0 * accurate)
    for k in range(2):
        assert kind == "LI" or len(spikes[k]) > 1
        train = found.spikes["3"].times[k]
        np.testing.assert_allclose(train[: len(spikes[k])], 1000.0 * np.array(spikes[k]), rtol=0.0, atol=accurate)
        assert not bool(jnp.any(jnp.isfinite(train[len(spikes[k]) :])))


@pytest.mark.float64
def test_a_voltage_can_be_recorded_and_received():
    two = np.array([2])
    nodes = {"input": nir.Input({"input": two}), "li": VOLTAGE, "w": nir.Linear(np.ones((2, 2))), "lif": LIF2}
    nodes |= {"a": nir.Output(two), "b": nir.Output(two)}
    edges = [("input", "li"), ("li", "w"), ("w", "lif"), ("li", "a"), ("lif", "b")]
    network = read(nir.NIRGraph(nodes, edges))
    assert network.outputs == ("li", "lif") and len(network.connections) == 2


@pytest.mark.float64
def test_decays_of_the_euler_method(dtype):
    """At the ends of steps, voltages are those of a simulator with these steps, for spikes that last one of them."""
    dt = 1e-3
    li, weight = POPULATIONS["LI"], np.array([[3.0, 1.0, -2.0], [1.0, -1.0, 4.0]])
    graph = graph_of(nir.Affine(weight, array(0.15, 0.12)), li)
    network = sx.from_nir(graph, spike=sx.nir.Rectangle(dt), time_unit="s", decay=sx.nir.Euler(dt), dtype=dtype)
    trains = np.random.default_rng(0).integers(0, 2, (30, 3))
    times = [[float(t) for t in np.flatnonzero(train)] for train in trains.T]
    inputs = sx.Spikes.from_trains(times)
    found = sx.simulate(network, inputs, 30.0, saveat=jnp.arange(1.0, 31.0, dtype=dtype))
    v, expected = li.v_leak.copy(), []
    for train in trains:
        v = v + dt / li.tau * (li.v_leak - v + li.r * (weight @ train + array(0.15, 0.12)))
        expected.append(v)
    np.testing.assert_allclose(found.states["1"].v, expected, rtol=0.0, atol=1e-12)
    # A pulse moves the voltage as a spike moves it in one step.
    network = sx.from_nir(graph, spike=sx.nir.Dirac(dt), time_unit="s", decay=sx.nir.Euler(dt), dtype=dtype)
    expected = weight * (dt * li.r / li.tau)[:, None]
    np.testing.assert_allclose(network.connections[0].weight, expected.T, rtol=1e-14)


@pytest.mark.modes("float32")
def test_a_reset_by_subtraction_that_makes_no_difference():
    """It is that to a `v_reset` of zero where voltages have no jumps."""
    lif = without("v_reset", np.zeros(2))
    cuba = nir.CubaLIF(
        **{n: v for n, v in vars(POPULATIONS["CubaLIF"]).items() if "type" not in n} | {"v_reset": np.zeros(2)}
    )
    for node, spike in ((lif, BOX), (cuba, PULSE), (cuba, BOX)):
        networks = [read(graph_of(node, inputs=2), spike=spike, reset=reset) for reset in ("value", "subtraction")]
        assert eqx.tree_equal(*networks)


def thresholds(spike, dtype, **options):
    """A voltage with a threshold, whose spikes another one receives."""
    li, two = POPULATIONS["CubaLI"], np.array([2])
    nodes = {"input": nir.Input({"input": np.array([3])}), "w": nir.Linear(np.full((2, 3), 3.0)), "li": li}
    nodes |= {"spikes": nir.Threshold(array(0.5, 0.7)), "after": POPULATIONS["I"], "output": nir.Output(two)}
    edges = [("input", "w"), ("w", "li"), ("li", "spikes"), ("spikes", "after"), ("after", "output")]
    return sx.from_nir(nir.NIRGraph(nodes, edges), spike=spike, time_unit="s", dtype=dtype, **options)


@pytest.mark.float64
def test_a_threshold_emits_a_pulse_as_its_input_rises(dtype, accurate):
    """The rises of the voltage that SciPy finds, and what the neurons behind them receive."""
    network = thresholds(PULSE, dtype)
    assert list(network.layers) == ["spikes", "after"]
    inputs = sx.Spikes(jnp.asarray([[2.0, 82.0], [3.0, 83.0], [4.0, 84.0]], dtype))
    found = sx.simulate(network, inputs, 120.0)
    node, arrivals = POPULATIONS["CubaLI"], [(t / 1000.0, 3.0) for t in (2.0, 3.0, 4.0, 82.0, 83.0, 84.0)]
    for neuron, threshold in enumerate((0.5, 0.7)):
        ts = np.linspace(0.0, 0.12, 121)
        v = [reference(node, neuron, [a for a in arrivals if a[0] <= t], 0.0, PULSE, t)[1] for t in ts]
        (rises,) = np.nonzero((np.array(v[1:]) >= threshold) & (np.array(v[:-1]) < threshold))
        times = np.asarray(found.spikes["spikes"].times[neuron, : len(rises)])
        assert len(rises) == int(found.spikes["spikes"].count[neuron]) == 2
        assert np.all((times >= 1000.0 * ts[rises]) & (times <= 1000.0 * ts[rises + 1]))
        r = POPULATIONS["I"].r[neuron]
        np.testing.assert_allclose(found.end.states["after"].v[neuron], 2.0 * r * PULSE.area, atol=accurate)


# The time steps with an input spike, and those with an output spike, of the example of the NIR paper.
STEPS_IN = [60, 220, 270, 310, 320, 350, 370, 400, 410, *range(430, 540, 10)]
STEPS_IN += [*range(670, 790, 10), 840, 850]
STEPS_OUT = [460, 510, 710, 760]


@pytest.mark.modes("float32", "float64")
def test_the_example_of_the_paper(dtype):
    """Rectangles of one time step give the spikes of its exact simulation. With pulses, two come earlier."""
    one = np.ones(1)
    lif = nir.LIF(0.0025 * one, one, 0.0 * one, 0.1 * one, 0.0 * one)
    graph = graph_of(nir.Affine(np.ones((1, 1)), np.zeros(1)), lif, inputs=1)
    inputs = sx.Spikes(jnp.asarray(0.1 * np.array(STEPS_IN), dtype)[None])

    def steps(spike):
        times = sx.from_nir(graph, spike=spike, time_unit="s")(inputs, t1=100.0).times
        return np.floor(10.0 * times[jnp.isfinite(times)] + 1e-3).tolist()

    assert steps(sx.nir.Rectangle(1e-4)) == STEPS_OUT
    assert steps(sx.nir.Dirac(1e-4)) == [450, 500, 710, 760]


def readout(*shape):
    """Integrators in which a pulse of weight one has the weight one."""
    return nir.I(np.ones(shape))


def read(graph, **options):
    return sx.from_nir(graph, **{"spike": sx.nir.Dirac(), "time_unit": "s"} | options)


def matrix(connection):
    """The weights of a connection, `(sources, targets)`."""
    synapses = resolved(connection).synapses()
    weight = np.asarray(synapses.weight)
    if synapses.source is None:
        return weight
    exists = np.ones(weight.shape, bool) if synapses.exists is None else np.asarray(synapses.exists)
    found = np.zeros(connection.shape)
    np.add.at(found, (np.asarray(synapses.source), np.arange(weight.shape[1])[None]), np.where(exists, weight, 0.0))
    return found


def convolved(shape, kernel, stride=(1, 1), padding="VALID", dilation=(1, 1), groups=1):
    """The matrix of a convolution, by JAX."""
    size = int(np.prod(shape))
    images = jnp.eye(size, dtype=jnp.float32).reshape(size, *shape)
    kernel = jnp.asarray(kernel, jnp.float32)
    options = {"rhs_dilation": dilation, "feature_group_count": groups}
    return np.asarray(jax.lax.conv_general_dilated(images, kernel, stride, padding, **options)).reshape(size, -1)


KERNEL = np.random.default_rng(0).standard_normal((4, 2, 3, 2))
LINEAR = np.random.default_rng(1).standard_normal((2, 4, 3))


def conv2d(weight=KERNEL, shape=(5, 4), stride=1, padding=0, dilation=1, groups=1):
    return nir.Conv2d(shape, weight, stride, padding, dilation, groups, np.zeros(len(weight)))


def pool(kind, size, stride, padding=(0, 0)):
    return kind(np.array(size), np.array(stride), np.array(padding))


CONNECTIONS = {
    "linear": ([nir.Linear(LINEAR[0])], (3,), (4,), sx.Dense, LINEAR[0].T),
    "linear of rows": ([nir.Linear(LINEAR)], (2, 3), (2, 4), sx.Sparse, None),
    "scale": ([nir.Scale(LINEAR[0])], (4, 3), (4, 3), sx.OneToOne, np.diag(LINEAR[0].ravel())),
    "two": ([nir.Linear(LINEAR[0]), nir.Scale(array(1.0, 2.0, 3.0, -1.0))], (3,), (4,), sx.Dense, None),
    "conv1d": (
        [nir.Conv1d(7, KERNEL[:, :, :, 0], 2, 1, 2, 1, np.zeros(4))],
        (2, 7),
        (4, 3),
        sx.Conv,
        convolved((2, 1, 7), KERNEL[:, :, None, :, 0], (1, 2), [(0, 0), (1, 1)], (1, 2)),
    ),
    "conv2d": (
        [conv2d(stride=(2, 1), padding=(1, 2), dilation=(1, 2))],
        (2, 5, 4),
        (4, 3, 6),
        sx.Conv,
        convolved((2, 5, 4), KERNEL, (2, 1), [(1, 1), (2, 2)], (1, 2)),
    ),
    "groups": ([conv2d(groups=2)], (4, 5, 4), (4, 3, 3), sx.Conv, convolved((4, 5, 4), KERNEL, groups=2)),
    "same": ([conv2d(padding="same")], (2, 5, 4), (4, 5, 4), sx.Sparse, convolved((2, 5, 4), KERNEL, padding="SAME")),
    "valid": ([conv2d(padding="valid")], (2, 5, 4), (4, 3, 3), sx.Conv, convolved((2, 5, 4), KERNEL)),
    "sum": (
        [pool(nir.SumPool2d, (2, 3), (2, 1), (1, 0))],
        (2, 5, 4),
        (2, 3, 2),
        sx.Conv,
        convolved((2, 5, 4), np.ones((2, 1, 2, 3)), (2, 1), [(1, 1), (0, 0)], groups=2),
    ),
    "average": (
        [pool(nir.AvgPool2d, (2, 2), (2, 2))],
        (2, 4, 4),
        (2, 2, 2),
        sx.Conv,
        convolved((2, 4, 4), np.full((2, 1, 2, 2), 0.25), (2, 2), groups=2),
    ),
    "pooled": (
        [pool(nir.SumPool2d, (2, 2), (2, 2)), conv2d(shape=(4, 3)), nir.Flatten({"input": None}, 0, -1)],
        (2, 8, 6),
        (16,),
        sx.Sparse,
        convolved((2, 8, 6), np.ones((2, 1, 2, 2)), (2, 2), groups=2) @ convolved((2, 4, 3), KERNEL),
    ),
}


@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", CONNECTIONS)
def test_linear_nodes_are_matrices(name):
    nodes, shape, shape_out, kind, expected = CONNECTIONS[name]
    network = read(graph_of(*nodes, readout(*shape_out), inputs=shape))
    (connection,) = network.connections
    assert type(connection) is kind
    if name == "linear of rows":
        expected = np.zeros((6, 8))
        for row in range(2):
            expected[3 * row : 3 * row + 3, 4 * row : 4 * row + 4] = LINEAR[row].T
    if name == "two":
        expected = LINEAR[0].T * nodes[1].scale
    np.testing.assert_allclose(matrix(connection), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.modes("float32")
def test_constants_pass_the_linear_nodes():
    """Each bias is added once, though two edges lead to it, and is convolved by what follows."""
    bias = array(0.5, -1.0)
    conv = nir.Conv2d((3, 3), KERNEL[:, :, :2, :2], 1, 0, 1, 1, array(0.1, 0.2, 0.3, 0.4))
    graph = nir.NIRGraph(
        {
            "a": nir.Input({"input": np.array([2, 5, 5])}),
            "b": nir.Input({"input": np.array([2, 5, 5])}),
            "first": nir.Conv2d((5, 5), np.ones((2, 2, 3, 3)), 1, 0, 1, 1, bias),
            "second": conv,
            "delay": nir.Delay(np.full((4, 2, 2), 1e-3)),
            "li": readout(4, 2, 2),
            "out": nir.Output(np.array([4, 2, 2])),
        },
        [("a", "first"), ("b", "first"), ("first", "second"), ("second", "delay"), ("delay", "li"), ("li", "out")],
    )
    network = read(graph)
    image = np.repeat(bias, 9)
    expected = image @ convolved((2, 3, 3), conv.weight) + np.repeat(conv.bias, 4)
    np.testing.assert_allclose(network.layers["li"].neuron.bias, expected, rtol=1e-5)
    assert [c.source for c in network.connections] == ["a", "b"]
    assert all(c.delay == 1.0 for c in network.connections)


@pytest.mark.modes("float32")
def test_delays_add_up():
    """Delays before and after a matrix depend on source and target; those between two matrices, on the way."""
    into, out = array(1e-3, 2e-3, 0.0), array(0.0, 5e-3, 1e-3, 0.0)
    (dense,) = read(graph_of(nir.Delay(into), nir.Linear(LINEAR[0]), nir.Delay(out), readout(4))).connections
    assert type(dense) is sx.Dense
    np.testing.assert_allclose(dense.delay.value, 1000.0 * (into[:, None] + out), rtol=1e-6)
    (first,) = read(graph_of(nir.Delay(into), nir.Linear(LINEAR[0]), readout(4))).connections
    np.testing.assert_allclose(first.delay.value, 1000.0 * into, rtol=1e-6)
    (between,) = read(
        graph_of(nir.Linear(LINEAR[0]), nir.Delay(out), nir.Linear(LINEAR[1, :2].T @ np.ones((2, 4))), readout(3))
    ).connections
    assert type(between) is sx.Sparse and between.weight.shape == (3 * 4 * 3,)
    np.testing.assert_allclose(np.unique(between.delay.value), [0.0, 1.0, 5.0], rtol=1e-6)


def nested(recurrent):
    """An inner graph with a cycle, within an outer one."""
    lif = POPULATIONS["CubaLIF"]
    nodes = {
        "in": nir.Input({"input": np.array([2])}),
        "lif": lif,
        "loop": nir.Linear(recurrent),
        "out": nir.Output(np.array([2])),
    }
    inner = nir.NIRGraph(nodes, [("in", "lif"), ("lif", "loop"), ("loop", "lif"), ("lif", "out")])
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "fc": nir.Linear(LINEAR[0, :2] * 3.0),
        "inner": inner,
        "li": POPULATIONS["LI"],
        "output": nir.Output(np.array([2])),
        "voltage": nir.Output(np.array([2])),
    }
    edges = [("input", "fc"), ("fc", "inner"), ("inner", "output"), ("inner", "li"), ("li", "voltage")]
    return nir.NIRGraph(nodes, edges)


@pytest.mark.float64
def test_nested_graphs_and_cycles(dtype, close, tmp_path):
    """The network is that written by hand, also from a file."""
    recurrent = array([0.0, -1.0], [2.0, 0.0])
    graph, lif, li = nested(recurrent), POPULATIONS["CubaLIF"], POPULATIONS["LI"]
    nir.write(tmp_path / "graph.nir", graph)

    def fixed(value):
        return sx.Fixed(jnp.asarray(value, dtype))

    v = {"v_rest": fixed(lif.v_leak), "v_threshold": fixed(lif.v_threshold), "v_reset": fixed(lif.v_reset)}
    neuron = sx.LIF(fixed(1000.0 * lif.tau_mem), synapse=sx.ExpSynapse(fixed(1000.0 * lif.tau_syn)), **v)
    reader = sx.LI(fixed(1000.0 * li.tau), fixed(li.v_leak), synapse=sx.DeltaSynapse())
    gain, to_li = lif.w_in * 1e-3 / lif.tau_syn * lif.r, li.r * 1e-3 / li.tau
    connections = [
        sx.Dense("input", "a", jnp.asarray(3.0 * LINEAR[0, :2].T * gain, dtype)),
        sx.Dense("a", "a", jnp.asarray(recurrent.T * gain, dtype)),
        sx.OneToOne("a", "b", jnp.asarray(to_li, dtype)),
    ]
    layers = {"a": sx.Layer(neuron, 2), "b": sx.Layer(reader, 2)}
    inputs, t1 = random_inputs(2, (3, 4), 30.0, dtype), T1
    expected = sx.simulate(sx.Network(layers, connections, 3, ("a", "b")), inputs, t1, max_spikes=16)
    assert int(expected.stats["a"].spikes) > 4
    for source in (graph, tmp_path / "graph.nir"):
        network = sx.from_nir(source, spike=PULSE, time_unit="s", dtype=dtype)
        assert network.outputs == ("inner.lif", "li")
        found = sx.simulate(network, inputs, t1, max_spikes=16)
        np.testing.assert_allclose(found.spikes["inner.lif"].times, expected.spikes["a"].times, rtol=close)
        np.testing.assert_allclose(found.end.states["li"].v, expected.end.states["b"].v, atol=50 * close)


def weights(dtype, shape, low=0.5, high=3.0):
    return jnp.asarray(np.random.default_rng(sum(np.ravel(shape))).uniform(low, high, shape), dtype)


def spiking(dtype, **options):
    """Neurons with different parameters."""
    synapse = sx.ExpSynapse(weights(dtype, 4, 3.0, 6.0))
    parameters = {"tau_mem": weights(dtype, 4, 8.0, 20.0), "v_rest": 0.1, "v_reset": weights(dtype, 4, -0.3, 0.0)}
    return sx.LIF(**{"synapse": synapse} | parameters | options)


def one(neuron, *connections, size=4, inputs=4):
    return sx.Network({"a": sx.Layer(neuron, size)}, connections, inputs, "a")


def dense(dtype, delay=None, scale=1.0):
    return sx.Dense("input", "a", scale * weights(dtype, (4, 4)), delay)


def sparse(dtype, delay=None):
    lists = [0, 1, 1, 3, 0], [1, 0, 2, 3, 2]
    return sx.Sparse("input", "a", *lists, weights(dtype, 5, 3.0, 9.0), shape=(4, 4), delay=delay)


def recurrent(dtype):
    loop = sx.Dense("a", "a", weights(dtype, (4, 4), -1.0, 0.5), 1.5)
    layers = {"a": sx.Layer(spiking(dtype), 4), "b": sx.Layer(sx.LI(12.0), 4)}
    return sx.Network(layers, [dense(dtype), loop, sx.OneToOne("a", "b", weights(dtype, 4))], 4, ("a", "b"))


def images(dtype):
    """A convolution and a list of neurons that receives from it."""
    first = sx.Conv("input", "a", weights(dtype, (2, 1, 2, 2), 0.0, 0.6), image=(3, 3), padding=(0, 1), delay=1.0)
    second = sx.Dense("a", "b", weights(dtype, (16, 3), 0.0, 1.0), 2.0)
    layers = {
        "a": sx.Layer(sx.LIF(synapse=sx.DeltaSynapse(), bias=jnp.repeat(weights(dtype, 2, 0.0, 0.5), 8)), 16),
        "b": sx.Layer(sx.LIF(), 3),
    }
    return sx.Network(layers, [first, second], 9, "b")


def crossing(dtype, neuron, **options):
    """Voltages that make spikes, which other neurons receive."""
    layers = {"a": sx.Layer(sx.Threshold(neuron, weights(dtype, 4, 0.3, 0.6)), 4), "b": sx.Layer(sx.LIF(**options), 4)}
    return sx.Network(layers, [dense(dtype), sx.OneToOne("a", "b", weights(dtype, 4, 3.0, 9.0))], 4, ("a", "b"))


def rectangular(dtype, neuron):
    return one(neuron, sx.Rectangular(dense(dtype), 2.5))


DELTA, STEP = sx.DeltaSynapse(), sx.nir.Rectangle(2.5e-3)
# Networks by what they show, each with what a spike is.
NETWORKS = {
    "filters": (lambda t: one(spiking(t), dense(t)), sx.nir.Dirac()),
    "recurrent": (recurrent, sx.nir.Dirac()),
    "delays by source": (lambda t: one(spiking(t), dense(t, weights(t, 4))), sx.nir.Dirac()),
    "delays by synapse": (lambda t: one(spiking(t), dense(t, weights(t, (4, 4)))), sx.nir.Dirac()),
    "sparse": (lambda t: one(spiking(t), sparse(t)), sx.nir.Dirac()),
    "sparse with delays": (lambda t: one(spiking(t), sparse(t, weights(t, 5))), sx.nir.Dirac()),
    "images with a bias": (images, sx.nir.Dirac()),
    "filtered bias": (lambda t: one(sx.FilteredBias(sx.LIF(), weights(t, 4)), dense(t)), sx.nir.Dirac()),
    "pulses": (lambda t: one(spiking(t, synapse=DELTA, bias=0.25), dense(t, scale=0.2)), sx.nir.Dirac()),
    "integrators": (lambda t: one(sx.IF(synapse=DELTA), dense(t, scale=0.2)), sx.nir.Dirac()),
    "integrators with a bias": (lambda t: one(sx.IF(bias=0.5, synapse=DELTA), dense(t, scale=0.2)), PULSE),
    "thresholds": (lambda t: crossing(t, sx.LI(9.0)), sx.nir.Dirac()),
    "thresholds with a filtered bias": (lambda t: crossing(t, sx.FilteredBias(sx.LI(9.0), 0.1)), sx.nir.Dirac()),
    "thresholds with a bias": (lambda t: crossing(t, sx.LI(bias=0.1, synapse=DELTA), synapse=DELTA), sx.nir.Dirac()),
    "rectangles": (lambda t: rectangular(t, spiking(t, synapse=sx.HoldSynapse())), STEP),
    "filtered rectangles": (lambda t: rectangular(t, sx.LIF(10.0, synapse=sx.FilteredHoldSynapse(4.0))), STEP),
    "rectangles into integrators": (lambda t: rectangular(t, sx.IF(7.0, synapse=sx.HoldSynapse())), STEP),
}


@pytest.mark.modes("float64")
@pytest.mark.parametrize("name", NETWORKS)
def test_round_trips(name, dtype, tmp_path):
    """A network comes back from a file with the same spikes, to the bit: biases to their last digit."""
    make, spike = NETWORKS[name]
    network = make(dtype)
    path = tmp_path / "network.nir"
    nir.write(path, sx.to_nir(network, spike=spike))
    back = sx.from_nir(path, spike=spike, time_unit="s", dtype=dtype)
    assert {n: layer.size for n, layer in back.layers.items()} == {n: layer.size for n, layer in network.layers.items()}
    kinds = [sorted(type(c).__name__ for c in net.connections) for net in (network, back)]
    assert kinds[0] == kinds[1] and back.outputs == network.outputs
    inputs = random_inputs(5, (network.inputs["input"], 4), 30.0, dtype)
    expected, found = (sx.simulate(net, inputs, T1, max_spikes=32).spikes for net in (network, back))
    assert sum(int(spikes.count.sum()) for spikes in expected.values()) > 4
    for layer, spikes in expected.items():
        tolerance = (1e-13 if dtype == jnp.float64 else 1e-6) if "bias" in name else 0.0
        np.testing.assert_allclose(found[layer].times, spikes.times, rtol=tolerance)


@pytest.mark.modes("float32")
def test_written_graphs_have_the_types_of_nir():
    """Its own check of types accepts them."""
    for name in ("recurrent", "images with a bias", "pulses", "delays by synapse"):
        make, spike = NETWORKS[name]
        assert sx.to_nir(make(jnp.float32), spike=spike, time_unit="ms").check_types()


@pytest.mark.modes("float32")
def test_spikes_in_the_format_of_nir(tmp_path):
    times = random_inputs(1, (2, 3, 4), T1, jnp.float32, silent=0.3)
    spikes = {"a": times, "b": times.events()}
    data = sx.to_nir_data(spikes, T1, time_unit="s")
    assert data.nodes["a"].observables["spikes"].t_max == T1 / 1000.0
    nir.write_data(tmp_path / "spikes.h5", data)
    for source in (data, tmp_path / "spikes.h5"):
        found = sx.from_nir_data(source, time_unit="s")
        for name in spikes:
            np.testing.assert_array_equal(found[name].spikes(4).times, times.times)


def chain(*nodes, **options):
    return read(graph_of(*nodes, **options), dtype=jnp.float32)


LIF2 = POPULATIONS["LIF"]


def without(field, value):
    """A population with another parameter."""
    return nir.LIF(**{n: v for n, v in vars(LIF2).items() if n not in ("input_type", "output_type")} | {field: value})


VOLTAGE = nir.LI(array(0.02, 0.02), array(0.9, 1.2), array(0.1, -0.05))


def beside_a_filter():
    """Neurons that receive spikes, and voltages that other spikes have become."""
    nodes = {"input": nir.Input({"input": np.array([2])}), "li": VOLTAGE, "lif": LIF2}
    edges = [("input", "li"), ("li", "lif"), ("input", "lif"), ("lif", "output")]
    return nir.NIRGraph(nodes | {"output": nir.Output(np.array([2]))}, edges)


def looped():
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        "a": nir.Scale(np.ones(2)),
        "b": LIF2,
        "o": nir.Output(np.array([2])),
    }
    return nir.NIRGraph(nodes, [("input", "a"), ("a", "a"), ("a", "b"), ("b", "o")])


# Graphs and arguments that are refused, with what the message says.
REFUSED_GRAPHS = {
    "spike": (lambda: sx.from_nir(graph_of(LIF2, inputs=2), time_unit="s"), "`spike` must be given.*`0`.*Rectangle"),
    "spike by name": (lambda: chain_with(spike="dirac"), "`spike` must be a `sx.nir.Dirac` or a `sx.nir.Rectangle`"),
    "unit": (lambda: sx.from_nir(graph_of(LIF2, inputs=2), spike=PULSE), "`time_unit` must be.*`0.tau`.*seconds"),
    "unknown unit": (lambda: chain_with(time_unit="min"), "`time_unit` must be one of .*got 'min'"),
    "graph": (lambda: read(3), "`graph` must be a `nir.NIRGraph`"),
    "threshold": (
        lambda: chain(nir.Threshold(np.ones(2)), LIF2, inputs=2),
        "`0` must be a Threshold of one LI, CubaLI",
    ),
    "threshold of rectangles": (
        lambda: thresholds(BOX, jnp.float32),
        "`spikes`, a Threshold, has no exact counterpart: .*With `threshold='rise'`",
    ),
    "analog": (
        lambda: chain(POPULATIONS["CubaLI"], LIF2, inputs=2),
        "`0`, a CubaLI, has no exact counterpart: it sends its voltage to `1`.*a LI can be a filter",
    ),
    "several filters": (
        lambda: chain(POPULATIONS["LI"], LIF2, inputs=2),
        "`0`, a LI, .*and has several time constants",
    ),
    "filter of a filter": (lambda: chain(VOLTAGE, POPULATIONS["CubaLIF"], inputs=2), "`1`, a CubaLIF, .*of `0`, a fil"),
    "two filters": (lambda: chain(VOLTAGE, VOLTAGE, LIF2, inputs=2), "`1`, a LI, .*a filter of a filter"),
    "filtered and not": (lambda: read(beside_a_filter()), "`lif`, a LIF, .*different filters: the voltages of li, and"),
    "decay": (lambda: chain_with(decay=1e-3), "`decay` must be None or a `sx.nir.Euler`"),
    "step": (lambda: chain_with(decay=sx.nir.Euler(0.01)), "`0.tau` must be above the step of `decay`, 0.01"),
    "reset": (lambda: chain_with(reset="zero"), r"`reset` must be one of \['value', 'subtraction'\]"),
    "subtraction": (
        lambda: chain_with(reset="subtraction"),
        "`0`, a LIF, .*`v_reset` is another. With `reset='value'`, the default, the voltage is reset to `v_reset`",
    ),
    "subtraction of pulses": (
        lambda: read(graph_of(without("v_reset", np.zeros(2)), inputs=2), reset="subtraction"),
        "`0`, a LIF, .*pulses move its voltage beyond.*Rectangle",
    ),
    "rise": (lambda: chain_with(threshold="above"), r"`threshold` must be None or one of \['rise'\]"),
    "loop": (lambda: read(looped()), "`a` must be no part of a cycle without a neuron"),
    "output": (lambda: chain_to_output(), "`output` must be an Output of one node of neurons.*Linear"),
    "shape": (lambda: chain(nir.Linear(LINEAR[0]), LIF2), r"`1` must be the target of signals of shape \(2,\)"),
    "tau": (lambda: chain(without("tau", array(0.02, 0.0)), inputs=2), "`0.tau` must be positive"),
    "finite": (lambda: chain(without("v_leak", array(np.nan, 0.0)), inputs=2), "`0.v_leak` must be finite"),
    "resistance": (lambda: chain(nir.IF(array(1.0, -1.0), np.ones(2)), inputs=2), "`0.r` must be positive"),
    "delay": (lambda: chain(nir.Delay(array(1.0, -1.0)), LIF2, inputs=2), "`0.delay` must be at least 0"),
    "same": (
        lambda: chain(conv2d(padding="same", stride=2), readout(4, 3, 2), inputs=(2, 5, 4)),
        "`0.stride` must be o",
    ),
    "channels": (lambda: chain(conv2d(), readout(4, 3, 3), inputs=(3, 5, 4)), "`0` must be the target of 2 channels"),
    "image": (lambda: chain(conv2d(), readout(4, 3, 3), inputs=(2, 5, 5)), "`0.input_shape` must be"),
    "axes": (lambda: chain(conv2d(), readout(4, 3, 3), inputs=40), "`0` must be the target of signals with 3 axes"),
}


def chain_with(**options):
    return read(graph_of(LIF2, inputs=2), **options)


def chain_to_output():
    nodes = {"input": nir.Input({"input": np.array([2])}), "lif": LIF2, "w": nir.Linear(np.ones((2, 2)))}
    return read(
        nir.NIRGraph(nodes | {"output": nir.Output(np.array([2]))}, [("input", "lif"), ("lif", "w"), ("w", "output")])
    )


@pytest.mark.unchecked
@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", REFUSED_GRAPHS)
def test_graphs_without_an_exact_counterpart_are_refused(name):
    call, message = REFUSED_GRAPHS[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.modes("float32")
def test_what_does_not_matter_may_be_unknown():
    """The unit of time does not matter for pulses into integrators, nor the spike for neurons without inputs."""
    assert sx.from_nir(graph_of(nir.IF(np.ones(2), np.ones(2)), inputs=2), spike=sx.nir.Dirac()).inputs == {"input": 2}
    nodes = {"input": nir.Input({"input": np.array([2])}), "lif": LIF2, "out": nir.Output(np.array([2]))}
    alone = nir.NIRGraph(nodes, [("lif", "out")], type_check=False)
    assert sx.from_nir(alone, time_unit="ms").layers["lif"].size == 2


def written(neuron, *connections, size=4, **options):
    return sx.to_nir(one(neuron, *connections, size=size), **options)


FLOAT = jnp.float32
MIXED = sx.Conv("input", "a", jnp.ones((1, 1, 1, 1)), image=(2, 2))
IMAGE = sx.Conv("input", "a", jnp.ones((1, 1, 2, 2)), image=(3, 3))
REFUSED_NETWORKS = {
    "network": (lambda: sx.to_nir(None), "`network` must be a `sx.Network`"),
    "neuron": (lambda: written(sx.QIF()), r"`layers\['a'\].neuron` must be one of LIF, IF, LI, Integrator.*got 'QIF'"),
    "threshold": (lambda: written(sx.Threshold(sx.LIF())), "must be a LI or Integrator in a Threshold, for NIR"),
    "wrapper": (lambda: written(sx.Refractory(sx.LIF())), "got 'Refractory'"),
    "synapse": (
        lambda: written(sx.LIF(synapse=sx.AlphaSynapse()), dense(FLOAT)),
        "`sx.DeltaSynapse` or `sx.ExpSynapse`",
    ),
    "integrator": (lambda: written(sx.IF(), dense(FLOAT)), "must be a `sx.DeltaSynapse`, for NIR"),
    "bias": (
        lambda: written(sx.LIF(bias=1.0), dense(FLOAT)),
        "bias` must be zero with a filtered synapse.*FilteredBias",
    ),
    "filter": (
        lambda: written(sx.FilteredBias(sx.LIF(), 1.0, 3.0), dense(FLOAT)),
        "tau` must be that of an exponential",
    ),
    "rectangles": (
        lambda: sx.to_nir(rectangular(FLOAT, sx.LIF(synapse=sx.ExpSynapse()))),
        "must be none of rectangular",
    ),
    "duration": (
        lambda: sx.to_nir(rectangular(FLOAT, sx.LIF(synapse=sx.HoldSynapse())), spike=BOX),
        "duration` must be 2.0 ms",
    ),
    "pulses": (
        lambda: written(sx.LIF(synapse=sx.HoldSynapse()), dense(FLOAT), spike=BOX),
        "must be a `sx.Rectangular`",
    ),
    "bias of an image": (
        lambda: sx.to_nir(one(sx.LIF(bias=jnp.arange(4.0), synapse=DELTA), IMAGE, inputs=9)),
        "bias` must be one for each channel of an image",
    ),
    "list": (
        lambda: written(sx.LIF(), MIXED, dense(FLOAT)),
        r"`connections\[1\]` must be a `sx.Conv` or `sx.OneToOne`",
    ),
    "unit": (lambda: written(sx.LIF(), time_unit="h"), "`time_unit` must be one of"),
}


@pytest.mark.unchecked
@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", REFUSED_NETWORKS)
def test_networks_that_nir_cannot_hold_are_refused(name):
    call, message = REFUSED_NETWORKS[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


EVENTS = nir.EventData(np.array([[0, 1]]), np.array([[0.1, 0.2]]), 2, 1.0)


def data(**observables):
    return nir.NIRGraphData({"a": nir.NIRNodeData(observables)})


REFUSED_DATA = {
    "spikes": (
        lambda: sx.to_nir_data(random_inputs(0, (2, 2), 1.0, FLOAT), 1.0, time_unit="s"),
        "`spikes` must be a dic",
    ),
    "unit": (lambda: sx.to_nir_data({}, 1.0, time_unit=None), "`time_unit` must be one of"),
    "payload": (
        lambda: sx.to_nir_data({"a": sx.Spikes(jnp.ones((1, 1)), jnp.ones((1, 1)))}, 1.0, time_unit="s"),
        "without a payload",
    ),
    "observable": (lambda: sx.from_nir_data(data(v=EVENTS), time_unit="s"), r"`observable` must be one of.*\['v'\]"),
    "grid": (
        lambda: sx.from_nir_data(data(spikes=nir.TimeGriddedData(np.zeros((1, 2, 3), bool), 0.1)), time_unit="s"),
        "`a.spikes` must be a `nir.EventData`.*to_event",
    ),
    "index": (
        lambda: sx.from_nir_data(
            data(spikes=nir.EventData(np.array([[-1]]), np.array([[0.1]]), 2, 1.0)), time_unit="s"
        ),
        "inf where the index is -1",
    ),
    "data": (lambda: sx.from_nir_data(3, time_unit="s"), "`data` must be a `nir.NIRGraphData`"),
}


@pytest.mark.unchecked
@pytest.mark.modes("float32")
@pytest.mark.parametrize("name", REFUSED_DATA)
def test_other_data_are_refused(name):
    call, message = REFUSED_DATA[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.unchecked
@pytest.mark.modes("float32")
def test_what_a_spike_is():
    for call in (lambda: sx.nir.Dirac(0.0), lambda: sx.nir.Dirac("a"), lambda: sx.nir.Rectangle(-1.0)):
        with pytest.raises((ValueError, TypeError), match="`(area|duration)` must be"):
            call()


@pytest.mark.modes("float32")
def test_nir_is_optional(monkeypatch):
    """It is imported where it is needed, and a missing one is named."""
    code = "import sys, spikax; assert 'nir' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    graph = graph_of(LIF2, inputs=2)
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: read(graph), lambda: sx.to_nir(one(sx.LIF())), lambda: sx.to_nir_data({}, 1.0, time_unit="s")):
        with pytest.raises(ImportError, match=r"pip install 'spikax\[nir\]'"):
            call()
