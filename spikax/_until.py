"""When a simulation may end before its time."""

import equinox as eqx

from ._checks import require, require_instance
from ._network import Network


Groups = tuple[tuple[str, ...], ...]


class FirstSpikes(eqx.Module):
    """The neurons of a layer are simulated up to their first spike, and no further.

    Their first spikes are those of the full simulation, with the same gradients; later ones are missing. No neuron
    is held up by another: a layer ends when its last neuron has spiked, or at `t1`. A layer of a recurrent group ends
    with the whole group, when all its neurons have spiked; and with `windows` of time, all layers end together.

    A sample ends with the last of these first spikes. What happens in other layers after that does not matter: of their
    spikes, later ones may be missing, and a layer that fails after the end of a sample, as it exceeds `max_spikes`, is
    no failure; unless states are saved, which needs the whole duration.

    **Arguments:**

    - `layer`: the name of the layer; by default the outputs of the network.
    """

    layer: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        require(self.layer is None or isinstance(self.layer, str), "layer", "a string", self.layer, error=TypeError)

    def quota(self, network: Network, groups: Groups) -> dict[str, int]:
        """How many spikes each neuron of a layer is simulated for, by the name of the layer.

        `groups` are the layers that are simulated together.
        """
        names = network.output_names if self.layer is None else (self.layer,)
        for name in names:
            require(name in network.layers, "until", f"for a layer among {list(network.layers)}", name)
            (group,) = (group for group in groups if name in group)
            listeners = [c.target for c in network.connections if c.source == name and c.target not in group]
            hint = "The spikes that it would miss are needed there."
            require(not listeners, "until", "for a layer to which no other listens", listeners, hint)
        return dict.fromkeys(names, 1)


def checked_quota(until: FirstSpikes | None, network: Network, groups: Groups, saved: list[str]) -> dict[str, int]:
    """The quotas that `until` sets, where no state is saved that would need more."""
    if until is None:
        return {}
    require_instance(until, FirstSpikes, "until", "an `sx.FirstSpikes`", "For example `sx.FirstSpikes()`.")
    quota = until.quota(network, groups)
    ending = {name for group in groups if set(group) & set(quota) for name in group}
    both = sorted(ending & set(saved))
    hint = "Its states after the first spikes would be missing: give `saveat` for other layers, or no `until`."
    require(not both, "saveat", "given for layers that `until` does not end", both, hint)
    return quota
