"""What is wrong with a neuron, in plain words."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ._checks import known, require, require_instance
from ._neuron import AbstractNeuron, events_of, stops_at_arrivals
from ._synapse import drive_of, initial_filters, is_synapse
from ._types import resolved, State


def check_neuron(neuron: AbstractNeuron) -> tuple[str, ...]:
    """Tries a neuron out, and tells in plain words what does not fit together.

    Raises `TypeError` or `ValueError` if a method does not give what it has to: the derivative, the reset, and every
    other jump in the structure of the state, and one number from every condition; or if a value is not finite at the
    initial state; or if the reset leaves the condition above zero, so that a spike would set off another.

    Returns remarks about what is allowed, but seldom meant, each a sentence: that the neuron can never spike, that it
    spikes at once, or that its drive does not reach it. A `Layer` checks the structures by itself.

    **Arguments:**

    - `neuron`: the neuron. Of parameters with one value per neuron, the first is taken.
    """
    require_instance(neuron, AbstractNeuron, "neuron", "a neuron", "Write an instance, for example `sx.LIF()`.")
    neuron = resolved(neuron)
    check_structures(neuron)
    arrays, rest = eqx.partition(neuron, eqx.is_array)
    if any(known(leaf) is None for leaf in jax.tree.leaves(arrays)):
        return ()
    with jax.ensure_compile_time_eval():
        return _remarks(eqx.combine(_first_of(arrays), rest))


def check_structures(neuron: AbstractNeuron) -> None:
    """Raises unless all methods of a neuron fit together; without computing anything."""
    kind = type(neuron).__name__
    t = jax.ShapeDtypeStruct((), jnp.result_type(float))
    arrays, rest = eqx.partition(neuron, eqx.is_array)
    arrays = jax.eval_shape(_first_of, arrays)

    def shapes(method: Callable, *arguments: Any) -> Any:
        """What a method of the neuron gives, as arrays of which only the shape is known."""

        def given(arrays, *arguments):
            return jax.tree.map(jnp.asarray, method(eqx.combine(arrays, rest), *arguments))

        try:
            return jax.eval_shape(given, arrays, *arguments)
        except Exception as error:
            error.add_note(f"A method of {kind} was tried with {', '.join(map(_shown, arguments)) or 'nothing'}.")
            raise

    state = shapes(lambda neuron: neuron.initial_state())
    leaves = jax.tree.leaves(state)
    hint = f"`initial_state` of {kind} gives the state at `t0`, for example `LIFState(v=jnp.asarray(0.0))`."
    require(len(leaves) > 0, "initial_state()", "at least one number", state, hint, TypeError)
    weight = jax.tree.map(lambda _: t, neuron.synapse, is_leaf=is_synapse)
    drive = shapes(lambda neuron, w: drive_of(neuron.synapse, initial_filters(neuron.synapse, w)), weight)

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
        hint = f"In {kind} it has to have the structure and the shapes of `initial_state()`."
        require(_form(value) == _form(state), name, _shown(state), _Shown(_shown(value)), hint)
    for name, value in conditions.items():
        hint = f"The event of {kind} happens as this number rises through zero."
        require(_form(value) == _form(t), name, "one number", _Shown(_shown(value)), hint)


def _form(tree: PyTree) -> Any:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def _shown(tree: PyTree) -> str:
    """The structure of a tree, with the shapes that are not ()."""
    return eqx.tree_pformat(jax.tree.map(lambda leaf: _Shown(str(leaf.shape) if leaf.shape else "number"), tree))


class _Shown:
    """A value whose representation is this text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self):
        return self.text


def _first_of(arrays: PyTree) -> PyTree:
    """The parameters of the first neuron, in the default float type, as the time and the states are."""

    def leaf(x):
        first = x[(0,) * min(x.ndim, 1)]
        return first.astype(jnp.result_type(float)) if jnp.issubdtype(x.dtype, jnp.inexact) else first

    return jax.tree.map(leaf, arrays)


def _remarks(neuron: AbstractNeuron) -> tuple[str, ...]:
    kind, t = type(neuron).__name__, jnp.asarray(0.0)
    state = jax.tree.map(lambda x: jnp.asarray(x, t.dtype), neuron.initial_state())
    weight = jax.tree.map(lambda _: jnp.zeros(()), neuron.synapse, is_leaf=is_synapse)
    drive = drive_of(neuron.synapse, initial_filters(neuron.synapse, weight))
    for name, value in (
        ("initial_state()", state),
        ("dynamics(t, state, drive)", neuron.dynamics(t, state, drive)),
        ("spike_condition(t, state)", neuron.spike_condition(t, state)),
    ):
        finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(value))
        require(finite, name, "finite at the initial state", value, f"See `{kind}`.")

    def condition(state):
        return jnp.asarray(neuron.spike_condition(t, state), t.dtype)

    remarks = []
    at_start, slope = jax.value_and_grad(condition)(state)
    moves = jax.jvp(lambda drive: neuron.dynamics(t, state, drive), (drive,), (jax.tree.map(jnp.ones_like, drive),))[1]
    if not stops_at_arrivals(neuron) and not any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(moves)):
        remarks.append(f"The drive does not reach {kind} at its initial state: `dynamics` does not depend on it there.")
    if at_start > 0:
        remarks.append(f"{kind} spikes at `t0`: its `spike_condition` is {float(at_start):.3g} at the initial state.")
    if not any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(slope)):
        remarks.append(f"{kind} does not spike: its `spike_condition` does not depend on the state where it starts.")
        return tuple(remarks)
    threshold = _on_threshold(condition, state)
    if threshold is None:
        return tuple(remarks)
    after = neuron.reset(t, threshold)
    same = all(bool(jnp.all(a == b)) for a, b in zip(*map(jax.tree.leaves, (after, threshold)), strict=True))
    left = float(condition(jax.tree.map(lambda x: jnp.asarray(x, t.dtype), after)))
    hint = f"Else a spike of {kind} would set off another at once. Where nothing resets, give the state back as it is."
    require(same or left <= 1e-4, "spike_condition(t, reset(t, state))", "at most zero after a spike", left, hint)
    return tuple(remarks)


def _on_threshold(condition: Callable, state: State) -> State | None:
    """A state near the given one in which the condition is zero, by Newton's method; None where it finds none."""
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
