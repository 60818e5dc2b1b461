"""Properties of the dynamics of a neuron: its fastest rates, and whether it is linear in the drive."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..._checks import known
from ..._neuron import AbstractNeuron
from ..._synapse import AbstractSynapse, drive_of, initial_filters, is_synapse
from ..._tracing import depends_on_last
from .axes import cast, over_units, parameters_of, with_dtype


def fastest(neuron: AbstractNeuron, dtype: Any) -> float | None:
    """The fastest rate of the synapse and of the membrane at its initial state; None if traced or not finite.

    Parameters have the shape `()`, or one value per neuron. For traced parameters two values are tried. If both give
    the same rate, as for a bias, the rate does not depend on them.
    """
    motions, others = (_motions_with(neuron, value, dtype) for value in (1.0, 2.0))
    if motions is None or others is None or not all(map(np.array_equal, motions, others)):
        return None
    if not all(np.all(np.isfinite(motion)) for motion in motions):
        return None
    return max(float(np.max(np.abs(np.linalg.eigvals(motion)))) for motion in motions)


def fastest_of_membrane(neuron: AbstractNeuron, like: Array) -> Array:
    """The fastest rate of the membranes of neurons with the axes `(batch, units, neurons)`, the first of `like`.

    It is evaluated at run time, at the initial state: the largest magnitude of an eigenvalue, of all neurons.
    """
    motion = lax.stop_gradient(over_units(_motion_of_membrane, neuron, jnp.zeros(like.shape[:3], like.dtype)))
    if motion.shape[-1] == 1:
        return jnp.max(jnp.abs(motion))
    # The power of a matrix has about the norm of the power of its largest eigenvalue.
    logarithm, squarings = jnp.zeros(motion.shape[:-2], motion.dtype), 6
    for _ in range(squarings):
        size = jnp.max(jnp.abs(motion), axis=(-2, -1))
        size = jnp.where(size > 0.0, size, 1.0)
        motion = motion / size[..., None, None]
        motion = jnp.matmul(motion, motion, precision=lax.Precision.HIGHEST)
        logarithm = 2.0 * (logarithm + jnp.log(size))
    size = jnp.max(jnp.abs(motion), axis=(-2, -1))
    return jnp.max(jnp.exp((logarithm + jnp.log(size)) / 2**squarings))


def is_linear_in_drive(neuron: AbstractNeuron, dtype: Any) -> bool:
    """Whether the slope of the state is linear in the drive, for all states.

    The traced code shows this: the derivative with respect to the drive does not depend on the drive. (Piecewise
    constant functions such as `sign(drive)` are not detected.)
    """
    parameters, rest = eqx.partition(neuron, eqx.is_array)
    # The parameters of one neuron: the first axis is that of the neurons.
    parameters = jax.tree.map(lambda x: jnp.ones(x.shape[1:], x.dtype), parameters)
    neuron = eqx.combine(parameters, rest)

    def sensitivity(state, drive):
        def slope(drive):
            return cast(neuron.dynamics(jnp.zeros((), dtype), state, drive), dtype)

        return jax.jacfwd(slope)(drive)

    def start():
        filters = initial_filters(neuron.synapse, jnp.zeros((), dtype))
        return drive_of(neuron.synapse, filters), cast(neuron.initial_state(), dtype)

    drive, state = jax.eval_shape(start)
    # Errors in the neuron's own code are raised here.
    jax.eval_shape(sensitivity, state, drive)
    return not depends_on_last(sensitivity, state, drive)


def _motions_with(neuron: AbstractNeuron, value: float, dtype: Any) -> list[np.ndarray] | None:
    """The matrices, with `value` in place of traced parameters; None if a traced parameter is not a float."""

    def leaf(leaf):
        is_traced = eqx.is_inexact_array(leaf) and known(leaf) is None
        # One value for all neurons does, unless each has several.
        shape = leaf.shape if jnp.ndim(leaf) > 1 else ()
        return jnp.full(shape, value, leaf.dtype) if is_traced else leaf

    # The numbers are needed at trace time, even inside a `jit` around the whole simulation.
    with jax.ensure_compile_time_eval():
        concrete = jax.tree.map(leaf, neuron)
        if any(known(leaf) is None for leaf in jax.tree.leaves(eqx.filter(concrete, eqx.is_array))):
            return None
        return [np.asarray(motion) for motion in _motions(concrete, jnp.zeros((), dtype))]


@eqx.filter_jit
def _motions(neuron: AbstractNeuron, zero: Array) -> list[Array]:
    """The matrices A of x' = A x + ... of the membranes and filters of all neurons."""
    parameters, axes, rest = parameters_of(with_dtype(neuron, zero.dtype))

    def of(parameters):
        neuron = eqx.combine(parameters, rest)
        ports = jax.tree.leaves(neuron.synapse, is_leaf=is_synapse)
        return [_motion_of_membrane(neuron, zero), *(_motion_of_filter(port, zero) for port in ports)]

    differ = any(leaf.ndim for leaf in jax.tree.leaves(parameters))
    return jax.vmap(of, in_axes=(axes,))(parameters) if differ else of(parameters)


def _motion_of_filter(synapse: AbstractSynapse, zero: Array) -> Array:
    flat, structured = ravel_pytree(synapse.initial_state(zero))

    def slope(x):
        def evolved(duration):
            return ravel_pytree(synapse.evolve(structured(x), duration))[0]

        return jax.jvp(evolved, (zero,), (jnp.ones_like(zero),))[1]

    return jax.jacfwd(slope)(flat)


def _motion_of_membrane(neuron: AbstractNeuron, zero: Array) -> Array:
    drive = drive_of(neuron.synapse, initial_filters(neuron.synapse, zero))
    flat, structured = ravel_pytree(cast(neuron.initial_state(), zero.dtype))
    # Constants would be evaluated at once, operation by operation, each compiled by itself.
    flat = flat + zero

    def slope(x):
        return ravel_pytree(cast(neuron.dynamics(zero, structured(x), drive), zero.dtype))[0]

    return jax.jacfwd(slope)(flat)
