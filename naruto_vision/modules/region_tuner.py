"""``RegionTuner``: learn from boxes where a series' characters are."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from naruto_vision.data.box_data import BoxBatch, BoxedImage
from naruto_vision.metrics.detection import Detections, detection_curve
from naruto_vision.modules.gathering import gather_items
from naruto_vision.modules.tuning import PassFigures, Tuner, adamw
from naruto_vision.segmentation.detector import BoxDetector, boxes_from_edges


class RegionTuner(Tuner):
    """Trains a class-agnostic box detector; its threshold is chosen on the validation images.

    Args:
        model: The detector.
        optimizer: Builds the optimiser of the trainable parameters; None takes AdamW with a learning rate of 1.5e-3.
        scheduler: Builds the learning-rate schedule, stepped once an epoch; None takes one cycle over all steps.
        bundle_dir: Folder of the bundle that is written whenever validation is better than before.
        facts: Further JSON values for the bundle's ``model.json`` (licence, recipe).
    """

    warm_up = 0.3

    def __init__(
        self,
        model: BoxDetector,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        *,
        bundle_dir: str = "runs/regions/bundle",
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler, bundle_dir, facts)
        self.model = model.train()
        self._seen: list[list[Detections]] = []  # of each batch

    def training_step(self, batch: BoxBatch) -> Tensor:
        """Compute the loss of one batch: shape (), float32."""
        parts = self.model.losses(batch.images, batch.boxes)
        total = self.finite(torch.stack(list(parts.values())).sum())
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in {"loss": total, **parts}.items()},
            batch_size=len(batch.images),
        )
        return total

    def validation_step(self, batch: list[BoxedImage] | None) -> None:
        """Detect the boxes of images at their own size."""
        self._seen.append([self._detected(item) for item in batch or ()])

    test_step = validation_step

    def _detected(self, item: BoxedImage) -> Detections:
        boxes, scores = self.model.detect(item.image, 0.0)
        return boxes, scores, boxes_from_edges(item.edges, *item.image.shape[:2])

    def measure(self) -> PassFigures | None:
        """Choose the threshold and compute the metrics of the pass; the score is the average precision at IoU 0.5."""
        seen, self._seen = gather_items(self.trainer, self._seen), []
        if not seen:
            return None
        curve = detection_curve(seen)
        if self.trainer.state.fn == "fit":
            self.model.threshold = round(curve.best_threshold(), 4)
        at = self.model.threshold
        named = {
            "average_precision": curve.average_precision(),
            "recall": curve.recall(at),
            "boxes_per_object": curve.count(at) / max(1, curve.objects),
            "threshold": at,
            "objects": float(curve.objects),
        }
        return PassFigures(named["average_precision"], named)

    def save_bundle(self, figures: dict[str, float]) -> None:
        """Write the detector."""
        self.model.save(Path(self.bundle_dir), **self.facts, steps=self.global_step, figures=figures)
