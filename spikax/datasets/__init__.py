"""Data sets that are made, not downloaded."""

from ._yin_yang import yin_yang as yin_yang, yin_yang_spikes as yin_yang_spikes, YinYang as YinYang
