"""The spikes of a recurrent group: the fixed point of a causal map, and its derivative.

A sweep simulates all layers of a group with a guess of the spikes of the group, and returns the spikes that the layers
emit. Each of these depends only on earlier spikes. So repeated sweeps converge to the exact spikes, in order of time,
and many at once if they do not depend on each other. The spikes before the first one that was guessed wrong are final:
later sweeps would find them again, up to rounding, and do not change the guess of them.

At the fixed point x = S(a, x) the derivative is dx = (1 - S_x)⁻¹ S_a da. The map is causal, so S_x is nilpotent, and
the iteration of the transposed equation, bar = bar_x + S_xᵀ bar, also converges to the exact solution. If a single
sweep was enough, x does not depend on the guess, and S_x is zero. Tangents are found in the same way, and so are the
derivatives of these solutions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._common.differentiation import found, reverse_mode
from .._common.trees import zeros_like


class Sweeps(eqx.Module):
    """The functions of a fixed-point problem. They must not close over arrays: all arrays are in their arguments."""

    # From the arguments to what all sweeps share. It is computed again in the backward pass, and not stored.
    prepare: Callable[[Any], PyTree[Array]] = eqx.field(static=True)
    # From this, a guess, and up to when it is final, to the results.
    sweep: Callable[[Any, PyTree[Array], "Instant"], PyTree[Array]] = eqx.field(static=True)
    # From what all sweeps share, and the results, to what is guessed.
    value_of: Callable[[Any, PyTree[Array]], PyTree[Array]] = eqx.field(static=True)
    # From this, the guess, up to when it is final, and the value, to the first arrival that was guessed wrong.
    first_difference: Callable[[Any, PyTree[Array], "Instant", PyTree[Array]], "Instant"] = eqx.field(static=True)
    # From this, the guess, the value, and up to when each guess is final, to the next guess.
    next_guess: Callable[[Any, PyTree[Array], "Instant", PyTree[Array], "Instant"], PyTree[Array]] = eqx.field(
        static=True
    )


class Instant(eqx.Module):
    """A time in each sample, and the generation of a spike at this time if their order matters."""

    t: Float[Array, " batch"]
    generation: Int[Array, " batch"] | None

    def is_after(
        self, t: Float[Array, "batch neurons spikes"], generation: Array | None
    ) -> Bool[Array, "batch neurons spikes"]:
        """Which spikes are before this instant."""
        own = self.t[:, None, None]
        if self.generation is None or generation is None:
            return t < own
        return (t < own) | ((t == own) & (generation < self.generation[:, None, None]))


class FixedPoint(eqx.Module):
    """The result of the last sweep."""

    results: PyTree[Array]
    settled: Bool[Array, " batch"]
    sweeps: Int[Array, ""]


def solve(
    functions: Sweeps, prepared: Any, guess: PyTree[Array], final: Instant, nothing: PyTree[Array], limit: int
) -> FixedPoint:
    """Repeats sweeps until they converge, up to `limit` times. `prepared` is what all of them share.

    The first axis of the leaves of a value is the batch. `nothing` are the other results of an empty sweep.
    """

    def search(given):
        prepared, guess, final, nothing = given
        start = FixedPoint(nothing, jnp.zeros(final.t.shape, bool), jnp.int32(0))
        return _repeat(functions, prepared, guess, final, start, limit)

    def known(given, result):
        prepared, _, final, _ = given
        all_final = dataclasses.replace(final, t=jnp.full_like(final.t, jnp.inf))
        both = result.results, functions.value_of(prepared, result.results)
        smooth, (others, discrete) = eqx.partition(both, eqx.is_inexact_array)

        def sweeping(given):
            prepared, all_final, discrete, settled = given

            def once(value):
                # What is not a solution has no derivative, and would not converge.
                value = jax.tree.map(lambda x: jnp.where(_of_samples(settled, x), x, lax.stop_gradient(x)), value)
                results = functions.sweep(prepared, eqx.combine(value, discrete), all_final)
                return eqx.filter((results, functions.value_of(prepared, results)), eqx.is_inexact_array)

            return once

        given = prepared, all_final, discrete, result.settled
        results, _ = _as_solution(sweeping, given, smooth, result.sweeps == 1, limit)
        return dataclasses.replace(result, results=eqx.combine(results, others))

    return found(search, known)((prepared, guess, final, nothing))


def pull_back(
    functions: Sweeps,
    arguments: Any,
    value: PyTree[Array],
    final: Instant,
    sweeps: Array,
    results_bar: PyTree[Array],
    limit: int,
) -> Any:
    """The cotangent of the arguments, from that of the results.

    All of the value is `final`.
    """
    prepared, pull_prepared = eqx.filter_vjp(functions.prepare, arguments)

    @reverse_mode()
    def transposed(given):
        prepared, value, final, results_bar = given
        floats, others = eqx.partition(prepared, eqx.is_inexact_array)
        smooth, discrete = eqx.partition(value, eqx.is_inexact_array)

        def sweep(floats, smooth):
            prepared = eqx.combine(floats, others)
            results = functions.sweep(prepared, eqx.combine(smooth, discrete), final)
            return eqx.filter((functions.value_of(prepared, results), results), eqx.is_inexact_array)

        _, pull = jax.vjp(sweep, floats, smooth)
        return lambda bar: pull((bar, results_bar))

    # If one sweep was enough, it does not depend on the guess.
    zeros = zeros_like(eqx.filter((prepared, value), eqx.is_inexact_array))
    floats_bar, _ = _solution(transposed, (prepared, value, final, results_bar), zeros, sweeps == 1, limit)
    (bar,) = pull_prepared(floats_bar)
    return bar


def _repeat(
    functions: Sweeps, prepared: Any, guess: PyTree[Array], final: Instant, start: FixedPoint, limit: int
) -> FixedPoint:
    def goes_on(carry) -> Array:
        *_, last = carry
        return (last.sweeps < limit) & ~jnp.all(last.settled)

    def once(carry):
        guess, final, last = carry
        results = functions.sweep(prepared, guess, final)
        value = functions.value_of(prepared, results)
        difference = functions.first_difference(prepared, guess, final, value)
        now = FixedPoint(results, difference.t == jnp.inf, last.sweeps + 1)
        return functions.next_guess(prepared, guess, final, value, difference), difference, now

    *_, last = lax.while_loop(goes_on, once, (guess, final, start))
    return last


def _solution(
    step_of: Callable[[Any], Callable], given: Any, zeros: PyTree[Array], is_explicit: Bool[Array, ""], limit: int
) -> Any:
    """The solution of the linear equation `(explicit, implicit) = step_of(given)(implicit)`, found by iteration.

    If the step `is_explicit`, it does not depend on the second part.
    """

    def search(arguments):
        given, zeros, is_explicit = arguments
        step = step_of(given)

        def goes_on(carry) -> Array:
            number, _, done = carry
            return (number < limit) & ~done

        def once(carry):
            number, (_, implicit), _ = carry
            explicit, new = step(implicit)
            return number + 1, (explicit, new), is_explicit | _is_close(new, implicit)

        _, solution, done = lax.while_loop(goes_on, once, (jnp.int32(0), zeros, jnp.bool_(False)))
        return eqx.error_if(solution, ~done, message)

    def known(arguments, solution):
        given, _, is_explicit = arguments
        return _as_solution(step_of, given, solution, is_explicit, limit)

    message = (
        f"The gradient of a recurrent group did not converge in {limit} sweeps, for example because the spikes of a "
        "sample did not. Exclude samples that failed, by `Solution.result`, from the loss, or raise `count` or "
        "`max_sweeps` of `sx.Windows`."
    )
    return found(search, known)((given, zeros, is_explicit))


def _as_solution(
    step_of: Callable[[Any], Callable], given: Any, solution: PyTree[Array], is_explicit: Bool[Array, ""], limit: int
) -> Any:
    """`solution`, with the derivative of the solution of `(explicit, implicit) = step_of(given)(implicit)`."""
    floats, rest = eqx.partition(given, eqx.is_inexact_array)
    others, static = eqx.partition((rest, is_explicit), eqx.is_array)

    @jax.custom_jvp
    def value(floats, others, solution):
        return solution

    @value.defjvp
    def _(primals, dots):
        (floats, others, _), (floats_dot, *_) = primals, dots
        solution = value(*primals)
        _, is_explicit = eqx.combine(others, static)

        def tangents(given):
            floats, others, implicit, floats_dot = given
            rest, _ = eqx.combine(others, static)

            def once(floats, implicit):
                return step_of(eqx.combine(floats, rest))(implicit)

            return lambda implicit_dot: jax.jvp(once, (floats, implicit), (floats_dot, implicit_dot))[1]

        given = floats, others, solution[1], floats_dot
        return solution, _solution(tangents, given, zeros_like(solution), is_explicit, limit)

    return value(floats, others, solution)


def _of_samples(holds: Bool[Array, " batch"], like: Array) -> Array:
    """What holds for each sample, with as many axes as `like`, of which the first is the batch."""
    return holds.reshape(-1, *(1,) * (like.ndim - 1))


def _is_close(new: PyTree[Array], old: PyTree[Array]) -> Array:
    """Whether no value changed by more than the rounding error of the largest value of its sample."""

    def leaf(new, old):
        largest = jnp.max(jnp.abs(new), axis=range(1, new.ndim), keepdims=True, initial=0.0)
        tolerance = 4.0 * jnp.finfo(new.dtype).eps * largest
        # In this form NaN counts as converged.
        return ~jnp.any(jnp.abs(new - old) > tolerance)

    return jnp.all(jnp.stack([jnp.bool_(True), *jax.tree.leaves(jax.tree.map(leaf, new, old))]))
