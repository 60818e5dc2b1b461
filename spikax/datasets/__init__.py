"""Data sets that are made, not downloaded."""

from ._delay_copy import delay_copy as delay_copy, DelayCopy as DelayCopy
from ._delayed_xor import delayed_xor as delayed_xor, DelayedXOR as DelayedXOR
from ._yin_yang import yin_yang as yin_yang, yin_yang_spikes as yin_yang_spikes, YinYang as YinYang
