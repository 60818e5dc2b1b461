"""The Hodgkin–Huxley neuron."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._neuron import AbstractNeuron
from .._synapse import ExpSynapse, Synapse, total, total_impulse
from .._types import Scalar
from ..constraints import parameter, positive


class HodgkinHuxleyState(eqx.Module):
    """The state: the membrane voltage `v`, the sodium gates `m` and `h`, and the potassium gate `n`."""

    v: Array
    m: Array
    h: Array
    n: Array


class HodgkinHuxley(AbstractNeuron):
    r"""The Hodgkin–Huxley model of the squid giant axon, in mV, ms, µF/cm², mS/cm² and µA/cm².

    $$ C\, v' = -g_{Na}\, m^3 h\, (v - v_{Na}) - g_K\, n^4\, (v - v_K) - g_{leak}\, (v - v_{leak}) + I + b, $$

    $$ x' = \alpha_x(v)\, (1 - x) - \beta_x(v)\, x \quad \text{for each gate } x = m, h, n, $$

    with the rates, in 1/ms,

    $$ \alpha_m = \frac{0.1\, (v + 40)}{1 - e^{-(v + 40)/10}}, \quad \beta_m = 4\, e^{-(v + 65)/18}, \quad
       \alpha_h = 0.07\, e^{-(v + 65)/20}, \quad \beta_h = \frac{1}{1 + e^{-(v + 35)/10}}, $$

    $$ \alpha_n = \frac{0.01\, (v + 55)}{1 - e^{-(v + 55)/10}}, \quad \beta_n = 0.125\, e^{-(v + 65)/80}. $$

    A spike is emitted when $v$ rises through $v_{threshold}$. There is no reset: the state is unchanged, and the next
    spike requires that $v$ has fallen below the threshold. An arrival of weight $w$ through a `DeltaSynapse` adds $w$
    to $v$.

    The model is stiff during a spike. With the default tolerances, one millisecond takes about 30 steps in float64 and
    10 in float32, so long simulations need a larger `max_steps` of [`spikax.EventLoop`][]. With fixed steps, use a
    `dt0` of 0.05 ms or less.

    **Arguments:**

    - `capacitance`: the membrane capacitance $C$.
    - `g_sodium`, `g_potassium`, `g_leak`: the maximal conductances.
    - `v_sodium`, `v_potassium`, `v_leak`: the reversal potentials.
    - `v_rest`: the initial voltage. The gates start in their steady state at this voltage. The default is the
      resting voltage, to 0.01 mV.
    - `v_threshold`: the voltage at which a spike is emitted.
    - `bias`: a constant current $b$.
    - `synapse`: the synapse model, or a dictionary of named ports, whose drives are summed.

    ??? cite "Reference"
        A. L. Hodgkin, A. F. Huxley, *A quantitative description of membrane current and its application to conduction
        and excitation in nerve*, Journal of Physiology 117(4), 1952; with the modern sign and zero of the voltage, as
        in P. Dayan, L. F. Abbott, *Theoretical Neuroscience*, MIT Press, 2001, section 5.6.
    """

    capacitance: Scalar = parameter(1.0, positive)
    g_sodium: Scalar = parameter(120.0, positive)
    g_potassium: Scalar = parameter(36.0, positive)
    g_leak: Scalar = parameter(0.3, positive)
    v_sodium: Scalar = parameter(50.0)
    v_potassium: Scalar = parameter(-77.0)
    v_leak: Scalar = parameter(-54.387)
    v_rest: Scalar = parameter(-65.0)
    v_threshold: Scalar = parameter(0.0)
    bias: Scalar = parameter(0.0)
    synapse: Synapse = ExpSynapse()

    def initial_state(self):
        v = jnp.asarray(self.v_rest)
        m, h, n = (opens / (opens + closes) for opens, closes in _rates(v))
        return HodgkinHuxleyState(v, m, h, n)

    def dynamics(self, t, state, drive):
        v, m, h, n = state.v, state.m, state.h, state.n
        sodium = self.g_sodium * m * m * m * h * (v - self.v_sodium)
        potassium = self.g_potassium * n * n * n * n * (v - self.v_potassium)
        leak = self.g_leak * (v - self.v_leak)
        gates = zip((m, h, n), _rates(v), strict=True)
        return HodgkinHuxleyState(
            (total(drive) + self.bias - sodium - potassium - leak) / self.capacitance,
            *(opens * (1.0 - x) - closes * x for x, (opens, closes) in gates),
        )

    def spike_condition(self, t, state):
        return state.v - self.v_threshold

    def reset(self, t, state):
        return state

    def receive(self, t, state, weight):
        return HodgkinHuxleyState(state.v + total_impulse(self.synapse, weight), state.m, state.h, state.n)


def _rates(v: Array) -> tuple[tuple[Array, Array], ...]:
    """The opening and closing rates of the gates m, h and n."""
    return (
        (_linear_beyond((v + 40.0) / 10.0), 4.0 * jnp.exp(-(v + 65.0) / 18.0)),
        (0.07 * jnp.exp(-(v + 65.0) / 20.0), jax.nn.sigmoid((v + 35.0) / 10.0)),
        (0.1 * _linear_beyond((v + 55.0) / 10.0), 0.125 * jnp.exp(-(v + 65.0) / 80.0)),
    )


def _linear_beyond(x: Array) -> Array:
    """x / (1 - exp(-x)), with the value one at zero. The two formulas below agree to floating-point precision."""
    near = jnp.abs(x) < 0.5
    # Near zero, quotient and derivative suffer from cancellation: use the power series. The next term is below 1e-15.
    small = jnp.where(near, x, 0.0)
    square = small * small
    even = jnp.zeros_like(x)
    for divisor in (-1892437580.3183792, 47900160.0, -1209600.0, 30240.0, -720.0, 12.0):
        even = (even + 1.0 / divisor) * square
    # Elsewhere, use a form without positive exponents, which cannot overflow.
    large = jnp.where(near, 1.0, jnp.abs(x))
    decay = jnp.exp(-large)
    far = jnp.maximum(x, 0.0) + large * decay / (1.0 - decay)
    return jnp.where(near, 1.0 + 0.5 * small + even, far)
