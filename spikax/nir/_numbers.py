"""Numbers that come back as they were."""

from typing import Any

import numpy as np


def divided(value: Any, by: Any) -> np.ndarray:
    """`value / by` in float64, rounded such that its product with `by` is `value`, wherever a number does that."""
    value, by = np.broadcast_arrays(np.asarray(value, np.float64), np.asarray(by, np.float64))
    quotient = value / by
    for other in (np.nextafter(quotient, np.inf), np.nextafter(quotient, -np.inf)):
        quotient = np.where((quotient * by != value) & (other * by == value), other, quotient)
    return quotient
