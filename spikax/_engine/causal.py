"""The spikes of layers that listen to each other: the fixed point of a causal map, and its derivative.

A sweep simulates every layer of a group with the spikes that the group is thought to emit, and gives those that it does
emit. They depend on earlier ones only. So sweeps settle all spikes, one after the other, and many at a time where they
do not depend on each other.

At the fixed point x = S(a, x) the derivative is dx = (1 - S_x)⁻¹ S_a da. As the map is causal, S_x is nilpotent: the
transposed equation, bar = bar_x + S_xᵀ bar, is solved by repetition as well, and exactly.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from .reverse import with_reverse_rule


class Settled(eqx.Module):
    """What the last sweep gave."""

    value: PyTree[Array]
    rest: PyTree[Array]
    settled: Bool[Array, " batch"]
    sweeps: Int[Array, ""]


def settle(
    sweep: Callable[[Any, PyTree[Array]], tuple[PyTree[Array], PyTree[Array]]],
    same: Callable[[Any, PyTree[Array], PyTree[Array]], Bool[Array, " batch"]],
    rethink: Callable[[PyTree[Array], PyTree[Array]], PyTree[Array]],
    arguments: Any,
    guess: PyTree[Array],
    limit: int,
) -> Settled:
    """Repeats `value, rest = sweep(arguments, thought)` until `same(arguments, thought, value)`, `limit` times at most.

    What is thought next is `rethink(thought, value)`, and at first `guess`. The leaves of a value have the batch as
    their first axis. The functions must not close over arrays: all they need is in `arguments`.
    """
    floats, others = eqx.partition(arguments, eqx.is_inexact_array)
    arrays, static = eqx.partition(others, eqx.is_array)

    def whole(floats, arrays):
        return eqx.combine(floats, arrays, static)

    def found(floats, arrays, guess):
        arguments = whole(floats, arrays)
        return _repeat(
            lambda thought: sweep(arguments, thought),
            lambda thought, value: same(arguments, thought, value),
            rethink,
            guess,
            limit,
        )

    def forward(floats, arrays, guess):
        settled = found(floats, arrays, guess)
        return settled, (floats, arrays, settled.value)

    def backward(residual, cotangent):
        floats, arrays, value = residual
        smooth, discrete = eqx.partition(value, eqx.is_inexact_array)

        def once(floats, smooth):
            given = sweep(whole(floats, arrays), eqx.combine(smooth, discrete))
            return eqx.filter(given, eqx.is_inexact_array)

        _, pull = jax.vjp(once, floats, smooth)
        value_bar, rest_bar = eqx.filter((cotangent.value, cotangent.rest), eqx.is_inexact_array)
        return _solve(lambda bar: pull((bar, rest_bar)), value_bar, floats, limit), None, None

    return with_reverse_rule(found, forward, backward)(floats, arrays, guess)


def _repeat(sweep: Callable, same: Callable, rethink: Callable, guess: PyTree[Array], limit: int) -> Settled:
    def goes_on(carry) -> Array:
        _, last = carry
        return (last.sweeps < limit) & ~jnp.all(last.settled)

    def once(carry):
        thought, last = carry
        value, rest = sweep(thought)
        return rethink(thought, value), Settled(value, rest, same(thought, value), last.sweeps + 1)

    (_, rest), settled = jax.eval_shape(lambda: (sweep(guess), same(guess, guess)))
    rest, settled = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (rest, settled))
    return lax.while_loop(goes_on, once, (guess, Settled(guess, rest, settled, jnp.int32(0))))[1]


def _solve(pull: Callable, value_bar: PyTree[Array], floats: PyTree[Array], limit: int) -> PyTree[Array]:
    """The cotangent of the arguments, for the bar that solves `bar = value_bar + pull(bar)[1]`."""

    def goes_on(carry) -> Array:
        number, _, _, done = carry
        return (number < limit) & ~done

    def once(carry):
        number, bar, _, _ = carry
        floats_bar, more = pull(bar)
        new = jax.tree.map(jnp.add, value_bar, more)
        return number + 1, new, floats_bar, _is_close(new, bar)

    nothing = jax.tree.map(jnp.zeros_like, floats)
    _, _, floats_bar, done = lax.while_loop(goes_on, once, (jnp.int32(0), value_bar, nothing, jnp.bool_(False)))
    message = (
        f"The gradient of layers that listen to each other did not settle in {limit} sweeps, as for a sample whose "
        "spikes did not. Look at `Solution.result`, and leave such samples out of the loss; or raise `windows`."
    )
    return eqx.error_if(floats_bar, ~done, message)


def _is_close(new: PyTree[Array], old: PyTree[Array]) -> Array:
    """Whether no entry changed by more than rounding, of itself or of the largest of its sample."""

    def leaf(new, old):
        largest = jnp.max(jnp.abs(new), axis=range(1, new.ndim), keepdims=True, initial=0.0)
        tolerance = 4.0 * jnp.finfo(new.dtype).eps * largest
        # Written so that NaN ends it.
        return ~jnp.any(jnp.abs(new - old) > tolerance)

    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(leaf, new, old))))
