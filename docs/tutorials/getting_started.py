# %% [markdown]
# # Getting started
#
# ## Install
#
# spikax needs Python 3.11 or later. In a checkout of the repository:
#
# ```bash
# python3 -m venv .venv
# source .venv/bin/activate
# pip install '.[plot]'
# ```
#
# `plot` adds Matplotlib, which the figures need. Other extras are `cli` for the command line, `nir` for NIR files and
# `shd` for the spoken digits: `pip install '.[plot,nir]'`. With this, spikax runs on the CPU. For a GPU,
# [install JAX for it](https://docs.jax.dev/en/latest/installation.html).
#
# The cells of this page run in a notebook or, one after the other, in a script. A script shows its figures by a last
# line `plt.show()`.
#
# ## A first simulation
#
# A network is a list of layers. The inputs are spikes: an array of times in ms, with `inf` where there is none.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import spikax as sx


network = sx.sequential(
    2,  # input channels
    sx.Layer(sx.LIF(), 20, weights=sx.init.normal(4.0, 1.0)),
    sx.Layer(sx.LIF(), 3, weights=sx.init.normal(0.4, 0.2)),
    key=jax.random.key(0),
)
inputs = sx.Spikes.from_trains([[1.0, 4.0], [2.5]])  # of two channels

solution = sx.simulate(network, inputs, t1=40.0, saveat=jnp.linspace(0.0, 40.0, 401))
print(solution)

# %% [markdown]
# `simulate` returns the spikes of every layer, and, at the times of `saveat`, the states of its neurons:

# %%
print(solution.spikes["output"].times)
sx.plot.traces(
    solution.ts["output"], solution.states["output"].v, spikes=solution.spikes["output"], threshold=1.0, names="ABC"
)
# %% [markdown]
# ## Train a network
#
# The data are 1797 images of handwritten digits, which are part of spikax. Each bright pixel becomes one spike, the
# brighter the earlier.

# %%
training, validation, test = sx.datasets.digits()


def loader(images, batch_size):
    return sx.datasets.Loader(sx.datasets.image_spikes(images.images), images.labels, batch_size=batch_size)


events = sx.datasets.image_spikes(training.images[0])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.imshow(training.images[0], cmap="Greys")
sx.plot.raster(events, right)
# %% [markdown]
# The network has 100 hidden LIF neurons, and ten outputs that do not spike: leaky integrators (`sx.LI`), whose voltages
# are read. Weights that are drawn blindly may leave all neurons silent, or make all of them spike all the time.
# `sx.silence.calibrated` scales the weights into the hidden layer such that 30 % of its neurons spike in a sample.

# %%
T1 = 40.0  # ms

network = sx.sequential(
    64,
    sx.Layer(sx.LIF(), 100, weights=sx.init.normal(0.0, 1.0)),
    sx.Layer(sx.LI(), 10, weights=sx.init.normal(0.0, 0.1)),
    key=jax.random.key(0),
)
some = sx.datasets.image_spikes(training.images[:100])
network = sx.silence.calibrated(network, some, T1, fraction={"hidden": 0.3}, max_spikes=64)
network

# %% [markdown]
# The objective is a function of a network and a batch. It returns the loss of every sample, and any further measures.
# Here the mean voltage of each output is its score.

# %%
ts = jnp.linspace(0.0, T1, 41)


def respond(network, inputs):
    solution = sx.simulate(network, inputs, T1, saveat={"output": ts}, max_spikes=64)
    return 4.0 * sx.decode.mean(solution.states["output"].v)


def objective(network, inputs, labels):
    scores = respond(network, inputs)
    loss = sx.losses.cross_entropy(scores, labels)
    return loss, {"accuracy": (sx.decode.largest(scores) == labels).astype(loss.dtype)}


fit = sx.train.fit(
    network,
    objective,
    loader(training, 32),
    loader(validation, 180),
    optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2)),
    epochs=6,
)
for epoch in fit.history:
    print(f"epoch {epoch.number}: validation accuracy {epoch.validation['accuracy']:.1%}, {epoch.seconds:.1f} s")

# %% [markdown]
# The first epoch is the longest, because JAX compiles the training step in it. The images of the test set have not been
# used so far:

# %%
predictions = sx.decode.largest(jax.jit(respond)(fit.network, sx.datasets.image_spikes(test.images)))
print(f"test accuracy {np.mean(predictions == test.labels):.1%}")
sx.plot.confusion_matrix(test.labels, predictions, plt.figure(figsize=(4.5, 4.5), layout="constrained").gca())
print("first ten:", np.asarray(predictions[:10]), "labels:", test.labels[:10])

# %% [markdown]
# ## Next
#
# - [Exact spikes and gradients](exact_gradients.py): what is computed, and what "exact" means.
# - [Train Yin-Yang](yin_yang.py): a network that answers by its first spike.
# - [A neuron of your own](own_neuron.py), [your own event data](own_data.py).
# - `sx.save("digits.zip", fit.network)` keeps the network; [NIR](../nir.md) writes it for other simulators and chips.
# - [How to choose](../how-to-choose.md) a method, a solver and a capacity.
#
# The command line trains networks on six tasks: `python -m spikax train digits` is this one, with checkpoints and
# figures. It needs `pip install '.[cli]'`.
