"""Every derivative of every method: reverse mode, forward mode, and second derivatives.

A new method, neuron or adjoint joins the table by one line. That gradients are those of finite differences is tested
where the methods are. Here the tangents are those of the gradients, and second derivatives are finite differences of
gradients.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from . import test_gradients as gradients, test_wiring as wiring
from .helpers import cast, everything, finite_sum, learning
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
    layers = sx.Layer(sx.LIF(bias=0.2), 4, weights=sx.init.normal(2.0, 1.0)), sx.Layer(sx.LI(), 2)
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
# Those that show most; the others run apart.
FAST = ("steps", "closed form", "event queue", "sweeps")


def by_speed():
    return [pytest.param(name, marks=() if name in FAST else slow) for name in PROBLEMS]


def valued(arguments, **options):
    """A function from the arrays in `arguments` to a number, which depends on all results, and these arrays."""
    arrays, static = eqx.partition(arguments, eqx.is_inexact_array)
    factors = np.random.default_rng(0).standard_normal(64)

    def weighted(x):
        return jnp.sum(x.ravel() * jnp.resize(factors, x.size))

    def value(arrays):
        network, inputs, states = eqx.combine(arrays, static)
        options_here = {"start": states or None, "saveat": jnp.asarray(SAVED), "max_spikes": 20} | options
        solution = sx.simulate(network, inputs, T1, **options_here)
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


@pytest.mark.parametrize("name", by_speed())
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
