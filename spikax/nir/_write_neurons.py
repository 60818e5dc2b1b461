"""Layers as neurons of NIR."""

from typing import Any, NamedTuple

import numpy as np

from .._checks import require, require_instance
from .._network import Layer
from .._synapse import DeltaSynapse, ExpSynapse, FilteredHoldSynapse, HoldSynapse
from ..neurons import FilteredBias, IF, Integrator, LI, LIF, Threshold
from ._convention import Convention, Dirac, Spike
from ._neurons import Population
from ._numbers import divided


class Written(NamedTuple):
    """A layer as a node of NIR."""

    node: Any
    threshold: Any | None  # the node through which a voltage makes spikes
    gain: np.ndarray  # the weight of spikax for a weight of one in NIR; flat
    constant: np.ndarray  # the constant input that stands for a bias; flat


_KINDS = (LIF, IF, LI, Integrator)
_FILTERS = (ExpSynapse, FilteredHoldSynapse)
_VOLTAGES = {"v_leak": "v_rest", "v_threshold": "v_threshold", "v_reset": "v_reset"}


def written(
    nir: Any, name: str, layer: Layer, shape: tuple[int, ...], convention: Convention, receives: bool
) -> Written:
    """A layer, of plain parameters, as a population of this shape."""
    where, neuron, v_threshold = _without_threshold(f"layers[{name!r}].neuron", layer.neuron)
    inner = _without_bias(neuron)
    filtered = inner is not neuron
    names = ", ".join(kind.__name__ for kind in _KINDS)
    require(type(inner) in _KINDS, where, f"one of {names}, for NIR", type(inner).__name__, error=TypeError)
    is_analog = type(inner) in (LI, Integrator)
    require(is_analog or v_threshold is None, where, "a LI or Integrator in a Threshold, for NIR", type(inner).__name__)
    spike, unit = convention.shape_of_spikes(name), convention.unit(name)
    if receives:
        _require_synapse(where, inner, spike)

    def each(value: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, np.float64), (layer.size,)).reshape(shape).copy()

    tau_mem, bias, one = each(inner.tau_mem), each(inner.bias), np.ones(shape)
    voltages = {key: each(getattr(inner, own)) for key, own in _VOLTAGES.items() if hasattr(inner, own)}
    area = spike.area if isinstance(spike, Dirac) else None
    tau_syn = inner.synapse.tau if receives and type(inner.synapse) in _FILTERS else None
    if filtered or (tau_syn is not None and np.any(bias)):
        bias = each(_filtered_bias(where, neuron, tau_syn))
    if isinstance(inner, IF | Integrator):
        kind, factor = nir.IF if isinstance(inner, IF) else nir.I, one
        # Without a constant, the time constant does not matter for pulses.
        r = divided(unit, tau_mem) if area is None or np.any(bias) else one / area
        node = kind(r=r, **voltages)
    elif tau_syn is not None:
        kind, tau = nir.CubaLIF if isinstance(inner, LIF) else nir.CubaLI, divided(each(tau_syn), unit)
        factor = one if area is None else divided(tau, area)
        node = kind(tau_syn=tau, tau_mem=divided(tau_mem, unit), r=one, w_in=factor, **voltages)
    else:
        kind, tau = nir.LIF if isinstance(inner, LIF) else nir.LI, divided(tau_mem, unit)
        factor = one if area is None else divided(tau, area)
        node = kind(tau=tau, r=factor, **voltages)
    gain = Population.of(name, node, convention, np.float64).gain()
    threshold = None if v_threshold is None else nir.Threshold(each(v_threshold))
    return Written(node, threshold, gain, divided(bias, factor).ravel())


def _without_threshold(where: str, neuron: Any) -> tuple[str, Any, Any]:
    """The neuron inside of a `Threshold`, its place, and the threshold; the neuron itself and None for others."""
    is_wrapped = isinstance(neuron, Threshold)
    return (f"{where}.neuron", neuron.neuron, neuron.v_threshold) if is_wrapped else (where, neuron, None)


def _without_bias(neuron: Any) -> Any:
    """The neuron inside of a `FilteredBias`; the neuron itself for others."""
    return neuron.neuron if isinstance(neuron, FilteredBias) else neuron


def _require_synapse(where: str, neuron: Any, spike: Spike) -> None:
    """Raises unless NIR has the synapse of a neuron, for the spikes that there are."""
    kinds = (DeltaSynapse, ExpSynapse) if isinstance(spike, Dirac) else (HoldSynapse, FilteredHoldSynapse)
    kinds = kinds[:1] if isinstance(neuron, IF | Integrator) else kinds
    names = " or ".join(f"`sx.{kind.__name__}`" for kind in kinds)
    hint = (
        "Delta and exponential synapses receive pulses, `spike=sx.nir.Dirac()`; hold synapses receive rectangles, "
        "`spike=sx.nir.Rectangle(duration)`. Integrators of NIR have no filter."
    )
    require_instance(neuron.synapse, kinds, f"{where}.synapse", f"a {names}, for NIR", hint)


def _filtered_bias(where: str, neuron: Any, tau_syn: Any) -> Any:
    """The bias of a neuron with a filter, which in NIR passes the filter."""
    hint = "Add it to `v_rest`, which is the initial voltage, too; or use `sx.FilteredBias`."
    is_filtered = type(neuron) is FilteredBias
    require(is_filtered, f"{where}.bias", "zero with a filtered synapse, for NIR", getattr(neuron, "bias", None), hint)
    same = tau_syn is not None and np.array_equal(*np.broadcast_arrays(neuron.tau, tau_syn))
    require(same, f"{where}.tau", f"that of an exponential synapse, {tau_syn}, for NIR", neuron.tau)
    inner = neuron.neuron.bias
    require(not np.any(inner), f"{where}.neuron.bias", "zero with a filtered synapse, for NIR", inner, hint)
    return neuron.bias
