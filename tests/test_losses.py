"""Losses: their values, what silent neurons contribute, and their gradients against finite differences."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx


INF = float("inf")


def cross_entropy(times, labels, **options):
    return sx.losses.first_spike_cross_entropy(times, jnp.asarray(labels), t_silent=60.0, **options)


def test_cross_entropy_is_the_published_loss(dtype):
    times = jnp.asarray([[10.0, 10.5, 12.0]], dtype)
    probability = np.exp(-21.0) / np.sum(np.exp(-np.asarray([20.0, 21.0, 24.0])))
    expected = -np.log(probability) + 3e-3 * (np.exp(10.5 / 6.4) - 1)
    np.testing.assert_allclose(cross_entropy(times, [1]), [expected], rtol=1e-5)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_silent_output_counts_as_late(label, dtype):
    silent, late = jnp.asarray([jnp.inf, 59.0, 11.0], dtype), jnp.asarray([60.0, 59.0, 11.0], dtype)
    np.testing.assert_allclose(cross_entropy(silent, label), cross_entropy(late, label), rtol=1e-6)
    gradient = jax.grad(lambda times: cross_entropy(times, label))(silent)
    assert gradient[0] == 0.0
    if label == 0:
        # Nothing makes the silent one spike, and the earliest is pushed back with the full slope.
        np.testing.assert_allclose(gradient, [0.0, 0.0, -2.0], rtol=1e-5, atol=1e-12)


def test_the_loss_of_silent_outputs_is_that_of_chance(dtype):
    times = jnp.full((4, 3), jnp.inf, dtype)
    labels = jnp.asarray([0, 1, 2, 0])
    value, gradient = jax.value_and_grad(lambda times: jnp.mean(cross_entropy(times, labels, alpha=0.0)))(times)
    np.testing.assert_allclose(value, np.log(3.0), rtol=1e-5)
    assert value.dtype == dtype
    np.testing.assert_array_equal(gradient, 0.0)


def test_without_a_second_term_none_overflows(dtype):
    def loss(times):
        return cross_entropy(times, 0, tau1=0.01, alpha=0.0)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray([50.0, 49.0], dtype))
    np.testing.assert_allclose(value, np.log1p(np.exp(2.0)), rtol=1e-5)
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.float64
def test_the_gradient_of_the_loss_is_that_of_finite_differences():
    times, h = np.asarray([9.0, 9.7, np.inf, 10.1]), 1e-6
    gradient = jax.grad(lambda times: cross_entropy(times, 1))(jnp.asarray(times))
    for i in (0, 1, 3):
        up, down = times.copy(), times.copy()
        up[i], down[i] = times[i] + h, times[i] - h
        expected = (cross_entropy(jnp.asarray(up), 1) - cross_entropy(jnp.asarray(down), 1)) / (2 * h)
        np.testing.assert_allclose(gradient[i], expected, rtol=1e-7)
    assert gradient[2] == 0.0


@pytest.mark.parametrize(
    "labels, error", [([3], ValueError), ([-1], ValueError), ([0, 1], ValueError), ([0.0], TypeError)]
)
def test_cross_entropy_refuses_labels(labels, error, dtype):
    with pytest.raises(error, match="labels"):
        cross_entropy(jnp.ones((1, 3), dtype), labels)


@pytest.mark.parametrize("option", ["tau0", "tau1"])
def test_cross_entropy_refuses_time_constants(option, dtype):
    with pytest.raises(ValueError, match=option):
        cross_entropy(jnp.ones((1, 3), dtype), [0], **{option: 0.0})


def test_earliest(dtype):
    times = jnp.asarray([[3.0, 2.0, jnp.inf], [jnp.inf, jnp.inf, jnp.inf]], dtype)
    np.testing.assert_array_equal(sx.decode.earliest(times), [1, -1])


def trains(times, dtype):
    """Spike trains from nested lists, of one sample."""
    longest = max(len(train) for train in times)
    return sx.Spikes(jnp.asarray([train + [INF] * (longest - len(train)) for train in times], dtype))


def test_mse_is_the_published_loss_and_a_silent_output_is_late(dtype):
    times = jnp.asarray([[10.0, 12.0, 15.0], [10.0, INF, INF]], dtype)
    options = {"t_label": 9.0, "t_other": 14.0, "t_silent": 20.0}
    loss = sx.losses.first_spike_mse(times, jnp.asarray([0, 1]), **options)
    np.testing.assert_allclose(loss, [(1 + 4 + 1) / 2, (16 + 121 + 36) / 2], rtol=1e-6)
    assert loss.dtype == dtype


def test_margin_is_the_published_loss_and_does_not_feel_a_shift(dtype):
    def loss(times, label):
        return sx.losses.first_spike_margin(times, jnp.asarray(label), margin=2.0, t_silent=20.0)

    times = jnp.asarray([10.0, 13.0, 11.0], dtype)
    np.testing.assert_allclose(loss(times, 0), (1 + 1) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(times + 3.0, 0), loss(times, 0), rtol=1e-5)
    # Silent outputs are all at 20 ms.
    np.testing.assert_allclose(loss(jnp.asarray([10.0, INF, 12.0], dtype), 0), 64 / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(jnp.asarray([INF, 11.0, 12.0], dtype), 0), (121 + 100) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(jnp.full(3, INF, dtype), 0), 2 * 4 / 2, rtol=1e-6)


def test_spike_times_compare_the_kth_with_the_kth(dtype):
    spikes, targets = trains([[1.0, 5.0], [], [2.0, 3.0]], dtype), trains([[2.0, 5.0, 8.0], [4.0], [2.0]], dtype)
    loss = sx.losses.spike_times(spikes, targets, t_silent=10.0)
    np.testing.assert_allclose(loss, (1 + 0 + 4 + 36 + 0 + 49) / 2, rtol=1e-6)
    np.testing.assert_allclose(sx.losses.spike_times(targets, spikes, t_silent=10.0), loss, rtol=1e-6)


def integrated(spikes, targets, tau, t1):
    """The van Rossum distance by its definition, on a fine grid."""
    ts = np.linspace(0.0, t1, 200_001)

    def filtered(train):
        return sum(np.where(ts >= t, np.exp(-np.maximum(ts - t, 0.0) / tau), 0.0) for t in train)

    return sum(np.trapezoid((filtered(a) - filtered(b)) ** 2, ts) / tau for a, b in zip(spikes, targets, strict=True))


def test_van_rossum_is_the_integral_of_its_definition(dtype):
    spikes, targets = [[1.0, 6.0], [], [9.5], [3.0, 3.0]], [[1.5], [4.0, 9.0], [], [3.0]]
    loss = sx.losses.van_rossum(trains(spikes, dtype), trains(targets, dtype), tau=2.0, t1=10.0)
    np.testing.assert_allclose(loss, integrated(spikes, targets, 2.0, 10.0), rtol=1e-4)
    assert loss.dtype == dtype
    same = sx.losses.van_rossum(trains(targets, dtype), trains(targets, dtype), tau=2.0, t1=10.0)
    np.testing.assert_allclose(same, 0.0, atol=1e-6)
    # What happens after the end is outside.
    late = sx.losses.van_rossum(trains([[10.0, 11.0]], dtype), trains([[INF]], dtype), tau=2.0, t1=10.0)
    assert late == 0.0


def test_a_spike_counts_nearly_one_and_nothing_at_the_end(dtype):
    counts = sx.losses.spike_count(trains([[0.0, 10.0], [100.0], [], [99.0], [101.0]], dtype), tau=5.0, t1=100.0)
    np.testing.assert_allclose(counts, [2.0, 0.0, 0.0, 1 - np.exp(-0.2), 0.0], atol=1e-6)
    assert counts.dtype == dtype


@pytest.mark.float64
def test_of_a_long_sample_slow_integrators_tell_when_a_spike_arrived():
    """The mean voltage does not: it tells how many did."""
    t1 = 1000.0

    def score(outputs, decoded, ts, t):
        network = sx.sequential(1, sx.Layer(outputs, 1, weights=sx.init.constant(1.0)), key=jax.random.key(0))
        return decoded(sx.simulate(network, sx.Spikes(t[None, None]), t1, saveat=ts).states["output"].v)[0]

    slow = functools.partial(score, sx.LI(t1, synapse=sx.ExpSynapse(t1)), sx.decode.last, jnp.asarray([t1]))
    value, slope = jax.jit(jax.value_and_grad(slow))(jnp.asarray(300.0))
    np.testing.assert_allclose([value, slope / value], [0.7 * np.exp(-0.7), 1 / t1 - 1 / 700.0], rtol=1e-9)
    usual = jax.jit(functools.partial(score, sx.LI(20.0), sx.decode.mean, jnp.linspace(0.0, t1, 101)))
    early, late = usual(jnp.asarray(300.0)), usual(jnp.asarray(600.0))
    np.testing.assert_allclose(early, late, rtol=1e-6)


def test_scores_of_voltages(dtype):
    v = jnp.asarray([[[0.0, 3.0], [2.0, 1.0], [1.0, 0.0]]], dtype)
    np.testing.assert_allclose(sx.decode.maximum(v), [[2.0, 3.0]])
    np.testing.assert_allclose(sx.decode.mean(v), [[1.0, 4.0 / 3.0]], rtol=1e-6)
    np.testing.assert_allclose(sx.decode.last(v), [[1.0, 0.0]])
    np.testing.assert_allclose(sx.decode.integral(v, jnp.asarray([0.0, 1.0, 4.0], dtype)), [[5.5, 3.5]], rtol=1e-6)
    assert sx.decode.integral(v, np.asarray([0.0, 1.0, 4.0])).dtype == dtype


def test_cross_entropy_of_scores(dtype):
    scores = jnp.asarray([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]], dtype)
    loss = sx.losses.cross_entropy(scores, jnp.asarray([1, 2]))
    expected = -np.log(np.exp(2.0) / np.sum(np.exp([1.0, 2.0, 0.5])))
    np.testing.assert_allclose(loss, [expected, np.log(3.0)], rtol=1e-6)
    np.testing.assert_array_equal(sx.decode.largest(scores), [1, 0])


def test_bounds_are_felt_outside_of_them_alone(dtype):
    counts = jnp.asarray([0.0, 1.0, 3.0, 7.0], dtype)
    np.testing.assert_allclose(sx.losses.count_bounds(counts, low=0.5, high=4.0), (0.25 + 9.0) / 8, rtol=1e-6)
    np.testing.assert_allclose(sx.losses.count_bounds(counts, high=4.0), 9.0 / 8, rtol=1e-6)
    times = jnp.asarray([1.0, 5.0, INF, 9.0], dtype)
    np.testing.assert_allclose(sx.losses.time_bounds(times, early=2.0, late=7.0), (1.0 + 4.0) / 8, rtol=1e-6)
    np.testing.assert_allclose(sx.losses.time_bounds(times, late=7.0), 4.0 / 8, rtol=1e-6)


def test_the_peak_of_silent_neurons_is_lifted(dtype):
    conditions = jnp.asarray([[-1.0, -0.5, 0.0], [-0.4, -0.7, 0.0]], dtype)
    spikes = trains([[], [], [5.0]], dtype)
    np.testing.assert_allclose(sx.losses.silent_peak(conditions, spikes), (0.4 + 0.5) / 3, rtol=1e-6)
    np.testing.assert_allclose(sx.losses.silent_peak(conditions, spikes, margin=0.1), 1.1 / 3, rtol=1e-6)
    gradient = jax.grad(lambda x: sx.losses.silent_peak(x, spikes))(conditions)
    np.testing.assert_allclose(gradient, [[0.0, -1 / 3, 0.0], [-1 / 3, 0.0, 0.0]], rtol=1e-6)


LABELS = jnp.asarray([0, 2])
FIRST = np.asarray([[4.0, 7.0, INF, 5.5], [INF, 6.0, 3.0, 8.0]])
TRAINS = np.asarray(
    [[[1.0, 4.2], [2.0, INF], [INF, INF], [6.0, 9.4]], [[3.0, INF], [0.5, 0.9], [8.8, INF], [INF, INF]]]
)
TARGETS = sx.Spikes(np.asarray([[[2.0], [5.0], [7.0], [INF]], [[1.0], [INF], [4.0], [6.5]]]))
VOLTAGES = np.random.default_rng(0).normal(size=(2, 5, 4))
LOSSES = {
    "first_spike_cross_entropy": (lambda x: sx.losses.first_spike_cross_entropy(x, LABELS, t_silent=10.0), FIRST),
    "first_spike_mse": (
        lambda x: sx.losses.first_spike_mse(x, LABELS, t_label=3.0, t_other=6.5, t_silent=10.0),
        FIRST,
    ),
    "first_spike_margin": (lambda x: sx.losses.first_spike_margin(x, LABELS, margin=1.5, t_silent=10.0), FIRST),
    "time_bounds": (lambda x: sx.losses.time_bounds(x, early=4.5, late=6.5), FIRST),
    "spike_times": (lambda x: sx.losses.spike_times(sx.Spikes(x), TARGETS, t_silent=10.0), TRAINS),
    "van_rossum": (lambda x: sx.losses.van_rossum(sx.Spikes(x), TARGETS, tau=3.0, t1=10.0), TRAINS),
    "spike_count": (
        lambda x: sx.losses.cross_entropy(sx.losses.spike_count(sx.Spikes(x), tau=3.0, t1=10.0), LABELS),
        TRAINS,
    ),
    "count_bounds": (
        lambda x: sx.losses.count_bounds(sx.losses.spike_count(sx.Spikes(x), tau=3.0, t1=10.0), low=0.8, high=1.1),
        TRAINS,
    ),
    "maximum": (lambda x: sx.losses.cross_entropy(sx.decode.maximum(x), LABELS), VOLTAGES),
    "mean": (lambda x: sx.losses.cross_entropy(sx.decode.mean(x), LABELS), VOLTAGES),
    "integral": (lambda x: sx.losses.cross_entropy(sx.decode.integral(x, np.arange(5.0) ** 2), LABELS), VOLTAGES),
    "last": (lambda x: sx.losses.cross_entropy(sx.decode.last(x), LABELS), VOLTAGES),
    "silent_peak": (
        lambda x: sx.losses.silent_peak(x, sx.Spikes(TRAINS[..., :1]), margin=3.0),
        VOLTAGES,
    ),
}


@pytest.mark.float64
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences_and_finite(name):
    loss, x = LOSSES[name]
    value_and_gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(loss(x))))
    total, gradient = value_and_gradient(jnp.asarray(x))
    assert loss(jnp.asarray(x)).shape == (2,)
    assert jnp.isfinite(total) and bool(jnp.all(jnp.isfinite(gradient)))
    # What is silent has no gradient.
    np.testing.assert_array_equal(gradient[np.isinf(x)], 0.0)
    assert bool(jnp.any(gradient != 0.0))
    direction = np.where(np.isfinite(x), np.random.default_rng(1).normal(size=x.shape), 0.0)

    def along(h):
        return float(value_and_gradient(jnp.asarray(np.where(np.isfinite(x), x + h * direction, INF)))[0])

    h = 1e-3
    difference = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=1e-8)


@pytest.mark.float64
@pytest.mark.parametrize(
    "name",
    [
        "first_spike_cross_entropy",
        "first_spike_mse",
        "first_spike_margin",
        "spike_times",
        "van_rossum",
        "spike_count",
    ],
)
def test_losses_are_continuous_where_a_spike_leaves_at_the_end(name):
    loss, x = LOSSES[name]
    leaving, gone = x.copy(), x.copy()
    last = (0, 1) if x.ndim == 2 else (0, 3, 1)
    leaving[last], gone[last] = 10.0 - 1e-9, INF
    np.testing.assert_allclose(loss(jnp.asarray(leaving)), loss(jnp.asarray(gone)), rtol=1e-7)


@pytest.mark.modes("mixed")
def test_all_silent_is_finite(dtype):
    spikes = sx.Spikes(jnp.full((2, 4, 2), INF, dtype))
    for name, (loss, x) in LOSSES.items():
        if x is VOLTAGES:
            continue
        silent = spikes.times if x is TRAINS else spikes.times[..., 0]
        targets = sx.Spikes(TARGETS.times.astype(dtype))
        loss = {
            "spike_times": lambda x, t=targets: sx.losses.spike_times(sx.Spikes(x), t, t_silent=10.0),
            "van_rossum": lambda x, t=targets: sx.losses.van_rossum(sx.Spikes(x), t, tau=3.0, t1=10.0),
        }.get(name, loss)
        value, gradient = jax.value_and_grad(lambda x, loss=loss: jnp.sum(loss(x)))(silent)
        assert jnp.isfinite(value) and value.dtype == dtype, name
        np.testing.assert_array_equal(gradient, 0.0)


def labelled_losses(dtype, **options):
    """The losses that have labels, of two samples and three outputs."""
    times = jnp.asarray([[10.0, 12.0, 15.0], [10.0, INF, INF]], dtype)
    targets = {"t_label": 9.0, "t_other": 14.0, "t_silent": 20.0}
    return (
        lambda labels: cross_entropy(times, labels, **options),
        lambda labels: sx.losses.first_spike_mse(times, labels, **targets, **options),
        lambda labels: sx.losses.first_spike_margin(times, labels, margin=2.0, t_silent=20.0, **options),
        lambda labels: sx.losses.cross_entropy(jnp.minimum(times, 20.0), labels, **options),
    )


def test_labels_out_of_range_are_an_error_under_jit(dtype):
    for loss in labelled_losses(dtype):
        compiled = eqx.filter_jit(loss)
        np.testing.assert_allclose(compiled(jnp.asarray([0, 2])), loss(jnp.asarray([0, 2])), rtol=1e-6)
        for wrong in ([1, 3], [-1, 0]):
            with pytest.raises(RuntimeError, match="`labels` must be from 0 to n - 1 = 2"):
                jax.block_until_ready(compiled(jnp.asarray(wrong)))


def test_the_loss_of_a_label_out_of_range_is_nan_without_throw(dtype):
    for loss, checked in zip(labelled_losses(dtype, throw=False), labelled_losses(dtype), strict=True):
        compiled, right = jax.jit(loss), checked(jnp.asarray([0, 2]))
        np.testing.assert_array_equal(compiled(jnp.asarray([0, 3])), [right[0], np.nan])
        np.testing.assert_array_equal(compiled(jnp.asarray([-1, 2])), [np.nan, right[1]])
        assert "callback" not in str(jax.make_jaxpr(loss)(jnp.asarray([0, 2])))
        with pytest.raises(ValueError, match="`labels` must be from 0 to n - 1 = 2"):
            loss(np.asarray([0, 3]))


def test_labels_out_of_range_are_an_error_in_gradients_and_under_vmap(dtype):
    times, right, wrong = jnp.asarray([[1.0, 2.0, 3.0]] * 2, dtype), jnp.asarray([0, 2]), jnp.asarray([1, 3])

    def gradient(times, labels):
        return jax.grad(lambda times: jnp.sum(cross_entropy(times, labels)))(times)

    for function in (gradient, jax.vmap(gradient), jax.vmap(cross_entropy)):
        for compiled in (function, eqx.filter_jit(function)):
            assert bool(jnp.all(jnp.isfinite(compiled(times, right))))
            with pytest.raises((RuntimeError, ValueError), match="`labels` must be from 0 to n - 1 = 2"):
                jax.block_until_ready(compiled(times, wrong))


def test_known_labels_are_refused_while_a_function_is_compiled(dtype):
    with pytest.raises(ValueError, match="`labels` must be from 0 to n - 1 = 2; got .*Count the classes from 0."):
        jax.jit(lambda scores: sx.losses.cross_entropy(scores, np.asarray([1, 3])))(jnp.ones((2, 3), dtype))


@pytest.mark.parametrize("narrow", [np.uint8, np.int8])
def test_narrow_labels_of_many_classes(narrow, dtype):
    """A size that does not fit into the type of the labels is not taken for another."""
    scores, labels = jnp.asarray(np.random.default_rng(0).normal(size=(2, 300)), dtype), np.asarray([7, 100], narrow)
    for loss in (cross_entropy, sx.losses.cross_entropy):
        expected = loss(jnp.exp(scores), labels.astype(np.int32))
        np.testing.assert_allclose(loss(jnp.exp(scores), labels), expected, rtol=1e-6)
        compiled = jax.jit(lambda labels, loss=loss: loss(jnp.exp(scores), labels))
        np.testing.assert_allclose(compiled(labels), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name, value, loss",
    [
        ("tau0", -1.0, lambda x, s: cross_entropy(sx.first_spike(s), [0], tau0=x)),
        ("alpha", INF, lambda x, s: cross_entropy(sx.first_spike(s), [0], alpha=x)),
        ("t_other", INF, lambda x, s: sx.losses.first_spike_mse(
            sx.first_spike(s), jnp.asarray([0]), t_label=1.0, t_other=x, t_silent=9.0)),
        ("margin", 0.0, lambda x, s: sx.losses.first_spike_margin(
            sx.first_spike(s), jnp.asarray([0]), margin=x, t_silent=9.0)),
        ("t_silent", -1.0, lambda x, s: sx.losses.spike_times(s, s, t_silent=x)),
        ("tau", 0.0, lambda x, s: sx.losses.van_rossum(s, s, tau=x, t1=9.0)),
        ("tau", 0.0, lambda x, s: sx.losses.spike_count(s, tau=x, t1=9.0)),
        ("low", 3.0, lambda x, s: sx.losses.count_bounds(sx.first_spike(s), low=x, high=2.0)),
        ("late", 3.0, lambda x, s: sx.losses.time_bounds(sx.first_spike(s), early=4.0, late=x)),
        ("margin", INF, lambda x, s: sx.losses.silent_peak(s.times, s, margin=x)),
        ("ts", 1.0, lambda x, s: sx.decode.integral(s.times, jnp.stack([x, x]))),
    ],
)  # fmt: skip
def test_parameters_are_checked_under_jit(name, value, loss, dtype):
    spikes = sx.Spikes(jnp.asarray([[[1.0, 2.0], [2.0, 3.0]]], dtype))
    with pytest.raises(RuntimeError, match=f"`{name if name != 'late' else 'early'}` must be"):
        jax.block_until_ready(eqx.filter_jit(loss)(jnp.asarray(value, dtype), spikes))
