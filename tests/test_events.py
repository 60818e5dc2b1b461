"""What happens when: spikes, peaks, arrivals, jumps, and the corner cases where several of them meet."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx
from spikax._methods._common.events import magnitudes

from .helpers import cast, random_inputs, single_layer


T1 = 40.0


CHANNELS, SPIKES, NEURONS, SAVED = 3, 2, 3, 5


class Run(NamedTuple):
    """What became of the neurons: the spike times of each; states and drives, `(saved times, neurons)`."""

    spikes: list
    state: Any
    drive: Any


def padded(values, shape, fill):
    """An array of the given shape, with `values` in its first corner."""
    values = np.asarray(values)
    return np.pad(values, [(0, n - m) for n, m in zip(shape, values.shape, strict=True)], constant_values=fill)


@pytest.fixture(scope="module")
def simulate(dtype):
    """Simulates one sample: input times per channel, weights `(channels, neurons)`.

    All runs have the same shapes, and their parameters are arrays, so that few of them compile anew.
    """

    def run(neuron, times, weights, t1=T1, t0=0.0, saveat=(), start=None, **options):
        neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), neuron)
        network = single_layer(neuron, padded(weights, (CHANNELS, NEURONS), 0.0), dtype)
        times = padded(np.reshape(times, (len(times), -1)), (CHANNELS, SPIKES), np.inf)
        state = (
            neuron.initial_state()
            if start is None
            else jax.tree.map(lambda x: jnp.asarray(start, dtype), neuron.initial_state())
        )
        ts = jnp.asarray(padded(np.asarray(saveat), (SAVED,), t1), dtype)
        options = {"method": sx.EventLoop(dt0=0.5)} | options
        inputs = sx.Spikes(jnp.asarray(times, dtype))
        solution = sx.simulate(network, inputs, t1, t0=t0, saveat=ts, start={"output": state}, **options)
        spikes = [row[np.isfinite(row)] for row in np.asarray(solution.spikes["output"].times)]
        shown = jax.tree.map(lambda leaf: np.asarray(leaf[: len(saveat)]), (solution.states, solution.drives))
        return Run(spikes, shown[0]["output"], shown[1]["output"])

    return run


def delta(**parameters):
    return sx.LIF(synapse=sx.DeltaSynapse(), **parameters)


SILENT = [np.inf]


# --- Closed forms ---


def test_constant_drive(simulate, close):
    """v = b (1 - exp(-t / tau)): a spike every tau ln(b / (b - 1))."""
    solution = simulate(sx.LIF(bias=2.0), SILENT, [[0.0]], t1=80.0, method=sx.EventLoop(dt0=0.25))
    expected = 20.0 * np.log(2.0) * np.arange(1, 6)
    np.testing.assert_allclose(solution.spikes[0], expected, rtol=close)


def test_reset_below_rest(simulate, close):
    solution = simulate(sx.LIF(bias=2.0, v_reset=-1.0), SILENT, [[0.0]], method=sx.EventLoop(dt0=0.25))
    expected = 20.0 * np.log(2.0), 20.0 * np.log(2.0) + 20.0 * np.log(3.0)
    np.testing.assert_allclose(solution.spikes[0], expected, rtol=close)


def test_twice_the_synaptic_time_constant(simulate, close):
    """tau_mem = 2 tau_syn: v = w (x - x²) with x = exp(-t / tau_mem), so that x solves a quadratic equation."""
    weight, arrival = 6.0, 3.0
    neuron = sx.LIF(tau_mem=20.0, v_reset=-50.0, synapse=sx.ExpSynapse(10.0))
    solution = simulate(neuron, [arrival], [[weight]], method=sx.EventLoop(dt0=0.25))
    x = 0.5 * (1.0 + np.sqrt(1.0 - 4.0 / weight))
    np.testing.assert_allclose(solution.spikes[0], [arrival - 20.0 * np.log(x)], rtol=close)


def test_quadratic_neuron_under_constant_drive(simulate, close):
    """tau V' = V² - V + b from minus to plus infinity takes tau pi / sqrt(b - 1/4)."""
    solution = simulate(sx.QIF(bias=2.0), SILENT, [[0.0]], t1=120.0, method=sx.EventLoop(dt0=0.25))
    intervals = np.diff(solution.spikes[0])
    assert len(intervals) >= 1
    np.testing.assert_allclose(intervals, 20.0 * np.pi / np.sqrt(1.75), rtol=4 * close)


def test_default_tolerances(simulate, accurate):
    solution = simulate(sx.LIF(bias=2.0), SILENT, [[0.0]], t1=80.0, method=sx.EventLoop(dt0=None))
    expected = 20.0 * np.log(2.0) * np.arange(1, 6)
    np.testing.assert_allclose(solution.spikes[0], expected, atol=10 * accurate)


# --- Peaks inside a step ---


def test_a_peak_inside_a_step(simulate, dtype):
    """v rises above the threshold for 2 ms of a step of 40 ms."""
    neuron = sx.LIF(tau_mem=10.0, v_threshold=0.995, v_reset=-5.0, synapse=sx.ExpSynapse(5.0))
    weight = 4.0  # v = 4 (x - x²) peaks at 1, at 10 ln 2
    coarse, fine = (simulate(neuron, [0.0], [[weight]], method=sx.EventLoop(dt0=dt0)).spikes[0] for dt0 in (6.0, 0.05))
    x = 0.5 * (1.0 + np.sqrt(1.0 - 0.995))
    assert len(coarse) == len(fine) == 1
    np.testing.assert_allclose(fine, -10.0 * np.log(x), atol=2e-3)
    np.testing.assert_allclose(coarse, fine, atol=5e-2)


def test_a_peak_between_long_steps_of_an_exact_solver(simulate):
    """v is a parabola, which any solver of order two integrates exactly, whatever the length of its steps."""
    times = [
        simulate(Parabola(height=h), SILENT, [[0.0]], t1=10.0, method=sx.EventLoop(dt0=10.0)).spikes[0]
        for h in (1.01, 0.99)
    ]
    np.testing.assert_allclose(times[0], [5.0 - 5.0 * np.sqrt(0.01 / 1.01)], rtol=1e-4)
    assert len(times[1]) == 0


def test_a_peak_just_below_the_threshold(simulate):
    neuron = sx.LIF(tau_mem=10.0, v_threshold=1.002, synapse=sx.ExpSynapse(5.0))
    for dt0 in (6.0, 0.5):
        assert len(simulate(neuron, [0.0], [[4.0]], method=sx.EventLoop(dt0=dt0)).spikes[0]) == 0


# --- The threshold at the start, t1 ---


@pytest.mark.parametrize("start, expected", [(1.0, 0.0), (1.5, 0.0)])
def test_starting_at_or_above_the_threshold(simulate, start, expected):
    neuron = sx.LIF(bias=1.2)
    times, *_ = simulate(neuron, SILENT, [[0.0]], start=start).spikes
    np.testing.assert_allclose(times[0], expected, atol=1e-5)
    assert len(times) == 2
    np.testing.assert_allclose(times[1], 20.0 * np.log(1.2 / 0.2), rtol=1e-4)


def test_starting_at_the_threshold_without_rising(simulate):
    assert len(simulate(sx.LIF(), SILENT, [[0.0]], start=1.0).spikes[0]) == 0


def test_a_spike_at_the_end(simulate, dtype):
    """`t1` is a spike time of a longer simulation: spikes before it are the same, that one may round either way."""
    neuron = sx.LIF(bias=2.0)
    longer = simulate(neuron, SILENT, [[0.0]]).spikes[0]
    eps = 64 * float(jnp.finfo(dtype).eps)
    after = simulate(neuron, SILENT, [[0.0]], t1=float(longer[1] * (1 + eps))).spikes[0]
    before = simulate(neuron, SILENT, [[0.0]], t1=float(longer[1] * (1 - eps))).spikes[0]
    at = simulate(neuron, SILENT, [[0.0]], t1=float(longer[1]), saveat=[float(longer[1])])
    np.testing.assert_array_equal(before, longer[:1])
    np.testing.assert_allclose(after, longer[:2], rtol=1e-6)
    voltage = float(at.state.v[0, 0])
    # Either the spike and its reset, or the voltage right at the threshold; no third thing.
    assert abs(voltage - (0.0 if len(at.spikes[0]) == 2 else 1.0)) < 1e-5


def test_an_instantaneous_spike_at_the_end(simulate):
    solution = simulate(delta(), [T1], [[2.0]], saveat=[T1])
    np.testing.assert_array_equal(solution.spikes[0], [T1])
    assert float(solution.state.v[0, 0]) == 0.0


# --- Input times ---


def test_inputs_after_the_end_are_ignored(simulate):
    late, none = (simulate(sx.LIF(), [[3.0, t], [4.0, np.inf]], [[9.0], [9.0]], saveat=[T1]) for t in (50.0, np.inf))
    assert len(none.spikes[0]) > 0
    np.testing.assert_array_equal(late.spikes[0], none.spikes[0])
    np.testing.assert_array_equal(late.state.v, none.state.v)


def test_an_arrival_at_the_end(simulate):
    """It changes the state at `t1`, and nothing before."""
    solution = simulate(delta(), [T1], [[0.5]], saveat=[T1])
    assert len(solution.spikes[0]) == 0 and solution.state.v[0, 0] == 0.5


def test_an_input_before_the_start(dtype):
    def run(times, **options):
        return sx.simulate(network, sx.Spikes(times), T1, throw=False, method=sx.EventLoop(dt0=1.0), **options).result

    network = single_layer(sx.LIF(), np.ones((1, 1)), dtype)
    early, late = jnp.asarray([[-1.0]], dtype), jnp.asarray([[1.0]], dtype)
    for times, t0 in ((early, 0.0), (late, 2.0)):
        with pytest.raises(ValueError, match="`inputs` must be spikes at or after t0"):
            run(times, t0=t0)
    traced = jax.jit(lambda times: run(times) == sx.RESULTS.invalid_times)
    assert traced(early) and not traced(late)


def test_a_later_start_shifts_everything(simulate):
    early = simulate(sx.LIF(), [[3.0, 5.0]], [[9.0]], saveat=[4.0, T1])
    late = simulate(sx.LIF(), [[11.0, 13.0]], [[9.0]], t0=8.0, t1=T1 + 8.0, saveat=[12.0, T1 + 8.0])
    np.testing.assert_allclose(late.spikes[0], early.spikes[0] + 8.0, rtol=1e-4)
    np.testing.assert_allclose(late.state.v, early.state.v, atol=1e-4)


# --- The same instant ---


def test_neurons_that_spike_at_the_same_instant(simulate):
    alone = simulate(sx.LIF(), [3.0, 5.0], [[9.0], [9.0]]).spikes
    together = simulate(sx.LIF(), [3.0, 5.0], [[9.0, 9.0, 4.0], [9.0, 9.0, 3.0]]).spikes
    np.testing.assert_array_equal(together[0], together[1])
    np.testing.assert_array_equal(together[0], alone[0])
    assert len(together[2]) < len(together[0])


@pytest.mark.parametrize("synapse", [sx.ExpSynapse(), sx.DeltaSynapse()], ids=["exp", "delta"])
def test_the_order_of_simultaneous_arrivals_does_not_matter(simulate, synapse):
    scale = 0.25 if isinstance(synapse, sx.DeltaSynapse) else 4.0
    weights = np.array([[1.0], [2.0], [-1.5]]) * scale
    options = {"saveat": [5.0, T1]}
    one, other = (
        simulate(sx.LIF(bias=0.9, synapse=synapse), [5.0] * 3, w, **options) for w in (weights, weights[::-1])
    )
    np.testing.assert_allclose(one.spikes[0], other.spikes[0], rtol=1e-6)
    np.testing.assert_allclose(one.state.v, other.state.v, atol=1e-6)


@pytest.mark.parametrize("weights", [(2.0, -2.0), (-2.0, 2.0)])
def test_simultaneous_arrivals_that_cancel(simulate, weights):
    solution = simulate(delta(), [5.0, 5.0], np.array(weights)[:, None], saveat=[5.0, T1])
    assert len(solution.spikes[0]) == 0
    np.testing.assert_array_equal(solution.state.v[:, 0], np.zeros(2))


def test_simultaneous_arrivals_that_only_together_cross(simulate):
    solution = simulate(delta(), [5.0, 5.0], [[0.6], [0.6]])
    np.testing.assert_array_equal(solution.spikes[0], [5.0])


def test_a_crossing_and_an_arrival_at_the_same_instant(simulate, dtype):
    """An arrival at the time of a spike: the spike happens once, whether the arrival comes just before or after."""
    neuron = delta(bias=2.0)
    spike = simulate(neuron, [39.0], [[0.0]]).spikes[0][0]
    times, *_ = simulate(neuron, [float(spike)], [[0.25]]).spikes
    np.testing.assert_allclose(times[0], spike, rtol=1e-6)
    assert len(times) in (2, 3) and times[1] > spike + 5.0


# --- Saved states ---


def test_saved_states_are_right_continuous(simulate):
    """In any order, at both ends, and right after every jump."""
    ts = [T1, 5.0, 0.0, 9.0, 7.0]
    solution = simulate(delta(v_reset=-0.25, v_rest=0.0), [5.0, 9.0], [[0.5], [2.0]], saveat=ts)
    voltage = np.asarray(solution.state.v[:, 0])
    np.testing.assert_array_equal(solution.spikes[0], [9.0])
    expected = [-0.25 * np.exp(-31.0 / 20.0), 0.5, 0.0, -0.25, 0.5 * np.exp(-0.1)]
    np.testing.assert_allclose(voltage, expected, atol=1e-5)


def test_saved_states_at_the_time_of_a_crossing(simulate):
    neuron = sx.LIF(bias=2.0, v_reset=-0.5)
    spike = float(simulate(neuron, SILENT, [[0.0]]).spikes[0][0])
    solution = simulate(neuron, SILENT, [[0.0]], saveat=[spike])
    np.testing.assert_allclose(solution.state.v[:, 0], [-0.5], atol=1e-6)


def test_saved_drives(simulate):
    ts = np.array([4.0, 2.0, 3.0, 10.0])
    solution = simulate(sx.LIF(synapse=sx.ExpSynapse(5.0)), [3.0, 4.0], [[2.0], [1.0]], saveat=ts)
    expected = 2.0 * np.exp((3.0 - ts) / 5.0) * (ts >= 3.0) + np.exp((4.0 - ts) / 5.0) * (ts >= 4.0)
    np.testing.assert_allclose(solution.drive[:, 0], expected, rtol=1e-5)


def test_saving_for_one_layer_only(dtype):
    layers = (sx.Layer(sx.LIF(), 3, weights=sx.init.constant(4.0)), sx.Layer(sx.LI(), 2, weights=sx.init.constant(1.0)))
    network = cast(sx.sequential(2, *layers, key=jax.random.key(0)), dtype)
    inputs = random_inputs(0, (4, 2, 3), 20.0, dtype)
    solution = sx.simulate(
        network, inputs, T1, saveat={"output": jnp.asarray([T1, 3.0, 10.0], dtype)}, method=sx.EventLoop(dt0=0.5)
    )
    assert set(solution.states) == set(solution.drives) == {"output"}
    assert solution.states["output"].v.shape == solution.drives["output"].shape == (4, 3, 2)
    assert bool(jnp.all(solution.stats["hidden"].spikes > 0))
    # A readout that integrates never spikes, however far it is driven.
    assert bool(jnp.all(solution.states["output"].v[:, 0] > 0))
    assert int(jnp.sum(solution.spikes["output"].count)) == 0


# --- Neurons of one's own ---


class ParabolaState(eqx.Module):
    v: jax.Array


class Parabola(sx.AbstractNeuron):
    """v rises from -height·... to its peak above or below one at t = 5: v = height (1 - (t - 5)² / 25)."""

    height: float = 1.0
    synapse: sx.AbstractSynapse = sx.ExpSynapse()

    def initial_state(self):
        return ParabolaState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return ParabolaState(-2.0 * self.height * (t - 5.0) / 25.0)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return ParabolaState(state.v - 10.0)


class CounterState(eqx.Module):
    angle: jax.Array


class Counter(sx.AbstractNeuron):
    """An oscillator that emits a spike whenever its sine rises through one half, and goes on undisturbed."""

    synapse: sx.AbstractSynapse = sx.ExpSynapse()

    def initial_state(self):
        return CounterState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return CounterState(jnp.asarray(2.0 * np.pi / 10.0))

    def spike_condition(self, t, state):
        return jnp.sin(state.angle) - 0.5

    def reset(self, t, state):
        return state


def test_an_upward_crossing_without_a_reset_counts_once(simulate, close):
    times, *_ = simulate(Counter(), SILENT, [[0.0]]).spikes
    np.testing.assert_allclose(times, 10.0 / 12.0 + 10.0 * np.arange(4), rtol=4 * close)


class ClockState(eqx.Module):
    v: jax.Array
    ready_at: jax.Array
    is_ready: jax.Array


class Refractory(sx.AbstractNeuron):
    """A LIF neuron that rests at its reset for a period after each spike."""

    period: float = 3.0
    bias: float = 2.0
    synapse: sx.AbstractSynapse = sx.ExpSynapse()

    def initial_state(self):
        return ClockState(jnp.asarray(0.0), jnp.asarray(-1.0), jnp.asarray(1.0))

    def dynamics(self, t, state, drive):
        still = jnp.zeros_like(state.v)
        return ClockState(state.is_ready * (self.bias + drive - state.v) / 20.0, still, still)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return ClockState(jnp.zeros_like(state.v), t + self.period, jnp.zeros_like(state.v))

    def internal_events(self):
        return (sx.Event(lambda t, state: t - state.ready_at, self._end),)

    def _end(self, t, state):
        return ClockState(state.v, state.ready_at, jnp.ones_like(state.v))


def test_the_end_of_a_refractory_period(simulate, close):
    times, *_ = simulate(Refractory(), SILENT, [[0.0]], t1=80.0, method=sx.EventLoop(dt0=0.25)).spikes
    interval = 20.0 * np.log(2.0)
    np.testing.assert_allclose(times, interval + (interval + 3.0) * np.arange(len(times)), rtol=4 * close)
    assert len(times) == 4


class PortState(eqx.Module):
    v: jax.Array


class Conductance(sx.AbstractNeuron):
    """A membrane with two receptors, each with its own reversal voltage."""

    synapse: dict = eqx.field(default_factory=lambda: {"exc": sx.ExpSynapse(5.0), "inh": sx.ExpSynapse(10.0)})

    def initial_state(self):
        return PortState(jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return PortState((-state.v + drive["exc"] * (4.0 - state.v) + drive["inh"] * (-1.0 - state.v)) / 20.0)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return PortState(jnp.zeros_like(state.v))


def test_named_ports(dtype):
    def run(exc, inh):
        weights = {"exc": jnp.full((1, 1), exc, dtype), "inh": jnp.full((1, 1), inh, dtype)}
        network = sx.sequential(1, sx.Layer(Conductance(), 1, weights=weights), key=jax.random.key(0))
        return sx.simulate(
            network,
            sx.Spikes(jnp.asarray([[3.0, 5.0]], dtype)),
            T1,
            saveat=jnp.asarray([5.0], dtype),
            method=sx.EventLoop(dt0=0.5),
        )

    excited, inhibited = run(2.0, 0.0), run(2.0, 4.0)
    assert int(excited.spikes["output"].count[0]) > int(inhibited.spikes["output"].count[0])
    np.testing.assert_allclose(inhibited.drives["output"]["exc"], [[2.0 * np.exp(-0.4) + 2.0]], rtol=1e-5)
    np.testing.assert_allclose(inhibited.drives["output"]["inh"], [[4.0 * np.exp(-0.2) + 4.0]], rtol=1e-5)


# --- Numbers that agree ---


def test_simultaneous_channels_equal_one_channel(simulate):
    """Two arrivals of half the weight at one instant are one arrival of the whole."""
    halves = simulate(sx.LIF(), [5.0, 5.0], [[4.5], [4.5]])
    whole = simulate(sx.LIF(), [5.0], [[9.0]])
    assert len(whole.spikes[0]) > 0
    np.testing.assert_allclose(halves.spikes[0], whole.spikes[0], rtol=1e-5)


def test_the_float_type_is_that_of_the_network(dtype):
    network = single_layer(sx.LIF(), np.ones((1, 1)), dtype)
    times = np.array([[3.0]])
    solution = sx.simulate(network, sx.Spikes(times), T1, saveat=[5.0, T1])
    floats = jax.tree.leaves(eqx.filter(solution, eqx.is_inexact_array))
    assert {leaf.dtype for leaf in floats} == {dtype}


def test_a_step_that_ends_where_no_step_could_start(dtype):
    """On the way to its peak the voltage of AdEx escapes: a trial ends finite, and its slope there is not."""
    neuron = sx.AdEx(tau_mem=5.0, bias=50.0)
    network = single_layer(neuron, np.zeros((1, 1)), dtype)
    silent = sx.Spikes(jnp.full((1, 1), jnp.inf, dtype))
    found = [
        sx.simulate(network, silent, 20.0, method=sx.EventLoop(dt0=dt0, max_steps=4000)).spikes["output"].times
        for dt0 in (0.1, 0.02)
    ]
    assert int(jnp.sum(jnp.isfinite(found[1]))) == 4
    np.testing.assert_allclose(found[0], found[1], rtol=2e-2)


def test_terms_that_cancel_count_in_the_magnitude_of_a_condition(dtype):
    """v - a - threshold, of which only the difference is small."""
    state = sx.ALIFState(v=jnp.asarray(3.0, dtype), a=jnp.asarray(3.0, dtype))
    (magnitude,) = magnitudes(sx.ALIF(), jnp.asarray(1.0, dtype), state)
    np.testing.assert_allclose(magnitude, 6.0)
