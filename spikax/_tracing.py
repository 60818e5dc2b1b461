"""What the code of a function shows without being run."""

from collections.abc import Callable

import jax
from jaxtyping import PyTree


def depends_on_last(function: Callable, *arguments: PyTree) -> bool:
    """Whether a function uses its last argument for its result. Only shapes and dtypes of the arguments are used."""
    *others, last = arguments
    two = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), last)
    try:
        # JAX raises if the result depends on it.
        jax.eval_shape(jax.vmap(function, (*(None for _ in others), 0), out_axes=None), *others, two)
    except ValueError:
        return True
    return False
