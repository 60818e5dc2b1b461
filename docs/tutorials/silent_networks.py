# %% [markdown]
# # Silent networks and gradients
#
# Why is my network silent, and what is wrong with my gradient? This page makes the usual mistakes, shows how they look,
# and mends them.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import spikax as sx


T1 = 60.0
points, labels = sx.datasets.yin_yang(100, seed=0)
inputs, labels = sx.datasets.yin_yang_spikes(points), jnp.asarray(labels)


def build(scale, bias=0.0):
    # A bias that is an array, in place of a number, is no part of the compiled program, so all networks share one.
    outputs = sx.LIF(bias=sx.Fixed(jnp.full(3, bias)))
    return sx.sequential(
        5,
        sx.Layer(sx.LIF(), 40, weights=sx.init.normal(2.5 * scale, 1.5 * scale)),
        sx.Layer(outputs, 3, weights=sx.init.normal(0.3 * scale, 0.3 * scale)),
        key=jax.random.key(0),
    )


@eqx.filter_jit
@eqx.filter_value_and_grad
def loss(network):
    times = sx.first_spike(network(inputs, T1, max_spikes=32))
    return sx.losses.first_spike_cross_entropy(times, labels, t_silent=T1).mean()


# %% [markdown]
# ## Symptom: the loss is large, and the gradient is zero
#
# A neuron that does not spike has no spike time, and a time that does not exist has no derivative. If all outputs are
# silent, the loss is that of `t_silent`, for all weights.

# %%
silent = build(scale=0.2)
value, gradient = loss(silent)
print(f"loss {value:.1f}, norm of the gradient {optax.global_norm(eqx.filter(gradient, eqx.is_inexact_array)):.1f}")

# %% [markdown]
# `sx.silence.activity` says which layer is silent. Look at the first one that is: the layers behind it receive nothing.

# %%
ts = jnp.linspace(0.0, T1, 61)


@eqx.filter_jit
def simulate(network):
    return sx.simulate(network, inputs, T1, saveat={"hidden": ts}, max_spikes=32)


def print_activity(network):
    for name, activity in sx.silence.activity(simulate(network)).items():
        print(f"{name}: {activity.silent.mean():.0%} of the neurons are silent in a sample")


print_activity(silent)

# %% [markdown]
# How far are they from their threshold? `spike_conditions` is the distance of each neuron at the saved times, for any
# model. A peak near zero needs slightly larger weights, a peak near -1 needs much larger ones, or inputs at all.

# %%
conditions = sx.silence.spike_conditions(silent.layers["hidden"], ts, simulate(silent).states["hidden"])
figure, ax = plt.subplots(figsize=(6, 2.5), layout="constrained")
ax.hist(np.asarray(conditions.max(axis=-2)).ravel(), bins=40)
ax.axvline(0.0, color="black", linestyle="--")
ax.set(xlabel="peak of the spike condition (0: threshold)", ylabel="neurons × samples")
# %% [markdown]
# ## Remedy 1: weights of the right scale
#
# This is the first thing to do, since a network that starts silent learns poorly whatever the loss. `calibrated` scales
# the weights into each layer until a given fraction of its neurons spikes. It works for any neuron model. For LIF
# neurons with many Poisson inputs, `sx.init.fluctuation_driven` does it without data.

# %%
calibrated = sx.silence.calibrated(silent, inputs, T1, fraction=0.5, max_spikes=32)
value, gradient = loss(calibrated)
print(f"loss {value:.1f}, norm of the gradient {optax.global_norm(eqx.filter(gradient, eqx.is_inexact_array)):.1f}")
print_activity(calibrated)

# %% [markdown]
# ## Remedy 2: outputs that always spike
#
# A `bias` above the threshold makes each output spike in the end. No sample is then without a gradient. This is how the
# networks of this site answer by first spikes. The alternative is to read voltages: `sx.LI` outputs never spike, and
# have a gradient as soon as a hidden neuron does.

# %%
biased = build(scale=1.0, bias=1.5)
print_activity(biased)

# %% [markdown]
# ## Remedy 3: a term of the loss that makes silent neurons spike
#
# Neurons can also fall silent during training. `sx.losses.silent_peak` is the distance of silent neurons from their
# thresholds. It has a gradient where the spike times have none.


# %%
@eqx.filter_jit
@eqx.filter_value_and_grad
def peak_loss(network):
    solution = simulate(network)
    conditions = sx.silence.spike_conditions(network.layers["hidden"], ts, solution.states["hidden"])
    return sx.losses.silent_peak(conditions, solution.spikes["hidden"]).mean()


optimizer = optax.adam(2e-2)
network, state = silent, optimizer.init(eqx.filter(silent, eqx.is_inexact_array))
for step in range(45):
    value, gradient = peak_loss(network)
    if step % 15 == 0:
        print(f"step {step}: {value:.3f}")
    updates, state = optimizer.update(gradient, state)
    network = eqx.apply_updates(network, updates)
print_activity(network)

# %% [markdown]
# Use it as one term among others, with a small weight: a sparse code needs silent neurons. `fit` warns if all gradients
# of an epoch are zero, or if a measure named `silent` is 1 in all samples. [Benchmarks](
# ../../benchmarks/README.md#silent-at-the-start) compares trainings with and without a remedy.
#
# ## Symptom: in training, the outputs fall silent
#
# A silent label has no gradient of its own, and delays the outputs that spike, until they are silent, too. There are
# two remedies:
#
# - a `bias` above the threshold and a long duration, so that every output spikes in the end, whatever its input;
# - `sx.silence.pseudospikes`: a silent output counts as one that spikes after the end, the later the farther its spike
#   condition is below zero at the end. This works for any neuron, and needs no bias.
#
# ## Symptom: the gradient is huge
#
# If a voltage barely reaches the threshold, a small change of a weight moves the spike far, or removes it. The
# derivative is exact, and large. Here a single spike grazes the threshold more and more closely:

# %%
one = sx.Spikes(jnp.array([[5.0]]))


def spike_time(weight):
    layer = sx.Layer(sx.LIF(), 1, weights=jnp.full((1, 1), weight))
    return sx.first_spike(sx.sequential(1, layer, key=jax.random.key(0))(one, T1))[0]


critical = 4.0 ** (4.0 / 3.0)  # for tau_mem = 4 tau_syn, the least weight that reaches the threshold
for excess in (1.0, 1e-1, 1e-2, 1e-3, 1e-4):
    print(f"weight {critical:.3f} + {excess:.0e}: derivative {jax.grad(spike_time)(critical + excess):9.1f} ms")

# %% [markdown]
# A few such spikes in a batch determine its gradient. Clip it: `optax.chain(optax.clip_by_global_norm(0.5),
# optax.adam(...))`. spikax itself bounds nothing.
#
# To find where a large gradient comes from, look at the norm of each parameter, and of each sample:

# %%
_, gradient = loss(biased)
for path, leaf in jax.tree.leaves_with_path(eqx.filter(gradient, eqx.is_inexact_array)):
    print(f"{jax.tree_util.keystr(path)}: norm {jnp.linalg.norm(leaf):.2f}, largest {jnp.abs(leaf).max():.2f}")


def sample_loss(network, spikes, label):
    times = sx.first_spike(network(spikes, T1, max_spikes=32))
    return sx.losses.first_spike_cross_entropy(times, label, t_silent=T1)


by_sample = eqx.filter_vmap(eqx.filter_grad(sample_loss), in_axes=(None, 0, 0))
each = eqx.filter_jit(by_sample)(biased, inputs, labels)
leaves = jax.tree.leaves(eqx.filter(each, eqx.is_inexact_array))
norms = jnp.sqrt(sum(jnp.sum(leaf**2, axis=(1, 2)) for leaf in leaves))
print("median norm of a sample", round(float(jnp.median(norms)), 2), "largest", round(float(norms.max()), 2))

# %% [markdown]
# ## Symptom: an error, or a NaN
#
# A sample that cannot be simulated is an error that names the layer and the remedy:

# %%
try:
    sx.simulate(biased, inputs, T1, max_spikes=8)
except Exception as error:
    print(str(error).strip().splitlines()[0])

# %% [markdown]
# With `throw=False` nothing is raised. `result` says how each sample ended, `results` how each layer did, and the other
# samples stay valid:

# %%
solution = sx.simulate(biased, inputs, T1, max_spikes=8, throw=False)
print(solution)
print(int(np.sum(solution.result == sx.RESULTS.successful)), "of 100 samples are valid")

# %% [markdown]
# spikax puts no NaN into a gradient. The usual sources are functions of your own:
#
# - arithmetic with the time of a missing spike, `inf`. `inf - inf` is NaN, and `jnp.where(finite, f(times), 0.0)` has a
#   NaN gradient even where it selects zero. Replace `inf` *before* the arithmetic:
#   `f(jnp.where(finite, times, 0.0))`. The losses of spikax do;
# - a branch of a `jnp.where` in a neuron that is not finite, such as a square root of a negative number;
# - in float32, an exponential of a large number.
#
# `fit` stops with a `FloatingPointError` that names the epoch, the step and the parameter.
#
# ## Symptom: the gradient seems wrong
#
# Compare it with a quotient of differences in float64, as [Exact spikes and gradients](exact_gradients.py) does. If
# they differ for a neuron of your own, look for kinks in `dynamics` (`jnp.where`, `jnp.maximum`, `jnp.abs`): they
# belong into `internal_events`. If they agree and training fails all the same, the gradient is not what is wrong: see
# [what a gradient does not tell](exact_gradients.py#what-a-gradient-does-not-tell).
