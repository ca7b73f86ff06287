"""Losses of masks, one number a mask, so that the best of several masks can be chosen."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Cross-entropy in which pixels that are already right count little (Lin et al. 2017, arXiv 1708.02002).

    Args:
        logits: Shape (..., H, W), float32.
        targets: Broadcastable to ``logits``, float32, 0 or 1.
        alpha: Weight of the mask's pixels, in [0, 1]; the others weigh one minus this.
        gamma: How fast a right pixel's weight falls, 0 or above; 0 is plain weighted cross-entropy.

    Returns:
        Shape (...), float32: the mean over each mask's pixels, 0 or above.
    """
    targets = targets.expand_as(logits)
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = torch.sigmoid(logits * (1 - 2 * targets))  # the probability that is given to the wrong side
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * wrong**gamma * entropy).flatten(-2).mean(dim=-1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft overlap of mask and target (Milletari et al. 2016, arXiv 1606.04797).

    Args:
        logits: Shape (..., H, W), float32.
        targets: Broadcastable to ``logits``, float32, 0 or 1.

    Returns:
        Shape (...), float32, in [0, 1]; one pixel is added to both sides so that an empty target is defined.
    """
    masks = torch.sigmoid(logits).flatten(-2)
    targets = targets.expand_as(logits).flatten(-2)
    shared = (masks * targets).sum(dim=-1)
    return 1 - (2 * shared + 1) / (masks.sum(dim=-1) + targets.sum(dim=-1) + 1)


def iou_head_loss(predicted: Tensor, actual: Tensor) -> Tensor:
    """Mean squared error of the estimated IoUs (Kirillov et al. 2023, arXiv 2304.02643, appendix A).

    Args:
        predicted: Shape (P, M), float32: the head's estimates.
        actual: Shape (P, M), float32, in [0, 1]: the masks' true IoUs; no gradient flows into it.

    Returns:
        Shape (), float32, 0 or above.
    """
    return (predicted - actual.detach()).square().mean()
