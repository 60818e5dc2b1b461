"""Training on one, two and four devices; see test_devices.py."""

import re
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import spikax as sx
from spikax.datasets import Loader, yin_yang, yin_yang_spikes
from spikax.train._gradient import _means, _sums
from spikax.train._replicas import Replicas


jax.config.update("jax_enable_x64", True)
points, labels = yin_yang(9, 0)
spikes, labels = yin_yang_spikes(jnp.asarray(points, float)), jnp.asarray(labels)
layers = (
    sx.Layer(sx.LIF(), 4, weights=sx.init.normal(2.5, 1.5)),
    sx.Layer(sx.LIF(bias=1.5), 3, weights=sx.init.normal(0.3, 0.3)),
)
network = sx.sequential(5, *layers, key=jax.random.key(0))
SGD = optax.sgd(0.1)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")


def objective(network, inputs, labels):
    solution = sx.simulate(network, inputs, 40.0, until=sx.FirstSpikes(), max_spikes={"hidden": 8, "output": 1})
    times = sx.first_spike(solution.spikes["output"])
    loss = sx.losses.first_spike_cross_entropy(times, labels, t_silent=40.0)
    return loss, {"accuracy": sx.decode.earliest(times) == labels, "spikes": solution.stats["hidden"].spikes}


def part(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def agree(found, expected, rtol=1e-12):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), found, expected)


def refusal(function, *arguments, **options):
    try:
        jax.block_until_ready(function(*arguments, **options))
    except (ValueError, TypeError, RuntimeError) as error:
        return str(error)
    raise AssertionError("no error")


def computations(text):
    """The computations of a compiled program: their lines by name."""
    found, name = {}, ""
    for line in text.splitlines():
        head = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        name = head[1] if head else name
        found.setdefault(name, []).append(line)
    return found


def in_loops(text):
    """The lines of a compiled program that are in the body or the condition of a loop, or called from there."""
    all_lines = computations(text)
    called = {
        name: set(re.findall(r"%?([\w.\-]+)", "\n".join(lines))) & set(all_lines) for name, lines in all_lines.items()
    }
    whiles = [line for lines in all_lines.values() for line in lines if " while(" in line]
    waiting = {name for line in whiles for name in re.findall(r"(?:body|condition)=%?([\w.\-]+)", line)}
    reached = set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= called[name] - reached
    assert whiles and reached
    return [line for name in reached for line in all_lines[name]]


def collectives(lines):
    return [line for line in lines if any(f" {name}" in line for name in COLLECTIVES)]


# The gradient is that of the mean over all samples, whatever the number of devices. Nine samples are five and four on
# two devices, and three, three, three and none on four.
assert len(jax.devices()) == 4


@eqx.filter_jit
def reference(network, inputs, labels):
    def loss(network):
        losses, measures = objective(network, inputs, labels)
        return jnp.mean(losses), {"loss": losses} | measures

    gradient, measures = eqx.filter_grad(loss, has_aux=True)(network)
    return jax.tree.map(lambda x: jnp.mean(x.astype(float)), measures), gradient


functions = [sx.train.value_and_grad(objective, devices=devices) for devices in (None, 1, 2, 4)]
expected = reference(network, spikes, labels)
assert np.max(np.abs(expected[1].connections[0].weight)) > 1e-2
for function in functions:
    agree(function(network, spikes, labels), expected)

# The result lies where the network lies, and goes into any other computation.
means, gradient = functions[3](network, spikes, labels)
assert gradient.connections[0].weight.devices() == network.connections[0].weight.devices()
assert jax.tree.leaves(eqx.apply_updates(network, gradient))[0].devices() == {jax.devices()[0]}

# A loop of a device is its own. (A division by XLA puts a collective into loops: so the search does find them.)
replicas = Replicas.on(4)
learning, rest = replicas.placed(eqx.partition(network, eqx.is_inexact_array))
arguments = (learning, rest, objective, replicas, *replicas.divided((spikes, labels)))
text = _sums.lower(*arguments).compile().compiled.as_text()
assert len(in_loops(text)) > 100 and not collectives(text.splitlines())
text = _means.lower(replicas, replicas.joined(_sums(*arguments)[0])).compile().compiled.as_text()
assert " while(" not in text and {line.split(" all-reduce(")[0] != line for line in collectives(text.splitlines())} == {
    True
}
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
divided = jax.device_put(part((spikes, labels), slice(8)), NamedSharding(mesh, P("batch")))


def automatic(network, inputs, labels):
    solution = sx.simulate(network, inputs, 40.0, max_spikes=8, throw=False)
    return jnp.sum(jnp.where(jnp.isfinite(solution.spikes["output"].times), solution.spikes["output"].times, 0.0))


text = eqx.filter_jit(automatic).lower(network, *divided).compile().compiled.as_text()
assert collectives(in_loops(text))

# A sample that fails is named, on whatever device it is, and no device waits for another.
for failing in (0, 5, 8):
    times = spikes.times.at[failing].set(-1.0)
    message = f"Sample {failing} of the batch failed. Layer `hidden`"
    for function in functions if failing == 5 else functions[3:]:
        assert message in refusal(function, network, sx.Spikes(times), labels)
    agree(functions[3](network, spikes, labels), (means, gradient))


def told(network, inputs, labels):
    solution = sx.simulate(network, inputs, 40.0, max_spikes=8, throw=False)
    return jnp.zeros(inputs.times.shape[0]), {"results": solution.results}


function = sx.train.value_and_grad(told, devices=4)
assert "Sample 5 of the batch failed. Layer `hidden`" in refusal(
    function, network, sx.Spikes(spikes.times.at[jnp.asarray([5, 8])].set(-1.0)), labels
)
assert "Sample 8 of the batch failed. `labels` must be" in refusal(functions[3], network, spikes, labels.at[8].set(3))


# Training sees the same samples, and the same random numbers, whatever the number of devices.
def regression(weight, inputs, targets):
    inputs = eqx.error_if(inputs, inputs[:, 0] > 100.0, "The input is too large.")
    return (inputs @ weight - targets) ** 2, {"seen": inputs[:, 1]}


def augment(key, inputs, targets):
    return inputs + jax.random.normal(key, inputs.shape), targets


def fit(devices, inputs, processed=augment, epochs=2, directory=None):
    training, tested = (Loader(inputs, inputs[:, 0], batch_size=size, seed=1) for size in (6, 7))
    return sx.train.fit(
        jnp.zeros(2),
        regression,
        training,
        tested,
        optimizer=SGD,
        epochs=epochs,
        augment=processed,
        devices=devices,
        directory=directory,
        seed=3,
    )


inputs = jax.random.normal(jax.random.key(0), (18, 2))
expected = fit(None, inputs)
for devices in (1, 2, 4, [jax.devices()[3], jax.devices()[1]]):
    found = fit(devices, inputs)
    agree(found.network, expected.network)
    for epoch, other in zip(found.history, expected.history, strict=True):
        agree((epoch.training, epoch.validation), (other.training, other.validation))
# A training goes on with other devices.
with tempfile.TemporaryDirectory() as directory:
    assert fit(4, inputs, epochs=1, directory=directory).network.devices() == {jax.devices()[0]}
    found = fit([jax.devices()[3], jax.devices()[1]], inputs, directory=directory)
    agree(found.network, expected.network)
    assert found.network.devices() <= {jax.devices()[0], jax.devices()[3]}

broken = inputs.at[11, 0].set(1000.0)
batches = [batch for batch, _ in Loader(broken, broken, batch_size=6, seed=1).epoch(1)]
step, sample = next((step, int(jnp.argmax(x[:, 0]))) for step, x in enumerate(batches, start=1) if jnp.any(x > 100.0))
message = f"Step {step} of epoch 1: Sample {sample} of the batch failed. The input is too large."
for devices in (None, 4):
    assert message in refusal(fit, devices, broken, None)
    tested = Loader(broken, broken[:, 0], batch_size=7)
    told = refusal(sx.train.evaluate, jnp.zeros(2), regression, tested, devices=devices)
    assert told == "Batch 2: Sample 4 of the batch failed. The input is too large."


# A batch is filled up with copies of a sample: a zero in its place would have an infinite derivative here.
def root(weight, inputs, targets):
    return jnp.sqrt(weight * inputs), {}


inputs = jnp.arange(1.0, 6.0)
means, gradient = sx.train.value_and_grad(root, devices=4)(jnp.asarray(2.0), inputs, inputs)
agree(gradient, jnp.mean(jnp.sqrt(inputs)) / (2.0 * jnp.sqrt(2.0)))
assert jnp.isnan(sx.train.value_and_grad(root, devices=4)(jnp.asarray(2.0), inputs.at[3].set(-1.0), inputs)[1])

# What does not fit is refused.
for devices, message in (
    (0, "`devices` must be at least 1; got 0"),
    (5, "`devices` must be at most 4, the number of `jax.devices()`; got 5. A CPU is divided by"),
    (2.0, "`devices` must be an integer"),
    ([], "`devices` must be at least one device"),
    (jax.devices()[:1] * 2, "`devices` must be at least one device, and each once"),
    (["cpu"], "`devices` must be a number, or a list of devices"),
):
    assert message in refusal(sx.train.value_and_grad, objective, devices=devices), devices
    assert message in refusal(sx.train.evaluate, network, objective, [], devices=devices), devices
assert "called outside of `jax.jit`" in refusal(eqx.filter_jit(functions[3]), network, spikes, labels)
