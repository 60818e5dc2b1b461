"""The arrivals at a layer in a window of time, selected from all spikes of a simulation.

The cost follows what arrives. Of all spikes, those are selected that may arrive in the window, whatever their delay;
then, for each lane, those that do, in order of time. Only then are times, weights and delays looked up, so that the
derivative has the size of what arrives, too.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..._connection import Synapses
from ..._neuron import AbstractNeuron
from ..._routing import arriving, gains_of, joined_gains, require_trains, silence, SynapticInput, Train
from .._base import Group
from .._common.axes import indices
from .._common.differentiation import found, with_reverse_rule
from .._common.sorting import sorted_rows
from .._common.trees import zeros_like
from .._common.vectorized import most_of_members


class Window(eqx.Module):
    """A time window, open at its start and closed at its end. The first window is closed at both ends."""

    start: Float[Array, "*windows"]
    end: Float[Array, "*windows"]
    after: Float[Array, "*windows"]  # the start, or -inf for the first window


class Pathway(eqx.Module):
    """The spikes of a source on their way through a connection."""

    source: str = eqx.field(static=True)
    first_row: int = eqx.field(static=True)  # of its synapses, in the tables of the target
    outgoing: "Outgoing | None"  # if None, row i holds the synapses of source i with all targets
    has_delay: bool = eqx.field(static=True)
    is_guessed: bool = eqx.field(static=True)  # its source is simulated after its target
    # Whether an arrival follows its spike by at least the rounding error of spike times. Otherwise a guessed spike that
    # is found a little later than it was guessed could influence itself. Where the order of simultaneous spikes
    # matters, this order prevents it.
    is_apart: bool = eqx.field(static=True)
    shortest: Float[Array, ""]
    longest: Float[Array, ""]
    is_under_way: bool = eqx.field(static=True, default=False)  # its spikes come from before the simulation


class Outgoing(eqx.Module):
    """The synapses of each source, for connections without a synapse from every source to every target."""

    synapse: Int[Array, " synapses"]  # row * targets + target, in the order of the sources
    first: Int[Array, " sources"]  # the place of the first synapse of each source
    degree: Int[Array, " sources"]  # the number of its synapses
    targets: int = eqx.field(static=True)

    @classmethod
    def of(cls, synapses: Synapses, sources: int) -> "Outgoing | None":
        """The synapses of a connection by source; None if row i of the weights belongs to source i."""
        if synapses.source is None:
            return None
        exists = jnp.ones(synapses.source.shape, bool) if synapses.exists is None else synapses.exists
        source = jnp.where(exists, synapses.source, sources).ravel()
        order = jnp.argsort(source, stable=True).astype(jnp.int32)
        first = jnp.searchsorted(source[order], indices(sources + 1)).astype(jnp.int32)
        return cls(order, first[:-1], jnp.diff(first), synapses.source.shape[1])

    def row_and_target(self, source: Int[Array, "..."], number: Int[Array, "..."]) -> tuple[Array, Array]:
        """The row and the target of a synapse, given its number among those of its source."""
        synapse = self.synapse.at[self.first[source] + number].get(mode="clip")
        return synapse // self.targets, synapse % self.targets


class SpikeList(eqx.Module):
    """The spikes of a source. All spikes of a row have as many synapses. Most rows are in order of time, or all are."""

    times: Float[Array, "batch rows spikes"]
    channel: Int[Array, "batch rows spikes"] | None  # that emitted it; None for the number of its row
    gains: PyTree[Float[Array, "batch rows spikes"]] | None
    generation: Int[Array, "batch rows spikes"] | None

    @classmethod
    def of(cls, train: Train, neuron: AbstractNeuron, outgoing: Outgoing | None) -> "SpikeList":
        """The spikes of a train, with the factors of their weights at a target."""
        if train.channel is None:
            (gain,) = gains_of(neuron, [train.payload])
            return cls(train.times, None, gain, train.generation)
        batch, events = train.times.shape
        # All channels of a dense connection have one synapse with each target.
        shape = (batch, 1, events) if outgoing is None else (batch, events, 1)
        listed = jax.tree.map(lambda leaf: leaf.reshape(shape), (train.times, train.channel, train.generation))
        return cls(*listed[:2], None, listed[2])

    def in_line(self) -> "SpikeList":
        """The same spikes without rows, one after another: `(batch, rows * spikes)`."""
        return jax.tree.map(lambda leaf: leaf.reshape(len(leaf), -1), self)


class Chosen(eqx.Module):
    """The spikes that arrive in a window, in order of arrival."""

    t: Float[Array, "batch lanes places"]  # of arrival; `inf` in unused places
    spike: Int[Array, "batch lanes places"]  # its index in the concatenated lists of spikes
    row: Int[Array, "batch lanes places"]  # of its synapse, in the tables of the target

    @classmethod
    def of(cls, each: Sequence["Chosen"], places: int) -> tuple["Chosen", Float[Array, " batch"]]:
        """The first arrivals of all in order, and up to when there is room for them: `inf` if there is for all."""
        batch, lanes, _ = each[0].t.shape
        flat = [[leaf.reshape(batch * lanes, -1) for leaf in jax.tree.leaves(part)] for part in each]
        whole = [jnp.concatenate(parts, axis=1) for parts in zip(*flat, strict=True)]
        t, order = sorted_rows(whole[0])
        spike, row = (jnp.take_along_axis(part, order, axis=1) for part in whole[1:])
        ordered = cls(*(part.reshape(batch, lanes, -1) for part in (t, spike, row)))
        if ordered.t.shape[2] <= places:
            return ordered.padded(places), jnp.full(batch, jnp.inf, t.dtype)
        # With room for the spikes of the window itself, and not between simultaneous arrivals.
        last, beyond = ordered.t[:, :, 3 * places // 4], ordered.t[:, :, places]
        until = jnp.where(last < beyond, last, jnp.nextafter(last, -jnp.inf))
        return ordered.padded(places), jnp.min(jnp.where(beyond < jnp.inf, until, jnp.inf), axis=1)

    def padded(self, places: int) -> "Chosen":
        """The first `places`, with unused ones after them."""
        unused = ((0, 0), (0, 0), (0, max(0, places - self.t.shape[2])))
        t = jnp.pad(self.t, unused, constant_values=jnp.inf)
        parts = t, jnp.pad(self.spike, unused), jnp.pad(self.row, unused)
        return Chosen(*(part[:, :, :places] for part in parts))

    @property
    def most(self) -> Int[Array, ""]:
        """The largest number of arrivals in a lane."""
        return jnp.max(jnp.sum(self.t < jnp.inf, axis=2, dtype=jnp.int32))


class Incoming(eqx.Module):
    """The synapses of a layer, in tables with a row for each source, or for a synapse of each target."""

    neuron: AbstractNeuron
    weight: PyTree[Float[Array, "rows units"]]
    delay: Float[Array, "rows lanes"] | None
    is_apart: Bool[Array, " rows"]
    pathways: tuple[Pathway, ...]
    t0: Float[Array, ""]
    t1: Float[Array, ""]
    lanes: int = eqx.field(static=True)  # one for each target if their arrivals differ, else one
    batch: int = eqx.field(static=True)
    places: int = eqx.field(static=True)  # for the arrivals at a neuron in a window
    is_ordered: bool = eqx.field(static=True)

    @classmethod
    def of(cls, group: Group, name: str, numbers: Sequence[int], loops: Sequence[int], places: int) -> "Incoming":
        """The synapses of the connections with these numbers. The spikes of `loops` are guessed."""
        network, plan = group.network, group.layers[name]
        dtype, batch = plan.start.h.dtype, plan.start.h.shape[0]
        times = lax.stop_gradient((group.t0, group.t1))
        pathways, weights, delays, is_apart, row = [], [], [], [], 0
        for number in numbers:
            connection = network.connections[number]
            synapses = connection.synapses()
            if connection.source in group.outside:
                require_trains(connection, synapses, group.outside[connection.source])
            outgoing = Outgoing.of(synapses, connection.shape[0])
            rows, targets = jax.tree.leaves(synapses.weight)[0].shape
            delay = jnp.zeros((rows, 1), dtype) if synapses.delay is None else synapses.delay.astype(dtype)
            delay = delay if outgoing is None else jnp.broadcast_to(delay, (rows, targets))
            ends = lax.stop_gradient((jnp.min(delay), jnp.max(delay)))
            is_guessed = number in loops
            keeps_apart = is_guessed and not group.is_ordered
            how = synapses.delay is not None, is_guessed, keeps_apart
            pathways.append(Pathway(connection.source, row, outgoing, *how, *ends))
            weights.append(jax.tree.map(lambda leaf: leaf.astype(dtype), synapses.weight))
            delays.append(delay)
            is_apart.append(jnp.full(rows, keeps_apart))
            row += rows
        if not pathways:
            silent = silence(network.layers[name], plan.start.h, group.is_ordered)
            apart = jnp.zeros(1, bool)
            return cls(plan.neuron, silent.weight, None, apart, (), *times, 1, batch, 1, group.is_ordered)
        lanes = max(delay.shape[1] for delay in delays)
        delay = jnp.concatenate([jnp.broadcast_to(delay, (delay.shape[0], lanes)) for delay in delays])
        weight = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *weights)
        return cls(
            plan.neuron,
            weight,
            delay if any(pathway.has_delay for pathway in pathways) else None,
            jnp.concatenate(is_apart),
            tuple(pathways),
            *times,
            lanes,
            batch,
            places,
            group.is_ordered,
        )

    def nothing(self) -> Chosen:
        """No arrivals."""
        never = jnp.full((self.batch, self.lanes, 0), jnp.inf, self.t1.dtype)
        return Chosen(never, *(jnp.zeros(never.shape, jnp.int32),) * 2)

    def select(
        self, pathways: Sequence[Pathway], lists: Sequence[SpikeList], known: Chosen, first: int, window: Window
    ) -> tuple[Chosen, Float[Array, " batch"]]:
        """The spikes of some pathways that arrive in a window, with known ones.

        Also returns up to when there is room for all arrivals of a sample: `inf` if there is, `-inf` if that is not
        known. The first spike of the first list has the index `first`.
        """
        to_all, chosen, until = [], known, jnp.full(self.batch, jnp.inf, self.t1.dtype)
        for pathway, spikes in zip(pathways, lists, strict=True):
            listed = _Listed.of(self, pathway, spikes, first, window)
            first += listed.total
            if pathway.outgoing is None:
                to_all.append(listed)
                continue
            chosen, fits_until = self._with_those_from_some(chosen, pathway.outgoing, listed, window)
            until = jnp.minimum(until, fits_until)
        if to_all:
            chosen, fits_until = self._with_those_from_all(chosen, to_all, window)
            until = jnp.minimum(until, fits_until)
        return chosen, until

    def received(self, chosen: Chosen, lists: Sequence[SpikeList]) -> SynapticInput:
        """The arrivals of the chosen spikes, from the lists of all pathways."""
        if not lists:
            never = chosen.padded(1)
            generation = jnp.zeros_like(never.spike) if self.is_ordered else None
            return SynapticInput(self.weight, never.t, never.row, None, generation)
        lines = [spikes.in_line() for spikes in lists]
        times = jnp.concatenate([spikes.times for spikes in lines], axis=1)
        gains = joined_gains([spikes.gains for spikes in lines], [spikes.times for spikes in lines])
        generation = None
        if self.is_ordered:
            came = jnp.concatenate([spikes.generation for spikes in lines], axis=1)
            sample = indices(self.batch)[:, None, None]
            generation = arriving(times[sample, chosen.spike], chosen.t, came[sample, chosen.spike])
        arrival, gains = _looked_up((self.delay, times, gains), chosen)
        return SynapticInput(self.weight, arrival, chosen.row, gains, generation, is_sorted=True)

    def _arrival(self, t: Array, row: Array, lane: Array | int) -> Array:
        """When a spike at the time `t` arrives."""
        delay = 0.0 if self.delay is None else self.delay[row, lane if self.delay.shape[1] > 1 else 0]
        return self.arrival_after(t, delay, self.is_apart[row])

    def rounding(self, t: Array) -> Array:
        """By how much two searches may differ that find the same spike: each has a tolerance of 4 eps."""
        return 8.0 * jnp.finfo(t.dtype).eps * jnp.maximum(jnp.abs(t), jnp.abs(self.t0))

    def arrival_after(self, t: Array, delay: Array | float, is_apart: Array | bool) -> Array:
        rounding = 2.0 * self.rounding(t)
        # Not later than the end of the simulation, where it would be lost.
        apart = jnp.maximum(jnp.minimum(rounding, self.t1 - t) - delay, 0.0)
        return t + delay + lax.stop_gradient(jnp.where(is_apart, apart, 0.0))

    def first_arrival(self, pathway: Pathway, t: Array) -> Array:
        """When a spike at the time `t` arrives at its first target."""
        return self.arrival_after(t, pathway.shortest, pathway.is_apart)

    def _with_those_from_all(
        self, known: Chosen, lists: Sequence["_Listed"], window: Window
    ) -> tuple[Chosen, Float[Array, " batch"]]:
        """Adds the arrivals at all neurons, from sources that reach all of them."""

        def choose(given: _Candidates, known: Chosen) -> tuple[Chosen, Float[Array, " batch"]]:
            row = given.row
            t = self._arrival(given.t[:, None], row[:, None], indices(self.lanes)[:, None])
            # Without a delay the arrivals of all lanes are the same.
            t = jnp.broadcast_to(t, (self.batch, self.lanes, t.shape[2]))
            t = jnp.where((t > given.after[:, None]) & (t <= window.end), t, jnp.inf)
            spike, row = (jnp.broadcast_to(part[:, None], t.shape) for part in (given.spike, row))
            return Chosen.of([known, Chosen(t, spike, row)], self.places)

        most = min(self.places * _AT_ONCE, sum(listed.total for listed in lists))
        return _by_number(lists, known, self.places, most, choose)

    def _with_those_from_some(
        self, known: Chosen, outgoing: Outgoing, listed: "_Listed", window: Window
    ) -> tuple[Chosen, Float[Array, " batch"]]:
        """Adds the arrivals from sources that reach some neurons."""

        def choose(given: _Candidates, known: Chosen) -> tuple[Chosen, Float[Array, " batch"]]:
            row, target = outgoing.row_and_target(given.row - listed.first_row, given.number)
            row = row + listed.first_row
            t = self._arrival(given.t, row, target)
            target = jnp.where((t > given.after) & (t <= window.end), target, self.lanes)
            # Sorted by target and time, they fill the places of each target in turn, after the known arrivals.
            target, t, spike, row = lax.sort((target, t, given.spike, row), num_keys=2)
            first = jax.vmap(lambda row: jnp.searchsorted(row, row, side="left"))(target).astype(jnp.int32)
            place = indices(target.shape[1]) - first
            at = indices(len(t))[:, None], target, place
            shape = len(t), self.lanes, min(self.places, t.shape[1])
            chosen = [jnp.full(shape, jnp.inf, t.dtype), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32)]
            chosen = [old.at[at].set(new, mode="drop") for old, new in zip(chosen, (t, spike, row), strict=True)]
            is_over = jnp.any((target < self.lanes) & (place >= self.places), axis=1)
            chosen, until = Chosen.of([known, Chosen(*chosen)], self.places)
            return chosen, jnp.where(is_over, -jnp.inf, until)

        total = len(outgoing.synapse) * (listed.total // len(outgoing.degree))
        most = min(self.places * self.lanes * _AT_ONCE, total)
        return _by_number([listed], known, self.places, most, choose)


def _looked_up(
    smooth: tuple[Array | None, Array, PyTree[Array]], chosen: Chosen
) -> tuple[Float[Array, "batch lanes places"], PyTree[Float[Array, "batch lanes places"]]]:
    """The times and the gains of the chosen arrivals, differentiable in the delays, the spike times and their gains.

    The cotangents are added up in pieces, as many as hold arrivals: a place without arrival would cost as much.
    """
    sample, lane = indices(chosen.t.shape[0])[:, None, None], indices(chosen.t.shape[1])[:, None]

    def look_up(given):
        (_, _, gains), chosen = given
        return chosen.t, jax.tree.map(lambda leaf: leaf[sample, chosen.spike], gains)

    def known(given, result):
        (delay, times, _), chosen = given
        t = times[sample, chosen.spike]
        if delay is not None:
            t = t + delay[chosen.row, lane if delay.shape[1] > 1 else 0]
        _, gains = look_up(given)
        return jnp.where(chosen.t < jnp.inf, t, jnp.inf), gains

    def forward(smooth, chosen):
        return found(look_up, known)((smooth, chosen)), None

    def backward(smooth, chosen, _, bar):
        length = min(_PIECE, chosen.t.shape[2])
        pieces = most_of_members(-(-chosen.most // length))

        def piece(carry):
            i, smooth_bar = carry
            # The last piece starts earlier, to lie inside. What it holds twice counts once.
            first = jnp.minimum(i * length, chosen.t.shape[2] - length)

            def part(leaf):
                return lax.dynamic_slice_in_dim(leaf, first, length, axis=2)

            here, (t_bar, gains_bar) = jax.tree.map(part, chosen), jax.tree.map(part, bar)
            counts = (here.t < jnp.inf) & (first + indices(length) >= i * length)
            spike = sample, jnp.where(counts, here.spike, smooth[1].shape[1])

            def added(total, at, more):
                return total.at[at].add(jnp.where(counts, more, 0.0), mode="drop")

            delay_bar, times_bar, all_gains_bar = smooth_bar
            if delay_bar is not None:
                delay_bar = added(delay_bar, (here.row, lane if delay_bar.shape[1] > 1 else 0), t_bar)
            gains_bar = jax.tree.map(lambda total, more: added(total, spike, more), all_gains_bar, gains_bar)
            return i + 1, (delay_bar, added(times_bar, spike, t_bar), gains_bar)

        start = jnp.int32(0), zeros_like(smooth)
        return lax.while_loop(lambda carry: carry[0] < pieces, piece, start)[1]

    return with_reverse_rule(forward, backward)(smooth, chosen)


# The number of places in a piece.
_PIECE = 64

# The number of candidates for each place that are looked at together.
_AT_ONCE = 4


class _Listed(eqx.Module):
    """A list of spikes, and in each row those that may arrive, from the first to the last."""

    spikes: SpikeList
    first_row: int = eqx.field(static=True)  # of the synapses
    first_spike: int = eqx.field(static=True)  # the index of the first spike of the list
    start: Int[Array, "batch rows"]  # the number of the first spike in its row
    number: Int[Array, "batch rows"]  # of spikes
    each: Int[Array, "batch rows"]  # the number of candidates for each spike
    after: Float[Array, ""]  # a spike counts if it arrives later

    @classmethod
    def of(cls, incoming: Incoming, pathway: Pathway, spikes: SpikeList, first_spike: int, window: Window) -> "_Listed":
        """The spikes of a pathway. Of these, some between the first and the last may not arrive."""
        after = window.start if pathway.is_under_way else window.after
        last = incoming.arrival_after(spikes.times, pathway.longest, pathway.is_apart)
        may_arrive = (last > after) & (incoming.first_arrival(pathway, spikes.times) <= window.end)
        # Most rows are in order, but no spike may be lost in a row that is not.
        place, k = indices(spikes.times.shape[2]), spikes.times.shape[2]
        start = jnp.min(jnp.where(may_arrive, place, k), axis=2)
        number = jnp.maximum(jnp.max(jnp.where(may_arrive, place + 1, 0), axis=2) - start, 0)
        each = jnp.ones_like(number)
        if pathway.outgoing is not None:
            channel = indices(number.shape[1]) if spikes.channel is None else spikes.channel[..., 0]
            each = jnp.broadcast_to(pathway.outgoing.degree[channel], number.shape)
        return cls(spikes, pathway.first_row, first_spike, start, number, each, after)

    @property
    def total(self) -> int:
        """The number of places for the spikes of a sample."""
        return self.spikes.times.shape[1] * self.spikes.times.shape[2]

    def candidates(self, row: Int[Array, "batch candidates"], number: Int[Array, "batch candidates"]) -> "_Candidates":
        """The candidates with these numbers in their rows."""

        def at(leaf, place):
            return jnp.take_along_axis(leaf, place, axis=1, mode="clip")

        each, line = at(self.each, row), self.spikes.in_line()
        place = row * self.spikes.times.shape[2] + at(self.start, row) + number // each
        channel = row if line.channel is None else at(line.channel, place)
        after = jnp.broadcast_to(self.after, row.shape)
        return _Candidates(
            at(line.times, place), self.first_row + channel, self.first_spike + place, number % each, after
        )


class _Candidates(eqx.Module):
    """What may arrive: a spike, or one of its outgoing synapses, whose number it has."""

    t: Float[Array, "batch candidates"]  # of the spike
    row: Int[Array, "batch candidates"]  # of the synapses of its source
    spike: Int[Array, "batch candidates"]  # its index
    number: Int[Array, "batch candidates"]
    after: Float[Array, "batch candidates"]  # it counts if it arrives later

    @classmethod
    def of(
        cls, lists: Sequence[_Listed], so_far: Int[Array, "batch rows"], number: Int[Array, " candidates"]
    ) -> "_Candidates":
        """The candidates with these numbers, of all lists. There are `so_far` up to each row."""
        number = jnp.broadcast_to(number, (len(so_far), *number.shape))
        row = jax.vmap(lambda so_far, number: jnp.searchsorted(so_far, number, side="right"))(so_far, number)
        row = row.astype(jnp.int32)
        before = jnp.pad(so_far, ((0, 0), (1, 0)))
        number = number - jnp.take_along_axis(before, row, axis=1)
        t = lists[0].spikes.times
        none, first = jnp.zeros_like(row), 0
        found = cls(jnp.full(row.shape, jnp.inf, t.dtype), none, none, none, jnp.zeros(row.shape, t.dtype))
        for listed in lists:
            rows = listed.number.shape[1]
            own = listed.candidates(jnp.clip(row - first, 0, rows - 1), number)
            is_own = (row >= first) & (row < first + rows)
            found = jax.tree.map(lambda own, others, is_own=is_own: jnp.where(is_own, own, others), own, found)
            first += rows
        return found


def _by_number(
    lists: Sequence[_Listed], known: Chosen, places: int, most: int, choose: Callable
) -> tuple[Chosen, Float[Array, " batch"]]:
    """`choose(candidates, known)`, compiled for a few numbers of both, up to `most`. More candidates come in turns."""
    each = jnp.concatenate([listed.number * listed.each for listed in lists], axis=1)
    so_far = jnp.cumsum(each, axis=1, dtype=jnp.int32)
    # In floats, since integers may overflow.
    is_over = jnp.any(jnp.sum(each.astype(jnp.float32), axis=1) > 2.0**30)
    total = jnp.max(so_far[:, -1])
    sizes = [64 * 4**i for i in range(16) if 2 * 64 * 4**i < most]

    def unchanged(lists, known, so_far):
        return known.padded(places), jnp.full(len(so_far), jnp.inf, known.t.dtype)

    def of_size(size):
        def branch(lists, known, so_far):
            return choose(_Candidates.of(lists, so_far, indices(size)), known.padded(min(size, known.t.shape[2])))

        return branch

    def in_turns(lists, known, so_far):
        def turn(carry):
            first, chosen, until = carry
            chosen, fits_until = choose(_Candidates.of(lists, so_far, first + indices(most)), chosen)
            return first + most, chosen, jnp.minimum(until, fits_until)

        start = jnp.int32(0), *unchanged(lists, known, so_far)
        total = most_of_members(jnp.max(so_far[:, -1]))
        return lax.while_loop(lambda carry: carry[0] < total, turn, start)[1:]

    needed = jnp.maximum(total, jnp.where(total > 0, known.most, 0))
    choice = jnp.sum(needed > jnp.asarray([0, *sizes], jnp.int32), dtype=jnp.int32)
    choice = most_of_members(jnp.where(is_over, 0, choice))
    chosen, until = lax.switch(choice, [unchanged, *map(of_size, sizes), in_turns], lists, known, so_far)
    return chosen, jnp.where(is_over, -jnp.inf, until)
