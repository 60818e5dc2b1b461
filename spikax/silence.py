"""Silent neurons: how many there are, and what makes them spike.

A neuron that does not spike has no spike time, and so no gradient of one. Remedies, from the first to the last:
weights that let it spike before training, by [`spikax.init.fluctuation_driven`][] or [`spikax.silence.calibrated`][]; a
term of the loss that lifts its peak, [`spikax.losses.silent_peak`][] of the
[`spikax.silence.spike_conditions`][]; for QIF neurons, [`spikax.silence.pseudospikes`][] in place of missing spikes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import (
    as_array,
    checked,
    checked_finite,
    is_number,
    known,
    require,
    require_count,
    require_finite,
    require_instance,
)
from ._network import Layer, Network
from ._parameters import scaled
from ._simulate import simulate
from ._solution import Solution
from ._spikes import Spikes
from ._types import resolved
from .neurons import QIF, QIFState, SilentNeuron


class Activity(NamedTuple):
    """How active a layer is, in each sample; all of shape `batch`.

    - `silent`: the fraction of its neurons that do not spike.
    - `bursting`: the fraction that spikes more often than a given number of times.
    - `spikes`: the mean number of spikes of a neuron.
    """

    silent: Float[Array, "*batch"]
    bursting: Float[Array, "*batch"]
    spikes: Float[Array, "*batch"]


def activity(solution: Solution, *, burst: int = 1) -> dict[str, Activity]:
    """How active each layer is, by name.

    In the objective of [`spikax.train.fit`][], `activity(solution)["hidden"]._asdict()` has the form of its measures.

    **Arguments:**

    - `solution`: what [`spikax.simulate`][] gives.
    - `burst`: a neuron with more spikes than this is bursting.
    """
    require_instance(solution, Solution, "solution", "a `sx.Solution`", "For example `sx.simulate(...)`.")
    require_count(burst, "burst")
    return {name: _activity(spikes, burst) for name, spikes in solution.spikes.items()}


def _activity(spikes: Spikes, burst: int) -> Activity:
    count, dtype = spikes.count, spikes.times.dtype
    return Activity(*(jnp.mean(x, axis=-1, dtype=dtype) for x in (count == 0, count > burst, count)))


def spike_conditions(layer: Layer, ts: Any, states: Any) -> Float[Array, "*batch times n"]:
    """The spike condition of each neuron of a layer at saved states: its distance from the threshold, signed.

    **Arguments:**

    - `layer`: the layer, `network.layers[name]`.
    - `ts`: the times of the states, in ms, of shape `(times,)`: what `saveat` was for this layer.
    - `states`: the states at these times, `solution.states[name]`, of shape `(*batch, times, n)`.

    Raises `TypeError` or `ValueError` for states or times of another shape.
    """
    require_instance(layer, Layer, "layer", "a `sx.Layer`", "For example `network.layers[name]`.")
    parameters, rest = eqx.partition(resolved(layer.neuron), eqx.is_array)
    first = jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, parameters)
    own = eqx.filter_eval_shape(lambda: jax.tree.map(jnp.asarray, eqx.combine(first, rest).initial_state()))
    same = jax.tree.structure(states) == jax.tree.structure(own)
    hint = "For example `solution.states[name]`."
    require(same, "states", "states of the neurons of `layer`", states, hint, TypeError)
    leaf, size = jax.tree.leaves(states)[0], layer.size
    lead = leaf.shape[: leaf.ndim - jax.tree.leaves(own)[0].ndim]
    require(len(lead) >= 2 and lead[-1] == size, "states", f"of shape (*batch, times, {size})", leaf, hint)
    ts = as_array(ts, "ts")
    require(jnp.shape(ts) == lead[-2:-1], "ts", f"of shape ({lead[-2]},), the times of `states`", ts)

    # Samples and times as one axis in front of the neurons.
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) - 1 :]), states)
    clock = jnp.broadcast_to(jnp.asarray(ts, leaf.dtype), lead[:-1]).ravel()
    parameters = jax.tree.map(lambda x: x.astype(leaf.dtype) if eqx.is_inexact_array(x) else x, parameters)
    axes = jax.tree.map(lambda x: 0 if x.ndim else None, parameters)

    def one(parameters, t, state):
        return eqx.combine(parameters, rest).spike_condition(t, state)

    conditions = jax.vmap(jax.vmap(one, (axes, None, 0)), (None, 0, 0))(parameters, clock, flat)
    return conditions.reshape(lead)


def pseudospikes(neuron: QIF, state: QIFState, t1: Any, *, current: Any = 1.0) -> Float[Array, "*batch n"]:
    r"""When QIF neurons would spike next if, from the end of the simulation on, a constant current drove them.

    With the voltage V that a phase stands for, and the constant current $I$ in place of drive and bias,

    $$ t = t_1 + \frac{\tau_{mem}}{\kappa} \left( \frac{\pi}{2} - \arctan \frac{V(t_1) - 1/2}{\kappa} \right), \qquad
       \kappa = \sqrt{I - 1/4}. $$

    A QIF neuron's spike that moves past the end becomes its pseudospike, continuously and with a continuous
    derivative: at a spike the voltage is infinite, and then no current matters. So a loss of first spikes has a
    gradient for silent neurons too, which brings them to spike.

    ```python
    solution = sx.simulate(network, inputs, t1=60.0, saveat={"output": [60.0]})
    at_end = jax.tree.map(lambda x: x[..., -1, :], solution.states["output"])
    pseudo = sx.silence.pseudospikes(network.layers["output"].neuron, at_end, 60.0)
    times = sx.silence.with_pseudospikes(sx.first_spike(solution.spikes["output"]), pseudo)
    ```

    **Main arguments:**

    - `neuron`: the neuron of the layer, a [`spikax.QIF`][].
    - `state`: the states of the layer at `t1`, with phases of shape `(*batch, n)`.
    - `t1`: the end of the simulation, in ms.

    **Other arguments:**

    - `current`: the constant current, above 1/4, where a QIF neuron spikes for ever. The larger, the sooner.

    **Returns:** the times, of shape `(*batch, n)`, all at `t1` or after it.

    **Raises:** `TypeError` or `ValueError` for anything else; for what is traced, an error at run time.

    ??? cite "Reference"
        C. Klos, R.-M. Memmesheimer, *Smooth exact gradient descent learning in spiking neural networks*, 2023,
        arXiv:2309.14523.
    """
    require_instance(neuron, QIF, "neuron", "a `sx.QIF`", "Only these spike at an infinite voltage, in closed form.")
    require_instance(state, QIFState, "state", "a `sx.QIFState`", "For example `solution.states[name]` at `t1`.")
    t1 = checked_finite(t1, "t1")
    current = checked(checked_finite(current, "current"), lambda x: x > 0.25, "current", "above 1/4")
    kappa = jnp.sqrt(jnp.asarray(current, state.phi.dtype) - 0.25)
    # V = -pi cos / sin: as an angle between the two, which holds at a spike too, where V is infinite.
    sine, cosine = jnp.sin(jnp.pi * state.phi), jnp.cos(jnp.pi * state.phi)
    angle = jnp.arctan2(kappa * sine, -(jnp.pi * cosine + 0.5 * sine))
    return t1 + resolved(neuron).tau_mem / kappa * angle


def with_pseudospikes(times: Any, pseudospikes: Any) -> Float[Array, "*batch n"]:
    """First spike times, with the pseudospikes of the neurons that are silent: every neuron then has a time.

    **Arguments:**

    - `times`: the first spike times, `inf` where a neuron is silent; shape `(*batch, n)`. See [`spikax.first_spike`][].
    - `pseudospikes`: of the same shape. See [`spikax.silence.pseudospikes`][].
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
    """The network with its weights scaled, layer after layer, such that a wanted fraction of neurons spikes per sample.

    All weights into a layer are scaled by one factor, whatever its neurons and connections; `sx.Positive`, `sx.Signed`
    and `sx.Masked` weights in their own form. The factor is found by doubling and bisection, with a simulation for each
    trial, and layers come after those that they listen to. Layers that listen to each other share a factor, and count
    as one layer. Layers of neurons that never spike stay as they are.

    **Main arguments:**

    - `network`: the network, before training.
    - `inputs`: a batch of typical inputs; as of [`spikax.simulate`][].
    - `t1`: the end of the simulation, in ms.

    **Other arguments:**

    - `fraction`: how many of the neurons spike, on average over the samples, above 0 and up to 1; one number, or a
      dictionary by name of layer. Layers that it does not name stay as they are.
    - `tolerance`: how near to it is near enough.
    - `options`: more arguments for [`spikax.simulate`][].

    **Raises:** `TypeError` or `ValueError` for arguments that cannot be meant, and for a fraction that no factor
    reaches, with the nearest that one did; at run time the message of [`spikax.RESULTS`][] for a sample that fails
    with the weights that were found.
    """
    require_instance(network, Network, "network", "a `sx.Network`", "For example `sx.sequential(...)`.")
    require("throw" not in options, "options", "without `throw`", options, "What fails in the end is an error.")
    leaves = jax.tree.leaves((network, inputs))
    require(all(known(leaf) is not None for leaf in leaves), "network", "known", network, "Call this outside of `jit`.")
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
    """The network, with all weights into these layers times a factor."""
    numbers = [i for i, connection in enumerate(network.connections) if connection.target in layers]

    def weights(network):
        return [network.connections[i].weight for i in numbers]

    return eqx.tree_at(weights, network, [scaled(weight, factor) for weight in weights(network)])


# Half of them double a factor up to 30 000; the other half place it as exactly as a fraction of neurons can tell.
_TRIALS = 30


def _factor(network: Network, layers: list[str], respond: Any, wanted: dict[str, Any], tolerance: float) -> float:
    """A factor of the weights with which the wanted fraction spikes: its exponent is bracketed, then bisected."""
    goal, names = wanted[layers[0]], " and ".join(f"`{name}`" for name in layers)
    same = all(wanted[name] == goal for name in layers)
    require(same, "fraction", f"the same for {names}, which listen to each other", wanted)
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
    hint = (
        f"Nearest was {reached:.3g}, with {factor:.3g} times the weights. Give more samples, or a larger `tolerance`."
    )
    require(distance <= tolerance, "fraction", expectation, goal, hint)
    return factor


def _wanted(network: Network, fraction: Any) -> dict[str, Any]:
    """The wanted fraction of each layer that is to be scaled."""
    spiking = [name for name, layer in network.layers.items() if not isinstance(layer.neuron, SilentNeuron)]
    if not isinstance(fraction, Mapping):
        _check_fraction(fraction, "fraction")
        return dict.fromkeys(spiking, fraction)
    for name, value in fraction.items():
        require(name in spiking, "fraction", f"for layers among {spiking}, whose neurons spike", name)
        _check_fraction(value, f"fraction[{name!r}]")
    return dict(fraction)


def _check_fraction(value: Any, name: str) -> None:
    require_finite(value, name)
    is_fraction = jnp.ndim(value) == 0 and known(value) is not None and 0.0 < value <= 1.0
    require(is_fraction, name, "above 0 and up to 1", value)
