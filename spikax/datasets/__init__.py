"""Data sets, and how they come in batches."""

from ._loader import Loader as Loader
from ._yin_yang import yin_yang as yin_yang, yin_yang_spikes as yin_yang_spikes, YinYang as YinYang
