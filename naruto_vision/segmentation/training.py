"""Training loss and quality of promptable segmentation."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

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


def predict_batch(model: SamModel, batch: PromptBatch, *, refine: bool = False) -> DecodedMasks:
    """Run a whole batch through the model: three masks per prompt; gradients flow.

    With ``refine``, a second answer is returned, and gradients flow through that one alone: it also has the first
    answer's best mask as a prompt, and a click where that mask is wrong.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not refine):
        features = model.encode(batch.pixels)[batch.image]
        first = model.decode(features, _tokens(model, batch))
    if not refine:
        return first
    best = first.ious.argmax(dim=1)
    logits = first.logits[torch.arange(len(best), device=best.device), best]
    return model.decode(features, _tokens(model, batch, *_clicks(logits, batch.masks)), logits)


def _tokens(model: SamModel, batch: PromptBatch, clicks: Tensor | None = None, kinds: Tensor | None = None) -> Tensor:
    """Turn the prompts into tokens, each with a click (P, 1, 2) of a kind (P, 1) where there are clicks."""
    count = len(batch.points)
    if clicks is None or kinds is None:
        clicks, kinds = (batch.points.new_zeros(len(batch.masks), 0, size) for size in (2, 1))
        kinds = kinds[..., 0].long()
    points = torch.cat([batch.points[:, None], clicks[:count]], dim=1)
    labels = torch.cat([kinds.new_ones(count, 1), kinds[:count]], dim=1)
    by_point = model.encode_prompts(points, labels, None)
    by_box = model.encode_prompts(clicks[count:], kinds[count:], batch.boxes)
    # a point is followed by a "no box" token and a box has two corners, so both kinds have as many tokens
    return torch.cat([by_point, by_box])


def correcting_clicks(masks: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Click where masks (P, h, w), bool, differ most from their targets, as a user would.

    Returns:
        Points (P, 1, 2), float32, x and y in pixels of the masks, and their kinds (P, 1), int64: 1 where the target
        goes on, 0 where it ends, -1 for padding where nothing is wrong.
    """
    wrong = masks ^ targets
    share = avg_pool2d(wrong[:, None].float(), 9, stride=1, padding=4)[:, 0] * wrong
    most, where = share.flatten(1).max(dim=1, keepdim=True)
    width = masks.shape[-1]
    kinds = torch.where(most > 0, targets.flatten(1).gather(1, where).long(), -1)
    return torch.stack([where % width, where // width], dim=-1).float(), kinds


def _clicks(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Click at the masks' resolution: points in pixels of the model's input."""
    targets = interpolate(masks[:, None].float(), logits.shape[-2:], mode="area")[:, 0] >= 0.5
    points, kinds = correcting_clicks(logits > 0, targets)
    return (points + 0.5) * (masks.shape[-1] / logits.shape[-1]) - 0.5, kinds


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
