"""Conditions that end a simulation before `t1`."""

import equinox as eqx

from .._checks import require, require_instance
from .._network import Network


Groups = tuple[tuple[str, ...], ...]


class FirstSpikes(eqx.Module):
    """Ends the simulation of a layer at the first spikes of its neurons.

    The first spikes and their gradients are those of the full simulation. Later spikes are missing. Each neuron stops
    at its own first spike, and the layer ends when its last neuron has spiked, or at `t1`. A layer of a recurrent group
    ends with the whole group, when all its neurons have spiked. With [`spikax.Windows`][] for the whole network, all
    layers end together. This is the default if a recurrent group comes before the layer.

    A sample ends with the last of these first spikes. Spikes of other layers after that may be missing, and a layer
    that fails later, for example because it exceeds `max_spikes`, does not make the sample fail. If states are saved,
    the whole duration counts.

    **Arguments:**

    - `layer`: the name of the layer; by default the outputs of the network. To wait for some neurons only, put them
      into a layer of their own.
    """

    layer: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        require(self.layer is None or isinstance(self.layer, str), "layer", "a string", self.layer, error=TypeError)

    def stop_after(self, network: Network, groups: Groups) -> dict[str, int]:
        """The number of spikes after which each neuron of a layer stops, by layer name.

        `groups` are the layers that are simulated together.
        """
        names = network.output_names if self.layer is None else (self.layer,)
        for name in names:
            require(name in network.layers, "until", f"for a layer among {list(network.layers)}", name)
            (group,) = (group for group in groups if name in group)
            receivers = [c.target for c in network.connections if c.source == name and c.target not in group]
            hint = "These layers need the spikes that would be missing."
            require(not receivers, "until", "for a layer without connections to other layers", receivers, hint)
        return dict.fromkeys(names, 1)


def checked_stop(until: FirstSpikes | None, network: Network, groups: Groups, saved: list[str]) -> dict[str, int]:
    """The spike counts at which `until` stops. Raises where saved states would need later times."""
    if until is None:
        return {}
    require_instance(until, FirstSpikes, "until", "an `sx.FirstSpikes`", "For example `sx.FirstSpikes()`.")
    stop_after = until.stop_after(network, groups)
    ending = {name for group in groups if set(group) & set(stop_after) for name in group}
    both = sorted(ending & set(saved))
    hint = "Their states after the first spikes would be missing: give `saveat` for other layers, or omit `until`."
    require(not both, "saveat", "given for layers that `until` does not end", both, hint)
    return stop_after
