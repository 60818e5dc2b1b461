"""The spikes of a recurrent group: the fixed point of a causal map, and its derivative.

A sweep simulates every layer of a group with a guess of the spikes of the group, and returns the spikes that the layers
emit. Each of these depends only on earlier spikes. So repeated sweeps converge to the exact spikes, in order of time,
and many at once if they do not depend on each other.

At the fixed point x = S(a, x) the derivative is dx = (1 - S_x)⁻¹ S_a da. The map is causal, so S_x is nilpotent, and
the iteration of the transposed equation, bar = bar_x + S_xᵀ bar, also converges to the exact solution.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from .._common.reverse_rule import with_reverse_rule
from .._common.trees import add, zeros_like


class FixedPoint(eqx.Module):
    """The result of the last sweep."""

    value: PyTree[Array]
    rest: PyTree[Array]
    settled: Bool[Array, " batch"]
    sweeps: Int[Array, ""]


def solve(
    sweep: Callable[[Any, PyTree[Array]], tuple[PyTree[Array], PyTree[Array]]],
    converged: Callable[[Any, PyTree[Array], PyTree[Array]], Bool[Array, " batch"]],
    over_relax: Callable[[PyTree[Array], PyTree[Array]], PyTree[Array]],
    arguments: Any,
    guess: PyTree[Array],
    limit: int,
) -> FixedPoint:
    """Repeats `value, rest = sweep(arguments, guess)` until `converged(arguments, guess, value)`, up to `limit` times.

    The next guess is `over_relax(guess, value)`. The first axis of the leaves of a value is the batch. The functions
    must not close over arrays; all arrays are in `arguments`.
    """

    def found(arguments, guess):
        return _repeat(
            lambda thought: sweep(arguments, thought),
            lambda thought, value: converged(arguments, thought, value),
            over_relax,
            guess,
            limit,
        )

    def forward(arguments, guess):
        settled = found(arguments, guess)
        return settled, settled.value

    def backward(arguments, guess, value, cotangent):
        arguments, others = eqx.partition(arguments, eqx.is_inexact_array)
        smooth, discrete = eqx.partition(value, eqx.is_inexact_array)

        def once(arguments, smooth):
            given = sweep(eqx.combine(arguments, others), eqx.combine(smooth, discrete))
            return eqx.filter(given, eqx.is_inexact_array)

        _, pull = jax.vjp(once, arguments, smooth)
        bars = eqx.filter((cotangent.value, cotangent.rest), eqx.is_inexact_array)
        return _solve(lambda bar: pull((bar, bars[1])), bars[0], arguments, limit)

    return with_reverse_rule(found, forward, backward)(arguments, guess)


def _repeat(sweep: Callable, converged: Callable, over_relax: Callable, guess: PyTree[Array], limit: int) -> FixedPoint:
    def goes_on(carry) -> Array:
        _, last = carry
        return (last.sweeps < limit) & ~jnp.all(last.settled)

    def once(carry):
        thought, last = carry
        value, rest = sweep(thought)
        return over_relax(thought, value), FixedPoint(value, rest, converged(thought, value), last.sweeps + 1)

    (_, rest), settled = jax.eval_shape(lambda: (sweep(guess), converged(guess, guess)))
    rest, settled = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (rest, settled))
    return lax.while_loop(goes_on, once, (guess, FixedPoint(guess, rest, settled, jnp.int32(0))))[1]


def _solve(pull: Callable, value_bar: PyTree[Array], floats: PyTree[Array], limit: int) -> PyTree[Array]:
    """The cotangent of the arguments, `pull(bar)[0]`, for the solution of `bar = value_bar + pull(bar)[1]`."""

    def goes_on(carry) -> Array:
        number, _, _, done = carry
        return (number < limit) & ~done

    def once(carry):
        number, bar, _, _ = carry
        floats_bar, more = pull(bar)
        new = add(value_bar, more)
        return number + 1, new, floats_bar, _is_close(new, bar)

    nothing = zeros_like(floats)
    _, _, floats_bar, done = lax.while_loop(goes_on, once, (jnp.int32(0), value_bar, nothing, jnp.bool_(False)))
    message = (
        f"The gradient of a recurrent group did not converge in {limit} sweeps, for example because the spikes of a "
        "sample did not. Exclude samples that failed, by `Solution.result`, from the loss, or raise `count` or "
        "`max_sweeps` of `sx.Windows`."
    )
    return eqx.error_if(floats_bar, ~done, message)


def _is_close(new: PyTree[Array], old: PyTree[Array]) -> Array:
    """Whether no value changed by more than the rounding error of the largest value of its sample."""

    def leaf(new, old):
        largest = jnp.max(jnp.abs(new), axis=range(1, new.ndim), keepdims=True, initial=0.0)
        tolerance = 4.0 * jnp.finfo(new.dtype).eps * largest
        # In this form NaN counts as converged.
        return ~jnp.any(jnp.abs(new - old) > tolerance)

    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(leaf, new, old))))
