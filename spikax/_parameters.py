"""Constrained parameters: they are stored in a form in which the constraint always holds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt

from ._checks import as_array, known, require, require_finite, require_positive
from ._types import AbstractParameter, is_parameter, known_stays_known, resolved, strong


class Positive(AbstractParameter):
    r"""A positive parameter. The stored value, which an optimiser changes, is its logarithm.

    $$ \theta = e^{x}, \qquad \frac{\partial L}{\partial x} = \theta\, \frac{\partial L}{\partial \theta}. $$

    It can be used for any parameter of a neuron, a synapse or a connection.

    ```python
    neuron = sx.LIF(tau_mem=sx.Positive(20.0), synapse=sx.ExpSynapse(tau=sx.Positive(jnp.full(120, 5.0))))
    ```

    **Arguments:**

    - `value`: a positive number, or an array of positive numbers, for example one per neuron.

    **Raises:** `TypeError` or `ValueError` for other values, unless they are traced.
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


class Fixed(AbstractParameter):
    """A constant array, with one value for each neuron or synapse.

    A number is always constant, and a plain array is trained. So this is for constants that differ between neurons, and
    for fixed weights. It has no gradient, and no optimiser changes it, with or without weight decay.

    ```python
    neuron = sx.LIF(tau_mem=sx.Fixed(jax.random.uniform(key, (120,), minval=10.0, maxval=30.0)))
    readout = sx.Dense("hidden", "output", sx.Fixed(weight))  # of shape (hidden, output)
    ```

    Its float type counts like that of any other array of the network. Code that casts the floating-point arrays of a
    network does not cast it. Create a new one instead: `sx.Fixed(fixed.value.astype(dtype))`.

    **Arguments:**

    - `value`: an array of JAX or NumPy, a number, or another parameter, such as `Positive`, whose value is kept.

    **Raises:** `TypeError` or `ValueError` for other or non-finite values, unless they are traced.
    """

    # The bits of the numbers, as an array of integers, which every filter for trained parameters excludes. A float with
    # `stop_gradient` would still be a leaf that weight decay changes. A static field would be compiled into the
    # program, compared in every call, and could not be traced, mapped or sharded.
    bits: UInt[Array, "..."]

    def __init__(self, value: Any):
        require_finite(value, "value")
        array = _as_floats(resolved(value))
        is_wide = array.dtype in (jnp.float32, jnp.float64)
        require(is_wide, "value", "in float32 or float64", array.dtype, error=TypeError)
        self.bits = _viewed(array, jnp.uint32 if array.dtype == jnp.float32 else jnp.uint64)

    def __check_init__(self):
        is_right = isinstance(self.bits, jax.Array) and self.bits.dtype in (jnp.uint32, jnp.uint64)
        require(is_right, "bits", "an array of unsigned integers of 32 or 64 bits", self.bits, error=TypeError)
        require_finite(self.value, "value")

    @property
    def value(self) -> Float[Array, "..."]:
        """The array."""
        return _viewed(self.bits, jnp.float32 if self.bits.dtype == jnp.uint32 else jnp.float64)

    def scaled(self, factor):
        return Fixed(scaled(self.value, factor))


class Signed(AbstractParameter):
    r"""Weights with fixed signs. The stored value, which an optimiser changes, is the logarithm of their magnitudes.

    $$ w = s\, e^{x}, \qquad s = \pm 1, \qquad \frac{\partial L}{\partial x} = w\, \frac{\partial L}{\partial w}. $$

    With one sign per source this is Dale's law: a neuron is either excitatory or inhibitory.

    ```python
    signs = jnp.where(jnp.arange(100) < 80, 1, -1)[:, None]  # of 100 sources, 80 excite
    weight = sx.Signed(signs * magnitudes, signs)  # magnitudes: above zero, of shape (100, targets)
    ```

    **Arguments:**

    - `value`: the weights, all nonzero. For absent connections, wrap the `Signed` in a `Masked`.
    - `signs`: the signs of the weights, 1 or -1, in a shape that broadcasts to that of the weights, such as
      `(sources, 1)`.

    **Raises:** `TypeError` or `ValueError` for other values, unless they are traced.

    ??? cite "Reference"
        J. Cornford et al., *Learning to live with Dale's principle: ANNs with separate excitatory and inhibitory
        units*, ICLR 2021.
    """

    log: Float[Array, "..."]
    excites: Bool[Array, "..."]  # not a float, so it is not trained

    def __init__(self, value: Any, signs: Any):
        require_finite(value, "value")
        value, signs = resolved(value), as_array(signs, "signs")
        _require_extends(signs, value, "signs")
        numbers, ones = known(value), known(signs)
        require(ones is None or bool(np.all(np.abs(ones) == 1)), "signs", "1 or -1", signs)
        hint = "A weight of zero has no sign: for absent connections, use `sx.Masked`."
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
    r"""Weights with a fixed mask: absent connections have weight zero.

    $$ w = m\, x, \quad m = 0 \text{ or } 1, \quad \frac{\partial L}{\partial x} = m\, \frac{\partial L}{\partial w}. $$

    ```python
    weight = sx.Masked(sx.Signed(weight, signs), jax.random.bernoulli(key, 0.1, weight.shape))
    ```

    **Arguments:**

    - `value`: the weights, an array or a parameter such as `Signed`. Values outside the mask have no effect.
    - `mask`: True where there is a connection, else False, in a shape that broadcasts to that of the weights.

    **Raises:** `TypeError` or `ValueError` for other values, unless they are traced.
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
    """The tree with all values times a positive factor. An `AbstractParameter` is scaled by its method `scaled`."""

    def leaf(node):
        if is_parameter(node):
            return node.scaled(factor)
        return node * jnp.asarray(factor, node.dtype) if eqx.is_inexact_array(node) else node

    return jax.tree.map(leaf, tree, is_leaf=is_parameter)


def _viewed(array: Array, dtype: Any) -> Array:
    """The same bits as another type of the same width."""
    with known_stays_known(array):
        return jax.lax.bitcast_convert_type(array, dtype)


def _as_floats(value: Any) -> Float[Array, "..."]:
    """An array that is not weakly typed. A number gets the default float type."""
    return strong(jnp.asarray(value, None if hasattr(value, "dtype") else jnp.result_type(float)))


def _require_mask(mask: Any, value: Any, name: str) -> None:
    is_mask = isinstance(mask, jax.Array | np.ndarray) and mask.dtype == np.dtype(bool)
    require(is_mask, name, "an array of True and False", mask, error=TypeError)
    _require_extends(mask, value, name)


def _require_extends(array: Any, value: Any, name: str) -> None:
    """Raises unless an array broadcasts to the shape of `value`."""
    shape, whole = np.shape(array), np.shape(value)
    try:
        extends = np.broadcast_shapes(shape, whole) == whole
    except ValueError:
        extends = False
    require(extends, name, f"of a shape that extends to {whole}, that of `value`", shape)
