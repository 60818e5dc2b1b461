"""The float type of a gradient is that of the network, whatever JAX's default is: traced, not compiled."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spikax as sx

from .helpers import finite_sum, random_inputs, single_layer


# Only there is a stray default float another one; strict promotion refuses to mix them.
pytestmark = pytest.mark.modes("mixed")

PORTS = {"exc": sx.ExpSynapse(), "inh": sx.AlphaSynapse()}
DENDRITES = {"basal": sx.Dendrite(sx.LI()), "tuft": sx.Dendrite(sx.CalciumDendrite(), parent="basal")}
NEURONS = {
    "lif": sx.LIF(),
    "lif-alpha": sx.LIF(synapse=sx.AlphaSynapse()),
    "lif-delta": sx.LIF(synapse=sx.DeltaSynapse()),
    "li": sx.LI(),
    "if": sx.IF(),
    "qif": sx.QIF(),
    "qif-delta": sx.QIF(synapse=sx.DeltaSynapse()),
    "eif": sx.EIF(),
    "alif": sx.ALIF(),
    "adex": sx.AdEx(),
    "resonate": sx.ResonateAndFire(),
    "izhikevich": sx.Izhikevich.preset("chattering"),
    "hodgkin-huxley": sx.HodgkinHuxley(),
    "morris-lecar": sx.MorrisLecar(),
    "egru": sx.EGRU(),
    "positive": sx.LIF(sx.Positive(20.0)),
    "refractory": sx.Refractory(sx.EIF()),
    "refractory-delta": sx.Refractory(sx.LIF(synapse=sx.DeltaSynapse()), held_fraction=0.5),
    "filtered-bias": sx.FilteredBias(sx.LIF(synapse=sx.FilteredHoldSynapse())),
    "integrator": sx.Integrator(synapse=sx.HoldSynapse()),
    "threshold": sx.Threshold(sx.LI()),
    "single-spike": sx.SingleSpike(sx.LIF()),
    "conductance": sx.ConductanceBased(sx.LIF(synapse=PORTS), {"exc": 4.0, "inh": -1.0}),
    "compartments": sx.MultiCompartment(
        sx.LIF(), DENDRITES, {"tuft": sx.ExpSynapse(), "basal": sx.DeltaSynapse(), "soma": sx.AlphaSynapse()}
    ),
}
METHODS = {
    "parallel": (sx.LIF(), {"method": sx.ClosedForm()}),
    "linear": (sx.ALIF(), {"method": sx.ClosedForm()}),
    "first-spikes": (sx.LIF(), {"method": sx.ClosedForm(), "until": sx.FirstSpikes(), "saveat": None}),
    "cells": (sx.EIF(), {"method": sx.EventLoop(bin=1.0)}),
    "fixed": (sx.EIF(), {"method": sx.EventLoop(dt0=0.5)}),
    "segments": (sx.QIF(), {"method": sx.EventLoop(), "adjoint": sx.DiscreteAdjoint(memory=1)}),
    "continuous": (sx.QIF(), {"method": sx.EventLoop(), "adjoint": sx.EventPropAdjoint()}),
}


def is_synapse(x):
    return isinstance(x, sx.AbstractSynapse)


def assert_all_floats_are(dtype, neuron, loops=(), **options):
    """Those of the solution, and those of the gradient of its times, states and drives."""
    neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), neuron)
    weight = jax.tree.map(lambda _: jnp.ones((2, 3)), neuron.synapse, is_leaf=is_synapse)
    network, inputs = single_layer(neuron, weight, dtype), random_inputs(0, (2, 2, 3), 10.0, dtype)
    network = sx.Network(network.layers, [*network.connections, *loops], 2, "output")

    @eqx.filter_value_and_grad(has_aux=True)
    def total(arguments):
        solution = sx.simulate(*arguments, 20.0, **({"saveat": [5.0, 20.0]} | options))
        floats = jax.tree.leaves((solution.states, solution.drives))
        value = finite_sum(solution.spikes["output"].times, jnp.ones((), dtype))
        return value + sum((jnp.sum(x) for x in floats), jnp.zeros((), dtype)), solution

    (value, solution), gradient = eqx.filter_eval_shape(total, (network, inputs))
    for leaf in jax.tree.leaves((value, solution, gradient)):
        if isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact):
            assert leaf.dtype == dtype


@pytest.mark.parametrize("name", NEURONS)
def test_of_a_neuron(name, dtype):
    assert_all_floats_are(dtype, NEURONS[name])


@pytest.mark.parametrize("name", METHODS)
def test_of_a_method(name, dtype):
    neuron, options = METHODS[name]
    assert_all_floats_are(dtype, neuron, **options)


@pytest.mark.parametrize("name", METHODS)
def test_of_tangents_and_second_derivatives(name, dtype):
    """Both are traced, with all shapes and types."""
    neuron, options = METHODS[name]
    neuron = jax.tree.map(lambda x: jnp.asarray(x, dtype), neuron)
    network, inputs = single_layer(neuron, np.ones((2, 3)), dtype), random_inputs(0, (2, 2, 3), 10.0, dtype)

    def total(weight, adjoint):
        given = eqx.tree_at(lambda network: network.connections[0].weight, network, weight)
        solution = sx.simulate(given, inputs, 20.0, **({"saveat": [5.0]} | options | {"adjoint": adjoint}))
        return finite_sum(solution.spikes["output"].times, jnp.ones((), dtype))

    def both(weight):
        tangent = jax.jvp(lambda w: total(w, sx.ForwardMode()), (weight,), (weight,))
        second = jax.jvp(jax.grad(lambda w: total(w, sx.DiscreteAdjoint())), (weight,), (weight,))
        return tangent, second

    for leaf in jax.tree.leaves(jax.eval_shape(both, network.connections[0].weight)):
        assert leaf.dtype == dtype


def test_of_a_layer_that_shares_a_clock(dtype):
    loops = [sx.Dense("output", "output", jnp.ones((3, 3), dtype))]
    assert_all_floats_are(dtype, sx.QIF(), loops, method=sx.EventLoop())
