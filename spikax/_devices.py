"""What has to be known of arrays on several devices."""

from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer
from jax.sharding import AxisType


def check_devices(tree: Any, throw: bool) -> None:
    """Raises `ValueError` where arrays lie on several devices in a way that a simulation cannot go along with.

    JAX's own messages for that name inner arrays of a loop; and an error that one device raises leaves the others
    waiting for it until the process is aborted.
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
                "Simulate inside of `jax.shard_map(..., check_vma=False)`, or make the mesh with `AxisType.Auto`."
            )
        varying = getattr(getattr(kind, "manual_axis_type", None), "varying", ())
        if varying:
            raise ValueError(
                "`jax.shard_map` must be called with `check_vma=False` around a simulation; got an array that varies "
                f"over {sorted(varying)}. Loops start from constants, which vary over no axis."
            )
        if throw and isinstance(leaf, Tracer):
            raise ValueError(
                f"`throw` must be False under `jax.jit` with arrays on {mesh.size} devices; got True. An error of "
                "one device would leave the others waiting. Look at `Solution.result` outside of `jax.jit`."
            )
