# %% [markdown]
# # Train Yin-Yang
#
# The [Yin-Yang task](https://arxiv.org/abs/2102.08211) is to tell the three parts of the Yin-Yang sign apart. A point
# is given by four spikes, at times proportional to $x$, $y$, $1 - x$ and $1 - y$, and a fifth at the start. The answer
# is the output that spikes first. This page trains such a network, and looks inside.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import spikax as sx


T1 = 60.0  # the duration of a sample, in ms
CLASSES = ("yin", "yang", "dot")


def samples(number, seed):
    points, labels = sx.datasets.yin_yang(number, seed)
    return sx.datasets.yin_yang_spikes(points), labels


def loader(number, seed, batch_size=50):
    return sx.datasets.Loader(*samples(number, seed), batch_size=batch_size, seed=seed)


# %% [markdown]
# ## The network
#
# The outputs have a bias above their threshold. So each of them spikes in the end, whatever its inputs, and the loss
# has a gradient for all of them: a silent output would have none.

# %%
network = sx.sequential(
    5,
    sx.Layer(sx.LIF(), 60, weights=sx.init.normal(2.5, 2.5)),
    sx.Layer(sx.LIF(bias=1.5), 3, weights=sx.init.normal(0.3, 0.3)),
    key=jax.random.key(0),
)
network

# %% [markdown]
# `network` is a pytree: the table shows which arrays learn. To train the time constants of the hidden neurons too, make
# them an array that stays positive: `sx.LIF(tau_mem=sx.Positive(jnp.full(60, 20.0)))`.
#
# ## The objective
#
# `until=sx.FirstSpikes()` ends each sample when all outputs have spiked. Later spikes would not change the loss.
# `max_spikes` is the room for the spikes of each neuron; more spikes are an error, not cut off.


# %%
def respond(network, inputs, **options):
    return sx.simulate(network, inputs, T1, max_spikes={"hidden": 16, "output": 1}, until=sx.FirstSpikes(), **options)


def objective(network, inputs, labels):
    solution = respond(network, inputs)
    times = sx.first_spike(solution.spikes["output"])
    loss = sx.losses.first_spike_cross_entropy(times, labels, t_silent=T1, tau0=0.2, tau1=20.0)
    accuracy = (sx.decode.earliest(times) == labels).astype(loss.dtype)
    activity = sx.silence.activity(solution)["hidden"]
    return loss, {"accuracy": accuracy, "silent": activity.silent}


# %% [markdown]
# ## Training
#
# The gradient is clipped, since spikes that barely happen have large derivatives, and the learning rate decays.

# %%
EPOCHS = 12
training = loader(5000, seed=0)
rate = optax.cosine_decay_schedule(5e-3, EPOCHS * len(training))
fit = sx.train.fit(
    network,
    objective,
    training,
    loader(1000, seed=1, batch_size=500),
    optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate)),
    epochs=EPOCHS,
)
sx.plot.learning_curve(fit.history, plt.figure(figsize=(6, 3), layout="constrained").gca())
last = fit.history[-1]
print(f"seconds: first epoch {fit.history[0].seconds:.1f}, last epoch {last.seconds:.1f}")
print(f"best epoch {fit.best}; silent hidden neurons in a sample: {last.validation['silent']:.0%}")

# %% [markdown]
# ## The result

# %%
measures = sx.train.evaluate(fit.network, objective, loader(1000, seed=2, batch_size=500))
print(f"test accuracy {measures['accuracy']:.1%}")


@jax.jit
def classify(points):
    solution = respond(fit.network, sx.datasets.yin_yang_spikes(points))
    return sx.decode.earliest(sx.first_spike(solution.spikes["output"]))


points, labels = sx.datasets.yin_yang(1000, seed=2)
sx.plot.decision_map(classify, points, labels, plt.figure(figsize=(4.6, 5), layout="constrained").gca(), resolution=60)
# %% [markdown]
# One sample, from its input spikes to the voltages of the outputs. The network answers before the last inputs arrive.

# %%
ts = jnp.linspace(0.0, T1, 601)
inputs, answer = samples(1, seed=3)
options = {"t1": T1, "saveat": {"output": ts}, "max_spikes": 16}
solution = sx.simulate(fit.network, inputs, **options)
spikes = {name: sx.Spikes(layer.times[0]) for name, layer in solution.spikes.items()}

figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 6), layout="constrained")
sx.plot.raster([("input", sx.Spikes(inputs.times[0])), *spikes.items()], upper, t1=T1)
sx.plot.traces(ts, solution.states["output"].v[0], lower, spikes=spikes["output"], threshold=1.0, names=CLASSES)
print("label:", CLASSES[answer[0]])

# %% [markdown]
# ## Keep it
#
# A file holds the network and the arguments of its simulation. The loaded network gives the same spikes, to the bit.

# %%
sx.save("yin-yang.zip", fit.network, {"t1": T1, "max_spikes": 16})
loaded, saved = sx.load("yin-yang.zip")
again = sx.simulate(loaded, inputs, **saved, saveat={"output": ts})
print("the arguments:", saved)
print("the same spikes:", jnp.array_equal(again.spikes["output"].times, solution.spikes["output"].times))

# %% [markdown]
# [Results](../../benchmarks/RESULTS.md) has the accuracies of longer trainings with all neuron models.
# [Training](../training.md) explains checkpoints, callbacks, partial training and several optimisers.
