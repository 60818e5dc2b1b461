"""Checks of declared constraints: on construction, and in every simulation."""

import dataclasses
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ._checks import is_number, known, require, require_finite, shown
from ._types import resolved
from .constraints import Constraint


_a_number = Constraint("free of NaN", lambda x, _: x == x)


class Checked(eqx.Module):
    """Base class of modules whose declared parameters are checked on construction."""

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
    """Raises `ValueError` if a known value violates a constraint."""
    for constraint in constraints:
        other = _other(owner, constraint)
        numbers = known(resolved(value)), known(resolved(other))
        are_known = all(part is not None for part in numbers)
        expectation = constraint.expectation + ("" if other is None else f" = {shown(other)}")
        require(not are_known or bool(np.all(constraint.holds(*numbers))), name, expectation, value, constraint.hint)


class Violation(NamedTuple):
    """A parameter with its constraints, and whether they are violated at run time."""

    name: str
    expectation: str
    hint: str
    happened: Bool[Array, ""]


def violations(node: Any, name: str, **further: Sequence[Constraint]) -> Iterator[Violation]:
    """For every parameter of a resolved tree, whether a value violates its constraints.

    `further` adds constraints of fields or properties of `node` itself. Undeclared values must not be NaN. Known values
    that satisfy their constraints are omitted.
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
    """For every array of a parameter, whether one of its entries violates one of the constraints."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not is_number(leaf):
            continue
        holds = functools.reduce(operator.and_, (c.holds(leaf, _other(owner, c)) for c in constraints))
        now = known(holds)
        if now is None or not np.all(now):
            # Without duplicates, the most specific constraint first.
            expectation = " and ".join(dict.fromkeys(constraint.expectation for constraint in reversed(constraints)))
            hint = " ".join(dict.fromkeys(constraint.hint for constraint in constraints if constraint.hint))
            yield Violation(name + jax.tree_util.keystr(path), expectation, hint, ~jnp.all(holds))


def _other(owner: Any, constraint: Constraint) -> Any:
    return None if constraint.other is None else getattr(owner, constraint.other)
