"""What parameters must be: declared with the fields, checked where a neuron is made, and in every simulation."""

import dataclasses
import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import learning


# What is invalid depends on no float type; that the values are compared in the float type of the network, it does.
pytestmark = pytest.mark.modes("float32", "mixed")

PORTS = {"exc": sx.ExpSynapse(), "inh": sx.AlphaSynapse()}
NEURONS = {
    "AdEx": sx.AdEx(),
    "ALIF": sx.ALIF(),
    "CalciumDendrite": sx.CalciumDendrite(),
    "ConductanceBased": sx.ConductanceBased(sx.LIF(synapse=PORTS), {"exc": 4.0, "inh": -0.5}),
    "EGRU": sx.EGRU(),
    "EIF": sx.EIF(),
    "EquationNeuron": sx.neuron_from_equations(
        "dv/dt = I - rate * v : 1", threshold="v > high", reset="v = 0", parameters={"rate": 0.1, "high": 1.0}
    ),
    "FilteredBias": sx.FilteredBias(sx.LIF(synapse=sx.FilteredHoldSynapse())),
    "HodgkinHuxley": sx.HodgkinHuxley(),
    "IF": sx.IF(),
    "Integrator": sx.Integrator(),
    "Izhikevich": sx.Izhikevich(),
    "LI": sx.LI(synapse=sx.AlphaSynapse()),
    "LIF": sx.LIF(),
    "MorrisLecar": sx.MorrisLecar(),
    "MultiCompartment": sx.MultiCompartment(
        sx.LIF(), {"a": sx.Dendrite(sx.LI())}, {"soma": sx.ExpSynapse(), "a": sx.AlphaSynapse()}
    ),
    "QIF": sx.QIF(),
    "Refractory": sx.Refractory(sx.LIF(synapse=sx.DeltaSynapse()), held_fraction=0.5),
    "ResonateAndFire": sx.ResonateAndFire(),
    "SingleSpike": sx.SingleSpike(sx.LIF()),
    "Threshold": sx.Threshold(sx.LI()),
}
INPUTS = jnp.asarray([[[1.0, 3.0]]])


def test_no_public_neuron_is_forgotten():
    kinds = {name for name, kind in vars(sx).items() if isinstance(kind, type) and issubclass(kind, sx.AbstractNeuron)}
    assert set(NEURONS) == kinds - {"AbstractNeuron", "FunctionNeuron", "SilentNeuron"}


def network_of(neuron, dtype):
    ports = jax.tree.structure(neuron.synapse, is_leaf=lambda node: isinstance(node, sx.AbstractSynapse))
    weight = ports.unflatten([jnp.ones((1, 2), dtype)] * ports.num_leaves)
    return sx.sequential(1, sx.Layer(learning(neuron, 2, dtype), 2, weights=weight), key=jax.random.key(0))


@eqx.filter_jit
def is_invalid(network):
    """Of all samples."""
    options = {"method": sx.EventLoop(diffrax.Heun(), dt0=1.0)}  # two stages compile fast
    solution = sx.simulate(network, sx.Spikes(INPUTS.astype(network.dtype)), 4.0, throw=False, **options)
    return jnp.all(solution.result == sx.RESULTS.invalid_parameters)


def checked(tree):
    """What the constructors of all modules in the tree would say."""
    if isinstance(tree, eqx.Module):
        for kind in type(tree).__mro__:
            if "__check_init__" in vars(kind):
                vars(kind)["__check_init__"](tree)
    for child in jax.tree.leaves(tree, is_leaf=lambda child: child is not tree):
        if child is not tree:
            checked(child)


def is_refused(tree):
    try:
        checked(tree)
    except ValueError:
        return True
    return False


def moved(tree, number, value):
    """The tree with one entry of a leaf replaced."""
    leaves, structure = jax.tree.flatten(tree)
    leaves[number] = leaves[number].at[(0,) * leaves[number].ndim].set(value)
    return structure.unflatten(leaves)


@pytest.mark.parametrize("kind", NEURONS)
def test_every_parameter_of_every_neuron(kind, dtype):
    """A simulation and the constructors agree on what is valid; NaN and infinity never are."""
    network = network_of(NEURONS[kind], dtype)
    neuron = network.layers["output"].neuron
    assert not is_invalid(network)
    refused = {}
    for number, (path, _) in enumerate(jax.tree.leaves_with_path(neuron)):
        for value in (-1.0, 0.0, np.inf, np.nan):
            wrong = moved(neuron, number, value)
            found = bool(is_invalid(eqx.tree_at(lambda n: n.layers["output"].neuron, network, wrong)))
            assert found == is_refused(wrong), (path, value)
            refused[jax.tree_util.keystr(path), value] = found
    for (path, value), found in refused.items():
        assert found or np.isfinite(value), path
        assert found or not ("tau" in path and value <= 0.0), path


def wired(dtype):
    """A network with a connection of each kind, of which all weights and delays learn."""
    one = functools.partial(jnp.ones, dtype=dtype)
    connections = [
        sx.Dense("input", "a", one((4, 4)), one((4, 4))),
        sx.OneToOne("input", "a", one(4), one(4)),
        sx.Sparse("input", "a", [0, 1], [1, 0], one(2), shape=(4, 4), delay=one(2)),
        sx.Conv("input", "a", one((1, 1, 1, 1)), image=(2, 2), delay=one(())),
        sx.Rectangular(sx.OneToOne("input", "a", one(4), one(4)), one(())),
    ]
    return sx.Network({"a": sx.Layer(sx.LI(), 4), "b": sx.Layer(sx.LI(), 1)}, connections, 4, "a")


def test_every_connection(dtype):
    network, inputs = wired(dtype), sx.Spikes(jnp.ones((2, 4, 1), dtype))

    @eqx.filter_jit
    def results(network):
        return sx.simulate(network, inputs, 4.0, throw=False).results

    def invalid(network):
        return {name: np.asarray(r == sx.RESULTS.invalid_parameters).tolist() for name, r in results(network).items()}

    assert invalid(network) == {"a": [False] * 2, "b": [False] * 2}
    for number, (path, leaf) in enumerate(jax.tree.leaves_with_path(network)):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        is_delay = "delay" in jax.tree_util.keystr(path)
        for value, expected in ((-1.0, is_delay), (0.0, False), (np.inf, True), (np.nan, True)):
            found = invalid(moved(network, number, value))
            assert found == {"a": [expected] * 2, "b": [False] * 2}, (path, value)


@pytest.mark.parametrize(
    "where, value, message",
    [
        (lambda n: n.layers["b"].neuron.tau_mem, -3.0, "Layer `b`: `neuron.tau_mem` must be positive and finite.*sx.P"),
        (lambda n: n.layers["b"].neuron.v_reset, 2.0, "Layer `b`: `neuron.v_reset` must be below `v_threshold` and fi"),
        (lambda n: n.layers["b"].neuron.synapse.tau.log, 1e3, "Layer `b`: `neuron.synapse.tau` must be positive and"),
        (lambda n: n.connections[0].weight.log, 1e3, r"Layer `a`: `connections\[0\].weight` must be finite"),
        (lambda n: n.connections[1].delay, -1.0, r"Layer `b`: `connections\[1\].delay` must be at least 0 and finite"),
        (lambda n: n.layers["a"].neuron.parameters["tau"], np.nan, r"`a`: `neuron.parameters\['tau'\]` .* free of NaN"),
        (lambda n: n.layers["a"].neuron.parameters["scale"], np.nan, r"`neuron.parameters\['scale'\]` .* free of NaN"),
    ],
)
def test_the_error_names_the_parameter(where, value, message, dtype):
    """An array or a constant; of parameters in a form of their own, the value."""
    network = plain_and_declared(dtype)
    value = jnp.full_like(where(network), value) if eqx.is_array(where(network)) else value
    wrong = eqx.tree_at(where, network, value)
    with pytest.raises(RuntimeError, match=f"(?s){message}"):
        jax.block_until_ready(simulated(wrong))


@functools.cache
def plain_and_declared(dtype):
    written = sx.neuron_from(
        initial_state=0.0,
        dynamics=lambda t, v, drive, p: (p["scale"] * drive - v) / p["tau"],
        spike_condition=lambda t, v, p: v - 1.0,
        reset=lambda t, v, p: 0.0,
        parameters={"tau": jnp.asarray(20.0, dtype), "scale": 1.0},
    )
    tau, reset = jnp.asarray([20.0, 10.0], dtype), jnp.asarray(0.0, dtype)
    declared = sx.LIF(tau, v_reset=reset, synapse=sx.ExpSynapse(sx.Positive(tau)))
    weight = jnp.ones((2, 2), dtype)
    connections = [
        sx.Dense("input", "a", sx.Signed(weight, 1)),
        sx.Dense("a", "b", weight, delay=jnp.asarray(1.0, dtype)),
    ]
    return sx.Network({"a": sx.Layer(written, 2), "b": sx.Layer(declared, 2)}, connections, 2, "b")


def simulated(network):
    return sx.simulate(
        network, sx.Spikes(jnp.ones((2, 1), network.dtype)), 4.0, method=sx.EventLoop(diffrax.Heun(), dt0=1.0)
    ).spikes


@pytest.mark.modes("float32")
def test_nothing_is_simulated(dtype):
    """With any method: no neuron spikes, and the states stay as they start."""
    weight = jnp.full((2, 2), 9.0, dtype)
    layer = sx.Layer(sx.LIF(jnp.asarray(3.0, dtype), bias=2.0), 2)
    connections = [sx.Dense("input", "a", weight), sx.Dense("a", "a", weight)]
    network = sx.Network({"a": layer}, connections, 2, "a")
    wrong = eqx.tree_at(lambda n: n.layers["a"].neuron.tau_mem, network, jnp.asarray(-3.0, dtype))
    inputs = sx.Spikes(jnp.ones((2, 1), dtype))
    for options in (
        {"method": sx.EventQueue()},
        {"method": sx.ClosedForm()},
        {"method": sx.EventLoop(dt0=1.0)},
        {"method": sx.Windows(4)},
    ):
        found = sx.simulate(wrong, inputs, 8.0, saveat=jnp.asarray([4.0, 8.0]), throw=False, **options)
        assert bool(found.result == sx.RESULTS.invalid_parameters)
        assert int(jnp.sum(found.spikes["a"].count)) == 0
        assert bool(jnp.all(jnp.isfinite(found.states["a"].v)))


class Bounded(sx.AbstractNeuron):
    """A neuron with constraints of its own."""

    share: sx.Scalar = sx.parameter(0.5, sx.constraints.within(0, 1, "It is a share."))
    low: sx.Scalar = sx.parameter(0.0, sx.constraints.not_negative, sx.constraints.below("high"))
    high: sx.Scalar = sx.parameter(1.0, sx.constraints.Constraint("odd", lambda x, _: x % 2 == 1, "Add one."))
    synapse: sx.Synapse = sx.ExpSynapse()

    def initial_state(self):
        return jnp.asarray(0.0)

    def dynamics(self, t, state, drive):
        return drive - state

    def spike_condition(self, t, state):
        return state - self.high

    def reset(self, t, state):
        return self.low


class Shifted(sx.AbstractConnection):
    """A connection with a constraint of its own, whose delay is computed."""

    weight: jax.Array = sx.parameter(dataclasses.MISSING, sx.constraints.within(-2, 2))
    shift: jax.Array
    source: str = eqx.field(static=True, default="input")
    target: str = eqx.field(static=True, default="a")

    @property
    def shape(self):
        return self.weight.shape

    @property
    def delay(self):
        return self.shift - 0.5

    def synapses(self):
        return sx.Synapses(self.weight, delay=jnp.broadcast_to(self.delay, (2, 1)))


def test_constraints_of_a_connection_of_ones_own():
    """They come on top of those of every connection."""
    with pytest.raises(ValueError, match="`weight` must be from -2 to 2"):
        Shifted(jnp.full((2, 2), 3.0), jnp.asarray(1.0))
    connection = Shifted(jnp.ones((2, 2)), jnp.asarray(1.0))
    network = sx.Network({"a": sx.Layer(sx.LIF(), 2)}, [connection], 2, "a")
    simulated(network)
    for where, value, message in (
        (lambda n: n.connections[0].shift, jnp.asarray(0.0), r"connections\[0\].delay` must be at least 0 and finite"),
        (lambda n: n.connections[0].weight, jnp.full((2, 2), 3.0), r"connections\[0\].weight` must be .*from -2 to 2"),
    ):
        with pytest.raises(RuntimeError, match=message):
            jax.block_until_ready(simulated(eqx.tree_at(where, network, value)))


def test_constraints_of_a_neuron_of_ones_own():
    assert Bounded(low=0.5).low == 0.5
    for options, message in (
        ({"share": 1.5}, "`share` must be from 0 to 1; got 1.5. It is a share."),
        ({"share": "a"}, "`share` must be a real number or a floating-point array"),
        ({"share": np.nan}, "`share` must be finite; got nan."),
        ({"low": -1.0}, "`low` must be at least 0; got -1.0."),
        ({"low": jnp.asarray([0.0, 1.0])}, "`low` must be below `high` = 1.0; got Array"),
        ({"high": 2.0}, "`high` must be odd; got 2.0. Add one."),
        ({"synapse": 3.0}, "`synapse` must be a synapse"),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            Bounded(**options)
        assert str(caught.value).startswith(message)
