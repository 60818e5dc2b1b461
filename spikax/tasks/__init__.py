"""The tasks of the command line, with their data, networks, losses and figures.

```python
from spikax import tasks

task = tasks.TASKS["yin-yang"]
settings = task.settings(neuron="qif", epochs=10)
trained = tasks.train(task, settings)
print(tasks.test(trained)["accuracy"])
```
"""

from pathlib import Path

from ._figures import evidence as evidence, figures as figures
from ._images import Digits as Digits, MNIST as MNIST, SequentialMNIST as SequentialMNIST
from ._memory import DelayCopy as DelayCopy, DelayedXOR as DelayedXOR
from ._readouts import FirstSpike as FirstSpike, Logits as Logits, Voltage as Voltage
from ._recipes import NEURONS as NEURONS, READOUTS as READOUTS, Recipe as Recipe, RECIPES as RECIPES
from ._run import answers as answers, read as _read, test as test, train as train, Trained as Trained, write as write
from ._settings import SETTINGS as SETTINGS, Settings as Settings
from ._spoken_digits import SpokenDigits as SpokenDigits
from ._task import AbstractTask as AbstractTask
from ._yin_yang import YinYang as YinYang


_ALL = (YinYang(), Digits(), MNIST(), DelayCopy(), DelayedXOR(), SequentialMNIST(), SpokenDigits())
TASKS: dict[str, AbstractTask] = {task.name: task for task in _ALL}


def read(directory: Path | str) -> Trained:
    """Reads the network and the settings of a run from a directory written by the command line or by `write`."""
    return _read(Path(directory), TASKS)
