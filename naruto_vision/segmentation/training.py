"""Training loss and quality of promptable segmentation."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from naruto_vision.losses.segmentation import dice_loss, focal_loss, iou_head_loss
from naruto_vision.segmentation.postprocess import mask_iou
from naruto_vision.segmentation.sam import DecodedMasks, SamModel

FOCAL_WEIGHT = 20.0  # SAM's ratio of focal to dice loss, as the focal mean over all pixels is small


class PromptBatch(NamedTuple):
    """B images and P prompts on them: first A points, then P - A boxes."""

    pixels: Tensor
    image: Tensor
    points: Tensor
    boxes: Tensor
    masks: Tensor


class PromptLosses(NamedTuple):
    """The loss of a batch and its parts, each of shape (), float32."""

    total: Tensor
    focal: Tensor
    dice: Tensor
    iou_head: Tensor

    def named(self) -> dict[str, Tensor]:
        """Return the loss and its weighted parts, without gradient, under the names of the logs."""
        parts = {"loss_focal": FOCAL_WEIGHT * self.focal, "loss_dice": self.dice, "loss_iou_head": self.iou_head}
        return {"loss": self.total.detach(), **parts}


class PromptQuality(NamedTuple):
    """Quality of the masks of P prompts with non-empty targets."""

    best: Tensor
    chosen: Tensor
    estimated: Tensor
    is_box: Tensor


def predict_batch(model: SamModel, batch: PromptBatch) -> DecodedMasks:
    """Run a whole batch through the model: three masks per prompt; gradients flow."""
    features = model.encode(batch.pixels)
    count = len(batch.points)
    labels = torch.ones(count, 1, dtype=torch.int64, device=batch.points.device)
    points = model.encode_prompts(batch.points[:, None], labels, None)
    no_points, no_labels = batch.boxes.new_zeros(len(batch.boxes), 0, 2), labels.new_zeros(len(batch.boxes), 0)
    boxes = model.encode_prompts(no_points, no_labels, batch.boxes)
    # a point is followed by a "no box" token and a box has two corners, so both kinds are two tokens long
    return model.decode(features[batch.image], torch.cat([points, boxes]))


def prompt_losses(
    model: SamModel, batch: PromptBatch, *, resolution: int = 64, predicted: DecodedMasks | None = None
) -> PromptLosses:
    """Compute SAM's training loss: the mask loss of the best of three masks, and the IoU loss of all three.

    A background point trains only the IoU head, towards 0, as most points of the automatic grid are background. Masks
    are compared at ``resolution`` pixels per side; tiny-sam's own masks have 64 for an input of 256. ``predicted`` are
    the model's masks of the batch, if they are known.
    """
    predicted = predict_batch(model, batch) if predicted is None else predicted
    side = (resolution, resolution)
    logits = interpolate(predicted.logits, side, mode="bilinear")
    targets = interpolate(batch.masks[:, None].float(), side, mode="area").round()  # (P, 1, R, R)
    figure = targets.flatten(1).any(dim=1)
    focal, dice = focal_loss(logits[figure], targets[figure]), dice_loss(logits[figure], targets[figure])
    best = (FOCAL_WEIGHT * focal + dice).argmin(dim=1, keepdim=True)
    count = figure.sum().clamp(min=1)
    focal, dice = focal.gather(1, best).sum() / count, dice.gather(1, best).sum() / count
    iou_head = iou_head_loss(predicted.ious, mask_iou(logits.detach() > 0, targets.bool()))
    return PromptLosses(FOCAL_WEIGHT * focal + dice + iou_head, focal.detach(), dice.detach(), iou_head.detach())


@torch.no_grad()
def prompt_quality(model: SamModel, batch: PromptBatch, predicted: DecodedMasks | None = None) -> PromptQuality:
    """Measure masks at the model's input size; every prompt has a non-empty target."""
    predicted = predict_batch(model, batch) if predicted is None else predicted
    logits = interpolate(predicted.logits, batch.masks.shape[-2:], mode="bilinear")
    ious = mask_iou(logits > 0, batch.masks[:, None])  # (P, 3)
    estimated, choice = predicted.ious.max(dim=1)
    is_box = torch.arange(len(ious), device=ious.device) >= len(batch.points)
    return PromptQuality(ious.amax(dim=1), ious.gather(1, choice[:, None])[:, 0], estimated, is_box)
