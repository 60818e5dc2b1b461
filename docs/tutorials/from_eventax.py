# %% [markdown]
# # Coming from Eventax
#
# spikax implements the system of the Eventax paper (König, Kuhn, Kappel, Subramoney,
# [arXiv 2603.08146](https://arxiv.org/abs/2603.08146)): neurons as ODEs with events, in JAX, with Diffrax solvers and
# exact gradients. The names and the structure differ. The left columns are those of Eventax 0.1.0.
#
# ## The same network in both
#
# Eventax:
#
# ```python
# from eventax.evnn import FFEvNN
# from eventax.neuron_models import LIF
#
# network = FFEvNN(
#     layers=[120, 3], in_size=5, neuron_model=LIF, max_solver_time=30.0, key=jax.random.PRNGKey(0),
#     solver=diffrax.Euler(), solver_stepsize=0.05, root_finder=optimistix.Newton(1e-5, 1e-5, optimistix.rms_norm),
#     max_event_steps=400, thresh=1.0, tsyn=5.0, tmem=20.0, wmean=2.0, wlim=4.0, blim=0.1,
# )
# times = jax.vmap(network.ttfs)(inputs)  # inputs: (batch, 5, K), the result: (batch, 3)
# ```
#
# spikax:

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import spikax as sx


keys = jax.random.split(jax.random.key(0), 3)
draw = sx.init.uniform(-0.05, 0.05)  # blim=0.1
synapse = sx.ExpSynapse(tau=5.0)  # tsyn
network = sx.sequential(
    5,
    sx.Layer(sx.LIF(tau_mem=20.0, synapse=synapse, bias=draw(keys[0], (120,))), 120, weights=sx.init.uniform(0.0, 4.0)),
    sx.Layer(sx.LIF(tau_mem=20.0, synapse=synapse, bias=draw(keys[1], (3,))), 3, weights=sx.init.uniform(0.0, 4.0)),
    key=keys[2],
)
inputs = sx.Spikes(30.0 * jax.random.uniform(jax.random.key(1), (4, 5, 1)))  # (batch, 5, K)
times = sx.first_spike(network(inputs, t1=30.0, until=sx.FirstSpikes()))
print(times.shape, np.round(times[0], 3))

# %% [markdown]
# No solver is needed for LIF, which is simulated in closed form. To simulate it with the steps of a solver, as Eventax
# does, pass a method: `network(inputs, 30.0, method=sx.EventLoop(diffrax.Euler(), dt0=0.05))`.
#
# ## The network
#
# | Eventax | spikax |
# |---|---|
# | `FFEvNN(layers, in_size, neuron_model, ...)` | `sx.sequential(in_size, sx.Layer(neuron, n, weights=...), ..., key=...)` |
# | `EvNN(neuron_model, n_neurons, ...)`, all to all | `sx.Network(layers, connections, inputs, outputs)`, any graph of layers; `sx.recurrent` for the usual one |
# | a neuron class and its arguments as `**kwargs` | an instance: `sx.LIF(tau_mem=20.0)` |
# | `MultiNeuronModel` | layers with different neurons |
# | `wmask` | `sx.Masked(weight, mask)`, or `sx.Sparse`, which stores existing synapses only |
# | `input_neurons`, `output_neurons` | the connections from an input; `outputs`, or `solution.spikes[name]` of any layer |
# | `wmean`, `wlim` (uniform, `wmean` ± `wlim` / 2) | `weights=sx.init.uniform(wmean - wlim / 2, wmean + wlim / 2)` |
# | `init_weights` | `weights=` an array of shape `(sources, size)` |
# | `fan_in_mode="linear"`, `"sqrt"` | a function of your own, `lambda key, shape: draw(key, shape) / shape[0]`. `sx.init.scaled_normal` and `sx.init.scaled_uniform` divide the mean by n and the deviation by √n |
# | `bmean`, `blim`, `init_bias` | `bias=` an array of shape `(size,)`, which learns; a number is constant |
# | `init_delays`, `dlim` | `delay=` an array of shape `(sources, targets)`, or an initializer such as `sx.init.uniform(0.0, dlim)` |
# | `init_axonal_delays`, `axonal_dlim` | `delay=` an array of shape `(sources,)` |
# | negative delays are clipped to zero | an error; `sx.Positive` keeps a delay positive |
# | `dtype` | the widest float type of weights and parameters |
#
# ## The simulation
#
# | Eventax | spikax |
# |---|---|
# | `jax.vmap(network.ttfs)(x)` | leading axes of the inputs are batch axes: `network(inputs, t1)`. `jax.vmap` works too |
# | `max_solver_time`, `t0` | `t1`, `t0` of the call |
# | `ttfs(x)` | `sx.first_spike(network(inputs, t1, until=sx.FirstSpikes()))` |
# | `spikes_until_t(x, t, max_spikes)` | `network(inputs, t, max_spikes=...)`. `max_spikes` is for each neuron, and exceeding it is an error |
# | `state_at_t(x, times)` | `sx.simulate(network, inputs, t1, saveat=times).states[layer]`, in the order of `times` |
# | `record(x)` | `solution.events()`; `solution.spikes` by layer |
# | `observe` | states are records with named fields: `states["output"].v` |
# | `output_no_spike_value` | `inf`; each loss has an argument for silent outputs, such as `t_silent` |
# | `solver`, `stepsize_controller` | the same arguments of `sx.EventLoop`. The default is `diffrax.Tsit5()` with adaptive steps, not Euler |
# | `solver_stepsize` | `dt0` of `sx.EventLoop`, for steps of fixed length |
# | `root_finder`, 1e-2 by default | none: spike times are found by a bracketed search within the steps |
# | `max_event_steps`, for the network | `max_spikes` for each neuron; `max_steps` of the method |
# | `buffer_capacity` | none for feed-forward networks; `max_arrivals` of `sx.Windows` |
# | `adjoint=diffrax.RecursiveCheckpointAdjoint()` | `adjoint=sx.DiscreteAdjoint()` of the call, the default: gradients of the steps as taken |
# | `adjoint=EventPropAdjoint(...)` | `adjoint=sx.EventPropAdjoint(solver)` of the call, for layers in `sx.EventLoop`; linear neurons are differentiated in closed form |
# | `save_evnn`, `load_evnn` | `sx.save`, `sx.load` |
#
# ## Neurons
#
# | Eventax | spikax |
# |---|---|
# | `LIF(thresh, tsyn, tmem, vreset)` | `sx.LIF(tau_mem, v_threshold=, v_reset=, synapse=sx.ExpSynapse(tsyn))` |
# | `PLIF`, `PQIF`, `pIzhikevich` (trained parameters) | the same classes: a parameter that is an array is trained |
# | `QIF(tsyn, tmem)` | `sx.QIF(tau_mem, bias, synapse)` in the same phase form |
# | `EIF`, `ALIF`, `Izhikevich`, `EGRU` | `sx.EIF`, `sx.ALIF`, `sx.Izhikevich`, `sx.EGRU`; compare the equations, since parameters and units differ |
# | `Refractory(LIF)(..., t_refrac=2.0)` | `sx.Refractory(sx.LIF(), 2.0)`; `refrac_mask` is `frozen=("v",)` |
# | `AMOS(LIF)` | `sx.SingleSpike(sx.LIF())` |
#
# In a class of your own:
#
# | Eventax: all neurons at once | spikax: one neuron |
# |---|---|
# | `init_state(n_neurons)`, an array `(neurons, channels)` | `initial_state()`, a record of scalars |
# | `dynamics(t, y, args)`, with the synaptic current in `y` | `dynamics(t, state, drive)`; the synapse is an object of its own |
# | `spike_condition(t, y)` | `spike_condition(t, state)`, rises through zero at a spike |
# | `reset_spiked(y, spiked_mask)` | `reset(t, state)` |
# | `input_spike(y, from_idx, to_idx, valid_mask)` | none for filtered synapses; `receive(t, state, weight)` with `sx.DeltaSynapse` |
# | weights are fields of the neuron | weights are fields of the connections |
#
# Here is a neuron in both. Eventax, in outline:
#
# ```python
# class MyLIF(NeuronModel):
#     def init_state(self, n_neurons):
#         return jnp.zeros((n_neurons, 2))
#     def dynamics(self, t, y, args):
#         v, i = y[:, 0], y[:, 1]
#         return jnp.stack([(i - v) / 20.0, -i / 5.0], axis=1)
#     def spike_condition(self, t, y, **kwargs):
#         return y[:, 0] - 1.0
#     def input_spike(self, y, from_idx, to_idx, valid_mask):
#         return y.at[to_idx, 1].add(self.weights[from_idx, to_idx] * valid_mask)
#     def reset_spiked(self, y, spiked_mask):
#         return y.at[:, 0].set(jnp.where(spiked_mask, 0.0, y[:, 0]))
# ```


# %%
class State(eqx.Module):
    v: jax.Array


class MyLIF(sx.AbstractNeuron):
    synapse: sx.Synapse = sx.ExpSynapse(tau=5.0)

    def initial_state(self):
        return State(v=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return State(v=(drive - state.v) / 20.0)

    def spike_condition(self, t, state):
        return state.v - 1.0

    def reset(self, t, state):
        return State(v=jnp.zeros_like(state.v))


print(sx.check_neuron(MyLIF()))

# %% [markdown]
# ## What behaves differently
#
# - **Each neuron has its own clock.** Eventax stops all neurons of the network at each event of any of them. spikax does
#   so only for recurrent layers without delays in `sx.EventLoop`.
# - **Simultaneous spikes** all happen. In Eventax, the neuron with the largest spike condition spikes at an event.
# - **A refractory period** ends by an event, not by a `jnp.where` in the dynamics. In Eventax, the synaptic current is
#   part of the state, so by default it stands still during the period, and inputs are blocked. In spikax the synapse is a
#   filter of its own, which goes on.
# - **EGRU** transmits the cell value and the reset gate of the neuron that spikes. Eventax 0.1.0 transmits no cell value,
#   and uses the reset gate of the neuron that receives.
# - **Failures** are errors that name the layer and the remedy, or, with `throw=False`, a status for each sample.
#
# Both libraries give the same spikes, up to the steps of the solver: see
# [Benchmarks](../../benchmarks/README.md#against-eventax-010) for differences and times.
