"""Neurons with conductance-based synapses."""

import equinox as eqx
import jax

from .._checks import require
from .._neuron import AbstractNeuron
from .._synapse import is_impulsive, is_synapse, port_structure
from .._types import resolved, Scalar
from ..constraints import parameter
from ._wrappers import AbstractWrapper


class ConductanceBased(AbstractWrapper):
    r"""A wrapper that makes the synapses of a neuron conductance-based.

    The drive of each port $p$ is a conductance $g_p$ with the reversal potential $E_p$. The wrapped neuron receives
    the current

    $$ I = \sum_p g_p\, (E_p - v). $$

    For a neuron such as `LIF`, whose current has the unit of a voltage, conductances are relative to the leak.

    **Arguments:**

    - `neuron`: a neuron with a voltage `v` in its state and a single current as its drive. Its synapse has one port
      per receptor: `sx.LIF(synapse={"exc": sx.ExpSynapse(2.0), "inh": sx.ExpSynapse(8.0)})`. Weights are conductances.
    - `reversal`: the reversal potentials: a dictionary with the names of the ports, or one number for a single synapse.

    **Raises:** `TypeError` or `ValueError` for names that do not match, and for a `DeltaSynapse`, whose conductance
    would be infinite.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 3.1.
    """

    neuron: AbstractNeuron
    reversal: Scalar | dict[str, Scalar] = parameter(by_port=True)

    def __check_init__(self):
        super().__check_init__()  # explicitly first: Equinox would call it last
        synapse = self.neuron.synapse
        names = "one number" if is_synapse(synapse) else f"a dictionary with the ports {sorted(synapse)}"
        matches = jax.tree.structure(resolved(self.reversal)) == port_structure(synapse)
        require(matches, "reversal", f"{names}, like the synapse of the neuron", self.reversal)
        hint = "Its conductance would be infinite. For example, use `sx.ExpSynapse()`."
        require(not is_impulsive(synapse), "neuron", "a neuron without `sx.DeltaSynapse`", self.neuron, hint)
        has_voltage = hasattr(eqx.filter_eval_shape(self.neuron.initial_state), "v")
        require(has_voltage, "neuron", "a neuron with a voltage `v` in its state", self.neuron, error=TypeError)

    def initial_state(self):
        return self.neuron.initial_state()

    def dynamics(self, t, state, drive):
        return self.neuron.dynamics(t, state, self._current(state, drive))

    def _current(self, state, drive):
        currents = jax.tree.map(lambda g, reversal: g * (reversal - state.v), drive, self.reversal)
        return sum(jax.tree.leaves(currents))

    def spike_condition(self, t, state):
        return self.neuron.spike_condition(t, state)

    def reset(self, t, state):
        return self.neuron.reset(t, state)

    def payload(self, t, state, drive):
        return self.neuron.payload(t, state, self._current(state, drive))

    def internal_events(self):
        return self.neuron.internal_events()
