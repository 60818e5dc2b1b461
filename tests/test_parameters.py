"""Parameters that are stored in one form, and seen by a simulation in another."""

import copy
import dataclasses
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spikax as sx

from .helpers import finite_sum, random_inputs, single_layer, worst_derivative


def derivative(neuron, dtype, **options):
    """The total of all spike times, and the gradient of the neuron."""
    network = single_layer(neuron, np.random.default_rng(0).uniform(1.0, 6.0, (3, 2)), dtype)
    inputs = random_inputs(0, (2, 3, 4), 30.0, dtype)

    def total(network):
        return finite_sum(network(inputs, t1=40.0, max_spikes=16, **options).times, jnp.ones((), dtype))

    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(total))(network)
    return value, gradient.layers["output"].neuron


@pytest.mark.modes("float32")
@pytest.mark.parametrize("options", [{}, {"method": sx.EventLoop(dt0=0.5)}], ids=["parallel", "loop"])
def test_the_logarithm_learns(dtype, options):
    """The simulation is that of the value, and the gradient that of the value times the value."""
    tau, tau_syn = jnp.asarray([20.0, 15.0], dtype), jnp.asarray(5.0, dtype)
    plain, bar = derivative(sx.LIF(tau, synapse=sx.ExpSynapse(tau_syn)), dtype, **options)
    positive = sx.LIF(sx.Positive(tau), synapse=sx.ExpSynapse(sx.Positive(tau_syn)))
    same, log_bar = derivative(positive, dtype, **options)
    np.testing.assert_allclose(same, plain, rtol=1e-5)
    assert float(jnp.min(jnp.abs(bar.tau_mem))) > 0.0
    np.testing.assert_allclose(log_bar.tau_mem.log, bar.tau_mem * tau, rtol=2e-3)
    np.testing.assert_allclose(log_bar.synapse.tau.log, bar.synapse.tau * tau_syn, rtol=2e-3)


def test_the_value_comes_back(dtype):
    value = jnp.asarray([0.5, 20.0], dtype)
    np.testing.assert_allclose(sx.Positive(value).value, value, rtol=1e-6)
    assert sx.Positive(value).log.dtype == dtype


def test_it_is_checked_as_its_value():
    assert sx.check_neuron(sx.LIF(tau_mem=sx.Positive(20.0))).remarks == ()
    with pytest.raises(ValueError, match="v_reset.*below"):
        sx.LIF(v_reset=sx.Positive(2.0), v_threshold=1.0)
    with pytest.raises(ValueError, match="neuron.tau_mem.log.*entry per neuron"):
        sx.Layer(sx.LIF(tau_mem=sx.Positive(jnp.ones(3))), 2)
    for wrong in (0.0, -1.0, jnp.inf):
        with pytest.raises(ValueError, match="value"):
            sx.Positive(wrong)
    with pytest.raises(TypeError, match="value"):
        sx.Positive("20")


def test_it_may_be_traced():
    traced = jax.jit(lambda x: sx.LIF(tau_mem=sx.Positive(x)).tau_mem.value)(jnp.asarray(3.0))
    np.testing.assert_allclose(traced, 3.0, rtol=1e-6)


# --- Weights ---

SIGNS = np.array([[1], [-1], [1]])
MASK = np.array([[True, False], [True, True], [False, True]])


def magnitudes(dtype=float):
    return jnp.asarray(np.random.default_rng(1).uniform(2.0, 6.0, (3, 2)), dtype)


def weights(dtype=float):
    """Weights of each kind, by name; and one kind inside of another."""
    signed = sx.Signed(magnitudes(dtype) * SIGNS.astype(dtype), SIGNS)
    return {"signed": signed, "masked": sx.Masked(magnitudes(dtype), MASK), "both": sx.Masked(signed, MASK)}


class Summing(sx.LIF):
    """It receives the sum of all ports."""

    def dynamics(self, t, state, drive):
        return super().dynamics(t, state, sum(drive.values()))


def total_of(weight, dtype):
    """The total of all spike times, for weights by port, and its gradient, of the learnable arrays."""
    neuron = Summing(bias=1.5, synapse={name: sx.ExpSynapse() for name in weight})
    network = sx.sequential(3, sx.Layer(neuron, 2, weights=weight), key=jax.random.key(0))
    inputs = random_inputs(0, (2, 3, 4), 30.0, dtype)
    arrays, static = eqx.partition(network, eqx.is_inexact_array)

    def total(arrays):
        spikes = eqx.combine(arrays, static)(inputs, t1=40.0, max_spikes=16, method=sx.EventLoop(dt0=0.5))
        return finite_sum(spikes.times, jnp.ones((), dtype)), spikes.count

    return jax.jit(jax.value_and_grad(total, has_aux=True)), arrays


@pytest.mark.parametrize("kind", ["signed", "masked", "both"])
def test_weights_keep_signs_and_zeros(kind, dtype):
    """After steps of Adam that are far too long."""
    weight = weights(dtype)[kind]
    first = np.asarray(weight.value)
    signs = (SIGNS if kind != "masked" else 1) * (MASK if kind != "signed" else 1) * np.ones((3, 2))
    np.testing.assert_array_equal(np.sign(first), signs)

    gradient = eqx.filter_jit(eqx.filter_grad(lambda weight: jnp.sum((weight.value - 3.0) ** 2)))
    optimizer = optax.adam(3.0)
    state = optimizer.init(eqx.filter(weight, eqx.is_inexact_array))
    for _ in range(10):
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes, which strict promotion forbids.
            updates, state = optimizer.update(gradient(weight), state)
        weight = eqx.apply_updates(weight, updates)
        where = ~MASK if kind == "masked" else np.full((3, 2), True)
        np.testing.assert_array_equal(np.sign(weight.value)[where], signs[where])
    assert weight.value.dtype == dtype
    moved = np.abs(np.asarray(weight.value) - first)
    assert np.min(moved[signs != 0]) > 0.5


@pytest.mark.float64
def test_gradients_of_weights_are_exact():
    """Of one layer with a port for each kind, against finite differences."""
    function, arrays = total_of(weights(), jnp.float64)

    def value_grad_count(arrays):
        (value, count), gradient = function(arrays)
        return value, count, gradient

    errors = worst_derivative(value_grad_count, arrays)
    assert len(errors) == 3 and max(errors.values()) < 1e-6, errors
    weight = function(arrays)[1].connections[0].weight
    for bar, mask in ((weight["signed"].log, True), (weight["masked"].inner, MASK), (weight["both"].inner.log, MASK)):
        np.testing.assert_array_equal(np.abs(bar) > 1e-6, np.broadcast_to(mask, (3, 2)))


@pytest.mark.modes("float32")
def test_a_simulation_sees_the_values(dtype):
    """The gradient of a signed weight's logarithm is that of the weight times the weight; of ports, one by one."""
    stored = weights(dtype)
    function, arrays = total_of(stored, dtype)
    plain, plain_arrays = total_of({name: weight.value for name, weight in stored.items()}, dtype)
    (value, count), gradient = function(arrays)
    (expected, expected_count), plain_gradient = plain(plain_arrays)
    np.testing.assert_array_equal(count, expected_count)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    bar, plain_bar = gradient.connections[0].weight, plain_gradient.connections[0].weight
    np.testing.assert_allclose(bar["signed"].log, plain_bar["signed"] * stored["signed"].value, rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(bar["masked"].inner, np.where(MASK, plain_bar["masked"], 0.0), rtol=5e-3, atol=1e-3)


def test_weights_that_do_not_fit():
    weight = magnitudes()
    with pytest.raises(ValueError, match="value.*of the given signs, and nowhere zero"):
        sx.Signed(weight, SIGNS)
    with pytest.raises(ValueError, match="(?s)value.*nowhere zero.*sx.Masked"):
        sx.Signed(jnp.where(MASK, weight, 0.0), 1.0)
    with pytest.raises(ValueError, match="signs.*1 or -1"):
        sx.Signed(weight, 2 * SIGNS)
    with pytest.raises(ValueError, match=r"signs.*of a shape that extends to \(3, 2\)"):
        sx.Signed(weight, SIGNS[:2])
    with pytest.raises(ValueError, match=r"mask.*of a shape that extends to \(3, 2\)"):
        sx.Masked(weight, MASK.T)
    with pytest.raises(TypeError, match="mask.*an array of True and False"):
        sx.Masked(weight, SIGNS)
    with pytest.raises(TypeError, match="value.*a real number or a floating-point array"):
        sx.Masked("weight", MASK)
    with pytest.raises(ValueError, match=r"weight.*for \(2, 2\) neurons"):
        sx.Network({"a": sx.Layer(sx.LIF(), 2)}, [sx.Dense("input", "a", sx.Signed(weight, 1.0))], 2, "a")


# --- Numbers, which are constants, and arrays, which learn ---


class Powered(sx.LIF):
    """It has an integer, and a parameter of numbers in a dictionary."""

    power: int = 2
    extra: dict = eqx.field(default_factory=lambda: {"share": 0.5, "is_odd": False})
    is_linear = False

    def dynamics(self, t, state, drive):
        return super().dynamics(t, state, self.extra["share"] * drive**self.power)


def small(neuron, delay=1.5):
    weight = jnp.full((2, 2), 3.0)
    connections = [sx.Dense("input", "a", weight), sx.OneToOne("a", "b", jnp.full(2, 8.0), delay)]
    layers = {"a": sx.Layer(neuron, 2), "b": sx.Layer(sx.SingleSpike(sx.Refractory(sx.LIF(bias=1.5))), 2)}
    return sx.Network(layers, connections, 2, "b")


def first_spikes(network):
    return jnp.sum(sx.first_spike(network(sx.Spikes(jnp.asarray([[1.0, 2.0], [1.5, 3.0]])), 60.0, max_spikes=32)))


@pytest.mark.modes("float32")
def test_a_number_is_a_constant_however_gradients_are_taken():
    network = small(sx.LIF(tau_mem=20, v_threshold=np.float32(1.0), bias=np.asarray([0.5, 0.6], np.float32)))
    gradient = jax.jit(jax.grad(first_spikes))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(network)]
    assert paths == [".layers['a'].neuron.bias", ".connections[0].weight", ".connections[1].weight"]
    assert jax.tree.structure(gradient(network)) == jax.tree.structure(network)
    optimizer = optax.sgd(0.01)
    state, before = optimizer.init(network), network
    for _ in range(3):
        updates, state = optimizer.update(gradient(network), state)
        network = optax.apply_updates(network, updates)
    assert jax.tree.structure(network) == jax.tree.structure(before)
    neuron = network.layers["a"].neuron
    assert (neuron.tau_mem, neuron.v_threshold, neuron.synapse.tau) == (20, 1.0, 5.0)
    assert network.connections[1].delay == 1.5
    for leaf, old in zip(jax.tree.leaves(network), jax.tree.leaves(before), strict=True):
        assert isinstance(leaf, jax.Array) and bool(jnp.all(leaf != old))


@pytest.mark.modes("mixed")
def test_a_number_of_a_network_is_a_float():
    """It is shown, computed with, copied and replaced as one, and leads to no other float type."""
    network = small(Powered(), delay=np.float64(1.5))
    neuron = network.layers["a"].neuron
    assert isinstance(neuron.tau_mem, float) and neuron.tau_mem == 20.0 and neuron.power == 2
    assert isinstance(neuron.power, int) and neuron.extra["is_odd"] is False
    assert "tau_mem=20.0," in repr(neuron) and "delay 1.5" in str(network)
    assert type(neuron.tau_mem + 1.0) is float
    x = jnp.ones(3, jnp.float32)
    assert (x * neuron.tau_mem).dtype == (neuron.power + x).dtype == jnp.maximum(neuron.tau_mem, x).dtype == x.dtype
    for same in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), jax.tree.map(lambda x: x, network)):
        assert jax.tree.structure(same) == jax.tree.structure(network)
        assert type(same.layers["a"].neuron.tau_mem) is type(neuron.tau_mem)
    assert dataclasses.replace(neuron, tau_mem=10.0).synapse.tau == 5.0
    for value in (10.0, x):
        replaced = eqx.tree_at(lambda n: (n.layers["a"].neuron.tau_mem, n.connections[1].delay), network, (value, 2.0))
        assert replaced.layers["a"].neuron.tau_mem is value and replaced.connections[1].delay == 2.0
        assert replaced.layers["b"].neuron.neuron.neuron.tau_mem == 20.0
    conductances = sx.ConductanceBased(sx.LIF(synapse={"exc": sx.ExpSynapse()}), {"exc": 4.0})
    stored = sx.Layer(conductances, 2).neuron
    assert jax.tree.leaves(stored) == [] and dataclasses.replace(stored, reversal={"exc": 3.0}).reversal == {"exc": 3.0}
    assert sx.check_neuron(stored).remarks == ()


def test_weak_types_end_where_they_enter():
    weak = jnp.asarray(2.0)
    assert weak.weak_type
    network = small(sx.LIF(bias=weak, synapse=sx.ExpSynapse(sx.Positive(weak))), delay=weak)
    assert len(jax.tree.leaves(network)) == 5
    entered = [network, sx.Positive(weak), sx.Signed(weak, 1), sx.Masked(weak, np.asarray(True))]
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(entered))


# --- Arrays that do not learn ---


def heterogeneous(dtype, parameter):
    """A network whose time constants, weights and delays are what `parameter` makes of arrays; a bias learns."""
    taus, weight, delays = [20.0, 12.0], [[3.0, 6.0], [5.0, 4.0]], [1.0, 1.5]
    taus, weight, delays = (parameter(jnp.asarray(part, dtype)) for part in (taus, weight, delays))
    layer = sx.Layer(sx.LIF(taus, bias=jnp.full(2, 0.1, dtype)), 2)
    return sx.Network({"a": layer}, [sx.Dense("input", "a", weight, delays)], 2, "a")


def fixed_parts(network):
    connection = network.connections[0]
    return network.layers["a"].neuron.tau_mem, connection.weight, connection.delay


@pytest.mark.modes("float32")
def test_fixed_arrays_give_the_same_spikes_and_only_the_rest_learns(dtype):
    inputs = random_inputs(0, (2, 2, 4), 30.0, dtype)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(network):
        return finite_sum(network(inputs, 40.0, max_spikes=16).times, jnp.ones((), dtype))

    (plain, plain_bar), (value, bar) = (gradient(heterogeneous(dtype, kind)) for kind in (lambda x: x, sx.Fixed))
    np.testing.assert_allclose(value, plain, rtol=1e-6)
    (learned,) = jax.tree.leaves(bar)
    np.testing.assert_allclose(learned, plain_bar.layers["a"].neuron.bias, rtol=1e-4)
    assert bool(jnp.all(learned != 0))


@pytest.mark.modes("float32", "mixed")
def test_weight_decay_leaves_fixed_arrays_as_they_are(dtype):
    network = heterogeneous(dtype, sx.Fixed)
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    learning = eqx.filter(network, eqx.is_inexact_array)
    assert len(jax.tree.leaves(learning)) == 1
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes, which strict promotion forbids.
        updates, _ = optimizer.update(learning, optimizer.init(learning), learning)
    moved = eqx.apply_updates(network, updates)
    assert bool(jnp.all(moved.layers["a"].neuron.bias != 0.1))
    for part, before in zip(fixed_parts(moved), fixed_parts(network), strict=True):
        np.testing.assert_array_equal(part.value, before.value)


def test_a_fixed_array_is_kept_to_the_bit(dtype, tmp_path):
    value = jnp.asarray([0.1, -1e-30, 3e30, 0.0], dtype)
    fixed = sx.Fixed(value)
    assert fixed.value.dtype == dtype and jax.tree.leaves(eqx.filter(fixed, eqx.is_inexact_array)) == []
    network = heterogeneous(dtype, sx.Fixed)
    sx.save(tmp_path / "file", (network, fixed))
    loaded, same = sx.load(tmp_path / "file")[0]
    copies = [same, copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed)), sx.Fixed(np.asarray(value))]
    for other in [*copies, jax.jit(lambda x: x)(fixed), jax.jit(sx.Fixed)(value)]:
        np.testing.assert_array_equal(other.value, value)
        assert other.value.dtype == dtype
    assert loaded.dtype == network.dtype == dtype
    for part, before in zip(fixed_parts(loaded), fixed_parts(network), strict=True):
        np.testing.assert_array_equal(part.value, before.value)
    np.testing.assert_allclose(fixed.scaled(2.0).value, 2.0 * value)
    np.testing.assert_array_equal(jax.vmap(lambda x: x.value + 1)(fixed), value + 1)


@pytest.mark.modes("float32")
def test_a_new_fixed_array_compiles_nothing_anew_and_may_be_traced():
    traces = []

    @eqx.filter_jit
    def total(fixed, factor):
        traces.append(None)
        return jnp.sum(fixed.value) + jnp.sum(sx.Fixed(factor * fixed.value).value)

    assert (
        total(sx.Fixed(jnp.ones(3)), jnp.asarray(2.0)) == 9.0 and total(sx.Fixed(jnp.zeros(3)), jnp.asarray(2.0)) == 0
    )
    assert len(traces) == 1
    assert jax.grad(lambda factor: total(sx.Fixed(jnp.ones(3)), factor))(2.0) == 0.0


@pytest.mark.modes("float32", "mixed")
def test_what_fixed_arrays_may_stand_for(dtype):
    """Other parameters hold them and are held by them; replaced, they learn."""
    positive = sx.Positive(jnp.asarray([2.0, 3.0], dtype))
    np.testing.assert_array_equal(sx.Fixed(positive).value, positive.value)
    masked = sx.Masked(sx.Fixed(jnp.ones((2, 2), dtype)), np.eye(2, dtype=bool))
    np.testing.assert_array_equal(masked.value, np.eye(2))
    assert sx.Fixed(3.0).value.dtype == jnp.result_type(float)
    network = heterogeneous(dtype, sx.Fixed)
    network = eqx.tree_at(lambda n: fixed_parts(n)[0], network, replace_fn=lambda fixed: fixed.value)
    assert len(jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))) == 2


@pytest.mark.modes("mixed")
def test_the_widest_array_tells_the_float_type():
    inputs = random_inputs(0, (2, 2, 4), 30.0, jnp.float64)
    for fixed, bias, expected in ((32, 32, 32), (32, 64, 64), (64, 32, 64)):
        network = heterogeneous(f"float{fixed}", sx.Fixed)
        bias = jnp.full(2, 0.1, f"float{bias}")
        network = eqx.tree_at(lambda n: n.layers["a"].neuron.bias, network, bias)
        assert network.dtype == f"float{expected}"
        times = jax.eval_shape(lambda inputs, n=network: n(inputs, 40.0).times, inputs)
        assert times.dtype == network.dtype


def test_fixed_arrays_that_do_not_fit():
    for wrong in ("20", None, jnp.asarray([1, 2]), jnp.asarray([1.0], jnp.float16)):
        with pytest.raises(TypeError, match="`value` must be"):
            sx.Fixed(wrong)
    with pytest.raises(ValueError, match="`value` must be finite"):
        sx.Fixed(jnp.asarray([1.0, jnp.nan]))
    with pytest.raises(ValueError, match="`tau_mem` must be positive"):
        sx.LIF(sx.Fixed(jnp.asarray([1.0, -1.0])))
    with pytest.raises(ValueError, match="neuron.tau_mem.bits.*entry per neuron"):
        sx.Layer(sx.LIF(sx.Fixed(jnp.ones(3))), 2)


# --- Arrays of NumPy ---


def test_arrays_of_numpy_learn_as_those_of_jax(dtype):
    networks = [heterogeneous(dtype, kind) for kind in (np.asarray, jnp.asarray)]
    for one, other in zip(*map(jax.tree.leaves, networks), strict=True):
        assert isinstance(one, jax.Array) and one.dtype == other.dtype == dtype
    ports = {"exc": sx.ExpSynapse(np.asarray([3.0, 4.0], dtype)), "inh": sx.ExpSynapse()}
    neuron = sx.Refractory(
        sx.ConductanceBased(
            sx.LIF(np.asarray([10.0, 20.0], dtype), synapse=ports), {"exc": 3.0, "inh": np.asarray(-1.0, dtype)}
        )
    )
    assert sx.check_neuron(neuron).remarks == ()
    layer = sx.Layer(neuron, 2)
    assert len(jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array))) == 3
    placed = eqx.tree_at(lambda n: n.connections[0].weight, networks[1], np.asarray(networks[1].connections[0].weight))
    assert placed.dtype == dtype


@pytest.mark.modes("float32")
def test_an_array_of_numpy_in_place_of_a_weight_learns():
    """Also one in float64, where JAX has no such type."""
    network = eqx.tree_at(lambda n: n.connections[0].weight, small(sx.LIF()), np.full((2, 2), 3.0))
    gradients = [eqx.filter_grad(first_spikes)(n).connections[0].weight for n in (network, small(sx.LIF()))]
    assert network.dtype == jnp.float32
    np.testing.assert_allclose(*gradients, rtol=1e-6)
    assert bool(jnp.all(gradients[0] != 0))
