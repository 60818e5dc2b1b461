# %% [markdown]
# # Exact spikes and gradients
#
# What spikax computes, and in which sense its gradients are exact. This page uses float64, so that rounding is far
# below all other errors.

# %%
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import spikax as sx


jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## A spike time is a number with a derivative
#
# A LIF neuron with a constant current $b > 1$ and no input reaches its threshold, 1, at
#
# $$ t(b) = \tau_{mem} \log \frac{b}{b - 1}, \qquad
#    \frac{dt}{db} = \tau_{mem} \Bigl(\frac{1}{b} - \frac{1}{b - 1}\Bigr). $$
#
# The simulation has no time grid. It finds this time, and differentiates it by the implicit function theorem:

# %%
nothing = sx.Spikes(jnp.full((1, 1), jnp.inf))  # one input channel without spikes


def first_spike(bias):
    layer = sx.Layer(sx.LIF(tau_mem=20.0, bias=bias), 1, weights=sx.init.constant(0.0))
    network = sx.sequential(1, layer, key=jax.random.key(0))
    return sx.first_spike(network(nothing, t1=100.0, until=sx.FirstSpikes()))[0]


b = 1.5
time, slope = jax.value_and_grad(first_spike)(jnp.asarray(b))
print(f"spikax       t = {time:.12f} ms   dt/db = {slope:.12f}")
print(f"closed form  t = {20 * np.log(b / (b - 1)):.12f} ms   dt/db = {20 * (1 / b - 1 / (b - 1)):.12f}")

# %% [markdown]
# ## The gradient of a network against finite differences
#
# The same holds for a network of any depth. Here the loss depends on the first output spikes of a network with 20
# hidden neurons. The weight with the largest derivative is moved by $\pm\varepsilon$, and the derivative is compared
# with the quotient of differences.

# %%
network = sx.sequential(
    5,
    sx.Layer(sx.LIF(), 20, weights=sx.init.normal(2.5, 1.5)),
    sx.Layer(sx.LIF(bias=1.5), 3, weights=sx.init.normal(0.3, 0.3)),
    key=jax.random.key(0),
)
network = jax.tree.map(lambda x: x.astype(float) if eqx.is_inexact_array(x) else x, network)
inputs = sx.datasets.yin_yang_spikes(np.array([[0.3, 0.6]]))
inputs = sx.Spikes(inputs.times.astype(float))


def loss(network, method=None):
    times = sx.first_spike(network(inputs, 60.0, max_spikes=32, method=method))
    return sx.losses.first_spike_cross_entropy(times, jnp.array([1]), t_silent=60.0).mean()


def with_weight(number, change):
    return eqx.tree_at(lambda n: n.connections[0].weight, network, network.connections[0].weight.at[number].add(change))


def compare(method):
    """The derivative by one weight, and the relative difference to quotients of differences."""
    value_and_grad = eqx.filter_jit(eqx.filter_value_and_grad(lambda network: loss(network, method)))
    slopes = value_and_grad(network)[1].connections[0].weight
    number = np.unravel_index(np.argmax(np.abs(slopes)), slopes.shape)
    slope = slopes[number]
    for step in (1e-3, 1e-4, 1e-5):
        above, below = (value_and_grad(with_weight(number, change))[0] for change in (step, -step))
        quotient = (above - below) / (2 * step)
        print(f"step {step:.0e}: quotient {quotient:+.10f}, relative difference {abs(quotient / slope - 1):.0e}")
    print(f"gradient            {slope:+.10f}")


compare(sx.ClosedForm())

# %% [markdown]
# The differences shrink with the square of the step, as those of a central quotient do, until rounding limits them.
#
# ## Exact with respect to the simulation
#
# Linear neurons, such as LIF, are simulated in closed form. All others need the steps of an ODE solver, which have an
# error. What is differentiated is the simulation *with* this error: the gradient is that of the numbers that were
# computed, whatever solver computed them. A solver with large steps shows it. Its spikes are wrong by some
# microseconds, and its gradient still agrees with quotients of its own results:

# %%
coarse = sx.EventLoop(diffrax.Heun(), dt0=1.0)
found, exact = (sx.first_spike(network(inputs, 60.0, max_spikes=32, method=method)) for method in (coarse, None))
print("error of the first output spikes (ms):", found - exact)
compare(coarse)

# %% [markdown]
# This is discretise-then-differentiate. A method that solves the adjoint equations of the exact problem instead, as
# `adjoint=sx.EventPropAdjoint()` does, has an error of its own in the gradient, which shrinks only with the steps. Two
# things are treated as constants: the lengths of steps that an adaptive solver has chosen, as in Diffrax, and `t1`.
#
# ## What a gradient does not tell
#
# A spike time is a smooth function of the weights only as long as the same spikes happen. Below, the weight of one
# input grows. At a critical value a spike appears, with an infinite slope. Further spikes follow in the same way.

# %%
train = sx.Spikes(jnp.array([[5.0, 7.0, 9.0, 11.0]]))


def times(weight):
    layer = sx.Layer(sx.LIF(), 1, weights=jnp.full((1, 1), weight))
    return sx.sequential(1, layer, key=jax.random.key(0))(train, t1=40.0).times[0]


weights = jnp.linspace(1.0, 6.0, 501)
curves, slopes = jax.vmap(times)(weights), jax.vmap(jax.jacrev(times))(weights)

figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
upper.plot(weights, curves[:, :4])
upper.set_ylabel("spike times (ms)")
lower.plot(weights, jnp.where(jnp.isfinite(curves[:, :4]), slopes[:, :4], jnp.nan))
lower.set(ylabel="derivative (ms)", xlabel="weight", ylim=(-40, 2))

# %% [markdown]
# - Below the critical weight the neuron is silent. Its spike time is `inf`, and its gradient is zero: it does not tell
#   how to make the neuron spike. [Silent networks and gradients](silent_networks.py) has remedies.
# - Right above it, the voltage only grazes the threshold, and the derivative is large, without bound. spikax does not
#   change it. Clip gradients, as all trainings of this site do.
#
# ## What is tested
#
# The test suite compares gradients with finite differences to 1e-6, for all methods, models and connections, and spikes
# with SciPy, Brian2 and NEST. [Reliability](../reliability.md) lists each guarantee with its test.
