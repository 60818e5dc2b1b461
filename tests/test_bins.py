"""Steps across the arrivals, in bins, against the loop that stops at each of them."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax._methods._base import LayerPlan, SimulationState
from spikax._methods._common import axes, rates
from spikax._methods.event_loop.problem import Settings
from spikax._methods.event_loop.simulation import through_steps
from spikax._methods.event_loop.step import make_stepper
from spikax._methods.event_loop.step_control import StepControl
from spikax._routing import SynapticInput

from .helpers import finite_sum, random_inputs, single_layer
from .test_gradients import assert_exact, case, graded


T1 = 30.0
SYNAPSES = {"exp": sx.ExpSynapse(5.0), "alpha": sx.AlphaSynapse(3.0)}
NEURONS = {
    "lif": (lambda s: sx.LIF(20.0, 0.05, 1.0, -0.1, 0.1, s), 9.0),
    "qif": (lambda s: sx.QIF(20.0, 0.1, s), 60.0),
    "eif": (lambda s: sx.EIF(20.0, 0.05, 1.0, 0.2, 1.6, -0.1, 0.1, s), 9.0),
}
exact = pytest.mark.float64


def noisy(neuron, synapse, sources, dtype, share=1.0, neurons=4, batch=3):
    """Neurons with one arrival from each of many sources; `share` scales the weights, all together always the same."""
    make, scale = NEURONS[neuron]
    weight = np.random.default_rng(0).uniform(-0.15, 1.0, (sources, neurons)) * share * scale * 20 / sources
    inputs = random_inputs(1, (batch, sources, 1), T1, dtype)
    return single_layer(make(SYNAPSES[synapse]), weight, dtype), inputs


def by_arrivals(network, inputs, dtype, **options):
    """The same simulation with a stop at every arrival, at tight tolerances."""
    tolerance = 1e-11 if dtype == jnp.float64 else 1e-6
    tight = {"method": sx.EventLoop(rtol=tolerance, atol=tolerance, max_steps=4096), "max_spikes": 20}
    return sx.simulate(network, inputs, T1, **(tight | options))


def in_bins(network, inputs, bin, **options):
    return sx.simulate(network, inputs, T1, **({"max_spikes": 20, "method": sx.EventLoop(bin=bin)} | options))


def assert_same_spikes(found, expected, tolerance, least=1):
    found, expected = (np.asarray(sol.spikes["output"].times) for sol in (found, expected))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    happened = np.isfinite(expected)
    assert happened.sum() >= least
    np.testing.assert_allclose(found[happened], expected[happened], rtol=0.0, atol=tolerance)


def only_state(sol):
    return jax.tree.leaves(sol.states["output"])[0]


@exact
@pytest.mark.parametrize("neuron, synapse", [("qif", "exp"), ("eif", "alpha")])
def test_order(neuron, synapse):
    """The error of a state falls with the third power of the length of bins, or faster."""
    network, inputs = noisy(neuron, synapse, 100, jnp.float64, share=0.01 if neuron == "qif" else 0.03)
    expected = by_arrivals(network, inputs, jnp.float64, saveat=[T1])
    assert int(expected.stats["output"].max_spike_count.max()) == 0  # the error of a spike time is another matter
    errors = []
    for bin in (2.0, 0.5):
        found = in_bins(network, inputs, bin, saveat=[T1], method=sx.EventLoop(dt0=bin, bin=bin))
        assert int(found.stats["output"].iterations) == round(T1 / bin)
        errors.append(np.sqrt(np.mean((only_state(found) - only_state(expected)) ** 2)))
    assert errors[-1] < 1e-6
    assert errors[0] / errors[1] > 8.0**2, errors


def shared_filters(neuron, synapse):
    """The case of the other gradients, with synaptic parameters that all neurons share."""
    network, inputs, states = case(neuron, synapse)
    port = jax.tree.map(jnp.mean, network.layers["output"].neuron.synapse)
    return eqx.tree_at(lambda n: n.layers["output"].neuron.synapse, network, port), inputs, states


@exact
@pytest.mark.parametrize(
    "neuron, synapse", [pytest.param("lif", "exp", marks=pytest.mark.slow), ("qif", "alpha"), ("eif", "exp")]
)
def test_every_parameter(neuron, synapse):
    assert_exact(*graded(shared_filters(neuron, synapse), method=sx.EventLoop(dt0=0.5, bin=1.0)))


@exact
@pytest.mark.slow
def test_every_parameter_in_segments_of_the_loop():
    options = {"dt0": 0.5, "bin": 1.0}
    whole, arrays = graded(shared_filters("qif", "exp"), method=sx.EventLoop(**options))
    adjoint = sx.DiscreteAdjoint(memory=1)
    parts, _ = graded(shared_filters("qif", "exp"), method=sx.EventLoop(**options), adjoint=adjoint)
    (value, _, gradient), (same_value, _, same_gradient) = whole(arrays), parts(arrays)
    assert float(same_value) == pytest.approx(float(value), rel=1e-13)
    for leaf, converged in zip(jax.tree.leaves(gradient), jax.tree.leaves(same_gradient), strict=True):
        np.testing.assert_allclose(converged, leaf, rtol=1e-12, atol=1e-12)


@exact
def test_few_arrivals_of_many_sources():
    """The sums over the arrivals of lists are those over the sources, and so are the gradients."""
    rng = np.random.default_rng(2)
    network, _ = noisy("eif", "alpha", 60, jnp.float64, share=0.8)
    times = np.sort(rng.uniform(0.0, T1, (3, 20)), axis=1)
    times[0, 15:] = np.inf
    events = sx.Events(times, np.argsort(rng.uniform(size=(3, 60)), axis=1)[:, :20].astype(np.int32), 60)
    options = {"method": sx.EventLoop(dt0=0.5, bin=1.0)}
    function, arrays = graded((network, events, None), ts=None, **options)
    value, count, gradient = function(arrays)
    assert_exact(function, arrays, spikes=1.0)
    dense, places = graded(
        (network, sx.Spikes.from_events(events.times, events.channels, events.n), None), ts=None, **options
    )
    same_value, same_count, same_gradient = dense(places)
    np.testing.assert_array_equal(count, same_count)
    assert float(same_value) == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(
        same_gradient[0].connections[0].weight, gradient[0].connections[0].weight, rtol=1e-9, atol=1e-11
    )


class TwoPorts(sx.AbstractNeuron):
    """A current and a conductance, of one shape but in the product with the voltage."""

    tau: jax.Array
    synapse: sx.Synapse

    def initial_state(self):
        return sx.LIFState(jnp.zeros_like(self.tau))

    def dynamics(self, t, state, drive):
        return sx.LIFState((0.2 - state.v * (1.0 + drive["shunt"]) + drive["push"]) / self.tau)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return sx.LIFState(jnp.zeros_like(state.v))


def two_ports(dtype):
    synapse = {"push": sx.ExpSynapse(jnp.asarray(4.0, dtype)), "shunt": sx.AlphaSynapse(jnp.asarray(6.0, dtype))}
    rng = np.random.default_rng(0)
    weight = {"push": rng.uniform(1.0, 7.0, (4, 2)), "shunt": rng.uniform(0.0, 0.3, (4, 2))}
    network = single_layer_of_ports(TwoPorts(jnp.asarray(20.0, dtype), synapse), weight, dtype)
    return network, random_inputs(5, (2, 4, 4), 0.9 * T1, dtype)


def single_layer_of_ports(neuron, weight, dtype):
    weight = jax.tree.map(lambda w: jnp.asarray(w, dtype), weight)
    connection = sx.Dense("input", "output", weight)
    return sx.Network({"output": sx.Layer(neuron, 2)}, [connection], {"input": 4}, "output")


@pytest.mark.slow
@exact
def test_several_ports():
    network, inputs = two_ports(jnp.float64)
    tight = by_arrivals(network, inputs, jnp.float64)
    assert_same_spikes(in_bins(network, inputs, 0.25), tight, 2e-5, least=8)
    assert_exact(*graded((network, inputs, None), ts=None, method=sx.EventLoop(dt0=0.5, bin=1.0)))


@exact
def test_the_start_moves_the_bins():
    """`t0` moves the start of every bin, and the gradient knows."""
    network, inputs = noisy("qif", "exp", 40, jnp.float64, share=0.6)
    neuron = axes.cast(network.layers["output"].neuron, jnp.float64)
    state = sx.QIFState(jnp.full((3, 4, 1), 0.5))
    control = StepControl(jnp.asarray(0.5))
    settings = Settings(make_stepper(diffrax.Tsit5()), control, 20, 1024, bins=24)

    @jax.jit
    def value(t0):
        times = (inputs.times + 1.0).reshape(inputs.times.shape[0], 1, -1)
        source = jnp.repeat(jnp.arange(40, dtype=jnp.int32), inputs.times.shape[-1])[None, None]
        plan = LayerPlan(neuron, SimulationState.of(neuron, state, t0), None, 20, None, sx.DiscreteAdjoint())
        received = SynapticInput(network.connections[0].weight[..., None], times, source, None, None)
        trains = through_steps(plan, received, None, t0, jnp.asarray(T1), settings).trains.times
        return finite_sum(trains, jnp.resize(jnp.asarray([1.0, -0.7, 0.4]), trains.shape))

    h = 1e-4
    numeric = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    assert abs(jax.grad(value)(0.0) - numeric) < 1e-6 * abs(numeric)


@pytest.mark.modes("float64")
@pytest.mark.parametrize("neuron", [pytest.param("lif", marks=exact), pytest.param("qif", marks=exact), "eif"])
def test_spike_times_at_the_default_length(neuron, dtype):
    network, inputs = noisy(neuron, "exp", 400, dtype, share=0.6)
    tight = by_arrivals(network, inputs, dtype)
    found = sx.simulate(network, inputs, T1, max_spikes=20, method=sx.EventLoop())
    assert_same_spikes(found, tight, 20.0 * (1e-6 if dtype == jnp.float64 else 1e-4), least=30)
    assert int(found.stats["output"].iterations) < int(tight.stats["output"].iterations)


@pytest.mark.modes("float32")
def test_iterations_do_not_grow_with_the_arrivals(dtype):
    iterations = []
    for sources in (50, 500):
        found = in_bins(*noisy("eif", "exp", sources, dtype, share=0.4), 0.5)
        assert int(found.stats["output"].max_spike_count.max()) >= 3
        iterations.append(int(found.stats["output"].iterations))
    assert iterations[1] < 1.5 * iterations[0], iterations


def pulses(times, weights, dtype, dt0=None, start=0.0, bias=0.0, method=None, **options):
    """One LIF neuron under one arrival from each source, of at most six; its bias is an array, so that few compile."""
    absent = 6 - len(times)
    weight = np.pad(np.asarray(weights), (0, absent))[:, None]
    network = single_layer(sx.LIF(bias=jnp.asarray(bias, dtype)), weight, dtype)
    times = jnp.pad(jnp.asarray(times, dtype), (0, absent), constant_values=jnp.inf)
    inputs = sx.Spikes(times[:, None])
    states = {"output": sx.LIFState(jnp.asarray(start, dtype))}
    method = sx.EventLoop(bin=1.0, dt0=dt0) if method is None else method
    options = {"max_spikes": 20, "method": method} | options
    return sx.simulate(network, inputs, T1, start=states, **options)


@pytest.mark.modes("float64")
def test_a_spike_that_comes_and_goes_inside_a_bin(dtype, accurate):
    """Excitation lifts the voltage over the threshold inside a bin; inhibition has it far below at the end.

    With fixed steps nothing else has the bin refined: the step across it peaks below the threshold.
    """
    count = []
    for start in (0.6, 0.65, 0.7, 0.75):
        arguments = [10.2, 10.5], [24.0, -60.0], dtype, 0.25, start, start
        found = pulses(*arguments)
        expected = pulses(*arguments, method=sx.EventLoop(dt0=0.25))
        assert_same_spikes(found, expected, accurate, least=0)
        count.append(int(found.stats["output"].spikes))
    assert count == [0, 0, 1, 1]


@pytest.mark.modes("float32")
def test_no_spike_is_missed_near_the_threshold(dtype):
    """Neurons that hover at the threshold, under strong noise that reverses within every bin."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0.0, 3.0, (60, 40))
    network = single_layer(sx.LIF(bias=0.9), weight, dtype)
    inputs = random_inputs(2, (2, 60, 1), T1, dtype)
    tight = by_arrivals(network, inputs, dtype, max_spikes=40)
    found = in_bins(network, inputs, 1.0, max_spikes=40)
    converged = found.spikes["output"].count == tight.spikes["output"].count
    # Bins are coarse here, and their error decides what comes as near to the threshold as that.
    assert float(jnp.mean(converged)) > 0.95 and int(jnp.sum(tight.spikes["output"].count)) > 80


@pytest.mark.modes("float32")
def test_arrivals_at_edges(dtype, accurate):
    """At `t0`, twice at one edge, at the next, and at `t1`; saved there, at other edges, and inside of a bin."""
    saveat = [0.0, 3.0, 3.5, 10.0, T1]
    arguments = [0.0, 3.0, 3.0, 4.0, 3.7, T1], [14.0, 8.0, 6.0, 9.0, 20.0, 5.0], dtype
    found = pulses(*arguments, saveat=saveat)
    expected = pulses(*arguments, saveat=saveat, method=sx.EventLoop(rtol=1e-6, atol=1e-6))
    assert_same_spikes(found, expected, max(accurate, 1e-4), least=2)
    np.testing.assert_allclose(found.drives["output"], expected.drives["output"], atol=1e-5)
    np.testing.assert_allclose(only_state(found), only_state(expected), atol=1e-4)


@pytest.fixture(scope="module")
def by_arrival():
    """The state at the end, plus the number of spikes, as a function of the time of the first of three arrivals."""

    @jax.jit
    @jax.value_and_grad
    def value(time):
        times = jnp.stack([time, jnp.asarray(4.5), jnp.asarray(6.0)])
        sol = pulses(times, [14.0, 20.0, 30.0], jnp.float64, saveat=[T1], dt0=0.5, throw=False)
        return jnp.sum(only_state(sol)) + jnp.sum(jnp.where(jnp.isfinite(sol.spikes["output"].times), 1.0, 0.0))

    return value


@exact
@pytest.mark.parametrize("at", [0.0, 3.0, T1])
def test_the_derivative_by_an_arrival_at_an_edge(by_arrival, at):
    """A difference to the side on which there are bins: at `t0` later, else earlier."""
    side = 1e-4 if at == 0.0 else -1e-4
    forward = ((0, -11 / 6), (1, 3.0), (2, -1.5), (3, 1 / 3))
    numeric = sum(factor * by_arrival(at + k * side)[0] for k, factor in forward) / side
    assert float(by_arrival(at)[1]) == pytest.approx(float(numeric), rel=1e-6, abs=1e-8)


@exact
def test_saved_states_inside_and_at_edges():
    network, inputs = noisy("eif", "exp", 100, jnp.float64, share=0.5)
    ts = [0.0, 0.1, 5.0, 12.34, 12.4, 20.0, T1]
    found, expected = (
        in_bins(network, inputs, 0.25, saveat=ts),
        by_arrivals(network, inputs, jnp.float64, saveat=ts),
    )
    np.testing.assert_allclose(only_state(found), only_state(expected), atol=1e-5)
    np.testing.assert_allclose(found.drives["output"], expected.drives["output"], atol=1e-9)


def test_bins_only_where_they_can_be(dtype):
    delta = single_layer(sx.LIF(synapse=sx.DeltaSynapse()), np.ones((2, 3)), dtype)
    own = single_layer(sx.LIF(synapse=sx.ExpSynapse(jnp.asarray([4.0, 5.0, 6.0], dtype))), np.ones((2, 3)), dtype)
    gated = single_layer(sx.EGRU(), {port: np.ones((2, 3)) for port in "urz"}, dtype)
    inputs = random_inputs(0, (2, 4), T1, dtype)
    for network in (delta, own, gated):
        with pytest.raises(ValueError, match=r"`bin` must be None for this layer; got 1.0\. .* Leave `bin` out"):
            in_bins(network, inputs, 1.0)
        eqx.filter_eval_shape(sx.simulate, network, inputs, T1, method=sx.EventLoop())  # nor are they chosen
    with pytest.raises(ValueError, match="`bin` must be positive"):
        sx.EventLoop(bin=-1.0)


@pytest.mark.modes("float32")
def test_the_automatic_choice_under_jit(dtype):
    """The number of bins comes from numbers that are known, though weights and inputs are traced."""
    network, inputs = noisy("eif", "exp", 300, dtype, share=0.4)
    arrays, static = eqx.partition(network, eqx.is_array)

    def iterations(arrays, times, **options):
        sol = sx.simulate(eqx.combine(arrays, static), sx.Spikes(times), T1, max_spikes=20, throw=False, **options)
        return sol.stats["output"].iterations

    jitted = jax.jit(iterations)(arrays, inputs.times)
    assert int(jitted) == int(iterations(arrays, inputs.times)) < 300
    assert int(iterations(arrays, inputs.times, method=sx.EventLoop(rtol=1e-6))) >= 300


@pytest.mark.modes("float32")
@pytest.mark.parametrize("name, has_bins", [("bias", True), ("tau_mem", False)])
def test_traced_parameters_keep_the_bins_unless_they_set_the_pace(name, has_bins, dtype):
    inputs = random_inputs(1, (2, 300, 1), T1, dtype)

    def iterations(value):
        neuron = sx.QIF(**({"tau_mem": 20.0, "bias": 0.1} | {name: value}))
        network = single_layer(neuron, np.full((300, 2), 0.5), dtype)
        sol = sx.simulate(network, inputs, T1, max_spikes=20, method=sx.EventLoop(), throw=False)
        return sol.stats["output"].iterations

    value = jnp.asarray({"bias": 0.1, "tau_mem": 20.0}[name], dtype)
    assert (int(jax.jit(iterations)(value)) < 300) == has_bins


def driven(slope, synapse=SYNAPSES["exp"], gain=1.0):
    """A neuron whose voltage has a slope of the drive, and one parameter."""
    return sx.neuron_from(
        initial_state=0.0,
        dynamics=lambda t, v, drive, p: slope(v, drive, p["gain"]) - v / 10.0,
        spike_condition=lambda t, v, p: v - 1.0,
        reset=lambda t, v, p: 0.0,
        synapse=synapse,
        parameters={"gain": gain},
    )


@pytest.mark.parametrize(
    "slope, is_linear",
    [
        (lambda v, drive, gain: gain * drive + v**2, True),
        (lambda v, drive, gain: drive * (gain - v), True),
        (lambda v, drive, gain: jnp.where(v > 0.5, drive, gain * drive), True),
        (lambda v, drive, gain: jnp.tanh(gain * drive), False),
        (lambda v, drive, gain: jax.nn.relu(drive), False),
        (lambda v, drive, gain: drive**2, False),
        (lambda v, drive, gain: jnp.where(drive > 0.0, drive, gain * drive), False),
    ],
)
def test_what_is_linear_in_the_drive(slope, is_linear, dtype):
    for gain in (2.0, jnp.asarray(2.0, dtype), jnp.asarray([2.0, 3.0, 4.0], dtype)):
        assert rates.is_linear_in_drive(driven(slope, gain=gain), dtype) is is_linear


@pytest.mark.modes("float32")
def test_drives_that_multiply_each_other_are_not_linear(dtype):
    ports = {"a": sx.ExpSynapse(5.0), "b": sx.AlphaSynapse(3.0)}
    assert rates.is_linear_in_drive(driven(lambda v, d, gain: gain * d["a"] - v * d["b"], ports), dtype)
    assert not rates.is_linear_in_drive(driven(lambda v, d, gain: gain * d["a"] * d["b"], ports), dtype)


@pytest.mark.modes("float32")
def test_parameters_of_several_numbers_may_be_linear_in_the_drive(dtype):
    gain = jnp.ones((3, 2), dtype)  # of three neurons
    assert rates.is_linear_in_drive(driven(lambda v, drive, gain: jnp.sum(gain) * drive + gain[1], gain=gain), dtype)


@pytest.mark.modes("float32")
def test_many_arrivals_at_neurons_that_are_not_linear_in_the_drive(dtype):
    """They are where a tight tolerance has them; in bins they would be off by up to a millisecond."""
    rng = np.random.default_rng(0)
    weight = {"u": rng.normal(0.0, 0.5, (300, 20)), "r": rng.normal(0.0, 0.5, (300, 20))}
    network = single_layer(sx.EGRU(), weight | {"z": rng.normal(0.3, 1.0, (300, 20))}, dtype)
    inputs = random_inputs(1, (2, 300, 1), T1, dtype)
    found = sx.simulate(network, inputs, T1, max_spikes=20)
    assert_same_spikes(found, by_arrivals(network, inputs, dtype), 0.02, least=20)


@exact
@pytest.mark.parametrize(
    "how", [pytest.param({"bin": 0.5}, id="bins", marks=pytest.mark.slow), pytest.param({}, id="arrivals")]
)
def test_a_few_neurons_that_take_longer_than_most_spike_as_they_do_alone(how):
    rng = np.random.default_rng(4)
    neurons, busy = 500, 20
    weight = rng.uniform(-0.5, 0.9, (40, neurons)) * np.where(np.arange(neurons) % (neurons // busy), 1.0, 4.0)
    neuron = sx.LIF(bias=jnp.linspace(0.0, 0.2, neurons))
    network = single_layer(neuron, weight, jnp.float64)
    times = random_inputs(4, (8, 40, 2), T1, jnp.float64).times
    ts, factors = jnp.asarray([0.0, 12.3, T1]), rng.standard_normal((neurons, 40))

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def graded(both, sample):
        network, times = both
        options = {"method": sx.EventLoop(**how), "max_spikes": 40, "saveat": ts}
        sol = sx.simulate(network, sx.Spikes(times), T1, **options)
        found, v = sol.spikes["output"].times[sample], sol.states["output"].v[sample]
        return finite_sum(found, factors) + jnp.sum(jnp.sin(v)), (found, v)

    # The 4000 neurons of all samples are so many that the last ones are left to a loop of their own.
    (_, among), of_all = graded((network, times), 5)
    (_, alone), of_one = graded((network, times[5:6]), 0)
    count = np.sum(np.isfinite(alone[0]), axis=-1)
    assert 0 < np.median(count) < 3 and np.mean(count > 4) > 0.02
    for every, one in zip(jax.tree.leaves((among, of_all[0])), jax.tree.leaves((alone, of_one[0])), strict=True):
        np.testing.assert_allclose(every, one, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(of_all[1][5], of_one[1][0], rtol=1e-9, atol=1e-9)
