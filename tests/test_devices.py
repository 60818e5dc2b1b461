"""Training on several devices, and in several processes, each in processes of their own."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spikax.datasets import Loader

from . import process


HERE = pathlib.Path(__file__).parent


def started(script, *arguments, devices):
    """A Python process with a number of devices, which compiles as the other tests do by `make test`."""
    flags = f"--xla_cpu_use_fusion_emitters=false --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, HERE / script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=environment, cwd=HERE.parent, text=True, **pipes)


def ended(*processes):
    """Waits for processes. Raises with what they wrote, unless all succeed."""
    try:
        told = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(told)


@pytest.mark.slow
@pytest.mark.modes("float64")
def test_training_on_one_two_and_four_devices():
    ended(started("data_parallel.py", devices=4))


@pytest.mark.slow
@pytest.mark.modes("float64")
def test_training_in_two_processes(tmp_path):
    """With checkpoints, from which both go on, it is the training of one process."""
    for epochs in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ended(*(started("process.py", index, port, epochs, tmp_path, devices=2) for index in (0, 1)))
    with jax.numpy_dtype_promotion("standard"):
        expected = process.fit(None, 3, None)
        # One process goes on from the checkpoint of two.
        found = process.fit(tmp_path, 3, None)
    for leaf, like in zip(*(jax.tree.leaves(fit.network) for fit in (found, expected)), strict=True):
        np.testing.assert_allclose(leaf, like, rtol=1e-9)
    written = json.loads((tmp_path / "result.json").read_text())
    for found, epoch in zip(written, expected.history[:2], strict=True):
        for part, values in (("training", epoch.training), ("validation", epoch.validation)):
            assert found[part] == pytest.approx(values, rel=1e-9)
    rows = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["epoch"] for row in rows] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.modes("float64")
def test_the_page_on_devices_and_hosts(tmp_path, monkeypatch):
    """Its code runs as it stands, here with fewer samples, on all devices that there are."""
    blocks = re.findall(r"```python\n(.*?)```", (HERE.parent / "docs" / "scaling.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("5000", "100").replace("1000", "50").replace("epochs=20", "epochs=2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax.distributed, "initialize", lambda: None)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(code, "scaling.md", "exec"), names)
    assert len(names["fit"].history) == 2 and (tmp_path / "runs" / "first" / "last.eqx").exists()
    assert not np.array_equal(names["network"].connections[0].weight, names["fit"].network.connections[0].weight)


@pytest.mark.modes("float32")
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shares_of_a_loader_are_its_batches(count):
    """In their order, of equal size but for one sample, and each sample of the evaluation once."""
    samples = jnp.arange(23.0)
    whole = Loader(samples, samples, batch_size=5, seed=1)
    shares = [whole.share(index, count) for index in range(count)]
    assert all(len(share) == len(whole) for share in shares)
    for batches in zip(whole.epoch(3, start=1), *(share.epoch(3, start=1) for share in shares), strict=True):
        (batch, _), *parts = batches
        np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), batch)
        assert {part.size for part, _ in parts} <= {5 // count, -(-5 // count)}
    seen = [part[:valid] for share in shares for part, _, valid in share.in_order()]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), samples)


@pytest.mark.modes("float32")
def test_shares_that_do_not_exist_are_refused():
    loader = Loader(jnp.arange(8.0), jnp.arange(8.0), batch_size=4)
    for arguments, message in (
        ((2, 2), "`index` must be below `count`, 2"),
        ((-1, 2), "`index` must be at least 0"),
        ((0, 0), "`count` must be at least 1"),
        ((0, 5), "`count` must be at most 4, the size of a batch"),
    ):
        with pytest.raises(ValueError, match=message):
            loader.share(*arguments)
    assert repr(loader.share(1, 2)) == "Loader(8 samples, batch_size=4, seed=0, share=1/2)"
