"""Checks of the arguments that losses share."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from .._checks import checked_indices, is_number, require, require_instance
from .._spikes import Spikes


def require_times(times: Any) -> None:
    """Raises `TypeError` unless these may be first spike times."""
    hint = "For example `sx.first_spike(spikes)`."
    require_array(times, "times", "(*batch, n)", hint)


def require_array(value: Any, name: str, shape: str, hint: str = "") -> None:
    """Raises `TypeError` unless this is a floating-point array with the axes that `shape` names, or more of them."""
    is_right = is_number(value) and jnp.ndim(value) >= shape.count(",")
    require(is_right, name, f"a floating-point array of shape {shape}", value, hint, TypeError)


def checked_labels(labels: Any, outputs: Any, name: str) -> Int[Array, "*batch"]:
    """The labels; raises unless there is one for every sample of `outputs`, the argument `name`, `(*batch, n)`.

    An output that is not there is an error at run time where the labels are traced.
    """
    shape, n = jnp.shape(outputs)[:-1], jnp.shape(outputs)[-1]
    is_integer = jnp.issubdtype(jnp.result_type(labels), jnp.integer)
    require(is_integer, "labels", "integers", labels, error=TypeError)
    require(jnp.shape(labels) == shape, "labels", f"of shape {shape}, one per sample of `{name}`", labels)
    return checked_indices(labels, "labels", n, "Count the classes from 0.")


def require_trains(spikes: Any, targets: Any) -> None:
    """Raises unless both are spike trains, of as many neurons and samples."""
    for name, value in (("spikes", spikes), ("targets", targets)):
        require_instance(value, Spikes, name, "`sx.Spikes`")
    shape = spikes.times.shape[:-1]
    same = targets.times.shape[:-1] == shape
    require(same, "targets", f"of shape {(*shape, 'k')}, as many neurons as `spikes`", targets.times)
