"""Training with an Optax optimiser: the training loop, checkpoints and callbacks."""

from ._callbacks import ProgressBar as ProgressBar, TensorBoard as TensorBoard
from ._checkpoint import read_history as read_history
from ._epoch import Epoch as Epoch
from ._fit import Fit as Fit, fit as fit
from ._gradient import value_and_grad as value_and_grad
from ._objective import evaluate as evaluate, Objective as Objective
