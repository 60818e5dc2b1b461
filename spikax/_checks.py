"""Checks of arguments, with messages of one form."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._types import resolved


def require(
    holds: bool | np.bool_,
    name: str,
    expectation: str,
    value: Any,
    hint: str = "",
    error: type[Exception] = ValueError,
) -> None:
    """Raises `error` with the expectation, the value and the hint, unless `holds`."""
    if not holds:
        message = f"`{name}` must be {expectation}; got {shown(value)}."
        raise error(f"{message} {hint}".rstrip())


class AsText:
    """A value that is shown as this text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def require_instance(value: Any, kind: type | tuple[type, ...], name: str, expectation: str, hint: str = "") -> None:
    """Raises `TypeError` unless `value` is an instance of `kind`."""
    require(isinstance(value, kind), name, expectation, value, hint, TypeError)


def known(value: Any) -> np.ndarray | None:
    """The numbers in `value`, or None if it is traced."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
        return None
    return np.asarray(value)


def checked(
    value: Any, holds: Callable[..., Any], name: str, expectation: str, hint: str = "", others: tuple[Any, ...] = ()
) -> Any:
    """Returns `value` if `holds(value, *others)` is true everywhere. Otherwise raises, now or at run time.

    A traced value is checked at run time, provided that the returned value is used in place of `value`.
    """
    numbers = [known(part) for part in (value, *others)]
    if all(part is not None for part in numbers):
        require(bool(np.all(holds(*numbers))), name, expectation, value, hint)
        return value
    message = f"`{name}` must be {expectation}; got another value in a compiled function. {hint}".rstrip()
    fine = holds(*(jnp.asarray(part) for part in (value, *others)))
    return eqx.error_if(jnp.asarray(value), ~jnp.all(fine), message)


def as_array(value: Any, name: str) -> Any:
    """`value` as an array of NumPy or JAX. Raises `TypeError` if it is not numeric."""
    if isinstance(value, jax.Array):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    require(bool(np.issubdtype(array.dtype, np.number)), name, "an array of numbers", value, error=TypeError)
    return array


def as_indices(value: Any, name: str) -> jax.Array:
    """Integers as an array of JAX, at least int32: a size may overflow a narrower type."""
    array = as_array(value, name)
    require(bool(jnp.issubdtype(array.dtype, jnp.integer)), name, "an array of integers", value, error=TypeError)
    numbers, limit = known(array), np.iinfo(np.int32)
    # Without x64 a larger integer would wrap around into the range.
    fits = numbers is None or bool(np.all((numbers >= limit.min) & (numbers <= limit.max)))
    require(fits, name, "an array of integers of 32 bits", value)
    return jnp.asarray(array, jnp.int32 if array.dtype.itemsize < 4 else None)


def checked_indices(value: Any, name: str, n: int, hint: str = "") -> jax.Array:
    """As `as_indices`, with a check, now or at run time, that each index is from 0 to `n` - 1."""
    # Known values are checked before the conversion to JAX, which always gives a tracer in a compiled function.
    array = as_indices(value, name) if known(value) is None else as_array(value, name)
    return as_indices(checked(array, lambda x: (x >= 0) & (x < n), name, f"from 0 to n - 1 = {n - 1}", hint), name)


def is_number(value: Any) -> bool:
    """Whether `value` is a real number or a floating-point array."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return True
    return isinstance(value, jax.Array | np.ndarray | np.generic) and np.issubdtype(value.dtype, np.floating)


def require_finite(value: Any, name: str, hint: str = "") -> None:
    """Raises unless `value` is a finite real number or floating-point array."""
    numbers = resolved(value)
    require(
        is_number(numbers),
        name,
        "a real number or a floating-point array, in float32 or float64",
        value,
        hint,
        TypeError,
    )
    numbers = known(numbers)
    require(numbers is None or bool(np.all(np.isfinite(numbers))), name, "finite", value, hint)


def require_positive(value: Any, name: str, hint: str = "") -> None:
    """Raises unless `value` is finite and above zero."""
    require_finite(value, name, hint)
    numbers = known(resolved(value))
    require(numbers is None or bool(np.all(numbers > 0)), name, "positive", value, hint)


def require_below(lower: Any, upper: Any, name: str, upper_name: str, hint: str = "") -> None:
    """Raises unless `lower`, the argument `name`, is below `upper`, the argument `upper_name`, as far as known."""
    numbers = known(resolved(lower)), known(resolved(upper))
    below = any(number is None for number in numbers) or bool(np.all(np.less(*numbers)))
    require(below, name, f"below `{upper_name}` = {shown(upper)}", lower, hint)


def checked_finite(value: Any, name: str, hint: str = "") -> Any:
    """As `require_finite`, also for traced values. Returns the value to use in place of `value`."""
    require_finite(value, name, hint)
    return checked(resolved(value), lambda x: (x > -np.inf) & (x < np.inf), name, "finite", hint)


def checked_positive(value: Any, name: str, hint: str = "") -> Any:
    """As `require_positive`, also for traced values. Returns the value to use in place of `value`."""
    return checked(checked_finite(value, name, hint), lambda x: x > 0, name, "positive", hint)


def checked_below(lower: Any, upper: Any, name: str, upper_name: str, hint: str = "") -> Any:
    """As `require_below`, also for traced values. Returns the value to use in place of `lower`."""
    require_below(lower, upper, name, upper_name, hint)
    return checked(resolved(lower), lambda x, y: x < y, name, f"below `{upper_name}`", hint, (resolved(upper),))


def require_count(value: Any, name: str, hint: str = "") -> None:
    """Raises unless `value` is an integer of at least one."""
    _require_integer(value, name, hint)
    require(value >= 1, name, "at least 1", value, hint)


def require_natural(value: Any, name: str, hint: str = "") -> None:
    """Raises unless `value` is an integer of at least zero."""
    _require_integer(value, name, hint)
    require(value >= 0, name, "at least 0", value, hint)


def require_key(value: Any, name: str) -> None:
    """Raises `TypeError` unless `value` is a random key of JAX, typed or raw."""
    is_key = isinstance(value, jax.Array) and (
        value.shape == () if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value.shape == (2,)
    )
    require(is_key, name, "a random key", value, "For example `jax.random.key(0)`.", TypeError)


def _require_integer(value: Any, name: str, hint: str) -> None:
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    require(is_integer, name, "an integer", value, hint, TypeError)


def require_range(value: Any, name: str) -> None:
    """Raises unless `value` is a pair of positive numbers in ascending order."""
    is_pair = isinstance(value, tuple) and len(value) == 2 and all(np.ndim(number) == 0 for number in value)
    require(is_pair, name, "a pair of real numbers", value, "For example `(30.0, 50.0)`.", TypeError)
    for number in value:
        require_positive(number, name)
    require(value[0] <= value[1], name, "in ascending order", value)


def require_spike_times(times: Any) -> None:
    """Raises `TypeError` unless `times` is an array of first spike times."""
    hint = "For example `sx.first_spike(spikes)`."
    require_float_array(times, "times", "(*batch, n)", hint)


def require_float_array(value: Any, name: str, shape: str, hint: str = "") -> None:
    """Raises `TypeError` unless `value` is a floating-point array with at least the axes that `shape` names."""
    is_right = is_number(value) and jnp.ndim(value) >= shape.count(",")
    require(is_right, name, f"a floating-point array of shape {shape}", value, hint, TypeError)


def shown(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, Tracer):
        return f"a traced array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, jax.Array | np.ndarray) and value.size > 6:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
