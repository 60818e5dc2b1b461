"""Every derivative of every method: reverse mode, forward mode, and second derivatives.

A new method, neuron or adjoint joins the table by one line. That gradients are those of finite differences is tested
where the methods are. Here the tangents are those of the gradients, and second derivatives are finite differences of
gradients.
"""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from . import test_gradients as gradients, test_model_gradients as models, test_wiring as wiring
from .helpers import cast, everything, finite_sum, learning, single_layer
from .test_bins import shared_filters


pytestmark = pytest.mark.float64
slow = pytest.mark.slow

T1 = 30.0
SAVED = (21.1, 0.0, 5.0, 12.3, T1)
LOOP = sx.EventLoop(dt0=0.5)
F64 = jnp.float64


def one_layer(neuron, synapse="exp"):
    return gradients.case(neuron, synapse)


def group(network):
    return network, wiring.inputs(F64, 0.8 * T1), {}


def delayed(shape, neuron=None, scale=1.0):
    delay = sx.Positive(jnp.asarray(np.random.default_rng(1).uniform(0.5, 4.0, shape)))
    return group(wiring.recurrent(F64, delay, neuron, scale))


def sharing_a_clock(name):
    neuron, *bounds = wiring.SHARING_A_CLOCK[name]
    rng = np.random.default_rng(3)
    connections = [
        sx.Dense("input", "output", wiring.drawn(rng, (3, 4), bounds[0])),
        sx.Dense("output", "output", wiring.drawn(rng, (4, 4), bounds[1])),
    ]
    return group(sx.Network({"output": sx.Layer(learning(neuron, 4, F64), 4)}, connections, 3, "output"))


def two_layers():
    layers = (
        sx.Layer(sx.LIF(bias=0.2), 4, weights=sx.init.normal(2.0, 1.0)),
        sx.Layer(sx.LI(), 2, weights=sx.init.normal(1.0, 0.5)),
    )
    return group(cast(sx.sequential(3, *layers, key=jax.random.key(0)), F64))


# Each with the network, the inputs and the initial states, and the options of `simulate`.
PROBLEMS = {
    "steps": (lambda: one_layer("lif"), {"method": LOOP}),
    "steps of chosen lengths": (lambda: one_layer("qif"), {}),
    "steps in segments": (lambda: one_layer("eif"), {"method": LOOP, "adjoint": sx.DiscreteAdjoint(memory=1)}),
    "pulses": (lambda: one_layer("lif", "delta"), {"method": LOOP}),
    "bins": (lambda: shared_filters("eif", "exp"), {"method": sx.EventLoop(dt0=0.5, bin=1.0)}),
    "internal events": (
        lambda: everything(sx.Refractory(sx.LIF(bias=0.2), 2.0, held_fraction=0.5), (1.0, 5.0)),
        {"method": LOOP},
    ),
    "closed form": (lambda: one_layer("lif"), {}),
    "matrix exponentials": (lambda: one_layer("lif", "alpha"), {}),
    "two layers": (two_layers, {}),
    "delays of each synapse": (lambda: group(wiring.of_each_synapse(sx.LIF(), F64)), {}),
    "delays of each synapse, matrix exponentials": (lambda: group(wiring.of_each_synapse(sx.ALIF(), F64)), {}),
    "delays of each synapse, payloads": (lambda: group(wiring.of_each_synapse(sx.EGRU(), F64)), {"method": LOOP}),
    "event queue": (lambda: group(wiring.at_once(F64)), {}),
    "event queue of matrix exponentials": (lambda: group(wiring.queued("adaptive")), {}),
    "shared clock": (lambda: sharing_a_clock("qif"), {"method": LOOP}),
    "payloads": (lambda: sharing_a_clock("gated"), {"method": LOOP}),
    "windows of one sweep": (lambda: delayed((wiring.N, wiring.N)), {"method": sx.Windows(60)}),
    "windows of several sweeps": (lambda: delayed((wiring.N,)), {"method": sx.Windows(8)}),
    "sweeps": (lambda: group(wiring.recurrent(F64)), {"method": sx.Windows(6, sx.ClosedForm())}),
    "sweeps of steps": (
        lambda: delayed((), learning(sx.QIF(), wiring.N, F64), 4.0),
        {"method": sx.Windows(8, LOOP)},
    ),
    "all connections": (lambda: group(wiring.mixed(F64)), {"method": sx.Windows(6, LOOP)}),
}
# All models, by steps of the length and for the time that suit them.
for name, (*_, t1, step) in models.CASES.items():
    method = sx.EventLoop(diffrax.Heun(), dt0=step, max_steps=4000)
    saved = jnp.asarray(t1 * np.array([0.82, 0.0, 0.31, 0.58, 1.0]))
    problem = functools.partial(models.started, name, F64)
    PROBLEMS[f"model {name}"] = problem, {"method": method, "t1": t1, "saveat": saved}
# Those that show most; the others run apart.
FAST = ("steps", "closed form", "event queue")


def by_speed(*fast):
    return [pytest.param(name, marks=() if name in fast else slow) for name in PROBLEMS]


def valued(arguments, **options):
    """A function from the arrays in `arguments` to a number, which depends on all results, and these arrays."""
    arrays, static = eqx.partition(arguments, eqx.is_inexact_array)
    factors = np.random.default_rng(0).standard_normal(64)

    def weighted(x):
        return jnp.sum(x.ravel() * jnp.resize(factors, x.size))

    def value(arrays):
        network, inputs, states = eqx.combine(arrays, static)
        common = {"start": states or None, "saveat": jnp.asarray(SAVED), "max_spikes": 20, "t1": T1}
        solution = sx.simulate(network, inputs, **common | options)
        total = 0.0
        for spikes in solution.spikes.values():
            moved = jnp.sin(jnp.where(jnp.isfinite(spikes.times), spikes.times, 0.0))
            total += finite_sum(jnp.where(jnp.isfinite(spikes.times), moved, jnp.inf), jnp.resize(factors, moved.shape))
            total += sum(weighted(leaf**2) for leaf in jax.tree.leaves(spikes.payload))
        for states in (*solution.states.values(), *solution.end.states.values()):
            total += sum(weighted(jnp.sin(leaf)) for leaf in jax.tree.leaves(states))
        for drives in solution.drives.values():
            total += sum(weighted(jnp.cos(leaf)) for leaf in jax.tree.leaves(drives))
        return total

    return value, arrays


def directions(arrays, seed):
    """A random direction, of the size of the arrays."""
    rng = np.random.default_rng(seed)

    def leaf(x):
        size = 0.05 * (jnp.abs(x) + 0.02)
        return jnp.where(jnp.isfinite(x), rng.standard_normal(x.shape) * jnp.where(jnp.isfinite(x), size, 0.0), 0.0)

    return jax.tree.map(leaf, arrays)


def product(bar, direction):
    return float(sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(bar), jax.tree.leaves(direction), strict=True)))


@pytest.mark.parametrize("name", by_speed(*FAST))
def test_tangents_and_second_derivatives(name):
    make, options = PROBLEMS[name]
    arguments = make()
    value, arrays = valued(arguments, **options)
    forward, _ = valued(arguments, **options | {"adjoint": sx.ForwardMode()})
    along, other = directions(arrays, 1), directions(arrays, 2)
    gradient = jax.jit(jax.grad(value))
    found = gradient(arrays)

    result, tangent = jax.jit(lambda a, d: jax.jvp(forward, (a,), (d,)))(arrays, along)
    assert float(result) == pytest.approx(float(value(arrays)), rel=1e-12)
    assert float(tangent) == pytest.approx(product(found, along), rel=1e-9)

    _, curvature = jax.jit(lambda a, d: jax.jvp(jax.grad(value), (a,), (d,)))(arrays, other)
    step = 1e-5
    after, before = (gradient(jax.tree.map(lambda x, d, h=h: x + h * d, arrays, other)) for h in (step, -step))
    expected = jax.tree.map(lambda a, b: (a - b) / (2.0 * step), after, before)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(arrays)]
    pairs = zip(paths, jax.tree.leaves(curvature), jax.tree.leaves(expected), strict=True)
    for path, exact, difference in pairs:
        size = float(jnp.max(jnp.abs(difference)))
        np.testing.assert_allclose(exact, difference, rtol=0, atol=1e-5 * size + 1e-8, err_msg=path)


# --- The continuous adjoint ---


def gradients_of(name, **options):
    """The gradient of a problem, as a jitted function, and its arguments."""
    make, given = PROBLEMS[name]
    value, arrays = valued(make(), **given | options)
    return jax.jit(jax.grad(value)), arrays


def worst(found, expected):
    """The largest error of a leaf, relative to the largest value in it."""

    def error(a, b):
        return float(jnp.max(jnp.abs(a - b)) / (jnp.max(jnp.abs(b)) + 1e-3))

    return max(map(error, jax.tree.leaves(found), jax.tree.leaves(expected)))


@slow
@pytest.mark.parametrize("name", ["steps", "pulses", "internal events", "payloads", "shared clock"])
def test_the_continuous_adjoint_is_the_limit_of_the_discrete_one(name):
    tight = {"method": sx.EventLoop(rtol=1e-10)}
    discrete, arrays = gradients_of(name, **tight)
    continuous, _ = gradients_of(name, **tight, adjoint=sx.EventPropAdjoint())
    assert worst(continuous(arrays), discrete(arrays)) < 1e-6


@slow
def test_the_continuous_adjoint_in_windows():
    options = {"method": sx.Windows(8, sx.EventLoop(rtol=1e-10))}
    discrete, arrays = gradients_of("sweeps of steps", **options)
    continuous, _ = gradients_of("sweeps of steps", **options, adjoint=sx.EventPropAdjoint())
    assert worst(continuous(arrays), discrete(arrays)) < 1e-6


@slow
def test_the_continuous_adjoint_has_the_order_of_its_solver():
    """With a method of second order, half the step has a quarter of the error."""
    tight = {"method": sx.EventLoop(rtol=1e-10)}
    exact, arrays = gradients_of("steps", **tight)
    expected, errors = exact(arrays), []
    for dt0 in (0.4, 0.2):
        adjoint = sx.EventPropAdjoint(diffrax.Heun(), stepsize_controller=diffrax.ConstantStepSize(), dt0=dt0)
        errors.append(worst(gradients_of("steps", **tight, adjoint=adjoint)[0](arrays), expected))
    assert 1.6 < np.log2(errors[0] / errors[1]) < 2.6, errors


@slow
def test_in_closed_form_the_continuous_adjoint_is_the_discrete_one():
    discrete, arrays = gradients_of("closed form")
    continuous, _ = gradients_of("closed form", adjoint=sx.EventPropAdjoint())
    for found, expected in zip(jax.tree.leaves(continuous(arrays)), jax.tree.leaves(discrete(arrays)), strict=True):
        np.testing.assert_array_equal(found, expected)


# --- Events where derivatives are easily wrong ---


class Ramp(sx.AbstractNeuron):
    """v' = b. It spikes at the threshold, and v becomes c v + r: the condition and the jump depend on v.

    Halving, it has a second event at the same instant, which halves v after the reset.
    """

    b: jax.Array
    threshold: jax.Array
    c: jax.Array
    r: jax.Array
    halves: bool = eqx.field(static=True, default=False)
    synapse: sx.ExpSynapse = sx.ExpSynapse(5.0)

    def initial_state(self):
        return jnp.zeros(())

    def internal_events(self):
        return (sx.Event(lambda t, v: v - self.threshold, lambda t, v: 0.5 * v),) if self.halves else ()

    def dynamics(self, t, v, drive):
        return self.b + 0.0 * v + 0.0 * drive

    def spike_condition(self, t, v):
        return v - self.threshold

    def reset(self, t, v):
        return self.c * v + self.r


# b, the threshold, c, r, and v at the start: spikes at 4, 11.2 and 18.4 ms.
RAMP = jnp.asarray([0.25, 1.0, -0.5, -0.3, 0.0])
PLACES, SAVES = 3, 6
ADJOINTS = {
    "discrete": (sx.DiscreteAdjoint(), jax.jacrev),
    "forward": (sx.ForwardMode(), jax.jacfwd),
    "continuous": (sx.EventPropAdjoint(), jax.jacrev),
}


def ramp(p, t0, t1, saved, adjoint, halves):
    """The spike times, the states at the saved times, and the state at the end."""
    network = single_layer(Ramp(*p[:4], halves), np.zeros((1, 1)), F64)
    solution = sx.simulate(
        network,
        sx.Spikes(jnp.full((1, 1), jnp.inf)),
        t1,
        t0=t0,
        start={"output": p[4]},
        saveat=saved,
        max_spikes=PLACES,
        adjoint=adjoint,
        method=sx.EventLoop(dt0=1.0),
    )
    times = solution.spikes["output"].times.ravel()
    return jnp.where(times <= t1, times, 0.0), solution.states["output"].ravel(), solution.end.states["output"].ravel()


def ramp_in_closed_form(p, t0, t1, saved, spikes, before, halves):
    """The same for a number of spikes, of which so many come before each saved time and the end."""
    b, threshold, c, r, v = p
    c, r = (0.5 * c, 0.5 * r) if halves else (c, r)
    period = (threshold - (c * threshold + r)) / b
    first = jnp.maximum((threshold - v) / b, 0.0) + t0
    times = first + period * jnp.arange(float(spikes))
    # A neuron that is above its threshold at the start is reset from where it is.
    after = [c * jnp.where(v > threshold, v, threshold) + r] + [c * threshold + r] * spikes
    if len(times) > 1:
        times = times.at[1:].set(first + (threshold - after[0]) / b + period * jnp.arange(spikes - 1.0))

    def at(t, n):
        return v + b * (t - t0) if n == 0 else after[n - 1] + b * (t - times[n - 1])

    states = jnp.stack([at(t, n) for t, n in zip((*saved, t1), before, strict=True)])
    return times, states[:-1], states[-1:]


@functools.cache
def ramp_derivatives(name, halves):
    """A jitted function to the spike times and states, their derivatives, and their second ones by the parameters."""
    adjoint, jacobian = ADJOINTS[name]

    @jax.jit
    def derivatives(p, t0, t1, saved):
        def found(p, t0):
            return jnp.concatenate(ramp(p, t0, t1, saved, adjoint, halves))

        first = jacobian(found, (0, 1))
        second = jax.jacfwd(lambda p: first(p, t0)[0]) if name != "continuous" else lambda p: None
        return found(p, t0), first(p, t0), second(p)

    return derivatives


def assert_ramp(name, p, t1, saved, spikes, before, t0=0.0, halves=False):
    """Values, first and second derivatives are those of the closed form, by each parameter, the start, and t0."""

    @jax.jit
    def expected(p, t0):
        return jnp.concatenate(ramp_in_closed_form(p, t0, t1, saved, spikes, before, halves))

    # Always as many times, so that all tests share a function.
    padded = jnp.asarray([*saved, *[t1] * (SAVES - len(saved))])
    value, first, second = ramp_derivatives(name, halves)(p, jnp.asarray(t0), jnp.asarray(t1), padded)
    wanted = np.array([*range(spikes), *range(PLACES, PLACES + len(saved)), PLACES + SAVES])
    np.testing.assert_allclose(value[wanted], expected(p, t0), rtol=0, atol=1e-10)
    for mine, theirs in zip(first, jax.jacfwd(expected, (0, 1))(p, t0), strict=True):
        np.testing.assert_allclose(mine[wanted], theirs, rtol=0, atol=1e-7)
    if second is not None:
        np.testing.assert_allclose(second[wanted], jax.hessian(expected)(p, t0), rtol=0, atol=1e-6)


def ramp_times():
    """The times of the first two spikes."""
    saved = jnp.full(SAVES, 15.0)
    times, *_ = ramp_derivatives("discrete", False)(RAMP, jnp.asarray(0.0), jnp.asarray(15.0), saved)
    return float(times[0]), float(times[1])


@pytest.mark.parametrize("name", ADJOINTS)
def test_a_time_next_to_an_event(name):
    """The last float before a spike, the spike itself, the next float, and times around the second one."""
    first, second = ramp_times()
    saved = (np.nextafter(first, 0.0), first, np.nextafter(first, 9.0), 8.0, np.nextafter(second, 0.0), second)
    assert_ramp(name, RAMP, 15.0, saved, 2, (0, 1, 1, 1, 1, 2, 2))


@pytest.mark.parametrize("name", ADJOINTS)
def test_an_event_at_the_start(name):
    """The neuron starts above its threshold, and spikes at once, whatever its parameters."""
    assert_ramp(name, RAMP.at[4].set(1.4), 12.0, (1.0, 1.0, 7.0), 2, (1, 1, 1, 2), t0=1.0)


@pytest.mark.parametrize("name", ADJOINTS)
def test_an_event_at_the_end(name):
    _, second = ramp_times()
    assert_ramp(name, RAMP, second, (5.0,), 2, (1, 2))


@pytest.mark.parametrize(
    "name", ["discrete", pytest.param("forward", marks=slow), pytest.param("continuous", marks=slow)]
)
def test_two_events_at_one_instant(name):
    """Both conditions rise through zero at the same time. The jumps are applied in order."""
    assert_ramp(name, RAMP, 15.0, (3.0, 8.0), 2, (0, 1, 2), halves=True)


@pytest.mark.parametrize(
    "name", ["discrete", pytest.param("forward", marks=slow), pytest.param("continuous", marks=slow)]
)
def test_two_arrivals_at_one_instant(name):
    """A spike at the same time as others arrives as one spike with the sum of their weights."""
    adjoint, jacobian = ADJOINTS[name]

    def first_and_end(weight, times):
        network = single_layer(sx.LIF(synapse=sx.ExpSynapse(5.0)), weight[:, None], F64)
        solution = sx.simulate(
            network, sx.Spikes(times[:, None]), 12.0, adjoint=adjoint, method=sx.EventLoop(rtol=1e-11)
        )
        return jnp.stack([solution.spikes["output"].times[0, 0], solution.end.states["output"].v[0]])

    derivative = jax.jit(jacobian(first_and_end))
    several = derivative(jnp.asarray([2.0, 3.0, 4.0]), jnp.full(3, 1.5))
    one = derivative(jnp.asarray([9.0]), jnp.full(1, 1.5))
    np.testing.assert_allclose(several, jnp.broadcast_to(one, several.shape), rtol=1e-7)


class Leaking(Ramp):
    """v' = -√|v|, whose second derivative is not finite at rest."""

    def dynamics(self, t, v, drive):
        return drive - jnp.sqrt(jnp.abs(v))


def test_a_singular_slope_at_the_end_leaves_the_state_finite():
    network = single_layer(Leaking(*RAMP[:4]), np.zeros((1, 1)), F64)
    solution = sx.simulate(network, sx.Spikes(jnp.full((1, 1), jnp.inf)), 5.0, method=sx.EventLoop(dt0=1.0))
    np.testing.assert_array_equal(solution.end.states["output"], [0.0])


# --- Samples that fail ---


class Clock(sx.AbstractNeuron):
    """An internal event every ms, and never a spike. The state counts the events."""

    rate: jax.Array
    synapse: sx.ExpSynapse = sx.ExpSynapse(5.0)

    def initial_state(self):
        return {"phase": jnp.zeros(()), "count": jnp.zeros(())}

    def dynamics(self, t, state, drive):
        return {"phase": self.rate + 0.0 * drive, "count": 0.0 * state["count"]}

    def spike_condition(self, t, state):
        return state["count"] - 1e6

    def reset(self, t, state):
        return state

    def internal_events(self):
        def ticked(t, state):
            return {"phase": jnp.zeros_like(state["phase"]), "count": state["count"] + 1.0}

        return (sx.Event(lambda t, state: state["phase"] - 1.0, ticked),)


@slow
def test_more_events_than_the_log_of_the_continuous_adjoint_holds_are_reported():
    network = single_layer(Clock(jnp.asarray(1.0)), np.zeros((1, 1)), F64)
    spikes = sx.Spikes(jnp.full((1, 1), jnp.inf))

    def counted(most):
        options = {"saveat": jnp.asarray([3.5, 20.5]), "max_spikes": most, "throw": False}
        return sx.simulate(network, spikes, T1, method=sx.EventLoop(), adjoint=sx.EventPropAdjoint(), **options)

    enough, too_few = counted(32), counted(1)
    np.testing.assert_allclose(enough.states["output"]["count"].ravel(), [3.0, 20.0])
    assert bool(enough.result == sx.RESULTS.successful)
    assert bool(too_few.result == sx.RESULTS.max_spikes_reached)
    assert bool(jnp.all(jnp.isnan(too_few.states["output"]["count"])))


def with_a_sample_that_fails(adjoint, network, start=None, method=LOOP, **options):
    """A function from the weights to the sum of all results of the samples that do not fail, of two."""
    times = jnp.stack([jnp.asarray([[1.0, 9.0] + [jnp.inf] * 10]), 1.0 + jnp.arange(12.0)[None]])

    def total(weight, samples=slice(None)):
        given = eqx.tree_at(lambda network: network.connections[0].weight, network, weight)
        # Traced, as a state that is not finite would be an error at once.
        states = None if start is None else {"output": jax.tree.map(lambda x: x[samples] + 0.0 * weight[0, 0], start)}
        common = {"start": states, "throw": False, "adjoint": adjoint, "method": method}
        solution = sx.simulate(given, sx.Spikes(times[samples]), T1, **common | options)
        fine = solution.result == sx.RESULTS.successful
        spikes = jnp.where(fine[:, None, None], solution.spikes["output"].times, jnp.inf)
        (end,) = jax.tree.leaves(solution.end.states["output"])
        return finite_sum(spikes, jnp.ones(spikes.shape)) + jnp.sum(jnp.where(fine[:, None], end, 0.0)), fine

    return total


FAILURES = {
    "spikes": {"max_spikes": 2},
    "not finite": {"start": sx.LIF().initial_state().__class__(jnp.asarray([[0.0, 0.0], [np.nan, 0.0]]))},
}


@slow
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", ADJOINTS)
def test_a_sample_that_fails_leaves_the_derivatives_of_others(name, failure):
    adjoint, jacobian = ADJOINTS[name]
    weight = jnp.asarray([[6.0, 5.0]])
    total = with_a_sample_that_fails(adjoint, single_layer(sx.LIF(), weight, F64), **FAILURES[failure])
    found, fine = jax.jit(jacobian(total, has_aux=True))(weight)
    alone, _ = jax.jit(jacobian(lambda w: total(w, slice(1)), has_aux=True))(weight)
    np.testing.assert_array_equal(fine, [True, False])
    np.testing.assert_allclose(found, alone, rtol=1e-9)


@slow
def test_a_sample_that_is_not_settled_leaves_the_tangents_of_others():
    weight = jnp.asarray([[6.0, 5.0]])
    connections = [sx.Dense("input", "output", weight), sx.Dense("output", "output", jnp.full((2, 2), 0.4))]
    network = sx.Network({"output": sx.Layer(sx.LIF(), 2)}, connections, 1, "output")
    options = {"method": sx.Windows(2, sx.ClosedForm(), max_sweeps=5), "max_spikes": 40}
    total = with_a_sample_that_fails(sx.ForwardMode(), network, **options)
    found, fine = jax.jit(jax.jacfwd(total, has_aux=True))(weight)
    alone, _ = jax.jit(jax.jacfwd(lambda w: total(w, slice(1)), has_aux=True))(weight)
    np.testing.assert_array_equal(fine, [True, False])
    np.testing.assert_allclose(found, alone, rtol=1e-9)


def test_explicit_bins_do_not_go_with_the_continuous_adjoint():
    value, arrays = valued(shared_filters("eif", "exp"), method=sx.EventLoop(bin=1.0), adjoint=sx.EventPropAdjoint())
    with pytest.raises(ValueError, match="`bin` must be None with this `adjoint`"):
        jax.eval_shape(value, arrays)


# --- Ensembles ---


@pytest.mark.parametrize("name", by_speed("closed form", "steps"))
def test_an_ensemble_of_networks(name):
    """`eqx.filter_vmap` over networks, inputs and states gives the gradient of each of them."""
    make, options = PROBLEMS[name]
    value, arrays = valued(make(), **options)
    members = [jax.tree.map(lambda x, d, h=h: x + h * d, arrays, directions(arrays, 4)) for h in (0.0, 0.2, -0.2)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    gradient = jax.value_and_grad(value)
    found = jax.jit(jax.vmap(gradient))(together)
    alone = jax.jit(gradient)
    for i, member in enumerate(members):
        for leaf, expected in zip(jax.tree.leaves(found), jax.tree.leaves(alone(member)), strict=True):
            size = float(jnp.max(jnp.abs(expected)))
            np.testing.assert_allclose(leaf[i], expected, rtol=0, atol=1e-9 * size + 1e-11)
