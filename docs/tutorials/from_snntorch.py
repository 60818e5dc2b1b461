# %% [markdown]
# # Coming from snnTorch
#
# [snnTorch](https://snntorch.readthedocs.io) simulates spiking neurons in discrete time, as PyTorch modules, and trains
# them with surrogate gradients. spikax simulates them in continuous time, in JAX, and differentiates spike times
# exactly. This is another way to think about the same neurons. The left columns are those of snnTorch 1.0.0.
#
# **When to stay:** if the precise times of spikes do not matter, and a time step of a millisecond is fine, a step of a
# surrogate-gradient network is cheaper, and its gradient is defined where spikes appear and vanish. spikax is for
# what depends on spike times: codes by first spikes, delays, sparse events, models of neurons as ODEs.
#
# ## The same network in both
#
# snnTorch, with 25 steps of 1 ms:
#
# ```python
# class Net(nn.Module):
#     def __init__(self):
#         super().__init__()
#         self.fc1, self.lif1 = nn.Linear(64, 100), snn.Leaky(beta=0.95)
#         self.fc2, self.lif2 = nn.Linear(100, 10), snn.Leaky(beta=0.95)
#
#     def forward(self, x):  # x: (25, batch, 64), zeros and ones
#         mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
#         record = []
#         for step in range(25):
#             spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
#             spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
#             record.append(mem2)
#         return torch.stack(record)
# ```
#
# spikax. There is no loop over time, and no state to carry: the inputs are spike times.

# %%
import jax
import jax.numpy as jnp
import numpy as np

import spikax as sx


network = sx.sequential(
    64,
    sx.Layer(sx.LIF(tau_mem=20.0, bias=jnp.zeros(100)), 100, weights=sx.init.scaled_normal(0.0, 8.0)),
    sx.Layer(sx.LI(tau_mem=20.0, bias=jnp.zeros(10)), 10, weights=sx.init.scaled_normal(0.0, 1.0)),
    key=jax.random.key(0),
)
images = sx.datasets.digits().training.images[:4]
inputs = sx.datasets.image_spikes(images)  # sx.Events: (batch, events)
solution = sx.simulate(network, inputs, t1=25.0, saveat={"output": jnp.arange(1.0, 26.0)}, max_spikes=32)
print(solution.states["output"].v.shape, "(batch, time, output)")

# %% [markdown]
# ## Terms
#
# | snnTorch | spikax |
# |---|---|
# | a time step | none; times are in ms |
# | a tensor of zeros and ones, `(time, batch, n)` | `sx.Spikes`: spike times, `(batch, n, k)`; `sx.Events`: a list of events |
# | `beta`, the decay of the membrane per step | `tau_mem` = −Δt / ln(`beta`). With steps of 1 ms, `beta=0.95` is 19.5 ms |
# | `snn.Leaky(beta)`: the input is added to the membrane | `sx.LIF(tau_mem, synapse=sx.DeltaSynapse())` |
# | `snn.Synaptic(alpha, beta)`: a synaptic current | `sx.LIF(tau_mem, synapse=sx.ExpSynapse(tau))`, the usual choice here |
# | `snn.Alpha(alpha, beta)` | `sx.LIF(tau_mem, synapse=sx.AlphaSynapse(tau))` is similar, with one time constant |
# | `snn.RLeaky`, `snn.RSynaptic` | `sx.recurrent`, or a connection from a layer to itself |
# | `nn.Linear`, `nn.Conv2d` | `sx.Dense`, `sx.Conv`; the bias is a parameter of the neuron, `sx.LIF(bias=jnp.zeros(n))` |
# | `threshold` | `v_threshold` |
# | `reset_mechanism="zero"` | the reset to `v_reset`, the only one. In continuous time the voltage *is* the threshold at a spike, so `"subtract"` is the same |
# | `learn_beta=True`, `learn_threshold=True` | an array in place of a number: `sx.LIF(tau_mem=sx.Positive(jnp.full(100, 20.0)))` |
# | `spike_grad=surrogate.atan()` | none: the derivative of the spike time is exact |
# | `init_leaky()`, `mem` | states start at rest; `solution.end` continues a simulation |
# | `mem_rec` | `saveat=ts`, `solution.states[layer].v` |
# | `spk_rec` | `solution.spikes[layer]` |
#
# To see spikes as a tensor of zeros and ones, count them in bins:


# %%
def binned(spikes, dt, t1):
    """Spike counts, of shape (batch, n, bins)."""
    edges = np.arange(0.0, t1 + dt, dt)
    return np.apply_along_axis(lambda times: np.histogram(times, edges)[0], -1, np.asarray(spikes.times))


print(binned(solution.spikes["hidden"], 1.0, 25.0).shape)

# %% [markdown]
# ## Encoders
#
# | snnTorch | spikax |
# |---|---|
# | `spikegen.latency(x, num_steps, linear=True)`: large values early | `sx.encode.latency(1 - x, t_early, t_late)`: large values **late**, so pass `1 - x` |
# | `spikegen.rate(x, num_steps)`, Bernoulli in each step | `sx.encode.poisson(rates, t1, seed=0)`, rates in spikes per ms |
# | `spikegen.delta(x, threshold)` | `sx.encode.send_on_delta(signal, times, delta)` |
#
# ## Losses and accuracies
#
# | snnTorch | spikax |
# |---|---|
# | `SF.ce_rate_loss()`, `ce_count_loss()` | a count has no derivative. `sx.losses.spike_count` counts spikes near the end less, and so has one; or read voltages |
# | `SF.ce_max_membrane_loss()` | `sx.losses.cross_entropy(sx.decode.maximum(v), labels)`, with `sx.LI` outputs |
# | `SF.mse_membrane_loss()` | `jnp.mean((v - target) ** 2, axis=(1, 2))` |
# | `SF.ce_temporal_loss()` | `sx.losses.first_spike_cross_entropy(times, labels, t_silent=t1)` |
# | `SF.mse_temporal_loss()` | `sx.losses.first_spike_mse(times, labels, t_label=, t_other=, t_silent=)` |
# | `SF.accuracy_rate(spk, labels)` | `sx.decode.largest(spikes.count.astype(float)) == labels` |
# | `SF.accuracy_temporal(spk, labels)` | `sx.decode.earliest(times) == labels` |
# | `SF.reg.l1_rate_sparsity` | `sx.losses.count_bounds` needs a differentiable count, such as that of `sx.losses.spike_count` |
#
# ## What changes in practice
#
# - **Silent neurons matter.** A surrogate gradient is nonzero below the threshold. An exact gradient is zero for a
#   neuron without spikes. Start with weights that make neurons spike (`sx.silence.calibrated`): see
#   [Silent networks and gradients](silent_networks.py).
# - **Clip gradients.** Spikes that barely happen have large derivatives.
# - **The number of spikes is bounded by `max_spikes`**, as room in an array. More are an error.
# - **The first call compiles**, for some seconds. Call functions of equal shapes, under `jax.jit` or in `sx.train.fit`.
# - **PyTorch's data loaders work:** see [Recipes](../recipes.md#batches-of-pytorch-and-grain).
