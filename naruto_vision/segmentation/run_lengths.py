"""COCO run lengths of a mask that is cut to its box, without the mask at the picture's size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from naruto_vision.records import Box, Mask


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
    columns, rows = mask.shape[1], mask.shape[0]
    edged = np.zeros((columns, rows + 2), dtype=np.bool_)  # each column as a row, with an empty pixel at either end
    edged[:, 1:-1] = mask.T
    column, row = np.divmod(np.flatnonzero(edged[:, 1:] != edged[:, :-1]), rows + 1)
    edges = (column + x1) * height + row + y1
    if rows == height:  # what ends at the bottom of a column may go on at the top of the next
        edges = edges[~_doubled(edges)]
    runs = np.diff(edges, prepend=0, append=height * width)
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


def _doubled(edges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark places that are an end and a start at once, both times."""
    same = edges[1:] == edges[:-1]
    marked = np.zeros(len(edges), dtype=np.bool_)
    marked[1:] |= same
    marked[:-1] |= same
    return marked
