"""Base of both tuners: export of the best checkpoint, learning-rate schedule, exact resumption."""

import logging
import math
import random
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.optimizer import ParamsT
from typing_extensions import override

from naruto_vision.errors import InputError, TrainingStoppedError
from naruto_vision.io.atomic import atomic_file
from naruto_vision.modules.trial import trial_option, withheld

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up to the optimiser's learning rate, then cosine decay to a floor, stepped each optimiser step."""

    warm_up: float = 0.1
    warm_up_epochs: float | None = None
    min_lr_factor: float = 0.01

    def __post_init__(self) -> None:
        if not (0 <= self.warm_up < 1 and 0 <= self.min_lr_factor <= 1 and (self.warm_up_epochs or 0) >= 0):
            msg = f"schedule: warm_up in [0, 1), warm_up_epochs >= 0 and min_lr_factor in [0, 1] expected, found {self}"
            raise InputError(msg)

    def build(self, optimizer: Optimizer, steps: int, epochs: int | None) -> LambdaLR:
        """Build the schedule of a run of this many steps, and epochs if the warm-up is in epochs."""
        rising, floor = self.rising(steps, epochs), self.min_lr_factor

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            done = min(1.0, (step - rising) / max(1, steps - rising))
            return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))

        return LambdaLR(optimizer, factor)

    def rising(self, steps: int, epochs: int | None) -> int:
        """Count the steps of the warm-up, at least one."""
        if self.warm_up_epochs is None:
            return max(1, round(steps * self.warm_up))
        if not epochs or epochs < 0:
            msg = f"schedule.warm_up_epochs={self.warm_up_epochs} needs trainer.max_epochs; or give schedule.warm_up"
            raise InputError(msg)
        return max(1, round(steps * self.warm_up_epochs / epochs))


@dataclass(frozen=True)
class PassFigures:
    """The metrics of one validation or test pass: the score that chooses the best (higher is better), and the rest."""

    score: float
    named: Mapping[str, float] = field(default_factory=dict)
    confusion: Tensor | None = None  # (C, C), int64, rows are true classes

    def also(self, named: Mapping[str, float]) -> "PassFigures":
        """Return these with further metrics."""
        return replace(self, named={**named, **self.named})


def adamw(parameters: ParamsT) -> Optimizer:
    """Build the default optimiser of networks that are trained from random weights."""
    return AdamW(parameters, lr=1.5e-3, weight_decay=0.01)


class ExportBundle(Callback):
    """Writes the tuner's bundle whenever ``valid/score`` is higher than in all earlier validations.

    ``ModelCheckpoint(monitor="valid/score", mode="max")`` chooses the same weights; one without a monitor, as in
    ``regions.yaml``, keeps the last ones. Without validation the bundle is of the last step. A trial run writes no
    bundle, and no checkpoints.

    Attributes:
        withheld: Why this run writes nothing; empty if it does.
        kept: Weight of the tuned weights in what ``ChooseWeights`` left in the bundle; 1 are those of the best epoch.
        figures: The metrics of these, if they are others.
    """

    def __init__(self) -> None:
        self.kept, self.figures = 1.0, PassFigures(-math.inf)
        self.epoch = -1
        self.best = PassFigures(-math.inf)
        self.withheld = ""
        self._trial = ""  # the option that makes this run, or the resumed one, a trial

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write nothing as long as nothing is trained, but what a run that was killed after its last step has not."""
        trial = self._trial or trial_option(trainer)
        if self.epoch >= 0 and not trial and isinstance(pl_module, Tuner) and Path(pl_module.bundle_dir).is_dir():
            return
        self.withheld = "no training step was done (see trainer.max_epochs, trainer.max_steps and --ckpt_path)"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out whether the run is a trial."""
        option = trial_option(trainer)
        goes_on = option and option == self._trial  # what is there is this run's own
        reason = "" if goes_on or not isinstance(pl_module, Tuner) else withheld(trainer, pl_module.bundle_dir)
        self.withheld, self._trial = trainer.strategy.broadcast(reason), option  # one answer for all processes
        callbacks: list[Callback] = getattr(trainer, "callbacks", [])
        for callback in trainer.checkpoint_callbacks if self.withheld else ():
            callbacks.remove(callback)
        if self.withheld and trainer.is_global_zero:
            _LOG.info("nothing will be written: %s", self.withheld)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the bundle if this validation is the best so far."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not isinstance(pl_module, Tuner):
            return
        figures = pl_module.figures
        if figures is not None and figures.score > self.best.score:  # False for NaN
            self.epoch, self.best = trainer.current_epoch, figures
            self._write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the bundle of a run that had no validation."""
        if self.epoch < 0:
            self._write(trainer, pl_module)
        if trainer.is_global_zero and self.withheld:
            _LOG.info("nothing was written: %s", self.withheld)

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and isinstance(module, Tuner) and not self.withheld:
            figures = {name: round(value, 4) for name, value in self.best.named.items() if not name.startswith("loss")}
            module.save_bundle(figures)  # without the losses, which depend on the recipe

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation, as values that ``weights_only`` loads."""
        return {"epoch": self.epoch, "trial": self._trial, **vars(self.best), "named": dict(self.best.named)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best validation of the resumed run."""
        self.epoch, self._trial = int(state_dict["epoch"]), state_dict.get("trial", "")
        self.best = PassFigures(float(state_dict["score"]), dict(state_dict["named"]), state_dict["confusion"])


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their final name and renames them, as every other file is written.

    Lightning writes them into the folder for temporary files first, from where a shared disk gets a copy, which a kill
    may leave incomplete under its final name.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_file(path) as temporary:
            torch.save(checkpoint, temporary)


class LastCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` of a ``ModelCheckpoint`` with ``save_last`` also when a validation was not the best.

    ``ModelCheckpoint`` itself saves it only together with a best one, so that resuming would repeat epochs.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after each epoch."""
        self._save(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after each validation, if validation counts steps instead of epochs."""
        if trainer.check_val_every_n_epoch is None and not trainer.sanity_checking:
            self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        best = isinstance(module, Tuner) and module.figures is module.export.best
        for callback in trainer.checkpoint_callbacks if trainer.state.fn == TrainerFn.FITTING else ():
            if not isinstance(callback, ModelCheckpoint) or (best and callback.monitor):  # the best has just been saved
                continue
            if callback.save_last is True and callback.last_model_path:
                trainer.save_checkpoint(callback.last_model_path)


class Tuner(pl.LightningModule):
    """A trained module whose best weights by ``valid/score`` are written as a bundle to ``bundle_dir``.

    Its checkpoints also contain the global random states, which Lightning leaves out. ``warm_up`` is the fraction of
    the default schedule's steps in which the learning rate rises.
    """

    warm_up = 0.1

    def __init__(
        self,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None,
        bundle_dir: str,
        facts: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self.optimizer, self.scheduler = optimizer, scheduler
        self.bundle_dir, self.facts = bundle_dir, facts or {}
        self.figures: PassFigures | None = None
        self.export = ExportBundle()
        self._random: dict[str, Any] = {}

    @property
    def withheld(self) -> str:
        """Why this run writes nothing (a trial run); empty if it does."""
        return self.export.withheld

    @abstractmethod
    def save_bundle(self, figures: dict[str, float]) -> None:
        """Write the current weights and their metrics to ``bundle_dir``."""

    @abstractmethod
    def measure(self) -> PassFigures | None:
        """Compute the metrics of the pass and reset; None if it was empty."""

    def default_schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Build the schedule that is used without a ``scheduler``, stepped each optimiser step: one cycle."""
        steps = int(self.trainer.estimated_stepping_batches)
        rates = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, rates, total_steps=steps, pct_start=self.warm_up)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that write the bundle and the last checkpoint."""
        return [self.export, LastCheckpoint()]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule; a given ``scheduler`` is stepped once an epoch."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}
        schedule = self.default_schedule(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def logs_next_step(self) -> bool:
        """Whether loggers take the values of the optimiser step that is being computed."""
        every = log_interval(self.trainer)
        return every > 0 and (self.global_step + 1) % every == 0

    def finite(self, loss: Tensor) -> Tensor:
        """Return the loss of this step, or stop the run if it is not finite."""
        if not torch.isfinite(loss):
            msg = f"training: the loss of step {self.global_step} is {loss.item()}; lower the learning rate"
            raise TrainingStoppedError(msg)
        return loss

    def on_validation_epoch_end(self) -> None:
        """Log the metrics and, in a fit, the score in float64: its tie-break is below float32's precision."""
        self._report("valid")
        if self.figures is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.log("valid/score", torch.tensor(self.figures.score, dtype=torch.float64))

    def on_test_epoch_end(self) -> None:
        """Log the metrics."""
        self._report("test")

    def _report(self, stage: Literal["valid", "test"]) -> None:
        self.figures = self.measure()
        if self.figures is not None:
            self.log_dict({f"{stage}/{name}": value for name, value in self.figures.named.items()})

    def on_train_start(self) -> None:
        """Restore the global random states of the interrupted run; validate a run of few steps at its end."""
        self._check_cycle()
        if self.trainer.check_val_every_n_epoch is None and self.trainer.max_steps > 0:
            batches = self.trainer.max_steps * self.trainer.accumulate_grad_batches
            self.trainer.val_check_batch = min(self.trainer.val_check_batch or batches, batches)
        if self._random:
            restore_random_state(self._random)

    def _check_cycle(self) -> None:
        """Refuse more steps than the cycle of a resumed run has, which torch reports only after its last one."""
        steps = self.trainer.estimated_stepping_batches
        for each in self.trainer.lr_scheduler_configs if self.scheduler is None else ():
            cycle = each.scheduler
            if isinstance(cycle, OneCycleLR) and steps > cycle.total_steps:
                raise InputError(
                    f"--ckpt_path: the learning-rate cycle of this run has {cycle.total_steps} steps, found {steps} "
                    "(trainer.max_steps, trainer.max_epochs); keep their number, or start a new fit without --ckpt_path"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the global random states."""
        checkpoint["random_state"] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the global random states until training starts."""
        self._random = checkpoint["random_state"]


def log_interval(trainer: pl.Trainer) -> int:
    """Return the Trainer's ``log_every_n_steps``; 0 never logs."""
    return int(getattr(trainer, "log_every_n_steps", 0))


def random_state() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch, loadable with ``weights_only``."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the state to keep
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set the global generators to a state from ``random_state``."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002 - put back
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])
