"""Expressions in the text of a neuron: what they may contain, their values, and their degrees.

Nothing of a text is executed: an expression is a tree of the kinds of nodes below, and these functions walk it.
"""

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax.numpy as jnp

from ..._checks import require, shown


# Those with a derivative of any order wherever they are defined.
FUNCTIONS = {
    name: getattr(jnp, name)
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan")
}
CONSTANTS = {"pi": math.pi, "ms": 1.0, "second": 1000.0}
_OPERATORS: dict[type[ast.operator], Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_WITH_KINKS = ("abs", "ceil", "clip", "floor", "int", "max", "maximum", "min", "minimum", "sign")
_DEPTH = 100  # of nested operations; Python's own limit of recursion is not far above


class Scope(dict):
    """What names stand for. That of a subexpression is found when it is first needed.

    - `given`: what the other names stand for.
    - `subexpressions`: the expressions by name, without a cycle.
    - `meaning`: a function `(expression, scope)`: what an expression stands for.
    """

    def __init__(self, given: Mapping[str, Any], subexpressions: Mapping[str, ast.expr], meaning: Callable):
        super().__init__(given)
        self.subexpressions, self.meaning = subexpressions, meaning

    def __missing__(self, name: str) -> Any:
        self[name] = self.meaning(self.subexpressions[name], self)
        return self[name]


def parsed(text: str, where: str) -> list[ast.stmt]:
    """The statements of a text. Raises `ValueError` if it is not in the syntax of Python."""
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"`{where}` must be in the syntax of Python; got {text!r}: {message}.") from error


def expression(text: str, where: str) -> ast.expr:
    """The expression in a text. Raises `ValueError` for anything else than a formula."""
    statements = parsed(text, where)
    is_one = len(statements) == 1 and isinstance(statements[0], ast.Expr)
    require(is_one, where, "one expression", text)
    assert isinstance(statements[0], ast.Expr)
    require_formula(statements[0].value, where)
    return statements[0].value


def require_formula(node: ast.AST, where: str, depth: int = 0) -> None:
    """Raises `ValueError` unless a node is made of numbers, names, operators and known functions alone."""
    require(depth < _DEPTH, where, f"nested at most {_DEPTH} deep", "a deeper expression", "Use subexpressions.")
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            parts = []
        case ast.Name():
            parts = []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            parts = [operand]
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow(), left=left, right=right):
            parts = [left, right]
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            parts = [argument]
        case _:
            _refuse(node, where)
    for part in parts:
        require_formula(part, where, depth + 1)
    if not any(names_in(node)):
        _require_number(node, where)


def _refuse(node: ast.AST, where: str) -> NoReturn:
    name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    hint = f"Functions have one argument, and are among {', '.join(FUNCTIONS)}."
    if name in _WITH_KINKS or isinstance(node, ast.Compare | ast.BoolOp | ast.IfExp):
        hint = "A kink or a jump has no derivative. Make it an event: `internal_events` of `sx.neuron_from`."
    expectation = "made of numbers, names, + - * / ** and functions"
    raise ValueError(f"`{where}` must be {expectation}; got {shown(ast.unparse(node))}. {hint}")


def _require_number(node: ast.AST, where: str) -> None:
    """Raises unless an expression without names is a finite real number."""
    try:
        number = value(node, {})
    except ArithmeticError:
        number = math.nan
    is_finite = not isinstance(number, complex) and math.isfinite(number)
    require(is_finite, where, "of finite real numbers", ast.unparse(node))


def names_in(node: ast.AST) -> Iterator[str]:
    """The names in an expression, without those of functions."""
    functions = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in functions)


def value(node: ast.AST, scope: Mapping[str, Any]) -> Any:
    """The value of an expression, for the values of its names."""
    match node:
        case ast.Constant(value=number):
            return float(number)
        case ast.Name(id=name):
            return scope[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value(operand, scope)
        case ast.UnaryOp(operand=operand):
            return value(operand, scope)
        case ast.BinOp(op=ast.Pow(), left=left, right=right) if (power := _integer(right)) is not None:
            return value(left, scope) ** power
        case ast.BinOp(op=op, left=left, right=right):
            return _OPERATORS[type(op)](value(left, scope), value(right, scope))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return FUNCTIONS[name](value(argument, scope))
    raise TypeError(f"`node` must be an expression that was checked; got {ast.dump(node)}.")


def degree(node: ast.AST, scope: Mapping[str, float]) -> float:
    """The degree of an expression as a polynomial, for the degrees of its names; infinite if it is no polynomial.

    Terms that cancel each other count.
    """
    match node:
        case ast.Constant():
            return 0
        case ast.Name(id=name):
            return scope[name]
        case ast.UnaryOp(operand=operand):
            return degree(operand, scope)
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
            return max(degree(left, scope), degree(right, scope))
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            return degree(left, scope) + degree(right, scope)
        case ast.BinOp(op=ast.Div(), left=left, right=right) if degree(right, scope) == 0:
            return degree(left, scope)
        case ast.BinOp(op=ast.Pow(), left=left, right=right) if (power := _integer(right)) is not None and power > 0:
            return power * degree(left, scope)
    return math.inf if any(scope[name] for name in names_in(node)) else 0


def _integer(node: ast.AST) -> int | None:
    """The integer that an exponent is; None if it is something else. Powers of negative numbers need an integer."""
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            return -number
    return None
