"""How a simulation is differentiated."""

import abc
import contextlib

import diffrax
import equinox as eqx

from .._checks import require, require_count, require_instance, require_positive
from ._common.differentiation import forward_mode, reverse_mode
from ._common.motion import AbstractMotion, ContinuousMotion


class AbstractAdjoint(eqx.Module):
    """How a simulation is differentiated."""

    memory: eqx.AbstractVar[int]
    """The memory for the stored steps of a layer, in bytes."""

    @property
    def motion(self) -> AbstractMotion | None:
        """The motion between events whose derivative replaces that of single steps, if any."""
        return None

    @abc.abstractmethod
    def mode(self) -> contextlib.AbstractContextManager[None]:
        """The mode of differentiation of everything that is traced within."""


class DiscreteAdjoint(AbstractAdjoint):
    """Reverse mode: the exact derivative of the discrete simulation, by a backward pass over its steps and spikes.

    Its cost does not depend on the number of parameters. It is differentiable in forward mode, for Hessians and
    Hessian-vector products.

    **Arguments:**

    - `memory`: the memory for the stored steps of a layer that [`spikax.EventLoop`][] simulates, in bytes; by default
      256 MiB. A large layer, whose stragglers run in a second loop, may use twice as much. If not all steps fit, the
      last ones are stored, and the backward pass runs the simulation again to recompute earlier ones, as many at a time
      as fit, from states stored on the way, in up to a quarter of as much memory again.
    """

    memory: int = eqx.field(static=True, default=2**28)

    def __check_init__(self):
        require_count(self.memory, "memory")

    def mode(self):
        return reverse_mode()


class ForwardMode(AbstractAdjoint):
    """Forward mode, for `jax.jvp`, `jax.jacfwd` and `jax.linearize`: the exact derivative of the discrete simulation.

    Each tangent costs about as much as a simulation, and no memory. The tangent of a spike time is that of the implicit
    function, not of the iterates of the search for it. Reverse mode is an error of JAX, which names `lax.while_loop`.
    """

    @property
    def memory(self) -> int:
        # For the steps around the times to save, of which the last ones are kept.
        return 2**28

    def mode(self):
        return forward_mode()


class EventPropAdjoint(AbstractAdjoint):
    r"""Reverse mode by the continuous adjoint, for any neuron: of the differential equation, not of the solver's steps.

    Between two events of a neuron, from t_a to t_b, the adjoint variables λ of its state y' = f(t, y, p) solve

    $$ \lambda' = -\left(\frac{\partial f}{\partial y}\right)^{\!T} \lambda, \qquad
    \frac{\mathrm{d}L}{\mathrm{d}p} \mathrel{+}= \int_{t_a}^{t_b}
    \left(\frac{\partial f}{\partial p}\right)^{\!T} \lambda \, \mathrm{d}t, $$

    backwards in time, together with y. At each event (an arrival, a spike, an internal event) they jump as the exact
    derivative of condition, reset and payload says, with the time of the event as an implicit function of the state
    before it. So gradients of weights, delays, parameters, initial states and input times converge to those of
    [`spikax.DiscreteAdjoint`][] at the order of the solver, and the memory is that of the events, whatever the number
    of steps between them. It takes more time than the discrete adjoint, and its gradients are not exact with respect
    to the forward simulation.

    It applies to layers that [`spikax.EventLoop`][] simulates, which then have no bins. Saved states are those of the
    differential equation, solved from the last event on. In closed form both adjoints are the same. There are no second
    derivatives. A neuron with more than `max_spikes` internal events of one kind may end as one with too many spikes.

    **Arguments:**

    - `solver`: a Diffrax solver for the equations between two events; by default `diffrax.Tsit5()`.
    - `stepsize_controller`: a Diffrax controller; by default a `diffrax.PIDController` with tolerances of 1e-9 in
      float64 and 1e-5 in float32. `diffrax.ConstantStepSize()` needs `dt0`.
    - `dt0`: the length of the first step after an event, or of all steps, in ms.
    - `max_steps`: the maximal number of steps between two events. More are an error.

    Source: Wunderlich and Pehle (2021), Event-based backpropagation can compute exact gradients for spiking neural
    networks, Scientific Reports 11:12829, for leaky integrate-and-fire neurons.
    """

    solver: diffrax.AbstractSolver = eqx.field(default_factory=diffrax.Tsit5)
    stepsize_controller: diffrax.AbstractStepSizeController | None = eqx.field(default=None, kw_only=True)
    dt0: float | None = eqx.field(default=None, kw_only=True)
    max_steps: int = eqx.field(static=True, default=4096, kw_only=True)

    def __check_init__(self):
        hint = "For example `diffrax.Tsit5()`."
        require_instance(self.solver, diffrax.AbstractSolver, "solver", "a Diffrax solver", hint)
        require_count(self.max_steps, "max_steps")
        if self.dt0 is not None:
            require_positive(self.dt0, "dt0")
        controller = self.stepsize_controller
        if controller is not None:
            kind, hint = diffrax.AbstractStepSizeController, "For example `diffrax.PIDController(1e-6, 1e-6)`."
            require_instance(controller, kind, "stepsize_controller", "a Diffrax controller", hint)
        is_constant = isinstance(controller, diffrax.ConstantStepSize)
        require(not is_constant or self.dt0 is not None, "dt0", "given with `diffrax.ConstantStepSize`", self.dt0)
        is_adaptive = isinstance(self.solver, diffrax.AbstractAdaptiveSolver)
        hint = f"{type(self.solver).__name__} estimates no error: give `diffrax.ConstantStepSize()` and `dt0`."
        require(is_adaptive or is_constant, "stepsize_controller", "`diffrax.ConstantStepSize()`", controller, hint)

    @property
    def memory(self) -> int:
        # Steps are not stored.
        return 1

    @property
    def motion(self):
        return ContinuousMotion(self.solver, self.stepsize_controller, self.dt0, self.max_steps)

    def mode(self):
        return reverse_mode()
