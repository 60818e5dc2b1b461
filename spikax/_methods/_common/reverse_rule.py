"""Custom rules for reverse-mode differentiation that raise for all other modes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .broadcasting import broadcasting


MESSAGE = (
    "A simulation has only first derivatives, in reverse mode: use `jax.grad`, `jax.vjp` or `jax.jacrev`. "
    "Forward mode (`jax.jvp`, `jax.jacfwd`, `jax.linearize`) and second derivatives (`jax.hessian`, `jax.jvp` of a "
    "gradient) would differentiate the search for spikes instead of the spikes."
)


def with_reverse_rule(run: Callable, forward: Callable, backward: Callable) -> Callable[..., PyTree]:
    """The function `run(arguments, constants)` with a custom rule for reverse mode.

    `forward(arguments, constants)` returns the output and the residual, and
    `backward(arguments, constants, residual, output_bar)` returns the cotangent of the arguments. The inexact arrays of
    all trees are differentiated. (`eqx.filter_custom_vjp` does not accept integers carried by a loop.)

    For second derivatives, JAX would differentiate the rule itself: through the iterates of searches, and ignoring what
    is constant only for the first derivative. The numbers would be wrong, so this raises an error.
    """

    def ruled(arguments, constants=None):
        floats, rest = eqx.partition(arguments, eqx.is_inexact_array)
        others, static = eqx.partition((rest, constants), eqx.is_array)

        def whole(floats, others):
            rest, constants = eqx.combine(others, static)
            return eqx.combine(floats, rest), constants

        @jax.custom_vjp
        @broadcasting
        def rule(floats, others):
            return run(*whole(floats, others))

        @broadcasting
        def ahead(floats, others):
            output, residual = forward(*whole(_once(floats), others))
            return output, (floats, others, residual)

        @broadcasting
        def back(saved, output_bar):
            floats, others, residual = saved
            # JAX may return a constant as a Python number.
            floats = jax.tree.map(jnp.asarray, floats)
            bar = backward(*whole(floats, others), residual, output_bar)
            return eqx.filter(bar, eqx.is_inexact_array), None

        rule.defvjp(ahead, back)
        return rule(floats, jax.lax.stop_gradient(others))

    return ruled


@jax.custom_jvp
def _once(tree: PyTree) -> PyTree:
    return tree


@_once.defjvp
def _twice(primals: tuple, tangents: tuple) -> tuple:
    raise TypeError(MESSAGE)
