"""Train a promptable SAM on masks: a thin shell over ``segmentation/training.py``."""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.optimizer import ParamsT
from torchmetrics import CatMetric, MeanMetric, MetricCollection

from naruto_vision.errors import TrainingStoppedError
from naruto_vision.metrics.classification import iou_calibration
from naruto_vision.segmentation.protocol import MaskThresholds
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.segmentation.training import PromptBatch, prompt_losses, prompt_quality

_WARM_UP = 0.1  # share of all steps in which the learning rate rises
_MEANS = ("point_best", "point_chosen", "box_best", "box_chosen")


def _adamw(parameters: ParamsT) -> Optimizer:
    return AdamW(parameters, lr=1.5e-3, weight_decay=0.01)


class SegmenterTuner(pl.LightningModule):
    """Teaches a promptable model whole figures, from one point or one box each.

    Args:
        model: The model to train.
        optimizer: Makes the optimiser of the trainable parameters; AdamW 1.5e-3 where none is given.
        scheduler: Makes the learning-rate schedule, stepped once an epoch; where none is given, one cycle over all
            steps up to the optimiser's own rate.
        thresholds: Written into the bundle beside the weights; None keeps the model's.
        bundle: Folder of the bundle that is written whenever validation is better than before.
        facts: JSON values for the bundle (licence, recipe).
        resolution: Side in pixels at which masks are compared in training.

    Raises:
        TrainingStoppedError: If the loss is not finite.
    """

    def __init__(
        self,
        model: SamModel,
        optimizer: OptimizerCallable = _adamw,
        scheduler: LRSchedulerCallable | None = None,
        *,
        thresholds: MaskThresholds | None = None,
        bundle: str = "runs/sam/bundle",
        facts: dict[str, Any] | None = None,
        resolution: int = 64,
    ) -> None:
        super().__init__()
        self.model = model.train()
        self.model.thresholds = thresholds or model.thresholds
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.bundle = bundle
        self.facts = facts or {}
        self.resolution = resolution
        self.best = -1.0
        self.means = MetricCollection({name: MeanMetric() for name in _MEANS}, compute_groups=False)
        self.estimated, self.chosen = CatMetric(), CatMetric()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}
        steps = int(self.trainer.estimated_stepping_batches)
        rates = [group["lr"] for group in optimizer.param_groups]
        cycle = OneCycleLR(optimizer, rates, total_steps=steps, pct_start=_WARM_UP)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def training_step(self, batch: PromptBatch) -> Tensor:
        """Compute the loss of one batch.

        Args:
            batch: Images and prompts.

        Returns:
            Shape (), float32.

        Raises:
            TrainingStoppedError: If it is not finite.
        """
        losses = prompt_losses(self.model, batch, resolution=self.resolution)
        if not torch.isfinite(losses.total):
            msg = f"training: the loss of step {self.global_step} is {losses.total.item()}; lower the learning rate"
            raise TrainingStoppedError(msg)
        parts = {f"train/{name}": value.detach() for name, value in losses._asdict().items()}
        self.log_dict(parts, batch_size=len(batch.pixels))
        return losses.total

    def validation_step(self, batch: PromptBatch) -> None:
        """Measure one batch.

        Args:
            batch: Images and prompts, every one about a figure.
        """
        self._measure(batch)

    def test_step(self, batch: PromptBatch) -> None:
        """Measure one batch.

        Args:
            batch: Images and prompts, every one about a figure.
        """
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the figures, and write the bundle when they are better than before."""
        figures = self._report("valid")
        fitting = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if fitting and figures["valid/miou"] > self.best:
            self.best = figures["valid/miou"]
            self._save(figures)

    def on_test_epoch_end(self) -> None:
        """Log the figures."""
        self._report("test")

    def on_fit_end(self) -> None:
        """Write the bundle of a run that had no validation."""
        if self.best < 0:
            self._save({})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how good the bundle is, so that a resumed run does not replace it by a worse one.

        Args:
            checkpoint: What Lightning is about to write.
        """
        checkpoint["best_miou"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up how good the bundle is.

        Args:
            checkpoint: What Lightning has read.
        """
        self.best = float(checkpoint["best_miou"])

    def _measure(self, batch: PromptBatch) -> None:
        quality = prompt_quality(self.model, batch)
        for kind, rows in (("point", ~quality.is_box), ("box", quality.is_box)):
            self.means[f"{kind}_best"].update(quality.best[rows])
            self.means[f"{kind}_chosen"].update(quality.chosen[rows])
        self.estimated.update(quality.estimated)
        self.chosen.update(quality.chosen)

    def _report(self, stage: Literal["valid", "test"]) -> dict[str, float]:
        """Log and return this stage's figures; ``miou`` is what a point finds by the IoU head's choice."""
        figures = {f"{stage}/{name}": float(value) for name, value in self.means.compute().items()}
        calibration = iou_calibration(self.estimated.compute(), self.chosen.compute())
        if calibration.calibration_error is not None:  # nothing was measured: no figure rather than a perfect one
            figures[f"{stage}/iou_calibration_error"] = calibration.calibration_error
        figures[f"{stage}/miou"] = figures[f"{stage}/point_chosen"]
        for metric in (self.means, self.estimated, self.chosen):
            metric.reset()
        self.log_dict(figures)
        return figures

    def _save(self, figures: dict[str, float]) -> None:
        if not self.trainer.is_global_zero:
            return
        rounded = {name.partition("/")[2]: round(value, 4) for name, value in figures.items()}
        self.model.save(Path(self.bundle), **self.facts, steps=self.global_step, figures=rounded)
