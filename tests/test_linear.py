"""Linear neurons of several variables and filters, in closed form: against the event loop and finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import spikax as sx
from spikax._methods._common.broadcasting import broadcasting
from spikax._methods._common.flow import Interval
from spikax._methods._common.matrix_flow import MatrixFlow
from spikax._methods._common.root_finding.bounds import Bounds
from spikax._methods._common.small_matrices import exp_minus_one

from .helpers import everything, one_direction, random_inputs, single_layer
from .test_gradients import assert_exact, graded


exact = pytest.mark.float64
T1 = 30.0


class TwoPorts(sx.AbstractNeuron):
    """A leaky integrator of a fast and a slow current; the slow one has the time constant of the membrane, twice."""

    tau: float = 10.0
    bias: float = 0.1
    synapse: sx.Synapse = eqx.field(default_factory=lambda: {"fast": sx.ExpSynapse(2.0), "slow": sx.AlphaSynapse(10.0)})

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return sx.LIFState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return sx.LIFState((drive["fast"] + drive["slow"] + self.bias - state.v) / self.tau)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return sx.LIFState(0.1 * state.v)


PASSIVE = sx.MultiCompartment(
    sx.LIF(20.0),
    {"tuft": sx.Dendrite(sx.LI(10.0), 1.0, 0.5)},
    {"soma": sx.ExpSynapse(5.0), "tuft": sx.AlphaSynapse(10.0)},
)
# Each with the weights, low and high, that let its neurons spike several times.
NEURONS = {
    "resonate": (sx.ResonateAndFire(20.0, 12.0, 1.0, 0.1, -0.1, 0.2), (-4.0, 8.0)),
    "adapting": (sx.ALIF(10.0, 50.0, 0.05, 1.0, -0.1, 0.2, 0.1), (-1.0, 5.0)),
    "ports": (TwoPorts(), {"fast": (-1.0, 3.0), "slow": (-0.5, 0.8)}),
    "filtered bias": (sx.FilteredBias(sx.LIF(10.0, 0.05, 1.0, -0.1, 0.0), 0.6, 6.0), (-1.0, 3.0)),
    "passive": (PASSIVE, {"soma": (-1.0, 5.0), "tuft": (-1.0, 3.0)}),
}


@exact
@pytest.mark.parametrize(
    "name", [name if name == "passive" else pytest.param(name, marks=pytest.mark.slow) for name in NEURONS]
)
def test_the_same_as_the_loop(name):
    neuron, bounds = NEURONS[name]
    rng = np.random.default_rng(1)
    weight = jax.tree.map(lambda low_high: rng.uniform(*low_high, (3, 5)), bounds, is_leaf=lambda x: type(x) is tuple)
    network = single_layer(neuron, weight, jnp.float64)
    inputs = random_inputs(2, (2, 3, 6), 25.0, jnp.float64, silent=0.1)
    options = {"saveat": [21.1, 0.0, 5.0, 12.3, T1], "max_spikes": 24}
    found = sx.simulate(network, inputs, T1, **options)
    loop = sx.simulate(network, inputs, T1, method=sx.EventLoop(rtol=1e-11, atol=1e-11, max_steps=20_000), **options)
    assert found.stats["output"].method == "ClosedForm"
    assert int(found.spikes["output"].count.sum()) > 10
    np.testing.assert_array_equal(found.spikes["output"].count, loop.spikes["output"].count)
    np.testing.assert_allclose(found.spikes["output"].times, loop.spikes["output"].times, rtol=0.0, atol=1e-9)
    pairs = zip(*(jax.tree.leaves((solution.states, solution.drives)) for solution in (found, loop)), strict=True)
    for here, there in pairs:
        np.testing.assert_allclose(here, there, rtol=0.0, atol=1e-9)


def gradient_of(name):
    neuron, weight = NEURONS[name]
    network, inputs, states = everything(neuron, weight)
    # Off the rest, where the derivative to a time constant is zero.
    states = jax.tree.map(lambda x: x + 0.01 * jnp.arange(1.0 * x.size).reshape(x.shape), states)
    return graded((network, inputs, states), method=sx.ClosedForm())


@exact
def test_every_parameter():
    function, arrays = gradient_of("resonate")
    assert_exact(function, arrays, most=2)


@exact
@pytest.mark.slow
@pytest.mark.parametrize("name", ["adapting", "ports", "filtered bias", "passive"])
def test_every_parameter_of_the_others(name):
    function, arrays = gradient_of(name)
    if name == "passive":
        # Its compartments have synapses of their own, which are not used.
        function, arrays = one_direction(function, arrays)
    assert_exact(function, arrays, spikes=1.0, most=2)


@pytest.fixture(scope="module")
def ringing():
    """A weakly damped oscillator, v(s) = exp(-s/40) (v cos(w s) + u sin(w s)) with a period of 8 ms."""

    @jax.jit
    def search(u, v, h):
        """Stretches from given states, without a current."""
        neuron, zero = sx.ResonateAndFire(40.0, 8.0), jnp.zeros(())
        flow = MatrixFlow.of(neuron, sx.ResonateAndFireState(*jnp.zeros((2, 1, 1, 1))), zero)
        bounds = Bounds.of(flow)
        state = jnp.stack([u, v])[:, None]
        x = jnp.stack([jnp.zeros_like(u), jnp.ones_like(u)])[:, None]
        zero, end = jnp.zeros_like(h)[None], flow.after(state, x, h[None])[0]
        interval = Interval(zero, state, x, h[None], end)
        return bounds.crosses(interval)[0], *(
            part[0] for part in bounds.crossing(interval, jnp.full_like(zero, True, bool))
        )

    def v_at(u, v, s):
        return np.exp(-s / 40.0) * (v * np.cos(np.pi / 4.0 * s) + u * np.sin(np.pi / 4.0 * s))

    return search, v_at


@exact
@broadcasting
def test_no_crossing_of_an_oscillation_is_missed(ringing):
    """Not in short intervals, and not in those of several periods whose ends are below the threshold."""
    search, v_at = ringing
    rng = np.random.default_rng(0)
    size, angle = rng.uniform(0.5, 1.5, 2000), rng.uniform(0.0, 2.0 * np.pi, 2000)
    u, v, h = (
        size * np.cos(angle),
        np.minimum(size * np.sin(angle), 0.999),
        rng.uniform(0.0, [[1.0]] * 1000 + [[40.0]] * 1000)[:, 0],
    )
    may_cross, t, found = map(np.asarray, search(u, v, h))
    curves = v_at(u, v, np.linspace(0.0, 1.0, 2000)[:, None] * h)
    highest = curves.max(axis=0)
    assert np.all(found[highest > 1.0]) and not np.any(found[highest < 1.0 - 1e-4])
    assert np.all(may_cross[found]) and 200 < np.sum(found & (curves[-1] < 1.0))
    np.testing.assert_allclose(v_at(u, v, t)[found], 1.0, atol=1e-12)
    # The first one: no point of the curve before it is above.
    before = np.linspace(0.0, 1.0, 2000)[:, None] * h < t - 1e-9
    assert not np.any(before & (curves > 1.0) & found)
    # In short intervals, few that do not cross are worth a search.
    assert np.mean(may_cross[:1000] & ~found[:1000]) < 0.05


@exact
@broadcasting
def test_a_peak_that_barely_crosses(ringing):
    search, v_at = ringing
    s = np.arctan(40.0 * np.pi / 4.0) * 4.0 / np.pi
    above = np.array([1e-3, 1e-6, 1e-10, -1e-10, -1e-6, -1e-3])
    u = (1.0 + above) / v_at(1.0, 0.0, s)
    _, t, found = search(u, 0.0 * u, np.full(6, 7.0))
    assert np.asarray(found).tolist() == [True] * 3 + [False] * 3
    assert np.all(np.asarray(t)[:3] < s) and np.all(np.asarray(t)[:3] > s - 0.1)


@exact
@pytest.mark.parametrize(
    "matrix",
    [
        [[-0.2, 0.2, 0.0], [0.0, -0.2, 0.2], [0.0, 0.0, -0.2]],
        [[-1000.0, 3.0, 1.0], [0.0, -1e-3, 1e-2], [0.0, 0.0, 0.0]],
        [[-0.1, -5.0, 1.0], [5.0, -0.1, 0.0], [0.0, 0.0, -0.3]],
    ],
    ids=["defective", "stiff", "oscillating"],
)
@broadcasting
def test_the_exponential_and_its_derivative(matrix):
    matrix, s = np.asarray(matrix), np.asarray([0.0, 1e-9, 0.01, 0.3, 20.0])

    @jax.jit
    def all_at_once(matrix, s):
        return jax.vjp(
            lambda matrix, s: exp_minus_one(matrix[..., None, None] * s[:, None, None, None, None]), matrix, s
        )

    found, pull = all_at_once(matrix, s)
    expected = np.stack([expm(matrix * s_) - np.eye(3) for s_ in s])
    np.testing.assert_allclose(found[..., 0, 0], expected, rtol=1e-12, atol=1e-13)
    # Where it is small too: next to the one, it has all its digits.
    small = matrix * 1e-9
    np.testing.assert_allclose(found[1, ..., 0, 0], small + small @ small / 2.0, rtol=1e-12, atol=1e-24)
    direction = np.random.default_rng(0).standard_normal(found.shape)
    bar, _ = pull(jnp.asarray(direction))
    step = np.random.default_rng(1).standard_normal((3, 3))
    block = [expm(np.block([[matrix, step], [np.zeros((3, 3)), matrix]]) * s_)[:3, 3:] for s_ in s]
    np.testing.assert_allclose(np.sum(bar * step), np.sum(direction[..., 0, 0] * np.stack(block)), rtol=1e-9)


@exact
def test_long_and_dense_input_in_single_precision():
    rng = np.random.default_rng(8)
    times, weight = np.sort(rng.uniform(0.0, 400.0, (1, 10, 24)), axis=-1), rng.uniform(0.5, 4.0, (10, 2))
    found = {}
    for dtype in (jnp.float32, jnp.float64):
        network = single_layer(sx.ALIF(5.0, 100.0, synapse=sx.ExpSynapse(2.0)), weight, dtype)
        solution = sx.simulate(network, sx.Spikes(jnp.asarray(times, dtype)), 400.0, max_spikes=200)
        assert solution.stats["output"].method == "ClosedForm"
        found[dtype] = np.asarray(solution.spikes["output"].times, np.float64)
    single, double = found.values()
    happened = np.isfinite(double)
    assert happened.sum() > 50 and np.array_equal(np.isfinite(single), happened)
    # A float32 near 400 resolves 3e-5.
    assert np.max(np.abs(single[happened] - double[happened])) < 1e-2
    assert np.median(np.abs(single[happened] - double[happened])) < 2e-4


@exact
@pytest.mark.slow
def test_recurrent_neurons():
    """In windows, with arrivals at the instants of the neurons' own spikes."""
    rng = np.random.default_rng(4)
    weight, inner = jnp.asarray(rng.uniform(0.0, 6.0, (3, 6))), jnp.asarray(rng.uniform(-2.0, 1.0, (6, 6)))
    connections = [sx.Dense("input", "a", weight), sx.Dense("a", "a", inner)]
    network = sx.Network({"a": sx.Layer(sx.ALIF(), 6)}, connections, inputs=3, outputs="a")
    inputs = random_inputs(2, (2, 3, 4), 25.0, jnp.float64)
    found, loop = (
        sx.simulate(network, inputs, T1, method=method, max_spikes=24)
        for method in (sx.ClosedForm(), sx.EventLoop(max_steps=20_000))
    )
    assert int(found.spikes["a"].count.sum()) > 20
    np.testing.assert_allclose(found.spikes["a"].times, loop.spikes["a"].times, rtol=0.0, atol=1e-6)
