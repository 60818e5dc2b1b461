"""The connections of the networks of tasks, beyond the weights from layer to layer."""

from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from .._network import Layer, Network, recurrent, sequential
from ._recipes import Recipe


STORY = """\
--wiring says what is learned besides the weights from layer to layer: a delay of each
synapse onto a hidden neuron (delays), recurrent weights (recurrent), both, with recurrent
delays, too (recurrent-delays), or nothing (feed-forward)."""


def wired(inputs: int, *layers: Layer, wiring: str, recipe: Recipe, key: PRNGKeyArray) -> Network:
    """The network of a wiring."""
    delays = [*(recipe.delay for _ in layers[1:]), None]
    match wiring:
        case "feed-forward":
            return sequential(inputs, *layers, key=key)
        case "delays":
            return sequential(inputs, *layers, key=key, delay=delays)
        case "recurrent":
            weights, delay = _weights(layers[0], recipe), recipe.delay_recurrent
            return recurrent(inputs, *layers, key=key, weights=weights, delay=delay)
        case "recurrent-delays":
            weights = _weights(layers[0], recipe)
            return recurrent(inputs, *layers, key=key, weights=weights, delay=recipe.delay, forward_delay=delays)
    raise AssertionError(wiring)


def _weights(layer: Layer, recipe: Recipe) -> Any:
    """The initializers of the recurrent weights, for each port."""
    given = recipe.weights_recurrent
    return jax.tree.map(lambda _: given, layer.weights) if callable(given) else given
