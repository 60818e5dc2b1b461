"""Neurons that a user writes: from functions, from a class, and what is told of those that do not fit together."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import finite_sum, random_inputs, single_layer


PARTS = {
    "initial_state": {"v": 0.0, "w": 0.0},
    "dynamics": lambda t, x, drive, p: {"v": (drive - x["v"] - x["w"]) / p["tau"], "w": (0.5 * x["v"] - x["w"]) / 30.0},
    "spike_condition": lambda t, x, p: x["v"] - p["threshold"],
    "reset": lambda t, x, p: {"v": 0.0, "w": x["w"] + 0.1},
    "parameters": {"tau": 20.0, "threshold": 1.0},
}


def written(**changes):
    return sx.neuron_from(**(PARTS | changes))


@pytest.mark.modes("mixed")
def test_a_neuron_from_functions_is_that_from_a_class(dtype):
    """With the same equations; and everything in `parameters` learns."""
    same = sx.neuron_from(
        initial_state=0.0,
        dynamics=lambda t, v, drive, p: (drive - v) / p["tau"],
        spike_condition=lambda t, v, p: v - p["threshold"],
        reset=lambda t, v, p: -0.2,
        receive=lambda t, v, weight, p: v + weight,
        parameters={"tau": jnp.asarray(20.0, dtype), "threshold": jnp.asarray([1.0, 0.9], dtype)},
    )
    lif = sx.LIF(jnp.asarray(20.0, dtype), 0.0, jnp.asarray([1.0, 0.9], dtype), -0.2)
    inputs = random_inputs(0, (2, 3, 4), 30.0, dtype)
    weight = np.random.default_rng(0).uniform(1.0, 6.0, (3, 2))

    def run(neuron):
        def total(network):
            spikes = sx.simulate(network, inputs, 40.0, method=sx.EventLoop(diffrax.Heun(), dt0=0.5)).spikes["output"]
            return finite_sum(spikes.times, jnp.ones((), dtype)), spikes.times

        (_, times), gradient = eqx.filter_value_and_grad(total, has_aux=True)(single_layer(neuron, weight, dtype))
        return times, gradient.layers["output"].neuron

    (times, bar), (expected, expected_bar) = run(same), run(lif)
    assert int(jnp.sum(jnp.isfinite(expected))) >= 6
    np.testing.assert_allclose(times, expected, rtol=1e-6)
    np.testing.assert_allclose(bar.parameters["tau"], expected_bar.tau_mem, rtol=1e-4)
    np.testing.assert_allclose(bar.parameters["threshold"], expected_bar.v_threshold, rtol=1e-4)


@pytest.mark.modes("float32", "mixed")
def test_internal_events_of_functions(dtype):
    """A ramp that an event, not a spike, sets back to zero after 3 ms, and once more."""
    neuron = sx.neuron_from(
        initial_state={"v": 0.0, "resets": 0.0},
        dynamics=lambda t, x, drive, p: {"v": 1.0 + 0.0 * drive, "resets": 0.0},
        spike_condition=lambda t, x, p: x["v"] + 4.0 * x["resets"] - 10.0,
        reset=lambda t, x, p: {"v": 0.0, "resets": 0.0},
        internal_events=[(lambda t, x, p: x["v"] - p, lambda t, x, p: {"v": 0.0, "resets": x["resets"] + 1.0})],
        parameters=3.0,
    )
    network = single_layer(neuron, np.zeros((1, 1)), dtype)
    times = network(sx.Spikes(jnp.full((1, 1), jnp.inf, dtype)), t1=9.5).times
    np.testing.assert_allclose(times[0, 0], 8.0, rtol=1e-5)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"dynamics": lambda t, x, d, p: {"v": d}}, ValueError, "`dynamics.*must be.*'w'.*got.*structure"),
        ({"reset": lambda t, x, p: {"v": jnp.zeros(3), "w": 0.0}}, ValueError, "`reset.*must be.*got.*(3,)"),
        (
            {"reset": lambda t, x, p: {"v": 2.0, "w": 0.0}},
            ValueError,
            "at most zero after a spike.*got 1.*cause another",
        ),
        ({"spike_condition": lambda t, x, p: x}, ValueError, "`spike_condition.*one number.*rises"),
        ({"dynamics": lambda t, x, d, p: {"v": d / x["v"], "w": 0.0}}, ValueError, "`dynamics.*finite"),
        ({"initial_state": {}}, TypeError, "`initial_state.*at least one number"),
        ({"internal_events": [(lambda t, x, p: x, lambda t, x, p: x)]}, ValueError, "internal_events.*one number"),
        ({"spike_condition": lambda t, x, p: x["v"] > 1.0}, TypeError, "`spike_condition.*floating.*got 'bool'.*- 1.0"),
        (
            {"internal_events": [(lambda t, x, p: jnp.int32(x["v"]), lambda t, x, p: x)]},
            TypeError,
            "internal_events.*floating.*got 'int32'",
        ),
        ({"internal_events": [3]}, TypeError, "internal_events.*pairs"),
        ({"dynamics": None}, TypeError, "`dynamics` must be a function"),
        ({"synapse": sx.DeltaSynapse()}, TypeError, "`synapse`.*receive"),
    ],
)
def test_what_does_not_fit_is_told_at_once(change, error, message):
    with pytest.raises(error, match=message):
        written(**change)


class Flat(sx.LIF):
    """A class whose reset forgets the name of the state."""

    def reset(self, t, state):
        return jnp.zeros(())


def test_a_layer_checks_the_structure():
    with pytest.raises(ValueError, match="`reset.*must be LIFState"):
        sx.Layer(Flat(), 3)


def test_remarks():
    assert sx.check_neuron(written()).remarks == ()
    assert sx.check_neuron(sx.LIF(tau_mem=jnp.asarray([10.0, 20.0]))).remarks == ()
    assert "does not spike" in sx.check_neuron(sx.LI()).remarks[0]
    assert "spikes at `t0`" in sx.check_neuron(sx.LIF(v_rest=2.0)).remarks[0]
    deaf = written(dynamics=lambda t, x, drive, p: {"v": -x["v"], "w": -x["w"]})
    assert "drive does not reach" in sx.check_neuron(deaf).remarks[0]


def test_a_report_says_what_was_checked():
    report = sx.check_neuron(sx.LIF())
    assert (
        repr(report)
        == str(report)
        == (
            "LIF is fine: state v; 1 event; linear. "
            "Checked: structures, initial values, drive, spike condition, reset, linearity."
        )
    )
    refractory = sx.check_neuron(sx.Refractory(sx.EIF()))
    assert refractory.state == ("inner.v", "rests", "ready_at") and refractory.events == 2 and not refractory.is_linear
    first, remark = repr(sx.check_neuron(sx.LI())).split("\n")
    assert first.startswith("LI can be simulated, but see the remarks: state v; 1 event; linear. ")
    assert "reset" not in first and remark.startswith("- LI does not spike")
    number = {"dynamics": lambda t, v, drive, p: drive - v, "spike_condition": lambda t, v, p: v - 1.0}
    one = sx.neuron_from(initial_state=0.0, reset=lambda t, v, p: 0.0, **number)
    assert sx.check_neuron(one).state == ("a number",)


@pytest.mark.parametrize("step", [lambda v: jnp.sign(v - 1.0), lambda v: jnp.where(v > 1.0, 1.0, -1.0)])
def test_a_condition_that_jumps_is_an_error(step):
    """Its spikes could be lost, and have no derivative."""
    with pytest.raises(ValueError, match="`spike_condition.*rises through zero; got steps.*`state.v - 1.0`"):
        written(spike_condition=lambda t, x, p: step(x["v"]))
    # One that does not depend on anything never rises.
    assert "does not spike" in sx.check_neuron(written(spike_condition=lambda t, x, p: -1.0)).remarks[0]


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_traced_values_of_an_enclosing_function_are_an_error(transform):
    """They would have no derivative."""

    def enclosing(tau):
        written(dynamics=lambda t, x, drive, p: {"v": (drive - x["v"]) / tau, "w": -x["w"]})
        return tau

    with pytest.raises(
        ValueError, match=r"its parameters; got one that uses traced values .*: float.*\[\]\. Make them"
    ):
        transform(enclosing)(jnp.ones(3 if transform is jax.vmap else ()))


def test_of_traced_parameters_the_structures_are_checked():
    reports = []
    jax.jit(lambda tau: [tau, reports.append(sx.check_neuron(sx.LIF(tau)))][0])(jnp.asarray(20.0))
    assert reports[0].checked == ("structures",) and "Checked: structures." in repr(reports[0])


class Claiming(sx.QIF):
    """It says that it is linear, and is not."""

    is_linear = True


def test_a_false_claim_of_linearity_is_an_error():
    with pytest.raises(ValueError, match="`is_linear` must be False; got True"):
        sx.check_neuron(Claiming())


def test_a_threshold_without_reset_is_fine():
    assert sx.check_neuron(written(reset=lambda t, x, p: x)).remarks == ()


@pytest.mark.parametrize("neuron", [sx.QIF(), sx.EIF(), sx.EGRU(), sx.Izhikevich(), sx.HodgkinHuxley()])
def test_the_models_fit_together(neuron):
    assert sx.check_neuron(neuron).remarks == ()
