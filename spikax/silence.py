"""Silent neurons: measures of activity, and remedies.

A neuron that does not spike has no spike time, and so no gradient of a spike time. Remedies, in the order in which to
try them:

- initial weights that make neurons spike, by [`spikax.init.fluctuation_driven`][] or [`spikax.silence.calibrated`][];
- a term of the loss that raises the peak of silent neurons, [`spikax.losses.silent_peak`][] with
  [`spikax.silence.spike_conditions`][];
- [`spikax.silence.pseudospikes`][] in place of missing spikes of the outputs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._check_neuron import check_structures
from ._checks import (
    as_array,
    checked_finite,
    checked_positive,
    is_number,
    known,
    require,
    require_count,
    require_finite,
    require_instance,
)
from ._network import Layer, Network
from ._parameters import scaled
from ._simulate.entry import simulate
from ._simulate.solution import Solution
from ._spikes import Spikes
from ._types import resolved


class Activity(NamedTuple):
    """The activity of a layer in each sample. All fields have shape `batch`.

    - `silent`: the fraction of neurons that do not spike.
    - `bursting`: the fraction of neurons with more spikes than a given number.
    - `spikes`: the mean number of spikes per neuron.
    """

    silent: Float[Array, "*batch"]
    bursting: Float[Array, "*batch"]
    spikes: Float[Array, "*batch"]


def activity(solution: Solution, *, burst: int = 1) -> dict[str, Activity]:
    """The activity of each layer in each sample.

    In an objective of [`spikax.train.fit`][], `activity(solution)["hidden"]._asdict()` is a dictionary of measures.

    **Arguments:**

    - `solution`: the result of [`spikax.simulate`][].
    - `burst`: neurons with more spikes than this are counted as bursting.

    **Returns:** a dictionary from names of layers to [`spikax.silence.Activity`][].

    **Raises:** `TypeError` or `ValueError` for invalid arguments.
    """
    require_instance(solution, Solution, "solution", "a `sx.Solution`", "For example `sx.simulate(...)`.")
    require_count(burst, "burst")
    return {name: _activity(spikes, burst) for name, spikes in solution.spikes.items()}


def _activity(spikes: Spikes, burst: int) -> Activity:
    count, dtype = spikes.count, spikes.times.dtype
    return Activity(*(jnp.mean(x, axis=-1, dtype=dtype) for x in (count == 0, count > burst, count)))


def spike_conditions(layer: Layer, ts: Any, states: Any) -> Float[Array, "*batch times n"]:
    """The spike condition of each neuron of a layer at saved states: the signed distance from its threshold.

    **Arguments:**

    - `layer`: the layer, `network.layers[name]`.
    - `ts`: the times of the states in ms, of shape `(times,)`: the `saveat` of this layer.
    - `states`: the states at these times, `solution.states[name]`, of shape `(*batch, times, n)`.

    **Returns:** the spike conditions, of shape `(*batch, times, n)`.

    **Raises:** `TypeError` or `ValueError` for states or times of another shape.
    """
    require_instance(layer, Layer, "layer", "a `sx.Layer`", "For example `network.layers[name]`.")
    lead = _axes_of(states, layer, ("times",), "For example `solution.states[name]`.")
    ts = as_array(ts, "ts")
    require(jnp.shape(ts) == lead[-2:-1], "ts", f"of shape ({lead[-2]},), the times of `states`", ts)
    return _conditions(layer, ts, states, lead)


def pseudospikes(layer: Layer, t1: Any, states: Any, *, tau: Any) -> Float[Array, "*batch n"]:
    r"""The times at which silent neurons would spike if, after the end, their spike conditions rose at a constant rate.

    With the spike condition $g$ of a neuron, which is negative and rises to zero at a spike,

    $$ t = t_1 - \tau\, g(t_1). $$

    When a spike of a neuron moves past the end, it becomes a pseudospike, and its time stays continuous. So a loss on
    first spikes has a gradient for silent neurons of any model. This prevents that training silences the outputs: a
    silent label alone would delay the outputs that spike, until they are silent, too.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0)
    pseudo = sx.silence.pseudospikes(network.layers["output"], 60.0, solution.end.states["output"], tau=20.0)
    times = sx.silence.with_pseudospikes(sx.first_spike(solution.spikes["output"]), pseudo)
    ```

    For [`spikax.QIF`][] neurons and `tau` equal to `tau_mem`, the derivative is continuous, too: at the infinite
    voltage of a spike the phase, which is $g + 1$, rises by $1 / \tau_{mem}$ per ms, whatever the current.

    **Main arguments:**

    - `layer`: the layer, `network.layers[name]`.
    - `t1`: the end of the simulation, in ms.
    - `states`: the states at `t1`, of shape `(*batch, n)`: `solution.end.states[name]` of a simulation without `until`.

    **Other arguments:**

    - `tau`: the time in which a spike condition rises by one, in ms: a number, or one for each neuron. A common choice
      is the time constant of the membrane, if the distance between rest and threshold is about one.

    **Returns:** the times in ms, of shape `(*batch, n)`: after `t1` for neurons that are silent. For neurons that spike
    they have no meaning.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. Traced values are checked at run time.

    ??? cite "Reference"
        C. Klos, R.-M. Memmesheimer, *Smooth exact gradient descent learning in spiking neural networks*, 2023,
        arXiv:2309.14523, for QIF neurons driven by a constant current.
    """
    require_instance(layer, Layer, "layer", "a `sx.Layer`", "For example `network.layers[name]`.")
    kind = type(layer.neuron).__name__
    require(layer.neuron.can_spike, "layer", "of neurons that can spike", kind, f"{kind} neurons never do.")
    lead = _axes_of(states, layer, (), "For example `solution.end.states[name]`.")
    t1, tau = checked_finite(t1, "t1"), checked_positive(tau, "tau")
    require(jnp.ndim(t1) == 0, "t1", "one number", t1)
    require(jnp.shape(tau) in ((), (layer.size,)), "tau", f"one number, or of shape ({layer.size},)", tau)
    at_end = jax.tree.map(lambda x: jnp.expand_dims(x, len(lead) - 1), states)
    conditions = _conditions(layer, jnp.reshape(t1, 1), at_end, (*lead[:-1], 1, lead[-1]))[..., 0, :]
    return t1 - jnp.broadcast_to(tau, conditions.shape) * conditions


def _axes_of(states: Any, layer: Layer, after_batch: tuple[str, ...], hint: str) -> tuple[int, ...]:
    """The sizes of the axes of states: `(*batch, *after_batch, n)`. Raises for states that have no such axes."""
    own = check_structures(resolved(layer.neuron))
    same = jax.tree.structure(states) == jax.tree.structure(own)
    require(same, "states", "states of the neurons of `layer`", states, hint, TypeError)
    leaf = jax.tree.leaves(states)[0]
    lead = leaf.shape[: leaf.ndim - jax.tree.leaves(own)[0].ndim]
    is_whole = len(lead) > len(after_batch) and lead[-1] == layer.size
    require(is_whole, "states", f"of shape ({', '.join(('*batch', *after_batch))}, {layer.size})", leaf, hint)
    return lead


def _conditions(layer: Layer, ts: Array, states: Any, lead: tuple[int, ...]) -> Float[Array, "*batch times n"]:
    """The spike conditions at states with the axes `lead`, of which the last but one is that of the times."""
    parameters, rest = eqx.partition(resolved(layer.neuron), eqx.is_array)
    dtype = jax.tree.leaves(states)[0].dtype
    # Merge the axes of samples and times.
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) - 1 :]), states)
    clock = jnp.broadcast_to(jnp.asarray(ts, dtype), lead[:-1]).ravel()
    parameters = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, parameters)
    axes = jax.tree.map(lambda x: 0 if x.ndim else None, parameters)

    def one(parameters, t, state):
        return eqx.combine(parameters, rest).spike_condition(t, state)

    conditions = jax.vmap(jax.vmap(one, (axes, None, 0)), (None, 0, 0))(parameters, clock, flat)
    return conditions.reshape(lead)


def with_pseudospikes(times: Any, pseudospikes: Any) -> Float[Array, "*batch n"]:
    """First spike times, in which missing spikes are replaced by pseudospikes.

    **Arguments:**

    - `times`: the first spike times, `inf` for silent neurons, of shape `(*batch, n)`. See [`spikax.first_spike`][].
    - `pseudospikes`: the pseudospikes, of the same shape. See [`spikax.silence.pseudospikes`][].

    **Returns:** the times, of shape `(*batch, n)`.

    **Raises:** `TypeError` or `ValueError` for arrays of another type or of different shapes.
    """
    for name, value in (("times", times), ("pseudospikes", pseudospikes)):
        require(is_number(value), name, "a floating-point array of shape (*batch, n)", value, error=TypeError)
    same = jnp.shape(pseudospikes) == jnp.shape(times)
    require(same, "pseudospikes", f"of the shape of `times`, {jnp.shape(times)}", pseudospikes)
    return jnp.where(jnp.isfinite(times), times, pseudospikes)


def calibrated(
    network: Network,
    inputs: Any,
    t1: Any,
    *,
    fraction: float | Mapping[str, float] = 0.5,
    tolerance: float = 0.05,
    **options: Any,
) -> Network:
    """A copy of the network with weights scaled such that a given fraction of neurons spikes in each sample.

    All weights into a layer are multiplied by the same factor, for any neuron model and connection. `sx.Positive`,
    `sx.Signed` and `sx.Masked` weights keep their type. The factor is found by doubling and bisection, with one
    simulation per trial. Layers are calibrated after the layers that they receive from. A recurrent group is calibrated
    as a whole, with one factor. Layers of neurons that never spike are not changed.

    **Main arguments:**

    - `network`: the network, before training.
    - `inputs`: a batch of typical inputs, as in [`spikax.simulate`][].
    - `t1`: the end of the simulation, in ms.

    **Other arguments:**

    - `fraction`: the fraction of neurons that spike, averaged over samples, above 0 and up to 1: one number, or a
      dictionary by layer. Layers that it does not name are not changed.
    - `tolerance`: the largest accepted deviation from `fraction`.
    - `options`: further arguments of [`spikax.simulate`][].

    **Returns:** the network with scaled weights.

    **Raises:** `TypeError` or `ValueError` for invalid arguments, and for a fraction that no factor reaches; the error
    reports the nearest one. The run-time errors of [`spikax.simulate`][] if a simulation with the final weights fails.
    """
    require_instance(network, Network, "network", "a `sx.Network`", "For example `sx.sequential(...)`.")
    require("throw" not in options, "options", "without `throw`", options, "The final weights must not fail.")
    leaves = jax.tree.leaves((network, inputs))
    require(
        all(known(leaf) is not None for leaf in leaves), "network", "concrete", network, "Call it outside of `jit`."
    )
    wanted = _wanted(network, fraction)
    _check_fraction(tolerance, "tolerance")

    def respond(network):
        return simulate(network, inputs, t1, **options, throw=False).spikes

    for group in network.groups():
        layers = [name for name in group if name in wanted]
        if layers:
            network = _with_factor(network, layers, _factor(network, layers, respond, wanted, tolerance))
    simulate(network, inputs, t1, **options)
    return network


def _with_factor(network: Network, layers: list[str], factor: float) -> Network:
    """The network with all weights into these layers multiplied by a factor."""
    numbers = [i for i, connection in enumerate(network.connections) if connection.target in layers]

    def weights(network):
        return [network.connections[i].weight for i in numbers]

    return eqx.tree_at(weights, network, [scaled(weight, factor) for weight in weights(network)])


# Half of the trials can double the factor to about 30 000. The other half bisect it to sufficient precision.
_TRIALS = 30


def _factor(network: Network, layers: list[str], respond: Any, wanted: dict[str, Any], tolerance: float) -> float:
    """The factor of the weights for which the wanted fraction spikes. Brackets its exponent, then bisects it."""
    goal, names = wanted[layers[0]], " and ".join(f"`{name}`" for name in layers)
    same = all(wanted[name] == goal for name in layers)
    require(same, "fraction", f"the same for the recurrent group {names}", wanted)
    low = high = None
    exponent, nearest = 0.0, (float("inf"), 0.0, 1.0)
    for _ in range(_TRIALS):
        factor = 2.0**exponent
        spikes = respond(_with_factor(network, layers, factor))
        reached = float(jnp.mean(jnp.concatenate([spikes[name].count > 0 for name in layers], axis=-1)))
        nearest = min(nearest, (abs(reached - goal), reached, factor))
        if nearest[0] <= tolerance:
            break
        low, high = (exponent, high) if reached < goal else (low, exponent)
        exponent = high - 1.0 if low is None else low + 1.0 if high is None else 0.5 * (low + high)
    distance, reached, factor = nearest
    expectation = f"within {tolerance} of what a factor of the weights into {names} can reach"
    hint = f"Nearest was {reached:.3g}, with {factor:.3g} times the weights. Try more samples, or a larger `tolerance`."
    require(distance <= tolerance, "fraction", expectation, goal, hint)
    return factor


def _wanted(network: Network, fraction: Any) -> dict[str, Any]:
    """The wanted fraction of each layer to calibrate."""
    spiking = [name for name, layer in network.layers.items() if layer.neuron.can_spike]
    if not isinstance(fraction, Mapping):
        _check_fraction(fraction, "fraction")
        return dict.fromkeys(spiking, fraction)
    for name, value in fraction.items():
        require(name in spiking, "fraction", f"given for layers of spiking neurons, {spiking}", name)
        _check_fraction(value, f"fraction[{name!r}]")
    return dict(fraction)


def _check_fraction(value: Any, name: str) -> None:
    require_finite(value, name)
    is_fraction = jnp.ndim(value) == 0 and known(value) is not None and 0.0 < value <= 1.0
    require(is_fraction, name, "above 0 and up to 1", value)
