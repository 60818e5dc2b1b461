"""The float type of the tests, and the tolerances that go with it.

The environment variable `SPIKAX_TEST_DTYPE` names the mode: `float32` (the default), `float64`, or `mixed`: networks
in float32 while JAX's default is float64, where a stray default float or a weak type shows. With `SPIKAX_TEST_TYPES=1`
the annotated types and shapes of the whole package are checked, too.
"""

import os

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import install_import_hook

from . import typechecker


MODES = ("float32", "float64", "mixed")
MODE = os.environ.get("SPIKAX_TEST_DTYPE", "float32")
if MODE not in MODES:
    raise ValueError(f"`SPIKAX_TEST_DTYPE` must be one of {MODES}; got {MODE!r}.")
jax.config.update("jax_enable_x64", MODE != "float32")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
CHECKS_TYPES = os.environ.get("SPIKAX_TEST_TYPES") == "1"
if CHECKS_TYPES:
    install_import_hook("spikax", f"{typechecker.__name__}.checked")


def pytest_configure(config):
    config.addinivalue_line("markers", "float64: needs the precision of float64; skipped in the other modes")
    config.addinivalue_line("markers", "modes(*names): skipped in the other modes, where it would show nothing new")
    config.addinivalue_line(
        "markers", "unchecked: passes wrong types or looks at frames; skipped where types are checked"
    )


def pytest_collection_modifyitems(items):
    for item in items:
        # The nearest marks count: those of a test come before those of its module.
        modes = next((mark for mark in item.iter_markers() if mark.name in ("modes", "float64")), None)
        names = MODES if modes is None else modes.args or ("float64",)
        if CHECKS_TYPES and item.get_closest_marker("unchecked"):
            item.add_marker(pytest.mark.skip(reason="passes wrong types or looks at frames"))
        if MODE not in names:
            item.add_marker(pytest.mark.skip(reason=f"needs SPIKAX_TEST_DTYPE={' or '.join(names)}"))


@pytest.fixture(scope="session")
def dtype():
    """The float type of networks and times."""
    return jnp.dtype(jnp.float64 if MODE == "float64" else jnp.float32)


@pytest.fixture(scope="session")
def close(dtype):
    """The relative tolerance for short fixed steps: their own error, and the rounding of some hundred of them."""
    return 1e-12 if dtype == jnp.float64 else 8e-6


@pytest.fixture(scope="session")
def accurate(dtype):
    """The tolerance, in ms, for spike times at the default tolerances of the solver."""
    return 1e-6 if dtype == jnp.float64 else 2e-3
