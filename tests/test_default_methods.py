"""The method that each kind of network gets by default: what `docs/how-to-choose.md` tells."""

import equinox as eqx
import jax.numpy as jnp
import pytest

import spikax as sx


# Nothing is compiled, and nothing depends on the float type.
pytestmark = pytest.mark.modes("float32")

QUEUE, LOOP = "EventQueue", "EventLoop"
CLOSED_WINDOWS, LOOP_WINDOWS = "Windows(ClosedForm)", "Windows(EventLoop)"
TO_FIRST, SAVED = {"until": sx.FirstSpikes()}, {"saveat": {"hidden": jnp.ones(1)}}


def network(hidden, output, wires="", size=8, outputs=2, delay=None):
    """Inputs, hidden neurons and outputs; a `loop` of the hidden neurons or of outputs, or outputs that lead `back`."""
    layers = {"hidden": sx.Layer(hidden, size), "output": sx.Layer(output, outputs)}
    sizes = {"input": 3, "hidden": size, "output": outputs}

    def dense(source, target, delay=None):
        shape = sizes[source], sizes[target]
        ports = layers[target].neuron.synapse
        weight = {port: jnp.ones(shape) for port in ports} if isinstance(ports, dict) else jnp.ones(shape)
        return sx.Dense(source, target, weight, delay)

    more = {"loop": ("hidden", "hidden"), "back": ("output", "hidden"), "loop of outputs": ("output", "output")}
    inner = [dense(*more[wires], delay)] if wires else []
    chain = [dense("input", "hidden", None if wires else delay), dense("hidden", "output")]
    return sx.Network(layers, [*chain, *inner], 3, "output")


LIF, QIF, LI = sx.LIF(), sx.QIF(), sx.LI()
PORTS = {"exc": sx.ExpSynapse(2.0), "inh": sx.ExpSynapse(8.0)}
CASES = {
    "linear": (network(LIF, LIF), {}, ("ClosedForm", "ClosedForm")),
    "linear, several ports": (network(sx.LIF(synapse=PORTS), LI), {}, ("ClosedForm", "ClosedForm")),
    "linear, with delays": (network(LIF, LIF, delay=2.0), {}, ("ClosedForm", "ClosedForm")),
    "other neurons": (network(QIF, QIF), {}, (LOOP, LOOP)),
    "each layer its own": (network(QIF, LI), {}, (LOOP, "ClosedForm")),
    "up to first spikes": (network(LIF, QIF), TO_FIRST, ("ClosedForm", LOOP)),
    "recurrent, linear": (network(LIF, LI, "loop"), {}, (QUEUE, "ClosedForm")),
    "recurrent, other neurons": (network(QIF, LI, "loop"), {}, (LOOP, "ClosedForm")),
    "recurrent, with delays": (network(LIF, LI, "loop", delay=2.0), {}, (CLOSED_WINDOWS, "ClosedForm")),
    "recurrent, with delays, other neurons": (network(QIF, LI, "loop", delay=2.0), {}, (LOOP_WINDOWS, "ClosedForm")),
    "recurrent, no delay": (network(LIF, LI, "loop", delay=0.0), {}, (QUEUE, "ClosedForm")),
    "mutual, linear": (network(LIF, LIF, "back"), {}, (QUEUE, QUEUE)),
    "mutual, of one kind": (network(QIF, QIF, "back"), {}, (LOOP, LOOP)),
    "mutual, of two kinds": (network(QIF, LIF, "back"), {}, (LOOP_WINDOWS, CLOSED_WINDOWS)),
    "recurrent outputs": (network(QIF, LIF, "loop of outputs"), {}, (LOOP, QUEUE)),
    # The outputs end together with the recurrent layer before them.
    "recurrent, linear, to first spikes": (network(LIF, LIF, "loop"), TO_FIRST, (QUEUE, QUEUE)),
    "recurrent, of one kind, to first spikes": (network(QIF, QIF, "loop"), TO_FIRST, (LOOP, LOOP)),
    "recurrent, of two kinds, to first spikes": (network(QIF, LIF, "loop"), TO_FIRST, (LOOP_WINDOWS, CLOSED_WINDOWS)),
    "recurrent, few, to first spikes": (network(QIF, QIF, "loop", outputs=9), TO_FIRST, (LOOP_WINDOWS, LOOP_WINDOWS)),
    "recurrent, with delays, to first spikes": (
        network(LIF, LIF, "loop", delay=2.0),
        TO_FIRST,
        (CLOSED_WINDOWS, CLOSED_WINDOWS),
    ),
    # Saved states need the whole duration.
    "recurrent, saved, to first spikes": (network(LIF, LIF, "loop"), TO_FIRST | SAVED, (QUEUE, "ClosedForm")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_default_method(case):
    given, options, expected = CASES[case]
    spikes = sx.Spikes(jnp.ones((2, 3, 1)))
    # Which method it is, is known without a compilation.
    stats = eqx.filter_eval_shape(sx.simulate, given, spikes, 10.0, throw=False, **options).stats
    assert (stats["hidden"].method, stats["output"].method) == expected
