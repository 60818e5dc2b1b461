# %% [markdown]
# # Coming from Brian2
#
# [Brian2](https://brian2.readthedocs.io) simulates networks of neurons that are written as equations, on a grid of time
# steps. spikax also takes any ODE, without a grid, and differentiates the spikes: its purpose is to train or to fit.
#
# **When to stay:** Brian2 reads equations as text with units, has plasticity rules, noise in the equations (`xi`),
# synapses with equations of their own, and a large library of examples. spikax has none of these: its synapses are
# linear filters, and its dynamics are deterministic.
#
# ## The same network in both
#
# Brian2:
#
# ```python
# neurons = NeuronGroup(
#     50, """dv/dt = (I - v) / (20*ms) : 1
#            dI/dt = -I / (5*ms) : 1""", threshold="v > 1", reset="v = 0", refractory=2*ms, method="exact")
# source = PoissonGroup(20, rates=50*Hz)
# synapses = Synapses(source, neurons, "w : 1", on_pre="I_post += w", delay=1*ms)
# synapses.connect(p=0.5)
# synapses.w = "0.8 + 0.2*randn()"
# spikes, states = SpikeMonitor(neurons), StateMonitor(neurons, "v", record=[0])
# run(200*ms)
# ```
#
# spikax:

# %%
import equinox as eqx
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import spikax as sx


rng = np.random.default_rng(0)
sources, targets = np.nonzero(rng.uniform(size=(20, 50)) < 0.5)  # connect(p=0.5)
weight = jnp.asarray(rng.normal(0.8, 0.2, len(sources)), jnp.float32)
neuron = sx.Refractory(sx.LIF(tau_mem=20.0, synapse=sx.ExpSynapse(tau=5.0)), period=2.0)
network = sx.Network(
    {"neurons": sx.Layer(neuron, 50)},
    [sx.Sparse("source", "neurons", sources, targets, weight, shape=(20, 50), delay=1.0)],
    inputs={"source": 20},
    outputs="neurons",
)
source = sx.encode.poisson(np.full(20, 0.05), 200.0, seed=0)  # 50 Hz are 0.05 spikes per ms
ts = np.linspace(0.0, 200.0, 2001)
solution = sx.simulate(network, {"source": source}, 200.0, saveat=ts, max_spikes=64)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
sx.plot.raster(solution.spikes["neurons"], left, t1=200.0)
sx.plot.traces(ts, solution.states["neurons"].v[:, 0], right, threshold=1.0)

# %% [markdown]
# ## Terms
#
# | Brian2 | spikax |
# |---|---|
# | `NeuronGroup(n, equations, threshold=, reset=)` | `sx.Layer(neuron, n)`; the neuron is one of spikax, a class of your own, or `sx.neuron_from` |
# | `dv/dt = (I - v) / tau : 1` | the method `dynamics(t, state, drive)` |
# | `threshold="v > v_th"` | `spike_condition(t, state)`: a number that rises through zero, `state.v - v_th` |
# | `reset="v = 0; w += b"` | `reset(t, state)`, which returns the new state |
# | `refractory=2*ms`, `(unless refractory)` | `sx.Refractory(neuron, 2.0)`, `frozen=("v",)` |
# | `events={...}`, `run_on_event` | `internal_events()`: pairs of a condition and a jump |
# | parameters, `tau : second` | fields of the neuron: a number for all, or an array with one value per neuron, which is trained |
# | `(shared)`, `(constant)` | an array of shape `()`; a number, or `sx.Fixed(array)` |
# | `SpikeGeneratorGroup(n, indices, times)` | `sx.Spikes.from_events(times, indices, n)`, or `sx.Events` |
# | `PoissonGroup(n, rates)` | `sx.encode.poisson(rates, t1, seed=...)`, drawn before the simulation |
# | `TimedArray`, a current over time | input spikes with weights; a constant current is the `bias` |
# | `Synapses(..., on_pre="I_post += w")` | a connection, to a neuron with `synapse=sx.ExpSynapse(tau)` |
# | `on_pre="v_post += w"` | `synapse=sx.DeltaSynapse()` |
# | `on_pre="ge_post += w"`, conductances | `sx.ConductanceBased(neuron, reversal)` with named ports |
# | alpha functions, biexponentials | `sx.AlphaSynapse`, or [a synapse of your own](../extending.md#synapses) |
# | `connect()`, `connect(j="i")`, `connect(p=0.1)`, `connect(i=, j=)` | `sx.Dense`, `sx.OneToOne`, `sx.Sparse` with drawn indices, `sx.Sparse` |
# | `synapses.delay = ...` | `delay=` of the connection, not rounded to a grid; an array is trained |
# | `SpatialNeuron`, `Morphology` | `sx.MultiCompartment` for trees of a few compartments |
# | `SpikeMonitor`, `.spike_trains()` | `solution.spikes[layer]`, `.to_trains()` |
# | `StateMonitor(group, "v", record=True)` | `saveat=ts`, then `solution.states[layer].v` |
# | `run(200*ms)`, a second `run` | `sx.simulate(network, inputs, 200.0)`, then `start=solution.end` |
# | `method="exact"`, `"rk4"` | closed form for linear neurons, by default; `sx.EventLoop(solver)` with a Diffrax solver |
# | `defaultclock.dt` | none. `dt0` of `sx.EventLoop` bounds the steps, and spikes do not lie on a grid |
# | `10*ms`, `5*mV` | plain numbers, times in ms: see [Units](../units.md) |
#
# ## What differs
#
# - **Spike times.** Brian2 detects a threshold crossing at the end of a step, so a spike is late by up to one step. spikax
#   finds the crossing itself. Spikes of both agree up to these steps (`tests/test_against_brian.py`).
# - **Batches.** All functions take many samples at once: leading axes of the inputs.
# - **Room for spikes.** `max_spikes` bounds the spikes of each neuron. More are an error.
# - **Speed.** For large networks that only have to be simulated, use Brian2 or NEST: they move a neuron only when
#   something arrives at it. [Benchmarks](../../benchmarks/README.md#recurrence) has a comparison with NEST. spikax is for
#   gradients.
#
# ## The gradient
#
# What Brian2 does not have: the derivative of any spike by any parameter. How does the mean first spike time of the 50
# neurons depend on the weights?


# %%
@eqx.filter_grad  # not `jax.grad`: the indices of the synapses are integers
def sensitivity(network):
    times = sx.first_spike(network({"source": source}, 200.0, max_spikes=64))
    return jnp.mean(times)


by_weight = sensitivity(network).connections[0].weight
print(f"{len(by_weight)} derivatives, the largest {by_weight.min():.3f} ms per unit of weight")
