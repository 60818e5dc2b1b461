"""Plots of networks, weights, spikes, voltages, training and predictions.

Each function draws into the Matplotlib axes `ax`, by default those of the current figure, and returns them. It neither
shows nor saves the figure.
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
