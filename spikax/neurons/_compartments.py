"""Multi-compartment neurons: a soma and a tree of dendrites."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .._checks import require, require_instance
from .._constraints import Checked
from .._neuron import AbstractNeuron, Event, events_of
from .._synapse import AbstractSynapse, is_synapse
from .._types import Scalar
from ..constraints import parameter


class Dendrite(Checked):
    """A dendritic compartment and its coupling to its parent, the next compartment towards the soma.

    **Arguments:**

    - `membrane`: the neuron model of the compartment, for example `sx.LI()` for a passive membrane. It must have a
      finite voltage `v` in its state (`QIF` has none: its voltage is infinite at a spike), a single current as its
      drive, and no payload. Its spikes are internal events of the whole neuron. Its synapse is not used.
    - `coupling`: the conductance to the parent, relative to the leak of this compartment. The current into this
      compartment is `coupling * (v_parent - v)`.
    - `parent_coupling`: the same conductance, relative to the leak of the parent. The current into the parent is
      `parent_coupling * (v - v_parent)`. It differs from `coupling` if the compartments differ in size.
    - `parent`: the name of the parent.
    """

    membrane: AbstractNeuron
    coupling: Scalar = parameter(1.0)
    parent_coupling: Scalar = parameter(1.0)
    parent: str = eqx.field(static=True, default="soma")

    def __check_init__(self):
        _check_membrane(self.membrane, "membrane")
        require(isinstance(self.parent, str), "parent", "the name of a compartment", self.parent, error=TypeError)


class MultiCompartment(AbstractNeuron):
    r"""A neuron of several compartments, a soma and dendrites, that are coupled along a tree.

    Each compartment $c$ is described by a neuron model with the current

    $$ I_c = I_c^{syn} + \gamma_c\, (v_{p(c)} - v_c) + \sum_{d:\, p(d) = c} \kappa_d\, (v_d - v_c), $$

    which sums the drive of its port, the coupling to its parent $p(c)$, and the coupling to its children $d$. The
    neuron spikes when its soma spikes. Spikes and internal events of the dendrites become internal events of the
    neuron, so any neuron model can be an active dendrite. The state is a dictionary of the states of the compartments.

    ```python
    cell = sx.MultiCompartment(
        sx.LIF(tau_mem=20.0),
        {"trunk": sx.Dendrite(sx.LI(15.0), 0.8, 0.4), "tuft": sx.Dendrite(sx.LI(10.0), 1.5, 0.5, parent="trunk")},
        synapse={"soma": sx.ExpSynapse(5.0), "tuft": sx.ExpSynapse(10.0)},
    )
    ```

    **Arguments:**

    - `soma`: the neuron model of the soma, with a voltage `v` in its state and a single current as its drive. Its
      synapse is not used.
    - `dendrites`: a dictionary of the other compartments by name, each a [`spikax.Dendrite`][] with the couplings
      $\gamma$ (`coupling`) and $\kappa$ (`parent_coupling`).
    - `synapse`: a dictionary from names of compartments to synapses: the ports of the neuron. An arrival through a
      `DeltaSynapse` changes the state of the compartment immediately, through its `receive`.

    **Raises:** `TypeError` or `ValueError` for unknown names of compartments, and for dendrites that do not form a
    tree.

    ??? cite "Reference"
        W. Gerstner, W. M. Kistler, R. Naud, L. Paninski, *Neuronal Dynamics*, Cambridge University Press, 2014,
        section 3.2.
    """

    soma: AbstractNeuron
    dendrites: dict[str, Dendrite]
    synapse: dict[str, AbstractSynapse]

    def __check_init__(self):
        _check_membrane(self.soma, "soma")
        require_instance(self.dendrites, dict, "dendrites", "a dictionary of dendrites")
        require(len(self.dendrites) > 0, "dendrites", "at least one dendrite", self.dendrites)
        require("soma" not in self.dendrites, "dendrites", "free of the reserved name `soma`", list(self.dendrites))
        for name, dendrite in self.dendrites.items():
            hint = "For example `sx.Dendrite(sx.LI())`."
            require_instance(dendrite, Dendrite, f"dendrites[{name!r}]", "a `sx.Dendrite`", hint)
        for name in self.dendrites:
            self._check_way_to_soma(name)
        ports = self.synapse if isinstance(self.synapse, dict) else {}
        is_named = len(ports) > 0 and all(map(is_synapse, ports.values()))
        hint = "For example `{'soma': sx.ExpSynapse()}`."
        require(is_named, "synapse", "a dictionary of synapses", self.synapse, hint, TypeError)
        known_names = f"for compartments among {list(self._membranes())}"
        require(set(ports) <= set(self._membranes()), "synapse", known_names, list(ports))

    def _check_way_to_soma(self, name: str) -> None:
        way = [name]
        while way[-1] != "soma":
            parent = self.dendrites[way[-1]].parent
            argument = f"dendrites[{way[-1]!r}].parent"
            require(parent in self._membranes(), argument, f"one of {list(self._membranes())}", parent)
            require(parent not in way, argument, "closer to the soma", parent, "The dendrites must form a tree.")
            way.append(parent)

    def _membranes(self) -> dict[str, AbstractNeuron]:
        return {"soma": self.soma} | {name: dendrite.membrane for name, dendrite in self.dendrites.items()}

    @property
    def is_linear(self):
        """Whether all compartments are linear. The closed form also requires that no dendrite has events."""
        return all(membrane.is_linear for membrane in self._membranes().values())

    def initial_state(self):
        return {name: membrane.initial_state() for name, membrane in self._membranes().items()}

    def dynamics(self, t, state, drive):
        currents = {name: drive.get(name, 0.0) for name in state}
        for name, dendrite in self.dendrites.items():
            rise = state[dendrite.parent].v - state[name].v
            currents[name] = currents[name] + dendrite.coupling * rise
            currents[dendrite.parent] = currents[dendrite.parent] - dendrite.parent_coupling * rise
        return {name: membrane.dynamics(t, state[name], currents[name]) for name, membrane in self._membranes().items()}

    def spike_condition(self, t, state):
        return self.soma.spike_condition(t, state["soma"])

    def reset(self, t, state):
        return state | {"soma": self.soma.reset(t, state["soma"])}

    def receive(self, t, state, weight):
        membranes = self._membranes()
        reached = [name for name, port in self.synapse.items() if port.is_impulsive]
        return state | {name: membranes[name].receive(t, state[name], weight[name]) for name in reached}

    def internal_events(self):
        own = [("soma", event) for event in self.soma.internal_events()]
        for name, dendrite in self.dendrites.items():
            membrane = dendrite.membrane
            events = membrane.internal_events() if not membrane.can_spike else events_of(membrane)
            own += [(name, event) for event in events]
        return tuple(_placed(name, event) for name, event in own)


def _check_membrane(membrane: Any, argument: str) -> None:
    require_instance(membrane, AbstractNeuron, argument, "a neuron", "Write an instance, for example `sx.LI()`.")
    has_voltage = hasattr(eqx.filter_eval_shape(membrane.initial_state), "v")
    require(has_voltage, argument, "a neuron with a voltage `v` in its state", membrane, error=TypeError)
    carried = eqx.filter_eval_shape(lambda: membrane.payload(jnp.zeros(()), membrane.initial_state(), jnp.zeros(())))
    hint = "A multi-compartment neuron transmits no payload."
    require(carried is None, argument, "a neuron without a payload", membrane, hint)


def _placed(name: str, event: Event) -> Event:
    """An event of one compartment as an event of the whole neuron."""
    return Event(
        lambda t, state: event.condition(t, state[name]),
        lambda t, state: state | {name: event.jump(t, state[name])},
    )
