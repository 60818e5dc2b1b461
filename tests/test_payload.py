"""Spikes that carry something: their values, what they do at their targets, and their gradients."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import spikax as sx

from .helpers import finite_sum, learning, random_inputs, worst_derivative


PORTS = ("u", "r", "z")
T1 = 40.0


class Graded(sx.LIF):
    """A LIF neuron whose spikes carry its drive, and to which an arrival counts as what it carries."""

    def payload(self, t, state, drive):
        return drive

    def gain(self, payload):
        return payload


def egru(n, dtype, seed=0):
    neuron = sx.EGRU(10.0, 0.3, 0.5, 0.2, 0.1, {port: sx.ExpSynapse(5.0 + i) for i, port in enumerate(PORTS)})
    return learning(neuron, n, dtype, seed=seed)


def network(dtype, sizes=(3, 3, 2)):
    """Two layers of gated units: the spikes of the first carry to the second."""
    rng = np.random.default_rng(0)
    layers, connections, names = {}, [], ("input", "hidden", "output")
    for i, (sources, n) in enumerate(itertools.pairwise(sizes)):
        scale = (1.0, 10.0)[i]
        weight = {port: jnp.asarray(scale * rng.uniform(0.2, 1.5, (sources, n)), dtype) for port in PORTS}
        layers[names[i + 1]] = sx.Layer(egru(n, dtype, seed=i), n)
        connections.append(sx.Dense(names[i], names[i + 1], weight))
    return sx.Network(layers, connections, sizes[0], "output")


def graded_network(dtype):
    """Two layers of neurons whose spikes carry their drive. Their filters are shared, as bins ask."""
    rng = np.random.default_rng(0)
    neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), Graded(bias=0.2, synapse=sx.ExpSynapse(5.0)))
    spans = ((1.0, 6.0), (3, 3)), ((0.5, 2.0), (3, 2))
    weights = [jnp.asarray(rng.uniform(*window, shape), dtype) for window, shape in spans]
    layers = {name: sx.Layer(neuron, n) for name, n in (("hidden", 3), ("output", 2))}
    connections = [sx.Dense("input", "hidden", weights[0]), sx.Dense("hidden", "output", weights[1])]
    return sx.Network(layers, connections, 3, "output")


class Weighted(sx.LIF):
    """A LIF neuron to which an arrival counts as what it carries. It carries nothing itself, and so stays linear."""

    def gain(self, payload):
        return payload


def weighted_network(dtype, synapse=None):
    """As `graded_network`, with outputs that are simulated in closed form."""
    net = graded_network(dtype)
    neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), Weighted(bias=0.2, synapse=synapse or sx.ExpSynapse(5.0)))
    return sx.Network(net.layers | {"output": sx.Layer(neuron, 2)}, net.connections, 3, "output")


def simulate(net, inputs, **options):
    return sx.simulate(net, inputs, T1, max_spikes=12, throw=False, **({"method": sx.EventLoop(dt0=0.5)} | options))


@pytest.mark.float64
@pytest.mark.parametrize(
    "make, options",
    [
        # The gradient is that of the steps, whatever solver takes them: one of two stages compiles fast.
        pytest.param(network, {"method": sx.EventLoop(diffrax.Heun(), dt0=0.5)}, id="gated-arrivals"),
        pytest.param(
            graded_network,
            {"method": sx.EventLoop(diffrax.Heun(), dt0=0.5, bin=1.0)},
            id="graded-bins",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            weighted_network, {"method": {"hidden": sx.EventLoop(diffrax.Heun(), dt0=0.5)}}, id="weighted-closed-form"
        ),
    ],
)
def test_gradients_of_what_spikes_carry(make, options):
    inputs = random_inputs(1, (2, 3, 4), 0.8 * T1, jnp.float64, silent=0.1)
    factors = jnp.asarray(np.random.default_rng(0).standard_normal(64))

    def value(arrays):
        sol = simulate(*arrays, **options)
        total = 0.0
        for spikes in sol.spikes.values():
            happened = jnp.isfinite(spikes.times)
            total += finite_sum(spikes.times, jnp.resize(factors, spikes.times.shape))
            carried = jax.tree.leaves(spikes.payload) or [jnp.zeros_like(spikes.times)]
            total += 10.0 * jnp.sum(jnp.where(happened, jnp.sin(3.0 * carried[-1] + carried[0]), 0.0))
        return total, jnp.concatenate([spikes.count.ravel() for spikes in sol.spikes.values()])

    @jax.jit
    def function(arrays):
        (result, count), gradient = jax.value_and_grad(value, has_aux=True)(arrays)
        return result, count, gradient

    arrays = (make(jnp.float64), inputs)
    _, count, gradient = function(arrays)
    assert count[:6].mean() >= 2.0 and count[6:].mean() >= 1.5
    assert all(float(jnp.max(jnp.abs(leaf))) > 1e-6 for leaf in jax.tree.leaves(gradient[0]))
    errors = worst_derivative(function, arrays, steps=(1e-4, 1e-5, 1e-6))
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.float64
def test_gated_units_against_scipy():
    net = network(jnp.float64)
    inputs = random_inputs(2, (1, 3, 4), 0.8 * T1, jnp.float64)
    sol = simulate(net, inputs, method=sx.EventLoop(dt0=None, rtol=1e-11, atol=1e-11))
    expected, carried = reference(net, np.asarray(inputs.times[0]))
    for name in ("hidden", "output"):
        spikes = sol.spikes[name]
        assert sum(map(len, expected[name])) >= 4
        for i, times in enumerate(expected[name]):
            k = len(times)
            assert int(spikes.count[0, i]) == k
            np.testing.assert_allclose(spikes.times[0, i, :k], times, atol=1e-7)
            np.testing.assert_allclose(spikes.payload.gate[0, i, :k], carried[name][i], atol=1e-7)


def reference(net, times):
    """The spikes of both layers and the gates they carry, by SciPy, from event to event."""

    def sigmoid(x):
        return 1.0 / (1.0 + np.exp(-x))

    arrivals = [(t, i, (1.0, 1.0, 1.0)) for i, row in enumerate(times) for t in row]
    spikes, gates = {}, {}
    for name in ("hidden", "output"):
        neuron, size = net.layers[name].neuron, net.layers[name].size
        (connection,) = net.incoming(name)
        spikes[name], gates[name], new = [], [], []
        for i in range(size):
            own = jax.tree.map(lambda x, i=i: float(x[i]) if jnp.ndim(x) else float(x), neuron)
            taus = [own.synapse[port].tau for port in PORTS]

            def field(t, y, own=own, taus=taus):
                slope = sigmoid(y[1] + own.bias_u) * (np.tanh(y[3] + own.bias_z) - y[0]) / own.tau_mem
                return [slope, *(-a / tau for a, tau in zip(y[1:], taus, strict=True))]

            def crossing(t, y, own=own):
                return y[0] - own.threshold

            crossing.terminal, crossing.direction = True, 1.0
            t, y = 0.0, np.zeros(4)
            spikes[name].append([])
            gates[name].append([])
            for stop, source, gains in [*sorted(a for a in arrivals if a[0] < T1), (T1, 0, (0.0, 0.0, 0.0))]:
                while t < stop:
                    part = solve_ivp(field, (t, stop), y, method="DOP853", rtol=1e-12, atol=1e-13, events=crossing)
                    t, y = part.t[-1], part.y[:, -1]
                    if part.status == 1:
                        gate = sigmoid(y[2] + own.bias_r)
                        new.append((t, i, (y[0], y[0], gate * y[0])))
                        spikes[name][-1].append(t)
                        gates[name][-1].append(gate)
                        y[0] = 0.0
                for j, port in enumerate(PORTS):
                    y[1 + j] += gains[j] * float(connection.weight[port][source, i])
        arrivals = new
    return spikes, gates


def graded(dtype, **options):
    """Graded neurons, of which an input spike may carry a factor; `factor` None for plain spikes."""
    neuron = Graded(v_reset=-1.0)
    rng = np.random.default_rng(0)
    layers = {"hidden": sx.Layer(neuron, 3), "output": sx.Layer(sx.LIF(), 2)}
    weights = jnp.asarray(rng.uniform(4.0, 8.0, (2, 3)), dtype), jnp.asarray(rng.uniform(2.0, 4.0, (3, 2)), dtype)
    connections = [sx.Dense("input", "hidden", weights[0]), sx.Dense("hidden", "output", weights[1])]
    net = sx.Network(layers, connections, 2, "output")
    times = jnp.asarray([[2.0, 9.0], [5.0, jnp.inf]], dtype)

    def run(factor):
        payload = None if factor is None else jnp.full_like(times, factor)
        return sx.simulate(net, sx.Spikes(times, payload), T1, **options)

    return run


@pytest.mark.modes("float32", "mixed")
def test_input_spikes_may_carry_a_factor(dtype):
    """A spike with the factor two counts as one with twice the weight; a plain LIF layer does not mind."""
    run = graded(dtype)
    plain, one, two = run(None), run(1.0), run(2.0)
    np.testing.assert_allclose(plain.spikes["hidden"].times, one.spikes["hidden"].times, rtol=1e-6)
    assert float(jnp.max(two.spikes["hidden"].payload)) > 1.2 * float(jnp.max(one.spikes["hidden"].payload))
    assert plain.stats["hidden"].method == "EventLoop" and plain.stats["output"].method == "ClosedForm"
    assert one.spikes["output"].payload is None
    assert bool(jnp.all(two.spikes["hidden"].times[:, 0] < one.spikes["hidden"].times[:, 0]))


def test_payloads_have_the_shape_of_the_times():
    times = jnp.ones((2, 1))
    with pytest.raises(ValueError, match="payload.*shape"):
        sx.Spikes(times, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="payload.*finite"):
        sx.Spikes(times, jnp.full((2, 1), jnp.inf))


class Misfit(sx.LIF):
    def gain(self, payload):
        return {"exc": payload}


def test_a_gain_has_the_structure_of_the_synapse():
    net = sx.sequential(2, sx.Layer(Misfit(), 1, weights=jnp.ones((2, 1))), key=jax.random.key(0))
    with pytest.raises(ValueError, match="structure of the synapse"):
        net(sx.Spikes(jnp.ones((2, 1)), jnp.ones((2, 1))), t1=5.0)


@pytest.mark.modes("float64")
@pytest.mark.parametrize("synapse", [sx.ExpSynapse(5.0), sx.AlphaSynapse(3.0)], ids=["peaks", "bounds"])
def test_factors_in_closed_form_are_those_of_the_event_loop(synapse, dtype, accurate):
    net = weighted_network(dtype, synapse)
    inputs = random_inputs(1, (2, 3, 4), 0.8 * T1, dtype, silent=0.1)
    loop = sx.EventLoop(diffrax.Heun(), dt0=0.5)
    tight = sx.EventLoop(rtol=1e-10 if dtype == jnp.float64 else 1e-6)
    found, expected = (
        simulate(net, inputs, method={"hidden": loop, "output": method}) for method in (sx.ClosedForm(), tight)
    )
    assert found.stats["output"].method == "ClosedForm"
    assert int(jnp.sum(found.spikes["output"].count)) >= 4
    np.testing.assert_allclose(found.spikes["output"].times, expected.spikes["output"].times, atol=accurate)
