"""One neuron learns XOR, with two positive weights.

The dendrite of a neuron receives two inputs. Each input is silent or spikes once at 5 ms. The neuron should spike if
and only if exactly one of them spikes. A neuron that sums its inputs can be correct in at most three of the four cases.

The dendrite has the calcium action potential of human cortical neurons (Gidon et al., Science 367, 2020). Its strength
is largest right above its threshold: one input triggers a strong action potential, both inputs a weak one. Gradient
descent finds the two weights, with exact gradients through the events in the dendrite.

The soma spikes if and only if its voltage, simulated without spikes, rises above the threshold. The neuron is therefore
trained without spikes: the loss is the cross entropy with the maximal voltage as the logit. The accuracy is measured
with spikes. The neurons of the layer are independent runs with different initial weights.

    python examples/dendritic_xor.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import spikax as sx


V_REST, V_THRESHOLD = -75.0, -57.0  # of the soma, in mV
T1 = 60.0
INPUTS = sx.Spikes(jnp.array([[[t1], [t2]] for t1 in (jnp.inf, 5.0) for t2 in (jnp.inf, 5.0)]))
TARGETS = jnp.array([False, True, True, False])
CASES = ("neither", "second", "first", "both")

# With a weight of 224, one input triggers an action potential. Far above, it is so weak that gradient descent raises
# one weight and lowers the other: such runs end with a neuron that is always silent.
NEAR = 300.0

# With and without spikes.
SOMA = sx.LIF(15.0, V_REST, V_THRESHOLD, V_REST), sx.LI(15.0, V_REST)


def dendritic(weight: jax.Array, spikes: bool = True) -> sx.Network:
    """Neurons with a calcium dendrite that receives the inputs."""
    dendrite = sx.CalciumDendrite(amplitude=600.0, t_read=2.0, t_fall=23.0)
    neuron = sx.MultiCompartment(
        SOMA[0] if spikes else SOMA[1],
        {"dendrite": sx.Dendrite(dendrite, coupling=0.1, parent_coupling=0.5)},
        synapse={"dendrite": sx.ExpSynapse(3.0)},
    )
    return _network(neuron, {"dendrite": weight})


def point(weight: jax.Array, spikes: bool = True) -> sx.Network:
    """Neurons without a dendrite. The soma receives the inputs."""
    return _network(SOMA[0] if spikes else SOMA[1], weight)


def _network(neuron: sx.AbstractNeuron, weight: Any) -> sx.Network:
    layer = sx.Layer(neuron, jax.tree.leaves(weight)[0].shape[1])
    return sx.Network({"output": layer}, [sx.Dense("input", "output", weight)], 2, "output")


def voltages(network: sx.Network, ts: jax.Array) -> Any:
    """The states at the times `ts`, of shape `(cases, times, neurons)`."""
    return sx.simulate(network, INPUTS, T1, saveat=ts, method=sx.EventLoop(dt0=1.0)).states["output"]


def soma_of(state: Any) -> jax.Array:
    """The voltage of the soma."""
    return (state["soma"] if isinstance(state, dict) else state).v


def accuracy(make: Callable, weight: jax.Array) -> np.ndarray:
    """The fraction of the four cases in which each neuron spikes correctly."""
    count = sx.simulate(make(weight), INPUTS, T1, method=sx.EventLoop(dt0=1.0), max_spikes=64).spikes["output"].count
    return np.asarray(jnp.mean((count > 0) == TARGETS[:, None], axis=0))


class Training(NamedTuple):
    """The initial and final weights, of shape `(2, neurons)`, and the loss of every neuron at every step."""

    first: jax.Array
    last: jax.Array
    losses: np.ndarray


def train(make: Callable, first: jax.Array, steps: int, rate: float = 0.1) -> Training:
    """Trains all neurons independently. The logarithms of their weights are trained, so weights stay positive."""
    ts = jnp.arange(5.0, T1, 1.0)

    def loss(logarithms):
        highest = jnp.max(soma_of(voltages(make(jnp.exp(logarithms), spikes=False), ts)), axis=1)
        losses = jnp.mean(optax.sigmoid_binary_cross_entropy(highest - V_THRESHOLD, TARGETS[:, None]), axis=0)
        return jnp.sum(losses), losses

    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    @jax.jit
    def step(logarithms, state):
        (_, losses), gradient = jax.value_and_grad(loss, has_aux=True)(logarithms)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(logarithms, updates), state, losses

    logarithms, history = jnp.log(first), []
    state = optimizer.init(logarithms)
    for _ in range(steps):
        logarithms, state, losses = step(logarithms, state)
        history.append(np.asarray(losses))
    return Training(first, jnp.exp(logarithms), np.stack(history))


def report(name: str, make: Callable, training: Training) -> np.ndarray:
    """Prints losses and accuracies before and after training. Returns the accuracies after training."""
    before, after = accuracy(make, training.first), accuracy(make, training.last)
    print(f"{name}: loss {np.median(training.losses[0]):.2f} -> {np.median(training.losses[-1]):.3f} (medians)")
    for when, found in (("before", before), ("after", after)):
        shares = ", ".join(f"{np.sum(found == share)} at {share:.0%}" for share in np.unique(found))
        print(f"  {when}: {shares} of the four cases")
    return after


def draw(training: Training, neuron: int, path: Path) -> None:
    """Plots the voltages of one neuron in all four cases, before and after training."""
    from matplotlib import pyplot

    ts = jnp.linspace(0.0, T1, 481)
    one, ink = slice(neuron, neuron + 1), ("#3b6fb6", "#e07b39")
    figure, axes = pyplot.subplots(2, 4, figsize=(10, 4.6), sharex=True, sharey=True, layout="constrained")
    for row, (when, weight) in enumerate((("before", training.first), ("after", training.last))):
        state = voltages(dendritic(weight[:, one]), ts)
        spikes = np.asarray(dendritic(weight[:, one])(INPUTS, T1, method=sx.EventLoop(dt0=1.0), max_spikes=64).times)[
            :, 0
        ]
        for case, (ax, name) in enumerate(zip(axes[row], CASES, strict=True)):
            times = spikes[case][np.isfinite(spikes[case])]
            ax.axhline(V_THRESHOLD, color="#9aa5b1", linewidth=0.8, linestyle="--", label="threshold of the soma")
            ax.plot(ts, state["dendrite"].v[case, :, 0], color=ink[1], linewidth=1.2, label="dendrite")
            ax.plot(ts, state["soma"].v[case, :, 0], color=ink[0], linewidth=1.4, label="soma")
            ax.vlines(times, V_THRESHOLD, 20.0, color=ink[0], linewidth=1.4)
            right = (len(times) > 0) == bool(TARGETS[case])
            verdict = f"{'spikes' if len(times) else 'silent'}, {'right' if right else 'wrong'}"
            ax.text(0.97, 0.94, verdict, transform=ax.transAxes, ha="right", va="top", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
            if row == 0:
                ax.set_title("neither input" if case == 0 else f"{name} input{'s' if case == 3 else ''}", fontsize=10)
        axes[row, 0].set_ylabel(f"{when} training\nvoltage (mV)")
    axes[0, 0].set_ylim(top=100.0)  # room for text
    axes[0, 0].legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, 0.86), fontsize=9)
    figure.supxlabel("time (ms)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def first_weights(seed: int, runs: int, low: float, high: float) -> jax.Array:
    """Random initial weights, of shape `(2, runs)`."""
    return jax.random.uniform(jax.random.key(seed), (2, runs), minval=low, maxval=high)


def main() -> None:
    parser = argparse.ArgumentParser(description="One neuron learns XOR.")
    parser.add_argument("--runs", type=int, default=32, help="how many neurons, each from its own first weights")
    parser.add_argument("--steps", type=int, default=60, help="steps of gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument("--out", type=Path, default=Path("runs/dendritic-xor.png"), help="where to put the figure")
    options = parser.parse_args()

    # From weights with which one input stays below the threshold of the dendrite, to weights far above.
    training = train(dendritic, first_weights(options.seed, options.runs, 100.0, 400.0), options.steps)
    after = report("calcium dendrite", dendritic, training)
    near = np.asarray(jnp.max(training.first, axis=0)) < NEAR
    for where, chosen in ((f"both first weights below {NEAR:g}", near), ("others", ~near)):
        print(f"  learned, {where}: {np.sum(after[chosen] == 1.0)} of {np.sum(chosen)} runs")
    # The range contains weights with which one input, both inputs, or neither reach the threshold of the soma.
    report("no dendrite", point, train(point, first_weights(options.seed, options.runs, 20.0, 200.0), options.steps))
    before = accuracy(dendritic, training.first)
    shown = np.flatnonzero((after == 1.0) & (before < 1.0))
    draw(training, int(shown[0]) if len(shown) else 0, options.out)


if __name__ == "__main__":
    main()
