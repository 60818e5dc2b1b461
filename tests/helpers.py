"""What several tests share: small networks, random inputs, and directional derivatives."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import spikax as sx


def cast(tree, dtype):
    """All floating-point arrays in `dtype`."""
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def random_inputs(seed, shape, until, dtype, silent=0.0):
    """Sorted random spike times before `until`, in the shape `(*batch, channels, spikes)`; a share of them absent."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(0.0, until, shape)
    times[rng.uniform(size=shape) < silent] = np.inf
    return sx.Spikes(jnp.asarray(np.sort(times, axis=-1), dtype))


def single_layer(neuron, weight, dtype):
    """A network of one layer, named `"output"`, with the weights `(sources, neurons)`, of each port."""
    weight = jax.tree.map(lambda w: jnp.asarray(w, dtype), weight)
    sources, neurons = jax.tree.leaves(weight)[0].shape
    return sx.sequential(sources, sx.Layer(neuron, neurons, weights=weight), key=jax.random.key(0))


def learning(neuron, n, dtype, flip=False, seed=0):
    """The neuron with every parameter an array: alternately one for all neurons, and one for each of the `n`."""
    rng = np.random.default_rng(seed)
    shapes = itertools.cycle(((n,), ()) if flip else ((), (n,)))
    leaves, structure = jax.tree.flatten(neuron)
    spread = [x * (1.0 + 0.02 * rng.standard_normal(shape)) for x, shape in zip(leaves, shapes, strict=False)]
    return jax.tree.unflatten(structure, [jnp.asarray(x, dtype) for x in spread])


def everything(neuron, weight, n=3, batch=2, seed=1):
    """A network of one layer in which everything learns, input spikes, and initial states.

    `weight` holds the lowest and the highest weight, of each port.
    """
    rng = np.random.default_rng(seed)
    weight = jax.tree.map(lambda bounds: rng.uniform(*bounds, (3, n)), weight, is_leaf=lambda x: isinstance(x, tuple))
    network = single_layer(learning(neuron, n, jnp.float64), weight, jnp.float64)
    states = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x, float), (batch, n)), neuron.initial_state())
    return network, random_inputs(seed, (batch, 3, 4), 24.0, jnp.float64, silent=0.1), {"output": states}


def assert_all_learn(function, arrays, without=()):
    """No parameter of the neuron has a gradient of zero, but those named."""
    gradient = function(arrays)[2][0].layers["output"].neuron
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(gradient)
        if not bool(jnp.any(jnp.abs(leaf) > 1e-9))
    ]
    assert still == list(without)


def one_direction(value_grad_count, arrays, seed=0):
    """The same function along one random direction in all arrays, of their size: of one number, which starts at 0."""
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda x: jnp.asarray(x * rng.standard_normal(x.shape), x.dtype), arrays)
    # An input spike that does not happen is none that moves.
    direction = jax.tree.map(lambda d: jnp.where(jnp.isfinite(d), d, 0.0), direction)

    def along(s):
        moved = jax.tree.map(lambda x, d: x + s * d, arrays, direction)
        value, count, gradient = value_grad_count(moved)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
        return value, count, jnp.asarray(sum(jax.tree.leaves(products)))

    return along, jnp.asarray(0.0)


def finite_sum(times, factors):
    """The sum of all spike times that there are, each with its factor."""
    happened = jnp.isfinite(times)
    return jnp.sum(jnp.where(happened, factors * jnp.where(happened, times, 0.0), 0.0))


def worst_derivative(value_grad_count, arrays, seed=0, steps=(1e-4, 1e-5)):
    """The largest relative error of the gradient along one random direction per leaf of `arrays`.

    `value_grad_count(arrays)` gives the value, the number of spikes of each neuron, and the gradient. The reference
    is a central difference of fourth order; its own error depends on the length of the step, hence several lengths.
    """
    _, count, gradient = value_grad_count(arrays)
    leaves, structure = jax.tree.flatten(arrays)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(arrays)]
    rng = np.random.default_rng(seed)
    errors = {}
    for i, (leaf, bar) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        scale = max(1.0, float(jnp.max(jnp.abs(jnp.where(jnp.isfinite(leaf), leaf, 0.0)))))
        direction = jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
        exact = float(jnp.sum(bar * direction))

        def value(h, i=i, leaf=leaf, direction=direction):
            moved = [*leaves[:i], leaf + h * direction, *leaves[i + 1 :]]
            result, new_count, _ = value_grad_count(jax.tree.unflatten(structure, moved))
            assert np.array_equal(new_count, count), "a finite difference crosses a change of the number of spikes"
            return float(result)

        differences = []
        for step in steps:
            h = step * scale
            near, far = value(h) - value(-h), value(2 * h) - value(-2 * h)
            differences.append((8.0 * near - far) / (12.0 * h))
        size = 1e-2 * float(jnp.max(jnp.abs(bar)))
        errors[paths[i]] = min(abs(exact - fd) / (abs(fd) + size + 1e-12) for fd in differences)
    return errors
