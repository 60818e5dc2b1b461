"""Checks of the annotated types and shapes of arguments and results, for jaxtyping's import hook."""

from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

from beartype import beartype, BeartypeConf


_WITH_INTEGERS_AS_FLOATS = BeartypeConf(is_pep484_tower=True)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose arguments and result are checked by beartype, which refuses generic named tuples."""
    returned = _returned(function)
    if any(hasattr(get_origin(hint), "_fields") for hint in (returned, *get_args(returned))):
        return function
    return beartype(function, conf=_WITH_INTEGERS_AS_FLOATS)


def _returned(function: Callable[..., Any]) -> Any:
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):  # A class, or a name that is defined further down.
        return None
