"""What derivatives cost: forward mode, reverse mode, the continuous adjoint, and ensembles of networks.

    python benchmarks/derivatives.py [parameters] [steps] [ensembles]

Prints tables, by default all of them. Networks and inputs are random, and the loss is the sum of all spike times. Times
are medians over seeds, in float32. The memory is that of the temporary arrays of the compiled function, as XLA states
it, in MiB.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tables import main, row, title

import spikax as sx


SEEDS = 5
CHANNELS, NEURONS, BATCH, T1 = 10, 100, 8, 30.0


def compiled(function: Callable, draw: Callable[[int], Any]) -> Any:
    """The compiled function, after a first call. `draw` gives the arguments of a seed."""
    call = jax.jit(lambda *arguments: function(*arguments)).lower(*draw(0)).compile()
    jax.block_until_ready(call(*draw(0)))
    return call


def seconds(call: Callable, arguments: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call(*arguments))
    return time.perf_counter() - start


def cost(function: Callable, draw: Callable[[int], Any]) -> tuple[float, float]:
    """The median time of a call in seconds, and the memory in MiB."""
    call = compiled(function, draw)
    memory = call.memory_analysis().temp_size_in_bytes / 2**20
    return statistics.median(seconds(call, draw(seed)) for seed in range(SEEDS)), memory


def cell(seconds: float, memory: float) -> str:
    return f"{milliseconds(seconds)}, {memory:.2g} MiB" if memory < 10 else f"{milliseconds(seconds)}, {memory:.0f} MiB"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1.0 else f"{1e3 * seconds:.0f} ms"


def total(solution: sx.Solution) -> jax.Array:
    """The sum of all spike times."""
    times = [spikes.times for spikes in solution.spikes.values()]
    return sum((jnp.sum(jnp.where(jnp.isfinite(t), t, 0.0)) for t in times), jnp.zeros(()))


def parameters() -> None:
    """The gradient by some of the 1000 weights of a layer of 100 neurons, with 10 inputs, batch 8."""
    title(["neurons", "parameters", "simulation", "`ForwardMode`", "`DiscreteAdjoint`", "`EventPropAdjoint`"])

    def draw(number):
        def drawn(seed):
            rng = np.random.default_rng(seed)
            weights = rng.uniform(0.0, 2.0, CHANNELS * NEURONS).astype(np.float32)
            times = np.sort(rng.uniform(0.0, T1, (BATCH, CHANNELS, 2))).astype(np.float32)
            return jnp.asarray(weights[:number]), jnp.asarray(weights), jnp.asarray(times)

        return drawn

    for name, neuron in {"LIF, closed form": sx.LIF(), "QIF, event loop": sx.QIF()}.items():

        def value(first, weights, times, adjoint=None, neuron=neuron):
            weight = weights.at[: len(first)].set(first).reshape(CHANNELS, NEURONS)
            layers, connections = {"output": sx.Layer(neuron, NEURONS)}, [sx.Dense("input", "output", weight)]
            network = sx.Network(layers, connections, CHANNELS, "output")
            return total(sx.simulate(network, sx.Spikes(times), T1, max_spikes=16, adjoint=adjoint))

        def by(adjoint, derivative, value=value):
            return derivative(lambda *arguments: value(*arguments, adjoint=adjoint))

        simulation = cell(*cost(value, draw(1)))
        for number in (1, 10, 1000):
            forward = cell(*cost(by(sx.ForwardMode(), jax.jacfwd), draw(number)))
            reverse = cell(*cost(by(sx.DiscreteAdjoint(), jax.grad), draw(number)))
            is_loop = name.startswith("QIF")
            continuous = cell(*cost(by(sx.EventPropAdjoint(), jax.grad), draw(number))) if is_loop else "the same"
            row([name, f"{number}", simulation, forward, reverse, continuous])


def steps() -> None:
    """The gradient of 100 QIF neurons that spike five times by their bias, batch 8, with fixed steps."""
    title(["steps between spikes", "`DiscreteAdjoint`, all stored", "`DiscreteAdjoint()`", "`EventPropAdjoint()`"])
    nothing = sx.Spikes(jnp.full((BATCH, 1, 1), jnp.inf))

    def draw(seed):
        return (jnp.asarray(np.random.default_rng(seed).uniform(0.5, 0.6, NEURONS).astype(np.float32)),)

    def simulated(bias, t1, **options):
        layer = sx.Layer(sx.QIF(bias=bias), NEURONS)
        network = sx.Network({"output": layer}, [sx.Dense("input", "output", jnp.zeros((1, NEURONS)))], 1, "output")
        return sx.simulate(network, nothing, t1, max_spikes=16, **options)

    times = simulated(*draw(0), 400.0, throw=False).spikes["output"].times
    interval = float(jnp.mean(times[..., 1] - times[..., 0]))
    for number in (10, 100, 1000):
        limit = 8 * number + 64
        method = sx.EventLoop(diffrax.Tsit5(), dt0=interval / number, max_steps=limit)
        cells = []
        for adjoint in (sx.DiscreteAdjoint(memory=2**40), sx.DiscreteAdjoint(), sx.EventPropAdjoint()):

            def value(bias, adjoint=adjoint, method=method):
                return total(simulated(bias, 5.5 * interval, method=method, adjoint=adjoint))

            cells.append(cell(*cost(jax.grad(value), draw)))
        row([f"{number}", *cells])


def ensembles() -> None:
    """The gradient of 8 networks 5-120-3, batch 32, beside that of one network with 8 times the batch."""
    title(["neurons", "one network, batch 256", "8 networks, batch 32", "ratio"])
    members, batch = 8, 32

    def draw(seed):
        rng = np.random.default_rng(seed)
        return jnp.asarray(np.sort(rng.uniform(0.0, T1, (members, batch, 5, 2))).astype(np.float32))

    for name, neuron in {"LIF, closed form": sx.LIF(), "QIF, event loop": sx.QIF()}.items():

        def network(key, neuron=neuron):
            hidden = sx.Layer(neuron, 120, weights=sx.init.uniform(0.0, 3.0))
            return sx.sequential(5, hidden, sx.Layer(neuron, 3, weights=sx.init.uniform(0.0, 0.2)), key=key)

        @eqx.filter_grad
        def gradient(network, times):
            return total(sx.simulate(network, sx.Spikes(times), T1, max_spikes=16))

        keys = jax.random.split(jax.random.key(0), members)
        one, several = network(keys[0]), eqx.filter_vmap(network)(keys)

        def drawn(seed, one=one):
            return one, draw(seed).reshape(members * batch, 5, 2)

        def all_drawn(seed, several=several):
            return several, draw(seed)

        calls = compiled(gradient, drawn), compiled(eqx.filter_vmap(gradient), all_drawn)
        # In turns, since other programs may run.
        pairs = [(seconds(calls[0], drawn(seed)), seconds(calls[1], all_drawn(seed))) for seed in range(2 * SEEDS)]
        alone, together = map(statistics.median, zip(*pairs, strict=True))
        row([name, milliseconds(alone), milliseconds(together), f"**{together / alone:.2f}**"])


if __name__ == "__main__":
    main({"parameters": parameters, "steps": steps, "ensembles": ensembles}, __doc__)
