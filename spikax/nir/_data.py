"""Spikes in the data format of NIR."""

import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import known, require, require_finite, require_instance
from .._spikes import Events, Spikes
from ._convention import library, MILLISECONDS
from ._numbers import divided


def to_nir_data(spikes: Mapping[str, Spikes | Events], t1: float, *, time_unit: str) -> Any:
    """Converts spikes to the data format of NIR.

    ```python
    nir.write_data("spikes.h5", sx.to_nir_data(solution.spikes, 100.0, time_unit="s"))
    ```

    **Arguments:**

    - `spikes`: the spikes by layer or input, as in `Solution.spikes`. All batch axes become one.
    - `t1`: the end of the recording, in ms.
    - `time_unit`: the unit of time of the data: `"s"`, `"ms"` or `"us"`.

    **Returns:** a `nir.NIRGraphData`, with an event list named `spikes` for each node.

    **Raises:** `ImportError` without the package nir; `TypeError` or `ValueError` for other arguments, and for spikes
    with a payload.
    """
    nir, unit = library(), _unit(time_unit)
    require_instance(spikes, Mapping, "spikes", "a dictionary of `sx.Spikes` or `sx.Events` by node")
    require_finite(t1, "t1")
    nodes = {}
    for name, train in spikes.items():
        require_instance(train, (Spikes, Events), f"spikes[{name!r}]", "`sx.Spikes` or `sx.Events`")
        has_payload = isinstance(train, Spikes) and train.payload is not None
        require(not has_payload, f"spikes[{name!r}]", "without a payload, which NIR cannot hold", train)
        events = train.events() if isinstance(train, Spikes) else train
        times, channels = known(events.times), known(events.channels)
        hint = "Convert spikes outside of `jax.jit`."
        require(times is not None and channels is not None, f"spikes[{name!r}]", "known", train, hint)
        assert times is not None and channels is not None
        times, channels = (part.reshape(-1, part.shape[-1]) for part in (times, channels))
        happened = np.isfinite(times)
        index = np.where(happened, channels, -1)
        time = np.full(times.shape, np.inf)
        time[happened] = divided(times[happened], unit)
        events = nir.EventData(idx=index, time=time, n_neurons=events.n, t_max=float(t1) / unit)
        nodes[name] = nir.NIRNodeData(observables={"spikes": events})
    return nir.NIRGraphData(nodes=nodes)


def from_nir_data(data: Any, *, time_unit: str, observable: str = "spikes", dtype: Any = None) -> dict[str, Events]:
    """Converts spikes from the data format of NIR.

    **Arguments:**

    - `data`: a `nir.NIRGraphData`, or the path of a file.
    - `time_unit`: the unit of time of the data: `"s"`, `"ms"` or `"us"`.
    - `observable`: the name of the event lists, of which each node has one.
    - `dtype`: the float type of the times. By default that of JAX.

    **Returns:** [`spikax.Events`][] by node, with one batch axis; for nodes of a nested graph `a`, with the names
    `a.name`. `Events.spikes()` converts them to spike trains.

    **Raises:** `ImportError` without the package nir; `TypeError` or `ValueError` for other arguments, and for data
    that are no event lists.
    """
    nir, unit = library(), _unit(time_unit)
    require_instance(observable, str, "observable", "the name of an observable")
    if isinstance(data, str | os.PathLike):
        data = nir.read_data(data)
    require_instance(data, nir.NIRGraphData, "data", "a `nir.NIRGraphData` or the path of a file")
    return _events(nir, data, unit, observable, dtype or jnp.result_type(float), "")


def _events(nir: Any, data: Any, unit: float, observable: str, dtype: Any, prefix: str) -> dict[str, Events]:
    found = {}
    for name, node in data.nodes.items():
        if isinstance(node, nir.NIRGraphData):
            found |= _events(nir, node, unit, observable, dtype, f"{prefix}{name}.")
            continue
        names = list(node.observables)
        require(observable in names, "observable", f"one of those of `{prefix}{name}`, {names}", observable)
        found[prefix + name] = _list(f"{prefix}{name}.{observable}", node.observables[observable], unit, dtype)
    return found


def _list(name: str, events: Any, unit: float, dtype: Any) -> Events:
    """An event list, sorted by time."""
    hint = "`to_event(n_events, time_shift)` makes events of time steps. Values of events have no counterpart."
    require(type(events).__name__ == "EventData", name, "a `nir.EventData`", type(events).__name__, hint)
    time, index = np.asarray(events.time, np.float64), np.asarray(events.idx)
    agree = bool(np.all(np.isfinite(time) == (index >= 0)))
    require(agree, name, "of the time inf where the index is -1, and only there", events)
    order = np.argsort(time, axis=-1, kind="stable")
    time, index = np.take_along_axis(time, order, axis=-1), np.take_along_axis(index, order, axis=-1)
    return Events(jnp.asarray(time * unit, dtype), jnp.asarray(np.maximum(index, 0), jnp.int32), int(events.n_neurons))


def _unit(time_unit: Any) -> float:
    is_unit = isinstance(time_unit, str) and time_unit in MILLISECONDS
    require(is_unit, "time_unit", f"one of {list(MILLISECONDS)}", time_unit)
    return MILLISECONDS[time_unit]
