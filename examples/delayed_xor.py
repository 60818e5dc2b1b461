"""Gated units remember a bit until a second one comes, and report after a cue whether they differ.

A sample shows two bits, each as a pulse of spikes of 30 to 50 ms in the first or in the second channel. A delay of 100
to 150 ms follows each. Then the third channel, the cue, has a pulse; 30 ms after its start the answer is read: the
exclusive or of the bits (delayed-memory XOR, Huh and Sejnowski 2018). Event-based gated recurrent units (EGRU) listen
to the channels and, after a travel of 10 ms, to each other. A leaky integrator reads their spikes: its voltage is the
logit of the answer.

A unit keeps what its cell holds while its update gate is closed, as it nearly is at rest; a pulse of the input opens
it. The first weights are such that a bit moves the cells a little, each in a random direction, and that the cue makes
all units spike. Readout and price of activity are those of `delay_copy.py`, for the reasons given there. Units lower
the target z of each other and never raise it, so that no activity sustains itself.

    python examples/delayed_xor.py
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import spikax as sx


UNITS = 8
DELAYS, LENGTHS = (100.0, 150.0), (30.0, 50.0)  # in ms
T_CUE = 2 * (DELAYS[1] + LENGTHS[1])
T1 = T_CUE + 30.0
MAX_SPIKES = {"units": 64, "readout": 1}
PRICE = 0.1  # of activity, in units of the cross entropy


def samples(n: int, seed: int) -> tuple[sx.Spikes, jax.Array]:
    """Inputs and targets."""
    inputs, targets = sx.datasets.delayed_xor(n, seed, delays=DELAYS, lengths=LENGTHS, interval=10.0)
    return inputs, jnp.asarray(targets, jnp.float32)


def first_network(seed: int) -> sx.Network:
    """Units with random weights, and a readout of their spikes."""

    def columns(bit: float, bit_spread: float, cue: float, cue_spread: float):
        """Weights of the channels, of both bits and of the cue: their means, and how they differ between units."""
        mean, spread = jnp.array([[bit], [bit], [cue]]), jnp.array([[bit_spread], [bit_spread], [cue_spread]])
        return lambda key, shape: mean + spread * jax.random.normal(key, shape)

    unit = sx.EGRU(
        tau_mem=5.0,
        bias_u=jnp.full(UNITS, -4.0),  # an open gate would forget within milliseconds, this one within 280 ms
        bias_r=jnp.zeros(UNITS),
        synapse={port: sx.ExpSynapse(10.0) for port in ("u", "r", "z")},
    )
    weights = {"u": columns(1.5, 0.7, 5.0, 0.7), "r": sx.init.normal(0.0, 0.5), "z": columns(0.0, 1.5, 2.0, 0.5)}
    readout = sx.LI(20.0, bias=jnp.zeros(1), synapse=sx.ExpSynapse(1000.0))

    def balanced(key, shape):
        """Weights whose sum is zero: at first all units spike alike, and shall not push the logit to one side."""
        drawn = 0.5 * jax.random.normal(key, shape)
        return drawn - jnp.mean(drawn)

    def inhibition(key, shape):
        """Weights that stay negative: units that excited each other would go on without an input."""
        return sx.Signed(-0.3 * jnp.abs(jax.random.normal(key, shape)), -jnp.ones(shape))

    return sx.recurrent(
        3,
        sx.Layer(unit, UNITS, weights=weights, name="units"),
        sx.Layer(readout, 1, weights=balanced, name="readout"),
        key=jax.random.key(seed),
        weights={"u": sx.init.normal(0.0, 0.3), "r": sx.init.normal(0.0, 0.3), "z": inhibition},
        delay=10.0,
    )


class Answer(NamedTuple):
    """The logit of each sample when the answer is read, and the units' spikes."""

    logits: jax.Array
    spikes: sx.Spikes


@eqx.filter_jit
def answer(network: sx.Network, inputs: sx.Spikes) -> Answer:
    """What a network makes of the samples."""
    solution = sx.simulate(network, inputs, T1, saveat={"readout": jnp.array([T1])}, max_spikes=MAX_SPIKES)
    return Answer(solution.states["readout"].v[:, 0, 0], solution.spikes["units"])


def accuracy(network: sx.Network, inputs: sx.Spikes, targets: jax.Array) -> float:
    """The share of the samples that are answered right."""
    return float(jnp.mean((answer(network, inputs).logits > 0.0) == (targets == 1)))


def activity(spikes: sx.Spikes) -> jax.Array:
    """The time since each spike, added up, as a share of the duration: the mean over units and samples."""
    happened = jnp.isfinite(spikes.times)
    since = jnp.where(happened, T1 - jnp.where(happened, spikes.times, T1), 0.0)
    return jnp.mean(jnp.sum(since, axis=-1)) / T1


class Training(NamedTuple):
    """The networks before and after, and the loss at every step."""

    first: sx.Network
    last: sx.Network
    losses: np.ndarray


def train(seed: int, steps: int, batch: int = 32, rate: float = 0.025) -> Training:
    """Trains a network on fresh samples in every step."""
    optimizer = optax.chain(optax.clip(0.1), optax.adam(optax.cosine_decay_schedule(rate, steps)))

    @eqx.filter_value_and_grad
    def loss(network, inputs, targets):
        logits, spikes = answer(network, inputs)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets)) + PRICE * activity(spikes)

    @eqx.filter_jit
    def step(network, state, inputs, targets):
        value, gradient = loss(network, inputs, targets)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, updates), state, value

    first = network = first_network(seed)
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    losses = []
    for number in range(steps):
        network, state, value = step(network, state, *samples(batch, 1000 * seed + number))
        losses.append(float(value))
        if number % 50 == 0:
            print(f"step {number}: loss {losses[-1]:.3f}", flush=True)
    return Training(first, network, np.array(losses))


def draw(training: Training, path: Path) -> None:
    """What the trained network does with one fresh sample of every pair of bits."""
    from matplotlib import pyplot

    inputs, targets = samples(64, 2_000_000)
    first = np.asarray(inputs.times[:, 1, 0] < inputs.times[:, 0, 0]).astype(int)
    second = first ^ np.asarray(targets, int)
    shown = inputs.times[np.array([np.flatnonzero((first == b) & (second == c))[0] for b in (0, 1) for c in (0, 1)])]
    ts = jnp.linspace(0.0, T1, 861)
    solution = sx.simulate(training.last, sx.Spikes(shown), T1, saveat=ts, max_spikes=MAX_SPIKES)
    cells, logits = solution.states["units"].c, np.asarray(solution.states["readout"].v[..., 0])
    ink, colours = "#26303b", ("#3b6fb6", "#e07b39", "#4f9d69", "#a65a9e", "#c9a227", "#6b7280", "#2a9d9d", "#c2476b")
    figure, axes = pyplot.subplots(
        4, 4, figsize=(11, 6), sharex=True, sharey="row", layout="constrained", height_ratios=(0.5, 1.1, 0.7, 0.8)
    )
    for pair, (channels, held, spikes, readout) in enumerate(axes.T):
        trains = [train[np.isfinite(train)] for train in np.asarray(shown[pair])]
        channels.eventplot(trains, lineoffsets=[2, 1, 0], linelengths=0.7, colors=ink)
        channels.set_title(f"bits {pair // 2} and {pair % 2}, answer {(pair // 2) ^ (pair % 2)}", fontsize=10)
        held.axhline(0.3, color="#9aa5b1", linewidth=0.8, linestyle="--")
        for unit in range(UNITS):
            held.plot(ts, cells[pair, :, unit], color=colours[unit], linewidth=1.0)
        trains = [train[np.isfinite(train)] for train in np.asarray(solution.spikes["units"].times[pair])]
        spikes.eventplot(trains, lineoffsets=range(UNITS), linelengths=0.7, colors=colours[:UNITS])
        readout.axhline(0.0, color="#9aa5b1", linewidth=0.8, linestyle="--")
        readout.plot(ts, logits[pair], color=ink, linewidth=1.3)
        readout.plot(T1, logits[pair, -1], "o", color=ink, markersize=4, clip_on=False)
    axes[0, 0].set_yticks([2, 1, 0], ["bit 0", "bit 1", "cue"])
    axes[0, 0].set_ylim(-0.6, 2.6)
    for row, name in zip(axes[1:], ("cells", "spikes", "logit"), strict=True):
        row[0].set_ylabel(name)
    axes[2, 0].set_yticks([])
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("time (ms)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Gated units learn delayed-memory XOR.")
    parser.add_argument("--steps", type=int, default=1200, help="steps of gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the training samples")
    parser.add_argument("--out", type=Path, default=Path("runs/delayed-xor.png"), help="where to put the figure")
    options = parser.parse_args()

    training = train(options.seed, options.steps)
    inputs, targets = samples(1000, 1_000_000 + options.seed)
    for when, network in (("before", training.first), ("after", training.last)):
        print(f"{when}: {accuracy(network, inputs, targets):.1%} of 1000 fresh samples")
    draw(training, options.out)


if __name__ == "__main__":
    main()
