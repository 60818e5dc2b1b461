"""Checks of neurons, with readable messages."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ._checks import AsText, known, require, require_instance
from ._neuron import AbstractNeuron, events_of, require_linear, stops_at_arrivals
from ._synapse import drive_of, for_each_port, initial_filters
from ._tracing import depends_on_last
from ._types import resolved, State


@dataclasses.dataclass(frozen=True, repr=False)
class NeuronReport:
    """The result of [`spikax.check_neuron`][]. It prints as a summary line and one line per remark.

    - `neuron`: the name of the class.
    - `state`: the names of the state variables.
    - `events`: the number of events; the first is the spike.
    - `is_linear`: whether the neuron declares itself linear.
    - `checked`: the checks that were made.
    - `remarks`: properties that are allowed but probably not intended, one sentence each.
    """

    neuron: str
    state: tuple[str, ...]
    events: int
    is_linear: bool
    checked: tuple[str, ...]
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        verdict = "is fine" if not self.remarks else "can be simulated, but see the remarks"
        events = f"{self.events} event" + "s" * (self.events != 1)
        linear = "linear" if self.is_linear else "not linear"
        line = f"{self.neuron} {verdict}: state {', '.join(self.state)}; {events}; {linear}."
        return "\n".join([f"{line} Checked: {', '.join(self.checked)}.", *(f"- {remark}" for remark in self.remarks)])


def check_neuron(neuron: AbstractNeuron) -> NeuronReport:
    """Checks a neuron: its structures, values, reset and linearity.

    ```python
    >>> sx.check_neuron(sx.QIF())
    QIF is fine: state phi; 1 event; not linear. Checked: structures, initial values, drive, spike condition, reset.
    ```

    A `Layer` checks structures and linearity automatically. Under `jax.jit` only the structures can be checked.

    **Arguments:**

    - `neuron`: the neuron. Of parameters with one value per neuron, the first value is used.

    **Returns:** a [`spikax.NeuronReport`][]. Its `remarks` name properties that are allowed but probably not intended:
    the neuron can never spike, it spikes immediately, or the drive has no effect on it.

    **Raises:** `TypeError` or `ValueError` if the derivative, the reset or another jump does not have the structure of
    the state; if a condition is not a single floating-point number; if a value is not finite at the initial state; if
    the condition is above zero after the reset, so that each spike would cause another; or if the neuron declares
    itself linear, but is not.
    """
    require_instance(neuron, AbstractNeuron, "neuron", "a neuron", "Write an instance, for example `sx.LIF()`.")
    neuron = resolved(neuron)
    state = _names(check_structures(neuron))
    arrays, rest = eqx.partition(neuron, eqx.is_array)
    checked, remarks = ["structures"], []
    if all(known(leaf) is not None for leaf in jax.tree.leaves(arrays)):
        with jax.ensure_compile_time_eval():
            more, remarks = _tried(eqx.combine(_first_of(arrays), rest))
        checked += more
        if neuron.is_linear:
            require_linear(neuron)
            checked.append("linearity")
    kind, events = type(neuron).__name__, len(events_of(neuron))
    return NeuronReport(kind, state, events, neuron.is_linear, tuple(checked), tuple(remarks))


def _names(state: PyTree) -> tuple[str, ...]:
    """The names of the variables of a state, with the shapes of arrays."""

    def name(path: tuple, leaf: jax.ShapeDtypeStruct) -> str:
        own = jax.tree_util.keystr(path, simple=True, separator=".")
        if leaf.shape:
            return f"{own or 'an array'} of shape {leaf.shape}"
        return own or "a number"

    return tuple(name(*each) for each in jax.tree.leaves_with_path(state))


def check_structures(neuron: AbstractNeuron) -> PyTree[jax.ShapeDtypeStruct]:
    """The structure of the state. Raises unless the methods of a neuron fit together. Computes no values."""
    kind = type(neuron).__name__
    t = jax.ShapeDtypeStruct((), jnp.result_type(float))
    arrays, rest = eqx.partition(neuron, eqx.is_array)
    arrays = jax.eval_shape(_first_of, arrays)

    def shapes(method: Callable, *arguments: Any) -> Any:
        """The shapes of the arrays that a method of the neuron returns."""

        def given(arrays, *arguments):
            return jax.tree.map(jnp.asarray, method(eqx.combine(arrays, rest), *arguments))

        try:
            traced, found = jax.make_jaxpr(given, return_shape=True)(arrays, *arguments)
        except Exception as error:
            error.add_note(f"A method of {kind} was called with {', '.join(map(_shown, arguments)) or 'no arguments'}.")
            raise
        captured = [str(jax.typeof(const)) for const in traced.consts if known(const) is None]
        expectation = f"a {kind} whose methods use only their arguments and its parameters"
        got = AsText(f"one that uses traced values of an enclosing function: {', '.join(captured)}")
        require(not captured, "neuron", expectation, got, "Make them parameters: only these have derivatives.")
        return found

    state = shapes(lambda neuron: neuron.initial_state())
    leaves = jax.tree.leaves(state)
    hint = f"`initial_state` of {kind} returns the state at `t0`, for example `LIFState(v=jnp.asarray(0.0))`."
    require(len(leaves) > 0, "initial_state()", "at least one number", state, hint, TypeError)
    weight = for_each_port(neuron.synapse, t)
    drive = shapes(lambda neuron, t: drive_of(neuron.synapse, initial_filters(neuron.synapse, t)), t)

    found = {
        "dynamics(t, state, drive)": shapes(lambda neuron, *args: neuron.dynamics(*args), t, state, drive),
        "reset(t, state)": shapes(lambda neuron, *args: neuron.reset(*args), t, state),
    }
    if stops_at_arrivals(neuron):
        found["receive(t, state, weight)"] = shapes(lambda neuron, *args: neuron.receive(*args), t, state, weight)
    conditions = {"spike_condition(t, state)": shapes(lambda neuron, *args: neuron.spike_condition(*args), t, state)}
    for i in range(len(events_of(neuron)) - 1):
        name = f"internal_events()[{i}]"
        found[f"{name}.jump(t, state)"] = shapes(lambda n, *args, i=i: events_of(n)[i + 1].jump(*args), t, state)
        condition = shapes(lambda n, *args, i=i: events_of(n)[i + 1].condition(*args), t, state)
        conditions[f"{name}.condition(t, state)"] = condition
    for name, value in found.items():
        hint = f"In {kind} it must have the structure and the shapes of `initial_state()`."
        require(_form(value) == _form(state), name, _shown(state), AsText(_shown(value)), hint)
    for name, value in conditions.items():
        hint = f"The event of {kind} happens when this number rises through zero."
        require(_form(value) == _form(t), name, "one number", AsText(_shown(value)), hint)
        hint = f"{hint} In place of `state.v > 1.0` write `state.v - 1.0`."
        is_float = jnp.issubdtype(jax.tree.leaves(value)[0].dtype, jnp.floating)
        require(is_float, name, "a floating-point number", value.dtype.name, hint, TypeError)
    for i, name in enumerate(conditions):
        # A step tells neither when the event happens nor how that depends on the parameters.
        jumps = _jumps(
            lambda arrays, *at, i=i: events_of(eqx.combine(arrays, rest))[i].condition(*at), arrays, t, state
        )
        hint = "In place of `jnp.sign(state.v - 1.0)` write `state.v - 1.0`."
        require(not jumps, name, "a number that rises through zero", AsText("steps, with the slope zero"), hint)
    return state


def _jumps(condition: Callable, arrays: PyTree, t: Any, state: PyTree) -> bool:
    """Whether a condition depends on the time or the state, but its derivative is zero wherever it exists."""

    def value(arrays, at):
        return jnp.asarray(condition(arrays, *at), t.dtype)

    def slope(arrays, at, tangent):
        at = jax.tree.map(lambda x: x.astype(t.dtype), at)
        return jax.jvp(lambda at: value(arrays, at), (at,), (tangent,))[1]

    at = t, state
    tangent = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, t.dtype), at)
    return not depends_on_last(slope, arrays, at, tangent) and depends_on_last(value, arrays, at)


def _form(tree: PyTree) -> Any:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def _shown(tree: PyTree) -> str:
    """The structure of a tree, with the shapes that are not ()."""
    return eqx.tree_pformat(jax.tree.map(lambda leaf: AsText(str(leaf.shape) if leaf.shape else "number"), tree))


def _first_of(arrays: PyTree) -> PyTree:
    """The parameters of the first neuron, in the default float type, like the time and the states."""

    def leaf(x):
        first = x[(0,) * min(x.ndim, 1)]
        return first.astype(jnp.result_type(float)) if jnp.issubdtype(x.dtype, jnp.inexact) else first

    return jax.tree.map(leaf, arrays)


def _tried(neuron: AbstractNeuron) -> tuple[list[str], list[str]]:
    """The checks and the remarks for a neuron whose parameters are known."""
    kind, t = type(neuron).__name__, jnp.asarray(0.0)
    state = jax.tree.map(lambda x: jnp.asarray(x, t.dtype), neuron.initial_state())
    drive = drive_of(neuron.synapse, initial_filters(neuron.synapse, t))
    for name, value in (
        ("initial_state()", state),
        ("dynamics(t, state, drive)", neuron.dynamics(t, state, drive)),
        ("spike_condition(t, state)", neuron.spike_condition(t, state)),
    ):
        finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(value))
        hint = f"{kind} computes it from its parameters: is one of them out of its range?"
        require(finite, name, "finite at the initial state", value, hint)

    def condition(state):
        return jnp.asarray(neuron.spike_condition(t, state), t.dtype)

    checked, remarks = ["initial values", "drive", "spike condition"], []
    at_start, slope = jax.value_and_grad(condition)(state)
    moves = jax.jvp(lambda drive: neuron.dynamics(t, state, drive), (drive,), (jax.tree.map(jnp.ones_like, drive),))[1]
    if not stops_at_arrivals(neuron) and not _some(moves):
        remarks.append(f"The drive does not reach {kind} at its initial state: `dynamics` does not depend on it there.")
    if at_start > 0:
        remarks.append(f"{kind} spikes at `t0`: its `spike_condition` is {float(at_start):.3g} at the initial state.")
    if not _some(slope):
        reason = "its `spike_condition` has no slope where it starts. It must rise through zero with the state."
        told = f"does not spike, or its spikes have no derivative: {reason}" if neuron.can_spike else "does not spike."
        remarks.append(f"{kind} {told}")
        return checked, remarks
    threshold = _on_threshold(condition, state)
    if threshold is not None:
        _check_reset(neuron, condition, threshold)
        checked.append("reset")
    return checked, remarks


def _some(tree: PyTree) -> bool:
    """Whether any number in a tree is nonzero."""
    return any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(tree))


def _check_reset(neuron: AbstractNeuron, condition: Callable, threshold: State) -> None:
    """Raises if the condition is above zero after a reset at the threshold that changes the state."""
    t = jnp.asarray(0.0)
    after = neuron.reset(t, threshold)
    same = all(bool(jnp.all(a == b)) for a, b in zip(*map(jax.tree.leaves, (after, threshold)), strict=True))
    left = float(condition(jax.tree.map(lambda x: jnp.asarray(x, t.dtype), after)))
    kind = type(neuron).__name__
    hint = f"Otherwise a spike of {kind} would cause another at once. For no reset, return the state unchanged."
    require(same or left <= 1e-4, "spike_condition(t, reset(t, state))", "at most zero after a spike", left, hint)


def _on_threshold(condition: Callable, state: State) -> State | None:
    """A state near the given one with the condition zero, by Newton's method; None if it does not converge."""
    flat, structured = ravel_pytree(state)
    for _ in range(30):
        value, slope = jax.value_and_grad(lambda x: condition(structured(x)))(flat)
        size = float(jnp.sum(slope * slope))
        if not np.isfinite(size) or size == 0.0:
            return None
        if abs(float(value)) <= 1e-5 * (1.0 + float(jnp.max(jnp.abs(flat)))):
            return structured(flat)
        flat = flat - value * slope / size
    return None
