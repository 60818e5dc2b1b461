"""The neuron models against SciPy, which integrates their textbook equations from event to event."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest
from scipy.integrate import solve_ivp

import spikax as sx

from .helpers import single_layer


pytestmark = pytest.mark.modes("float32", "float64")  # `test_dtypes` has all neurons in the mode `mixed`


TAU_SYN = 4.0
SYNAPSE = sx.ExpSynapse(TAU_SYN)
CHANNELS, NEURONS, SAVED = 5, 2, 4


class _Reset:
    """A model whose first variable is the voltage, reset at a spike."""

    t1 = 60.0

    @classmethod
    def spikes(cls, y):
        return y[0] - cls.threshold


class _IF(_Reset):
    make = sx.IF(20.0, 1.0, -0.1, 0.4, SYNAPSE)
    weights, start, threshold = (-3.0, 6.0), (-0.1,), 1.0
    slope = staticmethod(lambda v, i: [(i + 0.4) / 20.0])
    after = staticmethod(lambda v: [-0.1])


class _ALIF(_Reset):
    make = sx.ALIF(20.0, 80.0, 0.05, 1.0, -0.1, 0.3, 1.4, SYNAPSE)
    weights, start = (-3.0, 6.0), (0.05, 0.0)
    slope = staticmethod(lambda v, a, i: [(0.05 - v + i + 1.4) / 20.0, -a / 80.0])
    spikes = staticmethod(lambda y: y[0] - 1.0 - y[1])
    after = staticmethod(lambda v, a: [-0.1, a + 0.3])


class _ResonateAndFire(_Reset):
    make = sx.ResonateAndFire(20.0, 12.0, 1.0, 0.2, -0.1, 0.5, SYNAPSE)
    weights, start = (-15.0, 26.0), (0.0, 0.0)
    spikes = staticmethod(lambda y: y[1] - 1.0)
    after = staticmethod(lambda u, v: [0.2, -0.1])

    @staticmethod
    def slope(u, v, i):
        turned = complex(-0.05, np.pi / 6) * complex(u, v) + (i + 0.5) / 20.0
        return [turned.real, turned.imag]


class _AdEx(_Reset):
    make = sx.AdEx(bias=25.0, synapse=SYNAPSE)
    weights, start, threshold = (-20.0, 60.0), (-70.6, 0.0), -40.4
    after = staticmethod(lambda v, w: [-70.6, w + 2.68])

    @staticmethod
    def slope(v, w, i):
        current = -(v + 70.6) + 2.0 * np.exp((v + 50.4) / 2.0) - w + i + 25.0
        return [current / 9.37, (0.133 * (v + 70.6) - w) / 144.0]


class _Izhikevich(_Reset):
    make = sx.Izhikevich(bias=6.0, synapse=SYNAPSE)
    weights, start, threshold = (-5.0, 20.0), (-70.0, -14.0), 30.0
    slope = staticmethod(lambda v, u, i: [0.04 * v**2 + 5 * v + 140 - u + i + 6.0, 0.02 * (0.2 * v - u)])
    after = staticmethod(lambda v, u: [-65.0, u + 8.0])


def steady(opens, closes):
    return opens / (opens + closes)


class _HodgkinHuxley(_Reset):
    make = sx.HodgkinHuxley(bias=8.0, synapse=SYNAPSE)
    weights, threshold = (-5.0, 20.0), 0.0
    t1 = 40.0
    after = None

    @staticmethod
    def rates(v):
        alpha = 0.1 * (v + 40) / -np.expm1(-(v + 40) / 10), 0.07 * np.exp(-(v + 65) / 20)
        alpha += (0.01 * (v + 55) / -np.expm1(-(v + 55) / 10),)
        return zip(
            alpha,
            (4 * np.exp(-(v + 65) / 18), 1 / (1 + np.exp(-(v + 35) / 10)), 0.125 * np.exp(-(v + 65) / 80)),
            strict=True,
        )

    @classmethod
    def slope(cls, v, m, h, n, i):
        current = 120 * m**3 * h * (v - 50) + 36 * n**4 * (v + 77) + 0.3 * (v + 54.387)
        gates = [a * (1 - x) - b * x for x, (a, b) in zip((m, h, n), cls.rates(v), strict=True)]
        return [i + 8.0 - current, *gates]


_HodgkinHuxley.start = (-65.0, *(steady(*pair) for pair in _HodgkinHuxley.rates(-65.0)))


class _MorrisLecar(_Reset):
    make = sx.MorrisLecar(bias=90.0, synapse=SYNAPSE)
    weights, threshold = (-40.0, 80.0), 0.0
    start = (-60.855, 0.5 * (1.0 + np.tanh(-62.855 / 30.0)))
    t1 = 300.0
    after = None

    @staticmethod
    def slope(v, n, i):
        m = 0.5 * (1 + np.tanh((v + 1.2) / 18))
        rate, target = 0.04 * np.cosh((v - 2) / 60), 0.5 * (1 + np.tanh((v - 2) / 30))
        current = 4.4 * m * (v - 120) + 8 * n * (v + 84) + 2 * (v + 60)
        return [(i + 90.0 - current) / 20, rate * (target - n)]


MODELS = {
    "if": _IF,
    "alif": _ALIF,
    "resonate": _ResonateAndFire,
    "adex": _AdEx,
    "izhikevich": _Izhikevich,
    "hodgkin-huxley": _HodgkinHuxley,
    "morris-lecar": _MorrisLecar,
}
NEURON = {name: model.make for name, model in MODELS.items()}


def reference(slope, start, spikes, after, arrivals, t1, saved=()):
    """The spike times of one neuron under arrivals (time, weight), and its states at the times `saved`.

    A spike that resets nothing has no `after`.
    """

    def field(t, y):
        return [*slope(*y), -y[-1] / TAU_SYN]

    def crossing(t, y):
        return spikes(y)

    crossing.terminal, crossing.direction = after is not None, 1.0
    stops = sorted([(t, w, False) for t, w in arrivals] + [(t, 0.0, True) for t in saved] + [(t1, 0.0, False)])
    t, y = 0.0, np.array([*start, 0.0])
    times, states = [], []
    for stop, weight, saves in stops:
        while t < stop:
            options = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-12, "events": crossing, "max_step": 2.0}
            part = solve_ivp(field, (t, stop), y, **options)
            t, y = part.t[-1], part.y[:, -1]
            times += list(part.t_events[0])
            if part.status == 1:
                y = np.array([*after(*y[:-1]), y[-1]])
        y[-1] += weight
        if saves:
            states.append(y[:-1])
    return np.array(times), np.array(states)


def single(x):
    """`x`, in numbers that both float types hold, so that all compute with the same."""
    return np.float64(np.float32(x))


def assert_same_spikes(found, expected, tolerance):
    """The same number of spikes, at the same times, for each neuron."""
    for times, reference in zip(found, expected, strict=True):
        times = np.asarray(times)[np.isfinite(times)]
        assert len(times) == len(reference)
        np.testing.assert_allclose(times, reference, rtol=0.0, atol=tolerance)


def assert_same_as_scipy(model, dtype, tolerance, state_tolerance, samples=1, **options):
    """Spike times and states under a constant current and random arrivals."""
    rng = np.random.default_rng(1)
    weights = single(rng.uniform(*model.weights, (CHANNELS, NEURONS)))
    times = single(rng.uniform(0.0, 0.8 * model.t1, (samples, CHANNELS)))
    saved = single(np.sort(rng.uniform(0.0, model.t1, SAVED)))
    expected = [
        reference(model.slope, model.start, model.spikes, model.after, zip(row, column, strict=True), model.t1, saved)
        for row in times
        for column in weights.T
    ]
    network = single_layer(model.make, weights, dtype)
    inputs, ts = sx.Spikes(jnp.asarray(times, dtype)[..., None]), jnp.asarray(saved, dtype)
    sol = sx.simulate(network, inputs, model.t1, saveat=ts, max_spikes=24, **options)
    spikes = [spikes for spikes, _ in expected]
    assert sum(map(len, spikes)) >= 2 * len(spikes)
    assert_same_spikes(sol.spikes["output"].times.reshape(samples * NEURONS, -1), spikes, tolerance)
    states = np.moveaxis(np.reshape([states for _, states in expected], (samples, NEURONS, SAVED, -1)), 1, 2)
    found = np.stack(jax.tree.leaves(sol.states["output"]), axis=-1)
    size = 1.0 + np.max(np.abs(states), axis=(0, 1, 2))
    np.testing.assert_allclose(found / size, states / size, rtol=0.0, atol=state_tolerance)


@pytest.mark.modes("float64")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "hodgkin-huxley" else name for name in MODELS]
)
def test_against_scipy(name, dtype, accurate):
    assert_same_as_scipy(MODELS[name], dtype, 10.0 * accurate, 1e-5 if dtype == jnp.float64 else 2e-2)


@pytest.mark.slow
@pytest.mark.float64
@pytest.mark.parametrize("name", MODELS)
def test_against_scipy_with_tight_tolerances(name):
    method = sx.EventLoop(rtol=1e-12, atol=1e-12, max_steps=2**15)
    assert_same_as_scipy(MODELS[name], jnp.float64, 1e-8, 1e-8, samples=3, method=method)


PRESETS = tuple(sx.Izhikevich.PRESETS)


def test_presets_of_izhikevich(dtype, accurate):
    """All of them in one layer, with parameters of its own for each neuron, from rest under a constant current."""
    kinds = [sx.Izhikevich.preset(name) for name in PRESETS]
    bias, t1 = 10.0, 100.0
    values = {key: single([getattr(kind, key) for kind in kinds]) for key in "abcd"}
    cell = sx.Izhikevich(**{key: jnp.asarray(value, dtype) for key, value in values.items()}, bias=bias)
    network = single_layer(cell, np.zeros((1, len(kinds))), dtype)
    silent = sx.Spikes(jnp.full((1, 1), jnp.inf, dtype))
    found = sx.simulate(network, silent, t1, max_spikes=64, method=sx.EventLoop(max_steps=8000)).spikes["output"].times
    expected = []
    for a, b, c, d in np.stack(list(values.values())).T:
        v = min(np.roots([0.04, 5.0 - b, 140.0]).real)

        def slope(v, u, i, a=a, b=b):
            return [0.04 * v**2 + 5.0 * v + 140.0 - u + bias, a * (b * v - u)]

        def after(v, u, c=c, d=d):
            return [c, u + d]

        expected.append(reference(slope, (v, b * v), lambda y: y[0] - 30.0, after, (), t1)[0])
    # Chattering and bursting neurons spike in groups, fast ones often, regular ones seldom.
    counts = dict(zip(PRESETS, map(len, expected), strict=True))
    assert counts["regular_spiking"] < counts["intrinsically_bursting"] < counts["chattering"] < counts["fast_spiking"]
    assert_same_spikes(found, expected, 20.0 * accurate)


def test_a_preset_takes_other_parameters():
    neuron = sx.Izhikevich.preset("chattering", synapse=SYNAPSE, bias=3.0, d=1.0)
    assert (neuron.a, neuron.b, neuron.c, neuron.d, neuron.bias) == (0.02, 0.2, -50.0, 1.0, 3.0)
    assert neuron.synapse is SYNAPSE


@pytest.mark.parametrize("name", NEURON)
def test_a_neuron_starts_at_its_rest(name):
    """Without any drive nothing moves, but for the perfect integrator, which has no rest and starts at its reset."""
    neuron = NEURON[name]
    still = sx.IF(bias=0.0) if name == "if" else type(neuron)()
    state = still.initial_state()
    change = still.dynamics(jnp.asarray(0.0), state, jnp.asarray(0.0))
    for rate in jax.tree.leaves(change):
        assert abs(float(rate)) < 5e-3


def test_an_izhikevich_neuron_without_rest_starts_where_it_is_slowest():
    def start(b):
        return sx.Izhikevich(b=b).initial_state().v

    v, slope = jax.value_and_grad(start)(jnp.asarray(0.3))
    assert float(v) == pytest.approx(-4.7 / 0.08)
    assert float(slope) == pytest.approx(1.0 / 0.08)


@pytest.mark.parametrize("name", NEURON)
def test_an_arrival_through_a_delta_synapse_adds_its_weight_to_the_voltage(name):
    neuron = NEURON[name]
    state = neuron.initial_state()
    after = neuron.receive(jnp.asarray(0.0), state, jnp.asarray(0.25))
    change = [float(new - old) for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True)]
    assert change == pytest.approx([0.25] + [0.0] * (len(change) - 1), abs=1e-5)


@pytest.mark.parametrize("leaf, centre, rate", [("m", -40.0, 1.0), ("n", -55.0, 0.1)])
def test_rates_at_their_removable_singularities(leaf, centre, rate, dtype):
    """The rate at which a closed gate opens, alpha, with its first two derivatives, at and around the singularity."""
    neuron = sx.HodgkinHuxley()
    zero = jnp.zeros((), dtype)

    def alpha(v):
        return getattr(neuron.dynamics(zero, sx.HodgkinHuxleyState(v, zero, zero, zero), zero), leaf)

    x = np.concatenate([[0.0], *([sign * 10.0**k] for k in np.arange(-9, 2.1, 0.25) for sign in (-1, 1))])
    v = np.asarray(centre + 10.0 * x, dtype)
    values, slopes, bends = (jax.vmap(f)(jnp.asarray(v)) for f in (alpha, jax.grad(alpha), jax.grad(jax.grad(alpha))))
    # Around zero by the first terms of the power series, elsewhere with more digits than either float type has.
    x = (np.longdouble(v) - centre) / 10
    near = np.abs(x) < 1e-3
    far = np.where(near, 1.0, x)
    fade = np.exp(-far)
    value = np.where(near, 1 + x / 2 + x**2 / 12, far / -np.expm1(-far))
    slope = np.where(near, 0.5 + x / 6 - x**3 / 180, (1 - fade - far * fade) / (1 - fade) ** 2)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(values, rate * value, rtol=8 * eps, atol=eps)
    np.testing.assert_allclose(slopes, rate / 10 * slope, rtol=64 * eps, atol=8 * eps)
    assert float(bends[0]) == pytest.approx(rate / 600, rel=1e-5)
    assert bool(jnp.all(jnp.isfinite(bends)))


@pytest.mark.modes("float32", "mixed")
def test_a_spike_is_counted_once(dtype):
    """A voltage that stays above the threshold gives no second spike, and one that returns to it does."""
    neuron = sx.HodgkinHuxley(v_threshold=-60.0, g_sodium=1.0)
    network = single_layer(neuron, np.asarray([[60.0]]), dtype)
    inputs = sx.Spikes(jnp.asarray([[5.0, 7.0, 9.0, 60.0]], dtype))
    times = sx.simulate(network, inputs, 80.0, method=sx.EventLoop(max_steps=8000)).spikes["output"].times[0]
    assert int(jnp.sum(jnp.isfinite(times))) == 2
    assert 5.0 < float(times[0]) < 6.0 and 60.0 < float(times[1]) < 61.0


@pytest.mark.float64
@pytest.mark.parametrize(
    "solver, rtol",
    [
        pytest.param(diffrax.Kvaerno3, 1e-8, id="kvaerno3", marks=pytest.mark.slow),
        pytest.param(diffrax.Kvaerno5, 1e-9, id="kvaerno5"),
    ],
)
def test_stiff_solvers_find_the_spikes_of_the_explicit_one(solver, rtol):
    network = single_layer(sx.HodgkinHuxley(bias=10.0, synapse=SYNAPSE), np.asarray([[5.0]]), jnp.float64)
    inputs = sx.Spikes(jnp.asarray([[3.0]]))
    explicit = sx.simulate(network, inputs, 20.0)
    root_finder = optimistix.Newton(rtol=1e-10, atol=1e-12)
    implicit = sx.simulate(
        network, inputs, 20.0, method=sx.EventLoop(solver(root_finder=root_finder), rtol=rtol, max_steps=8000)
    )
    expected = explicit.spikes["output"].times[0]
    expected = expected[np.isfinite(expected)]
    assert len(expected) == 2
    assert_same_spikes(implicit.spikes["output"].times, [expected], 1e-5)
