"""Batches of small matrices: products, and the exponential.

A matrix has the axes `(..., rows, columns, batch, units)`, a vector `(..., rows, batch, units)`. The last two axes may
have size one.

Products are unrolled sums. With a reduction, XLA's CPU backend fuses all inputs into it, and exponentials ran a hundred
times slower.
"""

import functools
import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .differentiation import with_reverse_rule
from .vectorized import most_of_members


def applied(matrix: Array, vector: Array) -> Array:
    """A matrix times a vector."""
    return _total(matrix[..., :, j, :, :] * vector[..., None, j, :, :] for j in range(vector.shape[-3]))


def product(left: Array, right: Array) -> Array:
    """A matrix times a matrix."""
    return _total(left[..., :, j, None, :, :] * right[..., None, j, :, :, :] for j in range(right.shape[-4]))


def dot(row: Array, vector: Array) -> Array:
    """The dot product of two vectors, with the axes `(..., batch, units)`."""
    return _total(row[..., j, :, :] * vector[..., j, :, :] for j in range(vector.shape[-3]))


def _total(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def transposed(matrix: Array) -> Array:
    """The transposed matrix."""
    return jnp.swapaxes(matrix, -4, -3)


def norm(matrix: Array) -> Array:
    """The infinity norm, the largest absolute row sum, with the axes `(..., batch, units)`."""
    return jnp.max(jnp.sum(jnp.abs(matrix), axis=-3), axis=-3)


def exp_minus_one(x: Array) -> Array:
    """exp(X) - 1, by scaling and squaring.

    Computes exp(X / 2^k) - 1 by 12 terms of its series, and then k times F <- 2 F + F², which is exp(2 Y) - 1 for
    F = exp(Y) - 1. Since the one is subtracted, matrices that need fewer doublings than the largest lose no precision.
    """

    def forward(x, _):
        return _exp_minus_one(x), None

    def backward(x, constants, residual, bar):
        # The derivative in the direction E is L(X, E) = ∫ exp(X (1 - s)) E exp(X s) ds, whose transpose is L(Xᵀ, ·).
        return jax.jvp(_exp_minus_one, (transposed(x),), (bar,))[1]

    return with_reverse_rule(forward, backward)(x)


def _exp_minus_one(x: Array) -> Array:
    # The truncation error of the series is about |X|^12 / 13! times the first term.
    largest = 0.25 if x.dtype == jnp.float64 else 1.0
    doublings = jnp.ceil(jnp.log2(jnp.max(norm(lax.stop_gradient(x)), initial=0.0) / largest))
    doublings = most_of_members(jnp.nan_to_num(jnp.clip(doublings, 0.0, 128.0)).astype(jnp.int32))
    y = x * jnp.ldexp(jnp.ones((), x.dtype), -doublings)
    square = product(y, y)
    cube, fourth = product(square, y), product(square, square)
    powers = y, square, cube, fourth

    def terms(first):
        """The terms of the series after the power `first`, divided by this power."""
        return sum(power / math.factorial(first + 1 + n) for n, power in enumerate(powers))

    one = jnp.eye(x.shape[-4], dtype=x.dtype)[..., None, None]
    inner = terms(8) + one / math.factorial(8)
    middle = y / math.factorial(5) + square / math.factorial(6) + cube / math.factorial(7) + one / math.factorial(4)
    series = y + square / 2.0 + cube / 6.0 + product(fourth, middle + product(fourth, inner))
    return lax.fori_loop(0, doublings, lambda _, f: 2.0 * f + product(f, f), series)


def balance(matrix: Array) -> Array:
    """Units d of the variables, powers of two, in which the matrix A, that is A_ij d_j / d_i, has a small norm.

    As in LAPACK's balancing, each variable is scaled until the norms of its row and column are about equal. The fastest
    rate, the largest diagonal entry, is added to both. This does not move the fixed point, where they are equal.
    Without feedback there is none: a drive is then scaled to well below this rate, but not without end, in 30
    iterations.
    """
    n = matrix.shape[-4]
    diagonal = jnp.abs(matrix) * jnp.eye(n, dtype=matrix.dtype)[..., None, None]
    others = jnp.abs(matrix) - diagonal
    rate = jnp.max(diagonal, axis=(-4, -3))[None]

    def once(log_d, _):
        scaled = others * jnp.exp2(log_d[..., None, :, :, :] - log_d[..., :, None, :, :])
        row, column = (jnp.sum(scaled, axis=axis) + rate for axis in (-3, -4))
        holds = (row > 0) & (column > 0)
        # All variables are scaled at once, so by at most half of the shift that each alone would need.
        shift = 0.25 * jnp.log2(jnp.where(holds, row, 1.0) / jnp.where(holds, column, 1.0))
        return log_d + shift, None

    log_d, _ = lax.scan(once, jnp.zeros(matrix.shape[1:], matrix.dtype), length=30)
    return jnp.ldexp(jnp.ones_like(log_d), jnp.round(log_d).astype(jnp.int32))
