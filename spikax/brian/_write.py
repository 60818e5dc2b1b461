"""Scripts for Brian2 from networks."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from .._checks import known, require, require_instance, require_positive
from .._connection import AbstractConnection
from .._network import Network
from .._simulate.validation import check_times, checked_inputs
from .._spikes import Events, Spikes
from .._types import resolved
from .._version import __version__
from ._layers import Group, group_of
from ._models import model_of


def to_brian2(network: Network, inputs: Any, t1: float, *, dt: float = 0.01) -> str:
    r"""Writes a network and its inputs as a script for the simulator Brian2.

    ```python
    pathlib.Path("network.py").write_text(sx.to_brian2(network, inputs, t1=40.0))
    ```

    `python network.py` simulates it, and prints the number of spikes of each layer. In the script, `spikes` has the
    neurons and times of each layer, and `states` the variables of layers that never spike.

    Brian2 finds spikes on a grid: each is up to one step `dt` late, which delays all that it causes, by more where a
    neuron hesitates at its threshold. Inputs are late by up to a step, too, and delays are rounded to the grid. Between
    spikes, the script integrates by the classical Runge-Kutta method, whose error is far smaller.

    **Arguments:**

    - `network`: a network of neurons from [`spikax.neuron_from_equations`][], and of neurons of spikax: all but
      compartments, `CalciumDendrite` and `EGRU`. They may be in a `Refractory`, `SingleSpike`, `ConductanceBased`,
      `FilteredBias` or `Threshold`. Synapses are those of spikax, and connections any.
    - `inputs`: the input spikes of one sample, as for [`spikax.simulate`][].
    - `t1`: the end of the simulation, in ms. It starts at 0.
    - `dt`: the step of Brian2, in ms.

    **Returns:** the script.

    **Raises:** `TypeError` or `ValueError` for parts of the network that Brian2 cannot hold, which it names; for inputs
    with batch axes or a payload; for two spikes of an input channel in one step.

    ??? cite "Reference"
        M. Stimberg, R. Brette, D. F. M. Goodman, *Brian 2, an intuitive and efficient neural simulator*, eLife 8,
        2019.
    """
    require_instance(network, Network, "network", "a `sx.Network`")
    trains = checked_inputs(network, inputs)
    check_times(0.0, t1, trains)
    require_positive(dt, "dt")
    are_known = all(known(leaf) is not None for leaf in jax.tree.leaves((network, trains, t1, dt)))
    require(are_known, "network", "of known numbers", network, "Write it outside of `jax.jit`.")
    plain = resolved(network)
    groups = {}
    for name, layer in plain.layers.items():
        where = f"layers[{name!r}].neuron"
        groups[name] = group_of(where, layer, model_of(where, layer.neuron))
    parts = [_HEAD.format(version=__version__, dt=float(dt), t1=float(t1))]
    parts += [_source(name, train, float(dt)) for name, train in trains.items()]
    parts += [_neurons(name, plain.layers[name].size, group) for name, group in groups.items()]
    for given in plain.connections:
        # A layer that never spikes has no event that a synapse of Brian2 could wait for.
        if given.source in trains or groups[given.source].can_spike:
            parts += [_synapses(wires, groups[wires.target], wires.source in trains) for wires in given.deliveries()]
    return "\n\n".join([*parts, _TAIL])


def _source(name: str, train: Spikes | Events, dt: float) -> str:
    """The statement that makes an input."""
    where, events = f"inputs[{name!r}]", train.events() if isinstance(train, Spikes) else train
    require(events.times.ndim == 1, where, "of one sample, without batch axes", events.times)
    has_payload = isinstance(train, Spikes) and train.payload is not None
    require(not has_payload, where, "without a payload, for Brian2", train)
    happens = np.isfinite(events.times)
    times, channels = (np.asarray(part)[happens] for part in (events.times, events.channels))
    steps = np.stack([channels, np.ceil(times / dt - 1e-6)])
    are_apart = np.unique(steps, axis=1).shape == steps.shape
    require(are_apart, "dt", "so short that no channel spikes twice in a step", dt, f"See {where}.")
    return f"sources[{name!r}] = source({events.n}, {_numbers(channels)}, {_numbers(times)})"


def _neurons(name: str, size: int, group: Group) -> str:
    """The statement that makes a layer."""
    return _call(
        f"neurons[{name!r}] = group",
        [str(size), _text(group.equations), *(f"{key}={text!r}" for key, text in group.events.items())],
        {key: _numbers(value) for key, value in group.values.items()},
    )


def _synapses(wires: AbstractConnection, group: Group, from_input: bool) -> str:
    """The statement that makes a connection."""
    made = wires.synapses()
    weights = jax.tree.leaves(made.weight)
    source = np.arange(weights[0].shape[0])[:, None] if made.source is None else made.source
    source, *weights = np.broadcast_arrays(source, *weights)
    delay = np.broadcast_to(0.0 if made.delay is None else made.delay, source.shape)
    exists = np.full(source.shape, True) if made.exists is None else np.asarray(made.exists)
    target = np.broadcast_to(np.arange(source.shape[1]), source.shape)
    arrays = [_numbers(array[exists]) for array in (source, target, delay)]
    ends = [f"{'sources' if from_input else 'neurons'}[{wires.source!r}]", f"neurons[{wires.target!r}]"]
    named = dict(zip(group.weights, (_numbers(weight[exists]) for weight in weights), strict=True))
    return f"synapses.append({_call('connected', [*ends, _text(group.arrival), *arrays], named).strip()})"


def _call(function: str, arguments: Iterable[str], named: dict[str, str]) -> str:
    """A call with one argument per line, and a dictionary as the last one."""
    lines = [f"    {argument}," for argument in arguments]
    entries = [f"        {name!r}: {value}," for name, value in named.items()]
    return "\n".join([f"{function}(", *lines, "    values={", *entries, "    },", ")"])


def _text(lines: Iterable[str]) -> str:
    """Several lines as one text."""
    return '"""\n' + "".join(f"        {line}\n" for line in lines) + '    """'


def _numbers(value: Any) -> str:
    """A number or an array, in full precision."""
    array = np.asarray(value)
    return repr((array if array.dtype.kind in "iu" else array.astype(float)).tolist())


_HEAD = '''"""A network for the simulator Brian2, written by spikax {version}.

Brian2 finds spikes on a grid of steps of DT: each is up to one step late, and delays are rounded to the grid.
"""

import brian2 as b
import numpy as np
from brian2 import ms


DT, T1 = {dt!r}, {t1!r}  # in ms; all other quantities are numbers
b.prefs.codegen.target = "numpy"  # "cython" is faster for large networks, and needs a compiler
b.defaultclock.dt = DT * ms
sources, neurons, synapses = {{}}, {{}}, []


def source(n, channels, times):
    """Input spikes. That of a step arrives at its end: hence the step that ends at its time, or next after it."""
    steps = np.maximum(np.ceil(np.array(times) / DT - 1e-6) - 1, 0)
    return b.SpikeGeneratorGroup(n, np.array(channels, int), steps * DT * ms)


def group(n, equations, values, **events):
    """Neurons, with their parameters and their initial state."""
    made = b.NeuronGroup(n, equations, method="rk4", **events)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def connected(source, target, on_pre, i, j, delay, values):
    """Synapses from the neurons i of a source to the neurons j of a target, with delays in ms, and weights."""
    made = b.Synapses(source, target, "\\n".join(f"{{name}} : 1" for name in values), on_pre=on_pre)
    made.connect(i=np.array(i), j=np.array(j))
    made.delay = np.array(delay) * ms
    for name, value in values.items():
        setattr(made, name, value)
    return made
'''

_TAIL = """monitors = {name: b.SpikeMonitor(made) for name, made in neurons.items() if "spike" in made.events}
records = {
    name: b.StateMonitor(made, sorted(made.equations.diff_eq_names), record=True)
    for name, made in neurons.items()
    if name not in monitors
}
network = b.Network(sources.values(), neurons.values(), synapses, monitors.values(), records.values())
network.run(T1 * ms)

# A spike is noted with the start of its step, and has its effects at the end.
spikes = {name: (np.array(m.i), np.array(m.t / ms) + DT) for name, m in monitors.items()}
states = {
    name: {"t": np.array(m.t / ms)} | {variable: np.array(getattr(m, variable)) for variable in m.record_variables}
    for name, m in records.items()
}
for name, (indices, _) in spikes.items():
    print(f"{name}: {len(indices)} spikes")
"""
