"""Constraints of parameters, declared with their fields. They are checked on construction and in every simulation."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np


class Constraint(NamedTuple):
    """A constraint of a parameter.

    - `expectation`: the constraint in words, to follow "must be", such as "positive".
    - `holds`: a function `(value, other) -> bool`, elementwise, for NumPy and JAX arrays.
    - `hint`: a remedy, added to the error message.
    - `other`: the name of a parameter of the same module to compare with, if any.
    """

    expectation: str
    holds: Callable[[Any, Any], Any]
    hint: str = ""
    other: str | None = None


finite = Constraint("finite", lambda x, _: abs(x) < np.inf)
"""A constraint: neither infinite nor NaN. That of all parameters without another one."""

positive = Constraint("positive", lambda x, _: x > 0, "`sx.Positive` keeps a trainable parameter positive.")
"""A constraint: above zero."""

not_negative = Constraint("at least 0", lambda x, _: x >= 0, "`sx.Positive` keeps a trainable parameter positive.")
"""A constraint: zero or above."""


def within(low: float, high: float, hint: str = "") -> Constraint:
    """A constraint: from `low` to `high`, both included."""
    return Constraint(f"from {low:g} to {high:g}", lambda x, _: (x >= low) & (x <= high), hint)


def below(other: str, hint: str = "") -> Constraint:
    """A constraint: below the parameter `other` of the same module."""
    return Constraint(f"below `{other}`", lambda x, other: x < other, hint, other)


def parameter(default: Any = dataclasses.MISSING, *constraints: Constraint, by_port: bool = False) -> Any:
    """A field for a parameter: a finite number or floating-point array, with optional further constraints.

    ```python
    class Adapting(sx.AbstractNeuron):
        tau_mem: sx.Scalar = sx.parameter(20.0, sx.constraints.positive)
        v_threshold: sx.Scalar = sx.parameter(1.0)
        v_reset: sx.Scalar = sx.parameter(0.0, sx.constraints.below("v_threshold"))
    ```

    Constraints of known values are checked on construction. All constraints are checked again in every simulation,
    where a violation ends in `RESULTS.invalid_parameters`.

    **Arguments:**

    - `default`: the default value. Without it, the field is required.
    - `constraints`: from `sx.constraints`: `positive`, `not_negative`, `within(low, high)`, `below(name)`, or a custom
      `Constraint`.
    - `by_port`: whether the value may be a dictionary of numbers, such as one per port.

    **Returns:** a field of an Equinox module.
    """
    given = {} if default is dataclasses.MISSING else {"default": default}
    return eqx.field(**given, metadata={"constraints": (finite, *constraints), "by_port": by_port})
