"""COCO run lengths of a mask that is cut to its box, without the mask at the picture's size."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco

from naruto_vision.records import Box, Mask
from naruto_vision.segmentation.turning import turned


def column_runs(mask: Mask, box: Box, height: int, width: int) -> NDArray[np.int64]:
    """Count the runs of a mask down the picture's columns, all of them in one pass.

    Args:
        mask: Shape (h, w) of the box, bool.
        box: Where it lies, inclusive pixels of the picture.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.

    Returns:
        Shape (N,), int64: pixels off, on, off and so on, column by column; the first is 0 where the mask starts on.
    """
    x1, y1, _, _ = box
    if len(mask) < height:  # an empty pixel below each column keeps what ends there from running into the next
        mask = np.concatenate([mask, np.zeros_like(mask[:1])])
    stride = len(mask)
    flat = turned(torch.from_numpy(mask.view(np.uint8))).numpy().ravel()
    inner = _changes(flat)
    if stride < height:
        inner += inner // stride * (height - stride)
    first = x1 * height + y1
    before = [0, first] if flat[0] else [0]
    after = [first + len(flat), height * width] if flat[-1] else [height * width]  # on at the end: no column has a gap
    runs = np.diff(inner + first, prepend=before, append=after)
    return runs[:-1] if runs[-1] == 0 and len(runs) > 1 else runs


def encode_cut(mask: Mask, box: Box, height: int, width: int) -> dict[str, Any]:
    """Write a mask as COCO run lengths, to the same letters as ``encode_rle`` of the whole mask.

    Args:
        mask: Shape (h, w) of the box, bool.
        box: Where it lies, inclusive pixels of the picture.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.

    Returns:
        ``{"size": [height, width], "counts": text}``, compressed; JSON can hold it.
    """
    plain = {"size": [height, width], "counts": column_runs(mask, box, height, width).tolist()}
    return {"size": [height, width], "counts": coco.frPyObjects(plain, height, width)["counts"].decode("ascii")}


def _changes(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find where a row of zeros and ones differs from the place before."""
    differs = np.zeros(len(flat) + 7 & ~7, dtype=np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=differs[1 : len(flat)])
    # eight places at a time first: a mask's edges are rare, and NumPy is slow where a few in a hundred places are set
    eights = differs.view(np.uint64)
    some = np.flatnonzero(eights != 0)
    places = np.flatnonzero(eights[some].view(np.bool_))
    found: NDArray[np.int64] = 8 * some[places >> 3] + (places & 7)
    return found
