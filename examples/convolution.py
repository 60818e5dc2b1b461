"""A convolutional spiking network learns to classify digits, from one spike per bright pixel.

The data are the digits of spikax: 1797 images of 8 x 8 pixels. Bright pixels spike earlier, and black ones are silent.
The network has two convolutional layers of LIF neurons and ten outputs, which receive from all neurons of the second
layer. The prediction is the output that spikes first.

    python examples/convolution.py
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import spikax as sx
from spikax.datasets import Images


# All times in ms.
LATEST_INPUT, T1 = 20.0, 60.0
FILTERS = 12, 16
MAX_SPIKES = {"edges": 12, "shapes": 24, "output": 1}  # more spikes of a neuron are an error
MAPS = "edges", "shapes"
INK, PALE = "#26303b", "#9aa5b1"


def digits(seed: int) -> tuple[Images, Images]:
    """The training and the test set, split at random. Nothing is chosen by a validation, so its samples are trained."""
    training, validation, test = sx.datasets.digits(seed=seed)
    return Images(*map(np.concatenate, zip(training, validation, strict=True))), test


def encoded(images: Any) -> sx.Spikes:
    """One spike per pixel, earlier for brighter pixels. Black pixels are silent."""
    brightness = jnp.asarray(images).reshape(len(images), 64)
    times = sx.encode.latency(1.0 - brightness, 0.0, LATEST_INPUT).times
    return sx.Spikes(jnp.where(brightness[..., None] > 0.0, times, jnp.inf))


def build(seed: int) -> sx.Network:
    """The initial network: 12 feature maps of 4 x 4 neurons, 16 feature maps of 3 x 3 neurons, and the outputs."""
    keys = jax.random.split(jax.random.key(seed), 3)
    filters = sx.init.normal(0.8, 1.2)(keys[0], (FILTERS[0], 1, 4, 4))
    edges = sx.Conv("input", "edges", filters, image=(8, 8), stride=2, padding=1)
    filters = sx.init.normal(0.2, 0.5)(keys[1], (FILTERS[1], FILTERS[0], 2, 2))
    shapes = sx.Conv("edges", "shapes", filters, image=edges.image_out)
    read = sx.Dense("shapes", "output", sx.init.normal(0.05, 0.15)(keys[2], (shapes.shape[1], 10)))
    layers = {
        "edges": sx.Layer(sx.LIF(), edges.shape[1]),
        "shapes": sx.Layer(sx.LIF(), shapes.shape[1]),
        # The bias makes every output spike eventually: a silent output would have no gradient.
        "output": sx.Layer(sx.LIF(bias=1.5), 10),
    }
    return sx.Network(layers, [edges, shapes, read], 64, "output")


def respond(network: sx.Network, images: Any) -> sx.Solution:
    return sx.simulate(network, encoded(images), T1, max_spikes=MAX_SPIKES, until=sx.FirstSpikes())


def loss_and_accuracy(network: sx.Network, images: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
    """The mean loss and accuracy of a batch."""
    times = sx.first_spike(respond(network, images).spikes["output"])
    loss = sx.losses.first_spike_cross_entropy(times, labels, t_silent=T1, tau0=1.0)
    return jnp.mean(loss), jnp.mean(sx.decode.earliest(times) == labels)


class Training(NamedTuple):
    """The network, and the training and test accuracies of every epoch."""

    network: sx.Network
    accuracies: list[tuple[float, float]]


def train(training: Images, test: Images, seed: int, epochs: int, batch_size: int = 50) -> Training:
    """Trains with Adam and a cosine decay of the learning rate to zero."""
    steps = epochs * (len(training.labels) // batch_size)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(optax.cosine_decay_schedule(5e-3, steps)))

    @eqx.filter_jit
    def step(network, state, images, labels):
        gradient, accuracy = eqx.filter_grad(loss_and_accuracy, has_aux=True)(network, images, labels)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, updates), state, accuracy

    network = build(seed)
    state = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    rng = np.random.default_rng(seed)
    history = []
    for epoch in range(epochs):
        order = rng.permutation(len(training.labels))
        learned = []
        for rows in order[: len(order) - len(order) % batch_size].reshape(-1, batch_size):
            network, state, accuracy = step(network, state, training.images[rows], training.labels[rows])
            learned.append(accuracy)
        history.append((float(np.mean(learned)), float(np.mean(answers(network, test.images) == test.labels))))
        print(f"epoch {epoch + 1}: {history[-1][0]:.1%} in training, {history[-1][1]:.1%} in the test", flush=True)
    return Training(network, history)


@eqx.filter_jit
def answers(network: sx.Network, images: Any) -> jax.Array:
    """The predicted digit of each image."""
    return sx.decode.earliest(sx.first_spike(respond(network, images).spikes["output"]))


def confusion(network: sx.Network, test: Images) -> np.ndarray:
    """The number of images by digit (rows) and prediction (columns). The last column counts missing predictions."""
    counts = np.zeros((10, 11), int)
    np.add.at(counts, (test.labels, np.asarray(answers(network, test.images))), 1)
    return counts


def draw(training: Training, test: Images, number: int, path: Path) -> None:
    """Plots the filters, the spikes of one image, the learning curve and the confusion matrix."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 6.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.9, 1.0))
    filters, maps = left.subfigures(2, 1, height_ratios=(1.0, 2.6))
    draw_filters(filters, training.network)
    draw_spikes(maps, training.network, test.images[number])

    curve, table = right.subplots(2, 1, height_ratios=(1.0, 1.9))
    for accuracies, name, colour in zip(
        np.transpose(training.accuracies), ("training", "test"), (PALE, INK), strict=True
    ):
        curve.plot(1 + np.arange(len(accuracies)), 100 * accuracies, color=colour, label=name)
    curve.set(xlabel="epoch", ylabel="right (%)", ylim=(80, 100))
    curve.spines[["top", "right"]].set_visible(False)
    curve.legend(frameon=False, loc="lower right")
    counts = confusion(training.network, test)
    table.imshow(counts, cmap="Blues", vmax=1.4 * counts.max())
    for (row, column), count in np.ndenumerate(counts):
        if count:
            table.text(
                column, row, count, ha="center", va="center", color=INK if row == column else "#c0392b", fontsize=8
            )
    table.set(xlabel="read as", ylabel="digit", xticks=range(11), xticklabels=[*range(10), "none"], yticks=range(10))
    table.spines[:].set_visible(False)
    table.tick_params(length=0)

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def draw_filters(figure: Any, network: sx.Network) -> None:
    """Plots the kernels of the first layer: blue weights are inhibitory, red weights excitatory."""
    kernels = np.asarray(network.connections[0].weight)[:, 0]
    figure.suptitle("the filters of the first layer", fontsize=10)
    largest = np.abs(kernels).max()
    for ax, kernel in zip(figure.subplots(1, len(kernels)), kernels, strict=True):
        shown = ax.imshow(kernel, cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.set(xticks=(), yticks=())
    figure.colorbar(shown, ax=figure.axes, label="weight", shrink=0.8)


def draw_spikes(figure: Any, network: sx.Network, image: np.ndarray) -> None:
    """Plots the first spike times of all layers. Those of convolutional layers are shown as images."""
    spikes = respond(network, image[None]).spikes
    pixels = encoded(image[None]).times.reshape(1, 8, 8)
    sides = [int(np.sqrt(spikes[name].times.shape[1] / n)) for name, n in zip(MAPS, FILTERS, strict=True)]
    edges, shapes = (
        np.asarray(sx.first_spike(spikes[name])).reshape(-1, side, side) for name, side in zip(MAPS, sides, strict=True)
    )
    output = np.asarray(sx.first_spike(spikes["output"]))[0]
    figure.suptitle("first spikes: pixels, 12 maps of the first layer, 16 of the second, outputs", fontsize=10)
    layout = figure.add_gridspec(4, 9)
    above = [layout[i // 6, 1 + i % 6] for i in range(FILTERS[0])]
    below = [layout[2 + i // 8, 1 + i % 8] for i in range(FILTERS[1])]
    for place, times in zip([layout[:2, 0], *above, *below], [*pixels, *edges, *shapes], strict=True):
        ax = figure.add_subplot(place)
        # White where there is no spike.
        shown = ax.imshow(np.where(np.isfinite(times), times, np.nan), cmap="viridis_r", vmin=0.0, vmax=30.0)
        ax.set(xticks=(), yticks=())
        ax.spines[:].set_color(PALE)
    figure.colorbar(shown, ax=figure.axes, label="time (ms)", shrink=0.8)
    ax = figure.add_subplot(layout[2:, 0])
    ax.barh(np.arange(10), output, color=[INK if t == output.min() else PALE for t in output], height=0.7)
    ax.set(yticks=range(10), xlabel="ms", ylabel="output")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description="A convolutional spiking network reads digits.")
    parser.add_argument("--epochs", type=int, default=10, help="how often to go through the images")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice of the test images, the weights, the shuffling"
    )
    parser.add_argument("--image", type=int, default=0, help="which test image to show")
    parser.add_argument("--out", type=Path, default=Path("runs/convolution.png"), help="where to put the figure")
    options = parser.parse_args()

    training, test = digits(options.seed)
    trained = train(training, test, options.seed, options.epochs)
    print(f"{trained.accuracies[-1][1]:.1%} of {len(test.labels)} test images are read right")
    draw(trained, test, options.image, options.out)


if __name__ == "__main__":
    main()
