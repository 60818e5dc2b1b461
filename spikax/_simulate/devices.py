"""Checks of arrays on several devices."""

from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer
from jax.sharding import AxisType


# The axis of a mesh over which `spikax.train` divides a batch, in a program without any collective. There an error on
# one device leaves no other waiting.
AXIS = "spikax_samples"


def check_devices(tree: Any, throw: bool) -> None:
    """Raises `ValueError` for arrays that are distributed over several devices in an unsupported way.

    The messages of JAX for these cases name inner arrays of a loop. An error raised on one device leaves the other
    devices waiting until the process is aborted.
    """
    for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)):
        kind = jax.typeof(leaf)
        mesh, spec = kind.sharding.mesh, kind.sharding.spec
        if mesh.empty or mesh.size == 1:
            continue
        named = {name for part in spec if part is not None for name in (part if isinstance(part, tuple) else (part,))}
        axes = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
        if any(axes[name] == AxisType.Explicit for name in named):
            raise ValueError(
                f"`inputs` and the network must not be sharded over explicit axes of a mesh; got {kind}. "
                "Simulate inside `jax.shard_map(..., check_vma=False)`, or create the mesh with `AxisType.Auto`."
            )
        varying = getattr(getattr(kind, "manual_axis_type", None), "varying", ())
        if varying:
            raise ValueError(
                "`jax.shard_map` must be called with `check_vma=False` around a simulation; got an array that varies "
                f"over {sorted(varying)}. The loops of a simulation start from constants, which do not vary over axes."
            )
        if throw and isinstance(leaf, Tracer) and mesh.axis_names != (AXIS,):
            raise ValueError(
                f"`throw` must be False under `jax.jit` with arrays on {mesh.size} devices; got True. An error on "
                "one device would leave the others waiting. Check `Solution.result` outside `jax.jit`, or divide the "
                "batch by `sx.train.value_and_grad(objective, devices=...)`."
            )
