"""Trains baselines on the spoken digits, and prints a row of a table for each model and seed.

    python benchmarks/spoken_digits_baselines.py DIRECTORY [--models linear lif gru] [--step 10] [--hidden 128]

`DIRECTORY` has the files of `spoken_digits.py`. The models are not event-based:

- `linear`: logistic regression on the logarithms of the spike counts of each channel, `log(1 + n)`. It knows no times.
- `lif`: a recurrent network of leaky integrate-and-fire neurons in steps of `--step` ms, with surrogate gradients
  (`surrogate.py`), of `tau_s` = 10 ms and `tau_m` = 20 ms. Inputs are the counts of spikes in each step. The logits are
  the maxima over time of leaky readouts with the same time constants.
- `gru`: a recurrent network of gated units that do not spike, on the same counts; the logits are linear in the mean of
  its states.

The epoch is chosen by validation. Then the test set is read once. A training that is interrupted continues when the
command is repeated. `--out` has the checkpoints and a `result.json` each.
"""

import argparse
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from against_eventax import machine
from surrogate import Decays, Leaky
from tables import row, title

import spikax as sx
from spikax import train
from spikax.datasets import Loader, Split


CLASSES, DURATION = 20, 1000.0
TAU_S, TAU_M = 10.0, 20.0


def binned(events: sx.Events, step: float) -> jax.Array:
    """The spikes of each channel in steps of `step` ms, of shape `(batch, steps, n)`."""

    def one(times, channels):
        # Times of inf are beyond the last step, and dropped.
        steps = jnp.where(times < DURATION, times / step, jnp.inf)
        rows = jnp.minimum(steps, round(DURATION / step)).astype(int)
        return jnp.zeros((round(DURATION / step), events.n)).at[rows, channels].add(1.0, mode="drop")

    return jax.vmap(one)(events.times, events.channels)


def normal(key: jax.Array, n_in: int, n_out: int, scale: float = 1.0) -> jax.Array:
    return scale / np.sqrt(n_in) * jr.normal(key, (n_in, n_out))


class Linear(eqx.Module):
    """Logistic regression on counts."""

    weight: jax.Array
    bias: jax.Array

    def __init__(self, n: int, options: argparse.Namespace):
        self.weight, self.bias = jnp.zeros((n, CLASSES)), jnp.zeros(CLASSES)

    def __call__(self, events: sx.Events) -> tuple[jax.Array, jax.Array]:
        counts = binned(events, DURATION)[:, 0]
        return jnp.log1p(counts) @ self.weight + self.bias, jnp.zeros(len(counts))


class SurrogateLIF(eqx.Module):
    """A recurrent layer of LIF neurons in discrete time, and leaky readouts."""

    inputs: jax.Array
    recurrent: jax.Array
    outputs: jax.Array
    step: float = eqx.field(static=True)

    def __init__(self, n: int, options: argparse.Namespace):
        keys = jr.split(jr.key(options.seed), 3)
        # A channel has spikes at about a tenth of the times.
        self.inputs = normal(keys[0], n, options.hidden, 2.0)
        self.recurrent = normal(keys[1], options.hidden, options.hidden, 0.5)
        self.outputs = normal(keys[2], options.hidden, CLASSES)
        self.step = options.step

    def __call__(self, events: sx.Events) -> tuple[jax.Array, jax.Array]:
        decay = Decays.of(self.step, TAU_M, TAU_S)
        currents = jnp.swapaxes(binned(events, self.step) @ self.inputs, 0, 1)

        def advance(state, current):
            hidden, s, readout, largest, spikes = state
            hidden, s = hidden.after(current + s @ self.recurrent, decay).fired()
            readout = readout.after(s @ self.outputs, decay)
            return (hidden, s, readout, jnp.maximum(largest, readout.v), spikes + s), None

        hidden, readout = Leaky.at_rest(*currents.shape[1:]), Leaky.at_rest(currents.shape[1], CLASSES)
        none, largest = jnp.zeros_like(hidden.v), jnp.full_like(readout.v, -jnp.inf)
        (*_, largest, spikes), _ = jax.lax.scan(advance, (hidden, none, readout, largest, none), currents)
        return largest, jnp.mean(spikes, axis=1)


class GRU(eqx.Module):
    """A recurrent layer of gated units."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear
    step: float = eqx.field(static=True)

    def __init__(self, n: int, options: argparse.Namespace):
        keys = jr.split(jr.key(options.seed))
        self.cell = eqx.nn.GRUCell(n, options.hidden, key=keys[0])
        self.readout = eqx.nn.Linear(options.hidden, CLASSES, key=keys[1])
        self.step = options.step

    def __call__(self, events: sx.Events) -> tuple[jax.Array, jax.Array]:
        def advance(state, x):
            h, total = state
            h = jax.vmap(self.cell)(x, h)
            return (h, total + h), None

        counts = jnp.swapaxes(binned(events, self.step), 0, 1)
        start = jnp.zeros((counts.shape[1], self.cell.hidden_size))
        (_, total), _ = jax.lax.scan(advance, (start, start), counts)
        return jax.vmap(self.readout)(total / len(counts)), jnp.zeros(len(total))


MODELS = {"linear": Linear, "lif": SurrogateLIF, "gru": GRU}


def objective(model, events, labels):
    """The cross-entropy, the accuracy, and the spikes per hidden neuron."""
    logits, spikes = model(events)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return loss, {"accuracy": (jnp.argmax(logits, axis=1) == labels).astype(loss.dtype), "spikes": spikes}


def run(name: str, data: Split[Loader], n: int, options: argparse.Namespace) -> dict:
    """Trains a model, or continues, and evaluates the best one on validation and test set."""
    settings = {
        "model": name,
        "channels": n,
        "seed": options.seed,
        "epochs": options.epochs,
        "batch": options.batch,
        "learning_rate": options.learning_rate,
    }
    if name != "linear":
        settings |= {"hidden": options.hidden, "step": options.step}
    folder = options.out / "-".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in settings.values()
    )
    steps = options.epochs * len(data.training)
    start = time.perf_counter()
    fit = train.fit(
        MODELS[name](n, options),
        objective,
        data.training,
        data.validation,
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(options.learning_rate, steps))
        ),
        epochs=options.epochs,
        directory=folder,
        settings=settings,
    )
    seconds = time.perf_counter() - start
    valid, test = (train.evaluate(fit.network, objective, part) for part in data[1:])
    result = settings | {"seconds": seconds, "machine": machine(), "validation": valid, "test": test}
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def main() -> None:
    jax.config.update("jax_enable_x64", False)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--step", type=float, default=10.0, help="ms")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/spoken-digits"))
    options = parser.parse_args()
    split = sx.datasets.spoken_digits(options.directory)
    n = split.training.spikes[0].n
    data = Split(*(Loader(*part, batch_size=options.batch, seed=options.seed) for part in split))
    print(machine(), flush=True)
    title(
        ["model", "channels", "hidden", "step", "seed", "epochs", "validation", "test", "spikes per neuron", "seconds"]
    )
    for name in options.models:
        result = run(name, data, n, options)
        step = f"{result['step']:g} ms" if "step" in result else "–"
        accuracies = [f"{result[part]['accuracy']:.1%}" for part in ("validation", "test")]
        spikes = f"{result['test']['spikes']:.1f}" if name == "lif" else "–"
        columns = [name, n, result.get("hidden", "–"), step, options.seed, options.epochs, *accuracies, spikes]
        row([str(column) for column in [*columns, f"{result['seconds']:.0f}"]])


if __name__ == "__main__":
    main()
