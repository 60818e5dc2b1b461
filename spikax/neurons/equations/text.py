"""The text of a neuron, read: its equations, its threshold, and what changes its state."""

import ast
import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..._checks import require
from .expressions import expression, names_in, parsed, require_formula


# A rate of change, a subexpression, or a declared name; its unit; its flags.
_EQUATION = re.compile(
    r"(?:d(?P<variable>\w+)/dt\s*=(?P<slope>[^=]+)|(?P<short>\w+)\s*=(?P<meaning>[^=]+)|(?P<declared>\w+)\s*)"
    r":\s*(?P<unit>[^()]*?)\s*(?:\((?P<flags>[^()]*)\))?"
)
_UNIT_HINT = "spikax has no units: times are numbers in ms, other quantities numbers in a unit of your choice."


class Equations(NamedTuple):
    """The equations of a neuron."""

    slopes: dict[str, ast.expr]  # by variable
    subexpressions: dict[str, ast.expr]
    declared: tuple[str, ...]  # names without an equation
    frozen: tuple[str, ...]  # the variables that are held in a refractory period


class Assignment(NamedTuple):
    """A change of a variable. `v += x` is that of v to v + x."""

    variable: str
    expression: ast.expr


@functools.lru_cache(maxsize=256)
def equations(text: str) -> Equations:
    """The equations in a text. Raises `ValueError` for what is none."""
    found = Equations({}, {}, (), ())
    for line in _lines(text):
        match = _EQUATION.fullmatch(line)
        hint = "Write `dx/dt = rate : 1`, `name = expression : 1` or, for a parameter, `name : 1`."
        require(match is not None, "equations", "of lines with an equation and its unit", line, hint)
        assert match is not None
        require(match["unit"] == "1", "equations", "of numbers, with the unit 1", f": {match['unit']}", _UNIT_HINT)
        found = _with(found, match)
    require(len(found.slopes) > 0, "equations", "at least one `dx/dt = rate : 1`", text)
    for name in found.subexpressions:
        used = names_used([found.subexpressions[name]], found.subexpressions)
        require(name not in used, "equations", "without a cycle of subexpressions", name)
    return found


def _with(found: Equations, match: re.Match) -> Equations:
    """The equations with one more."""
    name = match["variable"] or match["short"] or match["declared"]
    is_free = name.isidentifier() and name not in {*found.slopes, *found.subexpressions, *found.declared}
    require(is_free, "equations", "of one equation for each name", name)
    flags = (match["flags"] or "").strip()
    allowed = ("", "unless refractory") if match["variable"] else ("",)
    hint = "Of the flags, `(unless refractory)` of a `dx/dt` has a meaning here."
    require(flags in allowed, "equations", f"of `{name}` with one of the flags {list(allowed)}", f"({flags})", hint)
    if match["declared"]:
        return found._replace(declared=(*found.declared, name))
    if match["short"]:
        meaning = expression(match["meaning"].strip(), f"equations: {name}")
        return found._replace(subexpressions=found.subexpressions | {name: meaning})
    slope = expression(match["slope"].strip(), f"equations: d{name}/dt")
    frozen = (*found.frozen, name) if flags else found.frozen
    return found._replace(slopes=found.slopes | {name: slope}, frozen=frozen)


def _lines(text: str) -> list[str]:
    """The equations of a text, each of which ends with the line that has its unit. Without comments."""
    lines, begun = [], ""
    for line in text.splitlines():
        begun = f"{begun} {line.split('#')[0].strip()}".strip()
        if ":" in begun:
            lines.append(begun)
            begun = ""
    return [*lines, begun] if begun else lines


@functools.lru_cache(maxsize=256)
def condition(text: str) -> ast.expr:
    """The expression that rises through zero as a threshold, such as `v > v_threshold`, is crossed."""
    statements = parsed(text.strip(), "threshold")
    hint = "The neuron spikes when it becomes true: write `v > v_threshold`."
    match statements:
        case [ast.Expr(value=ast.Compare(left=left, ops=[ast.Gt() | ast.GtE()], comparators=[right]))]:
            difference = ast.BinOp(left, ast.Sub(), right)
        case [ast.Expr(value=ast.Compare(left=left, ops=[ast.Lt() | ast.LtE()], comparators=[right]))]:
            difference = ast.BinOp(right, ast.Sub(), left)
        case _:
            difference = None
    require(difference is not None, "threshold", "a comparison of two expressions by > or <", text, hint)
    assert difference is not None
    require_formula(difference, "threshold")
    return difference


@functools.lru_cache(maxsize=256)
def assignments(text: str, where: str) -> tuple[Assignment, ...]:
    """The assignments in a text, such as `v = v_reset; w += b`, one after the other."""
    lines = "\n".join(line.strip() for line in text.splitlines())
    return tuple(_assignment(statement, where) for statement in parsed(lines, where))


def _assignment(statement: ast.stmt, where: str) -> Assignment:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            change = Assignment(name, value)
        case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
            change = Assignment(name, ast.BinOp(ast.Name(name, ast.Load()), op, value))
        case _:
            change = None
    require(change is not None, where, "assignments such as `v = v_reset; w += b`", ast.unparse(statement))
    assert change is not None
    require_formula(change.expression, where)
    return change


def names_used(expressions: Iterable[ast.AST], subexpressions: Mapping[str, ast.expr]) -> set[str]:
    """The names in some expressions, and in the subexpressions that these use."""
    used: set[str] = set()
    waiting = list(expressions)
    while waiting:
        new = set(names_in(waiting.pop())) - used
        used |= new
        waiting += [subexpressions[name] for name in new if name in subexpressions]
    return used
