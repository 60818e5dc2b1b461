"""A decorator that saves the time to trace a function more than once."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax


def traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that JAX traces and lowers once, for all calls with trees of the same shapes and static parts.

    For a function that is called several times within a simulation: for its value, for a rule of differentiation, or to
    repeat a part of it. XLA still compiles every call, and may fuse each one with what is around it.

    JAX keeps a trace for the mesh under which it was made, and rules have an empty mesh in place of none.
    """
    compiled = eqx.filter_jit(function)

    @functools.wraps(function)
    def called(*arguments):
        with jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh()):
            return compiled(*arguments)

    return called
