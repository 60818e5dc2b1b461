"""The Izhikevich neuron."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import require, require_instance
from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import below, parameter


class IzhikevichState(eqx.Module):
    """The state: the membrane voltage `v` and the recovery variable `u`."""

    v: Array
    u: Array


class Izhikevich(AbstractNeuron):
    r"""The Izhikevich neuron, in mV and ms.

    $$ v' = 0.04\, v^2 + 5\, v + 140 - u + I + I_b, \qquad u' = a\, (b\, v - u), $$

    $$ v \leftarrow c, \quad u \leftarrow u + d \qquad \text{as } v \text{ rises through } v_{peak}. $$

    The initial state is the resting state. For $b > 5 - \sqrt{22.4}$ there is none, and the initial voltage is the one
    with the smallest derivative. An arrival of weight $w$ through a `DeltaSynapse` adds $w$ to $v$.

    **Arguments:**

    - `a`: the rate of the recovery variable, in 1/ms.
    - `b`: the sensitivity of the recovery variable to the voltage.
    - `c`: the voltage after a spike, below `v_peak`.
    - `d`: the increment of the recovery variable at a spike.
    - `v_peak`: the voltage at which a spike is emitted.
    - `bias`: a constant current $I_b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        E. M. Izhikevich, *Simple model of spiking neurons*, IEEE Transactions on Neural Networks 14(6), 2003.
    """

    a: Scalar = parameter(0.02)
    b: Scalar = parameter(0.2)
    c: Scalar = parameter(-65.0, below("v_peak", "Otherwise each spike would trigger another one."))
    d: Scalar = parameter(8.0)
    v_peak: Scalar = parameter(30.0)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    PRESETS: ClassVar[dict[str, tuple[float, float, float, float]]] = {
        "regular_spiking": (0.02, 0.2, -65.0, 8.0),
        "intrinsically_bursting": (0.02, 0.2, -55.0, 4.0),
        "chattering": (0.02, 0.2, -50.0, 2.0),
        "fast_spiking": (0.1, 0.2, -65.0, 2.0),
        "low_threshold_spiking": (0.02, 0.25, -65.0, 2.0),
        "thalamo_cortical": (0.02, 0.25, -65.0, 0.05),
        "resonator": (0.1, 0.26, -65.0, 2.0),
    }
    """The parameters `a`, `b`, `c` and `d` of the neuron types in figure 2 of the reference."""

    @classmethod
    def preset(cls, name: str, **parameters: Any) -> "Izhikevich":
        """An Izhikevich neuron with the parameters `a`, `b`, `c` and `d` of a type in the reference.

        **Arguments:**

        - `name`: one of `Izhikevich.PRESETS`: `"regular_spiking"`, `"intrinsically_bursting"`, `"chattering"`, ...
        - `parameters`: arguments of the constructor, such as `synapse` and `bias`. They override the preset.

        **Raises:** `ValueError` for an unknown name.
        """
        require_instance(name, str, "name", "the name of a preset", f"One of {list(cls.PRESETS)}.")
        require(name in cls.PRESETS, "name", f"one of {list(cls.PRESETS)}", name)
        return cls(**dict(zip("abcd", cls.PRESETS[name], strict=True)) | parameters)

    def initial_state(self):
        # The lower root of 0.04 v² + (5 - b) v + 140, or its vertex if there is no root.
        slope = 5.0 - jnp.asarray(self.b)
        square = slope**2 - 22.4
        rests = square > 0.0
        v = (-slope - jnp.where(rests, jnp.sqrt(jnp.where(rests, square, 1.0)), 0.0)) / 0.08
        return IzhikevichState(v=v, u=self.b * v)

    def dynamics(self, t, state, drive):
        v = (0.04 * state.v + 5.0) * state.v + 140.0 - state.u + total(drive) + self.bias
        return IzhikevichState(v=v, u=self.a * (self.b * state.v - state.u))

    def spike_condition(self, t, state):
        return state.v - self.v_peak

    def reset(self, t, state):
        return IzhikevichState(v=jnp.asarray(self.c), u=state.u + self.d)

    def receive(self, t, state, weight):
        return IzhikevichState(v=state.v + total_impulse(self.synapse, weight), u=state.u)
