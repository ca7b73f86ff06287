"""Mask losses, one value per mask."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that gives well-classified pixels little weight (Lin et al. 2017, arXiv 1708.02002)."""
    targets = targets.expand_as(logits)
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = torch.sigmoid(logits * (1 - 2 * targets))  # probability of the wrong class
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * wrong**gamma * entropy).flatten(-2).mean(dim=-1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of mask and target (Milletari et al. 2016, arXiv 1606.04797)."""
    masks = torch.sigmoid(logits).flatten(-2)
    targets = targets.expand_as(logits).flatten(-2)
    shared = (masks * targets).sum(dim=-1)
    return 1 - (2 * shared + 1) / (masks.sum(dim=-1) + targets.sum(dim=-1) + 1)


def iou_head_loss(predicted: Tensor, actual: Tensor) -> Tensor:
    """Mean squared error of the estimated IoUs (Kirillov et al. 2023, arXiv 2304.02643, appendix A)."""
    return (predicted - actual.detach()).square().mean()
