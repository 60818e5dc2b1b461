"""Synapses that are conductances."""

import equinox as eqx
import jax

from .._checks import require
from .._neuron import AbstractNeuron
from .._synapse import is_impulsive, is_synapse
from .._types import resolved, Scalar
from ..constraints import parameter
from ._wrappers import AbstractWrapper


class ConductanceBased(AbstractWrapper):
    r"""A neuron whose synapses are conductances.

    Every port $p$ of the synapse delivers a conductance $g_p$, which pulls the voltage to the reversal voltage $E_p$
    of the port. The neuron inside sees the current

    $$ I = \sum_p g_p\, (E_p - v). $$

    In a neuron such as `LIF`, whose current is measured as a voltage, the conductances are those relative to the leak.

    **Arguments:**

    - `neuron`: a neuron with a voltage `v` in its state, which takes one current. Its synapse has a port for every
      receptor: `sx.LIF(synapse={"exc": sx.ExpSynapse(2.0), "inh": sx.ExpSynapse(8.0)})`. Weights are conductances.
    - `reversal`: the reversal voltages, by the names of the ports; one number where the synapse has no names.

    Raises `TypeError` or `ValueError` for names that do not match, and for a `DeltaSynapse`, which is no conductance.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 3.1.
    """

    neuron: AbstractNeuron
    reversal: Scalar | dict[str, Scalar] = parameter(by_port=True)

    def __check_init__(self):
        super().__check_init__()  # first; by itself Equinox would check it last
        synapse = self.neuron.synapse
        names = "one number" if is_synapse(synapse) else f"a dictionary with the ports {sorted(synapse)}"
        matches = jax.tree.structure(resolved(self.reversal)) == jax.tree.structure(synapse, is_leaf=is_synapse)
        require(matches, "reversal", f"{names}, as the synapse of the neuron asks", self.reversal)
        hint = "Its conductance is infinite; for example take `sx.ExpSynapse()`."
        require(not is_impulsive(synapse), "neuron", "free of `sx.DeltaSynapse`", self.neuron, hint)
        has_voltage = hasattr(eqx.filter_eval_shape(self.neuron.initial_state), "v")
        require(has_voltage, "neuron", "one with a voltage `v` in its state", self.neuron, error=TypeError)

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
