"""Neurons whose state holds small arrays: as those with the same variables as numbers, in every method."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import finite_sum, random_inputs


pytestmark = pytest.mark.modes("float64")

T1 = 30.0


class Adapting(sx.AbstractNeuron):
    """A neuron whose spikes excite a slow variable, which inhibits it."""

    tau: sx.Scalar = 10.0
    slow: sx.Scalar = 40.0
    cubic: float = eqx.field(default=0.0, static=True)
    synapse: sx.Synapse = sx.ExpSynapse(5.0)

    @property
    def is_linear(self):
        return self.cubic == 0.0

    def slopes(self, v, w, drive):
        return (drive - v - w - self.cubic * v**3) / self.tau, -w / self.slow


class Numbers(Adapting):
    def initial_state(self):
        return {"v": 0.1, "w": 0.0}

    def dynamics(self, t, state, drive):
        return dict(zip("vw", self.slopes(state["v"], state["w"], drive), strict=True))

    def spike_condition(self, t, state):
        return state["v"] - 1.0

    def reset(self, t, state):
        return {"v": jnp.zeros(()), "w": state["w"] + 0.3}


class Vector(Adapting):
    """The state is one array."""

    def initial_state(self):
        return jnp.array([0.1, 0.0])

    def dynamics(self, t, state, drive):
        return jnp.stack(self.slopes(state[0], state[1], drive))

    def spike_condition(self, t, state):
        return state[0] - 1.0

    def reset(self, t, state):
        return state.at[0].set(0.0).at[1].add(0.3)


class Mixed(Adapting):
    """A number and an array, which comes first, with an unused entry."""

    def initial_state(self):
        return {"a": jnp.zeros((1, 2)), "v": 0.1}

    def dynamics(self, t, state, drive):
        v, w = self.slopes(state["v"], state["a"][0, 0], drive)
        return {"a": jnp.stack([w, -state["a"][0, 1]])[None], "v": v}

    def spike_condition(self, t, state):
        return state["v"] - 1.0

    def reset(self, t, state):
        return {"a": state["a"].at[0, 0].add(0.3), "v": jnp.zeros(())}


CASES = {
    "event loop": (Vector, {"cubic": 0.2}, None, {}),
    "event loop, shared clock": (Mixed, {"cubic": 0.2}, 0.0, {}),
    "closed form": (Mixed, {}, None, {}),
    "event queue": (Vector, {}, 0.0, {}),
}
LONG = {
    "event loop, fixed steps": (Mixed, {"cubic": 0.2}, None, {"method": sx.EventLoop(dt0=0.5)}),
    "continuous adjoint": (Mixed, {"cubic": 0.2}, None, {"adjoint": sx.EventPropAdjoint()}),
    "windows, event loop": (Mixed, {"cubic": 0.2}, 2.0, {}),
    "windows, closed form": (Vector, {}, 2.0, {}),
}


def simulated(kind, given, delay, options):
    """The result, and the gradient by time constants and weights, of spikes and of saved voltages."""
    dtype = jnp.float64
    neuron = kind(tau=jnp.asarray(10.0, dtype), slow=jnp.full(3, 40.0, dtype), **given)
    rng = np.random.default_rng(0)
    outer, inner = (jnp.asarray(rng.normal(*law), dtype) for law in ((2.0, 1.0, (4, 3)), (0.0, 0.5, (3, 3))))
    loops = [] if delay is None else [sx.Dense("a", "a", inner, delay)]
    network = sx.Network({"a": sx.Layer(neuron, 3)}, [sx.Dense("input", "a", outer), *loops], 4, "a")
    inputs = random_inputs(1, (2, 4, 6), 25.0, dtype)

    def total(network):
        ts = jnp.asarray([7.0, T1], dtype)
        solution = sx.simulate(network, inputs, T1, max_spikes=16, saveat=ts, **options)
        state = solution.states["a"]
        v = state[..., 0] if kind is Vector else state["v"]
        times = solution.spikes["a"].times
        return finite_sum(times, jnp.ones((), dtype)) + jnp.sum(v), (times, v)

    (_, found), gradient = eqx.filter_jit(eqx.filter_value_and_grad(total, has_aux=True))(network)
    return found, jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array))


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in LONG)])
def test_an_array_is_as_numbers(case):
    kind, *given = (CASES | LONG)[case]
    (expected, gradient), (found, other) = (simulated(each, *given) for each in (Numbers, kind))
    assert int(jnp.sum(jnp.isfinite(expected[0]))) >= 10
    for one, same in zip((*found, *other), (*expected, *gradient), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-7, atol=1e-7)


def test_the_shapes_of_arrays_are_told():
    assert sx.check_neuron(Vector()).state == ("an array of shape (2,)",)
    assert sx.check_neuron(Mixed(cubic=0.2)).state == ("a of shape (1, 2)", "v")


def test_neurons_with_array_states_have_pseudospikes():
    states = jnp.asarray([[[0.5, 0.0], [1.0, 0.0], [-1.0, 0.0]]])
    times = sx.silence.pseudospikes(sx.Layer(Vector(), 3), T1, states, tau=20.0)
    np.testing.assert_allclose(times, [[40.0, 30.0, 70.0]])
