"""The method `ClosedForm`: linear neurons, without a solver."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..._checks import known, require_count
from ..._neuron import AbstractNeuron
from ..._routing import Train
from .._base import AbstractLayerMethod, Counters, drives_of, LayerResult, spikes_first
from .._common.linear_neurons import at_rest, has_scalar_flow, moves_linearly
from .._common.matrix_flow import MatrixFlow
from .._common.root_finding.bounds import horizon_of
from .blocks import find_spikes, LayerGiven, Limits


class ClosedForm(AbstractLayerMethod):
    """Simulates linear neurons without a solver: all arrivals at once, and one vectorised pass per emitted spike.

    A neuron is linear if its `is_linear` is True. It must have no internal events and no `DeltaSynapse`, but may have
    any number of variables, and any number of ports with any filters. With one variable driven by one exponential
    filter, the flow and the peaks of the spike condition have closed forms, which is fastest. For all other neurons the
    flow is a matrix exponential, exact to rounding, and bounds of the derivatives of the condition guarantee that no
    spike is missed. For these bounds the time is divided into pieces as short as the fastest time constant of the
    neuron, or into 32 pieces if its parameters or the duration are traced. Their number affects the run time, not the
    result.

    **Arguments:**

    - `max_steps`: the number of spikes at which the simulation of a neuron is stopped as failed.
    """

    max_steps: int = eqx.field(static=True, default=4096, kw_only=True)

    def __check_init__(self):
        require_count(self.max_steps, "max_steps")

    def limits(self, name):
        return {"max_steps": self.max_steps}

    def supports_layer(self, network, name):
        return moves_linearly(network.layers[name].neuron)

    def layer_grid(self, network, name, expected):
        neuron = network.layers[name].neuron
        return 0 if has_scalar_flow(neuron) else _pieces(neuron, expected.duration, network.dtype)

    def simulate_layer(self, plan, received, t0, t1, grid):
        # A neuron that spikes without end must not hold up the others.
        stop_after = self.max_steps if plan.stop_after is None else min(plan.stop_after, self.max_steps)
        limits = Limits(plan.max_spikes, stop_after, grid)
        found = find_spikes(LayerGiven.of(plan, received, t0, t1), limits, plan.ts)
        finished = (found.count < self.max_steps) | (stop_after < self.max_steps)
        # As sums, not `all`: JAX cannot differentiate `all` of the output of a custom rule.
        finished, finite = (jnp.sum(~part, axis=1) == 0 for part in (finished, found.finite))
        # The time at which a neuron reached `max_steps`, or stopped being finite, is not known.
        failed_at = jnp.where(finished & finite, jnp.inf, -jnp.inf).astype(t0.dtype)
        counters = Counters.once(found.count, finished, finite, failed_at, found.passes)
        times = spikes_first(found.times[..., None])
        # With a synaptic filter the membrane is continuous at arrivals, so no spike causes another at the same time.
        generation = None if received.generation is None else jnp.zeros(times.shape, jnp.int32)
        end = plan.start.moved_to(*found.end)
        saved = None
        if found.saved is not None:
            states, filters = found.saved
            saved = states, jax.vmap(lambda filters: drives_of(plan.neuron, filters))(filters)
        return LayerResult(Train(times, generation=generation), end, saved, counters, "ClosedForm")


def _pieces(neuron: AbstractNeuron, duration: float | None, dtype: Any) -> int:
    """The number of pieces into which the time is divided, each about as long as the horizon of the bounds."""
    is_traced = any(known(leaf) is None for leaf in jax.tree.leaves(eqx.filter(neuron, eqx.is_array)))
    if is_traced or duration is None:
        # The horizon is not known, and any number is correct.
        return 32
    # The number is needed at trace time, even inside a `jit` around the whole simulation.
    with jax.ensure_compile_time_eval():
        horizon = float(_shortest_horizon(neuron, dtype))
    # In multiples of 16, so that another duration rarely recompiles. The margin is for rounding.
    return 16 * math.ceil(1.01 * duration / horizon / 16)


@eqx.filter_jit
def _shortest_horizon(neuron: AbstractNeuron, dtype: Any) -> Array:
    """The horizon of the bounds for the fastest neuron."""
    placed, state, _ = at_rest(neuron, dtype)
    return jnp.min(horizon_of(MatrixFlow.of(placed, state, jnp.zeros((), dtype))))
