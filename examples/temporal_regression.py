"""A recurrent population learns a function: the time of an output spike, given the times of two input spikes.

The inputs spike at 0 ms and at x, between 0 and 30 ms. The target of the first output spike is

    t(x) = 5 sin(2 pi x / 10) + x + 30,

with all times in ms. The network has twenty recurrent QIF neurons. Constant currents make them oscillate at different
frequencies, so the second input arrives at a different phase of each. Weights and currents are trained by gradient
descent on the squared error of the first output spike. Spikes of QIF neurons appear and disappear only at the end of
the simulation (C. Klos, R.-M. Memmesheimer, Smooth exact gradient descent learning in spiking neural networks, 2023).
Therefore the error is continuous as long as the output spikes before the end.

    python examples/temporal_regression.py
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
from spikax import plot


# All times in ms. Recurrent delays are 3 ms, so waveform relaxation over windows of this length needs one sweep.
LATEST, T1, DELAY, STEP = 30.0, 90.0, 3.0, 1.0
NEURONS = 20
INK, PALE, BLUE, ORANGE = "#26303b", "#9aa5b1", "#3b6fb6", "#e07b39"


def target(x: jax.Array) -> jax.Array:
    """The target of the first output spike."""
    return 5.0 * jnp.sin(2.0 * jnp.pi * x / 10.0) + x + 30.0


def build(seed: int) -> sx.Network:
    """The initial network."""
    for_currents, key = jax.random.split(jax.random.key(seed))
    # Above 1/4 a neuron spikes periodically without input, here with periods of 9 ms and more.
    currents = jax.random.uniform(for_currents, (NEURONS,), minval=0.5, maxval=12.0)
    return sx.recurrent(
        2,
        sx.Layer(sx.QIF(tau_mem=10.0, bias=currents), NEURONS, weights=sx.init.normal(3.0, 3.0)),
        # The output also spikes without any input, but late.
        sx.Layer(sx.QIF(bias=jnp.array([0.6])), 1, weights=sx.init.normal(0.0, 1.0)),
        key=key,
        weights=sx.init.normal(0.0, 2.0),
        delay=DELAY,
    )


def encoded(x: jax.Array) -> sx.Spikes:
    """The input spikes, one per channel, at 0 and x."""
    return sx.Spikes(jnp.stack([jnp.zeros_like(x), x], axis=-1)[..., None])


def respond(network: sx.Network, x: jax.Array) -> sx.Solution:
    """The simulation for every x, with fixed steps."""
    capacity = {"hidden": 32, "output": 1}
    return sx.simulate(
        network, encoded(x), T1, method=sx.EventLoop(dt0=STEP), max_spikes=capacity, until=sx.FirstSpikes()
    )


@eqx.filter_jit
def response(network: sx.Network, x: jax.Array) -> jax.Array:
    """The first output spike, for every x."""
    return sx.first_spike(respond(network, x).spikes["output"])[..., 0]


def loss(network: sx.Network, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean squared and the mean absolute error. A silent output is treated as a spike at the end."""
    times = response(network, x)
    error = jnp.where(jnp.isfinite(times), times, T1) - target(x)
    return jnp.mean(error**2), jnp.mean(jnp.abs(error))


class Training(NamedTuple):
    """The initial and the trained network, and the mean absolute error at every step, in ms."""

    first: sx.Network
    last: sx.Network
    errors: np.ndarray


def train(seed: int, steps: int, samples: int = 40) -> Training:
    """Trains with Adam and a cosine decay of the learning rate to zero, with new samples of x in each step."""
    optimizer = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(optax.cosine_decay_schedule(0.1, steps)))

    @eqx.filter_jit
    def step(network, state, x):
        gradient, error = eqx.filter_grad(loss, has_aux=True)(network, x)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, updates), state, error

    first = network = build(seed)
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    rng = np.random.default_rng(seed)
    errors = []
    for number in range(1, steps + 1):
        # Stratified sampling: one x in each of `samples` equal parts of the range.
        x = (np.arange(samples) + rng.uniform(size=samples)) * (LATEST / samples)
        network, state, error = step(network, state, jnp.asarray(x, jnp.float32))
        errors.append(float(error))
        if number % 100 == 0:
            print(f"step {number}: mean absolute error {np.mean(errors[-100:]):.2f} ms", flush=True)
    return Training(first, network, np.array(errors))


def grid() -> jax.Array:
    return jnp.linspace(0.0, LATEST, 601)


def mean_absolute_error(network: sx.Network) -> float:
    """The mean absolute error on a fine grid of x, in ms. It is infinite if the output is silent for some x."""
    return float(jnp.mean(jnp.abs(response(network, grid()) - target(grid()))))


def draw(training: Training, path: Path) -> None:
    """Plots target and response, the error during training, and the spikes for two x half a period apart."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 6), layout="constrained")
    layout = figure.add_gridspec(2, 2, width_ratios=(1.0, 1.1))
    curve, progress = (figure.add_subplot(layout[row, 0]) for row in range(2))
    x = grid()
    curve.plot(x, target(x), color=ORANGE, linewidth=4, alpha=0.5, label="target")
    curve.plot(x, response(training.first, x), color=PALE, label="before training")
    error = f"after training: {mean_absolute_error(training.last):.2f} ms off"
    curve.plot(x, response(training.last, x), color=BLUE, label=error)
    curve.set(xlabel="x, the time of the second input (ms)", ylabel="first spike of the output (ms)")
    curve.legend(frameon=False)
    progress.plot(training.errors, color=INK, linewidth=0.8)
    ticks = (0.2, 0.5, 1, 2, 5)
    progress.set(xlabel="step", ylabel="mean absolute error (ms)", yscale="log", yticks=ticks, yticklabels=ticks)
    progress.minorticks_off()
    for ax in (curve, progress):
        ax.spines[["top", "right"]].set_visible(False)

    shown = jnp.array([12.5, 17.5])
    solution = respond(training.last, shown)
    for row, x in enumerate(shown):
        ax = figure.add_subplot(layout[row, 1])
        trains = [
            ("input", encoded(x)),
            ("population", solution.spikes["hidden"]),
            ("output", solution.spikes["output"]),
        ]
        layers = [
            (name, sx.Spikes(spikes.times[row] if spikes.times.ndim == 3 else spikes.times)) for name, spikes in trains
        ]
        plot.raster(layers, ax, colours=(PALE, INK, BLUE))
        ax.axvline(float(target(x)), color=ORANGE, linewidth=4, alpha=0.5, zorder=0)
        ax.set_title(f"x = {float(x):g} ms", fontsize=10)
        ax.set_xlim(-2.0, T1)  # the first input spikes at 0
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A population learns when to spike.")
    parser.add_argument("--steps", type=int, default=1200, help="steps of gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, and of the x in each step")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/temporal-regression.png"), help="where to put the figure"
    )
    options = parser.parse_args()

    training = train(options.seed, options.steps)
    for when, network in (("before", training.first), ("after", training.last)):
        print(f"mean absolute error {when} training: {mean_absolute_error(network):.2f} ms")
    draw(training, options.out)


if __name__ == "__main__":
    main()
