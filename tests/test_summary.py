"""What a network shows of itself, as text and in a notebook."""

from html.parser import HTMLParser

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import spikax as sx


pytestmark = pytest.mark.modes("float32")


def network():
    """With parameters and connections of several kinds, and a name that HTML has to escape."""
    hidden = sx.LIF(
        tau_mem=sx.Fixed(jnp.asarray([10.0, 30.0])), v_reset=jnp.asarray(-0.25), bias=jnp.asarray([0.5, 0.5])
    )
    ports = {"exc": sx.ExpSynapse(), "inh": sx.ExpSynapse(sx.Positive(8.0))}
    conductances = sx.ConductanceBased(sx.LI(synapse=ports), {"exc": 4.0, "inh": -1.0})
    weight = jnp.asarray([[-1.0, 2.0], [3.0, 4.5]])
    connections = [
        sx.Dense("input", "a<b", weight[:1], delay=sx.Positive(jnp.asarray([2.0]))),
        sx.Sparse("a<b", "a<b", [0], [1], jnp.ones(1), shape=(2, 2), delay=1.5),
        sx.Dense("a<b", "out", {"exc": sx.Fixed(weight), "inh": sx.Masked(weight, weight > 2)}),
    ]
    layers = {"out": sx.Layer(conductances, 2), "a<b": sx.Layer(hidden, 2)}
    return sx.Network(layers, connections, {"input": 1}, "a<b")


CELLS = [
    ["", "", "", "learns", "constant"],
    ["input", "1 channel", "", "", ""],
    [
        "a<b",
        "2 neurons",
        "LIF (output)",
        "v_reset -0.25, bias (2,) 0.5",
        "tau_mem Fixed (2,) 10 to 30, v_rest 0, v_threshold 1, synapse.tau 5",
    ],
    [
        "out",
        "2 neurons",
        "ConductanceBased",
        "neuron.synapse.inh.tau Positive 8",
        "neuron.tau_mem 20, neuron.v_rest 0, neuron.bias 0, neuron.synapse.exc.tau 5, reversal.exc 4, reversal.inh -1",
    ],
    ["input → a<b", "1 × 2", "Dense", "weight (1, 2) -1 to 2, delay Positive (1,) 2", ""],
    ["a<b → a<b", "2 × 2", "Sparse", "weight (1,) 1", "delay 1.5"],
    ["a<b → out", "2 × 2", "Dense", "weight.inh Masked (2, 2) 0 to 4.5", "weight.exc Fixed (2, 2) -1 to 4.5"],
]


def test_a_table_shows_every_parameter():
    class Table(HTMLParser):
        """The cells, and that every tag which is opened is closed."""

        def __init__(self):
            super().__init__()
            self.open, self.rows = [], []

        def handle_starttag(self, tag, attrs):
            self.open.append(tag)
            self.rows += [[]] if tag == "tr" else []
            if tag in ("td", "th"):
                self.rows[-1].append("")

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            if self.open[-1] in ("td", "th"):
                self.rows[-1][-1] += data.replace("\xa0", " ")

    table = Table()
    table.feed(network()._repr_html_())
    assert table.open == [] and table.rows == CELLS


TEXT = """\
Network: 12 parameters
                                            learns                             constant
  input        1 channel
  a<b          2 neurons  LIF (output)      v_reset -0.25, bias (2,) 0.5       tau_mem Fixed (2,) 10 to 30,
                                                                               v_rest 0, v_threshold 1,
                                                                               synapse.tau 5
  out          2 neurons  ConductanceBased  neuron.synapse.inh.tau Positive 8  neuron.tau_mem 20, neuron.v_rest 0,
                                                                               neuron.bias 0,
                                                                               neuron.synapse.exc.tau 5,
                                                                               reversal.exc 4, reversal.inh -1
connections
  input → a<b  1 × 2      Dense             weight (1, 2) -1 to 2,
                                            delay Positive (1,) 2
  a<b → a<b    2 × 2      Sparse            weight (1,) 1                      delay 1.5
  a<b → out    2 × 2      Dense             weight.inh Masked (2, 2) 0 to 4.5  weight.exc Fixed (2, 2) -1 to 4.5"""


def test_text_has_the_same_in_columns():
    assert str(network()) == TEXT


def test_every_form_of_a_network_can_be_shown():
    """Without connections, in a compiled function, its gradient, and what is left of it by a filter."""
    bare = sx.Network({"a": sx.Layer(sx.QIF(), 1)}, [], 1, "a")
    assert str(bare).startswith("Network: no parameters\n") and "connections" not in str(bare)
    texts = []
    jax.jit(lambda x: [x, texts.append(str(eqx.tree_at(lambda n: n.connections[1].weight, network(), x)))][0])(
        jnp.ones(1)
    )
    assert "weight (1,)" in texts[0] and "weight (1,) 1" not in texts[0]
    learning, rest = eqx.partition(network(), eqx.is_inexact_array)
    assert "Fixed" not in str(learning) and str(rest).startswith("Network: no parameters\n")
    assert "weight" not in str(jax.tree.map(lambda _: False, network()))
