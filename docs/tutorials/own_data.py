# %% [markdown]
# # Your own event data
#
# From recordings of different lengths, as lists of arrays, to a trained classifier.
#
# ## The recordings
#
# Suppose an experiment recorded 16 units. Each trial is a list with one array of spike times per unit, in seconds, and
# lasts between 30 and 80 ms. In some trials activity moves upwards through the units, in some downwards, and in others
# the units spike at random. Put your own files in place of this function.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import spikax as sx


UNITS, CLASSES = 16, ("up", "down", "random")


def record(label, rng):
    """A trial: one array of spike times, in seconds, for each unit."""
    duration = rng.uniform(30.0, 80.0)
    centres = np.linspace(0.1, 0.9, UNITS) * duration
    centres = {"up": centres, "down": centres[::-1], "random": rng.permutation(centres)}[CLASSES[label]]
    trial = []
    for centre in centres:
        burst = rng.normal(centre, 2.0, rng.poisson(2.0))
        noise = rng.uniform(0.0, duration, rng.poisson(0.3))
        times = np.concatenate([burst, noise])
        trial.append(times[(times >= 0.0) & (times <= duration)] / 1000.0)
    return trial


rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 1500)
trials = [record(label, rng) for label in labels]
print([len(unit) for unit in trials[0]], "spikes of each unit of the first trial")
print("latest spike of the first trials (s):", [round(float(max(np.concatenate(trial))), 3) for trial in trials[:5]])

# %% [markdown]
# ## Into spikax
#
# `sx.Events.from_trains` makes a list of events of each trial, sorted by time, in ms. The units of other libraries are
# read as they are: see [Data and encoders](../data.md#your-own-recordings) for Neo, pandas and event cameras.

# %%
recordings = [sx.Events.from_trains(trial, unit="s") for trial in trials]
first = recordings[0]
print(f"{first.times.shape[0]} events on {first.n} channels; the first times are {np.round(first.times[:4], 2)} ms")

figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for label, ax in enumerate(axes):
    number = int(np.argmax(labels == label))
    sx.plot.raster(recordings[number], ax, t1=80.0)
    ax.set_title(CLASSES[label])

# %% [markdown]
# ## Batches
#
# `Loader` takes the list. It pads each batch to a quarter, a half, three quarters or all of the longest recording, so
# that the training step is compiled for at most four shapes: each of them costs the time of a first call, when it first
# comes ([Compilation](../how-to-choose.md#compilation)). Nothing is cut off.

# %%
parts = {"training": slice(0, 1000), "validation": slice(1000, 1250), "test": slice(1250, 1500)}
loaders = {
    name: sx.datasets.Loader(recordings[part], labels[part], batch_size=100, seed=0) for name, part in parts.items()
}
spikes, answers = next(loaders["training"].epoch(0))
print("a batch:", spikes.times.shape, "possible lengths:", loaders["training"].lengths)

# %% [markdown]
# If all recordings fit into memory as one array, `sx.Spikes.from_trains(trials, unit="s")` gives an array of shape
# `(trials, units, spikes)` instead. Use it if no unit spikes far more often than the others.
#
# ## A network, and its scale
#
# The weights must suit the data: with too small ones no neuron spikes, with too large ones all spike at once. Let
# `calibrated` find the scale from a batch. The time constants should be those of the data: here tens of milliseconds.

# %%
T1 = 100.0  # beyond the end of all recordings
network = sx.sequential(
    UNITS,
    sx.Layer(sx.LIF(tau_mem=10.0), 40, weights=sx.init.normal(0.0, 1.0)),
    sx.Layer(sx.LI(tau_mem=20.0), 3, weights=sx.init.normal(0.0, 0.3)),
    key=jax.random.key(0),
    # Delays, so that a neuron can see earlier and later spikes together. They learn.
    delay=[lambda key, shape: sx.Positive(jax.random.uniform(key, shape, minval=1.0, maxval=15.0)), None],
)
network = sx.silence.calibrated(network, spikes, T1, fraction={"hidden": 0.5}, max_spikes=32)

# %% [markdown]
# ## Fit
#
# Long and short recordings share a duration `T1`. After its last event, a recording is silent.

# %%
ts = jnp.linspace(0.0, T1, 51)


def objective(network, inputs, labels):
    solution = sx.simulate(network, inputs, T1, saveat={"output": ts}, max_spikes=32)
    scores = 5.0 * sx.decode.maximum(solution.states["output"].v)
    loss = sx.losses.cross_entropy(scores, labels)
    accuracy = (sx.decode.largest(scores) == labels).astype(loss.dtype)
    return loss, {"accuracy": accuracy, "silent": sx.silence.activity(solution)["hidden"].silent}


fit = sx.train.fit(
    network,
    objective,
    loaders["training"],
    loaders["validation"],
    optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2)),
    epochs=12,
)
sx.plot.learning_curve(fit.history, plt.figure(figsize=(6, 3), layout="constrained").gca())
measures = sx.train.evaluate(fit.network, objective, loaders["test"])
print(f"test accuracy {measures['accuracy']:.1%}, silent hidden neurons in a sample {measures['silent']:.0%}")

# %% [markdown]
# ## If it does not learn
#
# - **A warning about units, or an error about `t0`:** times are in ms everywhere, and no event may come before `t0`.
#   `from_trains` and `from_array` convert with `unit`; `from_array` also subtracts a `start`.
# - **`max_spikes_reached`:** a neuron spikes more often than there is room for. Raise `max_spikes`, or use smaller
#   weights.
# - **The loss does not change:** see [Silent networks and gradients](silent_networks.py).
# - **It is slow:** print the solution to see which method is used. A separate delay for each synapse, as here, costs
#   more than one for each source: see [How to choose](../how-to-choose.md).
