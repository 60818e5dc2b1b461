"""The result of a simulation."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from .._checks import known
from .._spikes import Events, Spikes
from .._tables import as_html, as_text, Section
from .results import CAUSES, RESULTS
from .snapshot import Snapshot


class Stats(eqx.Module):
    """Statistics of the simulation of a layer.

    - `spikes`: the number of spikes in each sample, recorded or not; shape `batch`.
    - `max_spike_count`: the number of spikes of the busiest neuron of each sample, which must not exceed `max_spikes`;
      shape `batch`. With [`spikax.EventQueue`][] a sample ends when a neuron exceeds `max_spikes`, and the counts are
      those up to then.
    - `iterations`: for `sx.EventLoop`, the number of trial steps for all samples together, at most `max_steps`; for
      `sx.ClosedForm`, the number of passes; for `sx.EventQueue`, the iterations of the busiest sample.
    - `rejected_steps`: the number of rejected trial steps in each sample: steps that were too long, and trials of the
      search for a spike; shape `batch`.
    - `sweeps`: how often the layer was simulated: once, or at least once in each window of [`spikax.Windows`][].
      `iterations` and `rejected_steps` count the last sweep of each window.
    - `method`: the name of the method.
    - `windows`: the number of time windows; 1 except for `sx.Windows`.
    """

    spikes: Int[Array, "*batch"]
    max_spike_count: Int[Array, "*batch"]
    iterations: Int[Array, ""]
    rejected_steps: Int[Array, "*batch"]
    sweeps: Int[Array, ""]
    method: str = eqx.field(static=True)
    windows: int = eqx.field(static=True)


@jax.tree_util.register_pytree_with_keys_class
class Saved(dict):
    """Saved values by layer name. A missing layer raises a `KeyError` that explains `saveat`."""

    def __missing__(self, name):
        raise KeyError(
            f"`saveat` must be given for the layer {name!r} to save its states and drives; got times for {list(self)}. "
            f"For example `sx.simulate(..., saveat={{{name!r}: ts}})`."
        )

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.DictKey(name), self[name]) for name in self], tuple(self)

    @classmethod
    def tree_unflatten(cls, names, saved):
        return cls(zip(names, saved, strict=True))


class Solution(eqx.Module):
    """The result of [`spikax.simulate`][].

    - `spikes`: the spikes of each layer, by name.
    - `ts`: the times of `saveat`, in ms, by layer name; shape `(times,)`.
    - `states`: the states of each layer at these times, by name; leaves of shape `(*batch, times, neurons)`. Only for
      layers with `saveat`.
    - `drives`: the drives that the synapses of each layer deliver at these times, in the same shape.
    - `end`: the state of the simulation at `t1`, a [`spikax.Snapshot`][], for `simulate(..., start=solution.end)`;
      `end.states` are the states by layer name. None with `until`, which may end before `t1`.
    - `result`: how each sample ended, to be compared with an item of [`spikax.RESULTS`][]; shape `batch`.
    - `results`: the same for each layer, by name.
    - `stats`: the [`spikax.Stats`][] of each layer, by name.

    `print(solution)` shows the results and the statistics of each layer.
    """

    spikes: dict[str, Spikes]
    ts: dict[str, Float[Array, " times"]]
    states: dict[str, PyTree[Array]]
    drives: dict[str, Any]
    end: Snapshot | None
    result: RESULTS
    results: dict[str, RESULTS]
    stats: dict[str, Stats]

    def events(self) -> Events:
        """Returns the spikes of all layers as one list for each sample, sorted by time, without payloads.

        The channels number the neurons of all layers, in the order of `spikes`: those of the first layer from 0, those
        of the second from the size of the first, and so on.
        """
        layers = list(self.spikes.values())
        sizes = [layer.times.shape[-2] for layer in layers]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        lists = [layer.events() for layer in layers]
        times = jnp.concatenate([events.times for events in lists], axis=-1)
        channels = jnp.concatenate([start + part.channels for start, part in zip(starts, lists, strict=True)], axis=-1)
        order = jnp.argsort(times, axis=-1)
        return Events(*(jnp.take_along_axis(part, order, axis=-1) for part in (times, channels)), sum(sizes))

    def __str__(self) -> str:
        return as_text(*_summary(self))

    def _repr_html_(self) -> str:
        return as_html(*_summary(self))


_COLUMNS = ("layer", "method", "samples", "spikes per neuron", "most", "iterations")


def _summary(solution: Solution) -> tuple[str, tuple[str, ...], list[Section]]:
    """A title, the columns, and a section with a row for each layer."""
    (numbers,) = (known(leaf) for leaf in jax.tree.leaves(solution.result))
    if numbers is None:
        return "Solution: traced", _COLUMNS, []
    failed = int(np.sum(solution.result != RESULTS.successful))
    ended = "all successful" if failed == 0 else f"{failed} failed"
    rows = [_row(name, solution) for name in solution.spikes]
    return f"Solution: {numbers.size} sample{'s' * (numbers.size != 1)}, {ended}", _COLUMNS, [("", rows)]


def _row(name: str, solution: Solution) -> tuple[str, ...]:
    stats, n = solution.stats[name], solution.spikes[name].times.shape[-2]
    counts, most = np.asarray(stats.spikes), np.asarray(stats.max_spike_count)
    mean = f"{counts.mean() / n:.3g}" if counts.size else "-"
    method = stats.method + (f", {stats.windows} windows" if stats.windows > 1 else "")
    return name, method, _endings(solution.results[name]), mean, str(most.max(initial=0)), str(int(stats.iterations))


def _endings(results: RESULTS) -> str:
    """The number of samples for each result."""
    counts = {name: int(np.sum(results == cause)) for name, cause in CAUSES.items()}
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "successful"
