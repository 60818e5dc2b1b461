"""Neurons of NIR as layers."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import require
from .._neuron import AbstractNeuron
from .._synapse import DeltaSynapse, ExpSynapse, FilteredHoldSynapse, HoldSynapse
from ..neurons import FilteredBias, IF, Integrator, LI, LIF
from ._convention import Convention, Dirac
from ._graph import population_shape
from ._linear import constant


class Population(NamedTuple):
    """A population of a graph: its parameters by name, flat, and what spikes and constants do to it.

    A spike of weight w acts with the weight `gain * w` of spikax, a constant input b with the bias `bias_gain * b`.
    """

    name: str
    node: Any
    parameters: dict[str, np.ndarray]
    convention: Convention
    dtype: Any
    filtered: bool = False  # by an LI before it

    @classmethod
    def of(cls, name: str, node: Any, convention: Convention, dtype: Any) -> "Population":
        """The population of a node."""
        shape = population_shape(node)
        parameters = {}
        for field in ("tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in"):
            if not hasattr(node, field):
                continue
            value = np.asarray(getattr(node, field), np.float64)
            require(value.shape == shape, f"{name}.{field}", f"of shape {shape}", value)
            require(bool(np.all(np.isfinite(value))), f"{name}.{field}", "finite", value)
            # Without a leak, a resistance is the inverse of a time.
            is_positive = field.startswith("tau") or (field == "r" and type(node).__name__ in ("IF", "I"))
            require(not is_positive or bool(np.all(value > 0)), f"{name}.{field}", "positive", value)
            parameters[field] = value.ravel()
        return cls(name, node, parameters, convention, dtype)

    def with_filter(self, tau: float) -> "Population":
        """The population, a LIF or LI, behind a filter of its input: a CubaLIF or CubaLI."""
        parameters = {"tau_mem" if name == "tau" else name: value for name, value in self.parameters.items()}
        ones = np.ones(self.size)
        return self._replace(filtered=True, parameters=parameters | {"tau_syn": tau * ones, "w_in": ones})

    @property
    def size(self) -> int:
        """The number of neurons."""
        return self.parameters["r"].size

    @property
    def kind(self) -> str:
        """The name of the class of the node."""
        own = type(self.node).__name__
        return f"Cuba{own}" if self.filtered else own

    def gain(self) -> np.ndarray:
        """The weight of spikax for a weight of one."""
        spike, r = self.convention.shape_of_spikes(self.name), self.parameters["r"]
        if self.kind in ("CubaLIF", "CubaLI"):
            w_in = self.parameters["w_in"]
            return (w_in * spike.area / self.parameters["tau_syn"] if isinstance(spike, Dirac) else w_in) * r
        if self.kind in ("LIF", "LI"):
            return r * spike.area / self.parameters["tau"] if isinstance(spike, Dirac) else r
        return r * spike.area if isinstance(spike, Dirac) else np.ones_like(r)

    def layer(self, bias: np.ndarray, receives: bool, current: np.ndarray | float = 0.0) -> AbstractNeuron:
        """The neurons, with a constant input. Those that receive no spikes need no shape of spikes.

        `current` is a constant that does not pass the filter of a `CubaLIF` or `CubaLI`.
        """
        synapse = self._synapse() if receives else HoldSynapse()
        v = {new: self._constant(old) for old, new in _VOLTAGES.items() if old in self.parameters}
        if self.kind in ("IF", "I"):
            # Pulses change the voltage at once: then the unit of time does not matter.
            has_time = np.any(bias) or (receives and isinstance(synapse, HoldSynapse))
            unit = self.convention.unit(self.name) if has_time else 1.0
            tau_mem = constant(unit / self.parameters["r"], self.dtype)
            neuron = IF if self.kind == "IF" else Integrator
            return neuron(tau_mem=tau_mem, bias=self._learned(bias), synapse=synapse, **v)
        neuron = LIF if self.kind.endswith("LIF") else LI
        tau_mem = self._time("tau" if "tau" in self.parameters else "tau_mem")
        if not self.kind.startswith("Cuba"):
            return neuron(tau_mem=tau_mem, bias=self._learned(self.parameters["r"] * bias), synapse=synapse, **v)
        inner = neuron(tau_mem=tau_mem, bias=self._learned(self.parameters["r"] * current), synapse=synapse, **v)
        if not np.any(bias):
            return inner
        filtered = self._learned(self.parameters["w_in"] * self.parameters["r"] * bias)
        return FilteredBias(inner, filtered, self._time("tau_syn"))

    def _synapse(self) -> DeltaSynapse | ExpSynapse | FilteredHoldSynapse | HoldSynapse:
        is_pulse = isinstance(self.convention.shape_of_spikes(self.name), Dirac)
        if not self.kind.startswith("Cuba"):
            return DeltaSynapse() if is_pulse else HoldSynapse()
        tau = self._time("tau_syn")
        return ExpSynapse(tau) if is_pulse else FilteredHoldSynapse(tau)

    def _time(self, field: str) -> Any:
        name = f"{self.name}.{field}"
        value = self.convention.time_constants(name, self.parameters[field])
        return constant(self.convention.milliseconds(name, value), self.dtype)

    def _constant(self, field: str) -> Any:
        return constant(self.parameters[field], self.dtype)

    def _learned(self, value: np.ndarray) -> Any:
        """A bias: trained, unless there is none."""
        return jnp.asarray(value, self.dtype) if np.any(value) else 0.0


_VOLTAGES = {"v_leak": "v_rest", "v_threshold": "v_threshold", "v_reset": "v_reset"}
