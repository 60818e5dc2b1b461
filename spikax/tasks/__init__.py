"""What the command line trains: tasks with their data, networks, losses and pictures.

```python
from spikax import tasks

task = tasks.TASKS["yin-yang"]
settings = task.settings(neuron="qif", epochs=10)
trained = tasks.train(task, settings)
print(tasks.test(trained)["accuracy"])
```
"""

from pathlib import Path

from ._figures import figures as figures
from ._images import Digits as Digits, MNIST as MNIST
from ._memory import DelayCopy as DelayCopy, DelayedXOR as DelayedXOR
from ._readouts import FirstSpike as FirstSpike, READOUTS as READOUTS, Voltage as Voltage
from ._recipes import NEURONS as NEURONS, Recipe as Recipe
from ._run import (
    answers as answers,
    read as _read,
    test as test,
    train as train,
    Trained as Trained,
    write as write,
)
from ._settings import Settings as Settings
from ._task import AbstractTask as AbstractTask
from ._yin_yang import YinYang as YinYang


TASKS: dict[str, AbstractTask] = {task.name: task for task in (YinYang(), Digits(), MNIST(), DelayCopy(), DelayedXOR())}


def read(directory: Path | str) -> Trained:
    """Reads the network and the settings of a run from its directory, which the command line or `write` wrote."""
    return _read(Path(directory), TASKS)
