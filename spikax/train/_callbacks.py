"""Callbacks of the training loop."""

import importlib
import os
from typing import Any

from .._checks import require_count
from ._epoch import Epoch


class ProgressBar:
    """A callback of [`spikax.train.fit`][] that shows a progress bar with losses and measures, also in a notebook.

    ```python
    with sx.train.ProgressBar(50) as bar:
        sx.train.fit(..., epochs=50, callbacks=[bar])
    ```

    **Arguments:**

    - `epochs`: the number of epochs.

    **Raises:** `ImportError` if tqdm is not installed.
    """

    def __init__(self, epochs: int):
        require_count(epochs, "epochs")
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("`sx.train.ProgressBar` requires tqdm: `pip install 'spikax[cli]'`.") from error
        layout = "{desc} {bar} {percentage:3.0f} %, {remaining} left{postfix}"
        self._bar = tqdm(
            total=epochs, bar_format=layout, desc="compiling", dynamic_ncols=True, mininterval=1, miniters=0
        )

    def step(self, epoch: int, share: float) -> None:
        """Updates the bar after a step. `share` is the fraction of the epoch that is done."""
        if self._bar.n == 0:
            # A resumed training starts at a later epoch. Estimate the remaining time from there.
            self._bar.initial = self._bar.n = self._bar.last_print_n = epoch - 1
        self._bar.set_description_str(f"epoch {epoch}/{self._bar.total}", refresh=False)
        self._bar.update(epoch - 1 + share - self._bar.n)

    def __call__(self, epoch: Epoch, network: Any) -> None:
        losses = f"loss {epoch.training['loss']:.3f}, validation {epoch.validation['loss']:.3f}"
        measures = [_told(name, value) for name, value in epoch.validation.items() if name != "loss"]
        self._bar.set_postfix_str(", ".join([losses, *measures]), refresh=False)
        self.step(epoch.number, 1.0)
        self._bar.refresh()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()


class TensorBoard:
    """A callback of [`spikax.train.fit`][] that writes losses and measures for TensorBoard.

    ```python
    with sx.train.TensorBoard("runs/first") as board:
        sx.train.fit(..., callbacks=[board])
    ```

    **Arguments:**

    - `directory`: the log directory.

    **Raises:** `ImportError` if neither tensorboardX nor PyTorch with TensorBoard is installed.
    """

    def __init__(self, directory: str | os.PathLike):
        self._writer = _summary_writer()(os.fspath(directory))

    def __call__(self, epoch: Epoch, network: Any) -> None:
        for part, values in (("training", epoch.training), ("validation", epoch.validation)):
            for name, value in values.items():
                self._writer.add_scalar(f"{name}/{part}", value, epoch.number)
        self._writer.add_scalar("seconds", epoch.seconds, epoch.number)
        self._writer.flush()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: Any) -> None:
        self._writer.close()


def _told(name: str, value: float) -> str:
    is_share = name.endswith(("accuracy", "silent", "bursting"))
    return f"{name.replace('_', ' ')} {value:{'.1%' if is_share else '.3g'}}"


def _summary_writer() -> Any:
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return importlib.import_module(module).SummaryWriter
        except ImportError:
            continue
    raise ImportError("`sx.train.TensorBoard` requires tensorboardX or PyTorch: `pip install tensorboardX`.")
