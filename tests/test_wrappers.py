"""Neurons around neurons: refractory periods, single spikes, conductances."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import spikax as sx

from .helpers import assert_all_learn, everything, single_layer
from .test_gradients import assert_exact, graded


# What these neurons do in float32 is what their parts do there; compiling all of them in every mode takes minutes.
pytestmark = pytest.mark.float64

T1 = 70.0
TAU, BIAS, PERIOD = 20.0, 2.0, 3.0
RISE = TAU * np.log(BIAS / (BIAS - 1.0))  # how long a LIF neuron needs from 0 to its threshold


@pytest.fixture(scope="module")
def simulate(dtype):
    """Simulates one neuron under the spikes `times`, all of one weight; parameters are arrays, so few runs compile."""

    def run(neuron, times=(np.inf,), weight=0.0, saveat=(), t1=T1, **options):
        neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), neuron)
        network = single_layer(neuron, jax.tree.map(lambda w: np.full((1, 1), w), weight), dtype)
        train = np.pad(np.sort(np.asarray(times)), (0, 4 - len(times)), constant_values=np.inf)
        ts = np.pad(np.asarray(saveat), (0, 6 - len(saveat)), constant_values=t1)
        inputs = sx.Spikes(jnp.asarray(train[None], dtype))
        solution = sx.simulate(
            network,
            inputs,
            t1,
            saveat=jnp.asarray(ts, dtype),
            **({"method": sx.EventLoop(dt0=0.25), "max_spikes": 6} | options),
        )
        spikes = np.asarray(solution.spikes["output"].times[0])
        state = jax.tree.map(lambda leaf: np.asarray(leaf[: len(saveat), 0]), solution.states["output"])
        return spikes[np.isfinite(spikes)], state

    return run


def delta(**parameters):
    return sx.LIF(synapse=sx.DeltaSynapse(), **parameters)


# --- Refractory periods ---


def test_the_interval_of_a_refractory_neuron(simulate, close):
    """Constant drive: the period and then tau ln(b / (b - 1)), exactly."""
    times, state = simulate(sx.Refractory(sx.LIF(bias=BIAS), PERIOD), saveat=[RISE + 1.0, 2 * RISE + PERIOD + 1.0])
    np.testing.assert_allclose(times, RISE + (RISE + PERIOD) * np.arange(4), rtol=4 * close)
    np.testing.assert_array_equal(state.rests, [1.0, 1.0])
    # The end is the sum of two floats, and no solver comes near it.
    np.testing.assert_array_equal(state.ready_at, times[:2] + np.asarray(PERIOD, times.dtype))


def test_the_membrane_rests_and_then_starts_exactly(simulate, close):
    ready = RISE + PERIOD
    ts = [RISE + 0.5, ready - 1e-3, ready + 1e-3, ready + 5.0]
    _, state = simulate(sx.Refractory(sx.LIF(bias=BIAS, v_reset=-0.5), PERIOD), saveat=ts)
    np.testing.assert_array_equal(state.v[:2], [-0.5, -0.5])
    since = np.array([1e-3, 5.0])
    np.testing.assert_allclose(state.v[2:], BIAS - (BIAS + 0.5) * np.exp(-since / TAU), rtol=20 * close)


def test_the_interval_of_a_refractory_quadratic_neuron(simulate, close):
    times, _ = simulate(sx.Refractory(sx.QIF(bias=BIAS), PERIOD), t1=120.0)
    np.testing.assert_allclose(np.diff(times), TAU * np.pi / np.sqrt(1.75) + PERIOD, rtol=8 * close)
    assert len(times) >= 2


def test_no_period_before_the_first_spike(simulate):
    """Neither a late start nor a silent neuron sets off an end."""
    neuron = sx.Refractory(sx.LIF(), PERIOD)
    times, state = simulate(neuron, [105.0], 3.0, saveat=[101.0, 110.0], t0=100.0, t1=120.0)
    assert len(times) == 0 and state.v[1] > 0.1
    np.testing.assert_array_equal(state.rests, [0.0, 0.0])


def test_filters_go_on_in_the_period(simulate, accurate):
    """The current of an arrival within the period decays, and drives the membrane only afterwards."""
    bias, weight, tau = 1.2, 1.5, 5.0
    spike = TAU * np.log(bias / (bias - 1.0))
    arrival, ready, t = spike + 1.0, spike + PERIOD, spike + PERIOD + 4.0
    neuron = sx.Refractory(sx.LIF(bias=bias, synapse=sx.ExpSynapse(tau)), PERIOD)
    _, state = simulate(neuron, [arrival], weight, saveat=[arrival + 1.0, t])
    left = weight * np.exp(-(ready - arrival) / tau)
    by_current = left * tau / (TAU - tau) * (np.exp(-(t - ready) / TAU) - np.exp(-(t - ready) / tau))
    expected = bias * (1.0 - np.exp(-(t - ready) / TAU)) + by_current
    np.testing.assert_allclose(state.v, [0.0, expected], atol=accurate)


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_arrivals_in_the_period_are_dropped_or_held(simulate, kept, accurate):
    """Two arrivals of weight 0.2 in the period, one after it."""
    ready = RISE + PERIOD
    ts = [RISE + 2.5, ready + 1.0, ready + 3.0]
    neuron = sx.Refractory(delta(bias=BIAS), PERIOD, kept)
    _, state = simulate(neuron, [RISE + 1.0, RISE + 2.0, ready + 2.0], 0.2, saveat=ts)
    first = BIAS + (kept * 0.4 - BIAS) * np.exp(-1.0 / TAU)
    second = BIAS + (BIAS + (kept * 0.4 - BIAS) * np.exp(-2.0 / TAU) + 0.2 - BIAS) * np.exp(-1.0 / TAU)
    np.testing.assert_allclose(state.v, [0.0, first, second], atol=accurate)
    np.testing.assert_allclose(state.held, [kept * 0.4, 0.0, 0.0], atol=1e-6)


def test_held_arrivals_set_off_a_spike_at_the_end(simulate):
    """It comes at the end to the last digit, and starts the next period."""
    times, state = simulate(sx.Refractory(delta(bias=BIAS), PERIOD, 1.0), [RISE + 1.0], 1.5, saveat=[RISE + 4.0])
    assert times[1] == times[0] + np.asarray(PERIOD, times.dtype)
    assert state.rests[0] == 1.0 and state.v[0] == 0.0
    dropped, _ = simulate(sx.Refractory(delta(bias=BIAS), PERIOD, 0.0), [RISE + 1.0], 1.5)
    assert len(dropped) < len(times)


def test_arrivals_of_the_same_instant_as_a_spike(simulate):
    """Those that make the neuron spike are of before the period; further ones of that instant too."""
    neuron = sx.Refractory(delta(), PERIOD, 1.0)
    times, state = simulate(neuron, [5.0, 5.0], 1.5, saveat=[6.0, 12.0])
    np.testing.assert_array_equal(times, [5.0])
    np.testing.assert_array_equal(state.v, [0.0, 0.0])


def test_only_the_named_variables_are_frozen(simulate, close):
    """The voltage is held during the period, while the adaptation of the threshold decays."""
    tau, increment = 30.0, 0.4
    neuron = sx.Refractory(sx.ALIF(bias=BIAS, tau_adapt=tau, increment=increment), PERIOD, frozen=["v"])
    ts = [RISE + 1.0, RISE + PERIOD, RISE + PERIOD + 1.0]
    _, state = simulate(neuron, saveat=ts)
    np.testing.assert_allclose(state.inner.a, increment * np.exp(-np.asarray([1.0, 3.0, 4.0]) / tau), rtol=20 * close)
    np.testing.assert_allclose(state.v, [0.0, 0.0, BIAS * (1.0 - np.exp(-1.0 / TAU))], rtol=20 * close, atol=1e-12)
    _, all_held = simulate(sx.Refractory(neuron.neuron, PERIOD), saveat=ts)
    np.testing.assert_array_equal(all_held.inner.a[:2], np.asarray(increment, all_held.v.dtype))


def test_gradients_with_named_variables_frozen():
    neuron = sx.Refractory(sx.ALIF(TAU, 30.0, bias=0.1), 2.5, 0.5, ("v",))
    function, arrays = graded(everything(neuron, (0.0, 9.0)), method=sx.EventLoop(diffrax.Heun(), dt0=0.5))
    assert_exact(function, arrays)
    assert_all_learn(function, arrays, (".held_fraction",))


# --- Single spikes ---


@pytest.mark.parametrize("freezes", [True, False])
def test_a_single_spike(simulate, freezes, close):
    neuron = sx.SingleSpike(delta(bias=BIAS, v_reset=-0.5), freezes)
    # The bias alone would make it spike again; so would the arrivals.
    times, state = simulate(neuron, [RISE + 1.0, RISE + 6.0], 2.5, saveat=[RISE - 1.0, RISE + 0.5, RISE + 7.0])
    np.testing.assert_allclose(times, [RISE], rtol=close)
    np.testing.assert_array_equal(state.spikes, [0.0, 1.0, 1.0])
    early = BIAS - (BIAS + 0.5) * np.exp(-0.5 / TAU)
    late = BIAS + (2.5 * np.exp(-6.0 / TAU) + 2.5 * np.exp(-1.0 / TAU)) - (BIAS + 0.5) * np.exp(-7.0 / TAU)
    expected = [-0.5, -0.5] if freezes else [early, late]
    np.testing.assert_allclose(state.v[1:], expected, rtol=20 * close)


# --- Conductances ---


PORTS = {"exc": sx.ExpSynapse(3.0), "inh": sx.AlphaSynapse(4.0)}
REVERSAL = {"exc": 4.0, "inh": -1.0}


def conductive(**parameters):
    return sx.ConductanceBased(sx.LIF(synapse=PORTS, **parameters), REVERSAL)


def test_conductances_against_scipy(simulate, accurate):
    weight, arrivals = {"exc": 0.4, "inh": 0.3}, [3.0, 8.0]

    def slope(t, v, past):
        since = [t - a for a in past]
        exc = sum(weight["exc"] * np.exp(-s / 3.0) for s in since)
        inh = sum(weight["inh"] * s / 4.0 * np.exp(1.0 - s / 4.0) for s in since)
        return (0.1 - v + exc * (4.0 - v) + inh * (-1.0 - v)) / TAU

    ts = [5.0, 10.0, 20.0, 30.0]
    expected, v, t = [], np.zeros(1), 0.0
    for stop in sorted([*arrivals, *ts]):
        past = [a for a in arrivals if a <= t]
        part = solve_ivp(slope, (t, stop), v, method="DOP853", rtol=1e-12, atol=1e-13, args=(past,))
        v, t = part.y[:, -1], stop
        expected += [v[0]] if stop in ts else []
    times, state = simulate(conductive(bias=0.1), arrivals, weight, saveat=ts)
    assert len(times) == 0 and max(expected) > 0.2
    np.testing.assert_allclose(state.v, expected, atol=accurate)


@pytest.mark.slow
def test_one_conductance_without_a_name(simulate):
    """Far from its reversal voltage a conductance is a current."""
    far, (current, expected) = 1e4, simulate(sx.LIF(), [3.0], 8.0, saveat=[6.0])
    times, state = simulate(sx.ConductanceBased(sx.LIF(), far), [3.0], 8.0 / far, saveat=[6.0])
    np.testing.assert_allclose(times, current, rtol=1e-3)
    np.testing.assert_allclose(state.v, expected.v, rtol=1e-2)


# --- Nesting ---


@pytest.mark.slow
def test_a_refractory_period_around_another(simulate):
    """The longer of the two counts, and two of one length end at one instant."""
    (single, _), *nested = (
        simulate(neuron)
        for neuron in (
            sx.Refractory(sx.LIF(bias=BIAS), PERIOD),
            sx.Refractory(sx.Refractory(sx.LIF(bias=BIAS), 1.0), PERIOD),
            sx.Refractory(sx.Refractory(sx.LIF(bias=BIAS), PERIOD), 1.0),
            sx.Refractory(sx.Refractory(sx.LIF(bias=BIAS), PERIOD), PERIOD),
        )
    )
    assert len(single) == 4
    for times, _ in nested:
        np.testing.assert_allclose(times, single, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("freezes", [True, False])
def test_a_single_spike_of_a_refractory_neuron(simulate, freezes, close):
    times, state = simulate(
        sx.SingleSpike(sx.Refractory(sx.LIF(bias=BIAS), PERIOD), freezes), saveat=[RISE + 1.0, RISE + PERIOD + 5.0]
    )
    np.testing.assert_allclose(times, [RISE], rtol=close)
    np.testing.assert_array_equal(state.inner.rests, [1.0, 0.0])
    np.testing.assert_allclose(state.v, [0.0, 0.0 if freezes else BIAS * (1 - np.exp(-5.0 / TAU))], rtol=20 * close)


@pytest.mark.slow
def test_conductances_inside_and_outside_of_a_refractory_period(simulate):
    arrivals, weight = [3.0, 5.0, 14.0, 16.0], {"exc": 3.0, "inh": 0.2}
    inside, _ = simulate(sx.Refractory(conductive(), PERIOD), arrivals, weight)
    around = sx.ConductanceBased(sx.Refractory(sx.LIF(synapse=PORTS), PERIOD), REVERSAL)
    outside, _ = simulate(around, arrivals, weight)
    assert len(inside) >= 2
    np.testing.assert_allclose(outside, inside, rtol=1e-6)


class Kicked(sx.AbstractNeuron):
    """A LIF neuron that is thrown back, once, as its voltage rises through one half."""

    bias: sx.Scalar = BIAS
    synapse: sx.AbstractSynapse = sx.ExpSynapse()

    def initial_state(self):
        return {"v": jnp.asarray(0.0), "half": jnp.asarray(0.5)}

    def dynamics(self, t, state, drive):
        return {"v": (self.bias + drive - state["v"]) / TAU, "half": jnp.zeros_like(state["half"])}

    def spike_condition(self, t, state):
        return state["v"] - 1.0

    def reset(self, t, state):
        return state | {"v": jnp.zeros_like(state["v"])}

    def internal_events(self):
        return (sx.Event(lambda t, state: state["v"] - state["half"], lambda t, state: {"v": 0.0, "half": 2.0}),)


@pytest.mark.parametrize("wrap", [lambda n: sx.Refractory(n, PERIOD), sx.SingleSpike], ids=["refractory", "single"])
def test_events_inside_still_happen(simulate, wrap, close):
    times, _ = simulate(wrap(Kicked()))
    assert times[0] == pytest.approx(TAU * np.log(BIAS / (BIAS - 0.5)) + RISE, rel=4 * close)


@pytest.mark.parametrize("wrap", [sx.Refractory, sx.SingleSpike])
def test_what_a_spike_carries_is_that_of_the_neuron_inside(wrap):
    neuron, drive = sx.EGRU(), {"u": jnp.asarray(0.1), "r": jnp.asarray(0.2), "z": jnp.asarray(0.3)}
    payload = wrap(neuron).payload(0.0, wrap(neuron).initial_state(), drive)
    assert payload == neuron.payload(0.0, neuron.initial_state(), drive)
    assert wrap(neuron).gain(payload) == neuron.gain(payload)


# --- Gradients ---


LIF = (TAU, 0.05, 1.0, -0.1, 0.1)


@pytest.mark.parametrize(
    "neuron, weight",
    [
        pytest.param(sx.Refractory(delta(v_reset=-0.1, bias=1.3), 2.5, 0.6), (-0.2, 0.6), id="delta"),
        pytest.param(
            sx.Refractory(conductive(bias=0.1), 2.5, 0.5),
            {"exc": (0.5, 1.6), "inh": (0.0, 0.3)},
            id="conductive",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            sx.Refractory(sx.EIF(TAU, 0.05, 1.0, 0.2, 1.6, -0.1, 0.1), 2.5, 0.5),
            (-1.0, 7.0),
            id="refractory-eif",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_gradients(neuron, weight):
    # The fraction that is held is no end of its range, which finite differences would leave.
    # The gradient is that of the steps, whatever solver takes them: one of two stages compiles fast.
    function, arrays = graded(everything(neuron, weight), method=sx.EventLoop(diffrax.Heun(), dt0=0.5))
    assert_exact(function, arrays)
    # Without a `DeltaSynapse` there is nothing to keep.
    without = () if isinstance(neuron.synapse, sx.DeltaSynapse) else (".held_fraction",)
    assert_all_learn(function, arrays, without)


@pytest.mark.slow
@pytest.mark.parametrize("freezes", [True, False])
def test_gradients_of_a_single_spike(freezes):
    neuron = sx.SingleSpike(sx.Refractory(sx.LIF(*LIF), 2.5, 0.5), freezes)
    function, arrays = graded(everything(neuron, (0.0, 9.0)), method=sx.EventLoop(dt0=1.0))
    assert_exact(function, arrays, spikes=0.9, most=1)
    assert int(function(arrays)[1].max()) == 1
    # A frozen neuron never leaves its period.
    assert_all_learn(function, arrays, (".neuron.held_fraction",))


def test_the_gradient_of_the_period_in_closed_form():
    """The k-th spike is at (k + 1) tau ln(b / (b - 1)) + k T."""

    def spikes(period):
        network = single_layer(sx.Refractory(sx.LIF(bias=BIAS), period), np.zeros((1, 1)), jnp.float64)
        silent = sx.Spikes(jnp.full((1, 1), jnp.inf))
        return sx.simulate(network, silent, T1, method=sx.EventLoop(dt0=0.5)).spikes["output"].times[0, :4]

    np.testing.assert_allclose(jax.jit(jax.jacrev(spikes))(jnp.asarray(PERIOD)), np.arange(4.0), atol=1e-12)
