"""Linear neurons, in closed form: against the event loop, finite differences, and themselves in float32."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax._methods._common.flow import Interval
from spikax._methods._common.root_finding.peaks import Peaks
from spikax._methods._common.scalar_flow import ScalarFlow

from .helpers import cast, random_inputs, single_layer, worst_derivative
from .test_gradients import assert_exact, case, graded


T1 = 30.0
SAVED = (21.1, 0.0, 5.0, 12.3, T1)
pytestmark = pytest.mark.modes("float32", "float64")
exact = pytest.mark.float64


class Custom(sx.AbstractNeuron):
    """v' = -rate v + I / 10 + push, with a threshold from either side."""

    rate: float = 0.05
    push: float = 0.0
    sign: float = 1.0
    after: float = 0.0
    synapse: sx.Synapse = sx.ExpSynapse(4.0)

    @property
    def is_linear(self):
        return True

    def initial_state(self):
        return sx.LIFState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return sx.LIFState(0.1 * self.sign * drive - self.rate * state.v + self.push)

    def spike_condition(self, t, state):
        return self.sign * state.v - 1.0

    def reset(self, t, state):
        return sx.LIFState(state.v - self.sign + self.after)


BATCH, SOURCES, NEURONS, EACH = 3, 4, 5, 5


def both(neuron, weight, times, start=None):
    """The simulation by passes, and by the event loop with an error below 1e-12 in each step.

    All parameters are arrays, and the state at the start is given, so that neurons of one class compile once.
    """
    neuron = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), neuron)
    network = single_layer(neuron, weight, jnp.float64)
    start = jnp.asarray(neuron.initial_state().v if start is None else start, jnp.float64)
    states = {"output": sx.LIFState(jnp.broadcast_to(start, (len(times), weight.shape[1])))}
    options = {"start": states, "saveat": jnp.asarray(SAVED), "max_spikes": 60}
    inputs = sx.Spikes(jnp.asarray(times))
    passes = sx.simulate(network, inputs, T1, method=sx.ClosedForm(), **options)
    return passes, sx.simulate(
        network, inputs, T1, method=sx.EventLoop(rtol=1e-12, atol=1e-12, max_steps=20_000), **options
    )


def assert_same(passes, loop, tolerance=1e-9, spikes=1):
    assert (passes.stats["output"].method, loop.stats["output"].method) == ("ClosedForm", "EventLoop")
    found, expected = passes.spikes["output"].times, loop.spikes["output"].times
    assert np.array_equal(passes.spikes["output"].count, loop.spikes["output"].count)
    assert int(passes.spikes["output"].count.sum()) >= spikes
    happened = np.isfinite(expected)
    assert np.max(np.abs(found[happened] - expected[happened]), initial=0.0) < tolerance
    np.testing.assert_allclose(passes.states["output"].v, loop.states["output"].v, atol=tolerance)
    np.testing.assert_allclose(passes.drives["output"], loop.drives["output"], atol=tolerance)


def arrivals(seed=0, batch=BATCH, sources=SOURCES, each=EACH, until=40.0):
    return random_inputs(seed, (batch, sources, each), until, jnp.float64, silent=0.1).times


@exact
@pytest.mark.parametrize("tau_mem, tau_syn", [(20.0, 5.0), (5.0, 5.0), (5.0, 5.0001), (3.0, 7.0), (20.0, 0.1)])
def test_the_same_as_the_loop(tau_mem, tau_syn):
    weight = np.random.default_rng(1).uniform(-1.0, 2.5, (SOURCES, NEURONS)) * tau_mem / min(tau_mem, tau_syn) * 0.5
    neuron = sx.LIF(tau_mem, 0.05, 1.0, -0.1, 0.1, sx.ExpSynapse(tau_syn))
    assert_same(*both(neuron, weight, arrivals()), spikes=20)


@exact
@pytest.mark.parametrize(
    "neuron",
    [
        sx.LIF(v_rest=-65.0, v_threshold=-50.0, v_reset=-70.0, bias=18.0),
        sx.LI(bias=0.3),
        sx.IF(bias=0.1),
        Custom(rate=0.0),
        Custom(rate=0.0, push=0.2),
        Custom(rate=-0.02),
        Custom(sign=-1.0),
        Custom(after=0.4),
    ],
    ids=[
        "millivolts",
        "leaky-integrator",
        "perfect-integrator",
        "no-leak",
        "ramp",
        "growing",
        "from-above",
        "by-subtraction",
    ],
)
def test_other_neurons(neuron):
    weight = np.random.default_rng(2).uniform(-1.0, 6.0, (SOURCES, NEURONS))
    assert_same(*both(neuron, weight, arrivals(seed=2)), spikes=0 if isinstance(neuron, sx.LI) else 5)


@exact
def test_many_arrivals_in_several_blocks():
    weight = np.random.default_rng(3).uniform(-1.0, 1.6, (20, 2))
    times = arrivals(seed=3, batch=2, sources=20, each=12)
    assert_same(*both(sx.LIF(), weight, times), spikes=10)


@exact
@pytest.mark.parametrize(
    "neuron",
    [
        pytest.param(sx.LIF(v_threshold=jnp.linspace(0.8, 1.2, 100)), id="lif"),
        pytest.param(sx.ALIF(), id="alif", marks=pytest.mark.slow),
    ],
)
def test_neurons_that_are_followed_in_groups_spike_as_they_do_alone(neuron):
    rng = np.random.default_rng(4)
    network = single_layer(neuron, rng.uniform(-1.0, 1.3, (80, 100)), jnp.float64)
    times = random_inputs(4, (8, 80, 1), T1, jnp.float64).times

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def graded(both, sample):
        network, times = both
        found = sx.simulate(network, sx.Spikes(times), T1, max_spikes=40).spikes["output"].times[sample]
        happened = jnp.isfinite(found)
        return jnp.sum(jnp.where(happened, jnp.sin(jnp.where(happened, found, 0.0)), 0.0)), found

    # The 800 neurons of all samples are several groups, those of one are a single one.
    (_, among), of_all = graded((network, times), 5)
    (_, alone), of_one = graded((network, times[5:6]), 0)
    count = jnp.sum(jnp.isfinite(alone), axis=-1)
    assert jnp.mean(count > 0) > 0.6 and jnp.max(count) > 2
    np.testing.assert_allclose(among, alone, rtol=1e-12)
    for every, one in zip(jax.tree.leaves(of_all[0]), jax.tree.leaves(of_one[0]), strict=True):
        np.testing.assert_allclose(every, one, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(of_all[1][5], of_one[1][0], rtol=1e-9, atol=1e-12)


@exact
@pytest.mark.parametrize(
    "rate, decay, push", [(0.05, 0.2, -0.1), (0.2, 0.05, 0.1), (0.1, 0.1, 0.05), (0.0, 0.2, -0.1), (-1.0, 0.2, -2.0)]
)
def test_the_bound_of_a_peak_misses_none(rate, decay, push):
    """Just below the threshold and slowly rising; with a negative leak the bound itself does not hold."""
    neuron = Custom(rate=rate, push=push, synapse=sx.ExpSynapse(1.0 / decay))
    flow = ScalarFlow.of(neuron, neuron.initial_state(), jnp.asarray(0.0))
    rng = np.random.default_rng(11)
    below, speed, h = (jnp.asarray(rng.exponential(scale, 100_000)) for scale in (0.05, 0.1, 2.0))
    v = 1.0 - below
    x = (speed + rate * v - push) / 0.1
    interval = Interval(jnp.zeros_like(h), v, x, h, flow.after(v, x, h)[0])
    crosses, may_cross = Peaks(flow).crosses(interval), Peaks(flow).may_cross(interval)
    assert int(jnp.sum(crosses & (flow.condition(interval.v_end) < 0))) > 100
    assert not bool(jnp.any(crosses & ~may_cross))


@exact
def test_simultaneous_arrivals_and_spikes_on_the_edges_of_blocks():
    times = np.sort(np.round(arrivals(seed=4, batch=2, sources=20, each=12)), axis=-1)
    assert_same(*both(sx.LIF(), np.full((20, 2), 0.7), times), spikes=10)


@exact
def test_starting_above_the_threshold():
    start = jnp.asarray([1.5, 0.2, 1.0, 0.999, 0.0])
    passes, loop = both(sx.LIF(), np.full((SOURCES, NEURONS), 2.0), arrivals(), start)
    assert_same(passes, loop)
    np.testing.assert_array_equal(passes.spikes["output"].times[:, 0, 0], 0.0)


@exact
def test_a_peak_between_two_arrivals_is_not_missed():
    """One arrival, whose weight takes the membrane just above, or just not to, the threshold, and down again."""
    # With tau_mem = 2 tau_syn the membrane peaks at w / 4.
    weight, times = np.zeros((SOURCES, NEURONS)), np.full((BATCH, SOURCES, EACH), np.inf)
    weight[0] = [4.0 * (1.0 + x) for x in (1e-3, 1e-6, 1e-9, -1e-9, -1e-3)]
    times[:, 0, 0] = 2.0
    for solution in both(sx.LIF(synapse=sx.ExpSynapse(10.0)), weight, times):
        assert solution.spikes["output"].count.tolist() == [[1, 1, 1, 0, 0]] * BATCH


@pytest.fixture(scope="module")
def by_passes():
    return graded(case("lif", "exp"), method=sx.ClosedForm())


@exact
def test_every_parameter(by_passes):
    assert_exact(*by_passes)


@exact
def test_every_parameter_in_its_other_shape():
    assert_exact(*graded(case("lif", "exp", flip=True), method=sx.ClosedForm()))


@exact
def test_gradients_with_equal_time_constants(by_passes):
    function, (network, inputs, states) = by_passes
    neuron = network.layers["output"].neuron
    equal = eqx.tree_at(lambda n: (n.tau_mem, n.synapse.tau), neuron, replace_fn=lambda tau: jnp.full_like(tau, 5.0))
    network = eqx.tree_at(lambda n: n.layers["output"].neuron, network, equal)
    network = eqx.tree_at(lambda n: n.connections[0].weight, network, replace_fn=lambda w: 0.25 * w)
    assert_exact(function, (network, inputs, states), spikes=1.0)


@exact
def test_gradient_of_a_spike_at_once(by_passes):
    """The first spike comes with the start, and later ones depend on the reset alone."""
    function, (network, inputs, states) = by_passes
    network = eqx.tree_at(lambda n: n.connections[0].weight, network, replace_fn=lambda w: jnp.full_like(w, 2.5))
    states = jax.tree.map(lambda v: 1.3 + v, states)
    arrays = (network, inputs, states)
    _, count, gradient = function(arrays)
    assert count.min() >= 2
    assert jnp.max(jnp.abs(gradient[2]["output"].v)) < 1e-12
    errors = worst_derivative(function, arrays)
    errors.pop("[2]['output'].v")  # zero against the rounding of a difference
    assert max(errors.values()) < 1e-6, errors


@exact
def test_gradients_of_many_arrivals():
    rng = np.random.default_rng(5)
    inputs = sx.Spikes(1.0 + 0.9 * random_inputs(5, (2, 20, 12), T1, jnp.float64).times)  # off the start
    network, _, states = case("lif", "exp", n=3)
    network = single_layer(network.layers["output"].neuron, 0.2 * rng.uniform(-0.8, 1.4, (20, 3)), jnp.float64)
    assert_exact(*graded((network, inputs, states), ts=None, method=sx.ClosedForm()), spikes=1.0)


@exact
def test_two_layers():
    sizes = {6: sx.init.uniform(1.0, 4.0), 2: sx.init.uniform(0.2, 1.5)}
    layers = [sx.Layer(sx.LIF(), size, weights=weights) for size, weights in sizes.items()]
    network = cast(sx.sequential(4, *layers, key=jax.random.key(0)), jnp.float64)
    inputs = random_inputs(7, (3, 4, 2), 20.0, jnp.float64)
    assert_exact(*graded((network, inputs, None), ts=None, method=sx.ClosedForm()), spikes=1.0)


@exact
def test_long_and_dense_input_in_single_precision():
    """A thousand time constants and three thousand arrivals: the float's digits stay, and nothing overflows."""
    rng = np.random.default_rng(8)
    times = np.sort(rng.uniform(0.0, 5000.0, (1, 10, 300)), axis=-1)
    weight = rng.uniform(0.3, 1.5, (10, 2))
    neuron = sx.LIF(tau_mem=5.0, synapse=sx.ExpSynapse(2.0))
    found = {}
    for dtype in (jnp.float32, jnp.float64):
        network = single_layer(neuron, weight, dtype)
        inputs = sx.Spikes(jnp.asarray(times, dtype))
        solution = sx.simulate(network, inputs, 5000.0, saveat=[4999.0], max_spikes=800)
        assert solution.stats["output"].method == "ClosedForm"
        assert solution.spikes["output"].times.dtype == dtype
        assert jnp.isfinite(solution.states["output"].v).all()
        found[dtype] = solution.spikes["output"]
    assert int(found[jnp.float32].count.min()) > 50
    single, double = (np.asarray(spikes.times, np.float64) for spikes in found.values())
    happened = np.isfinite(double)
    assert np.array_equal(np.isfinite(single), happened)
    # A float32 near 5000 resolves 5e-4; arrivals are rounded to it too.
    assert np.max(np.abs(single[happened] - double[happened])) < 2e-2
    assert np.median(np.abs(single[happened] - double[happened])) < 1e-3


@pytest.mark.modes("float32")
def test_crossings_among_dense_arrivals_in_single_precision():
    """Where the condition rounds to either side of zero, the search ends there and nowhere else."""
    rng = np.random.default_rng(9)
    inputs = random_inputs(9, (32, 40, 4), T1, jnp.float32)
    network = single_layer(sx.LIF(), rng.uniform(0.0, 1.0, (40, 8)), jnp.float32)
    options = {"max_spikes": 40}
    found = network(inputs, T1, method=sx.ClosedForm(), **options).times
    expected = network(inputs, T1, method=sx.EventLoop(), **options).times
    happened = np.isfinite(expected)
    assert np.array_equal(np.isfinite(found), happened) and happened.sum() > 2000
    errors = np.abs(np.asarray(found)[happened] - np.asarray(expected)[happened])
    assert np.max(errors) < 5e-3 and np.median(errors) < 1e-5


@pytest.mark.modes("float32")
@pytest.mark.unchecked
def test_the_choice_of_a_method(dtype):
    inputs = random_inputs(0, (2, 3), 10.0, dtype)

    def method(neuron, **options):
        network = single_layer(neuron, np.ones((2, 1)), dtype)
        # Which one it is, is known without a compilation.
        return eqx.filter_eval_shape(sx.simulate, network, inputs, 10.0, **options).stats["output"].method

    assert method(sx.LIF()) == method(sx.LI()) == "ClosedForm"
    assert (
        method(sx.LIF(), method=sx.EventLoop(dt0=1.0))
        == method(sx.LIF(), method=sx.EventLoop(rtol=1e-4))
        == "EventLoop"
    )
    assert method(sx.LIF(), method=sx.EventLoop()) == "EventLoop"
    for neuron in (sx.LIF(synapse=sx.AlphaSynapse()), sx.ALIF(), sx.ResonateAndFire()):
        assert method(neuron) == "ClosedForm"
    assert method(sx.LIF(synapse=sx.DeltaSynapse())) == method(sx.QIF()) == "EventLoop"
    with pytest.raises(ValueError, match=r"`method` must be one that supports the layer output.*QIF"):
        method(sx.QIF(), method=sx.ClosedForm())
    with pytest.raises(TypeError, match="`method` must be a method"):
        method(sx.LIF(), method="loop")


def test_a_false_claim_to_be_linear():
    class Quadratic(Custom):
        def dynamics(self, t, state, drive):
            return sx.LIFState(drive - state.v**2)

    class Shifting(Custom):
        def spike_condition(self, t, state):
            return state.v - 1.0 - jnp.sin(t)

    for neuron in (Quadratic(), Shifting()):
        with pytest.raises(ValueError, match="`is_linear` must be False"):
            sx.Layer(neuron, 2)


@pytest.mark.modes("float32", "mixed")
@pytest.mark.parametrize("steps", [{}, {"method": sx.EventLoop(diffrax.Heun(), dt0=0.5)}], ids=["passes", "loop"])
def test_until_the_first_spikes(dtype, steps):
    network = single_layer(sx.LIF(), np.random.default_rng(0).uniform(1.0, 5.0, (4, 3)), dtype)
    inputs = random_inputs(0, (2, 4, 3), 25.0, dtype)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def first(network, **options):
        solution = sx.simulate(network, inputs, 25.0, max_spikes=16, **steps, **options)
        times = sx.first_spike(solution.spikes["output"])
        return jnp.sum(jnp.where(times < jnp.inf, times, 25.0)), solution

    (value, solution), gradient = first(network, until=sx.FirstSpikes())
    (full_value, full), full_gradient = first(network)
    assert value == full_value and int(jnp.max(full.spikes["output"].count)) > 1
    assert int(jnp.max(solution.spikes["output"].count)) == 1
    assert bool(jnp.all(solution.result == sx.RESULTS.successful))
    np.testing.assert_allclose(gradient.connections[0].weight, full_gradient.connections[0].weight, rtol=1e-5)


def test_no_neuron_goes_on_after_its_first_spike(dtype):
    """The one that is still waited for spikes in a later block of arrivals than the other."""
    network = single_layer(sx.LIF(), np.array([[0.25, 0.075]]), dtype)
    inputs = sx.Spikes(jnp.linspace(0.0, 60.0, 200, dtype=dtype)[None])
    whole = network(inputs, 70.0, max_spikes=64).times[:, 0]
    solution = sx.simulate(network, inputs, 70.0, max_spikes=1, until=sx.FirstSpikes(), method=sx.ClosedForm())
    assert jnp.array_equal(solution.spikes["output"].times[:, 0], whole)
    assert whole[0] < 12.0 and 25.0 < whole[1] < 60.0


@pytest.mark.unchecked
def test_until_is_checked(dtype):
    layers = [sx.Layer(sx.LIF(), 2, weights=sx.init.normal(1.0, 0.1)) for _ in range(2)]
    network, inputs = sx.sequential(2, *layers, key=jax.random.key(0)), random_inputs(0, (2, 3), 10.0, jnp.float32)
    for options, error, message in (
        ({"until": "all"}, TypeError, "`until` must be"),
        ({"until": sx.FirstSpikes("nowhere")}, ValueError, "`until` must be for a layer among"),
        ({"until": sx.FirstSpikes("hidden")}, ValueError, "without connections to other layers"),
        ({"until": sx.FirstSpikes(), "saveat": [1.0]}, ValueError, "`saveat` must be"),
    ):
        with pytest.raises(error, match=message):
            sx.simulate(network, inputs, 10.0, **options)


def test_a_neuron_that_spikes_without_end_spoils_no_other_sample(dtype):
    """Its reset leaves it above the threshold; only what sets it off is reported."""
    network = single_layer(Custom(after=1.0), np.array([[30.0]]), dtype)
    inputs = sx.Spikes(jnp.asarray([[[2.0]], [[jnp.inf]]], dtype))
    solution = sx.simulate(network, inputs, 10.0, max_spikes=50, method=sx.ClosedForm(max_steps=40), throw=False)
    assert (solution.result == sx.RESULTS.max_steps_reached).tolist() == [True, False]
    assert (solution.result == sx.RESULTS.successful).tolist() == [False, True]
