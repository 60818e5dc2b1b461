"""Custom rules of differentiation.

A simulation searches for spikes, and the derivative of the iterates of a search is not that of its result. Two kinds of
rules replace it:

- `found`, for forward mode: the tangent of a result is that of a differentiable map in which the result is known.
- `with_reverse_rule`, for reverse mode: a backward pass of our own, since JAX cannot transpose loops.

A function of JAX may have a rule of one kind only, so there are no reverse rules in `forward_mode`. A second derivative
is the forward derivative of a first one. So the two functions of a reverse rule are differentiable themselves: what is
constant for the first derivative is `held`, and not under `lax.stop_gradient`, which would hold for all of them.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .broadcasting import broadcasting
from .traced_once import traced_once


MESSAGE = (
    "A simulation is differentiated in reverse mode by default, by `jax.grad`, `jax.vjp` or `jax.jacrev`. For forward "
    "mode (`jax.jvp`, `jax.jacfwd`, `jax.linearize`) pass `adjoint=sx.ForwardMode()` to `sx.simulate`. For second "
    "derivatives differentiate a gradient of `sx.DiscreteAdjoint()` in forward mode: `jax.hessian`, or `jax.jvp` of "
    "`jax.grad`."
)

_is_forward = contextvars.ContextVar("is_forward", default=False)


@contextlib.contextmanager
def _mode(is_forward: bool) -> Iterator[None]:
    token = _is_forward.set(is_forward)
    try:
        yield
    finally:
        _is_forward.reset(token)


def forward_mode() -> contextlib.AbstractContextManager[None]:
    """Without reverse rules. It holds while functions are traced; also a decorator."""
    return _mode(True)


def reverse_mode() -> contextlib.AbstractContextManager[None]:
    """With reverse rules, as by default."""
    return _mode(False)


@jax.custom_jvp
def held(tree: PyTree, like: PyTree) -> PyTree:
    """A constant for the derivative that is being taken, but not for a derivative of this derivative.

    The former is the one for which `like` varies.
    """
    return tree


@held.defjvp
def _held_jvp(primals: tuple, tangents: tuple) -> tuple:
    tree, _ = primals
    return tree, jax.tree.map(_zero_tangent, tree)


def _zero_tangent(x: Any) -> Any:
    is_smooth = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.zeros_like(x) if is_smooth else np.zeros(jnp.shape(x), jax.dtypes.float0)


def found(search: Callable, known: Callable) -> Callable[..., PyTree]:
    """The function `search(arguments)`, whose tangent is that of `known(arguments, result)` with a constant result.

    Both return the same structure of arrays. All arrays must be in the arguments.
    """

    def ruled(arguments):
        floats, rest = eqx.partition(arguments, eqx.is_inexact_array)
        others, static = eqx.partition(rest, eqx.is_array)

        def whole(floats, others):
            return eqx.combine(floats, others, static)

        @jax.custom_jvp
        @broadcasting
        @forward_mode()
        def value(floats, others):
            return search(whole(floats, others))

        @broadcasting
        @forward_mode()
        def rule(primals, tangents):
            (floats, others), (floats_dot, _) = primals, tangents
            result = value(floats, others)

            def differentiable(floats):
                return eqx.filter(known(whole(floats, others), result), eqx.is_inexact_array)

            _, dot = jax.jvp(differentiable, (floats,), (floats_dot,))
            rest = jax.tree.map(_zero_tangent, eqx.filter(result, eqx.is_inexact_array, inverse=True))
            return result, eqx.combine(dot, rest)

        value.defjvp(rule)
        return value(floats, others)

    return ruled


def with_reverse_rule(forward: Callable, backward: Callable, run: Callable | None = None) -> Callable[..., PyTree]:
    """A function of `(arguments, constants)` with a custom rule for reverse mode.

    `forward(arguments, constants)` returns the output and the residual, and
    `backward(arguments, constants, residual, output_bar)` returns the cotangent of the arguments. The inexact arrays of
    all trees are differentiated. `run(arguments, constants)` returns the output, if that takes less than `forward`.
    (`eqx.filter_custom_vjp` does not accept integers carried by a loop.)
    """

    def ruled(arguments, constants=None):
        if _is_forward.get():
            return forward(arguments, constants)[0] if run is None else run(arguments, constants)
        floats, rest = eqx.partition(arguments, eqx.is_inexact_array)
        others, static = eqx.partition((rest, constants), eqx.is_array)

        def whole(floats, others):
            rest, constants = eqx.combine(others, static)
            return eqx.combine(floats, rest), constants

        @traced_once
        @broadcasting
        @forward_mode()
        def both(floats, others):
            return forward(*whole(floats, others))

        @jax.custom_vjp
        @broadcasting
        @forward_mode()
        def rule(floats, others):
            return both(floats, others)[0] if run is None else run(*whole(floats, others))

        @broadcasting
        @forward_mode()
        def ahead(floats, others):
            output, residual = both(floats, others)
            return output, (floats, others, residual)

        @broadcasting
        @reverse_mode()
        def back(saved, output_bar):
            floats, others, residual = saved
            # JAX may return a constant as a Python number.
            floats = jax.tree.map(jnp.asarray, floats)
            bar = backward(*whole(floats, others), residual, output_bar)
            return eqx.filter(bar, eqx.is_inexact_array), None

        rule.defvjp(ahead, back)
        return rule(floats, others)

    return ruled
