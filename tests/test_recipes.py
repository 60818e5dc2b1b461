"""The page of recipes runs as it stands, with stand-ins for the libraries that are not installed."""

import re
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest


PAGE = Path(__file__).parent.parent / "docs" / "recipes.md"
pytestmark = pytest.mark.modes("float32")  # the documentation is for JAX as it comes


class TrialPruned(Exception):
    pass


class Trial:
    def __init__(self, number, told):
        self.number, self._told = number, told

    def suggest_float(self, name, low, high, log):
        assert log
        return low if self.number == 0 else high

    def report(self, value, step):
        self._told.append((self.number, step, value))

    def should_prune(self):
        return self.number == 1  # the second trial, after its first epoch


def optuna(told):
    """A study of trials, of which the second is pruned."""

    class Study:
        best_params = None

        def optimize(self, train, n_trials, catch):
            assert catch is FloatingPointError
            for number in range(n_trials):
                try:
                    told.append((number, "ended", train(Trial(number, told))))
                except TrialPruned:
                    told.append((number, "pruned"))

    pruners = types.SimpleNamespace(MedianPruner=lambda: None)
    return types.SimpleNamespace(
        TrialPruned=TrialPruned, pruners=pruners, create_study=lambda direction, pruner: Study()
    )


class Run:
    """A run of Weights & Biases or MLflow."""

    def __init__(self, told):
        self._told = told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._told.append("ended")

    def log(self, measures, step):
        self._told.append((step, measures))


def mlflow(told):
    return types.SimpleNamespace(
        start_run=lambda: Run(told),
        log_params=told.append,
        log_metrics=Run(told).log,
        log_artifact=lambda path: told.append(Path(path).exists()),
    )


class DataLoader:
    """A loader whose order follows from its generator."""

    def __init__(self, dataset, batch_size, shuffle, drop_last, generator):
        assert shuffle and drop_last
        self._dataset, self._size, self._generator = dataset, batch_size, generator

    def __len__(self):
        return len(self._dataset[0]) // self._size

    def __iter__(self):
        order = np.random.default_rng(self._generator.seed).permutation(len(self._dataset[0]))
        for rows in order[: len(self) * self._size].reshape(len(self), self._size):
            yield [column[rows] for column in self._dataset]


class Generator:
    def manual_seed(self, seed):
        self.seed = seed


class Tensor:
    """Printers of trees ask whether a leaf is one."""


def torch():
    data = types.SimpleNamespace(TensorDataset=lambda *columns: columns, DataLoader=DataLoader)
    return types.SimpleNamespace(
        utils=types.SimpleNamespace(data=data), as_tensor=np.asarray, Generator=Generator, Tensor=Tensor
    )


class MapDataset:
    """A list of samples, or of batches."""

    def __init__(self, items):
        self._items = items

    source = classmethod(lambda cls, items: cls(items))

    def shuffle(self, seed):
        return MapDataset([self._items[i] for i in np.random.default_rng(seed).permutation(len(self._items))])

    def batch(self, size, drop_remainder=False):
        stop = len(self._items) - (len(self._items) % size if drop_remainder else 0)
        parts = [self._items[i : min(i + size, stop)] for i in range(0, stop, size)]
        return MapDataset([tuple(np.stack(column) for column in zip(*part, strict=True)) for part in parts])

    def __len__(self):
        return len(self._items)

    def __iter__(self):
        return iter(self._items)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names of the page, and what the stand-ins were told."""
    told = {name: [] for name in ("optuna", "wandb", "mlflow")}
    modules = {
        "optuna": optuna(told["optuna"]),
        "wandb": types.SimpleNamespace(init=lambda project, config: Run(told["wandb"])),
        "mlflow": mlflow(told["mlflow"]),
        "torch": torch(),
        "grain": types.SimpleNamespace(MapDataset=MapDataset),
    }
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    # A smaller network and smaller numbers than a reader's, for the sake of time.
    hidden = "    sx.Layer(sx.LIF(), 60, weights=sx.init.normal(2.5, 1.5)),\n"
    assert hidden in code
    code = code.replace(hidden, "").replace('"hidden": 16, ', "")
    smaller = {"5000": "50", "1000": "20", "=500": "=20", "50,": "20,", "50)": "20)", "=20,": "=2,"}
    smaller |= {'"epochs": 20': '"epochs": 2', "epochs=20": "epochs=2", "n_trials=30": "n_trials=2"}
    for text, other in smaller.items():
        code = code.replace(text, other)
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.chdir(tmp_path_factory.mktemp("recipes"))
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        exec(compile(code, "recipes.md", "exec"), names)
    return names, told


def test_gradients_are_accumulated(page):
    names, _ = page
    assert len(names["accumulated"].history) == 2


def test_the_callbacks_are_told_of_every_epoch(page):
    names, told = page
    assert [entry[:2] for entry in told["optuna"]] == [(0, 1), (0, 2), (0, "ended"), (1, 1), (1, "pruned")]
    *epochs, end = told["wandb"]
    assert [step for step, _ in epochs] == [1, 2] and end == "ended"
    assert set(epochs[0][1]) >= {"seconds", "training_loss", "validation_accuracy", "training_gradient_norm"}
    settings, *epochs, saved, end = told["mlflow"]
    assert settings == names["settings"] and saved and end == "ended"
    assert epochs[1][1] == names["fit"].history[1].measures


def test_other_loaders_are_iterated(page):
    names, _ = page
    assert len(names["by_torch"].history) == len(names["by_grain"].history) == 2
