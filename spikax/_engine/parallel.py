"""Linear neurons, parallel in time: all arrivals of a block at once, one pass per own spike, and the derivative of it.

Without its own spikes a linear neuron moves freely: its state at all knots (the arrivals, and the start of the block)
is a linear recurrence. A spike at T adds a change that moves on by itself,

    v(t) = v_free(t) + exp(A (t - T)) change,      change = reset(v(T)) - v_free(T),

with the matrix A of the membrane, the number -rate where there is one variable.

Blocks bound the memory; the run ends with the last one that holds arrivals. The derivative walks the blocks backwards.
Each is computed again as a differentiable map, in which the spikes are known: nothing of their search is repeated.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._checks import known
from .._neuron import AbstractNeuron, is_plain, stops_at_arrivals
from .._synapse import initial_filters, is_synapse
from .adjoint import Inputs
from .affine import Affine, is_affine
from .arrivals import Arrivals, in_order
from .bounds import Bounds, reach_of
from .knots import Block, Edge, free_motion, Knots
from .linear import Linear
from .motion import AbstractFinder, AbstractMotion
from .passes import is_wanted, Record, search, Searcher
from .peaks import Peaks
from .replay import replay
from .reverse import with_reverse_rule
from .some import All
from .units import cast, indices, over_units


def suits(neuron: AbstractNeuron) -> bool:
    """Whether neurons of this kind can be simulated so."""
    return neuron.is_linear and not neuron.internal_events() and not stops_at_arrivals(neuron) and is_plain(neuron)


def has_closed_form(neuron: AbstractNeuron) -> bool:
    """Whether neurons of this kind have one variable and one filter; parameters are as in `pieces`."""
    return is_affine(*eqx.filter_eval_shape(_started, neuron, jnp.float32))


def pieces(neuron: AbstractNeuron, duration: float | None, dtype: Any) -> int:
    """Into how many pieces the time is cut: none where there is a closed form, else about as short as bounds reach.

    Parameters of the neuron have the shape `()`, or one value for every neuron.
    """
    if has_closed_form(neuron):
        return 0
    is_traced = any(known(leaf) is None for leaf in jax.tree.leaves(eqx.filter(neuron, eqx.is_array)))
    if is_traced or duration is None:
        # Nothing is known, and any number will do.
        return 32
    # The number is needed now, also inside of a `jit` around the whole simulation.
    with jax.ensure_compile_time_eval():
        reach = float(_shortest_reach(neuron, dtype))
    # Sixteen at a time, so that another duration seldom compiles anew; the margin is for rounding.
    return 16 * math.ceil(1.01 * duration / reach / 16)


@eqx.filter_jit
def _shortest_reach(neuron: AbstractNeuron, dtype: Any) -> Array:
    """How far the bounds reach, for the quickest neuron."""
    placed, state, _ = _started(neuron, dtype)
    zero = jnp.zeros((), dtype)
    weight = jax.tree.map(lambda _: zero, neuron.synapse, is_leaf=is_synapse)
    return jnp.min(reach_of(Linear.of(placed, state, weight, zero)))


def _started(neuron: AbstractNeuron, dtype: Any) -> tuple[AbstractNeuron, PyTree[Array], PyTree[Array]]:
    """The neurons of a layer, or one where all are equal, and how they start, with the axes of the engine."""
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    parameters = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, parameters)
    size = max((leaf.shape[0] for leaf in jax.tree.leaves(parameters) if leaf.ndim), default=1)
    placed = eqx.combine(jax.tree.map(lambda leaf: leaf[None, :, None] if leaf.ndim else leaf, parameters), rest)

    def start(neuron, zero):
        weight = jax.tree.map(lambda _: zero, neuron.synapse, is_leaf=is_synapse)
        return cast((neuron.initial_state(), initial_filters(neuron.synapse, weight)), dtype)

    return placed, *over_units(start, placed, jnp.zeros((1, size, 1), dtype))


class Given(eqx.Module):
    """What the spikes of a layer of linear neurons depend on; parameters and states have the axes of the engine."""

    neuron: AbstractNeuron
    kind: type[AbstractMotion] = eqx.field(static=True)
    finder: type[AbstractFinder] = eqx.field(static=True)
    weight: PyTree[Float[Array, "sources units"]]
    times: Float[Array, "batch lanes spikes"]
    source: Int[Array, "samples spikes"]
    state: PyTree[Array]
    filters: PyTree[Array]
    t0: Float[Array, ""]
    t1: Float[Array, ""]

    @classmethod
    def of(cls, inputs: Inputs) -> "Given":
        """In closed form where there is one."""
        neuron, start = inputs.neuron, (inputs.start.state, inputs.start.filters)
        ways = (Affine, Peaks) if is_affine(neuron, *start) else (Linear, Bounds)
        weight = jax.tree.map(lambda leaf: leaf[..., 0], inputs.weight)
        return cls(neuron, *ways, weight, inputs.times, inputs.source, *start, inputs.t0, inputs.t1)

    def begin(self) -> tuple[AbstractMotion, Edge]:
        """The neurons, and where they stand at `t0`."""
        motion = self.kind.of(self.neuron, self.state, self.weight, self.t0)
        v, x = self.kind.pack(self.state, self.filters)
        return motion, Edge(jnp.full(self.times.shape[:2], self.t0), v, x)

    @property
    def sources(self) -> int:
        return jax.tree.leaves(self.weight)[0].shape[0]


class Limits(eqx.Module):
    """How far a simulation goes."""

    max_spikes: int = eqx.field(static=True)  # that are recorded, of each neuron
    quota: int = eqx.field(static=True)  # after which a neuron is left alone
    pieces: int = eqx.field(static=True)  # into which further knots cut the time; none with 0


class Found(eqx.Module):
    """The spikes of a layer of linear neurons, and their states at the times that were asked for."""

    times: Float[Array, "spikes batch units"]
    end: tuple[PyTree[Array], PyTree[Array]]  # the states and the filters
    saved: tuple[PyTree[Array], PyTree[Array]] | None  # the same at the times `ts`, on their first axis
    count: Int[Array, "batch units"]
    finite: Bool[Array, "batch units"]
    passes: Int[Array, ""]


def find_spikes(given: Given, limits: Limits, ts: Float[Array, " ts"] | None) -> Found:
    """Simulates the neurons of a layer."""
    found = _find(given, limits, ts)
    like = given.state, given.filters
    end, saved = (None if pair is None else given.kind.unpack(*pair, *like) for pair in (found.end, found.saved))
    return Found(found.times, end, saved, found.count, found.finite, found.passes)


def _find(given: Given, limits: Limits, ts: Float[Array, " ts"] | None) -> Found:
    """The same, with v and x in place of states and filters."""
    floats, rest = eqx.partition((given, ts), eqx.is_inexact_array)
    others, static = eqx.partition(rest, eqx.is_array)

    def unpack(floats, others):
        return eqx.combine(floats, others, static)

    def run(floats, others):
        return _run(*unpack(floats, others), limits)

    def found(floats, others):
        return run(floats, others)[0].found()

    def forward(floats, others):
        end, arrivals = run(floats, others)
        return end.found(), (floats, others, end, arrivals)

    def backward(residual, cotangent):
        floats, others, end, arrivals = residual
        bar = _walk_back(*unpack(floats, others), end, arrivals, cotangent)
        return eqx.filter(bar, eqx.is_inexact_array), None

    return with_reverse_rule(found, forward, backward)(floats, others)


class _Arrivals(eqx.Module):
    """All arrivals in order, in blocks. What comes after `t1`, and padding, stands at `t1` and has no source."""

    times: Float[Array, "blocks arrivals batch lanes"]
    source: Int[Array, "blocks arrivals batch lanes"]
    needed: Int[Array, ""]  # so many blocks hold arrivals, and one that leads to `t1`
    ordered: Arrivals  # as they came

    @classmethod
    def of(cls, given: Given, pieces: int, width: int) -> "_Arrivals":
        times, source = _with_pieces(given, pieces)
        length = _block_length(given, times.shape[2] + 1, width)
        ordered = in_order(times, source)
        batch, lanes, total = ordered.times.shape
        padding = ((0, 0), (0, 0), (0, -total % length))
        times = jnp.pad(ordered.times, padding, constant_values=jnp.inf)
        arrives = times <= given.t1
        known = jnp.broadcast_to(source[:, None], ordered.spike.shape[:2] + source.shape[1:])
        source = jnp.take_along_axis(known, jnp.pad(ordered.spike, padding), axis=2)
        source = jnp.where(arrives, source, given.sources)
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
        finite = [jnp.all(jnp.isfinite(part), axis=range(part.ndim - 2)) for part in (edge.v, edge.x)]
        return Found(self.record.t, (edge.v, edge.x), self.saved, self.count, finite[0] & finite[1], self.passes)


def _with_pieces(given: Given, pieces: int) -> tuple[Array, Array]:
    """The times of all spikes of the sources, and of arrivals without source that cut the time into equal pieces."""
    if pieces == 0:
        return given.times, given.source
    inner = given.t0 + (given.t1 - given.t0) * jnp.arange(1, pieces, dtype=given.t0.dtype) / pieces
    cuts = jnp.broadcast_to(inner, (*given.times.shape[:2], pieces - 1))
    nobody = jnp.full((given.source.shape[0], pieces - 1), given.sources, jnp.int32)
    return jnp.concatenate([given.times, cuts], axis=2), jnp.concatenate([given.source, nobody], axis=1)


def _block_length(given: Given, arrivals: int, width: int) -> int:
    """How many arrivals a block has: few enough for its arrays to stay in the cache."""
    numbers = given.times.shape[0] * jax.tree.leaves(given.weight)[0].shape[1] * width
    return min(arrivals, max(8, min(64, 2**19 // numbers)))


def _block(
    motion: AbstractMotion, edge: Edge, weight: PyTree[Array], times: Array, source: Array, hears: Array | bool = True
) -> Block:
    """The free motion in a block; what arrives counts for the units that `hears` tells."""

    def arriving(weight):
        unit = () if source.shape[2] == 1 else (indices(weight.shape[1]),)
        which = source if unit else source[..., 0]
        return jnp.where(hears, weight.at[(which, *unit)].get(mode="fill", fill_value=0.0), 0.0)

    return free_motion(motion, edge, jnp.concatenate([edge.t[None], times]), jax.tree.map(arriving, weight))


def _run(given: Given, ts: Array | None, limits: Limits) -> tuple[_Run, _Arrivals]:
    motion, edge = given.begin()
    arrivals = _Arrivals.of(given, limits.pieces, motion.width)
    finder = given.finder.of(motion)
    total, length, *_ = arrivals.times.shape
    shape = edge.v.shape[-2:]
    neurons = math.prod(shape)
    if total * length > 16:
        # In a block few neurons spike. A group is small, for its motion to stay in the cache, but not of very many.
        look, group = given.finder.may_cross, max(64, 2**15 // (length * motion.width), neurons // 16)
    else:
        # All spike soon. The bound is loose, and passes for what it takes for a crossing cost more than it saves.
        look, group = given.finder.crosses, neurons

    def goes_on(run: _Run) -> Array:
        return (run.block < arrivals.needed) & jnp.any(is_wanted(run.count, limits.quota))

    def one_block(run: _Run) -> _Run:
        i = run.block
        block = _block(motion, run.edge, given.weight, arrivals.times[i], arrivals.source[i])
        knots = block.knots
        end = search(Searcher(All(), motion, finder, block, limits.quota, look), group, run.count, run.record)
        after = end.seekers
        saved = run.saved
        if saved is not None:
            parts = _saved_in(motion, knots, end.record, run.count, after.count, ts, i == arrivals.needed - 1)
            saved = jax.tree.map(jnp.add, saved, parts)
        edges = jax.tree.map(lambda rows, row: rows.at[i].set(row), run.edges, run.edge)
        counts = run.counts.at[i].set(run.count)
        edge = knots.leave(motion, after.change)
        return _Run(i + 1, run.passes + end.passes, edge, after.count, end.record, edges, counts, saved)

    rows = jax.tree.map(lambda leaf: jnp.zeros((total, *leaf.shape), leaf.dtype), (edge, jnp.zeros(shape, jnp.int32)))
    saved = None if ts is None else tuple(jnp.zeros((len(ts), *z.shape), z.dtype) for z in (edge.v, edge.x))
    record = Record.empty(limits.max_spikes, edge.v)
    start = _Run(jnp.int32(0), jnp.int32(0), edge, jnp.zeros(shape, jnp.int32), record, *rows, saved)
    return lax.while_loop(goes_on, one_block, start), arrivals


def _saved_in(
    motion: AbstractMotion, knots: Knots, record: Record, first: Array, after: Array, ts: Array, is_last: Array
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
        v, x = knots.at(place).free(motion, t)
        return jnp.where(inside, v + change.at(motion, t), 0.0), jnp.where(inside, x, 0.0)

    return jax.vmap(at)(ts)


class _Walk(eqx.Module):
    """The walk back through the blocks, with the cotangents gathered so far."""

    block: Int[Array, ""]
    after: Int[Array, "batch units"]  # the number of spikes up to the end of the block
    edge: Edge
    floats: PyTree[Array]  # of the neurons, the weights and the times to save
    times: Float[Array, "blocks arrivals batch lanes"]


def _walk_back(
    given: Given, ts: Array | None, end: _Run, arrivals: _Arrivals, bar: Found
) -> tuple[Given, Float[Array, " ts"] | None]:
    """The cotangents of `given` and `ts`, from those of the spike times, of the end, and of the saved states."""
    (motion, edge), pull_start = eqx.filter_vjp(Given.begin, given)
    # Those that are not finite in the end have failed. Zero times infinity would be NaN, and reach sums that all share:
    # here they rest at zero, nothing arrives at them, and they have not spiked.
    finite = end.found().finite
    edges = jax.tree.map(lambda rows: jnp.where(finite, rows, 0.0), (end.edges.v, end.edges.x))
    counts, count = (jnp.where(finite, part, 0) for part in (end.counts, end.count))
    floats, static = eqx.partition((motion, given.weight, ts), eqx.is_inexact_array)

    def one_block(walk: _Walk) -> _Walk:
        i = walk.block - 1
        edge, first = Edge(end.edges.t[i], *(rows[i] for rows in edges)), counts[i]

        def block(floats, edge, times):
            motion, weight, ts = eqx.combine(floats, static)
            knots = _block(motion, edge, weight, times, arrivals.source[i], finite).knots
            record = replay(motion, knots, end.record, first, walk.after)
            change = record.change(walk.after - 1, first, knots.start(first.shape))
            is_last = i == arrivals.needed - 1
            saved = None if ts is None else _saved_in(motion, knots, record, first, walk.after, ts, is_last)
            return knots.leave(motion, change), record.t, saved

        _, pull = jax.vjp(block, floats, edge, arrivals.times[i])
        floats_bar, edge_bar, times_bar = pull((walk.edge, bar.times, bar.saved))
        sums = jax.tree.map(jnp.add, walk.floats, floats_bar)
        return _Walk(i, first, edge_bar, sums, walk.times.at[i].set(times_bar))

    floats_bar, times_bar = jax.tree.map(jnp.zeros_like, (floats, arrivals.times))
    edge_bar = Edge(jnp.zeros_like(edge.t), *(jnp.where(finite, part, 0.0) for part in bar.end))
    walk = _Walk(end.block, count, edge_bar, floats_bar, times_bar)
    walk = lax.while_loop(lambda walk: walk.block > 0, one_block, walk)
    motion_bar, weight_bar, ts_bar = walk.floats
    (start_bar,) = pull_start((motion_bar, walk.edge))
    times_bar = _unsorted(given, arrivals.ordered, walk.times)
    here = start_bar.neuron, given.kind, given.finder, weight_bar, times_bar, given.source
    return Given(*here, start_bar.state, start_bar.filters, start_bar.t0, jnp.zeros_like(given.t1)), ts_bar


def _unsorted(
    given: Given, ordered: Arrivals, bar: Float[Array, "blocks arrivals batch lanes"]
) -> Float[Array, "batch lanes spikes"]:
    """The cotangent of the spike times of the sources, from that of the arrivals in order."""
    batch, lanes, total = ordered.times.shape
    bar = jnp.transpose(bar, (2, 3, 0, 1)).reshape(batch, lanes, -1)[..., :total]
    bar = jnp.where(ordered.times <= given.t1, bar, 0.0)
    sample, lane = indices(batch)[:, None, None], indices(lanes)[None, :, None]
    # Arrivals without source come after the spikes.
    return jnp.zeros(given.times.shape, bar.dtype).at[sample, lane, ordered.spike].add(bar, mode="drop")
