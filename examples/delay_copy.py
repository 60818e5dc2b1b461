"""Two gated units remember a pattern, and report it after a cue.

A sample shows the pattern (1, 0) or (0, 1), as one spike in the first or in the second channel. After a delay of 50 to
150 ms the third channel, the cue, spikes; 30 ms later the answer is read. Two event-based gated recurrent units (EGRU)
listen to the channels and, after a travel of 5 ms, to each other. Two leaky integrators read their spikes: the voltage
of each is the logit of one bit. Both bits shall be 0 when the cue comes, and the pattern when the answer is read.

A unit keeps what its cell holds while its update gate is closed, as it nearly is at rest: no spike is needed to
remember. A spike of the input opens the gate for some 10 ms. The first weights are such that a pattern moves the cells,
each in a random direction, and that the cue makes both units spike, the earlier and the more often the higher the cell.

The readout rises for some 60 ms after a spike and then hardly falls. So an earlier spike counts more, as one more spike
does, and the derivative with respect to spike times also tells what a change of their number would do. With a readout
that forgets within the trial an earlier spike counts less, and training can drive the units to spike without end. For
the same reason the price of activity is the time since each spike: the number of spikes has no derivative.

    python examples/delay_copy.py
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


DELAYS = (50.0, 150.0)  # from the pattern to the cue, in ms
T_CUE, T1 = DELAYS[1], DELAYS[1] + 30.0
MAX_SPIKES = {"units": 48, "readout": 1}
PRICE = 0.05  # of activity, in units of the cross entropy


def first_network(seed: int) -> sx.Network:
    """Two units with random weights, and a readout of their spikes."""

    def columns(pattern: float, cue: float, spread: float):
        """Weights of the channels: what a spike of the pattern, and one of the cue, does on average."""
        mean = jnp.array([[pattern], [pattern], [cue]])
        return lambda key, shape: mean + spread * jax.random.normal(key, shape)

    unit = sx.EGRU(
        tau_mem=5.0,
        bias_u=jnp.full(2, -4.0),  # an open gate would forget within milliseconds, this one within 280 ms
        bias_r=jnp.zeros(2),
        synapse={port: sx.ExpSynapse(10.0) for port in ("u", "r", "z")},
    )
    weights = {"u": columns(10.0, 10.0, 0.5), "r": columns(0.0, 0.0, 0.5), "z": columns(0.0, 4.0, 1.5)}
    readout = sx.LI(20.0, bias=jnp.zeros(2), synapse=sx.ExpSynapse(1000.0))
    return sx.recurrent(
        3,
        sx.Layer(unit, 2, weights=weights, name="units"),
        sx.Layer(readout, 2, weights=sx.init.normal(0.0, 0.3), name="readout"),
        key=jax.random.key(seed),
        weights={port: sx.init.normal(0.0, 0.5) for port in ("u", "r", "z")},
        delay=5.0,
    )


class Answer(NamedTuple):
    """The logits when the cue comes, and when the answer is read, `(samples, 2 times, 2 bits)`; the units' spikes."""

    logits: jax.Array
    spikes: sx.Spikes


@eqx.filter_jit
def answer(network: sx.Network, inputs: sx.Spikes) -> Answer:
    """What a network makes of the samples."""
    ts = {"readout": jnp.array([T_CUE, T1])}
    solution = sx.simulate(network, inputs, T1, saveat=ts, max_spikes=MAX_SPIKES)
    return Answer(solution.states["readout"].v, solution.spikes["units"])


def wanted(targets: jax.Array) -> jax.Array:
    """What the logits shall say: nothing when the cue comes, then the pattern."""
    return jnp.stack([jnp.zeros_like(targets), targets], axis=1)


def accuracy(network: sx.Network, inputs: sx.Spikes, targets: jax.Array) -> float:
    """The share of the bits that are right, at both times."""
    return float(jnp.mean((answer(network, inputs).logits > 0.0) == (wanted(targets) == 1)))


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


def train(seed: int, steps: int, batch: int = 64, rate: float = 0.02) -> Training:
    """Trains a network on fresh samples in every step."""
    optimizer = optax.chain(optax.clip(0.05), optax.adam(optax.cosine_decay_schedule(rate, steps)))

    @eqx.filter_value_and_grad
    def loss(network, inputs, targets):
        logits, spikes = answer(network, inputs)
        cross_entropy = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, wanted(targets)))
        return cross_entropy + PRICE * activity(spikes)

    @eqx.filter_jit
    def step(network, state, inputs, targets):
        value, gradient = loss(network, inputs, targets)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, updates), state, value

    first = network = first_network(seed)
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    losses = []
    for number in range(steps):
        inputs, targets = sx.datasets.delay_copy(batch, 1000 * seed + number, delays=DELAYS)
        network, state, value = step(network, state, inputs, jnp.asarray(targets, jnp.float32))
        losses.append(float(value))
        if number % 50 == 0:
            print(f"step {number}: loss {losses[-1]:.3f}", flush=True)
    return Training(first, network, np.array(losses))


def draw(training: Training, path: Path) -> None:
    """What the trained network does with each pattern, 120 ms before the cue."""
    from matplotlib import pyplot

    ts = jnp.linspace(0.0, T1, 721)
    shown = jnp.array([[[30.0], [jnp.inf], [T_CUE]], [[jnp.inf], [30.0], [T_CUE]]])
    solution = sx.simulate(training.last, sx.Spikes(shown), T1, saveat=ts, max_spikes=MAX_SPIKES)
    cells, voltages = solution.states["units"].c, solution.states["readout"].v
    ink = ("#3b6fb6", "#e07b39")
    figure, axes = pyplot.subplots(
        3, 2, figsize=(8.5, 5.4), sharex=True, sharey="row", layout="constrained", height_ratios=(0.55, 1.0, 1.0)
    )
    for pattern, (inputs, units, readout) in enumerate(axes.T):
        inputs.eventplot(np.asarray(shown[pattern]), lineoffsets=[2, 1, 0], linelengths=0.7, colors=[*ink, "#26303b"])
        inputs.set_title(f"pattern {'(1, 0)' if pattern == 0 else '(0, 1)'}", fontsize=10)
        units.axhline(0.3, color="#9aa5b1", linewidth=0.8, linestyle="--")
        readout.axhline(0.0, color="#9aa5b1", linewidth=0.8, linestyle="--")
        for i, colour in enumerate(ink):
            units.plot(ts, cells[pattern, :, i], color=colour, linewidth=1.3, label=f"unit {i}")
            times = np.asarray(solution.spikes["units"].times[pattern, i])
            units.eventplot(times[np.isfinite(times)], lineoffsets=0.42 + 0.1 * i, linelengths=0.08, colors=colour)
            readout.plot(ts, voltages[pattern, :, i], color=colour, linewidth=1.3, label=f"bit {i}")
            readout.plot([T_CUE, T1], voltages[pattern, np.array([600, 720]), i], "o", color=colour, markersize=4)
    axes[0, 0].set_yticks([2, 1, 0], ["bit 0", "bit 1", "cue"])
    axes[0, 0].set_ylim(-0.6, 2.6)
    axes[1, 0].set_ylabel("cell, and spikes")
    axes[2, 0].set_ylabel("logit")
    for row in axes[1:]:
        row[0].legend(frameon=False, loc="lower left", fontsize=9, ncols=2)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("time (ms)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Two gated units learn to remember a pattern.")
    parser.add_argument("--steps", type=int, default=400, help="steps of gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights and of the training samples")
    parser.add_argument("--out", type=Path, default=Path("runs/delay-copy.png"), help="where to put the figure")
    options = parser.parse_args()

    training = train(options.seed, options.steps)
    inputs, targets = sx.datasets.delay_copy(1000, 1_000_000 + options.seed, delays=DELAYS)
    for when, network in (("before", training.first), ("after", training.last)):
        print(f"{when}: {accuracy(network, inputs, jnp.asarray(targets)):.1%} of the bits of 1000 fresh samples")
    draw(training, options.out)


if __name__ == "__main__":
    main()
