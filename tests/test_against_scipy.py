"""Spike times, states and drives against SciPy, which integrates the textbook equations from event to event."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import spikax as sx

from .helpers import single_layer


pytestmark = pytest.mark.float64

T1 = 40.0
TAU = 20.0
BIAS = 0.1


class _LIF:
    make = staticmethod(lambda synapse: sx.LIF(TAU, 0.05, 1.0, -0.1, BIAS, synapse))
    weights = (-2.0, 9.0)
    start, threshold, after = 0.05, 1.0, -0.1
    slope = staticmethod(lambda v, drive: (0.05 - v + drive + BIAS) / TAU)
    kick = staticmethod(lambda v, weight: v + weight)


class _EIF:
    make = staticmethod(lambda synapse: sx.EIF(TAU, 0.05, 1.0, 0.2, 1.6, -0.1, BIAS, synapse))
    weights = (-2.0, 9.0)
    start, threshold, after = 0.05, 1.6, -0.1
    slope = staticmethod(lambda v, drive: (0.05 - v + 0.2 * np.exp((v - 1.0) / 0.2) + drive + BIAS) / TAU)
    kick = staticmethod(lambda v, weight: v + weight)


class _QIF:
    make = staticmethod(lambda synapse: sx.QIF(TAU, BIAS, synapse))
    weights = (-10.0, 60.0)
    start, threshold, after = 0.5, 1.0, 0.0

    @staticmethod
    def slope(phi, drive):
        sine, cosine = np.sin(np.pi * phi), np.cos(np.pi * phi)
        return (cosine**2 + cosine * sine / np.pi + sine**2 / np.pi**2 * (drive + BIAS)) / TAU

    @staticmethod
    def kick(phi, weight):
        voltage = np.pi * np.tan(np.pi * (phi - 0.5)) + weight
        return 0.5 + np.arctan(voltage / np.pi) / np.pi


class _Exp:
    make, scale, size = sx.ExpSynapse(5.0), 1.0, 1
    slope = staticmethod(lambda x: [-x[0] / 5.0])
    drive = staticmethod(lambda x: x[0])
    arrive = staticmethod(lambda model, v, x, weight: (v, [x[0] + weight]))


class _Alpha:
    make, scale, size = sx.AlphaSynapse(3.0), 0.7, 2
    slope = staticmethod(lambda x: [-x[0] / 3.0, (x[0] - x[1]) / 3.0])
    drive = staticmethod(lambda x: x[1])
    arrive = staticmethod(lambda model, v, x, weight: (v, [x[0] + np.e * weight, x[1]]))


class _Delta:
    make, scale, size = sx.DeltaSynapse(), 0.12, 0
    slope = staticmethod(lambda x: [])
    drive = staticmethod(lambda x: 0.0)
    arrive = staticmethod(lambda model, v, x, weight: (model.kick(v, weight), x))


MODELS = {"lif": _LIF, "qif": _QIF, "eif": _EIF}
SYNAPSES = {"exp": _Exp, "alpha": _Alpha, "delta": _Delta}


def reference(model, synapse, times, weights, saved):
    """The spike times of one neuron, and its state and drive at the times `saved`, which ascend."""

    def field(t, y):
        return [model.slope(y[0], synapse.drive(y[1:])), *synapse.slope(y[1:])]

    def crossing(t, y):
        return y[0] - model.threshold

    crossing.terminal, crossing.direction = True, 1.0
    arrivals = [(t, w) for t, w in zip(times, weights, strict=True) if t < T1]
    stops = sorted([(t, 0, w) for t, w in arrivals] + [(t, 1, 0.0) for t in saved] + [(T1, 2, 0.0)])
    t, y = 0.0, np.array([model.start, *np.zeros(synapse.size)])
    spikes, states = [], []
    for stop, kind, weight in stops:
        while t < stop:
            part = solve_ivp(
                field, (t, stop), y, method="DOP853", rtol=1e-12, atol=1e-13, events=crossing, max_step=1.0
            )
            t, y = part.t[-1], part.y[:, -1]
            if part.status == 1:
                spikes.append(t)
                y[0] = model.after
        if kind == 0:
            v, x = synapse.arrive(model, y[0], y[1:], weight)
            if v >= model.threshold:
                spikes.append(t)
                v = model.after
            y = np.array([v, *x])
        if kind == 1:
            states.append((y[0], synapse.drive(y[1:])))
    return np.array(spikes), np.array(states)


class Cases:
    """Random inputs, of 1 to 20 arrivals, to a few neurons: their simulation by spikax and by SciPy."""

    def __init__(self, model, synapse, samples, neurons, seed=0):
        rng = np.random.default_rng(seed)
        low, high = np.array(MODELS[model].weights) * SYNAPSES[synapse].scale
        self.weights = rng.uniform(low, high, (20, neurons))
        self.times = np.full((samples, 20), np.inf)
        for row in self.times:
            filled = rng.permutation(20)[: rng.integers(1, 21)]
            row[filled] = rng.uniform(0.0, T1, len(filled))
        self.saved = rng.uniform(0.0, T1, 5)
        self.order = np.argsort(self.saved)
        network = single_layer(MODELS[model].make(SYNAPSES[synapse].make), self.weights, jnp.float64)

        def simulate(**options):
            return sx.simulate(
                network, sx.Spikes(jnp.asarray(self.times)[..., None]), T1, saveat=self.saved, max_spikes=24, **options
            )

        self.tight = simulate(method=sx.EventLoop(rtol=1e-12, atol=1e-12))
        self.default = simulate()
        self.expected = [
            [
                reference(MODELS[model], SYNAPSES[synapse], self.times[i], self.weights[:, j], self.saved[self.order])
                for j in range(neurons)
            ]
            for i in range(samples)
        ]

    def spike_error(self, solution):
        """The largest error of a spike time, with the same number of spikes everywhere, and some."""
        found = np.asarray(solution.spikes["output"].times)
        errors = []
        for i, row in enumerate(self.expected):
            for j, (spikes, _) in enumerate(row):
                times = found[i, j][np.isfinite(found[i, j])]
                assert len(times) == len(spikes)
                errors += list(np.abs(times - spikes))
        assert len(errors) > 2 * len(self.expected)
        return max(errors)

    def state_errors(self, solution):
        """The largest errors of a saved state and of a saved drive."""
        (state,) = jax.tree.leaves(solution.states["output"])
        drive = solution.drives["output"]
        pairs = np.stack([np.asarray(state), np.asarray(drive)], axis=-1)[:, self.order]
        expected = np.array([[states for _, states in row] for row in self.expected])
        return np.max(np.abs(np.moveaxis(pairs, 2, 1) - expected), axis=(0, 1, 2))


@pytest.mark.parametrize("synapse", SYNAPSES)
@pytest.mark.parametrize("model", MODELS)
def test_against_scipy(model, synapse):
    cases = Cases(model, synapse, samples=3, neurons=2)
    assert cases.spike_error(cases.tight) < 1e-8
    assert np.all(cases.state_errors(cases.tight) < 1e-8)
    assert cases.spike_error(cases.default) < 1e-6 * TAU
    assert np.all(cases.state_errors(cases.default) < 1e-5)
    if cases.default.stats["output"].method == "ClosedForm":
        # Exact but for rounding, and for the error of SciPy.
        assert cases.spike_error(cases.default) < 1e-9
