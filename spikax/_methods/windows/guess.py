"""The guess of the spikes of a group in a window, from one sweep to the next."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..._routing import arriving, Train
from .._common.differentiation import held
from .context import Prepared
from .fixed_point import Instant


def next_guess(
    prepared: Prepared, guess: dict[str, Train], final: Instant, emitted: dict[str, Train], now_final: Instant
) -> dict[str, Train]:
    """The next guess: what was final stays, and all other spikes are those that were found, or later."""

    def of_layer(was: Train, now: Train) -> Train:
        stays = _found_again(prepared, was, final, now) & now_final.is_after(was.times, was.generation)
        is_final = now_final.is_after(now.times, now.generation)
        times = jnp.where(is_final, now.times, _over_relaxed(was.times, now.times))
        new = dataclasses.replace(now, times=times)
        return jax.tree.map(lambda was, new: jnp.where(stays, was, new), was, new)

    return {name: of_layer(guess[name], now) for name, now in emitted.items()}


def _over_relaxed(was: Array, now: Array) -> Array:
    """The next guess of spike times.

    A spike that is guessed too early may cause itself: if a neuron excites itself, directly or through others, the
    spike moves a little later in each sweep. A guess that is too late does no harm, since a spike does not depend on
    later ones. So a spike that moves later is moved three times as far, unless it moves by little more than rounding.
    """
    rounding = 1e4 * jnp.finfo(now.dtype).eps
    moves_on = jnp.isfinite(now) & (now - jnp.where(was < now, was, now) > rounding * jnp.abs(now))
    return jnp.where(moves_on, now + 2.0 * (now - jnp.where(moves_on, was, 0.0)), now)


def as_guessed(prepared: Prepared, was: Train, final: Instant, now: Train) -> Train:
    """The spikes of a sweep, with the times that were guessed where the same spike was found.

    The derivative is that of the spikes found. Without the guessed times, an arrival near the end of a window could be
    on one side of it for the layers of the group, and on the other in later windows.
    """
    is_close = jnp.abs(now.times - was.times) <= prepared.context.rounding(now.times)
    is_same = (is_close & jnp.isfinite(now.times)) | _found_again(prepared, was, final, now)
    own = jnp.where(is_same, now.times, 0.0)
    both = was.times, own
    times, same = held(both, both)
    times = times + (own - same)
    return dataclasses.replace(now, times=jnp.where(is_same, times, now.times))


def _found_again(prepared: Prepared, was: Train, final: Instant, now: Train) -> Bool[Array, "batch neurons spikes"]:
    """Which spikes were final, and found again.

    They differ by the error of the method, which may be far above rounding, but far below the length of a window. A
    larger difference is another spike, of which one more, or one less, came before.
    """
    length = prepared.window.end - prepared.window.start
    return final.is_after(was.times, was.generation) & (jnp.abs(now.times - was.times) <= 0.01 * length)


def first_difference(prepared: Prepared, guess: dict[str, Train], final: Instant, emitted: dict[str, Train]) -> Instant:
    """The first arrival in this window that was guessed wrong. Spikes before it are final.

    These depend on arrivals that were guessed as they were found. So they are found again, but not to the last bit:
    the search for a spike ends at the next arrival, be it in time. How much that changes depends on the method.
    """
    context, end = prepared.context, prepared.window.end
    times, generations = [], []
    for incoming in context.incoming.values():
        for pathway in incoming.pathways:
            if not pathway.is_guessed:
                continue
            old, new = guess[pathway.source], emitted[pathway.source]
            was, now = (incoming.first_arrival(pathway, train.times) for train in (old, new))
            pairs = zip(jax.tree.leaves(old.payload), jax.tree.leaves(new.payload), strict=True)
            close = [jnp.abs(new.times - old.times) <= context.rounding(new.times)]
            close += [jnp.abs(now - was) <= 8.0 * jnp.finfo(now.dtype).eps * jnp.abs(now) for was, now in pairs]
            if old.generation is not None:
                close.append(old.generation == new.generation)
            # Spikes that arrive later, or at no time, may differ.
            is_same = jnp.where((was <= end) & (now <= end), jnp.stack(close).all(axis=0), (was <= end) == (now <= end))
            is_same |= _found_again(prepared, old, final, new)
            for train, arrival in ((old, was), (new, now)):
                wrong = jnp.where(~is_same & (arrival <= end), arrival, jnp.inf)
                times.append(wrong.reshape(len(wrong), -1))
                if train.generation is not None:
                    after = arriving(train.times, arrival, train.generation)
                    generations.append(after.reshape(len(after), -1))
    if not times:
        return Instant(jnp.full_like(final.t, jnp.inf), final.generation)
    every = jnp.concatenate(times, axis=1)
    first = jnp.min(every, axis=1)
    if not generations:
        return Instant(first, None)
    after = jnp.where(every == first[:, None], jnp.concatenate(generations, axis=1), jnp.iinfo(jnp.int32).max)
    return Instant(first, jnp.min(after, axis=1))
