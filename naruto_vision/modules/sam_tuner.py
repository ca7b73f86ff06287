"""``SegmenterTuner``: train a promptable SAM on masks."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import CatMetric, MeanMetric, MetricCollection

from naruto_vision.metrics.classification import iou_calibration
from naruto_vision.modules.tuning import PassFigures, Tuner, adamw
from naruto_vision.segmentation.protocol import MaskThresholds
from naruto_vision.segmentation.sam import DecodedMasks, SamModel
from naruto_vision.segmentation.training import (
    PromptBatch,
    PromptLosses,
    predict_batch,
    prompt_losses,
    prompt_quality,
)

_LOSSES = ("loss", "loss_focal", "loss_dice", "loss_iou_head")
_MEANS = ("point_best", "point_chosen", "box_best", "box_chosen", *_LOSSES)


class SegmenterTuner(Tuner):
    """Trains a promptable model to segment a whole character from one point or one box.

    Args:
        model: The model to train.
        optimizer: Builds the optimiser of the trainable parameters; None takes AdamW with a learning rate of 1.5e-3.
        scheduler: Builds the learning-rate schedule, stepped once an epoch; None takes one cycle over all
            steps with the optimiser's learning rate as the peak.
        thresholds: Mask thresholds that the bundle stores with the weights; None keeps the model's.
        bundle_dir: Folder of the bundle that is written whenever validation is better than before.
        facts: Further JSON values for the bundle's ``model.json`` (licence, recipe).
        resolution: Side in pixels at which masks are compared in training.
        refine: Train only what reads a mask prompt or a background point, to refine the model's own first answers
            with one more click; all other answers stay the same to the bit. Validation measures the refined masks.
    """

    def __init__(
        self,
        model: SamModel,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        *,
        thresholds: MaskThresholds | None = None,
        bundle_dir: str = "runs/sam/bundle",
        facts: dict[str, Any] | None = None,
        resolution: int = 64,
        refine: bool = False,
    ) -> None:
        super().__init__(optimizer, scheduler, bundle_dir, facts)
        self.model = model.train()
        self.model.thresholds = thresholds or model.thresholds
        self.resolution = resolution
        self.refine = refine
        if refine:
            self.model.train_refinement_only()
        self.means = MetricCollection({name: MeanMetric() for name in _MEANS}, compute_groups=False)
        self.means.set_dtype(torch.float64)  # sums do not depend on their order
        self.estimated, self.chosen = CatMetric(), CatMetric()

    def _step(self, batch: PromptBatch) -> tuple[DecodedMasks, PromptLosses]:
        predicted = predict_batch(self.model, batch, refine=self.refine)
        return predicted, prompt_losses(self.model, batch, resolution=self.resolution, predicted=predicted)

    def training_step(self, batch: PromptBatch) -> Tensor:
        """Compute the loss of one batch: shape (), float32."""
        _, losses = self._step(batch)
        self.finite(losses.total)
        if self.logs_next_step:
            self.log_dict(
                {f"train/{name}": value for name, value in losses.named().items()}, batch_size=len(batch.pixels)
            )
        return losses.total

    def validation_step(self, batch: PromptBatch | None) -> None:
        """Measure one batch in which every prompt has a target mask."""
        if batch is None:
            return
        predicted, losses = self._step(batch)
        quality = prompt_quality(self.model, batch, predicted)
        for name, value in losses.named().items():
            self.means[name].update(value, weight=len(quality.best))
        for kind, rows in (("point", ~quality.is_box), ("box", quality.is_box)):
            self.means[f"{kind}_best"].update(quality.best[rows])
            self.means[f"{kind}_chosen"].update(quality.chosen[rows])
        self.estimated.update(quality.estimated)
        self.chosen.update(quality.chosen)

    test_step = validation_step

    def measure(self) -> PassFigures:
        """Compute the metrics of the pass; the score is ``miou`` of the masks that the IoU head chooses for points."""
        named = {name: float(value) for name, value in self.means.compute().items()}
        calibration = iou_calibration(self.estimated.compute(), self.chosen.compute())
        if calibration.calibration_error is not None:  # without masks there is no metric
            named["iou_calibration_error"] = calibration.calibration_error
        named["miou"] = named["point_chosen"]
        for metric in (self.means, self.estimated, self.chosen):
            metric.reset()
        return PassFigures(named["miou"], named)

    def save_bundle(self, figures: dict[str, float]) -> None:
        """Write the model with its thresholds."""
        kind = "figures_of_refined_masks" if self.refine else "figures"
        self.model.save(Path(self.bundle_dir), **self.facts, steps=self.global_step, **{kind: figures})
