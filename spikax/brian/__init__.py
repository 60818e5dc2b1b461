"""Networks as scripts for the simulator Brian2. Writing needs no further package; running them needs Brian2."""

from ._write import to_brian2 as to_brian2
