"""The mean loss of a batch and its gradient, on one device or many."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, PyTree

from .._checks import require
from ._objective import measured, Objective, require_successful
from ._replicas import Devices, DIVIDED, in_all_processes, Replicas, WHOLE


def value_and_grad(
    objective: Objective, *, trainable: PyTree = eqx.is_inexact_array, devices: Devices = None
) -> Callable[[Any, Any, Any], tuple[dict[str, Array], PyTree]]:
    r"""A function for the mean of an objective over a batch, and its gradient, for a training loop of your own.

    ```python
    value_and_grad = sx.train.value_and_grad(objective, devices=4)
    for inputs, targets in data.epoch(1):
        means, gradient = value_and_grad(network, inputs, targets)
        updates, state = optimizer.update(gradient, state)
        network = eqx.apply_updates(network, updates)
    ```

    With $n$ samples on $d$ devices, device $k$ simulates a share $B_k$ of the batch with its own copy of the network.
    The results are summed once, at the end:

    $$ \bar L = \frac{1}{n} \sum_{k=1}^{d} \sum_{i \in B_k} L_i, \qquad
       \nabla \bar L = \frac{1}{n} \sum_{k=1}^{d} \nabla \sum_{i \in B_k} L_i. $$

    If $n$ is not divisible by $d$, shares are filled up with copies of a sample, which do not count. So the result does
    not depend on the number of devices, up to rounding.

    **Arguments:**

    - `objective`: as in [`spikax.train.fit`][]. The result for a sample must not depend on the other samples.
    - `trainable`: as in [`spikax.train.fit`][].
    - `devices`: the devices that share each batch: their number, for the first of `jax.devices()`, or a list of them.
      With several processes, each calls the function with its share of the batch, and gets the results for the whole
      batch. By default the batch is not divided, and is simulated where its arrays lie.

    **Returns:** a function `(network, inputs, targets) -> (means, gradient)`. The means are a dictionary of the loss,
    `"loss"`, and the measures. The gradient has the structure of the network, None for what is not trained, and lies
    where the network lies. The function is compiled; call it outside of `jax.jit`.

    **Raises:** `TypeError` or `ValueError` for invalid arguments. A run-time error of a simulation names the sample,
    from 0, in the batch of all processes, and is raised in all processes.
    """
    require(callable(objective), "objective", "a function", objective, error=TypeError)
    replicas = Replicas.on(devices)

    def function(network: Any, inputs: Any, targets: Any) -> tuple[dict[str, Array], PyTree]:
        _require_known((network, inputs, targets))
        learning, rest = eqx.partition(network, spec_of(network, trainable))
        placed = replicas.placed((learning, rest))

        def run(batch):
            sums, results = _sums(*placed, objective, replicas, *replicas.divided(batch))
            require_successful(results)
            return sums

        sums = in_all_processes(run, (inputs, targets), replicas)
        means, gradient = replicas.here(_means(replicas, replicas.joined(sums)))
        if replicas.every is None:
            return means, gradient
        return means, jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), gradient, learning)

    return function


def spec_of(network: Any, trainable: PyTree) -> PyTree[bool]:
    """A pytree that is True for each trained array."""
    try:
        chosen = eqx.filter(network, trainable, replace=False)
    except ValueError:
        hint = "Apply `eqx.tree_at` to `jax.tree.map(lambda _: False, network)`."
        require(False, "trainable", "a filter with the structure of the network", trainable, hint)
        raise
    spec = jax.tree.map(eqx.is_inexact_array, chosen)
    hint = "Python numbers are constants. Use an array, as in `sx.LIF(bias=jnp.asarray(0.0))`."
    is_some = any(jax.tree.leaves(spec))
    require(is_some, "trainable", "a filter that selects a floating-point array of JAX", trainable, hint)
    return spec


@eqx.filter_jit
def _sums(learning: PyTree, rest: PyTree, objective: Objective, replicas: Replicas, batch: PyTree, real: Any) -> PyTree:
    """For each device the sums of loss and measures, the gradient of the former, and the number of samples.

    Then, for each sample, how its simulation ended.

    This has no collective, so each device goes through its own loops, and an error on one leaves no other waiting.
    """
    arrays, constants = eqx.partition(rest, eqx.is_array)

    def each(learning, arrays, batch, real):
        @eqx.filter_grad(has_aux=True)
        def total(learning):
            measures, results = measured(eqx.combine(learning, arrays, constants), objective, *batch)
            sums = {name: jnp.sum(jnp.where(real, x, jnp.zeros_like(x))) for name, x in measures.items()}
            return sums["loss"], (sums, results)

        gradient, (sums, results) = total(learning)
        return jax.tree.map(lambda leaf: leaf[None], (sums, gradient, jnp.sum(real))), results

    return replicas.over(each, WHOLE, WHOLE, DIVIDED, DIVIDED)(learning, arrays, batch, real)


@eqx.filter_jit
def _means(replicas: Replicas, sums: PyTree) -> tuple[dict[str, Array], PyTree]:
    """The means of loss and measures, and the gradient of the mean loss, over all devices."""
    sums, gradient, samples = replicas.summed(sums)
    return jax.tree.map(lambda leaf: leaf / samples.astype(leaf.dtype), (sums, gradient))


def _require_known(tree: PyTree) -> None:
    is_known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
    hint = "The function of `sx.train.value_and_grad` is compiled itself."
    require(is_known, "network", "called outside of `jax.jit`, like the batch", "a traced array", hint)
