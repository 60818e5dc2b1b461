"""Fewer entries in place of many: places that are wanted, spikes that exist, and states that are kept."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spikax._methods._common.arrivals import in_order
from spikax._methods._common.compaction import first_places
from spikax._methods.event_loop.checkpointing import Checkpoints
from spikax._routing import SynapticInput


pytestmark = pytest.mark.modes("float32")


@pytest.mark.parametrize("n", [1, 31, 64, 1000])
def test_the_first_places(n):
    found = jax.jit(first_places, static_argnums=1)
    for share in (0.0, 0.02, 0.5, 1.0):
        wanted = np.random.default_rng(n).uniform(size=(2, 3, n)) < share
        for size in (1, n // 2 + 1, n):
            expected = np.full((2, 3, size), n)
            for row in np.ndindex(2, 3):
                places = np.flatnonzero(wanted[row])[:size]
                expected[row][: len(places)] = places
            np.testing.assert_array_equal(found(wanted, size), expected)


def test_the_spikes_that_exist_are_sorted_whatever_their_number(dtype):
    """With room for many spikes, which are sorted in arrays of several sizes; each lane has its own delays."""
    sources, each, lanes = 40, 60, 3
    rng = np.random.default_rng(0)
    delay = rng.uniform(0.0, 20.0, (sources, lanes)).astype(dtype)
    source = np.repeat(np.arange(sources, dtype=np.int32), each)[None, None]

    @jax.jit
    def ordered(times, delay):
        arrivals = in_order(SynapticInput(jnp.zeros((sources, lanes, 1)), times, source, None, None, delay))
        return arrivals.times, arrivals.spike

    # 100 spikes fit into the smallest array, 600 into the next one; 601 need the whole.
    for spikes in (0, 1, 100, 101, 600, 601, sources * each):
        times = np.full((2, 1, sources * each), np.inf, dtype)
        for row in times:
            row[0, rng.permutation(sources * each)[:spikes]] = rng.uniform(0.0, 50.0, spikes)
        found, spike = ordered(times, delay)
        arriving = times + delay[source[0, 0]].T
        order = np.argsort(arriving, axis=2, kind="stable")[..., :spikes]
        np.testing.assert_array_equal(np.moveaxis(found, 0, 2)[..., :spikes], np.sort(arriving, axis=2)[..., :spikes])
        np.testing.assert_array_equal(np.moveaxis(spike, 0, 2)[..., :spikes], order)
        assert np.all(found[spikes:] == np.inf) and len(found) > sources * each


def test_checkpoints_are_states_not_far_before_each_segment():
    """Whatever the number of segments, half of the places are in use at least, at equal distances."""
    state = jnp.zeros(4)
    checkpoints = Checkpoints.of(state, 4 * 6 * state.nbytes)
    room = len(checkpoints.segments)
    added, before = eqx.filter_jit(Checkpoints.added), eqx.filter_jit(Checkpoints.before)
    for segment in range(9 * room):
        checkpoints = added(checkpoints, jnp.int32(segment), jnp.full(4, segment, float))
        kept = np.sort(checkpoints.segments[checkpoints.is_kept])
        distance = int(checkpoints.stride)
        np.testing.assert_array_equal(kept, np.arange(0, segment + 1, distance))
        assert distance == 1 or len(kept) > room // 2
        for wanted in range(segment + 1):
            state, start = before(checkpoints, jnp.int32(wanted))
            assert int(start) == wanted // distance * distance
            np.testing.assert_array_equal(state, np.full(4, start, np.float32))
