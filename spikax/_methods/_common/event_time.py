"""The derivative of event times, by the implicit function theorem."""

import jax.numpy as jnp
from jaxtyping import Array

from .differentiation import held


def newton_step(g: Array, slope: Array, crosses: Array) -> Array:
    r"""The last Newton step to a crossing, whose derivative is that of the time of the crossing; zero without one.

    The time T of an event solves g(T, p) = 0 along the motion, for parameters p of the motion. So

    $$ \mathrm{d}T = -\frac{\mathrm{d}g}{g'}, \qquad g' = \frac{\partial g}{\partial t} + \nabla g \cdot \Phi_h, $$

    with dg at the fixed time T, and the slope g' of the condition along the motion. In the event loop Φ_h is the
    derivative of the discrete step by its length. This is the derivative of -g / g' with constant g'. It holds wherever
    T solves the equation, so its own derivative, with T and g' that follow the parameters, is the second one of T.

    **Arguments:**

    - `g`: the condition at the computed time, differentiable.
    - `slope`: g' at this time; constant for the derivative.
    - `crosses`: whether there is a crossing.
    """
    return jnp.where(crosses, -g / jnp.where(crosses, held(slope, g), 1.0), 0.0)


def derivative_of_time(g: Array, slope: Array, crosses: Array, cause: Array) -> Array:
    """Zero, with the derivative of the time of a known event.

    Without a crossing, the event happened at once, and its time is that of its `cause`.
    """
    t = jnp.where(crosses, newton_step(g, slope, crosses), cause)
    return t - held(t, (g, cause))
