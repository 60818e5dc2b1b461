"""Checks of the arguments of a simulation, before compilation."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from .._checks import as_array, known, require, require_count, require_finite, require_instance
from .._methods._common.rates import fastest
from .._network import Network
from .._spikes import Events, Spikes
from .snapshot import Snapshot


def checked_inputs(network: Network, inputs: Any) -> dict[str, Spikes | Events]:
    """The spikes of each input, by name."""
    names = list(network.inputs)
    if not isinstance(inputs, Mapping):
        require(len(names) == 1, "inputs", f"a dictionary with the entries {names}", inputs)
        inputs = {names[0]: inputs}
    require(set(inputs) == set(names), "inputs", f"a dictionary with the entries {names}", sorted(inputs))
    for name, value in inputs.items():
        require_instance(value, (Spikes, Events), "inputs", "`sx.Spikes` or `sx.Events`", _how_to_pass(value))
        is_list = isinstance(value, Events)
        n = value.n if is_list else value.times.shape[-2]
        got = f"{n} channels, with times of shape {value.times.shape}"
        hint = "" if is_list else "The last axis counts the spikes of a channel. For one spike: `times[..., None]`."
        require(n == network.inputs[name], "inputs", f"spikes of {network.inputs[name]} channels", got, hint)
    shapes = {batch_of(spikes) for spikes in inputs.values()}
    require(len(shapes) == 1, "inputs", "of the same batch axes for every input", shapes)
    return dict(inputs)


def _how_to_pass(value: Any) -> str:
    if isinstance(value, list | tuple) and any(isinstance(one, Spikes | Events) for one in value):
        return "Pass one recording at a time, or batches from `sx.datasets.Loader`."
    return "Wrap the times in `sx.Spikes`."


def batch_of(spikes: Spikes | Events) -> tuple[int, ...]:
    """The batch axes."""
    return spikes.times.shape[: -1 if isinstance(spikes, Events) else -2]


def checked_start_time(t0: Any, start: Any) -> Any:
    """The start of a simulation: `t0`, or the time of the snapshot."""
    if not isinstance(start, Snapshot):
        return 0.0 if t0 is None else t0
    require(t0 is None, "t0", "left out with a snapshot as `start`, which has a time", t0)
    return start.t


def check_times(t0: Any, t1: Any, inputs: dict[str, Spikes | Events]) -> None:
    """Raises unless `t0 < t1` and no input comes before `t0`, as far as the values are known."""
    for name, value in (("t0", t0), ("t1", t1)):
        require_finite(float(value) if isinstance(value, int) and not isinstance(value, bool) else value, name)
        require(np.ndim(value) == 0, name, "one number", value, "All samples share it.")
    start, end = known(t0), known(t1)
    if start is None or end is None:
        return
    require(bool(end > start), "t1", f"after t0 = {float(start)}", t1)
    for spikes in inputs.values():
        times = known(spikes.times)
        early = times is not None and bool(np.any(times < start))
        require(not early, "inputs", f"spikes at or after t0 = {float(start)}", times, "Shift them, or set `t0`.")


def warn_of_units(network: Network, inputs: dict[str, Spikes | Events], t0: Any, t1: Any) -> None:
    """Warns if the times of the inputs are probably not in ms, if all is known.

    That is, if hardly one of the input spikes comes before `t1`, or if all come less than a hundredth of the shortest
    time constant after `t0`.
    """
    start, end = known(t0), known(t1)
    times = [part for part in (known(spikes.times) for spikes in inputs.values()) if part is not None]
    if start is None or end is None or len(times) < len(inputs):
        return
    spikes = sum(int(np.sum(part < np.inf)) for part in times)
    late = sum(int(np.sum((part > end) & (part < np.inf))) for part in times)
    if late > 0.99 * spikes:
        message = (
            f"Of {spikes:,} spikes of the `inputs`, {late:,} come after `t1` = {float(end):g} ms, and have no effect. "
            "Times are in ms: divide times in microseconds by 1000."
        )
        warnings.warn(message, stacklevel=3)
    ends = [float(np.max(part, initial=-np.inf, where=part < np.inf)) for part in times]
    length = max(ends) - float(start)
    # The search for time constants takes time, and few are longer than 100 ms.
    if not 0.0 < length < 1.0:
        return
    rates = [fastest(layer.neuron, network.dtype) for layer in network.layers.values()]
    rate = max((rate for rate in rates if rate is not None), default=0.0)
    if 0.0 < length * rate < 0.01:
        message = (
            f"The `inputs` end {length:.3g} ms after `t0`, less than a hundredth of the shortest time constant, "
            f"{1.0 / rate:.3g} ms. Times are in ms: multiply times in seconds by 1000."
        )
        warnings.warn(message, stacklevel=3)


def checked_save_times(network: Network, saveat: Any, t0: Any, t1: Any) -> dict[str, Any]:
    """The times to save, by layer name."""
    if saveat is None:
        return {}
    by_layer = dict(saveat) if isinstance(saveat, Mapping) else dict.fromkeys(network.layers, saveat)
    for name, ts in by_layer.items():
        require(name in network.layers, "saveat", f"for layers among {list(network.layers)}", name)
        ts = as_array(ts, "saveat")
        require(np.ndim(ts) == 1, "saveat", "times of shape (times,)", ts, error=TypeError)
        # Compared in the float type of the simulation, in which a rounded `t1` still equals `t1`.
        span = [known(part) for part in (t0, t1, ts)]
        if all(part is not None for part in span):
            start, end, when = (np.asarray(part, network.dtype) for part in span)
            inside = bool(np.all((when >= start) & (when <= end)))
            require(inside, "saveat", f"between t0 = {float(start)} and t1 = {float(end)}", ts)
    return by_layer


def checked_start(network: Network, start: Any, batch: tuple[int, ...]) -> "Snapshot | dict[str, Any]":
    """The start of the simulation: a snapshot, or initial states by layer name."""
    if isinstance(start, Snapshot):
        start.require_fit(network, batch)
        return start
    states = {} if start is None else start
    expectation = "`Solution.end`, or a dictionary of states by layer name"
    require_instance(states, Mapping, "start", expectation)
    for name, state in states.items():
        require(name in network.layers, "start", f"for layers among {list(network.layers)}", name)
        own, argument = jax.tree.structure(network.layers[name].neuron.initial_state()), f"start[{name!r}]"
        same = jax.tree.structure(state) == own
        require(same, argument, f"of the structure {own}", jax.tree.structure(state))
        for leaf in jax.tree.leaves(state):
            require_finite(as_array(leaf, argument), argument)
    return dict(states)


def checked_capacity(network: Network, max_spikes: Any) -> dict[str, int]:
    """The number of spikes per neuron that can be recorded, by layer name."""
    if not isinstance(max_spikes, Mapping):
        require_count(max_spikes, "max_spikes")
        return dict.fromkeys(network.layers, int(max_spikes))
    require(set(max_spikes) == set(network.layers), "max_spikes", f"for the layers {list(network.layers)}", max_spikes)
    for name, value in max_spikes.items():
        require_count(value, f"max_spikes[{name!r}]")
    return {name: int(value) for name, value in max_spikes.items()}


def as_state(given: Array, own: Array, name: str) -> Array:
    """Broadcasts an initial state from (), (neurons,) or (*batch, neurons) to (batch, neurons, 1)."""
    trailing = own.ndim - 3
    leading = given.ndim - trailing
    inner = given.shape[leading:]
    neurons = own.shape[1]
    samples = int(np.prod(given.shape[: leading - 1])) if leading > 0 else 1
    fits = leading == 0 or (given.shape[leading - 1] == neurons and samples in (1, own.shape[0]))
    expectation = f"of shape (), ({neurons},) or (*batch, {neurons}), for {own.shape[0]} samples"
    require(fits, f"start[{name!r}]", expectation, given)
    flat = given.reshape(samples, neurons, 1, *inner) if leading > 0 else given
    return jax.numpy.broadcast_to(flat, own.shape)
