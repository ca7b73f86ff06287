"""Box geometry. Boxes are ``x1 y1 x2 y2`` in pixels of the upright picture, all four inclusive."""

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from naruto_vision.records import Box, Mask


def xyxy_from_mask(mask: Mask) -> Box | None:
    """Find the tight box of a mask.

    Args:
        mask: Shape (H, W), bool.

    Returns:
        The inclusive box in the mask's own pixels, or None where the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def xyxy_from_masks(masks: Tensor) -> Tensor:
    """Find the tight boxes of many masks at once.

    Args:
        masks: Shape (N, H, W), bool, any device.

    Returns:
        Shape (N, 4), int64, inclusive; all zeros for an empty mask.
    """
    rows, columns = masks.any(dim=2).byte(), masks.any(dim=1).byte()
    height, width = masks.shape[1:]
    # argmax of 0/1 values is the first 1; on the flipped axis it counts the zeros after the last 1
    boxes = torch.stack(
        [
            columns.argmax(dim=1),
            rows.argmax(dim=1),
            width - 1 - columns.flip(1).argmax(dim=1),
            height - 1 - rows.flip(1).argmax(dim=1),
        ],
        dim=1,
    )
    return boxes * rows.any(dim=1, keepdim=True)


def area_xyxy(box: Box) -> int:
    """Count the pixels of a box.

    Args:
        box: Inclusive pixels.
    """
    x1, y1, x2, y2 = box
    return (x2 - x1 + 1) * (y2 - y1 + 1)


def expand_xyxy(box: Box, ratio: float, width: int, height: int) -> Box:
    """Grow a box by a share of its own size, half of it on each side, and clip it to the picture.

    Args:
        box: Inclusive pixels.
        ratio: 0.18 makes the box 18 % wider and 18 % taller before clipping.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        Inclusive pixels inside the picture.

    Raises:
        ValueError: If the ratio is negative.
    """
    if ratio < 0:
        msg = f"expand ratio: expected at least 0, found {ratio}"
        raise ValueError(msg)
    x1, y1, x2, y2 = box
    dx, dy = round((x2 - x1 + 1) * ratio / 2), round((y2 - y1 + 1) * ratio / 2)
    return max(0, x1 - dx), max(0, y1 - dy), min(width - 1, x2 + dx), min(height - 1, y2 + dy)


def nms_xyxy(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Drop every box that overlaps a better one too much.

    The sides count ``x2 - x1`` pixels here, without the one that inclusive corners add: SAM's own generator
    counts so, and the kept masks shall be the same.

    Args:
        boxes: Shape (N, 4), any number type.
        scores: Shape (N,), float32; on a tie the earlier box is the better one.
        threshold: A box goes when its IoU with a better one is above this, in [0, 1].

    Returns:
        Shape (K,), int64: the indices that stay, best score first.
    """
    kept: Tensor = nms(boxes.float(), scores, threshold)
    return kept
