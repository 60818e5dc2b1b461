"""Linear neurons, parallel in time: all arrivals of a block at once, one pass per own spike, and the derivative of it.

Without its own spikes a linear neuron moves freely: its state at all knots (the arrivals, and the start of the block)
is a linear recurrence. A spike at T adds a change that fades by itself,

    v(t) = v_free(t) + change exp(-rate (t - T)),      change = reset(v(T)) - v_free(T).

Blocks bound the memory; the run ends with the last one that holds arrivals. The derivative walks the blocks backwards.
Each is computed again as a differentiable map, in which the spikes are known: nothing of their search is repeated.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._neuron import AbstractNeuron
from .._synapse import is_synapse
from .affine import Affine, affine_of
from .arrivals import Arrivals, in_order
from .knots import Edge, free_motion, Knots
from .passes import is_wanted, Record, search, Stretch
from .replay import replay
from .units import indices


class Given(eqx.Module):
    """What the spikes of a layer of linear neurons depend on."""

    neuron: AbstractNeuron
    weight: Float[Array, "sources units"]
    times: Float[Array, "batch lanes spikes"]
    source: Int[Array, "samples spikes"]
    state: PyTree[Array]
    x: Float[Array, "batch units"]
    t0: Float[Array, ""]
    t1: Float[Array, ""]

    def start(self) -> tuple[Affine, Edge]:
        """The neurons, and where they stand at `t0`."""
        weight = jax.tree.map(lambda _: self.weight, self.neuron.synapse, is_leaf=is_synapse)
        affine = affine_of(self.neuron, self.state, weight, self.t0)
        (v,) = jax.tree.leaves(self.state)
        return affine, Edge(jnp.full(self.times.shape[:2], self.t0), v, self.x)


class Limits(eqx.Module):
    """How far a simulation goes."""

    max_spikes: int = eqx.field(static=True)  # that are recorded, of each neuron
    quota: int = eqx.field(static=True)  # after which a neuron is left alone


class Found(eqx.Module):
    """The spikes of a layer of linear neurons, and their states at the times that were asked for."""

    times: Float[Array, "spikes batch units"]
    end: tuple[Float[Array, "batch units"], Float[Array, "batch units"]]  # v and x
    saved: tuple[Float[Array, "ts batch units"], Float[Array, "ts batch units"]] | None  # v and x
    count: Int[Array, "batch units"]
    finite: Bool[Array, "batch units"]
    passes: Int[Array, ""]


def find_spikes(given: Given, limits: Limits, ts: Float[Array, " ts"] | None) -> Found:
    """Simulates the neurons of a layer."""
    floats, rest = eqx.partition(given, eqx.is_inexact_array)
    others, static = eqx.partition((rest, ts), eqx.is_array)

    def unpack(floats, others):
        rest, ts = eqx.combine(others, static)
        return eqx.combine(floats, rest), ts

    def run(floats, others):
        return _run(*unpack(floats, others), limits)

    @jax.custom_vjp
    def found(floats, others):
        return run(floats, others)[0].found()

    def forward(floats, others):
        end, arrivals = run(floats, others)
        return end.found(), (floats, others, end, arrivals)

    def backward(residual, cotangent):
        floats, others, end, arrivals = residual
        bar = _walk_back(*unpack(floats, others), end, arrivals, cotangent)
        return eqx.filter(bar, eqx.is_inexact_array), None

    found.defvjp(forward, backward)
    return found(floats, others)


class _Arrivals(eqx.Module):
    """All arrivals in order, in blocks. What comes after `t1`, and padding, stands at `t1` and has no source."""

    times: Float[Array, "blocks arrivals batch lanes"]
    source: Int[Array, "blocks arrivals batch lanes"]
    needed: Int[Array, ""]  # so many blocks hold arrivals, and one that leads to `t1`
    ordered: Arrivals  # as they came

    @classmethod
    def of(cls, given: Given, length: int) -> "_Arrivals":
        ordered = in_order(given.times, given.source)
        batch, lanes, total = ordered.times.shape
        padding = ((0, 0), (0, 0), (0, -total % length))
        times = jnp.pad(ordered.times, padding, constant_values=jnp.inf)
        arrives = times <= given.t1
        known = jnp.broadcast_to(given.source[:, None], given.times.shape)
        source = jnp.take_along_axis(known, jnp.pad(ordered.spike, padding), axis=2)
        source = jnp.where(arrives, source, given.weight.shape[0])
        times = jnp.where(arrives, times, given.t1)
        blocks = (batch, lanes, -1, length)
        times, source = (jnp.transpose(part.reshape(blocks), (2, 3, 0, 1)) for part in (times, source))
        most = jnp.max(jnp.sum(arrives, axis=2, dtype=jnp.int32))
        return cls(times, source, most // length + 1, ordered)


class _Run(eqx.Module):
    """A simulation on its way through the blocks."""

    block: Int[Array, ""]
    passes: Int[Array, ""]
    edge: Edge
    count: Int[Array, "batch units"]
    record: Record
    edges: Edge  # before each block
    counts: Int[Array, "blocks batch units"]
    saved: tuple[Array, Array] | None

    def found(self) -> Found:
        edge = self.edge
        return Found(self.record.t, (edge.v, edge.x), self.saved, self.count, jnp.isfinite(edge.v), self.passes)


def _block_length(given: Given) -> int:
    """How many arrivals a block has: few enough for its arrays to stay in the cache."""
    arrivals = given.times.shape[2] + 1
    units = given.times.shape[0] * given.weight.shape[1]
    return min(arrivals, max(8, min(64, 2**19 // units)))


def _block(affine: Affine, edge: Edge, weight: Array, times: Array, source: Array) -> Knots:
    """The free motion in a block."""
    unit = () if source.shape[2] == 1 else (indices(weight.shape[1]),)
    which = source if unit else source[..., 0]
    arriving = weight.at[(which, *unit)].get(mode="fill", fill_value=0.0)
    return free_motion(affine, edge, jnp.concatenate([edge.t[None], times]), arriving)


def _run(given: Given, ts: Array | None, limits: Limits) -> tuple[_Run, _Arrivals]:
    affine, edge = given.start()
    arrivals = _Arrivals.of(given, _block_length(given))
    total, length, *_ = arrivals.times.shape
    # Between few arrivals the bound is loose, and the passes for what it takes for a crossing cost more than it saves.
    look = Stretch.may_cross if total * length > 64 else Stretch.crosses

    def goes_on(run: _Run) -> Array:
        return (run.block < arrivals.needed) & jnp.any(is_wanted(run.count, limits.quota))

    def one_block(run: _Run) -> _Run:
        i = run.block
        knots = _block(affine, run.edge, given.weight, arrivals.times[i], arrivals.source[i])
        end = search(affine, knots, run.count, run.record, limits.quota, look)
        saved = run.saved
        if saved is not None:
            parts = _saved_in(affine, knots, end.record, run.count, end.count, ts, i == arrivals.needed - 1)
            saved = jax.tree.map(jnp.add, saved, parts)
        edges = jax.tree.map(lambda rows, row: rows.at[i].set(row), run.edges, run.edge)
        counts = run.counts.at[i].set(run.count)
        edge = knots.leave(affine, end.change)
        return _Run(i + 1, run.passes + end.passes, edge, end.count, end.record, edges, counts, saved)

    shape, dtype = edge.v.shape, edge.v.dtype
    rows = jax.tree.map(lambda leaf: jnp.zeros((total, *leaf.shape), leaf.dtype), (edge, jnp.zeros(shape, jnp.int32)))
    saved = None if ts is None else (jnp.zeros((len(ts), *shape), dtype),) * 2
    record = Record.empty(limits.max_spikes, shape, dtype)
    start = _Run(jnp.int32(0), jnp.int32(0), edge, jnp.zeros(shape, jnp.int32), record, *rows, saved)
    return lax.while_loop(goes_on, one_block, start), arrivals


def _saved_in(
    affine: Affine, knots: Knots, record: Record, first: Array, after: Array, ts: Array, is_last: Array
) -> tuple[Array, Array]:
    """The states v and x at those of the times `ts` that lie in this block, and zero for the others.

    The spikes of the block have the numbers from `first` up to `after`.
    """
    number = indices(record.t.shape[0])[:, None, None]
    is_here = (number >= first) & (number < after)

    def at(t):
        inside = (t >= knots.t[0]) & ((t < knots.t[-1]) | is_last)
        place = jnp.maximum(jnp.sum(knots.t <= t, axis=0, dtype=jnp.int32) - 1, 0)
        place = jnp.broadcast_to(place, first.shape)
        latest = first - 1 + jnp.sum(is_here & (record.t <= t), axis=0, dtype=jnp.int32)
        change = record.change(latest, first, knots.start(first.shape))
        t = jnp.where(inside, t, knots.t[0])
        v, x = knots.at(place).free(affine, t)
        return jnp.where(inside, v + change.at(affine, t), 0.0), jnp.where(inside, x, 0.0)

    return jax.vmap(at)(ts)


class _Walk(eqx.Module):
    """The walk back through the blocks, with the cotangents gathered so far."""

    block: Int[Array, ""]
    after: Int[Array, "batch units"]  # the number of spikes up to the end of the block
    edge: Edge
    floats: PyTree[Array]  # of the neurons and the weights
    times: Float[Array, "blocks arrivals batch lanes"]


def _walk_back(given: Given, ts: Array | None, end: _Run, arrivals: _Arrivals, bar: Found) -> Given:
    """The cotangent of `given`, from those of the spike times, of the end, and of the saved states."""
    (affine, edge), pull_start = eqx.filter_vjp(Given.start, given)
    floats, static = eqx.partition((affine, given.weight), eqx.is_inexact_array)

    def one_block(walk: _Walk) -> _Walk:
        i = walk.block - 1
        edge, first = jax.tree.map(lambda rows: rows[i], (end.edges, end.counts))

        def block(floats, edge, times):
            affine, weight = eqx.combine(floats, static)
            knots = _block(affine, edge, weight, times, arrivals.source[i])
            record = replay(affine, knots, end.record, first, walk.after)
            change = record.change(walk.after - 1, first, knots.start(first.shape))
            is_last = i == arrivals.needed - 1
            saved = None if ts is None else _saved_in(affine, knots, record, first, walk.after, ts, is_last)
            return knots.leave(affine, change), record.t, saved

        _, pull = jax.vjp(block, floats, edge, arrivals.times[i])
        floats_bar, edge_bar, times_bar = pull((walk.edge, bar.times, bar.saved))
        sums = jax.tree.map(jnp.add, walk.floats, floats_bar)
        return _Walk(i, first, edge_bar, sums, walk.times.at[i].set(times_bar))

    floats_bar, times_bar = jax.tree.map(jnp.zeros_like, (floats, arrivals.times))
    edge_bar = Edge(jnp.zeros_like(edge.t), *bar.end)
    walk = _Walk(end.block, end.count, edge_bar, floats_bar, times_bar)
    walk = lax.while_loop(lambda walk: walk.block > 0, one_block, walk)
    affine_bar, weight_bar = walk.floats
    (start_bar,) = pull_start((affine_bar, walk.edge))
    times_bar = _unsorted(given, arrivals.ordered, walk.times)
    here = start_bar.neuron, weight_bar, times_bar, given.source
    return Given(*here, start_bar.state, start_bar.x, start_bar.t0, jnp.zeros_like(given.t1))


def _unsorted(
    given: Given, ordered: Arrivals, bar: Float[Array, "blocks arrivals batch lanes"]
) -> Float[Array, "batch lanes spikes"]:
    """The cotangent of the spike times of the sources, from that of the arrivals in order."""
    batch, lanes, total = ordered.times.shape
    bar = jnp.transpose(bar, (2, 3, 0, 1)).reshape(batch, lanes, -1)[..., :total]
    bar = jnp.where(ordered.times <= given.t1, bar, 0.0)
    sample, lane = indices(batch)[:, None, None], indices(lanes)[None, :, None]
    return jnp.zeros(given.times.shape, bar.dtype).at[sample, lane, ordered.spike].add(bar)
