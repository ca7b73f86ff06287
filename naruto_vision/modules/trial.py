"""Trial runs: which option makes a run one, and what it may write."""

import math
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn

from naruto_vision.io.locks import is_in_use

_WHOLLY = ("fast_dev_run", "overfit_batches")
_STAGES = {
    TrainerFn.FITTING: ("train", "val"),
    TrainerFn.VALIDATING: ("val",),
    TrainerFn.TESTING: ("test",),
    TrainerFn.PREDICTING: ("predict",),
}


def trial_option(trainer: pl.Trainer) -> str:
    """Return the option, with its value, that makes a run a trial: one that does not see all of its data; "" if none.

    ``limit_val_batches 0`` is no trial, but a fit without validation. ``max_steps`` is one if it is less than an epoch.
    """
    for name in _WHOLLY:
        if value := getattr(trainer, name):
            return f"trainer.{name} {value}"
    for stage in _STAGES.get(trainer.state.fn, ()) if trainer.state.fn else ():
        limit: int | float = getattr(trainer, f"limit_{stage}_batches")
        whole = isinstance(limit, float) and limit == 1.0
        if not whole and not (stage == "val" and limit == 0 and trainer.state.fn == TrainerFn.FITTING):
            return f"trainer.limit_{stage}_batches {limit}"
    if trainer.state.fn == TrainerFn.FITTING and trainer.optimizers:
        steps = trainer.max_steps * trainer.accumulate_grad_batches
        return f"trainer.max_steps {trainer.max_steps}" if 0 <= steps < trainer.num_training_batches < math.inf else ""
    return ""


def withheld(trainer: pl.Trainer, target: str | Path) -> str:
    """Return why a run must not write a file or folder, or "" if it may.

    ``fast_dev_run`` and ``overfit_batches`` write nothing. A run that leaves out data replaces nothing.
    """
    option = trial_option(trainer)
    if not option or option.split()[0] in {f"trainer.{name}" for name in _WHOLLY}:
        return option and f"{option}: a trial run writes nothing; the same command without it does"
    path = Path(target)
    if not (path.is_file() or (path.is_dir() and is_in_use(path))):
        return ""
    return f"{option}: a run on a part of the data does not replace {target}; name another one, or omit the option"
