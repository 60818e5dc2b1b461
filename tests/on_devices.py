"""Simulations with samples on four devices; see test_reliability.py."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import spikax as sx


network = sx.sequential(5, sx.Layer(sx.LIF(), 8, weights=sx.init.normal(2.0, 1.0)), key=jax.random.key(0))
times = jnp.asarray(np.sort(np.random.default_rng(0).uniform(0.0, 20.0, (8, 5, 2)), axis=-1), jnp.float32)
weights, static = eqx.partition(network, eqx.is_array)


def loss(weights, times, throw=False, max_spikes=32):
    solution = sx.simulate(eqx.combine(weights, static), sx.Spikes(times), 30.0, max_spikes=max_spikes, throw=throw)
    found = sx.first_spike(solution.spikes["output"])
    return jnp.sum(jnp.where(jnp.isfinite(found), found, 0.0))


def over(mesh, **options):
    def each(weights, times):
        return jax.lax.psum(jax.value_and_grad(loss)(weights, times, **options), "batch")

    return each, {"mesh": mesh, "in_specs": (P(), P("batch")), "out_specs": (P(), P())}


def refusal(function, *arguments):
    try:
        jax.block_until_ready(function(*arguments))
    except (ValueError, RuntimeError) as error:
        return str(error)
    raise AssertionError("no error")


assert len(jax.devices()) == 4
automatic = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
explicit = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
expected = jax.jit(jax.value_and_grad(loss))(weights, times)

each, options = over(automatic)
found = jax.jit(jax.shard_map(each, **options, check_vma=False))(weights, times)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
sharded = jax.device_put(times, NamedSharding(automatic, P("batch")))
found = jax.jit(jax.value_and_grad(loss))(weights, sharded)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)

assert "check_vma=False" in refusal(jax.jit(jax.shard_map(each, **options)), weights, times)
each, options = over(automatic, throw=True)
assert "`throw` must be False" in refusal(jax.jit(jax.shard_map(each, **options, check_vma=False)), weights, times)
assert "`throw` must be False" in refusal(jax.jit(lambda w, t: loss(w, t, throw=True)), weights, sharded)
assert "explicit axes" in refusal(loss, weights, jax.device_put(times, NamedSharding(explicit, P("batch"))))
assert "Raise `max_spikes`" in refusal(lambda w, t: loss(w, t, throw=True, max_spikes=1), weights, sharded)
