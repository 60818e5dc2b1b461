"""Somata with dendrites: passive trees, and the dendritic calcium action potential."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm

import spikax as sx

from .helpers import assert_all_learn, everything, single_layer
from .test_gradients import assert_exact, graded


# What these neurons do in float32 is what their parts do there; compiling all of them in every mode takes minutes.
pytestmark = pytest.mark.float64

T1 = 60.0


@pytest.fixture(scope="module")
def simulate(dtype):
    """Simulates one neuron under the spikes `times`, of the weights `weight` by port; parameters are arrays."""

    def run(neuron, times, weight, saveat=(), **options):
        neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), neuron)
        network = single_layer(neuron, jax.tree.map(lambda w: np.full((1, 1), w), weight), dtype)
        train = np.pad(np.asarray(times), (0, 3 - len(times)), constant_values=np.inf)
        ts = np.pad(np.asarray(saveat), (0, 8 - len(saveat)), constant_values=T1)
        solution = sx.simulate(
            network,
            sx.Spikes(jnp.asarray(train[None], dtype)),
            T1,
            saveat=jnp.asarray(ts, dtype),
            **({"method": sx.EventLoop(dt0=0.25)} | options),
        )
        spikes = np.asarray(solution.spikes["output"].times[0])
        state = jax.tree.map(lambda leaf: np.asarray(leaf[: len(saveat), 0]), solution.states["output"])
        return spikes[np.isfinite(spikes)], state

    return run


# --- Passive trees ---


def tree(soma):
    """A soma with two dendrites, one of which has two branches; the far ones get input, one of them at once."""
    dendrites = {
        "basal": sx.Dendrite(sx.LI(15.0, 0.1), 0.5, 0.3),
        "trunk": sx.Dendrite(sx.LI(12.0), 0.8, 0.4),
        "left": sx.Dendrite(sx.LI(10.0), 1.2, 0.6, parent="trunk"),
        "right": sx.Dendrite(sx.LI(8.0, -0.1), 0.9, 0.7, parent="trunk"),
    }
    return sx.MultiCompartment(soma, dendrites, {"left": sx.ExpSynapse(5.0), "right": sx.DeltaSynapse()})


def test_a_passive_tree_against_the_matrix_exponential(simulate, accurate):
    """y' = M y with y = (soma, basal, trunk, left, right, current, 1), and jumps at the arrivals."""
    leak = [(20.0, 0.05), (15.0, 0.1), (12.0, 0.0), (10.0, 0.0), (8.0, -0.1)]
    links = [(1, 0, 0.5, 0.3), (2, 0, 0.8, 0.4), (3, 2, 1.2, 0.6), (4, 2, 0.9, 0.7)]
    motion = np.zeros((7, 7))
    for row, (tau, rest) in enumerate(leak):
        motion[row, row], motion[row, 6] = -1.0 / tau, rest / tau
    for child, parent, coupling, pull in links:
        for row, other, strength in ((child, parent, coupling), (parent, child, pull)):
            motion[row, [other, row]] += np.array([strength, -strength]) / leak[row][0]
    motion[3, 5], motion[5, 5] = 1.0 / 10.0, -1.0 / 5.0
    arrivals, weight, ts = [3.0, 9.0], {"left": 2.0, "right": 0.4}, [2.0, 4.0, 9.5, 15.0, 40.0]

    y, t, expected = np.array([0.05, 0.1, 0.0, 0.0, -0.1, 0.0, 1.0]), 0.0, []
    for stop in sorted([*arrivals, *ts]):
        y, t = expm(motion * (stop - t)) @ y, stop
        if stop in arrivals:
            y = y + np.array([0, 0, 0, 0, weight["right"], weight["left"], 0])
        else:
            expected.append(y[:5])

    times, state = simulate(tree(sx.LIF(20.0, 0.05)), arrivals, weight, saveat=ts)
    assert len(times) == 0
    found = [state[name].v for name in ("soma", "basal", "trunk", "left", "right")]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=accurate)
    assert np.ptp(found[0]) > 0.01


def test_silent_compartments_add_no_events():
    """Passive ones none at all, a calcium dendrite its own one, and others their spikes."""
    assert tree(sx.LIF()).internal_events() == ()
    assert len(cell().internal_events()) == 1
    spiking = sx.MultiCompartment(sx.LI(), {"tuft": sx.Dendrite(sx.LIF())}, {"tuft": sx.ExpSynapse()})
    assert len(spiking.internal_events()) == 1


def test_a_dendrite_without_coupling_is_alone(simulate, close):
    """Then the soma is a LIF neuron under constant drive."""
    cell = sx.MultiCompartment(
        sx.LIF(bias=2.0), {"tuft": sx.Dendrite(sx.LI(10.0), 0.0, 0.0)}, {"tuft": sx.ExpSynapse()}
    )
    times, _ = simulate(cell, [3.0], {"tuft": 5.0})
    np.testing.assert_allclose(times, 20.0 * np.log(2.0) * np.arange(1, 5), rtol=4 * close)


def test_the_spike_of_a_dendrite_stays_inside(simulate):
    """An active dendrite is a neuron: its spike resets it, and the cell emits none."""
    cell = sx.MultiCompartment(
        sx.LIF(20.0), {"tuft": sx.Dendrite(sx.LIF(10.0, bias=2.0), 0.0, 0.1)}, {"tuft": sx.ExpSynapse()}
    )
    interval = 10.0 * np.log(2.0)
    times, state = simulate(cell, [], {"tuft": 0.0}, saveat=[interval - 0.01, interval + 0.01, T1])
    assert len(times) == 0
    np.testing.assert_allclose(state["tuft"].v[:2], [1.0, 0.0], atol=5e-3)
    assert state["soma"].v[2] > 0.03


# --- The calcium action potential ---


def dendrite(**parameters):
    return sx.CalciumDendrite(synapse=sx.DeltaSynapse(), **parameters)


def course(t, onset):
    """A - B of an action potential that sets in at `onset`."""
    rise, fall = (t - onset) / 3.0, (t - onset - 21.0) / 0.4
    return 1.0 / (1.0 + 999.0 * np.exp(-rise)) - 1.0 / (1.0 + 999.0 * np.exp(-fall))


def test_the_calcium_action_potential_in_closed_form(simulate):
    """A jump across the threshold starts it; K is read 1 ms later; the membrane is a leaky integral of K (A - B)."""
    start, jump = 4.0, 50.0
    ts = np.array([4.5, 5.5, 15.0, 25.9, 26.1, 27.4, 29.0])
    _, state = simulate(dendrite(), [start], jump, saveat=ts)
    strength = np.exp(-(jump * np.exp(-0.1) - 39.0) / 39.0 / 0.3)
    np.testing.assert_allclose(state.strength, np.where(ts > 5.0, strength, -1.0), rtol=1e-10)
    np.testing.assert_allclose(state.started, start)

    def received(t):
        current, _ = quad(lambda s: np.exp((s - t) / 10.0) * course(s, 5.0), 5.0, max(t, 5.0), epsabs=1e-10, limit=200)
        return 20.0 * strength * current

    expected = -75.0 + jump * np.exp(-(ts - start) / 10.0) + [received(t) for t in ts]
    np.testing.assert_allclose(state.v, expected, atol=1e-5)
    # The number that the literature gives for the peak, 22.4 ms after the rise sets in.
    assert course(27.4, 5.0) == pytest.approx(0.604, abs=2e-3)


def test_the_strength_falls_with_the_input(simulate):
    """And never exceeds one, even where the voltage is below the threshold again when it is read."""
    found = [simulate(dendrite(), [4.0], jump, saveat=[6.0])[1].strength[0] for jump in (38.9, 39.5, 45.0, 80.0)]
    assert found[0] == 0.0 and found[1] == 1.0
    assert 0.8 < found[2] < 1.0 and found[3] < 0.08


def test_a_crossing_in_the_refractory_period_counts_for_nothing(simulate):
    early, late = (
        simulate(dendrite(t_refractory=30.0), [4.0, second], 45.0, saveat=[second + 0.5])[1] for second in (30.0, 50.0)
    )
    np.testing.assert_allclose([early.started[0], late.started[0]], [4.0, 50.0], rtol=1e-6)
    assert early.v[0] > -36.0 and early.strength[0] > 0.0 and late.strength[0] == -1.0


def test_a_dendrite_that_is_above_its_threshold_starts_again_when_it_may(simulate):
    _, state = simulate(dendrite(t_refractory=30.0, bias=60.0), [4.0], 45.0, saveat=[33.9, 34.5, T1])
    np.testing.assert_allclose(state.started, [4.0, 34.0, 34.0], rtol=1e-12)


def cell(soma=None, delay=1.0):
    """A soma and a calcium dendrite, in a hurry."""
    calcium = sx.CalciumDendrite(8.0, -75.0, -36.0, 150.0, 0.4, delay, 6.0, 14.0, 1.0, 0.4, 0.5)
    soma = sx.LIF(15.0, -75.0, -62.0, -77.0, 0.5) if soma is None else soma
    return sx.MultiCompartment(
        soma, {"dendrite": sx.Dendrite(calcium, 0.2, 0.8)}, {"dendrite": sx.ExpSynapse(4.0), "soma": sx.ExpSynapse(3.0)}
    )


@pytest.mark.slow
def test_a_refractory_soma_leaves_its_dendrite_alone(simulate):
    soma = sx.Refractory(sx.LIF(15.0, -75.0, -62.0, -77.0, 0.5), 4.0)
    weight = {"dendrite": 150.0, "soma": 80.0}
    (first, *_), _ = simulate(cell(soma), [2.0], weight)
    times, state = simulate(cell(soma), [2.0], weight, saveat=[first + 1.0, first + 3.0])
    np.testing.assert_array_equal(state["soma"].v, [-77.0, -77.0])
    assert len(times) >= 1 and abs(np.diff(state["dendrite"].v)[0]) > 1.0


@pytest.mark.parametrize(
    "soma",
    [
        pytest.param(
            sx.Refractory(sx.LIF(15.0, -75.0, -62.0, -77.0, 0.5), 1.5, 0.5), id="refractory", marks=pytest.mark.slow
        ),
        pytest.param(sx.LIF(15.0, -75.0, -62.0, -77.0, 0.5), id="lif"),
    ],
)
def test_gradients_of_a_calcium_dendrite(soma):
    """All parameters: those of the dendritic action potential, the couplings, the period of the soma."""
    weight = {"dendrite": (50.0, 100.0), "soma": (5.0, 20.0)}
    network, inputs, _ = everything(cell(soma), weight)
    # When the dendrite is ready again moves nothing.
    network = eqx.tree_at(
        lambda net: net.layers["output"].neuron.dendrites["dendrite"].membrane.t_refractory, network, 14.0
    )
    # The initial state is not varied: a random strength would be one that is still to be read.
    # The gradient is that of the steps, whatever solver takes them: one of two stages compiles fast.
    function, arrays = graded((network, inputs, None), method=sx.EventLoop(diffrax.Heun(), dt0=0.5))
    assert_exact(function, arrays, spikes=1.0)
    # The synapses of the compartments are not used; what arrives at filtered ones is never held.
    idle = [".soma.synapse.tau"] if isinstance(soma, sx.LIF) else [".soma.neuron.synapse.tau", ".soma.held_fraction"]
    assert_all_learn(function, arrays, [*idle, ".dendrites['dendrite'].membrane.synapse.tau"])


@pytest.mark.slow
def test_gradients_of_a_passive_tree():
    weight = {"left": (2.0, 12.0), "right": (0.0, 1.0)}
    function, arrays = graded(
        everything(tree(sx.LIF(20.0, 0.05, 0.3, -0.1, 0.1)), weight), method=sx.EventLoop(dt0=1.0)
    )
    assert_exact(function, arrays, spikes=1.0, most=2)
