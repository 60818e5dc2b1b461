"""The entry point: `simulate`."""

import math
from collections.abc import Mapping
from typing import Any

from .._checks import require_instance
from .._methods import AbstractAdjoint, AbstractMethod, DiscreteAdjoint
from .._methods._common.broadcasting import broadcasting
from .._methods._common.differentiation import MESSAGE
from .._network import Network, with_deliveries, without_zero_delays
from .._spikes import Events, Spikes
from .._types import resolved
from .devices import check_devices
from .plan import make_plan
from .report import raised
from .run import run, run_without_samples
from .snapshot import Snapshot
from .solution import Solution
from .stopping import FirstSpikes
from .validation import batch_of, check_times, checked_inputs, checked_start_time, warn_of_units


def simulate(
    network: Network,
    inputs: Spikes | Events | Mapping[str, Spikes | Events],
    t1: Any,
    *,
    t0: Any = None,
    saveat: Any = None,
    start: Snapshot | Mapping[str, Any] | None = None,
    max_spikes: int | Mapping[str, int] = 8,
    until: FirstSpikes | None = None,
    method: AbstractMethod | Mapping[str, AbstractMethod] | None = None,
    adjoint: AbstractAdjoint | None = None,
    throw: bool = True,
) -> Solution:
    """Simulates a network from `t0` to `t1`.

    Spikes at `t1` are included. Inputs after `t1` are ignored.

    **Main arguments:**

    - `network`: the network.
    - `inputs`: the input spikes, [`spikax.Spikes`][] or [`spikax.Events`][], with any leading batch axes. For several
      inputs, a dictionary of them by name.
    - `t1`: the end of the simulation, in ms. Results have no derivative with respect to it.

    **Other arguments:**

    - `t0`: the start of the simulation, in ms. No input may come before it. By default 0, or the time of `start`.
    - `saveat`: the times, in ms, at which states and drives are saved, between `t0` and `t1` and in any order: one
      array for all layers, or a dictionary of arrays by layer name. A state at the time of a jump is the state after
      the jump. The states at `t1` are also in `Solution.end.states`.
    - `start`: `Solution.end` of an earlier simulation, to continue it. Or a dictionary of states at `t0` by layer name,
      which replace the initial states of the neurons: leaves of shape `()`, `(neurons,)` or `(*batch, neurons)`.
    - `max_spikes`: the number of spikes per neuron that can be recorded: one integer, or a dictionary by layer name.
    - `until`: a condition that may end the simulation before `t1`, for example [`spikax.FirstSpikes`][], at the first
      spikes of the outputs.
    - `method`: how the spikes are found: one method, or a dictionary by layer name. [`spikax.ClosedForm`][] is for
      linear neurons, [`spikax.EventLoop`][] for any neuron and for a recurrent layer without delays,
      [`spikax.EventQueue`][] for recurrent groups of linear neurons without delays, and [`spikax.Windows`][] for all
      recurrent groups. By default each group of layers takes the first of `ClosedForm`, `EventQueue`, `EventLoop` and
      `Windows` that supports it. If `until` ends a layer that a recurrent group comes before, and there is no `saveat`,
      the whole network is one group. If most neurons are recurrent, this holds for a given method, too, if it supports
      the whole network. `Solution.stats` reports the choice.
    - `adjoint`: how the simulation is differentiated: by default in reverse mode, [`spikax.DiscreteAdjoint`][]; for
      forward mode, [`spikax.ForwardMode`][].
    - `throw`: whether to raise an error if the simulation of a sample fails. If False, `Solution.result` reports the
      failure, and the other samples stay valid.

    **Returns:** a [`spikax.Solution`][].

    **Raises:** `TypeError` or `ValueError` for invalid arguments. With `throw`, a run-time error with the message of
    the failing sample's [`spikax.RESULTS`][]. `eqx.filter_jit` reports this message alone; `jax.jit` reports it near
    the end of a long traceback.
    """
    require_instance(network, Network, "network", "a `sx.Network`", "For example `sx.sequential(...)`.")
    adjoint = DiscreteAdjoint() if adjoint is None else adjoint
    require_instance(adjoint, AbstractAdjoint, "adjoint", "an adjoint", "For example `sx.ForwardMode()`.")
    require_instance(throw, bool, "throw", "True or False")
    inputs = checked_inputs(network, inputs)
    network = without_zero_delays(with_deliveries(resolved(network)))
    t0 = checked_start_time(t0, start)
    check_times(t0, t1, inputs)
    warn_of_units(network, inputs, t0, t1)
    check_devices((network, inputs), throw)
    plan = make_plan(network, inputs, t0, t1, saveat, start, max_spikes, until, method, adjoint)
    simulation = run if math.prod(batch_of(next(iter(inputs.values())))) > 0 else run_without_samples
    try:
        solution, violations = broadcasting(simulation)(network, inputs, plan)
    except TypeError as error:
        # The message of JAX about forward mode names neither the simulation nor the remedy.
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(MESSAGE) from error
    return raised(solution, plan, violations) if throw else solution
