"""Losses: on first spikes, on whole spike trains, on scores such as voltages or counts, and terms to add to them.

All give one number per sample, but `earliest` and `largest`, the answers of a network, and those that make scores. Take
the mean over the batch yourself.
"""

from ._first_spike import (
    earliest as earliest,
    first_spike_cross_entropy as first_spike_cross_entropy,
    first_spike_margin as first_spike_margin,
    first_spike_mse as first_spike_mse,
)
from ._regularisers import count_bounds as count_bounds, silent_peak as silent_peak, time_bounds as time_bounds
from ._scores import (
    cross_entropy as cross_entropy,
    integral as integral,
    largest as largest,
    last as last,
    maximum as maximum,
    mean as mean,
)
from ._trains import spike_count as spike_count, spike_times as spike_times, van_rossum as van_rossum
