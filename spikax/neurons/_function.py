"""Neurons built from functions, for notebooks."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._check_neuron import check_neuron
from .._checks import require
from .._neuron import AbstractNeuron, Event
from .._synapse import ExpSynapse, require_synapse, Synapse
from .._types import State


_EXPONENTIAL = ExpSynapse()


class FunctionNeuron(AbstractNeuron):
    """A neuron whose methods are given functions. Create it with [`spikax.neuron_from`][]."""

    parameters: Any
    start: State
    synapse: Synapse
    functions: dict[str, Callable] = eqx.field(static=True)
    events: tuple[tuple[Callable, Callable], ...] = eqx.field(static=True)

    def initial_state(self):
        return jax.tree.map(jnp.asarray, self.start)

    def dynamics(self, t, state, drive):
        return self.functions["dynamics"](t, state, drive, self.parameters)

    def spike_condition(self, t, state):
        return self.functions["spike_condition"](t, state, self.parameters)

    def reset(self, t, state):
        return self.functions["reset"](t, state, self.parameters)

    def receive(self, t, state, weight):
        if "receive" not in self.functions:
            return super().receive(t, state, weight)
        return self.functions["receive"](t, state, weight, self.parameters)

    def internal_events(self):
        return tuple(Event(self._bound(condition), self._bound(jump)) for condition, jump in self.events)

    def _bound(self, function: Callable) -> Callable:
        return lambda t, state: function(t, state, self.parameters)


def neuron_from(
    *,
    initial_state: State,
    dynamics: Callable,
    spike_condition: Callable,
    reset: Callable,
    parameters: Any = None,
    synapse: Synapse = _EXPONENTIAL,
    receive: Callable | None = None,
    internal_events: Sequence[tuple[Callable, Callable]] = (),
) -> AbstractNeuron:
    r"""A neuron built from functions, without a class.

    ```python
    neuron = sx.neuron_from(
        initial_state=0.0,
        dynamics=lambda t, v, drive, p: (drive - v) / p["tau_mem"],
        spike_condition=lambda t, v, p: v - 1.0,
        reset=lambda t, v, p: 0.0,
        parameters={"tau_mem": jnp.asarray(20.0)},
    )
    ```

    Every function takes `parameters` as its last argument, like `args` in Diffrax.

    **Arguments:**

    - `initial_state`: the state at `t0`: a number, or a pytree of numbers, such as a dictionary.
    - `dynamics`: `(t, state, drive, parameters) -> derivative`, in the structure of the state.
    - `spike_condition`: `(t, state, parameters) -> number`. The neuron spikes when it rises through zero.
    - `reset`: `(t, state, parameters) -> state`, the state right after a spike.
    - `parameters`: any pytree. Its arrays, of shape `()` or with one entry per neuron, are trainable.
    - `synapse`: the synapse model, or a dictionary of named ports.
    - `receive`: `(t, state, weight, parameters) -> state`, the state right after an arrival through a `DeltaSynapse`.
    - `internal_events`: pairs `(condition, jump)` of functions `(t, state, parameters)`: events that emit no spike.

    **Returns:** the neuron.

    **Raises:** `TypeError` for arguments that are no functions; the errors of [`spikax.check_neuron`][].
    """
    functions = {"dynamics": dynamics, "spike_condition": spike_condition, "reset": reset}
    functions |= {} if receive is None else {"receive": receive}
    for name, function in functions.items():
        require(callable(function), name, "a function", function, error=TypeError)
    require_synapse(synapse)
    for event in internal_events:
        is_pair = isinstance(event, tuple) and len(event) == 2 and all(map(callable, event))
        require(is_pair, "internal_events", "pairs of functions (condition, jump)", event, error=TypeError)
    events = tuple(internal_events)
    neuron = FunctionNeuron(parameters, initial_state, synapse, functions, events)
    check_neuron(neuron)
    return neuron
