"""Training on several devices, and in several processes, each in processes of their own."""

import os
import pathlib
import subprocess
import sys

import pytest


HERE = pathlib.Path(__file__).parent


@pytest.mark.slow
def test_training_on_one_two_and_four_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    script = [sys.executable, HERE / "data_parallel.py"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
