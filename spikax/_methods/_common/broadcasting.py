"""A decorator that allows arrays of different ranks to be broadcast."""

import jax


# The methods broadcast as NumPy does: coefficients `(batch, units)` with states that have leading axes. This allows it
# also where the user has set `jax_numpy_rank_promotion="raise"`. As a decorator, it holds while the function is traced.
broadcasting = jax.numpy_rank_promotion("allow")
