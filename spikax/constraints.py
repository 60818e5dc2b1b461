"""What parameters must be: declared once, with the field; checked where a module is made, and in every simulation."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ._checks import is_number, known, require, require_finite, shown
from ._types import resolved


class Constraint(NamedTuple):
    """What a parameter must be.

    - `expectation`: it in words, as in "must be positive".
    - `holds`: `(value, other) -> bool`, entry by entry, for arrays of NumPy and of JAX.
    - `hint`: how to keep it.
    - `other`: the name of the parameter of the same module that it is compared with, if any.
    """

    expectation: str
    holds: Callable[[Any, Any], Any]
    hint: str = ""
    other: str | None = None


finite = Constraint("finite", lambda x, _: abs(x) < np.inf)
positive = Constraint("positive", lambda x, _: x > 0, "`sx.Positive` keeps one that learns positive.")
not_negative = Constraint("at least 0", lambda x, _: x >= 0, "`sx.Positive` keeps one that learns positive.")
_a_number = Constraint("free of NaN", lambda x, _: x == x)


def within(low: float, high: float, hint: str = "") -> Constraint:
    """From `low` to `high`, both included."""
    return Constraint(f"from {low:g} to {high:g}", lambda x, _: (x >= low) & (x <= high), hint)


def below(other: str, hint: str = "") -> Constraint:
    """Below the parameter of this name of the same module."""
    return Constraint(f"below `{other}`", lambda x, other: x < other, hint, other)


def parameter(default: Any = dataclasses.MISSING, *constraints: Constraint, by_port: bool = False) -> Any:
    """A field for a parameter: a finite number, or a floating-point array of them, under further constraints.

    ```python
    class Adapting(sx.AbstractNeuron):
        tau_mem: sx.Scalar = sx.parameter(20.0, sx.constraints.positive)
        v_threshold: sx.Scalar = sx.parameter(1.0)
        v_reset: sx.Scalar = sx.parameter(0.0, sx.constraints.below("v_threshold"))
    ```

    They are checked where the neuron is made, as far as the numbers are known then, and in every simulation: there
    a value outside of its domain ends in `RESULTS.invalid_parameters`.

    **Arguments:**

    - `default`: the default; `dataclasses.MISSING` where there is none.
    - `constraints`: of `sx.constraints`: `positive`, `not_negative`, `within(low, high)`, `below(name)`; or a
      `Constraint` of your own.
    - `by_port`: whether it may be a dictionary with a number for every port.
    """
    given = {} if default is dataclasses.MISSING else {"default": default}
    return eqx.field(**given, metadata={"constraints": (finite, *constraints), "by_port": by_port})


class Checked(eqx.Module):
    """A module whose declared parameters are checked when it is made."""

    def __check_init__(self):
        fields = [field for field in dataclasses.fields(self) if "constraints" in field.metadata]
        numbers = {field.name: _numbers(getattr(self, field.name), field) for field in fields}
        for name, values in numbers.items():
            for value in values:
                require_finite(value, name)
        for field in fields:
            _, *others = field.metadata["constraints"]
            for value in numbers[field.name]:
                require_constraints(value, field.name, others, self)


def _numbers(value: Any, field: dataclasses.Field) -> list[Any]:
    return list(value.values()) if field.metadata["by_port"] and isinstance(value, dict) else [value]


def require_constraints(value: Any, name: str, constraints: Sequence[Constraint], owner: Any = None) -> None:
    """Raises `ValueError` for a number outside of its domain, as far as it is known."""
    for constraint in constraints:
        other = _other(owner, constraint)
        numbers = known(resolved(value)), known(resolved(other))
        are_known = all(part is not None for part in numbers)
        expectation = constraint.expectation + ("" if other is None else f" = {shown(other)}")
        require(not are_known or bool(np.all(constraint.holds(*numbers))), name, expectation, value, constraint.hint)


class Violation(NamedTuple):
    """A parameter that must be something, and whether it is something else."""

    name: str
    expectation: str
    hint: str
    happened: Bool[Array, ""]


def violations(node: Any, name: str, **further: Sequence[Constraint]) -> Iterator[Violation]:
    """Of every parameter in a tree, as a simulation sees it: whether a number lies outside of its domain.

    `further` are more constraints, of fields or properties of `node` itself. What nothing is declared of must be free
    of NaN. Constants that are as they must be are left out.
    """
    fields = dataclasses.fields(node) if isinstance(node, eqx.Module) else ()
    declared = {field.name: field.metadata.get("constraints") for field in fields}
    children = jax.tree.leaves_with_path(node, is_leaf=lambda child: child is not node)
    children += [((jax.tree_util.GetAttrKey(name),), getattr(node, name)) for name in further if name not in declared]
    declared |= {name: (*(declared.get(name) or ()), *constraints) for name, constraints in further.items()}
    for path, child in children:
        constraints = declared.get(getattr(path[0], "name", None)) if path else (_a_number,)
        where = name + jax.tree_util.keystr(path)
        yield from violations(child, where) if constraints is None else _outside(child, where, constraints, node)


def _outside(tree: Any, name: str, constraints: Sequence[Constraint], owner: Any = None) -> Iterator[Violation]:
    """Of every array in a parameter: whether a number of it breaks one of these constraints."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not is_number(leaf):
            continue
        holds = functools.reduce(operator.and_, (c.holds(leaf, _other(owner, c)) for c in constraints))
        now = known(holds)
        if now is None or not np.all(now):
            # Each once, that which says most first.
            expectation = " and ".join(dict.fromkeys(constraint.expectation for constraint in reversed(constraints)))
            hint = " ".join(dict.fromkeys(constraint.hint for constraint in constraints if constraint.hint))
            yield Violation(name + jax.tree_util.keystr(path), expectation, hint, ~jnp.all(holds))


def _other(owner: Any, constraint: Constraint) -> Any:
    return None if constraint.other is None else getattr(owner, constraint.other)
