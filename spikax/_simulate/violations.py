"""Parameters outside their domains, in a simulation."""

from collections.abc import Iterator

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from .._connection import CONSTRAINTS
from .._constraints import Violation, violations
from .._network import Network


class Violations(eqx.Module):
    """Which parameters of a network are outside their domains.

    - `happened`: whether each checked parameter is outside its domain.
    - `layers`: the layer of each parameter; for a connection, its target.
    - `messages`: the error message for each parameter.
    """

    happened: Bool[Array, " parameters"]
    layers: tuple[str, ...] = eqx.field(static=True)
    messages: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, network: Network) -> "Violations":
        """The violations of a network, with resolved parameters."""
        found = list(_all(network))
        layers, messages = (tuple(part[i] for part in found) for i in (0, 1)) if found else ((), ())
        return cls(jnp.asarray([violation.happened for *_, violation in found], bool), layers, messages)

    def any(self, layer: str | None = None) -> Bool[Array, ""]:
        """Whether there is a violation, in any layer or in the given one."""
        return jnp.any(self.happened & np.asarray([layer in (None, name) for name in self.layers], bool))


def _all(network: Network) -> Iterator[tuple[str, str, Violation]]:
    """The layer, the message and the violation of each checked parameter."""
    for name, layer in network.layers.items():
        for violation in violations(layer.neuron, "neuron"):
            yield name, _message(name, violation), violation
    for number, connection in enumerate(network.connections):
        for violation in violations(connection, f"connections[{number}]", **CONSTRAINTS):
            yield connection.target, _message(connection.target, violation), violation


def _message(layer: str, violation: Violation) -> str:
    expectation = f"Layer `{layer}`: `{violation.name}` must be {violation.expectation}."
    return " ".join(filter(None, (expectation, violation.hint, "A step of an optimiser may have been too large.")))
