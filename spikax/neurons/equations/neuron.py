"""A neuron whose equations are a text."""

import ast
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ..._check_neuron import check_neuron
from ..._checks import require, require_finite, require_instance
from ..._neuron import AbstractNeuron
from ..._synapse import AbstractSynapse, ExpSynapse, Synapse
from ..._types import Scalar
from ...constraints import parameter
from .._wrappers import Refractory
from .expressions import CONSTANTS, degree, FUNCTIONS, Scope, value
from .text import Assignment, assignments, condition, Equations, equations, names_used


_EXPONENTIAL = ExpSynapse()


class EquationNeuron(AbstractNeuron):
    """A neuron whose equations are a text. Create it with [`spikax.neuron_from_equations`][].

    Its state is a dictionary of the variables.
    """

    equations: str = eqx.field(static=True)
    threshold: str | None = eqx.field(static=True)
    at_spike: str = eqx.field(static=True)
    at_arrival: str = eqx.field(static=True)
    at_start: str = eqx.field(static=True)
    synapse: Synapse
    parameters: dict[str, Scalar] = parameter(by_port=True)

    def __check_init__(self):
        for name in ("equations", "at_spike", "at_arrival", "at_start"):
            require_instance(getattr(self, name), str, name, "a text")
        require_instance(self.threshold, (str, type(None)), "threshold", "a text such as `v > 1`, or None")
        require_instance(self.parameters, dict, "parameters", "a dictionary of numbers by name")
        for name, number in self.parameters.items():
            require_finite(number, f"parameters[{name!r}]")
        super().__check_init__()  # explicitly here: Equinox would call it last
        _check_names(self)

    def read(self) -> Equations:
        """The equations, read."""
        return equations(self.equations)

    def ports(self) -> dict[str, AbstractSynapse]:
        """The synapses by the names of their drives in the text: `I` for a single one."""
        return {"I": self.synapse} if isinstance(self.synapse, AbstractSynapse) else self.synapse

    def initial_state(self):
        return self._after(assignments(self.at_start, "initial_state"), dict.fromkeys(self.read().slopes, 0.0))

    def dynamics(self, t, state, drive):
        drives = {"I": drive} if isinstance(self.synapse, AbstractSynapse) else drive
        scope = self._scope(state | drives | {"t": t})
        return {name: jnp.asarray(value(slope, scope)) for name, slope in self.read().slopes.items()}

    def spike_condition(self, t, state):
        if self.threshold is None:
            return -jnp.ones_like(t)
        return value(condition(self.threshold), self._scope(state | {"t": t}))

    def reset(self, t, state):
        return self._after(assignments(self.at_spike, "reset"), state, t=t)

    def receive(self, t, state, weight):
        if not self.at_arrival:
            return super().receive(t, state, weight)
        weights = {"I": weight} if isinstance(self.synapse, AbstractSynapse) else weight
        return self._after(assignments(self.at_arrival, "receive"), state, t=t, **weights)

    @property
    def is_linear(self):
        found = self.read()
        if self.threshold is not None and not self._is_reset():
            return False
        degrees = dict.fromkeys({*self.parameters, *CONSTANTS}, 0) | dict.fromkeys({*found.slopes, *self.ports()}, 1)
        scope = Scope(degrees | {"t": math.inf}, found.subexpressions, degree)
        conditions = [] if self.threshold is None else [condition(self.threshold)]
        return all(degree(node, scope) <= 1 for node in (*found.slopes.values(), *conditions))

    @property
    def can_spike(self):
        return self.threshold is not None

    def _is_reset(self) -> bool:
        """Whether a spike changes what the threshold depends on."""
        changed = {change.variable for change in assignments(self.at_spike, "reset")}
        return bool(changed & names_used([condition(self.threshold)], self.read().subexpressions))

    def _scope(self, given: Mapping[str, Any]) -> Scope:
        return Scope({**CONSTANTS, **self.parameters, **given}, self.read().subexpressions, value)

    def _after(self, changes: Iterable[Assignment], state: dict[str, Any], **given: Any) -> dict[str, Any]:
        """The state after assignments, each of which sees those before it."""
        for change in changes:
            state = state | {change.variable: value(change.expression, self._scope(state | given))}
        return {name: jnp.asarray(number) for name, number in state.items()}


def _check_names(neuron: EquationNeuron) -> None:
    """Raises `ValueError` unless every name in the text has one meaning, and every parameter is used."""
    found, ports = neuron.read(), neuron.ports()
    for port in ports.values():
        require_instance(port, AbstractSynapse, "synapse", "a synapse, or a dictionary of synapses without another one")
    impulsive = {name for name, port in ports.items() if port.is_impulsive}
    variables, parameters = set(found.slopes), set(neuron.parameters)
    reserved = {*CONSTANTS, *FUNCTIONS, "t"}
    for where, names in (("parameters", parameters), ("synapse", ports), ("equations", found.subexpressions)):
        for name in names:
            is_name = isinstance(name, str) and name.isidentifier() and name not in reserved
            require(is_name, where, "names that the text can have", name, f"Not those of {sorted(reserved)}.")
            require(name not in variables, where, "named differently from the variables", name)
    clash = sorted((parameters & set(ports)) | (set(found.subexpressions) & (parameters | set(ports))))
    require(not clash, "parameters", "named differently from subexpressions and from the drives", clash)
    state = variables | parameters | set(CONSTANTS)
    threshold = [] if neuron.threshold is None else [condition(neuron.threshold)]
    slopes = [*found.slopes.values(), *found.subexpressions.values()]
    used = _used("equations", slopes, found, state | set(ports) | {"t"}, f"Drives are {sorted(ports)}.")
    used |= _used("threshold", threshold, found, state | {"t"}, "It cannot depend on drives.")
    for where, text, more, hint in (
        ("reset", neuron.at_spike, {"t"}, "It cannot depend on drives."),
        ("receive", neuron.at_arrival, {"t"} | impulsive, "The name of a `sx.DeltaSynapse` is there the weight."),
        ("initial_state", neuron.at_start, set(), "It depends on parameters."),
    ):
        changes = assignments(text, where)
        for change in changes:
            require(change.variable in variables, where, f"of the variables {sorted(variables)}", change.variable)
        used |= _used(where, [change.expression for change in changes], found, state | more, hint)
    for name in found.declared:
        known = {*parameters, *ports}
        require(name in known, "parameters", f"with a value of `{name}`, which has no equation", sorted(parameters))
    unused = sorted(parameters - used)
    require(not unused, "parameters", "used in the text", unused)


def _used(where: str, nodes: list[ast.expr], found: Equations, known: set[str], hint: str) -> set[str]:
    """The names in some expressions. Raises `ValueError` for one that is not known there."""
    used = names_used(nodes, found.subexpressions)
    for name in sorted(used - known - set(found.subexpressions)):
        close = difflib.get_close_matches(name, known, 1)
        more = f"Did you mean `{close[0]}`?" if close else f"Give `{name}` in `parameters`."
        raise ValueError(f"`{where}` must be of the names {sorted(known)}; got {name!r}. {hint} {more}")
    return used


def neuron_from_equations(
    equations: str,
    *,
    threshold: str | None = None,
    reset: str = "",
    receive: str = "",
    initial_state: str = "",
    parameters: Mapping[str, Scalar] | None = None,
    synapse: Synapse = _EXPONENTIAL,
    refractory: Scalar | None = None,
) -> AbstractNeuron:
    r"""A neuron written as text, in the notation of the simulator Brian2.

    ```python
    neuron = sx.neuron_from_equations(
        '''
        dv/dt = (v_rest - v - w + I) / tau_mem : 1
        dw/dt = (a * (v - v_rest) - w) / tau_w : 1
        ''',
        threshold="v > 1",
        reset="v = v_rest; w += b",
        initial_state="v = v_rest",
        parameters={"v_rest": 0.0, "tau_mem": jnp.asarray(20.0), "tau_w": 100.0, "a": 0.1, "b": jnp.full(50, 0.2)},
    )
    ```

    The neuron is linear if all rates and the threshold are: it is then simulated in closed form, like a
    [`spikax.LIF`][]. The text is read, never executed. Unlike a neuron of functions, it can be saved.

    A name is that of a variable, a subexpression, a parameter, or a drive; `t` is the time, `pi` the number, `ms` one,
    and `second` 1000. Expressions have numbers, `+ - * / **`, and `exp`, `expm1`, `log`, `log1p`, `sqrt`, `sin`, `cos`,
    `tan`, `sinh`, `cosh`, `tanh` and `arctan`. All quantities are numbers, times in ms.

    **Arguments:**

    - `equations`: lines `dx/dt = rate : 1`, a variable; `name = expression : 1`, a subexpression; or `name : 1`, a
      parameter that is declared. The 1 is the unit. Of the flags of Brian2, a variable may have `(unless refractory)`:
      it is held during the refractory period.
    - `threshold`: a comparison such as `v > v_threshold`. The neuron spikes as it becomes true. None: it never spikes.
    - `reset`: assignments right after a spike, such as `v = v_reset; w += b`, one after the other. Without any, the
      spike is only recorded.
    - `receive`: assignments at an arrival through a `DeltaSynapse`, such as `v += I`. The name of its port is there
      the weight of the arrival.
    - `initial_state`: assignments at `t0`, such as `v = v_rest`. The other variables start at zero.
    - `parameters`: numbers, which are constant, and arrays, of shape `()` or with one entry per neuron, which are
      trained, by name.
    - `synapse`: the synapse model, whose drive has the name `I`; or a dictionary of named ports, whose drives have
      their names.
    - `refractory`: the refractory period, in ms, as for [`spikax.Refractory`][].

    **Returns:** the neuron, in a [`spikax.Refractory`][] if it has a refractory period.

    **Raises:** `TypeError` or `ValueError` for texts of another form; for functions without a derivative everywhere;
    for units; for unknown names, and parameters that are not used; the errors of [`spikax.check_neuron`][].

    ??? cite "Reference"
        M. Stimberg, R. Brette, D. F. M. Goodman, *Brian 2, an intuitive and efficient neural simulator*, eLife 8,
        2019.
    """
    given = {} if parameters is None else parameters
    require_instance(given, Mapping, "parameters", "a dictionary of numbers by name")
    neuron = EquationNeuron(equations, threshold, reset, receive, initial_state, synapse, dict(given))
    held = neuron.read().frozen
    hint = "Mark the variables to hold, such as the voltage, with `(unless refractory)`, and give `refractory`."
    require(
        bool(held) == (refractory is not None), "refractory", "given where variables have this flag", refractory, hint
    )
    if refractory is None:
        check_neuron(neuron)
        return neuron
    changed = sorted({change.variable for change in assignments(receive, "receive")} - set(held))
    hint = "Arrivals have no effect in the refractory period."
    require(not changed, "receive", f"of the variables {list(held)}, which are held", changed, hint)
    whole = Refractory(neuron, refractory, frozen=held)
    check_neuron(whole)
    return whole
