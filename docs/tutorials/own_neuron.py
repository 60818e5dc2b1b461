# %% [markdown]
# # A neuron of your own
#
# Any neuron that is written as an ODE can be simulated and trained. This page takes equations, turns them into a class,
# checks it, looks at its spikes, and trains a network of it.
#
# The example is a quadratic integrate-and-fire neuron with adaptation:
#
# $$ \tau_{mem}\, v' = v\,(v - 1) + I - w, \qquad \tau_w\, w' = a\,v - w, $$
#
# $$ v \leftarrow 0,\ w \leftarrow w + \beta \quad \text{as } v \text{ rises through } v_{peak}. $$

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import spikax as sx


# %% [markdown]
# ## The class
#
# It describes **one** neuron, with scalars. spikax vectorises it over the neurons of a layer and over the batch. There
# are four methods: the state at the start, the derivative of the state, a condition that rises through zero at a spike,
# and the state right after a spike. `drive` is the current that the synapse delivers.


# %%
class State(eqx.Module):
    v: jax.Array
    w: jax.Array


class AdaptiveQuadratic(sx.AbstractNeuron):
    """A quadratic integrate-and-fire neuron with adaptation."""

    # A number is a constant, an array is trained. The constraints are checked in every simulation.
    tau_mem: sx.Scalar = sx.parameter(20.0, sx.constraints.positive)
    tau_w: sx.Scalar = sx.parameter(80.0, sx.constraints.positive)
    coupling: sx.Scalar = sx.parameter(0.1)
    increment: sx.Scalar = sx.parameter(0.3)
    v_peak: sx.Scalar = sx.parameter(5.0)
    synapse: sx.Synapse = sx.ExpSynapse(tau=5.0)

    def initial_state(self):
        return State(v=jnp.asarray(0.0), w=jnp.asarray(0.0))

    def dynamics(self, t, state, drive):
        return State(
            v=(state.v * (state.v - 1.0) + drive - state.w) / self.tau_mem,
            w=(self.coupling * state.v - state.w) / self.tau_w,
        )

    def spike_condition(self, t, state):
        return state.v - self.v_peak

    def reset(self, t, state):
        return State(v=jnp.zeros_like(state.v), w=state.w + self.increment)


# %% [markdown]
# ## Check it
#
# `sx.check_neuron` tries all methods. If they do not fit together, it raises an error that says what is wrong. It has
# remarks on what is allowed but rarely meant.

# %%
print(sx.check_neuron(AdaptiveQuadratic()))

# %% [markdown]
# For example, a condition that is still above zero after the reset would cause spikes without end:

# %%
try:
    sx.check_neuron(AdaptiveQuadratic(v_peak=-1.0))
except ValueError as error:
    print(error)

# %% [markdown]
# ## Look at it
#
# A network of one neuron, with a regular train of input spikes. `saveat` gives the times at which its state is wanted.

# %%
ts = np.linspace(0.0, 150.0, 1501)
inputs = sx.Spikes(jnp.arange(5.0, 145.0, 5.0)[None])
network = sx.sequential(1, sx.Layer(AdaptiveQuadratic(), 1, weights=sx.init.constant(1.5)), key=jax.random.key(0))
solution = sx.simulate(network, inputs, t1=150.0, saveat=ts, max_spikes=32)

figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
sx.plot.traces(ts, solution.states["output"].v, upper, spikes=solution.spikes["output"], threshold=5.0)
sx.plot.traces(ts, solution.states["output"].w, lower)
lower.set_ylabel("w")
print("spikes (ms):", np.round(solution.spikes["output"].to_trains()[0], 2))

# %% [markdown]
# ## Is the gradient right?
#
# It needs no code: JAX differentiates the methods, and spikax the spike times. To convince yourself, compare it with a
# quotient of differences. In float32 the quotient itself is rounded, so this is a check for gross mistakes, such as a
# `jnp.where` in `dynamics`; [Exact spikes and gradients](exact_gradients.py) does it in float64. Keep the steps small:
# a spike that moves across the arrival of another one has another derivative on the other side.


# %%
def second_spike(increment):
    layer = sx.Layer(AdaptiveQuadratic(increment=increment), 1, weights=sx.init.constant(1.5))
    return sx.sequential(1, layer, key=jax.random.key(0))(inputs, t1=150.0, max_spikes=32).times[0, 1]


step = 2e-3
quotient = (second_spike(jnp.array(0.3 + step)) - second_spike(jnp.array(0.3 - step))) / (2 * step)
print(f"gradient {jax.grad(second_spike)(jnp.array(0.3)):.3f}, quotient of differences {quotient:.3f}")

# %% [markdown]
# ## Train it
#
# In a network it is used like any other neuron. Here the time constants of the adaptation are trained too, one for each
# neuron. `sx.Positive` keeps them positive.

# %%
network = sx.sequential(
    5,
    sx.Layer(AdaptiveQuadratic(tau_w=sx.Positive(jnp.full(30, 80.0))), 30, weights=sx.init.normal(5.0, 4.0)),
    sx.Layer(sx.LIF(bias=1.5), 3, weights=sx.init.normal(0.3, 0.3)),
    key=jax.random.key(0),
)


def objective(network, inputs, labels):
    times = sx.first_spike(network(inputs, 60.0, max_spikes={"hidden": 16, "output": 1}, until=sx.FirstSpikes()))
    loss = sx.losses.first_spike_cross_entropy(times, labels, t_silent=60.0)
    return loss, {"accuracy": (sx.decode.earliest(times) == labels).astype(loss.dtype)}


def loader(number, seed):
    points, labels = sx.datasets.yin_yang(number, seed)
    return sx.datasets.Loader(sx.datasets.yin_yang_spikes(points), labels, batch_size=50)


fit = sx.train.fit(
    network,
    objective,
    loader(2000, seed=0),
    loader(500, seed=1),
    optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(5e-3)),
    epochs=5,
)
tau_w = fit.network.layers["hidden"].neuron.tau_w.value
print(f"validation accuracy after each epoch: {[round(e.validation['accuracy'], 3) for e in fit.history]}")
print(f"tau_w from {tau_w.min():.0f} to {tau_w.max():.0f} ms")

# %% [markdown]
# ## More
#
# - **A refractory period, or one spike only:** `sx.Refractory(AdaptiveQuadratic(), 2.0)`, `sx.SingleSpike(...)`.
# - **Kinks:** a `jnp.where` in `dynamics` makes the solver, and with it the gradient, less accurate than it claims to
#   be. Return the kink as a pair of a condition and a jump from `internal_events`.
# - **Linear neurons:** if `dynamics` and `spike_condition` are linear in the state and the drive, declare it by
#   `is_linear`. The layer is then simulated in closed form, without a solver.
# - **No class:** `sx.neuron_from` makes a neuron of functions, for notebooks.
#
# [Neurons of your own](../extending.md) has the details, synapses of your own, and a template to copy.
