"""The time of a training's gradient, and of the first one, which compiles: what an epoch of a task costs.

    python benchmarks/tasks.py yin-yang --neurons lif qif
    python benchmarks/tasks.py mnist --neurons qif egru --batches 100 1000 --data DIR

The networks are those that `python -m spikax train TASK --neuron ... --readout ...` starts from, and the batch is the
first of that training, without what it changes at random. An epoch takes as many gradients as there are batches; the
optimiser and the validation come on top.
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
from against_eventax import machine
from scaling import median

from spikax.datasets import Loader
from spikax.tasks import AbstractTask, Settings, TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--neurons", nargs="+", metavar="NAME", help="default: that of the task")
    parser.add_argument("--readout", metavar="NAME", help="default: that of the task")
    parser.add_argument("--batches", nargs="+", type=int, metavar="SAMPLES", help="default: that of the task")
    parser.add_argument("--data", metavar="DIR", help="the directory with the files of MNIST")
    options = parser.parse_args()
    task = TASKS[options.task]
    readout = options.readout or task.readouts[0]
    print(f"{machine()}; {jax.devices()[0].device_kind}\n")
    print("| task | neuron | readout | batch | first call, s | gradient, ms |\n|---|---|---|---|---|---|")
    for neuron in options.neurons or task.neurons[:1]:
        usual = task.settings(neuron=neuron, readout=readout, data=options.data).batch_size
        for batch in options.batches or [usual]:
            first, later = seconds(
                task, task.settings(neuron=neuron, readout=readout, batch_size=batch, data=options.data)
            )
            print(f"| {task.name} | {neuron} | {readout} | {batch} | {first:.1f} | {1e3 * later:.1f} |", flush=True)


def seconds(task: AbstractTask, settings: Settings) -> tuple[float, float]:
    """The time of the first gradient, and the median of those after it."""
    network = task.build(settings)
    batches = Loader(*task.split(settings).training, batch_size=settings.batch_size, seed=settings.seed)
    inputs, labels = next(batches.epoch(1))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network, inputs, labels):
        return jnp.mean(task.measure(network, inputs, labels, settings)[0])

    start = time.perf_counter()
    jax.block_until_ready(jax.tree.leaves(gradient(network, inputs, labels)))
    return time.perf_counter() - start, median(lambda: gradient(network, inputs, labels), 5)


if __name__ == "__main__":
    main()
