"""The spikes of a block again, as a differentiable map: where they are is known, how they depend on it is not."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .knots import Change, entry, Knot, Knots
from .motion import AbstractMotion
from .passes import Record
from .units import indices


class Landing(eqx.Module):
    """A spike of each neuron for which it happens, as it was found."""

    happens: Bool[Array, "batch units"]
    at_once: Bool[Array, "batch units"]  # the condition was above zero before any motion
    place: Int[Array, "batch units"]  # of the knot before it
    t: Float[Array, "batch units"]


def land(motion: AbstractMotion, landing: Landing, knot: Knot, change: Change) -> Change:
    """The change that a spike makes, after the change of the spike before it, as a differentiable map.

    The time T solves g(v(T)) = 0, so that dT = -dg / g', with dg at fixed T and the slope g' of the actual motion. A
    spike at once has the time of what lifted the condition: the spike before it, or the start.
    """
    fixed = lax.stop_gradient
    t = fixed(jnp.where(landing.happens, landing.t, knot.t))
    v_free, x = knot.free(motion, t)
    v = v_free + change.at(motion, t)
    speed_free, speed = fixed(motion.speed(v_free, x)), fixed(motion.speed(v, x))
    moves = landing.happens & ~landing.at_once
    newton = -motion.condition(v) / jnp.where(moves, fixed(motion.steepness(speed)), 1.0)
    # The time is that of the crossing already: of the last Newton step only the derivative is left.
    shift = jnp.where(moves, newton, jnp.where(change.t > knot.t, change.t, knot.t))
    shift = shift - fixed(shift)
    after = motion.reset(t + shift, v + shift * speed)
    new = Change(t + shift, after - (v_free + shift * speed_free))
    return jax.tree.map(lambda new, old: jnp.where(landing.happens, new, old), new, change)


class _Walk(eqx.Module):
    """The walk back over the spikes of a block, with the cotangents gathered so far."""

    left: Int[Array, ""]
    change: Change
    motion: PyTree[Array]
    knots: Knots


def replay(motion: AbstractMotion, knots: Knots, record: Record, first: Array, after: Array) -> Record:
    """The record, whose spikes from number `first` up to `after` depend on the neurons and on the knots."""
    floats, static = eqx.partition((motion, knots), eqx.is_inexact_array)

    @jax.custom_vjp
    def found(floats, record, first, after):
        return record.t, record.size

    def forward(floats, record, first, after):
        return found(floats, record, first, after), (floats, record, first, after)

    def backward(residual, cotangent):
        floats, record, first, after = residual
        motion, knots = eqx.combine(floats, static)
        walk = _walk_back(motion, knots, record, first, after, Change(*cotangent))
        return (walk.motion, walk.knots), None, None, None

    found.defvjp(forward, backward)
    t, size = found(floats, record, first, after)
    return Record(t, size, record.place, record.at_once)


def _walk_back(motion: AbstractMotion, knots: Knots, record: Record, first: Array, after: Array, bars: Change) -> _Walk:
    parts, rest = eqx.partition(motion, eqx.is_inexact_array)
    start = knots.start(first.shape)
    batch, units = indices(first.shape[0])[:, None], indices(first.shape[1])
    lanes = knots.lanes(first.shape)

    def step(walk: _Walk) -> _Walk:
        number = first + walk.left - 1
        exists = (number < after) & (number < record.t.shape[0])
        place = jnp.where(exists, entry(record.place, number), 0)
        t = jnp.where(exists, entry(record.t, number), start)
        landing = Landing(exists, exists & entry(record.at_once, number), place, t)
        bar = jax.tree.map(
            lambda carried, rows: jnp.where(exists, carried + entry(rows, number), 0.0), walk.change, bars
        )

        def redo(parts, knot, previous):
            return land(eqx.combine(parts, rest), landing, knot, previous)

        _, pull = jax.vjp(redo, parts, knots.at(place), record.change(number - 1, first, start))
        parts_bar, knot, previous = pull(bar)
        sums = jax.tree.map(jnp.add, walk.motion, parts_bar)
        t, v, x = walk.knots.t, walk.knots.v, walk.knots.x
        scattered = Knots(
            t.at[(place, *lanes)].add(knot.t),
            _add(v, (place, ..., batch, units), knot.v),
            _add(x, (place, ..., batch, units), knot.x),
        )
        return _Walk(walk.left - 1, previous, sums, scattered)

    zeros = jax.tree.map(jnp.zeros_like, (Change(start, knots.v[0]), parts, knots))
    return lax.while_loop(lambda walk: walk.left > 0, step, _Walk(jnp.max(after - first), *zeros))


def _add(rows: Array, where: tuple, row: Array) -> Array:
    """The rows, with one more added for each neuron, at its own place."""
    # Indices on both sides of a slice: NumPy has what they index first.
    return rows.at[where].add(jnp.moveaxis(row, (-2, -1), (0, 1)))
