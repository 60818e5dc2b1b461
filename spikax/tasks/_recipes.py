"""The networks for each task, neuron and readout: neurons, initial weights, and settings of the optimiser."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from .. import decode, init
from .._neuron import AbstractNeuron
from .._parameters import Positive, Signed
from .._synapse import ExpSynapse
from ..init import Initializer
from ..neurons import ALIF, CalciumDendrite, Dendrite, EGRU, EIF, Izhikevich, LI, LIF, MultiCompartment, QIF
from ._readouts import AbstractReadout, FirstSpike, Logits, Voltage
from ._table import merged, row


NEURONS = ("lif", "qif", "eif", "izhikevich", "egru", "dendritic")
READOUTS = ("first-spike", "max-voltage", "mean-voltage")


class Recipe(NamedTuple):
    """The layers of a network, their initial weights, and the settings of their training.

    - `hidden`, `output`: functions from the number of neurons and the duration of a sample to the neuron of a layer.
    - `readout`: the readout.
    - `weights_in`, `weights_out`: the initializers of the weights into hidden layers and into the outputs: one, or one
      for each port.
    - `change_in`, `change_out`: functions that replace each of these initializers.
    - `weights_recurrent`: the initializers of recurrent weights: one for all ports, or one for each port.
    - `delay`: the initializer of learned delays.
    - `delay_recurrent`: the delay of recurrent connections, if it is not learned.
    - `stride_in`, `stride_out`: factors of the learning rate for the weights into hidden layers and into the outputs,
      since neurons measure their input in different units.
    - `clip`: the gradient clipping, as a function of the setting `clip`.
    """

    hidden: Callable[[int, float], AbstractNeuron]
    output: Callable[[int, float], AbstractNeuron]
    readout: AbstractReadout
    weights_in: Any
    weights_out: Any
    change_in: Callable[[Initializer], Initializer] = lambda initializer: initializer
    change_out: Callable[[Initializer], Initializer] = lambda initializer: initializer
    weights_recurrent: Any = init.scaled_normal(0.0, 0.5)
    delay: Initializer = init.constant(0.0)
    delay_recurrent: float | None = None
    stride_in: float = 1.0
    stride_out: float = 1.0
    clip: Callable[[float], optax.GradientTransformation] = optax.clip_by_global_norm


def recipe_for(task: str, neuron: str, readout: str) -> Recipe:
    """The network of a task, with this neuron and readout."""
    return Recipe(**merged(RECIPES, task, neuron, readout))


def _dendritic(*_: float) -> AbstractNeuron:
    spiking = Dendrite(CalciumDendrite(10.0, 0.0, 2.2, 16.0, t_read=2.0, t_fall=23.0), 0.1, 0.5)
    ports = {"dendrite": ExpSynapse(3.0), "soma": ExpSynapse(5.0)}
    return MultiCompartment(LIF(15.0), {"dendrite": spiking}, synapse=ports)


def _gated(n: int, _: float) -> AbstractNeuron:
    """Gated units, which keep their state while their gates are closed."""
    # An open gate would forget within milliseconds. This gate, nearly closed at rest, forgets within 280 ms.
    gates = {"bias_u": jnp.full(n, -4.0), "bias_r": jnp.zeros(n)}
    return EGRU(tau_mem=5.0, **gates, synapse={port: ExpSynapse(10.0) for port in ("u", "r", "z")})


def _gated_for_long(n: int, duration: float) -> AbstractNeuron:
    """Gated units that forget within two thirds of a sample."""
    bias = jnp.full(n, -4.0 - math.log(duration / 430.0))
    return eqx.tree_at(lambda neuron: neuron.bias_u, _gated(n, duration), bias)


def _slow_integrators(n: int, _: float) -> AbstractNeuron:
    """Leaky integrators that rise for a long time after a spike and hardly decay.

    So an earlier spike increases the voltage, like an additional spike, and the derivative with respect to spike times
    also indicates the effect of their number. For the same reason the cost of activity is the time since each spike.
    """
    return LI(20.0, bias=jnp.zeros(n), synapse=ExpSynapse(1000.0))


def _integrators(_: int, duration: float) -> AbstractNeuron:
    """Leaky integrators that rise until the end of a sample, so that an earlier spike increases the voltage more.

    The voltage at the end tells of spikes at all times. An earlier spike and an additional one have the same effect, so
    the derivative by spike times also tells in which direction their number should change.
    """
    return LI(duration, synapse=ExpSynapse(duration))


def _centred(factor: float) -> Callable[[Initializer], Initializer]:
    """Subtracts the mean of the drawn weights, and multiplies them by a factor."""

    def change(initializer: Initializer) -> Initializer:
        def centred(key: Array, shape: tuple[int, ...]) -> Array:
            weights = initializer(key, shape)
            return factor * (weights - jnp.mean(weights))

        return centred

    return change


def _delays(low: float, high: float) -> Initializer:
    """Uniform delays that stay positive."""
    return lambda key, shape: Positive(init.uniform(low, high)(key, shape))


def _columns(means: tuple[float, float], spreads: tuple[float, float]) -> Initializer:
    """Weights of two equal channels and of a cue: their means, and their standard deviations between units."""

    def drawn(key, shape):
        mean, spread = (jnp.array([[bit], [bit], [cue]]) for bit, cue in (means, spreads))
        return mean + spread * jax.random.normal(key, shape)

    return drawn


def _inhibition(key: Array, shape: tuple[int, int]) -> Any:
    """Weights that stay negative: units that excite each other would remain active without an input."""
    return Signed(-0.3 * jnp.abs(jax.random.normal(key, shape)), -jnp.ones(shape))


def _balanced(key: Array, shape: tuple[int, int]) -> Array:
    """Weights with sum zero: at first all units spike alike, which should not bias the readout."""
    drawn = 0.5 * jax.random.normal(key, shape)
    return drawn - jnp.mean(drawn)


# The bias brings every output across its threshold in the end, whatever its input: none stays silent, and so each has
# a gradient. Only the first spike of an output counts.
_OF_NEURONS = (
    row(
        "* lif *",
        hidden=lambda *_: LIF(),
        output=lambda *_: LIF(bias=1.5),
        weights_in=init.normal(2.5, 1.5),
        weights_out=init.normal(0.3, 0.3),
    ),
    row(
        "* qif *",
        hidden=lambda *_: QIF(),
        output=lambda *_: QIF(bias=2.0),
        weights_in=init.normal(10.0, 8.0),
        weights_out=init.normal(1.0, 1.0),
        stride_in=5.0,
        stride_out=4.0,
    ),
    row(
        "* eif *",
        hidden=lambda *_: EIF(),
        output=lambda *_: EIF(bias=1.5),
        weights_in=init.normal(2.5, 1.5),
        weights_out=init.normal(0.3, 0.3),
    ),
    row(
        "* izhikevich *",
        hidden=lambda *_: Izhikevich(synapse=ExpSynapse(20.0)),
        output=lambda *_: LIF(bias=1.5),
        weights_in=init.normal(2.5, 2.5),
        weights_out=init.normal(0.3, 0.3),
        stride_in=5.0,
        stride_out=2.0,
    ),
    row(
        "* egru *",
        hidden=lambda *_: EGRU(),
        output=lambda *_: EGRU(bias_z=0.6),
        weights_in={"u": init.normal(0.0, 0.5), "r": init.normal(0.0, 0.5), "z": init.normal(1.0, 1.0)},
        weights_out={"u": init.normal(0.0, 0.5), "r": init.normal(0.0, 0.5), "z": init.normal(0.3, 0.5)},
    ),
    row(
        "* dendritic *",
        hidden=_dendritic,
        output=lambda *_: LIF(bias=1.5),
        weights_in={"dendrite": init.normal(5.5, 3.3), "soma": init.normal(1.1, 1.1)},
        weights_out=init.normal(0.3, 0.3),
    ),
)

_OF_READOUTS = (
    row("* * first-spike", readout=FirstSpike()),
    row("* * max-voltage", readout=Voltage(decode.maximum, 1.0)),
    # The mean over a sample is about a quarter of the maximum.
    row("* * mean-voltage", readout=Voltage(decode.mean, 4.0)),
    row(
        "* * max-voltage|mean-voltage",
        output=lambda *_: LI(20.0, synapse=ExpSynapse(5.0)),
        weights_out=init.normal(0.0, 1.0),
        # A spike moves the voltage by a sixth of its weight, and scores of a cross entropy differ by several units.
        stride_out=4.0,
    ),
)

_OF_TASKS = (
    # With a standard deviation of 1.5 fewer points are learned, by 0.2 % in training and test.
    row("yin-yang lif *", weights_in=init.normal(2.5, 2.5)),
    # With a hundred inputs of one sign all neurons would tell how bright an image is.
    row("digits|mnist * *", change_in=_centred(1.0)),
    # Small ones: from scores far apart, most of them wrong, training would begin by silencing neurons.
    row("digits|mnist * max-voltage|mean-voltage", weights_out=init.normal(0.0, 0.1)),
    # With 0.2 images are learned more slowly: after three epochs of 5000 of MNIST 85 % are right, with 0.5 88 %.
    row("digits|mnist * first-spike", change_out=_centred(0.1), readout=FirstSpike(tau0=0.5)),
    # Within a sample, neurons that adapt slowly spike once, and tell little more. Scaled to be active, the weights of a
    # long synapse are about as small as those of the other neurons.
    row(
        "digits|mnist izhikevich *",
        hidden=lambda *_: Izhikevich.preset("fast_spiking", synapse=ExpSynapse(50.0)),
        stride_in=1.0,
    ),
    row("digits|mnist izhikevich first-spike", stride_out=1.0),
    # The mean voltage of a long sample hardly depends on spike times, so the hidden layer would learn nothing.
    row(
        "spoken-digits|sequential-mnist * last-voltage",
        readout=Voltage(decode.last, 3.0, every=None, price=0.1),
        output=_integrators,
        # With larger weights or steps the scores are soon far apart, most of them wrong, and silence hidden neurons.
        weights_out=init.normal(0.0, 0.02),
        stride_out=0.2,
    ),
    row("spoken-digits * max-voltage", readout=Voltage(decode.maximum, 2.0, every=10.0, price=0.1)),
    row("spoken-digits * *", delay=_delays(1.0, 200.0)),
    row("sequential-mnist * max-voltage", readout=Voltage(decode.maximum, 4.0, every=5.0, price=0.1)),
    row("sequential-mnist * *", delay=_delays(1.0, 100.0)),
    row("spoken-digits|sequential-mnist lif|alif|qif *", weights_in=init.normal(0.3, 1.0)),
    row("spoken-digits|sequential-mnist * max-voltage", weights_out=init.normal(0.0, 0.1)),
    row("* alif *", hidden=lambda *_: ALIF()),
    row("delay-copy|delayed-xor egru last-voltage", hidden=_gated, output=_slow_integrators, clip=optax.clip),
    row(
        "delay-copy egru last-voltage",
        # Nothing when the cue comes, at 150 ms, and the pattern at the end.
        readout=Logits((150.0,), np.array([[[0, 0], [1, 0]], [[0, 0], [0, 1]]]), 0.05),
        # A pattern changes the cell states, each in a random direction, and the cue makes all units spike.
        weights_in={
            "u": _columns((10.0, 10.0), (0.5, 0.5)),
            "r": _columns((0.0, 0.0), (0.5, 0.5)),
            "z": _columns((0.0, 4.0), (1.5, 1.5)),
        },
        weights_out=init.normal(0.0, 0.3),
        weights_recurrent={port: init.normal(0.0, 0.5) for port in ("u", "r", "z")},
        delay_recurrent=5.0,
    ),
    row(
        "delayed-xor egru last-voltage",
        hidden=_gated_for_long,
        readout=Logits((), np.array([[[0]], [[1]]]), 0.1),
        # A bit changes the cell states a little, each in a random direction, and the cue makes all units spike.
        weights_in={
            "u": _columns((1.5, 5.0), (0.7, 0.7)),
            "r": init.normal(0.0, 0.5),
            "z": _columns((0.0, 2.0), (1.5, 0.5)),
        },
        weights_out=_balanced,
        weights_recurrent={"u": init.normal(0.0, 0.3), "r": init.normal(0.0, 0.3), "z": _inhibition},
        delay_recurrent=10.0,
    ),
)

RECIPES = (*_OF_NEURONS, *_OF_READOUTS, *_OF_TASKS)
"""The fields of a `Recipe` for each task, neuron and readout: general rows first, then exceptions."""
