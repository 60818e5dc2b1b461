"""What a simulation gives."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Int, PyTree

from ._results import RESULTS
from ._spikes import Spikes


class Stats(eqx.Module):
    """What the simulation of a layer took.

    - `spikes`: the number of spikes in each sample, recorded or not; shape `batch`.
    - `most_spikes`: the number of spikes of the busiest neuron of each sample: what `max_spikes` must allow.
      With one clock a sample ends when a neuron exceeds `max_spikes`, and its counts are those up to then.
    - `iterations`: how often the event loop ran for all samples together, which `max_steps` must allow; how many
      passes the parallel simulation took; or, with one clock, how many events at least the busiest sample had.
    - `rejected_steps`: the trial steps of each sample that were not accepted: too long ones, and those of the search
      for a spike.
    - `sweeps`: how often the layer was simulated: once, or, where it is part of a recurrent group, at least once in
      each window. `iterations` and `rejected_steps` are those of the last sweep in each.
    - `method`: the name of the method by which the layer was simulated.
    - `windows`: into how many windows of time its simulation was cut; one, but for recurrent groups.
    """

    spikes: Int[Array, "*batch"]
    most_spikes: Int[Array, "*batch"]
    iterations: Int[Array, ""]
    rejected_steps: Int[Array, "*batch"]
    sweeps: Int[Array, ""]
    method: str = eqx.field(static=True)
    windows: int = eqx.field(static=True)


@jax.tree_util.register_pytree_with_keys_class
class Saved(dict):
    """What was saved, by the name of the layer; what was not is an error that says how to have it saved."""

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
    - `states`: the states of each layer at the times `saveat`, by name; leaves of shape `(*batch, times, neurons)`.
      A layer for which no `saveat` was given has none.
    - `drives`: what the synapses of each layer delivered at those times, in the same shape.
    - `result`: how each sample ended; of shape `batch`, to be compared with an item of [`spikax.RESULTS`][].
    - `results`: the same for each layer, by name.
    - `stats`: what each layer took, by name.
    """

    spikes: dict[str, Spikes]
    states: dict[str, PyTree[Array]]
    drives: dict[str, Any]
    result: RESULTS
    results: dict[str, RESULTS]
    stats: dict[str, Stats]
