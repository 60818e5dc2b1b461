"""Yin-Yang with its inputs closer and closer together: event-based training, and surrogate gradients on time grids.

    python benchmarks/close_inputs.py [--seeds 1] [--epochs 30] [--only NAME ...]

The five spikes of a sample lie in a span of S ms, from 30 down to 0.02 ms. The models:

- `spikax`: 5-120-3 LIF neurons, trained by the first spikes of the outputs. Their time constants are 20 and 5 ms,
  whatever the span. Over a short time a neuron integrates: a spike of weight w changes the voltage by w t / 20 ms. So
  the initial weights, the learning rate, the bias of the outputs, and `tau0` of the loss are scaled with the span.
- `grid 0.1`, `grid 1`, `grid 2`: 5-120-3 in steps of 0.1, 1 and 2 ms, LIF neurons with surrogate gradients, and leaky
  readouts whose maximum is the logit. A step holds the spikes of its time. Their time constants are scaled with the
  span, so that nothing but the resolution changes.

Besides, the best that any classifier can do on a grid: the most frequent class of all points with the same steps.

Each result is a file in `benchmarks/results`, and is not computed again; a run that is interrupted goes on. Draws
`benchmarks/close-inputs.png`, and prints a table. The learning rate, the initial weights and the steepness of the
surrogate gradient were chosen by validation among 20 settings, at 30 ms with steps of 1 ms, for a duration of four
spans; for finer steps the steepness is in proportion to their number. The settings of `spikax` are those of `python -m
spikax train yin-yang`, but for the number of epochs, the duration of two spans, after which silent outputs have
pseudospikes, and the second term of the loss, which is left out: it grows exponentially with the time of the label.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from against_eventax import machine
from surrogate import Decays, Leaky
from tables import row, title

import spikax as sx
from spikax import train
from spikax.datasets import Loader, Split, yin_yang, yin_yang_spikes


HERE = Path(__file__).parent
SPANS = (30.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
GRIDS = {"grid 0.1": 0.1, "grid 1": 1.0, "grid 2": 2.0}
MODELS = ("spikax", *GRIDS)
HIDDEN, BATCH, TAU_M, TAU_S, STEEPNESS = 120, 50, 20.0, 5.0, 10.0


def gain(span: float) -> float:
    """By how much weights are larger than at 30 ms, where a neuron forgets within the span."""
    return max(1.0, 6.0 / span)


def spiking(span: float, seed: int) -> sx.Network:
    """The network in continuous time. Without inhibition the outputs spike after three quarters of the span."""
    bias, scale = max(1.5, TAU_M / (0.75 * span)), gain(span)
    return sx.sequential(
        5,
        sx.Layer(sx.LIF(), HIDDEN, weights=sx.init.normal(2.5 * scale, 2.5 * scale)),
        sx.Layer(sx.LIF(bias=bias), 3, weights=sx.init.normal(0.3 * scale, 0.3 * scale)),
        key=jax.random.key(seed),
    )


def first_spikes(span: float):
    """The objective of `spikax`."""
    t1, tau0 = 2.0 * span, 0.2 * span / 30.0

    def objective(network, inputs, labels):
        solution = sx.simulate(network, inputs, t1, max_spikes=64, throw=False)
        times = sx.first_spike(solution.spikes["output"])
        # Inhibited outputs are silent. As pseudospikes they keep a gradient, which raises their voltages at the end.
        later = sx.silence.pseudospikes(network.layers["output"], t1, solution.end.states["output"], tau=span)
        answered = sx.silence.with_pseudospikes(times, later)
        loss = sx.losses.first_spike_cross_entropy(answered, labels, t_silent=t1, tau0=tau0, alpha=0.0, throw=False)
        accuracy = (sx.decode.earliest(times) == labels).astype(loss.dtype)
        return loss, {"accuracy": accuracy, "results": solution.results}

    return objective


def stepping(seed: int) -> list[jax.Array]:
    """The weights of the network on a grid."""
    keys = jax.random.split(jax.random.key(seed))
    return [1.25 + 1.25 * jax.random.normal(keys[0], (5, HIDDEN)), 0.3 * jax.random.normal(keys[1], (HIDDEN, 3))]


def on_grid(span: float, step: float):
    """The objective of a network in steps. After the inputs, there is time for its spikes."""
    steps, relative = max(math.ceil(2.0 * span / step), 10), 30.0 * step / span
    decay = Decays.of(relative, TAU_M, TAU_S)
    # In finer steps a voltage is near the threshold in more of them.
    steepness = STEEPNESS * max(1.0, 1.0 / relative)

    def objective(weights, inputs, labels):
        outer, readout = weights
        place = jnp.minimum(inputs.times[..., 0] / step, steps - 1).astype(int)
        counts = jax.nn.one_hot(place, steps, axis=0)

        def advance(state, count):
            hidden, out, largest = state
            hidden, s = hidden.after(count @ outer, decay).fired(steepness)
            out = out.after(s @ readout, decay)
            return (hidden, out, jnp.maximum(largest, out.v)), None

        out = Leaky.at_rest(len(labels), 3)
        start = Leaky.at_rest(len(labels), HIDDEN), out, jnp.full_like(out.v, -jnp.inf)
        (*_, logits), _ = jax.lax.scan(advance, start, counts)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return loss, {"accuracy": (jnp.argmax(logits, axis=1) == labels).astype(loss.dtype)}

    return objective


def trained(model: str, span: float, seed: int, epochs: int, directory: Path) -> dict:
    """Trains a model, or continues, and tests the best one."""
    if model == "spikax":
        network, objective, rate = spiking(span, seed), first_spikes(span), 5e-3 * gain(span)
    else:
        network, objective, rate = stepping(seed), on_grid(span, GRIDS[model]), 2e-2
    points = [yin_yang(n, 3 * seed + part) for part, n in enumerate((5000, 1000, 1000))]
    data = Split(*(Loader(yin_yang_spikes(x, t_late=span), y, batch_size=BATCH, seed=seed) for x, y in points))
    schedule = optax.cosine_decay_schedule(rate, epochs * len(data.training))
    start = time.perf_counter()
    fit = train.fit(
        network,
        objective,
        data.training,
        data.validation,
        optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(schedule)),
        epochs=epochs,
        directory=directory,
    )
    seconds = time.perf_counter() - start
    accuracy = float(train.evaluate(fit.network, objective, data.test)["accuracy"])
    return {"accuracy": accuracy, "seconds": seconds, "epochs": epochs, "machine": machine()}


def best_on_grid(span: float, step: float) -> float:
    """The accuracy of the most frequent class of all points with the same steps, of which there are many."""
    points, labels = yin_yang(400_000, 1_000)
    times = np.asarray(yin_yang_spikes(points, t_late=span).times)[..., 0]
    cells = np.unique(np.floor(times / step).astype(int), axis=0, return_inverse=True)[1].ravel()
    counts = np.zeros((cells.max() + 1, 3), int)
    np.add.at(counts, (cells, labels), 1)
    # With few points in each cell, the most frequent class would be an accident: the bound is then the trivial one.
    return float(counts.max(axis=1).sum() / counts.sum()) if len(counts) < 20_000 else 1.0


def draw(found: dict[str, dict[float, list[float]]], bounds: dict[str, dict[float, float]]) -> None:
    """The accuracy over the span."""
    import matplotlib.pyplot as plt

    colours = dict(zip(MODELS, ("#26303b", "#3b6fb6", "#e07b39", "#a65a9e"), strict=True))
    labels = {"spikax": "spikax, continuous time"} | {name: f"steps of {step:g} ms" for name, step in GRIDS.items()}
    figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    for name, by_span in found.items():
        spans = sorted(by_span)
        means = [100 * np.mean(by_span[span]) for span in spans]
        ax.plot(spans, means, "o-", color=colours[name], label=labels[name], linewidth=2.2 if name == "spikax" else 1.4)
        if name in bounds:
            best = [100 * bounds[name][span] for span in spans]
            ax.plot(spans, best, ":", color=colours[name], linewidth=1.2)
    ax.plot([], [], ":", color="#888888", label="the best possible in these steps")
    ax.axhline(100 / 3, color="#bbbbbb", linewidth=0.8)
    ax.text(SPANS[0], 34.5, "chance", color="#888888", ha="left", va="bottom", size="small")
    ax.set(xscale="log", xlabel="span of the inputs (ms)", ylabel="test accuracy (%)", ylim=(28, 102))
    ax.invert_xaxis()
    ax.set_xticks(SPANS, [f"{span:g}" for span in SPANS])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(HERE / "close-inputs.png", dpi=150)


def main() -> None:
    jax.config.update("jax_enable_x64", False)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS, help="the models to train")
    parser.add_argument("--runs", type=Path, default=Path("runs/close-inputs"), help="where the checkpoints go")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for span in SPANS:
            for model in options.only:
                name = f"close-inputs-{model.replace(' ', '-')}-{span:g}-{seed}"
                path = HERE / "results" / f"{name}.json"
                if not path.exists():
                    result = trained(model, span, seed, options.epochs, options.runs / name)
                    path.write_text(json.dumps({"model": model, "span": span, "seed": seed} | result, indent=1) + "\n")
                    print(f"{name}: {result['accuracy']:.1%} in {result['seconds']:.0f} s", flush=True)
    report()


def report() -> None:
    """Draws the figure, and prints the table, of all results that there are."""
    results = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob("close-inputs-*.json"))]
    found: dict[str, dict[float, list[float]]] = {model: {} for model in MODELS}
    for result in results:
        found[result["model"]].setdefault(result["span"], []).append(result["accuracy"])
    bounds = {name: {span: best_on_grid(span, step) for span in SPANS} for name, step in GRIDS.items()}
    draw(found, bounds)
    title(["span of the inputs", *(f"{span:g} ms" for span in SPANS)])
    for name, by_span in found.items():
        row([name, *(f"{np.mean(by_span[span]):.1%}" if span in by_span else "" for span in SPANS)])
        if name in bounds:
            row([f"{name}, best possible", *(f"{bounds[name][span]:.1%}" for span in SPANS)])
    seeds = Counter(result["seed"] for result in results)
    print(f"\n{len(seeds)} seed(s); machines: {', '.join(sorted({result['machine'] for result in results}))}")


if __name__ == "__main__":
    main()
