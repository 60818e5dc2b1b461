"""What a file does not say: what a spike is, and the unit of time."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .._checks import require, require_instance, require_positive


class Dirac(eqx.Module):
    """A spike is a Dirac pulse: a current through a resistance changes a voltage at once.

    **Arguments:**

    - `area`: the area of the pulse, in units of time of the file: one in the equations of NIR. For files of simulators
      in which a spike has the height one for a time step, the length of the step gives a pulse of the same area.

    **Raises:** `TypeError` or `ValueError` for an area that is not a positive number.
    """

    area: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        require_instance(self.area, (int, float), "area", "a number")
        require_positive(float(self.area), "area")


class Rectangle(eqx.Module):
    """A spike is a rectangle of height one.

    **Arguments:**

    - `duration`: the duration of the rectangle, in units of time of the file; for files of simulators with time steps,
      the length of a step.

    **Raises:** `TypeError` or `ValueError` for a duration that is not a positive number.
    """

    duration: float = eqx.field(static=True)

    def __check_init__(self):
        require_instance(self.duration, (int, float), "duration", "a number")
        require_positive(float(self.duration), "duration")


class Euler(eqx.Module):
    r"""Decays are those of a simulator with time steps $\Delta t$, by the forward Euler method.

    In a step it multiplies a variable by $1 - \Delta t / \tau$. The same decay in continuous time has the time constant

    $$ \tau_{eff} = \frac{-\Delta t}{\log(1 - \Delta t / \tau)}, $$

    which is shorter than $\tau$. With it, one variable under an input that is constant in each step has the values of
    the simulator at the ends of the steps, up to a spike.

    **Arguments:**

    - `step`: the length of a step, in units of time of the file.

    **Raises:** `TypeError` or `ValueError` for a step that is not a positive number.
    """

    step: float = eqx.field(static=True)

    def __check_init__(self):
        require_instance(self.step, (int, float), "step", "a number")
        require_positive(float(self.step), "step")


Spike = Dirac | Rectangle

RESETS, THRESHOLDS = ("value", "subtraction"), ("rise",)

MILLISECONDS = {"s": 1000.0, "ms": 1.0, "us": 0.001}


class Convention(NamedTuple):
    """What a file does not say. What a spike is, and the unit of time, may be unknown until they matter."""

    spike: Spike | None
    time_unit: str | None
    decay: Euler | None = None
    reset: str = "value"
    threshold: str | None = None

    @classmethod
    def of(
        cls, spike: Any, time_unit: Any, decay: Any = None, reset: Any = "value", threshold: Any = None
    ) -> "Convention":
        """The convention of the arguments of `from_nir` or `to_nir`."""
        hint = "For example `sx.nir.Dirac()` or `sx.nir.Rectangle(1e-3)`."
        if spike is not None:
            require_instance(spike, (Dirac, Rectangle), "spike", "a `sx.nir.Dirac` or a `sx.nir.Rectangle`", hint)
        is_unit = time_unit is None or (isinstance(time_unit, str) and time_unit in MILLISECONDS)
        require(is_unit, "time_unit", f"one of {list(MILLISECONDS)}", time_unit)
        if decay is not None:
            require_instance(decay, Euler, "decay", "None or a `sx.nir.Euler`", "For example `sx.nir.Euler(1e-3)`.")
        require(isinstance(reset, str) and reset in RESETS, "reset", f"one of {list(RESETS)}", reset)
        is_known = threshold is None or (isinstance(threshold, str) and threshold in THRESHOLDS)
        require(is_known, "threshold", f"None or one of {list(THRESHOLDS)}", threshold)
        return cls(spike, time_unit, decay, reset, threshold)

    def shape_of_spikes(self, node: str) -> Spike:
        """What a spike is. Raises `ValueError` if that is unknown, as it matters for `node`."""
        hint = (
            f"NIR does not say what spikes `{node}` receives: pulses, `sx.nir.Dirac()`, or rectangles of a duration, "
            "such as a time step of the simulator that wrote the file, `sx.nir.Rectangle(1e-4)`."
        )
        require(self.spike is not None, "spike", "given", self.spike, hint)
        assert self.spike is not None
        return self.spike

    def unit(self, node: str) -> float:
        """The unit of time in ms. Raises `ValueError` if that is unknown, as it matters for `node`."""
        hint = f"NIR does not say in which unit the times of `{node}` are. Most files are in seconds: `time_unit='s'`."
        require(self.time_unit is not None, "time_unit", f"one of {list(MILLISECONDS)}", self.time_unit, hint)
        assert self.time_unit is not None
        return MILLISECONDS[self.time_unit]

    def milliseconds(self, node: str, value: Any) -> np.ndarray:
        """Times of a node in ms."""
        return np.asarray(np.asarray(value, np.float64) * self.unit(node))

    def time_constants(self, node: str, value: np.ndarray) -> np.ndarray:
        """Time constants of a node whose decays in continuous time are those of the file."""
        if self.decay is None:
            return value
        hint = "A step of the Euler method would take the variable to zero, or beyond."
        require(
            bool(np.all(value > self.decay.step)), node, f"above the step of `decay`, {self.decay.step}", value, hint
        )
        return -self.decay.step / np.log1p(-self.decay.step / value)


def library() -> Any:
    """The package `nir`. Raises `ImportError` if it is not installed."""
    try:
        import nir
    except ImportError as error:
        raise ImportError("NIR requires the package nir: `pip install 'spikax[nir]'`.") from error
    return nir


def refuse(node: Any, name: str, reason: str, remedy: str) -> None:
    """Raises `ValueError` for a node of a graph, or a part of a network, that has no exact counterpart."""
    raise ValueError(f"`{name}`, a {type(node).__name__}, has no exact counterpart: {reason}. {remedy}")
