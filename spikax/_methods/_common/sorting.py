"""A fast stable sort of the rows of an array."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .axes import indices
from .vectorized import any_member, most_of_members


def sorted_rows(x: Float[Array, "rows n"]) -> tuple[Float[Array, "rows n"], Int[Array, "rows n"]]:
    """The sorted rows, and their order. Equal entries keep their order. There is no NaN, and no -inf.

    A short row is sorted by counting the entries before each one: all pairs are compared, but many at once. Longer ones
    are sorted by XLA. Its CPU backend sorts a single array of integers five times faster than floats, or than two
    arrays. So each entry becomes an integer, with its index in the last bits, and in the others its place between the
    smallest and the largest finite entry of the row. This place is rounded. So neighbours are swapped, until all are in
    order.
    """
    if x.size <= _FEW:
        times, order = lax.sort((x, jnp.broadcast_to(indices(x.shape[1]), x.shape)), num_keys=1, is_stable=True)
        return times, order
    if x.shape[1] <= _SHORT:
        return _by_counting(x)
    # In halves, which run in parallel: a single sort uses only one core.
    half = x.shape[0] // 2
    halves = [_sorted(part) for part in (x[:half], x[half:]) if part.shape[0]]
    times, order = (jnp.concatenate(part) for part in zip(*halves, strict=True))
    return _in_order(times, order)


# So few entries are sorted as floats, which is quick to compile.
_FEW = 2**11

# The longest row in which all pairs of entries are compared.
_SHORT = 256


def _by_counting(x: Array) -> tuple[Array, Array]:
    """The sorted rows, and their order. The comparisons are with a block of columns at a time."""
    n = x.shape[1]
    whole = jnp.pad(x, ((0, 0), (0, -n % _BLOCK)), constant_values=jnp.inf)
    place = jnp.broadcast_to(indices(whole.shape[1]), whole.shape)
    value = jnp.minimum(whole, jnp.finfo(x.dtype).max)
    # XLA rounds subnormal numbers to zero.
    above = jnp.where(value == 0.0, jnp.finfo(x.dtype).tiny, jnp.nextafter(value, jnp.inf))
    # The columns after the last finite entry are in order.
    in_use = most_of_members(jnp.max(jnp.where(whole < jnp.inf, place + 1, 0)))

    def with_block(i, count):
        first = i * _BLOCK
        block = lax.dynamic_slice_in_dim(value, first, _BLOCK, axis=1)
        each = [block[:, j : j + 1] for j in range(_BLOCK)]
        # Of equal entries, those in earlier columns come before.
        bound = jnp.where(place >= first + _BLOCK, above, value)
        count += sum((entry < bound).astype(jnp.int32) for entry in each)
        ties = sum(((entry == block) & (indices(_BLOCK)[None] > j)).astype(jnp.int32) for j, entry in enumerate(each))
        here = lax.dynamic_slice_in_dim(count, first, _BLOCK, axis=1)
        return lax.dynamic_update_slice_in_dim(count, here + ties, first, axis=1)

    count = lax.fori_loop(0, -(-in_use // _BLOCK), with_block, jnp.zeros_like(place))
    to = indices(len(x))[:, None], jnp.where(place < in_use, count, place)
    order = jnp.zeros_like(place).at[to].set(place, unique_indices=True, mode="promise_in_bounds")[:, :n]
    return jnp.take_along_axis(x, order, axis=1, mode="promise_in_bounds"), order


# So many comparisons of each entry are one kernel.
_BLOCK = 16


def _sorted(x: Array) -> tuple[Array, Array]:
    """The rows sorted up to the rounding of the places, and their order."""
    n = x.shape[1]
    kind = jax.dtypes.canonicalize_dtype(jnp.uint64)  # with 32 bits unless JAX has 64
    index_bits = max(1, (n - 1).bit_length())
    # No more levels than the floats can count.
    level_bits = min(jnp.iinfo(kind).bits - index_bits - 1, jnp.finfo(x.dtype).nmant)
    finite = x < jnp.inf
    low = jnp.min(x, axis=1, keepdims=True)
    low = jnp.where(low < jnp.inf, low, 0.0)
    above = jnp.where(finite, x, low) - low
    extent = jnp.max(above, axis=1, keepdims=True)
    share = above / jnp.where(extent > 0, extent, 1.0)
    level = jnp.where(finite, share * (2**level_bits - 1), 2**level_bits).astype(kind)
    key = lax.sort((level << index_bits) | indices(n)[None].astype(kind), dimension=1, is_stable=False)
    order = (key & jnp.asarray(2**index_bits - 1, kind)).astype(jnp.int32)
    return jnp.take_along_axis(x, order, axis=1, mode="promise_in_bounds"), order


def _in_order(x: Array, order: Array) -> tuple[Array, Array]:
    """Swaps neighbours until the rows are in order. If that takes many passes, they are sorted as floats."""

    def is_wrong(x):
        return any_member(jnp.any(x[:, :-1] > x[:, 1:]))

    def goes_on(carry):
        x, _, passes = carry
        return is_wrong(x) & (passes < _PASSES)

    def one_pass(carry):
        x, order, passes = carry
        is_left = indices(x.shape[1])[None] % 2 == passes % 2
        after, before = _shifted(x, jnp.inf)
        swaps = jnp.where(is_left, x > after, before > x)

        def swapped(part):
            after, before = _shifted(part, 0)
            return jnp.where(swaps, jnp.where(is_left, after, before), part)

        return swapped(x), swapped(order), passes + 1

    def sorted_as_floats(x, order):
        # Equal entries are in order already, since they have the same place.
        return tuple(lax.sort((x, order), dimension=1, num_keys=1, is_stable=True))

    x, order, _ = lax.while_loop(goes_on, one_pass, (x, order, jnp.int32(0)))
    return lax.cond(is_wrong(x), sorted_as_floats, lambda *part: part, x, order)


# As many as a few entries with the same place need, and not many more.
_PASSES = 64


def _shifted(part: Array, end: float) -> tuple[Array, Array]:
    """The entries after and before each entry; `end` and `-end` beyond the ends."""
    after = jnp.pad(part[:, 1:], ((0, 0), (0, 1)), constant_values=end)
    return after, jnp.pad(part[:, :-1], ((0, 0), (1, 0)), constant_values=-end)
