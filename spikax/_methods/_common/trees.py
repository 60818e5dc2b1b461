"""Operations on pytrees of arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def tree_where(where: Bool[Array, "..."], new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """`new` where `where` holds, else `old`, with the dtypes of `old`. The axes of `where` lead in each leaf."""

    def leaf(new, old):
        expanded = where.reshape(where.shape + (1,) * (old.ndim - where.ndim))
        return jnp.where(expanded, new.astype(old.dtype), old)

    return jax.tree.map(leaf, new, old)


def zeros_like(tree: PyTree) -> PyTree[Array]:
    """Zeros in place of all arrays of a tree, and None in place of other leaves."""
    return jax.tree.map(jnp.zeros_like, eqx.filter(tree, eqx.is_array))


def add(left: PyTree[Array], right: PyTree[Array]) -> PyTree[Array]:
    """The sum of two trees, leaf by leaf."""
    return jax.tree.map(jnp.add, left, right)
