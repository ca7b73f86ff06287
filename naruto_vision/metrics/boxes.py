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


def inclusive_iou_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Compute every IoU between two lists of boxes.

    Both corners are inside the box, so a side is ``x2 - x1 + 1`` pixels long and a box of one pixel has area 1.

    Args:
        first: N boxes, inclusive pixels.
        second: M boxes, inclusive pixels of the same picture.

    Returns:
        Shape (N, M), float64, in [0, 1].
    """
    rows = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)  # float64 holds any product of pixel sides exactly
    columns = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    low = np.maximum(rows[..., :2], columns[..., :2])
    high = np.minimum(rows[..., 2:], columns[..., 2:])
    shared = np.clip(high - low + 1, 0, None).prod(axis=-1)
    union = _areas(rows) + _areas(columns) - shared
    return np.asarray(shared / union)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[..., 2:] - boxes[..., :2] + 1).prod(axis=-1))
