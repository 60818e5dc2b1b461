# %% [markdown]
# # Delays and recurrence

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import spikax as sx


# %% [markdown]
# ## Delays
#
# A connection may have a delay: a spike that is emitted at $t$ arrives at $t$ + delay. There is no grid, so a delay is
# any number, exact in floating point. Its shape says what it belongs to:
#
# | shape | one delay for |
# |---|---|
# | `()` | the connection |
# | `(sources,)` | each source neuron, as along an axon |
# | `(sources, targets)` | each synapse |
#
# A number is constant, an array is trained, and `sx.Positive` keeps a trained delay positive.
#
# ### Learning delays
#
# Three inputs spike at 2, 9 and 17 ms. The neuron is so weakly connected that it spikes only if they arrive close
# together. With equal delays it is silent, and a silent neuron has no gradient of a spike time. Its voltage has one. So
# the loss raises the voltage at 30 ms, by the delays alone, until the neuron spikes.

# %%
inputs = sx.Spikes(jnp.array([[2.0], [9.0], [17.0]]))
layer = sx.Layer(sx.LIF(), 1, weights=sx.Fixed(jnp.full((3, 1), 2.3)))
network = sx.sequential(3, layer, key=jax.random.key(0), delay=sx.Positive(jnp.full((3, 1), 4.0)))
ts = jnp.linspace(0.0, 60.0, 601)


@eqx.filter_jit
@eqx.filter_value_and_grad(has_aux=True)
def loss(network):
    solution = sx.simulate(network, inputs, 60.0, saveat=jnp.array([30.0]))
    return -solution.states["output"].v[0, 0], solution.spikes["output"].count[0]


optimizer = optax.adam(0.05)
learned, state = network, optimizer.init(eqx.filter(network, eqx.is_inexact_array))
for _ in range(150):
    (value, spikes), gradient = loss(learned)
    if spikes > 0:
        break
    updates, state = optimizer.update(gradient, state)
    learned = eqx.apply_updates(learned, updates)

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for ax, shown, title in zip(axes, (network, learned), ("before", "after"), strict=True):
    solution = sx.simulate(shown, inputs, 60.0, saveat=ts)
    sx.plot.traces(ts, solution.states["output"].v, ax, spikes=solution.spikes["output"], threshold=1.0)
    delays = shown.connections[0].delay.value[:, 0]
    ax.plot(inputs.times[:, 0] + delays, jnp.zeros(3), "^", color="black")
    ax.set_title(f"{title}: delays {', '.join(f'{delay:.1f}' for delay in delays)} ms", fontsize=10)

# %% [markdown]
# The triangles are the arrivals. [Yin-Yang with learned delays](../../examples/yin_yang_delays.py) trains the delays of
# all synapses of a network by its first spikes.
#
# ## Recurrence
#
# `sx.recurrent` makes a network whose layers, but the last, also receive from themselves. `sx.Masked` excludes
# connections of neurons to themselves. Its `delay` is that within a layer; `forward_delay` is that from layer to layer.


# %%
def no_self(key, shape):
    return sx.Masked(0.3 * jax.random.normal(key, shape), ~jnp.eye(shape[0], dtype=bool))


def network(delay):
    return sx.recurrent(
        10,
        sx.Layer(sx.LIF(), 40, weights=sx.init.normal(0.5, 1.5)),
        sx.Layer(sx.LI(), 2, weights=sx.init.normal(0.0, 0.3)),
        key=jax.random.key(1),
        weights=no_self,
        delay=delay,
    )


inputs = sx.encode.poisson(np.full((4, 10), 0.05), 100.0, seed=0)  # four samples of ten channels at 50 Hz

solutions = {delay: sx.simulate(network(delay), inputs, 100.0, max_spikes=64) for delay in (None, 2.0)}
for delay, solution in solutions.items():
    print(f"delay {delay}\n{solution}\n")

# %% [markdown]
# spikax chooses the method: recurrent linear neurons without delays go from event to event, those with delays through
# windows of time. All methods give the same spikes, up to rounding or the tolerance of the solver:

# %%
queue = solutions[None].spikes["hidden"].times
print(f"EventQueue: {int(np.isfinite(queue).sum())} spikes")
solution = sx.simulate(network(None), inputs, 100.0, max_spikes=64, method={"hidden": sx.EventLoop()})
loop = solution.spikes["hidden"].times
difference = np.abs(queue - loop)[np.isfinite(queue) & np.isfinite(loop)].max()
print(f"EventLoop: {int(np.isfinite(loop).sum())} spikes, largest difference {difference:.0e} ms")

# %% [markdown]
# What recurrence and delays cost is measured in [Benchmarks](../../benchmarks/README.md#recurrence). In short: no
# delays or one common delay are cheap, a separate delay for each synapse is several times more expensive, and short
# ones, which make spikes act in the window in which they are emitted, are the most expensive. In `sx.EventLoop` the
# neurons of a recurrent layer share a clock, so its cost grows with the square of their number.
#
# ## Any graph
#
# `sx.Network` takes layers and connections by name. This network has an excitatory and an inhibitory population, with
# a sign for each neuron (Dale's law) and separate synapses for both kinds of input:

# %%
EXC, INH = 80, 20
ports = {"exc": sx.ExpSynapse(3.0), "inh": sx.ExpSynapse(6.0)}
key = jax.random.key(2)


def to(source, target, shape, port, number, mean, delay):
    """Sparse random weights onto one port; the other port gets none."""
    for_weight, for_mask = jax.random.split(jax.random.fold_in(key, number))
    weight = mean * jnp.exp(0.3 * jax.random.normal(for_weight, shape))
    mask = jax.random.bernoulli(for_mask, 0.2, shape)
    zero = sx.Fixed(jnp.zeros(shape))
    signed = sx.Masked(sx.Signed(weight, jnp.sign(jnp.full((1, 1), mean))), mask)
    return sx.Dense(source, target, {name: signed if name == port else zero for name in ports}, delay)


population = sx.LIF(synapse=ports, bias=0.9)
balanced = sx.Network(
    {
        "exc": sx.Layer(sx.Refractory(population, 2.0), EXC),
        "inh": sx.Layer(sx.Refractory(population, 2.0), INH),
    },
    [
        to("noise", "exc", (50, EXC), "exc", 0, 0.4, None),
        to("noise", "inh", (50, INH), "exc", 1, 0.4, None),
        to("exc", "exc", (EXC, EXC), "exc", 2, 0.15, 1.5),
        to("exc", "inh", (EXC, INH), "exc", 3, 0.2, 1.5),
        to("inh", "exc", (INH, EXC), "inh", 4, -0.5, 1.0),
        to("inh", "inh", (INH, INH), "inh", 5, -0.4, 1.0),
    ],
    inputs={"noise": 50},
    outputs="exc",
)
noise = sx.encode.poisson(np.full(50, 0.02), 200.0, seed=1)
solution = sx.simulate(balanced, {"noise": noise}, 200.0, max_spikes=64)
print(solution)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
sx.plot.network(balanced, left)
sx.plot.raster(list(solution.spikes.items()), right, t1=200.0, colours=("#3b6fb6", "#e07b39"))

# %% [markdown]
# All of it has gradients. For recordings that are too long for the memory of a gradient, see
# [truncated training](../training.md#long-recordings).
