"""The version of spikax."""

__version__ = "0.1.0"
