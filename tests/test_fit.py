"""The training loop: what it learns, reports and keeps, and how it goes on after an interruption."""

import contextlib
import csv
import json
import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import spikax as sx
from spikax import train
from spikax._files import replacing
from spikax.datasets import Loader


# Made once: another optimiser, or another function, compiles anew.
SGD = optax.sgd(0.1)
MOMENTUM = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05, momentum=0.9))


def regression(weight, inputs, targets):
    """A network that is a line: enough for the loop."""
    error = (inputs @ weight - targets) ** 2
    return error, {"accuracy": (error < 1e-2).astype(error.dtype)}


def line(n, dtype, batch_size=8, seed=1):
    inputs = jax.random.normal(jax.random.key(n), (n, 2), dtype)
    return Loader(inputs, inputs @ jnp.asarray([1.0, -2.0], dtype), batch_size=batch_size, seed=seed)


def fit_line(dtype, objective=regression, **options):
    given = {"optimizer": SGD, "epochs": 4, "training": line(50, dtype)} | options
    return train.fit(jnp.zeros(2, dtype), objective, given.pop("training"), line(13, dtype), **given)


def without_seconds(history):
    return [epoch._replace(seconds=0.0) for epoch in history]


def test_fit_learns_and_reports_each_epoch(dtype):
    seen = []
    fit = fit_line(dtype, epochs=20, callbacks=[lambda epoch, weight: seen.append((epoch, weight))])
    np.testing.assert_allclose(fit.network, [1.0, -2.0], atol=0.1)
    assert [epoch.number for epoch, _ in seen] == list(range(1, 21)) and [epoch for epoch, _ in seen] == fit.history
    best = max(fit.history, key=lambda epoch: (epoch.validation["accuracy"], -epoch.validation["loss"]))
    assert fit.best == best.number
    np.testing.assert_array_equal(seen[fit.best - 1][1], fit.network)
    assert train.evaluate(fit.network, regression, line(13, dtype)) == pytest.approx(best.validation)


def test_each_epoch_has_the_largest_norm_of_a_gradient(dtype):
    data = line(16, dtype, batch_size=16)
    fit = train.fit(jnp.zeros(2, dtype), regression, data, data, optimizer=SGD, epochs=1)
    ((inputs, targets),) = data.epoch(1)
    gradient = jax.grad(lambda weight: jnp.mean(regression(weight, inputs, targets)[0]))(jnp.zeros(2, dtype))
    assert fit.history[0].training["gradient_norm"] == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-5)


def test_without_an_accuracy_the_lowest_loss_is_best(dtype):
    fit = fit_line(dtype, lambda *arguments: (regression(*arguments)[0], {}), epochs=6)
    losses = [epoch.validation["loss"] for epoch in fit.history]
    assert fit.best == 1 + int(np.argmin(losses))


def test_evaluate_counts_every_sample_once(dtype):
    data = line(13, dtype, batch_size=13)
    ((inputs, targets, _),) = data.in_order()
    losses, _ = regression(jnp.zeros(2, dtype), inputs, targets)
    measured = train.evaluate(jnp.zeros(2, dtype), regression, line(13, dtype, batch_size=5))
    assert measured["loss"] == pytest.approx(float(jnp.mean(losses)), rel=1e-5)


def test_fit_compiles_its_step_once(dtype):
    traced = []

    def counting(weight, inputs, targets):
        traced.append(inputs.shape)
        return regression(weight["w"], inputs, targets)

    # An array of weak type, as `jnp.asarray` and `jnp.full` make it of a Python number.
    weight = {"w": jnp.full(2, 0.0) if dtype == jnp.result_type(float) else jnp.zeros(2, dtype)}
    train.fit(weight, counting, line(50, dtype), line(13, dtype), optimizer=SGD, epochs=3)
    assert traced == [(8, 2), (8, 2)]


def jitter(key, inputs, targets):
    return inputs + jax.random.normal(key, inputs.shape, inputs.dtype), targets


@pytest.fixture
def noisy(dtype):
    """A training with an optimiser that has a state, and batches that change at random."""

    def fit(**options):
        return fit_line(dtype, **({"optimizer": MOMENTUM, "augment": jitter} | options))

    return fit


class Killed(Exception):
    """The process ends here."""


def killed_after(number):
    def callback(epoch, _):
        if epoch.number == number:
            raise Killed

    return callback


class Breaking(Loader):
    """A loader that breaks in the middle of the third epoch."""

    def epoch(self, number, *, start=0):
        for step, batch in enumerate(super().epoch(number, start=start)):
            if (number, step) == (3, 2):
                raise Killed
            yield batch

    def __repr__(self):
        return super().__repr__().replace("Breaking", "Loader")


def test_a_resumed_training_takes_the_same_steps_to_the_bit(noisy, dtype, tmp_path):
    whole = noisy()
    with pytest.raises(Killed):
        noisy(directory=tmp_path, callbacks=[killed_after(2)])
    seen = []
    resumed = noisy(directory=tmp_path, callbacks=[lambda epoch, _: seen.append(epoch.number)])
    assert seen == [3, 4]
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert resumed.best == whole.best
    np.testing.assert_array_equal(resumed.network, whole.network)
    # There is nothing left to do.
    again = noisy(directory=tmp_path, callbacks=[killed_after(4)])
    assert again.history == resumed.history
    np.testing.assert_array_equal(again.network, whole.network)


def test_a_kill_in_an_epoch_costs_this_epoch_alone(noisy, dtype, tmp_path):
    inputs = line(50, dtype, batch_size=50)
    ((inputs, targets, _),) = inputs.in_order()
    with pytest.raises(Killed):
        noisy(directory=tmp_path, training=Breaking(inputs, targets, batch_size=8, seed=1))
    seen = []
    resumed = noisy(directory=tmp_path, callbacks=[lambda epoch, _: seen.append(epoch.number)])
    assert seen == [3, 4]
    np.testing.assert_array_equal(resumed.network, noisy().network)


@pytest.mark.parametrize("name", ["last.eqx", "best.eqx"])
def test_a_kill_while_a_file_is_written_loses_at_most_its_epoch(dtype, tmp_path, monkeypatch, name):
    fit_line(dtype, directory=tmp_path, epochs=2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"last.eqx", "best.eqx", "metrics.csv", "metrics.json"}

    @contextlib.contextmanager
    def half(path):
        with replacing(path) as file:
            if path.name == name:
                file.write(b"half of a")
                raise Killed
            yield file

    monkeypatch.setattr("spikax.train._checkpoint.replacing", half)
    with pytest.raises(Killed):
        fit_line(dtype, directory=tmp_path)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == names
    seen = []
    resumed = fit_line(dtype, directory=tmp_path, callbacks=[lambda epoch, _: seen.append(epoch.number)])
    assert seen == [3, 4]
    np.testing.assert_array_equal(resumed.network, fit_line(dtype).network)


def test_more_epochs_can_follow(noisy, dtype, tmp_path):
    noisy(directory=tmp_path, epochs=1)
    np.testing.assert_array_equal(noisy(directory=tmp_path).network, noisy().network)
    with pytest.raises(ValueError, match="`epochs` must be at least 4"):
        noisy(directory=tmp_path, epochs=3)


def test_the_directory_holds_the_best_network_and_all_measures(noisy, dtype, tmp_path):
    fit = noisy(directory=tmp_path / "deep" / "er")
    best = eqx.tree_deserialise_leaves(tmp_path / "deep" / "er" / "best.eqx", jnp.zeros(2, dtype))
    np.testing.assert_array_equal(best, fit.network)
    listed = json.loads((tmp_path / "deep" / "er" / "metrics.json").read_text())
    assert [row["validation_loss"] for row in listed] == [epoch.validation["loss"] for epoch in fit.history]
    assert train.read_history(tmp_path / "deep" / "er") == fit.history
    with open(tmp_path / "deep" / "er" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["training_accuracy"]) for row in rows] == [epoch.training["accuracy"] for epoch in fit.history]


def test_a_measure_that_is_not_finite_is_null_in_json(dtype, tmp_path):
    def objective(weight, inputs, targets):
        return regression(weight, inputs, targets)[0], {"latency": jnp.full(8, jnp.inf, dtype)}

    for epochs in (1, 2):
        assert fit_line(dtype, objective, directory=tmp_path, epochs=epochs).history[0].training["latency"] == np.inf
    assert json.loads((tmp_path / "metrics.json").read_text())[0]["training_latency"] is None


@pytest.mark.parametrize(
    "options, name",
    [
        ({"seed": 1}, "seed"),
        ({"settings": {"rate": 0.2}}, "settings"),
        ({"optimizer": optax.sgd(0.05)}, "optimizer"),
        ({"training": "other seed"}, "training"),
        ({"training": "other size"}, "training"),
    ],
)
def test_another_training_is_not_resumed(noisy, dtype, tmp_path, options, name):
    noisy(directory=tmp_path, epochs=1, settings={"rate": 0.1})
    loaders = {"other seed": line(50, dtype, seed=2), "other size": line(50, dtype, batch_size=4)}
    options = {key: loaders.get(value, value) if key == "training" else value for key, value in options.items()}
    complaint = f"`{name}` must be as in the checkpoint .*last.eqx, `.*; got .*another `directory`"
    with pytest.raises(ValueError, match=complaint):
        noisy(**({"directory": tmp_path, "settings": {"rate": 0.1}} | options))


def test_another_network_is_not_resumed(dtype, tmp_path):
    def objective(neuron, inputs, targets):
        return regression(jnp.broadcast_to(neuron.bias, 2), inputs, targets)

    def fit(tau_mem):
        neuron, data = sx.LIF(tau_mem, bias=jnp.zeros((), dtype)), line(13, dtype)
        return train.fit(neuron, objective, data, data, optimizer=SGD, epochs=1, directory=tmp_path)

    fit(20.0)
    with pytest.raises(ValueError, match="`network` must be as in .*tau_mem=20.0.*; got .*tau_mem=10.0"):
        fit(10.0)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\xff", b'{"format": 2}\n', b"[1]\n", b'{"format": 9, "identity": {}, "history": []}\n']
)
def test_what_is_no_checkpoint_is_refused(noisy, tmp_path, content):
    (tmp_path / "last.eqx").write_bytes(content)
    with pytest.raises(ValueError, match="`directory` must"):
        noisy(directory=tmp_path)


def test_a_checkpoint_of_another_format_is_refused(noisy, tmp_path, monkeypatch):
    """Whatever else differs in it; and it stays as it is."""
    noisy(directory=tmp_path, epochs=1)
    written = (tmp_path / "last.eqx").read_bytes()
    monkeypatch.setattr("spikax.train._checkpoint.FORMAT", 3)
    header = {"format": 2, "spikax": "0.0.9", "epochs": []}
    for content in (written, json.dumps(header).encode() + b"\n"):
        (tmp_path / "last.eqx").write_bytes(content)
        with pytest.raises(
            ValueError, match="`directory` must be one with a checkpoint of format 3, .*; got 2. spikax 0.*"
        ):
            noisy(directory=tmp_path)
        assert (tmp_path / "last.eqx").read_bytes() == content
    (tmp_path / "last.eqx").unlink()
    noisy(directory=tmp_path, epochs=1)
    assert json.loads((tmp_path / "last.eqx").read_bytes().partition(b"\n")[0])["format"] == 3


def test_a_truncated_checkpoint_is_refused(noisy, tmp_path):
    noisy(directory=tmp_path, epochs=1)
    whole = (tmp_path / "last.eqx").read_bytes()
    for kept in (whole[:-20], whole[: whole.index(b"\n") + 1]):
        (tmp_path / "last.eqx").write_bytes(kept)
        with pytest.raises(ValueError, match="`directory` must hold a whole checkpoint; .*last.eqx is damaged"):
            noisy(directory=tmp_path)


def batches_of(loader, number):
    """The batches of a loader as NumPy arrays, in lists."""
    return [[np.asarray(inputs), np.asarray(targets)] for inputs, targets in loader.epoch(number)]


class Tensor:
    """A stand-in for the tensors of PyTorch: an array that only NumPy understands."""

    def __init__(self, array):
        self._array = np.asarray(array)

    def __array__(self, dtype=None, copy=None):
        return self._array


class Stream:
    """A stand-in for the loaders of PyTorch: an iterable with a new order in each iteration."""

    def __init__(self, loader):
        self._loader, self._epochs = loader, 0

    def __iter__(self):
        self._epochs += 1
        return ((Tensor(inputs), Tensor(targets)) for inputs, targets in self._loader.epoch(self._epochs))


@pytest.mark.parametrize("kind", ["function", "generator function", "iterable", "list"])
def test_batches_may_come_from_elsewhere(noisy, dtype, kind):
    """The same batches give the same training, to the bit."""
    loader, tested = line(50, dtype), line(13, dtype, batch_size=13)

    def generated(number):
        yield from loader.epoch(number)

    kinds = {
        "function": lambda number: batches_of(loader, number),
        "generator function": generated,
        "iterable": Stream(loader),
        "list": batches_of(loader, 1),
    }
    epochs = 1 if kind == "list" else 3
    whole = train.fit(jnp.zeros(2, dtype), regression, loader, tested, optimizer=SGD, epochs=epochs)
    validation = [[batch[0], batch[1]] for batch in tested.in_order()]
    fit = train.fit(jnp.zeros(2, dtype), regression, kinds[kind], validation, optimizer=SGD, epochs=epochs)
    np.testing.assert_array_equal(fit.network, whole.network)
    assert without_seconds(fit.history) == without_seconds(whole.history)


def test_every_sample_of_batches_from_elsewhere_counts(dtype):
    loader, weight = line(13, dtype, batch_size=13), jnp.zeros(2, dtype)
    ((inputs, targets, _),) = loader.in_order()
    parts = [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])]
    expected = pytest.approx(train.evaluate(weight, regression, loader))
    assert train.evaluate(weight, regression, parts) == expected
    assert train.evaluate(weight, regression, lambda number: iter(parts)) == expected


@pytest.mark.unchecked
def test_an_iterable_that_cannot_be_repeated_says_so(noisy, dtype, tmp_path):
    loader = line(50, dtype)
    noisy(training=Stream(loader), directory=tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="resumed after epoch 1, but its data, a Stream, cannot skip") as caught:
        noisy(training=Stream(loader), directory=tmp_path, epochs=2)
    assert caught[0].filename == __file__
    noisy(training=Stream(loader), directory=tmp_path, epochs=2)  # nothing is left to do
    with pytest.raises(ValueError, match="`training` must be as in the checkpoint .*, `Stream`; got `a function`"):
        noisy(training=loader.epoch, directory=tmp_path, epochs=2)


def test_a_function_of_the_epoch_is_resumed_to_the_bit(noisy, dtype, tmp_path):
    loader = line(50, dtype)
    whole = noisy(training=loader.epoch)
    noisy(training=loader.epoch, directory=tmp_path, epochs=2)
    resumed = noisy(training=loader.epoch, directory=tmp_path)
    np.testing.assert_array_equal(resumed.network, whole.network)
    assert without_seconds(resumed.history) == without_seconds(whole.history)


BATCH = (np.ones((8, 2), np.float32), np.ones(8, np.float32))


@pytest.mark.unchecked
@pytest.mark.modes("float32")
@pytest.mark.parametrize(
    "error, training, complaint",
    [
        (TypeError, iter([BATCH]), "`training` must be .*; got .*An iterator ends after one epoch. Pass a function"),
        (TypeError, [BATCH[0]], "`training` must be an iterable of batches"),
        (TypeError, [(*BATCH, 8)], "`training` must be an iterable of batches"),
        (TypeError, "text", "`training` must be an iterable of batches"),
        (TypeError, [(BATCH[0], None)], "`training` must be of batches with targets; got None"),
        (TypeError, [(BATCH[0], 1.0)], "`training` must be of batches of arrays of numbers"),
        (TypeError, [(BATCH[0], np.asarray(["a"]))], "`training` must be of batches of arrays of numbers"),
        (TypeError, lambda number: number, "`training` must be a function that returns an iterable; got 1"),
        (ValueError, [], "`training` must be of at least one batch in each epoch"),
        (ValueError, (lambda once: lambda number: once)(iter([BATCH])), "`training` must be of at least one .*An iter"),
    ],
)
def test_batches_of_another_form_are_refused(error, training, complaint):
    with pytest.raises(error, match=complaint):
        train.fit(jnp.zeros(2), regression, training, [BATCH], optimizer=SGD, epochs=2)


@pytest.mark.modes("float32")
def test_errors_of_validation_batches_name_them():
    with pytest.raises(TypeError, match="`validation` must be an iterable of batches"):
        train.fit(jnp.zeros(2), regression, [BATCH], BATCH, optimizer=SGD, epochs=1)


def test_patience_ends_a_training_that_gets_no_better(dtype, tmp_path):
    def stop(**options):
        return fit_line(dtype, optimizer=optax.sgd(0.0), epochs=50, patience=3, **options)

    assert len(stop().history) == 4
    assert len(stop(directory=tmp_path).history) == 4
    # It knows so after a restart, too.
    assert len(stop(directory=tmp_path, callbacks=[killed_after(5)]).history) == 4


def test_augment_has_a_key_for_every_step_and_no_part_in_validation(dtype):
    def objective(weight, inputs, targets):
        return regression(weight, jnp.ones_like(inputs), targets)[0], {"drawn": inputs[:, 0]}

    def augment(key, inputs, targets):
        return jnp.broadcast_to(jax.random.uniform(key, (), inputs.dtype), inputs.shape), targets

    def drawn(seed, n):
        fit = fit_line(dtype, objective, augment=augment, seed=seed, training=line(n, dtype))
        return [epoch.training["drawn"] for epoch in fit.history], fit.history[0].validation["drawn"]

    first, tested = drawn(0, 8)
    assert len(set(first)) == 4 and drawn(0, 8)[0] == first and set(first).isdisjoint(drawn(1, 8)[0])
    # Two steps in an epoch: their mean is that of two keys.
    assert set(drawn(0, 16)[0]).isdisjoint(first)
    ((inputs, _, _),) = line(13, dtype, batch_size=13).in_order()
    assert tested == pytest.approx(float(jnp.mean(inputs[:, 0])), rel=1e-5)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("how", ["structure", "prefix", "function"])
def test_what_is_not_trainable_stays(how):
    network = {"a": jnp.zeros(3), "b": [jnp.ones(2), jnp.ones(3)], "name": "x", "n": 2.0, "order": jnp.arange(2)}
    specs = {
        "structure": eqx.tree_at(lambda tree: tree["b"][0], jax.tree.map(lambda _: False, network), True),
        "prefix": {"a": False, "b": [True, False], "name": True, "n": True, "order": True},
        "function": lambda leaf: eqx.is_array(leaf) and leaf.shape == (2,),
    }

    def objective(network, inputs, targets):
        line = network["b"][0] + jnp.sum(network["a"] + network["b"][1])
        return regression(line * network["n"], inputs, targets)

    data = line(13, jnp.float32)
    learned = train.fit(network, objective, data, data, optimizer=SGD, epochs=2, trainable=specs[how]).network
    assert not np.any(learned["b"][0] == 1.0)
    assert eqx.tree_equal(eqx.tree_at(lambda tree: tree["b"][0], learned, network["b"][0]), network)


class Two(eqx.Module):
    calm: jax.Array
    wild: jax.Array


def wild(broken):
    """An objective whose gradient, or loss too, breaks in the batch with the sample number 20."""

    def objective(network, inputs, targets):
        # The derivative of a square root at zero is infinite; its value is not.
        is_bad = targets == 20.0
        value = jnp.sqrt(jnp.where(is_bad, 0.0, 1.0) * network.wild**2) if broken == "gradient" else network.wild
        value = jnp.where(is_bad, jnp.inf, value) if broken == "loss" else value
        return (network.calm - 1.0) ** 2 + value, {}

    return objective


@pytest.mark.parametrize("broken, cause", [("gradient", "grazes its threshold"), ("loss", "a silent neuron")])
def test_a_gradient_that_is_not_finite_is_named(dtype, tmp_path, broken, cause):
    numbers = jnp.arange(32, dtype=dtype)
    data = Loader(numbers, numbers, batch_size=4)
    network = Two(jnp.zeros((), dtype), jnp.ones((), dtype))
    steps = [bool(np.any(np.asarray(batch) == 20.0)) for batch, _ in data.epoch(1)]
    where = rf"In step {steps.index(True) + 1} of epoch 1 .*`network\.wild`.*{cause}"
    if broken == "loss":
        where = where.replace(r"\.wild", r"\.\w+")
    with pytest.raises(FloatingPointError, match=where):
        train.fit(network, wild(broken), data, data, optimizer=SGD, epochs=2, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_that_breaks_later_leaves_the_checkpoint(dtype, tmp_path):
    breaking = optax.sgd(lambda step: jnp.where(step < 8, 0.1, jnp.inf))
    with pytest.raises(FloatingPointError, match="In step [45] of epoch 2"):
        fit_line(dtype, optimizer=breaking, directory=tmp_path)
    assert len(json.loads((tmp_path / "metrics.json").read_text())) == 1
    with open(tmp_path / "last.eqx", "rb") as file:
        assert len(json.loads(file.readline())["history"]) == 1


def test_a_sample_that_failed_is_an_error(dtype):
    """Its results are looked at outside of the compiled step, which has no callbacks."""

    def told(weight, inputs, targets):
        losses, measures = regression(weight, inputs, targets)
        failed = jax.vmap(lambda x: sx.RESULTS.where(x == 100.0, sx.RESULTS.not_finite, sx.RESULTS.successful))(
            inputs[:, 0]
        )
        fine = jax.tree.map(jnp.zeros_like, failed)
        return losses, measures | {"results": {"hidden": fine, "output": failed}}

    assert fit_line(dtype, objective=told).history[0].training["accuracy"] >= 0.0
    inputs = jnp.ones((7, 2), dtype).at[5, 0].set(100.0)
    data = [(inputs[:4], inputs[:4, 0]), (inputs[4:], inputs[4:, 0])]
    message = "Sample 1 of the batch failed. Layer `output`: A state became infinite or NaN."
    with pytest.raises(RuntimeError, match=f"Step 2 of epoch 1: {message}"):
        train.fit(jnp.zeros(2, dtype), told, data, data, optimizer=SGD, epochs=1)
    with pytest.raises(RuntimeError, match=f"Batch 2: {message}"):
        train.evaluate(jnp.zeros(2, dtype), told, data)
    with pytest.raises(TypeError, match="`results` must be `Solution.results`"):
        fit_line(dtype, objective=lambda *given: (regression(*given)[0], {"results": 1.0}))


def test_fit_reports_a_diverged_loss(dtype):
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        fit_line(dtype, optimizer=optax.sgd(1e30))


@pytest.mark.float64
def test_a_network_of_spiking_neurons_goes_on_to_the_bit(dtype, tmp_path):
    """Parameters in forms of their own learn, and are restored; a mask is no number that learns."""
    points, labels = sx.datasets.yin_yang(12, 0)
    inputs = sx.datasets.yin_yang_spikes(jnp.asarray(points, dtype))
    data = Loader(inputs, jnp.asarray(labels), batch_size=6)
    signs = jnp.asarray([[1.0], [1.0], [-1.0], [1.0], [1.0]], dtype)
    weight = sx.Masked(sx.Signed(2.0 * jnp.broadcast_to(signs, (5, 3)), signs), jnp.arange(15).reshape(5, 3) > 1)
    neuron = sx.LIF(tau_mem=sx.Positive(jnp.asarray(20.0, dtype)), bias=1.5)
    network = sx.sequential(5, sx.Layer(neuron, 3, weights=weight), key=jax.random.key(0))

    def objective(network, inputs, labels):
        times = sx.first_spike(network(inputs, 60.0, until=sx.FirstSpikes(), max_spikes=1))
        return sx.losses.first_spike_cross_entropy(times, labels, t_silent=60.0), {}

    def fit(**options):
        return train.fit(network, objective, data, data, optimizer=MOMENTUM, **options)

    whole = fit(epochs=2)
    fit(epochs=1, directory=tmp_path)
    resumed = fit(epochs=2, directory=tmp_path)
    assert eqx.tree_equal(resumed.network, whole.network)
    learned = whole.network
    assert learned.layers["output"].neuron.tau_mem.log != network.layers["output"].neuron.tau_mem.log
    assert np.all(learned.connections[0].weight.inner.log[1:] != weight.inner.log[1:])
    np.testing.assert_array_equal(learned.connections[0].weight.value[0, :2], 0.0)
    assert without_seconds(resumed.history) == without_seconds(whole.history)


def test_the_progress_bar_tells_what_was_measured(dtype, capsys, tmp_path):
    pytest.importorskip("tqdm")
    fit_line(dtype, directory=tmp_path, epochs=1)
    with train.ProgressBar(3) as bar:
        fit_line(dtype, directory=tmp_path, epochs=3, callbacks=[bar])
    told = capsys.readouterr().err
    assert "compiling" in told and "epoch 2/3" in told and "epoch 3/3" in told
    assert "100 %" in told and ", validation " in told and ", acc" in told


def test_what_watches_is_told_of_every_step(dtype):
    class Watch:
        def __init__(self):
            self.told = []

        def step(self, epoch, share):
            self.told.append((epoch, share))

        def __call__(self, epoch, network):
            self.told.append(epoch.number)

    watch = Watch()
    fit = fit_line(dtype, epochs=2, callbacks=[watch])
    steps = watch.told.index(1)
    assert steps > 1
    first, second = ([(epoch, step / steps) for step in range(steps)] for epoch in (1, 2))
    assert watch.told == [*first, 1, *second, 2]
    assert without_seconds(fit.history) == without_seconds(fit_line(dtype, epochs=2).history)


def test_the_number_of_steps_is_known_after_an_epoch(dtype):
    class Watch:
        def __init__(self):
            self.told = []

        def step(self, epoch, share):
            self.told.append((epoch, share))

        def __call__(self, epoch, network):
            pass

    loader, watch = line(24, dtype), Watch()
    fit_line(dtype, epochs=2, training=loader.epoch, callbacks=[watch])
    assert watch.told == [(2, step / 3) for step in range(3)]


def test_tensorboard_gets_every_measure(dtype, monkeypatch):
    written = {}

    class SummaryWriter:
        def __init__(self, directory):
            assert directory == "runs/here"

        def add_scalar(self, name, value, step):
            written[name, step] = value

        def flush(self):
            written["flushed"] = True

        def close(self):
            written["closed"] = True

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    with train.TensorBoard("runs/here") as board:
        fit = fit_line(dtype, epochs=2, callbacks=[board])
    assert written["loss/validation", 2] == fit.history[1].validation["loss"]
    assert written["accuracy/training", 1] == fit.history[0].training["accuracy"]
    assert written["flushed"] and written["closed"]


def test_optional_packages_are_named(monkeypatch):
    for name in ("tqdm", "tqdm.auto", "tensorboardX", "torch", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install 'spikax"):
        train.ProgressBar(3)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        train.TensorBoard("runs")


def test_labels_that_no_output_has_stop_the_training(dtype):
    """Labels from 1 would otherwise be learned with a loss that falls below zero."""
    inputs = jax.random.normal(jax.random.key(0), (8, 2), dtype)

    def objective(weight, inputs, labels):
        return sx.losses.cross_entropy(inputs @ weight, labels), {}

    def learn(labels):
        data = Loader(inputs, labels, batch_size=4)
        return train.fit(jnp.ones((2, 3), dtype), objective, data, data, optimizer=SGD, epochs=1)

    assert np.isfinite(learn(np.arange(8) % 3).history[0].training["loss"])
    with pytest.raises(RuntimeError, match="`labels` must be from 0 to n - 1 = 2.*Count the classes from 0."):
        learn(1 + np.arange(8) % 3)


@pytest.mark.unchecked
def test_a_silent_network_is_told_once(dtype):
    """By gradients of zero, or by a measure of what is silent."""

    def without_gradient(weight, inputs, targets):
        return jnp.zeros_like(targets) + 0.0 * jnp.sum(weight), {}

    def silent(weight, inputs, targets):
        losses, _ = regression(weight, inputs, targets)
        return losses, {"hidden_silent": jnp.ones_like(losses)}

    cases = (without_gradient, "all gradients were zero"), (silent, "the measure `hidden_silent` was 1")
    for objective, told in cases:
        with pytest.warns(UserWarning) as caught:
            fit_line(dtype, objective, epochs=3)
        (warning,) = caught
        assert f"In epoch 1 {told}" in str(warning.message) and "`sx.silence`" in str(warning.message)
        assert warning.filename == __file__
