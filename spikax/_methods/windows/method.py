"""The method `Windows`: recurrent groups by waveform relaxation.

The layers of a group are simulated in time windows. Layers that receive from each other without delay form a part,
which a method simulates as a whole if it can. Within a window, sweeps over all parts are repeated until no arrival
changes. If all delays between parts are longer than the window, no spike arrives in the window in which it is emitted,
and the spikes are final after one sweep.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import numpy as np

from ..._checks import known, require, require_count, require_instance
from ..._network import Network
from .._base import (
    AbstractLayerMethod,
    AbstractMethod,
    Expected,
    LayerResult,
)
from .._common.rates import fastest
from .context import Context
from .parts import loops_of, Part, parts_of
from .rule import through_windows


class Windows(AbstractMethod):
    """Simulates recurrent groups by waveform relaxation in time windows.

    In each window, sweeps over the layers are repeated until no arrival changes. If all delays within the group are
    longer than a window, one sweep is enough. The number of windows affects the run time, and the results only by
    rounding and by the errors of the solver's steps. As the method of a whole network, it simulates all layers
    together; with `until`, the simulation then ends with the first window after which no sample needs more spikes.

    **Arguments:**

    - `count`: the number of windows. By default a window is about as long as the shortest delay of the group or the
      fastest time constant, whichever is longer. Without delays within recurrent groups there are 32.
    - `method`: the method that simulates each layer within a sweep: one method, or a dictionary by layer name. By
      default each part of the group, whose layers receive from each other without delay, is simulated as a whole by
      the first of [`spikax.ClosedForm`][], [`spikax.EventQueue`][] and [`spikax.EventLoop`][] that supports it; if
      none does, each of its layers by itself.
    - `max_sweeps`: the maximal number of sweeps over a window.
    - `max_arrivals`: the number of arrivals at a neuron in a window for which there is room. A window in which more
      arrive is divided. More at the same time are an error. By default there is room for 2048 if all neurons of the
      layer receive the same arrivals, otherwise for one from each source, but for 32 to 256. With less room, windows
      with few arrivals take less time.
    """

    simulates_single_layers: ClassVar[bool] = False

    count: int | None = eqx.field(static=True, default=None)
    method: AbstractLayerMethod | Mapping[str, AbstractLayerMethod] | None = None
    max_sweeps: int = eqx.field(static=True, default=4096, kw_only=True)
    max_arrivals: int | None = eqx.field(static=True, default=None, kw_only=True)
    _parts: tuple[Part, ...] = eqx.field(default=(), kw_only=True, repr=False)  # as chosen by `completed`

    def __check_init__(self):
        if self.count is not None:
            require_count(self.count, "count")
        require_count(self.max_sweeps, "max_sweeps")
        if self.max_arrivals is not None:
            require_count(self.max_arrivals, "max_arrivals")
        if isinstance(self.method, Mapping):
            given = list(self.method.values())
        else:
            given = [] if self.method is None else [self.method]
        for method in given:
            hint = "For example `sx.EventLoop()`."
            require_instance(method, AbstractLayerMethod, "method", "a method for single layers", hint)

    def limits(self, name):
        (part,) = (part for part in self._parts if name in part.names)
        own = {"max_sweeps": self.max_sweeps}
        return (
            part.method.limits(name) | own | ({} if self.max_arrivals is None else {"max_arrivals": self.max_arrivals})
        )

    def completed(self, network, group, choose):
        if isinstance(self.method, Mapping):
            given = self.method
        else:
            given = {} if self.method is None else dict.fromkeys(group, self.method)
        require(set(given) <= set(group), "method", f"for layers among {list(group)}", list(given))
        return dataclasses.replace(self, _parts=parts_of(network, group, given, choose))

    def supports(self, network, group):
        return all(part.is_supported(network) for part in self._parts)

    def grid(self, network, group, expected):
        count = self.count
        if count is None:
            count = _own_count(network, group, loops_of(network, self._parts), expected.duration)
        each = expected.in_each(count)
        grids = tuple(part.grid(network, each) for part in self._parts)
        places = {name: self.max_arrivals or _places(network, name, expected) for name in group}
        parts = max(math.ceil(expected.places[name] / n) for name, n in places.items())
        # For parts in which most of the places are in use. All take memory, so there are not many more than windows.
        max_windows = 2 * count + min(4 * parts, 4 * count) + 64
        return count, max_windows, grids, tuple(places.items())

    def simulate(self, group, grid):
        context = Context.of(group, self._parts, grid, self.max_sweeps)
        end = through_windows(context, group.t0, group.t1)
        methods = {name: type(part.method).__name__ for part in self._parts for name in part.names}
        return {
            name: LayerResult(
                end.before.trains[name],
                end.before.states[name],
                end.saved.get(name),
                end.counters[name],
                f"Windows({methods[name]})",
                context.windows,
            )
            for name in group.layers
        }


def _places(network: Network, name: str, expected: Expected) -> int:
    """The default number of places for the arrivals at a neuron in a window: at least one from each source, if few."""
    incoming = network.incoming(name)
    sources = sum(jax.tree.leaves(jax.eval_shape(c.synapses).weight)[0].shape[0] for c in incoming)
    is_shared = not any(c.has_own_arrivals for c in incoming)
    enough = _SHARED_PLACES if is_shared else min(max(_FEWEST_PLACES, sources), _OWN_PLACES)
    return min(max(expected.places[name], 1), enough)


# Where each neuron has a list of its own, all of these have the length.
_SHARED_PLACES, _OWN_PLACES, _FEWEST_PLACES = 2048, 256, 32


def _own_count(network: Network, group: tuple[str, ...], loops: tuple[int, ...], duration: float | None) -> int:
    """The default number of windows, from the shortest delay of a loop and the fastest time constant."""
    if duration is None:
        # Any number is correct: the length of a window does not change the result.
        return 16
    if not loops:
        return _COUNT
    given = [network.connections[number].delay for number in loops]
    delays = [None if delay is None else known(delay) for delay in given]
    shortest = min(0.0 if delay is None else float(np.min(delay)) for delay in delays)
    rates = [fastest(network.layers[name].neuron, network.dtype) for name in group]
    known_rates = [rate for rate in rates if rate]
    # Without known rates, windows are as long as the shortest delay if that makes at most 128 windows. Otherwise there
    # are about 16, as for an unknown duration.
    unknown = shortest if shortest >= duration / 128.0 else duration / 16.0
    constant = 1.0 / max(known_rates) if known_rates else unknown
    # A little shorter than the shortest delay, so that a single sweep is enough whatever the rounding.
    return math.floor(duration / max(shortest, constant) * (1.0 + 1e-4)) + 1


# The number of windows for groups without loops: only `until` needs them.
_COUNT = 32
