"""Parameters that keep a property while they learn: they are stored in a form in which they cannot lose it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._checks import as_array, known, require, require_finite, require_positive
from ._types import AbstractParameter, is_parameter, resolved, strong


class Positive(AbstractParameter):
    r"""A parameter that stays positive: what is stored, and what an optimiser changes, is its logarithm.

    $$ \theta = e^{x}, \qquad \frac{\partial L}{\partial x} = \theta\, \frac{\partial L}{\partial \theta}. $$

    It goes wherever a parameter of a neuron or of a synapse goes.

    ```python
    neuron = sx.LIF(tau_mem=sx.Positive(20.0), synapse=sx.ExpSynapse(tau=sx.Positive(jnp.full(120, 5.0))))
    ```

    **Arguments:**

    - `value`: a positive number, or an array with one for every neuron.

    Raises `TypeError` or `ValueError` for anything else, as far as it is known.
    """

    log: Float[Array, "..."]

    def __init__(self, value: Any):
        require_positive(value, "value")
        self.log = jnp.log(_as_floats(resolved(value)))

    def __check_init__(self):
        require_finite(self.log, "value")

    @property
    def value(self) -> Float[Array, "..."]:
        """The parameter."""
        return jnp.exp(self.log)

    def scaled(self, factor):
        log = self.log + jnp.log(jnp.asarray(factor, self.log.dtype))
        return eqx.tree_at(lambda parameter: parameter.log, self, log)


class Signed(AbstractParameter):
    r"""Weights whose signs stay: what is stored, and what an optimiser changes, is the logarithm of their magnitudes.

    $$ w = s\, e^{x}, \qquad s = \pm 1, \qquad \frac{\partial L}{\partial x} = w\, \frac{\partial L}{\partial w}. $$

    With one sign for every source this is Dale's law: a neuron is either excitatory or inhibitory.

    ```python
    signs = jnp.where(jnp.arange(100) < 80, 1, -1)[:, None]  # of 100 sources, 80 excite
    weight = sx.Signed(signs * magnitudes, signs)  # magnitudes: above zero, of shape (100, targets)
    ```

    **Arguments:**

    - `value`: the weights. None is zero; for connections that are absent, put a `Masked` around.
    - `signs`: the signs of the weights, 1 or -1, in their shape or one that extends to it, such as `(sources, 1)`.

    Raises `TypeError` or `ValueError` for anything else, as far as it is known.

    ??? cite "Reference"
        J. Cornford et al., *Learning to live with Dale's principle: ANNs with separate excitatory and inhibitory
        units*, ICLR 2021.
    """

    log: Float[Array, "..."]
    excites: Bool[Array, "..."]  # no float, so that it does not learn

    def __init__(self, value: Any, signs: Any):
        require_finite(value, "value")
        value, signs = resolved(value), as_array(signs, "signs")
        _require_extends(signs, value, "signs")
        numbers, ones = known(value), known(signs)
        require(ones is None or bool(np.all(np.abs(ones) == 1)), "signs", "1 or -1", signs)
        hint = "A weight of zero has no sign: for connections that are absent, use `sx.Masked`."
        agree = numbers is None or ones is None or bool(np.all(np.sign(numbers) == ones))
        require(agree, "value", "of the given signs, and nowhere zero", value, hint)
        self.log = jnp.log(jnp.abs(_as_floats(value)))
        self.excites = jnp.asarray(signs > 0)

    def __check_init__(self):
        require_finite(self.log, "value")
        _require_mask(self.excites, self.log, "signs")

    @property
    def value(self) -> Float[Array, "..."]:
        """The weights."""
        size = jnp.exp(self.log)
        return jnp.where(self.excites, size, -size)

    def scaled(self, factor):
        log = self.log + jnp.log(jnp.asarray(factor, self.log.dtype))
        return eqx.tree_at(lambda parameter: parameter.log, self, log)


class Masked(AbstractParameter):
    r"""Weights of which some are zero, and stay so: connections that are absent.

    $$ w = m\, x, \quad m = 0 \text{ or } 1, \quad \frac{\partial L}{\partial x} = m\, \frac{\partial L}{\partial w}. $$

    ```python
    weight = sx.Masked(sx.Signed(weight, signs), jax.random.bernoulli(key, 0.1, weight.shape))
    ```

    **Arguments:**

    - `value`: the weights, an array or a parameter such as `Signed`; what they are outside of the mask is of no effect.
    - `mask`: where there is a connection: True or False, in the shape of the weights or one that extends to it.

    Raises `TypeError` or `ValueError` for anything else, as far as it is known.
    """

    inner: Float[Array, "..."] | AbstractParameter
    mask: Bool[Array, "..."]

    def __init__(self, value: Any, mask: Any):
        require_finite(value, "value")
        _require_mask(mask, resolved(value), "mask")
        self.inner = value if is_parameter(value) else _as_floats(value)
        self.mask = jnp.asarray(mask)

    def __check_init__(self):
        require_finite(self.inner, "value")
        _require_mask(self.mask, resolved(self.inner), "mask")

    @property
    def value(self) -> Float[Array, "..."]:
        """The weights."""
        return jnp.where(self.mask, resolved(self.inner), 0.0)

    def scaled(self, factor):
        return eqx.tree_at(lambda parameter: parameter.inner, self, scaled(self.inner, factor))


def scaled(tree: Any, factor: Any) -> Any:
    """All floating-point arrays times a positive factor; a parameter in a form of its own sees to its value itself."""

    def leaf(node):
        if is_parameter(node):
            return node.scaled(factor)
        return node * jnp.asarray(factor, node.dtype) if eqx.is_inexact_array(node) else node

    return jax.tree.map(leaf, tree, is_leaf=is_parameter)


def _as_floats(value: Any) -> Float[Array, "..."]:
    """An array that is not weakly typed; one of a number in the default float type."""
    return strong(jnp.asarray(value, None if hasattr(value, "dtype") else jnp.result_type(float)))


def _require_mask(mask: Any, value: Any, name: str) -> None:
    is_mask = isinstance(mask, jax.Array | np.ndarray) and mask.dtype == np.dtype(bool)
    require(is_mask, name, "an array of True and False", mask, error=TypeError)
    _require_extends(mask, value, name)


def _require_extends(array: Any, value: Any, name: str) -> None:
    """Raises unless an array has the shape of `value`, or extends to it by the rules of broadcasting."""
    shape, whole = np.shape(array), np.shape(value)
    try:
        extends = np.broadcast_shapes(shape, whole) == whole
    except ValueError:
        extends = False
    require(extends, name, f"of a shape that extends to {whole}, that of `value`", shape)
