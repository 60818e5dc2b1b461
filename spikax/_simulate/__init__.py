"""Simulation: `simulate`, its arguments and its results."""

from .entry import simulate as simulate
from .results import RESULTS as RESULTS
from .snapshot import Snapshot as Snapshot
from .solution import Solution as Solution, Stats as Stats
from .stopping import FirstSpikes as FirstSpikes
