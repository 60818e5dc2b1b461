"""An interruption of the command line while its imports, of which JAX takes seconds, are on their way."""

import os
import signal
import sys
from typing import Any


def _stop(*_: Any) -> None:
    print("\npython -m spikax: stopped before the beginning; call the same command again.", file=sys.stderr, flush=True)
    # At once: an exception in the middle of an import may be taken for another.
    os._exit(130)


# Python looks for the module that it shall run, the command line, and for this imports the package. `__main__` takes
# over when it begins.
if sys.argv[:1] == ["-m"] and "spikax" in sys.orig_argv:
    signal.signal(signal.SIGINT, _stop)
