"""Checks of arguments that several losses share."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from .._checks import checked_indices, require, require_instance
from .._spikes import Spikes


def checked_labels(labels: Any, outputs: Any, name: str) -> Int[Array, "*batch"]:
    """The labels as indices. Raises unless there is one label from 0 to `n - 1` per sample of `outputs`.

    `outputs` is the argument `name`, of shape `(*batch, n)`. The range of traced labels is checked at run time.
    """
    shape, n = jnp.shape(outputs)[:-1], jnp.shape(outputs)[-1]
    is_integer = jnp.issubdtype(jnp.result_type(labels), jnp.integer)
    require(is_integer, "labels", "integers", labels, error=TypeError)
    require(jnp.shape(labels) == shape, "labels", f"of shape {shape}, one per sample of `{name}`", labels)
    return checked_indices(labels, "labels", n, "Count the classes from 0.")


def require_trains(spikes: Any, targets: Any) -> None:
    """Raises unless both are `sx.Spikes` with the same number of neurons and samples."""
    for name, value in (("spikes", spikes), ("targets", targets)):
        require_instance(value, Spikes, name, "`sx.Spikes`")
    shape = spikes.times.shape[:-1]
    same = targets.times.shape[:-1] == shape
    require(same, "targets", f"of shape {(*shape, 'k')}, with the neurons and samples of `spikes`", targets.times)
