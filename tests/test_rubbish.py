"""Rubbish in every public constructor and argument raises our own error: "`name` must be ...; got ..."."""

import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spikax as sx

from .helpers import cast


NAN = float("nan")
KEY = jax.random.key(0)
TIMES = jnp.ones((2, 1))
LAYER = sx.Layer(sx.LIF(), 3, weights=sx.init.constant(1.0))
WEIGHT = jnp.ones((2, 3))
LAYERS = {"a": sx.Layer(sx.LIF(), 3)}
NETWORK = sx.sequential(2, LAYER, key=KEY)
INPUTS = sx.Spikes(TIMES)
STATES = sx.LIFState(jnp.ones((1, 3)))
AT_END = sx.LIFState(jnp.ones(3))
SOLUTION = sx.Solution({"a": INPUTS}, {}, {}, {}, None, sx.RESULTS.successful, {}, {})
PORTS = {"exc": sx.ExpSynapse(), "inh": sx.ExpSynapse()}


def simulate(network=NETWORK, inputs=INPUTS, t1=10.0, **options):
    return sx.simulate(network, inputs, t1, **options)


def network(layers=LAYERS, connections=(), inputs=2, outputs="a"):
    return sx.Network(layers, connections, inputs, outputs)


def conv(weight=None, image=(4, 4), **options):
    return sx.Conv("input", "a", jnp.ones((1, 1, 3, 3)) if weight is None else weight, image=image, **options)


def sparse(sources=(0, 1), targets=(2, 0), weight=None, shape=(2, 3), **options):
    weight = jnp.ones(2) if weight is None else weight
    return sx.Sparse("input", "a", list(sources), list(targets), weight, shape=shape, **options)


def cross_entropy(times=None, labels=(0, 1), t_silent=10.0, **options):
    times = jnp.ones((2, 3)) if times is None else times
    labels = jnp.asarray(labels) if isinstance(labels, tuple) else labels
    return sx.losses.first_spike_cross_entropy(times, labels, t_silent=t_silent, **options)


def mse(labels=(0, 1), **options):
    times = {"t_label": 1.0, "t_other": 2.0, "t_silent": 10.0} | options
    return sx.losses.first_spike_mse(jnp.ones((2, 3)), jnp.asarray(labels), **times)


def fluctuating(rate=0.1, tau_mem=20.0, tau_syn=5.0, **options):
    return sx.init.fluctuation_driven(rate, tau_mem=tau_mem, tau_syn=tau_syn, **options)


class Carrying(sx.LIF):
    def payload(self, t, state, drive):
        return state.v


def compartments(**options):
    given = {"soma": sx.LIF(), "dendrites": {"a": sx.Dendrite(sx.LI())}, "synapse": {"a": sx.ExpSynapse()}}
    return sx.MultiCompartment(**(given | options))


def loader(inputs=None, targets=None, batch_size=2, **options):
    inputs, targets = (jnp.ones(4) if part is None else part for part in (inputs, targets))
    return sx.datasets.Loader(inputs, targets, batch_size=batch_size, **options)


def fit(network=None, **options):
    given = {
        "objective": lambda network, x, y: ((network * x) ** 2, {"accuracy": y}),
        "training": loader(),
        "validation": loader(),
        "optimizer": optax.sgd(0.1),
        "epochs": 1,
    } | options
    first = [given.pop(name) for name in ("objective", "training", "validation")]
    return sx.train.fit(jnp.asarray(1.0) if network is None else network, *first, **given)


# What must be complained about, and calls that must complain about it.
CALLS = {
    "init.constant": [
        ("value", lambda: sx.init.constant("a")),
        ("value", lambda: sx.init.constant(NAN)),
        ("value", lambda: sx.init.constant(None)),
        ("value", lambda: sx.init.constant(True)),
    ],
    "init.normal": [
        ("mean", lambda: sx.init.normal("a", 1.0)),
        ("mean", lambda: sx.init.normal(np.inf, 1.0)),
        ("std", lambda: sx.init.normal(0.0, -1.0)),
        ("std", lambda: sx.init.normal(0.0, None)),
    ],
    "init.scaled_normal": [
        ("mean", lambda: sx.init.scaled_normal([], 1.0)),
        ("std", lambda: sx.init.scaled_normal(0.0, -1.0)),
    ],
    "init.scaled_uniform": [
        ("mean", lambda: sx.init.scaled_uniform(NAN, 1.0)),
        ("std", lambda: sx.init.scaled_uniform(0.0, 0.0)),
    ],
    "init.uniform": [
        ("low", lambda: sx.init.uniform(1.0, 1.0)),
        ("low", lambda: sx.init.uniform("a", 1.0)),
        ("high", lambda: sx.init.uniform(0.0, NAN)),
    ],
    "init.fluctuation_driven": [
        ("rate", lambda: fluctuating(rate=0.0)),
        ("rate", lambda: fluctuating(rate=None)),
        ("tau_mem", lambda: fluctuating(tau_mem=-1.0)),
        ("tau_syn", lambda: fluctuating(tau_syn="a")),
        ("mean", lambda: fluctuating(mean=NAN)),
        ("std", lambda: fluctuating(std=0.0)),
        ("std", lambda: fluctuating(mean=9.0)(KEY, (3, 2))),
    ],
    "synapses": [
        ("tau", lambda: sx.ExpSynapse(0.0)),
        ("tau", lambda: sx.ExpSynapse(-1.0)),
        ("tau", lambda: sx.ExpSynapse("5")),
        ("tau", lambda: sx.ExpSynapse(jnp.asarray([5.0, -1.0]))),
        ("tau", lambda: sx.ExpSynapse(jnp.asarray(5))),
        ("tau", lambda: sx.AlphaSynapse(NAN)),
        ("tau", lambda: sx.AlphaSynapse(None)),
        ("tau", lambda: sx.AlphaSynapse(True)),
        ("tau", lambda: sx.FilteredHoldSynapse(0.0)),
    ],
    "LIF": [
        ("tau_mem", lambda: sx.LIF(0.0)),
        ("tau_mem", lambda: sx.LIF("a")),
        ("tau_mem", lambda: sx.LIF(1j)),
        ("tau_mem", lambda: sx.LIF([20.0])),
        ("tau_mem", lambda: sx.LIF(jnp.asarray([20.0, NAN]))),
        ("v_rest", lambda: sx.LIF(v_rest=None)),
        ("v_threshold", lambda: sx.LIF(v_threshold=np.inf)),
        ("v_reset", lambda: sx.LIF(v_reset=1.0)),
        ("v_reset", lambda: sx.LIF(v_reset=jnp.asarray([0.0, 2.0]))),
        ("bias", lambda: sx.LIF(bias="a")),
        ("synapse", lambda: sx.LIF(synapse=5.0)),
        ("synapse", lambda: sx.LIF(synapse=None)),
        ("synapse", lambda: sx.LIF(synapse=sx.ExpSynapse)),
        ("synapse", lambda: sx.LIF(synapse={})),
        ("synapse", lambda: sx.LIF(synapse={"exc": 3.0})),
        ("synapse", lambda: sx.LIF(synapse=[sx.ExpSynapse()])),
    ],
    "LI": [
        ("tau_mem", lambda: sx.LI(-1.0)),
        ("v_rest", lambda: sx.LI(v_rest=NAN)),
        ("bias", lambda: sx.LI(bias=())),
        ("synapse", lambda: sx.LI(synapse="exp")),
    ],
    "QIF": [
        ("tau_mem", lambda: sx.QIF(-1.0)),
        ("bias", lambda: sx.QIF(bias=NAN)),
        ("synapse", lambda: sx.QIF(synapse=1)),
    ],
    "EIF": [
        ("tau_mem", lambda: sx.EIF(-1.0)),
        ("slope_factor", lambda: sx.EIF(slope_factor=0.0)),
        ("v_rest", lambda: sx.EIF(v_rest="a")),
        ("v_rheobase", lambda: sx.EIF(v_rheobase=NAN)),
        ("v_peak", lambda: sx.EIF(v_peak=None)),
        ("v_reset", lambda: sx.EIF(v_reset=3.0)),
        ("bias", lambda: sx.EIF(bias=np.inf)),
        ("synapse", lambda: sx.EIF(synapse=sx.LIF())),
    ],
    "IF": [
        ("tau_mem", lambda: sx.IF(0.0)),
        ("v_threshold", lambda: sx.IF(v_threshold=NAN)),
        ("v_reset", lambda: sx.IF(v_reset=2.0)),
        ("bias", lambda: sx.IF(bias="a")),
        ("synapse", lambda: sx.IF(synapse=3.0)),
    ],
    "ResonateAndFire": [
        ("tau_mem", lambda: sx.ResonateAndFire(0.0)),
        ("period", lambda: sx.ResonateAndFire(period=-1.0)),
        ("v_threshold", lambda: sx.ResonateAndFire(v_threshold="a")),
        ("u_reset", lambda: sx.ResonateAndFire(u_reset=NAN)),
        ("v_reset", lambda: sx.ResonateAndFire(v_reset=1.0)),
        ("bias", lambda: sx.ResonateAndFire(bias=None)),
        ("synapse", lambda: sx.ResonateAndFire(synapse={})),
    ],
    "ALIF": [
        ("tau_mem", lambda: sx.ALIF(0.0)),
        ("tau_adapt", lambda: sx.ALIF(tau_adapt=-1.0)),
        ("v_rest", lambda: sx.ALIF(v_rest=None)),
        ("v_threshold", lambda: sx.ALIF(v_threshold="a")),
        ("v_reset", lambda: sx.ALIF(v_reset=1.0)),
        ("increment", lambda: sx.ALIF(increment=np.inf)),
        ("bias", lambda: sx.ALIF(bias=NAN)),
        ("synapse", lambda: sx.ALIF(synapse={})),
    ],
    "AdEx": [
        ("tau_mem", lambda: sx.AdEx(-1.0)),
        ("tau_adapt", lambda: sx.AdEx(tau_adapt=0.0)),
        ("slope_factor", lambda: sx.AdEx(slope_factor=0.0)),
        ("v_rest", lambda: sx.AdEx(v_rest="a")),
        ("v_rheobase", lambda: sx.AdEx(v_rheobase=NAN)),
        ("v_peak", lambda: sx.AdEx(v_peak=None)),
        ("v_reset", lambda: sx.AdEx(v_reset=-40.0)),
        ("coupling", lambda: sx.AdEx(coupling=True)),
        ("increment", lambda: sx.AdEx(increment=NAN)),
        ("bias", lambda: sx.AdEx(bias=())),
        ("synapse", lambda: sx.AdEx(synapse=None)),
    ],
    "Izhikevich": [
        ("a", lambda: sx.Izhikevich("a")),
        ("b", lambda: sx.Izhikevich(b=NAN)),
        ("c", lambda: sx.Izhikevich(c=30.0)),
        ("d", lambda: sx.Izhikevich(d=None)),
        ("v_peak", lambda: sx.Izhikevich(v_peak=np.inf)),
        ("bias", lambda: sx.Izhikevich(bias="a")),
        ("synapse", lambda: sx.Izhikevich(synapse=1)),
        ("name", lambda: sx.Izhikevich.preset("regular")),
        ("name", lambda: sx.Izhikevich.preset(None)),
        ("name", lambda: sx.Izhikevich.preset([])),
        ("bias", lambda: sx.Izhikevich.preset("chattering", bias="a")),
    ],
    "HodgkinHuxley": [
        ("capacitance", lambda: sx.HodgkinHuxley(0.0)),
        ("g_sodium", lambda: sx.HodgkinHuxley(g_sodium=-1.0)),
        ("g_potassium", lambda: sx.HodgkinHuxley(g_potassium="a")),
        ("g_leak", lambda: sx.HodgkinHuxley(g_leak=NAN)),
        ("v_sodium", lambda: sx.HodgkinHuxley(v_sodium=None)),
        ("v_potassium", lambda: sx.HodgkinHuxley(v_potassium=np.inf)),
        ("v_leak", lambda: sx.HodgkinHuxley(v_leak="a")),
        ("v_rest", lambda: sx.HodgkinHuxley(v_rest=NAN)),
        ("v_threshold", lambda: sx.HodgkinHuxley(v_threshold=True)),
        ("bias", lambda: sx.HodgkinHuxley(bias=[])),
        ("synapse", lambda: sx.HodgkinHuxley(synapse="exp")),
    ],
    "MorrisLecar": [
        ("capacitance", lambda: sx.MorrisLecar(-1.0)),
        ("g_calcium", lambda: sx.MorrisLecar(g_calcium=0.0)),
        ("g_potassium", lambda: sx.MorrisLecar(g_potassium=0.0)),
        ("g_leak", lambda: sx.MorrisLecar(g_leak="a")),
        ("v_calcium", lambda: sx.MorrisLecar(v_calcium=NAN)),
        ("v_potassium", lambda: sx.MorrisLecar(v_potassium=None)),
        ("v_leak", lambda: sx.MorrisLecar(v_leak=np.inf)),
        ("v1", lambda: sx.MorrisLecar(v1="a")),
        ("v2", lambda: sx.MorrisLecar(v2=0.0)),
        ("v3", lambda: sx.MorrisLecar(v3=NAN)),
        ("v4", lambda: sx.MorrisLecar(v4=-1.0)),
        ("recovery", lambda: sx.MorrisLecar(recovery=0.0)),
        ("v_rest", lambda: sx.MorrisLecar(v_rest=None)),
        ("v_threshold", lambda: sx.MorrisLecar(v_threshold=NAN)),
        ("bias", lambda: sx.MorrisLecar(bias=1j)),
        ("synapse", lambda: sx.MorrisLecar(synapse=sx.ExpSynapse)),
    ],
    "Layer": [
        ("neuron", lambda: sx.Layer(sx.LIF, 3)),
        ("neuron", lambda: sx.Layer(3, sx.LIF())),
        ("size", lambda: sx.Layer(sx.LIF(), 0)),
        ("size", lambda: sx.Layer(sx.LIF(), 3.0)),
        ("size", lambda: sx.Layer(sx.LIF(), True)),
        ("neuron.tau_mem", lambda: sx.Layer(sx.LIF(jnp.ones(4)), 3)),
        ("neuron.synapse.tau", lambda: sx.Layer(sx.LIF(synapse=sx.ExpSynapse(jnp.ones(4))), 3)),
        ("name", lambda: sx.Layer(sx.LIF(), 3, name=3)),
    ],
    "Dense": [
        ("source", lambda: sx.Dense(1, "a", WEIGHT)),
        ("target", lambda: sx.Dense("input", None, WEIGHT)),
        ("weight", lambda: sx.Dense("input", "a", None)),
        ("weight", lambda: sx.Dense("input", "a", [[1.0]])),
        ("weight", lambda: sx.Dense("input", "a", 1.0)),
        ("weight", lambda: sx.Dense("input", "a", jnp.ones(3))),
        ("weight", lambda: sx.Dense("input", "a", jnp.ones((2, 3), int))),
        ("weight", lambda: sx.Dense("input", "a", {"exc": jnp.ones((2, 3)), "inh": jnp.ones((3, 3))})),
        ("weight", lambda: sx.Dense("input", "a", WEIGHT.at[0, 0].set(NAN))),
    ],
    "delay": [
        ("delay", lambda: sx.Dense("input", "a", WEIGHT, "1 ms")),
        ("delay", lambda: sx.Dense("input", "a", WEIGHT, -1.0)),
        ("delay", lambda: sx.Dense("input", "a", WEIGHT, NAN)),
        ("delay", lambda: sx.Dense("input", "a", WEIGHT, jnp.ones(3))),
        ("delay", lambda: sx.Dense("input", "a", WEIGHT, jnp.ones((3, 2)))),
        ("delay", lambda: sx.OneToOne("input", "a", jnp.ones(3), jnp.ones(2))),
        ("delay", lambda: sparse(delay=jnp.ones(3))),
        ("delay", lambda: sx.recurrent(2, LAYER, key=KEY, weights=sx.init.constant(0.1), delay=[1.0])),
        ("delay", lambda: conv(delay=jnp.ones(16))),
    ],
    "Sparse": [
        ("sources", lambda: sparse(sources=(0, 2))),
        ("sources", lambda: sparse(sources=(0.0, 1.0))),
        ("sources", lambda: sparse(sources=())),
        ("targets", lambda: sparse(targets=(-1, 0))),
        ("targets", lambda: sparse(targets=(1,))),
        ("weight", lambda: sparse(weight=jnp.ones(3))),
        ("shape", lambda: sparse(shape=2)),
        ("shape", lambda: sparse(shape=(2, 0))),
    ],
    "OneToOne": [
        ("weight", lambda: sx.OneToOne("input", "a", jnp.ones((3, 3)))),
        ("weight", lambda: network(inputs=3, connections=[sx.OneToOne("input", "a", jnp.ones(2))])),
    ],
    "Conv": [
        ("weight", lambda: conv(jnp.ones((3, 3)))),
        ("weight", lambda: conv(image=(2, 2))),
        ("image", lambda: conv(image=4)),
        ("image", lambda: conv(image=(4, 0))),
        ("stride", lambda: conv(stride=0)),
        ("stride", lambda: conv(stride=(1, 0))),
        ("stride", lambda: conv(stride=(1, 1, 1))),
        ("padding", lambda: conv(padding=-1)),
        ("padding", lambda: conv(padding="same")),
        ("dilation", lambda: conv(dilation=0)),
        ("dilation", lambda: conv(dilation=1.5)),
        ("weight", lambda: conv(dilation=2)),
        ("groups", lambda: conv(groups=0)),
        ("groups", lambda: conv(groups=2)),
    ],
    "Rectangular": [
        ("connection", lambda: sx.Rectangular(WEIGHT, 1.0)),
        ("duration", lambda: sx.Rectangular(sx.Dense("input", "a", WEIGHT), 0.0)),
        ("duration", lambda: sx.Rectangular(sx.Dense("input", "a", WEIGHT), jnp.ones(2))),
        ("duration", lambda: sx.Rectangular(sx.Dense("input", "a", WEIGHT), "1 ms")),
    ],
    "Network": [
        ("layers", lambda: network(layers=[sx.Layer(sx.LIF(), 3)])),
        ("layers", lambda: network(layers={})),
        ("layers['a']", lambda: network(layers={"a": sx.LIF()})),
        ("layers['a'].weights", lambda: network(layers={"a": LAYER})),
        ("layers['a'].weights", lambda: network(layers={"a": sx.Layer(sx.LIF(), 3, weights=WEIGHT)})),
        ("layers", lambda: network(layers={"input": sx.Layer(sx.LIF(), 3)}, outputs="input")),
        ("connections", lambda: network(connections=None)),
        ("connections", lambda: network(connections=sx.Dense("input", "a", WEIGHT))),
        ("connections", lambda: network(connections=[WEIGHT])),
        ("source", lambda: network(connections=[sx.Dense("b", "a", WEIGHT)])),
        ("target", lambda: network(connections=[sx.Dense("input", "b", WEIGHT)])),
        ("weight", lambda: network(connections=[sx.Dense("input", "a", jnp.ones((3, 3)))])),
        ("weight", lambda: network(connections=[sx.Dense("input", "a", {"exc": WEIGHT})])),
        ("weight", lambda: network({"a": sx.Layer(sx.EGRU(), 3)}, [sx.Dense("input", "a", WEIGHT)])),
        ("inputs", lambda: network(inputs=0)),
        ("inputs", lambda: network(inputs=None)),
        ("inputs", lambda: network(inputs="a")),
        ("inputs", lambda: network(inputs={})),
        ("inputs['x']", lambda: network(inputs={"x": -1})),
        ("outputs", lambda: network(outputs="b")),
        ("outputs", lambda: network(outputs=["a", "b"])),
        ("outputs", lambda: network(outputs=[])),
        ("outputs", lambda: network(outputs=3)),
    ],
    "recurrent": [
        ("weights", lambda: sx.recurrent(2, LAYER, key=KEY, weights=None)),
        ("weights", lambda: sx.recurrent(2, LAYER, key=KEY, weights=jnp.ones((2, 3)))),
        ("delay", lambda: sx.sequential(2, LAYER, key=KEY, delay=-1.0)),
        ("delay", lambda: sx.sequential(2, LAYER, key=KEY, delay=jnp.ones(3))),
        ("delay", lambda: sx.sequential(2, LAYER, key=KEY, delay=[1.0, 1.0])),
        ("delay", lambda: sx.sequential(2, LAYER, key=KEY, delay=sx.init.constant(-1.0))),
        ("delay", lambda: sx.sequential(2, LAYER, key=KEY, delay=lambda key, shape: "a")),
        ("delay", lambda: sx.recurrent(2, LAYER, key=KEY, weights=sx.init.constant(1.0), delay=-1.0)),
    ],
    "sequential": [
        ("inputs", lambda: sx.sequential(0, LAYER, key=KEY)),
        ("inputs", lambda: sx.sequential(LAYER, LAYER, key=KEY)),
        ("layers", lambda: sx.sequential(2, key=KEY)),
        ("layers", lambda: sx.sequential(2, 3, key=KEY)),
        ("layers", lambda: sx.sequential(2, [LAYER], key=KEY)),
        ("key", lambda: sx.sequential(2, LAYER, key=0)),
        ("key", lambda: sx.sequential(2, LAYER, key=None)),
        ("key", lambda: sx.sequential(2, LAYER, key=jax.random.split(KEY))),
        ("weights", lambda: sx.sequential(2, sx.Layer(sx.LIF(), 3), key=KEY)),
        ("weights", lambda: sx.sequential(2, sx.Layer(sx.LIF(), 3, weights=jnp.ones((3, 2))), key=KEY)),
        ("weights", lambda: sx.sequential(2, sx.Layer(sx.LIF(), 3, weights="normal"), key=KEY)),
        ("weights", lambda: sx.sequential(2, sx.Layer(sx.LIF(), 3, weights=1.0), key=KEY)),
        ("weights", lambda: sx.sequential(2, sx.Layer(sx.LIF(), 3, weights=lambda key, shape: None), key=KEY)),
        (
            "name",
            lambda: sx.sequential(2, LAYER, sx.Layer(sx.LIF(), 3, weights=jnp.ones((3, 3)), name="hidden"), key=KEY),
        ),
    ],
    "Spikes": [
        ("times", lambda: sx.Spikes(None)),
        ("times", lambda: sx.Spikes("a")),
        ("times", lambda: sx.Spikes(1.0)),
        ("times", lambda: sx.Spikes(jnp.ones(3))),
        ("times", lambda: sx.Spikes(jnp.ones((2, 0)))),
        ("times", lambda: sx.Spikes(jnp.asarray([[2.0, 1.0]]))),
        ("times", lambda: sx.Spikes(jnp.asarray([[NAN, 1.0]]))),
        ("times", lambda: sx.Spikes(jnp.asarray([[-jnp.inf, 1.0]]))),
        ("times", lambda: sx.Spikes(jnp.ones((2, 1), bool))),
        ("times", lambda: sx.Spikes([[1.0], [1.0, 2.0]])),
        ("times", lambda: sx.Spikes(np.ones((2, 1), complex))),
    ],
    "Events": [
        ("times", lambda: sx.Events("a", jnp.zeros(3, int), 2)),
        ("times", lambda: sx.Events(1.0, 0, 2)),
        ("times", lambda: sx.Events(jnp.asarray([2.0, 1.0]), jnp.zeros(2, int), 2)),
        ("channels", lambda: sx.Events(jnp.ones(2), jnp.zeros(3, int), 2)),
        ("channels", lambda: sx.Events(jnp.ones(2), jnp.zeros(2), 2)),
        ("channels", lambda: sx.Events(jnp.ones(2), None, 2)),
        ("channels", lambda: sx.Events(jnp.ones(2), jnp.asarray([0, 2]), 2)),
        ("channels", lambda: sx.Events(jnp.ones(2), jnp.asarray([0, -1]), 2)),
        ("n", lambda: sx.Events(jnp.ones(2), jnp.zeros(2, int), 0)),
        ("n", lambda: sx.Events(jnp.ones(2), jnp.zeros(2, int), 2.0)),
    ],
    "from_events": [
        ("times", lambda: sx.Spikes.from_events("a", jnp.zeros(3, int), 2)),
        ("times", lambda: sx.Spikes.from_events(1.0, 0, 2)),
        ("times", lambda: sx.Spikes.from_events(jnp.asarray([NAN, 1.0]), jnp.zeros(2, int), 2)),
        ("channels", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.zeros(3, int), 2)),
        ("channels", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.ones(2), 2)),
        ("channels", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.asarray([0, 5]), 2)),
        ("channels", lambda: sx.Spikes.from_events(jnp.ones(2), None, 2)),
        ("n", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.zeros(2, int), -1)),
        ("n", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.zeros(2, int), "2")),
        ("max_spikes", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.zeros(2, int), 2, max_spikes=0)),
        ("max_spikes", lambda: sx.Spikes.from_events(jnp.ones(2), jnp.zeros(2, int), 2, max_spikes=1.5)),
        (
            "max_spikes",
            lambda: jax.jit(lambda t: sx.Spikes.from_events(t, jnp.zeros(2, int), 2).times)(jnp.ones(2)),
        ),
    ],
    "Refractory": [
        ("neuron", lambda: sx.Refractory(sx.LIF)),
        ("neuron", lambda: sx.Refractory(None)),
        ("period", lambda: sx.Refractory(sx.LIF(), 0.0)),
        ("period", lambda: sx.Refractory(sx.LIF(), jnp.asarray([2.0, -1.0]))),
        ("period", lambda: sx.Refractory(sx.LIF(), np.inf)),
        ("held_fraction", lambda: sx.Refractory(sx.LIF(), held_fraction="held")),
        ("held_fraction", lambda: sx.Refractory(sx.LIF(), held_fraction=1.5)),
        ("held_fraction", lambda: sx.Refractory(sx.LIF(), held_fraction=-0.1)),
        ("frozen", lambda: sx.Refractory(sx.LIF(), frozen="v")),
        ("frozen", lambda: sx.Refractory(sx.LIF(), frozen=())),
        ("frozen", lambda: sx.Refractory(sx.LIF(), frozen=["v", "w"])),
        ("neuron", lambda: sx.Refractory(sx.LIF, frozen=["v"])),
    ],
    "SingleSpike": [
        ("neuron", lambda: sx.SingleSpike(3.0)),
        ("freezes", lambda: sx.SingleSpike(sx.LIF(), freezes="yes")),
        ("freezes", lambda: sx.SingleSpike(sx.LIF(), freezes=None)),
    ],
    "FilteredBias": [
        ("neuron", lambda: sx.FilteredBias(3.0)),
        ("neuron", lambda: sx.FilteredBias(sx.LIF(synapse=PORTS))),
        ("bias", lambda: sx.FilteredBias(sx.LIF(), NAN)),
        ("tau", lambda: sx.FilteredBias(sx.LIF(), 1.0, 0.0)),
    ],
    "Threshold": [
        ("neuron", lambda: sx.Threshold(3.0)),
        ("v_threshold", lambda: sx.Threshold(sx.LI(), NAN)),
    ],
    "Integrator": [
        ("tau_mem", lambda: sx.Integrator(0.0)),
        ("bias", lambda: sx.Integrator(bias="a")),
    ],
    "ConductanceBased": [
        ("neuron", lambda: sx.ConductanceBased(sx.LIF, 0.0)),
        ("neuron", lambda: sx.ConductanceBased(sx.LIF(synapse=sx.DeltaSynapse()), 0.0)),
        ("neuron", lambda: sx.ConductanceBased(Silent(sx.ExpSynapse()), 0.0)),
        ("reversal", lambda: sx.ConductanceBased(sx.LIF(), {"exc": 0.0})),
        ("reversal", lambda: sx.ConductanceBased(sx.LIF(synapse=PORTS), 0.0)),
        ("reversal", lambda: sx.ConductanceBased(sx.LIF(synapse=PORTS), {"exc": 0.0})),
        ("reversal", lambda: sx.ConductanceBased(sx.LIF(synapse=PORTS), {"exc": 0.0, "inh": NAN})),
        ("reversal", lambda: sx.ConductanceBased(sx.LIF(), "a")),
    ],
    "Dendrite": [
        ("membrane", lambda: sx.Dendrite(sx.LI)),
        ("membrane", lambda: sx.Dendrite(Silent())),
        ("coupling", lambda: sx.Dendrite(sx.LI(), "a")),
        ("parent_coupling", lambda: sx.Dendrite(sx.LI(), 1.0, NAN)),
        ("parent", lambda: sx.Dendrite(sx.LI(), parent=0)),
    ],
    "MultiCompartment": [
        ("soma", lambda: compartments(soma=Carrying())),
        ("soma", lambda: compartments(soma=None)),
        ("dendrites", lambda: compartments(dendrites=sx.Dendrite(sx.LI()))),
        ("dendrites", lambda: compartments(dendrites={})),
        ("dendrites", lambda: compartments(dendrites={"soma": sx.Dendrite(sx.LI())})),
        ("dendrites['a']", lambda: compartments(dendrites={"a": sx.LI()})),
        ("dendrites['a'].parent", lambda: compartments(dendrites={"a": sx.Dendrite(sx.LI(), parent="b")})),
        ("dendrites['a'].parent", lambda: compartments(dendrites={"a": sx.Dendrite(sx.LI(), parent="a")})),
        ("synapse", lambda: compartments(synapse=sx.ExpSynapse())),
        ("synapse", lambda: compartments(synapse={})),
        ("synapse", lambda: compartments(synapse={"b": sx.ExpSynapse()})),
    ],
    "CalciumDendrite": [
        ("tau_mem", lambda: sx.CalciumDendrite(0.0)),
        ("v_rest", lambda: sx.CalciumDendrite(v_rest=-30.0)),
        ("amplitude", lambda: sx.CalciumDendrite(amplitude=NAN)),
        ("width", lambda: sx.CalciumDendrite(width=0.0)),
        ("t_read", lambda: sx.CalciumDendrite(t_read=30.0)),
        ("t_fall", lambda: sx.CalciumDendrite(t_refractory=10.0)),
        ("tau_fall", lambda: sx.CalciumDendrite(tau_fall="a")),
        ("synapse", lambda: sx.CalciumDendrite(synapse=None)),
    ],
    "first_spike": [
        ("spikes", lambda: sx.first_spike(TIMES)),
        ("spikes", lambda: sx.first_spike(None)),
    ],
    "losses": [
        ("times", lambda: cross_entropy(times=[1.0, 2.0])),
        ("times", lambda: cross_entropy(times=jnp.ones((2, 3), int))),
        ("times", lambda: cross_entropy(times=jnp.asarray(1.0))),
        ("labels", lambda: cross_entropy(labels=jnp.asarray([0, 3]))),
        ("labels", lambda: cross_entropy(labels=jnp.asarray([0, -1]))),
        ("labels", lambda: cross_entropy(labels=jnp.asarray([0.0, 1.0]))),
        ("labels", lambda: cross_entropy(labels=jnp.asarray([0]))),
        ("labels", lambda: cross_entropy(labels=None)),
        ("t_silent", lambda: cross_entropy(t_silent=np.inf)),
        ("t_silent", lambda: cross_entropy(t_silent=None)),
        ("tau0", lambda: cross_entropy(tau0=0.0)),
        ("tau1", lambda: cross_entropy(tau1="a")),
        ("alpha", lambda: cross_entropy(alpha=NAN)),
        ("times", lambda: sx.decode.earliest(None)),
        ("times", lambda: sx.decode.earliest(1.0)),
        ("t_label", lambda: mse(t_label=NAN)),
        ("t_other", lambda: mse(t_other=None)),
        ("t_silent", lambda: mse(t_silent=0.0)),
        ("labels", lambda: mse(labels=jnp.asarray([0, 3]))),
        ("margin", lambda: sx.losses.first_spike_margin(jnp.ones((1, 2)), jnp.asarray([0]), margin=0.0, t_silent=9.0)),
        ("spikes", lambda: sx.losses.spike_times(TIMES, INPUTS, t_silent=9.0)),
        ("targets", lambda: sx.losses.spike_times(INPUTS, TIMES, t_silent=9.0)),
        ("targets", lambda: sx.losses.spike_times(INPUTS, sx.Spikes(jnp.ones((3, 1))), t_silent=9.0)),
        ("t_silent", lambda: sx.losses.spike_times(INPUTS, INPUTS, t_silent=np.inf)),
        ("tau", lambda: sx.losses.van_rossum(INPUTS, INPUTS, tau=0.0, t1=9.0)),
        ("t1", lambda: sx.losses.van_rossum(INPUTS, INPUTS, tau=1.0, t1=np.inf)),
        ("spikes", lambda: sx.losses.spike_count(TIMES, tau=1.0, t1=9.0)),
        ("tau", lambda: sx.losses.spike_count(INPUTS, tau=-1.0, t1=9.0)),
        ("t1", lambda: sx.losses.spike_count(INPUTS, tau=1.0, t1=None)),
        ("scores", lambda: sx.losses.cross_entropy(None, jnp.asarray(0))),
        ("scores", lambda: sx.decode.largest(1.0)),
        ("labels", lambda: sx.losses.cross_entropy(jnp.ones((2, 3)), jnp.asarray([0, 3]))),
        ("labels", lambda: sx.losses.cross_entropy(jnp.ones((2, 3)), jnp.asarray([0.0, 1.0]))),
        ("v", lambda: sx.decode.maximum(jnp.ones(3))),
        ("v", lambda: sx.decode.mean("a")),
        ("v", lambda: sx.decode.last(jnp.ones((0, 3)))),
        ("ts", lambda: sx.decode.integral(jnp.ones((2, 3)), jnp.ones(3))),
        ("ts", lambda: sx.decode.integral(jnp.ones((2, 3)), jnp.asarray([1.0, 0.0]))),
        ("ts", lambda: sx.decode.integral(jnp.ones((2, 3)), None)),
        ("counts", lambda: sx.losses.count_bounds(None)),
        ("low", lambda: sx.losses.count_bounds(jnp.ones(3), low=2.0, high=1.0)),
        ("high", lambda: sx.losses.count_bounds(jnp.ones(3), high=None)),
        ("times", lambda: sx.losses.time_bounds(None)),
        ("early", lambda: sx.losses.time_bounds(jnp.ones(3), early=NAN)),
        ("conditions", lambda: sx.losses.silent_peak(jnp.ones(2), INPUTS)),
        ("conditions", lambda: sx.losses.silent_peak(jnp.ones((4, 3)), INPUTS)),
        ("spikes", lambda: sx.losses.silent_peak(jnp.ones((4, 2)), TIMES)),
        ("margin", lambda: sx.losses.silent_peak(jnp.ones((4, 2)), INPUTS, margin=NAN)),
    ],
    "silence": [
        ("solution", lambda: sx.silence.activity(INPUTS)),
        ("burst", lambda: sx.silence.activity(SOLUTION, burst=0)),
        ("layer", lambda: sx.silence.spike_conditions(sx.LIF(), TIMES[0], STATES)),
        ("states", lambda: sx.silence.spike_conditions(LAYER, TIMES[0], None)),
        ("states", lambda: sx.silence.spike_conditions(LAYER, TIMES[0], sx.LIFState(jnp.ones((1, 2))))),
        ("states", lambda: sx.silence.spike_conditions(LAYER, TIMES[0], sx.LIFState(jnp.ones(3)))),
        ("ts", lambda: sx.silence.spike_conditions(LAYER, jnp.ones(2), STATES)),
        ("ts", lambda: sx.silence.spike_conditions(LAYER, None, STATES)),
        ("layer", lambda: sx.silence.pseudospikes(sx.LIF(), 9.0, AT_END, tau=20.0)),
        ("layer", lambda: sx.silence.pseudospikes(sx.Layer(sx.LI(), 3), 9.0, AT_END, tau=20.0)),
        ("states", lambda: sx.silence.pseudospikes(LAYER, 9.0, TIMES, tau=20.0)),
        ("states", lambda: sx.silence.pseudospikes(LAYER, 9.0, sx.LIFState(jnp.ones(2)), tau=20.0)),
        ("t1", lambda: sx.silence.pseudospikes(LAYER, np.inf, AT_END, tau=20.0)),
        ("t1", lambda: sx.silence.pseudospikes(LAYER, TIMES[0], AT_END, tau=20.0)),
        ("tau", lambda: sx.silence.pseudospikes(LAYER, 9.0, AT_END, tau=0.0)),
        ("tau", lambda: sx.silence.pseudospikes(LAYER, 9.0, AT_END, tau=jnp.ones(2))),
        ("times", lambda: sx.silence.with_pseudospikes(None, TIMES)),
        ("pseudospikes", lambda: sx.silence.with_pseudospikes(TIMES, TIMES[0])),
        ("network", lambda: sx.silence.calibrated(LAYER, INPUTS, 9.0)),
        ("network", lambda: jax.jit(lambda x: sx.silence.calibrated(NETWORK, sx.Spikes(x), 9.0))(TIMES)),
        ("options", lambda: sx.silence.calibrated(NETWORK, INPUTS, 9.0, throw=False)),
        ("fraction", lambda: sx.silence.calibrated(NETWORK, INPUTS, 9.0, fraction=0.0)),
        ("fraction", lambda: sx.silence.calibrated(NETWORK, INPUTS, 9.0, fraction="a")),
        ("fraction", lambda: sx.silence.calibrated(NETWORK, INPUTS, 9.0, fraction={"b": 0.5})),
        ("fraction['output']", lambda: sx.silence.calibrated(NETWORK, INPUTS, 9.0, fraction={"output": 2.0})),
        ("tolerance", lambda: sx.silence.calibrated(NETWORK, INPUTS, 9.0, tolerance=-1.0)),
    ],
    "encode": [
        ("values", lambda: sx.encode.latency(jnp.asarray([1.5]), 0.0, 1.0)),
        ("values", lambda: sx.encode.latency(jnp.asarray([NAN]), 0.0, 1.0)),
        ("values", lambda: sx.encode.latency(jnp.asarray([1]), 0.0, 1.0)),
        ("values", lambda: sx.encode.latency(0.5, 0.0, 1.0)),
        ("values", lambda: sx.encode.latency("a", 0.0, 1.0)),
        ("t_early", lambda: sx.encode.latency(jnp.ones(2), 1.0, 1.0)),
        ("t_early", lambda: sx.encode.latency(jnp.ones(2), NAN, 1.0)),
        ("t_late", lambda: sx.encode.latency(jnp.ones(2), 0.0, "a")),
    ],
    "datasets": [
        ("n", lambda: sx.datasets.yin_yang(0, 1)),
        ("n", lambda: sx.datasets.yin_yang(2.0, 1)),
        ("seed", lambda: sx.datasets.yin_yang(2, -1)),
        ("seed", lambda: sx.datasets.yin_yang(2, None)),
        ("r_small", lambda: sx.datasets.yin_yang(2, 1, r_small=0.3)),
        ("r_small", lambda: sx.datasets.yin_yang(2, 1, r_small=-0.1)),
        ("r_big", lambda: sx.datasets.yin_yang(2, 1, r_big="a")),
        ("points", lambda: sx.datasets.yin_yang_spikes(jnp.ones((2, 3)))),
        ("points", lambda: sx.datasets.yin_yang_spikes("a")),
        ("values", lambda: sx.datasets.yin_yang_spikes(jnp.full((2, 2), 2.0))),
        ("t_late", lambda: sx.datasets.yin_yang_spikes(jnp.ones((2, 2)), t_late=None)),
        ("t_early", lambda: sx.datasets.yin_yang_spikes(jnp.ones((2, 2)), t_late=-1.0)),
        ("n", lambda: sx.datasets.delay_copy(0, 1)),
        ("seed", lambda: sx.datasets.delay_copy(1, -1)),
        ("delays", lambda: sx.datasets.delay_copy(1, 1, delays=100.0)),
        ("delays", lambda: sx.datasets.delay_copy(1, 1, delays=(100.0, 50.0))),
        ("n", lambda: sx.datasets.delayed_xor("a", 1)),
        ("seed", lambda: sx.datasets.delayed_xor(1, 0.5)),
        ("delays", lambda: sx.datasets.delayed_xor(1, 1, delays=(0.0, 50.0))),
        ("delays", lambda: sx.datasets.delayed_xor(1, 1, delays=(100.0, NAN))),
        ("lengths", lambda: sx.datasets.delayed_xor(1, 1, lengths=("a", "b"))),
        ("lengths", lambda: sx.datasets.delayed_xor(1, 1, lengths=[30.0, 50.0])),
        ("interval", lambda: sx.datasets.delayed_xor(1, 1, interval=-1.0)),
        ("interval", lambda: sx.datasets.delayed_xor(1, 1, interval=30.0)),
    ],
    "train": [
        ("optimizer", lambda: fit(optimizer="adam")),
        ("epochs", lambda: fit(epochs=0)),
        ("batch_size", lambda: fit(training=loader(batch_size=5))),
        ("training", lambda: fit(training=jnp.ones(4))),
        ("training", lambda: fit(training=(jnp.ones(4), jnp.ones(4)))),
        ("validation", lambda: fit(validation=None)),
        ("data", lambda: sx.train.evaluate(jnp.ones(()), lambda network, x, y: (x, {}), (jnp.ones(4), jnp.ones(4)))),
        ("objective", lambda: fit(objective="loss")),
        ("objective", lambda: fit(objective=lambda network, x, y: (network * x) ** 2)),
        ("objective", lambda: fit(objective=lambda network, x, y: (network * x, {"loss": x}))),
        ("loss", lambda: fit(objective=lambda network, x, y: (jnp.sum(network * x), {"accuracy": x}))),
        ("accuracy", lambda: fit(objective=lambda network, x, y: (network * x, {"accuracy": jnp.sum(x)}))),
        ("trainable", lambda: fit(trainable=False)),
        ("trainable", lambda: fit(trainable=[True, False])),
        ("trainable", lambda: fit(network=2.0)),
        ("augment", lambda: fit(augment=0.2)),
        ("seed", lambda: fit(seed=-1)),
        ("seed", lambda: fit(seed="a")),
        ("patience", lambda: fit(patience=0)),
        ("callbacks", lambda: fit(callbacks=3)),
        ("callbacks", lambda: fit(callbacks=[3])),
        ("settings", lambda: fit(settings="fast", directory="/nowhere")),
        ("settings", lambda: fit(settings={"rate": jnp.ones(2)}, directory="/nowhere")),
        ("epochs", lambda: sx.train.ProgressBar(0)),
    ],
    "DiscreteAdjoint": [
        ("memory", lambda: sx.DiscreteAdjoint(0)),
        ("memory", lambda: sx.DiscreteAdjoint(1e6)),
        ("memory", lambda: sx.DiscreteAdjoint("all")),
    ],
    "simulate": [
        ("network", lambda: simulate(None)),
        ("network", lambda: simulate(sx.LIF())),
        ("inputs", lambda: simulate(inputs=None)),
        ("inputs", lambda: simulate(inputs=TIMES)),
        ("inputs", lambda: simulate(inputs=sx.Spikes(jnp.ones((3, 1))))),
        ("inputs", lambda: simulate(inputs={"x": INPUTS})),
        ("inputs", lambda: simulate(inputs={"input": INPUTS, "x": INPUTS})),
        ("inputs", lambda: simulate(inputs={"input": TIMES})),
        ("inputs", lambda: simulate(inputs=sx.Events(jnp.ones(2), jnp.zeros(2, int), 3))),
        ("inputs", lambda: simulate(sx.Network(LAYERS, (), {"x": 2, "y": 2}, "a"), INPUTS)),
        (
            "inputs",
            lambda: simulate(
                sx.Network(LAYERS, (), {"x": 2, "y": 2}, "a"), {"x": INPUTS, "y": sx.Spikes(jnp.ones((5, 2, 1)))}
            ),
        ),
        ("inputs", lambda: simulate(inputs=sx.Spikes(-TIMES))),
        ("t1", lambda: simulate(t1=None)),
        ("t1", lambda: simulate(t1="a")),
        ("t1", lambda: simulate(t1=0.0)),
        ("t1", lambda: simulate(t1=-1.0)),
        ("t1", lambda: simulate(t1=np.inf)),
        ("t1", lambda: simulate(t1=NAN)),
        ("t1", lambda: simulate(t1=True)),
        ("t1", lambda: simulate(t1=jnp.ones(2))),
        ("t1", lambda: simulate(t1=[1.0])),
        ("t0", lambda: simulate(t0=NAN)),
        ("t0", lambda: simulate(t0=jnp.zeros(2))),
        ("t1", lambda: simulate(t0=10.0, inputs=sx.Spikes(20.0 * TIMES))),
        ("saveat", lambda: simulate(saveat=3.0)),
        ("saveat", lambda: simulate(saveat="a")),
        ("saveat", lambda: simulate(saveat=jnp.asarray([11.0]))),
        ("saveat", lambda: simulate(saveat=jnp.asarray([-1.0]))),
        ("saveat", lambda: simulate(saveat=jnp.asarray([NAN]))),
        ("saveat", lambda: simulate(saveat=jnp.ones((2, 2)))),
        ("saveat", lambda: simulate(saveat=["a"])),
        ("saveat", lambda: simulate(saveat=[None])),
        ("saveat", lambda: simulate(saveat={"x": jnp.ones(1)})),
        ("saveat", lambda: simulate(saveat={"output": 1.0})),
        ("saveat", lambda: simulate(saveat=diffrax.SaveAt(t1=True))),
        ("start", lambda: simulate(start=3.0)),
        ("start", lambda: simulate(start=sx.LIFState(jnp.zeros(3)))),
        ("start", lambda: simulate(start={"x": sx.LIFState(jnp.zeros(3))})),
        ("start['output']", lambda: simulate(start={"output": jnp.zeros(3)})),
        ("start['output']", lambda: simulate(start={"output": None})),
        ("start['output']", lambda: simulate(start={"output": sx.LIFState(jnp.zeros(2))})),
        ("start['output']", lambda: simulate(start={"output": sx.LIFState(jnp.zeros((4, 3)))})),
        ("start['output']", lambda: simulate(start={"output": sx.LIFState(jnp.full(3, NAN))})),
        ("start['output']", lambda: simulate(start={"output": sx.LIFState("a")})),
        ("solver", lambda: simulate(method=sx.EventLoop("tsit5"))),
        ("solver", lambda: simulate(method=sx.EventLoop(diffrax.Tsit5))),
        ("dt0", lambda: simulate(method=sx.EventLoop(dt0=0.0))),
        ("dt0", lambda: simulate(method=sx.EventLoop(dt0=-1.0))),
        ("dt0", lambda: simulate(method=sx.EventLoop(dt0="a"))),
        ("dt0", lambda: simulate(method=sx.EventLoop(dt0=NAN))),
        ("dt0", lambda: simulate(method=sx.EventLoop(dt0=jnp.ones(2)))),
        ("dt0", lambda: simulate(method=sx.EventLoop(diffrax.Euler()))),
        ("rtol", lambda: simulate(method=sx.EventLoop(rtol=0.0))),
        ("rtol", lambda: simulate(method=sx.EventLoop(rtol="a"))),
        ("rtol", lambda: simulate(method=sx.EventLoop(rtol=jnp.ones(2)))),
        ("rtol", lambda: simulate(method=sx.EventLoop(diffrax.Euler(), dt0=1.0, rtol=1e-3))),
        ("atol", lambda: simulate(method=sx.EventLoop(atol=-1.0))),
        ("atol", lambda: simulate(method=sx.EventLoop(atol=NAN))),
        ("max_spikes", lambda: simulate(max_spikes=0)),
        ("max_spikes", lambda: simulate(max_spikes=2.0)),
        ("max_spikes", lambda: simulate(max_spikes=None)),
        ("max_spikes", lambda: simulate(max_spikes={"x": 3})),
        ("max_spikes", lambda: simulate(max_spikes={})),
        ("max_spikes['output']", lambda: simulate(max_spikes={"output": 0})),
        ("max_steps", lambda: sx.EventLoop(max_steps=0)),
        ("max_steps", lambda: sx.ClosedForm(max_steps=None)),
        ("max_steps", lambda: sx.EventQueue(max_steps=1e3)),
        ("count", lambda: sx.Windows(0)),
        ("method", lambda: sx.Windows(2, sx.EventQueue())),
        ("method", lambda: simulate(method={"x": sx.EventLoop()})),
        ("method", lambda: simulate(method={"output": "loop"})),
        ("stepsize_controller", lambda: sx.EventLoop(stepsize_controller=diffrax.StepTo(jnp.ones(3)))),
        (
            "stepsize_controller.dtmin",
            lambda: sx.EventLoop(stepsize_controller=diffrax.PIDController(1e-3, 1e-3, dtmin=0.1)),
        ),
        ("rtol", lambda: sx.EventLoop(stepsize_controller=diffrax.PIDController(1e-3, 1e-3), rtol=1e-3)),
        (
            "stepsize_controller",
            lambda: sx.EventLoop(stepsize_controller=diffrax.PIDController(1e-3, 1e-3, icoeff=0.0)),
        ),
        (
            "stepsize_controller.safety",
            lambda: sx.EventLoop(stepsize_controller=diffrax.PIDController(1e-3, 1e-3, safety=2.0)),
        ),
        ("dt0", lambda: sx.EventLoop(stepsize_controller=diffrax.ConstantStepSize())),
        ("adjoint", lambda: simulate(adjoint="direct")),
        ("adjoint", lambda: simulate(adjoint=diffrax.DirectAdjoint())),
        ("adjoint", lambda: simulate(adjoint=sx.DiscreteAdjoint)),
        ("throw", lambda: simulate(throw=None)),
        ("throw", lambda: simulate(throw=1)),
    ],
}
TABLE = [
    pytest.param(name, call, id=f"{where}-{name}-{number}")
    for where, calls in CALLS.items()
    for number, (name, call) in enumerate(calls)
]


@pytest.mark.unchecked
@pytest.mark.parametrize("name, call", TABLE)
def test_rubbish_raises_our_error(name, call):
    with pytest.raises((TypeError, ValueError), match=rf"^`\.?{re.escape(name)}[^`]*` must be .*; got ") as caught:
        call()
    assert type(caught.value) in (TypeError, ValueError)


class Silent(sx.AbstractNeuron):
    """A neuron that forgets to say what an arrival does to it."""

    synapse: sx.AbstractSynapse = sx.DeltaSynapse()

    def initial_state(self):
        return jnp.asarray(0.0)

    def dynamics(self, t, state, drive):
        return -state

    def spike_condition(self, t, state):
        return state - 1.0

    def reset(self, t, state):
        return jnp.zeros_like(state)


def test_a_delta_synapse_needs_receive():
    with pytest.raises(TypeError, match="`synapse` must be a filter .*Define `receive"):
        sx.Layer(Silent(), 3)


@pytest.mark.unchecked
def test_errors_name_a_remedy():
    with pytest.raises(ValueError, match="Euler estimates no error.*"):
        simulate(method=sx.EventLoop(diffrax.Euler()))
    with pytest.raises(TypeError, match=re.escape("Write an instance, for example `sx.LIF()`.")):
        sx.Layer(sx.LIF, 3)
    with pytest.raises(TypeError, match=re.escape("Write `weight.astype(float)`.")):
        sx.Dense("input", "a", jnp.ones((2, 3), jnp.int32))
    with pytest.raises(TypeError, match=re.escape("Wrap it in `jnp.asarray`.")):
        sx.Dense("input", "a", [[1.0]])
    with pytest.raises(ValueError, match=re.escape("`sx.Dense(source, 'a', weights)`, or use `sx.sequential`.")):
        network(layers={"a": LAYER})
    # As Optax calls a tree of labels or a mask.
    with pytest.raises(TypeError, match=re.escape("write `lambda _: labels`.")):
        NETWORK(NETWORK)


@pytest.mark.parametrize("half", [jnp.float16, jnp.bfloat16])
def test_networks_in_half_precision_are_refused(half):
    """At the entry, also where only a parameter of a neuron is in half precision."""
    with pytest.raises(TypeError, match="`network` must be of arrays in float32 or float64; got .*16"):
        simulate(cast(NETWORK, half))
    with pytest.raises(TypeError, match="in float32 or float64; got .*16"):
        neuron = sx.LIF(bias=jnp.asarray(0.1, half))
        simulate(sx.sequential(2, sx.Layer(neuron, 3, weights=sx.init.constant(1.0)), key=KEY))


def test_a_traced_array_is_told_by_its_shape():
    with pytest.raises(ValueError, match=re.escape("got a traced array of shape (1, 2, 4) and dtype float")):
        jax.jit(lambda weight: network(connections=[sx.Dense("input", "a", weight[None])]))(jnp.ones((2, 4)))


def test_a_forgotten_axis_is_told_by_the_shape(dtype):
    with pytest.raises(ValueError, match=re.escape("`times` must be ascending; got")) as caught:
        sx.Spikes(jnp.asarray([[2.0, 1.0, 3.0]] * 4, dtype))
    told = "(4, 3), is that of 4 neurons with up to 3 spikes each: sort them, with `inf` last."
    assert told in str(caught.value) and "`times[..., None]`" in str(caught.value)
    # In ascending order they pass for spikes of one sample.
    with pytest.raises(ValueError, match="got '4 channels, with times of shape .4, 2.'.*`times.*None.`"):
        NETWORK(sx.Spikes(jnp.asarray([[1.0, 2.0]] * 4, dtype)), 10.0)


@pytest.mark.parametrize(
    "solver", [diffrax.Kvaerno5(), diffrax.ImplicitEuler(), diffrax.HalfSolver(diffrax.Kvaerno3())]
)
def test_an_implicit_solver_needs_tolerances(solver):
    with pytest.raises(ValueError, match="tolerances for its root finder; .*root_finder=optimistix.Newton"):
        simulate(method=sx.EventLoop(solver))


@pytest.mark.modes("float32")
def test_states_that_were_not_saved_say_so():
    network = sx.sequential(2, LAYER, LAYER, key=KEY)
    for saveat, name in ((None, "output"), ({"output": [1.0]}, "hidden")):
        solution = simulate(network, saveat=saveat)
        for saved in (solution.states, solution.drives):
            with pytest.raises(KeyError, match=f"`saveat` must be given for the layer '{name}'"):
                saved[name]
    assert set(jax.tree.map(lambda leaf: leaf, solution.states)) == {"output"}


def test_inputs_in_seconds_are_warned_of(dtype):
    """Where everything is known: within a compiled function nothing is looked at."""
    times = jnp.asarray([[0.01], [0.02]], dtype)
    with pytest.warns(UserWarning, match="The `inputs` end 0.02 ms after `t0`, .* constant, 5 ms.*by 1000"):
        simulate(inputs=sx.Spikes(times))
    jax.jit(lambda times: simulate(inputs=sx.Spikes(times)).spikes["output"].times)(times)
    for others in (times + 1.0, 0.0 * times, jnp.full_like(times, jnp.inf)):
        simulate(inputs=sx.Spikes(others))


def test_inputs_in_microseconds_are_warned_of(dtype):
    times = jnp.arange(400.0, dtype=dtype).reshape(2, 200)
    with pytest.warns(UserWarning, match="Of 400 spikes of the `inputs`, 397 come after `t1` = 2 ms.*by 1000"):
        simulate(inputs=sx.Spikes(times), t1=2.0)
    simulate(inputs=sx.Spikes(times.at[:, 3:].set(jnp.inf)), t1=2.0)


@pytest.mark.parametrize("span", [(2.0, 1.0, 1.5), (0.0, 5.0, 6.0)], ids=["t1", "saveat"])
def test_the_span_is_checked_under_jit(span, dtype):
    t0, t1, ts = (jnp.asarray(part, dtype) for part in span)

    @eqx.filter_jit
    def states(t0, t1, ts):
        return simulate(t0=t0, t1=t1, saveat=ts[None], inputs=sx.Spikes(TIMES + 2.0)).states

    assert states(t0, t0 + 9.0, t0 + 1.0)["output"].v.shape == (1, 3)
    with pytest.raises(RuntimeError, match="Or `t1` lies before `t0`, or a time of `saveat`"):
        jax.block_until_ready(states(t0, t1, ts))
