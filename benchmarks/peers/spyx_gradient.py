"""Times a gradient of Spyx 1.0.0, in discrete time with a surrogate gradient, on a 5-HIDDEN-3 network.

Runs in an environment of its own, with `pip install spyx==1.0.0`:

    python spyx_gradient.py HIDDEN BATCH STEPS
"""

import json
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import spyx
from flax import nnx


def main(hidden: int, batch: int, steps: int, repeats: int = 21) -> None:
    network = spyx.nn.Sequential(
        nnx.Linear(5, hidden, rngs=nnx.Rngs(0)),
        spyx.nn.CuBaLIF((hidden,), rngs=nnx.Rngs(1)),
        nnx.Linear(hidden, 3, rngs=nnx.Rngs(2)),
        spyx.nn.LI((3,), rngs=nnx.Rngs(3)),
    )
    inputs = (jax.random.uniform(jax.random.PRNGKey(0), (steps, batch, 5)) < 0.1).astype(jnp.float32)
    gradient = nnx.jit(nnx.value_and_grad(lambda network, x: jnp.mean(spyx.nn.run(network, x)[0] ** 2)))

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(gradient(network, inputs))
        return time.perf_counter() - start

    first = once()
    print(json.dumps(dict(first=first, gradient=statistics.median(once() for _ in range(repeats)))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
