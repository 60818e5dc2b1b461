"""Rules of reverse-mode differentiation that refuse every other use."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


MESSAGE = (
    "A simulation has first derivatives, in reverse mode: use `jax.grad`, `jax.vjp` or `jax.jacrev`. "
    "Forward mode (`jax.jvp`, `jax.jacfwd`, `jax.linearize`) and second derivatives (`jax.hessian`, `jax.jvp` of a "
    "gradient) would differentiate the search for spikes in place of the spikes."
)


def with_reverse_rule(function: Callable, forward: Callable, backward: Callable) -> Callable:
    """`function` with the rule of `jax.custom_vjp`.

    JAX would differentiate `forward` and `backward` as they stand where a gradient is differentiated again: through the
    iterates of searches, and past what is constant for the first derivative. The numbers would be wrong.
    """

    def guarded(*arguments: Any) -> Any:
        return forward(*_once(arguments))

    ruled = jax.custom_vjp(function)
    ruled.defvjp(guarded, backward)
    return ruled


@jax.custom_jvp
def _once(tree: PyTree) -> PyTree:
    return tree


@_once.defjvp
def _twice(primals: tuple, tangents: tuple) -> tuple:
    raise TypeError(MESSAGE)
