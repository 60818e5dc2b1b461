"""Checks of arguments that several losses share."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from .._checks import as_indices, checked_indices, known, require, require_instance
from .._spikes import Spikes


def checked_labels(labels: Any, outputs: Any, name: str, throw: bool) -> tuple[Int[Array, "*batch"], Array]:
    """The labels as indices, and a term of the losses: zero, and NaN where a label is not from 0 to `n - 1`.

    `outputs` is the argument `name`, of shape `(*batch, n)`. With `throw` a label out of range raises, at run time if
    it is traced; without it only known ones do.
    """
    shape, n = jnp.shape(outputs)[:-1], jnp.shape(outputs)[-1]
    is_integer = jnp.issubdtype(jnp.result_type(labels), jnp.integer)
    require(is_integer, "labels", "integers", labels, error=TypeError)
    require(jnp.shape(labels) == shape, "labels", f"of shape {shape}, one per sample of `{name}`", labels)
    if throw or known(labels) is not None:
        labels = checked_indices(labels, "labels", n, "Count the classes from 0.")
    labels = as_indices(labels, "labels")
    is_valid = (labels >= 0) & (labels < n)
    return jnp.where(is_valid, labels, 0), jnp.where(is_valid, 0.0, jnp.nan).astype(jnp.result_type(outputs))


def require_trains(spikes: Any, targets: Any) -> None:
    """Raises unless both are `sx.Spikes` with the same number of neurons and samples."""
    for name, value in (("spikes", spikes), ("targets", targets)):
        require_instance(value, Spikes, name, "`sx.Spikes`")
    shape = spikes.times.shape[:-1]
    same = targets.times.shape[:-1] == shape
    require(same, "targets", f"of shape {(*shape, 'k')}, with the neurons and samples of `spikes`", targets.times)
