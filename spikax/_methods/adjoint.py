"""How a simulation is differentiated."""

import abc
import contextlib

import equinox as eqx

from .._checks import require_count
from ._common.differentiation import forward_mode, reverse_mode


class AbstractAdjoint(eqx.Module):
    """How a simulation is differentiated."""

    memory: eqx.AbstractVar[int]
    """The memory for the stored steps of a layer, in bytes."""

    @abc.abstractmethod
    def mode(self) -> contextlib.AbstractContextManager[None]:
        """The mode of differentiation of everything that is traced within."""


class DiscreteAdjoint(AbstractAdjoint):
    """Reverse mode: the exact derivative of the discrete simulation, by a backward pass over its steps and spikes.

    Its cost does not depend on the number of parameters. It is differentiable in forward mode, for Hessians and
    Hessian-vector products.

    **Arguments:**

    - `memory`: the memory for the stored steps of a layer that [`spikax.EventLoop`][] simulates, in bytes; by default
      64 MiB. A large layer, whose stragglers run in a second loop, may use twice as much. If not all steps fit, the
      last ones are stored, and the backward pass runs the simulation again to recompute earlier ones, as many at a time
      as fit, from states stored on the way, in up to a quarter of as much memory again.
    """

    memory: int = eqx.field(static=True, default=2**26)

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
        return 2**26

    def mode(self):
        return forward_mode()
