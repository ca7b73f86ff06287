"""Overlap of boxes whose corners are pixels that belong to them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import Box


def shared_pixels(first: Box, second: Box) -> int:
    """Count the pixels that two boxes share.

    Args:
        first: Inclusive pixels.
        second: Inclusive pixels of the same picture.

    Returns:
        A whole number, 0 where they do not meet.
    """
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    return max(width, 0) * max(height, 0)


def shared_pixel_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Count the pixels that every two boxes of two lists share.

    Args:
        first: N boxes, inclusive pixels.
        second: M boxes, inclusive pixels of the same picture.

    Returns:
        Shape (N, M), float64, whole numbers of pixels.
    """
    rows, columns = _corners(first)[:, None], _corners(second)[None]
    low = np.maximum(rows[..., :2], columns[..., :2])
    high = np.minimum(rows[..., 2:], columns[..., 2:])
    return np.asarray(np.clip(high - low + 1, 0, None).prod(axis=-1))


def box_pixels(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Count the pixels of every box.

    Args:
        boxes: N boxes, inclusive pixels.

    Returns:
        Shape (N,), float64, whole numbers of pixels.
    """
    corners = _corners(boxes)
    return np.asarray((corners[:, 2:] - corners[:, :2] + 1).prod(axis=-1))


def inclusive_iou_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Compute every IoU between two lists of boxes.

    Both corners are inside the box, so a side is ``x2 - x1 + 1`` pixels long and a box of one pixel has area 1.

    Args:
        first: N boxes, inclusive pixels.
        second: M boxes, inclusive pixels of the same picture.

    Returns:
        Shape (N, M), float64, in [0, 1].
    """
    shared = shared_pixel_matrix(first, second)
    union = box_pixels(first)[:, None] + box_pixels(second)[None] - shared
    return np.asarray(shared / union)


def common_box(boxes: Sequence[Box]) -> Box:
    """Find the smallest box that holds all of them.

    Args:
        boxes: At least one box, inclusive pixels of one picture.

    Returns:
        Inclusive pixels.

    Raises:
        ValueError: If there is no box.
    """
    if not boxes:
        msg = "common_box: expected at least one box, found none"
        raise ValueError(msg)
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _corners(boxes: Sequence[Box]) -> NDArray[np.float64]:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)  # float64 holds any product of pixel sides exactly
