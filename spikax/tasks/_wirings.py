"""Networks with one hidden layer that learn more than the weights from layer to layer."""

from typing import Any

from jaxtyping import Array

from .._network import Layer, Network, recurrent, sequential
from ..init import Initializer


WIRINGS = ("delays", "recurrent", "recurrent-delays")
"""What is learned: a delay of each synapse of the input, recurrent weights, or both, with recurrent delays, too."""


def wired(
    n_in: int, hidden: Layer, output: Layer, wiring: str, *, loop: Any, delay: Initializer, key: Array
) -> Network:
    """The network of a wiring. `loop` and `delay` draw the recurrent weights and the delays."""
    if wiring == "delays":
        return sequential(n_in, hidden, output, key=key, delay=[delay, None])
    if wiring == "recurrent":
        return recurrent(n_in, hidden, output, key=key, weights=loop)
    # Each spike arrives later, on its way to the layer and within it.
    return recurrent(n_in, hidden, output, key=key, weights=loop, delay=delay, forward_delay=[delay, None])
