"""Losses on first spikes, spike trains, and scores such as voltages or spike counts; regularisers.

All losses and regularisers return one number per sample. They take no mean over the batch.
"""

from ._cross_entropy import cross_entropy as cross_entropy
from ._first_spike import (
    first_spike_cross_entropy as first_spike_cross_entropy,
    first_spike_margin as first_spike_margin,
    first_spike_mse as first_spike_mse,
)
from ._regularisers import count_bounds as count_bounds, silent_peak as silent_peak, time_bounds as time_bounds
from ._trains import spike_count as spike_count, spike_times as spike_times, van_rossum as van_rossum
