"""Pictures: networks, weights, spikes, voltages, training, answers.

Each function draws into the axes `ax`, those of the current figure by default, and returns them. None shows or saves.
"""

from ._learning import (
    confusion_matrix as confusion_matrix,
    decision_map as decision_map,
    learning_curve as learning_curve,
)
from ._network import network as network
from ._spikes import raster as raster, traces as traces
from ._style import CLASS_COLOURS as CLASS_COLOURS
from ._weights import delays as delays, weight_histogram as weight_histogram, weights as weights
