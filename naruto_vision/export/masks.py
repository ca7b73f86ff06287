"""Masks of exported objects, their runs along rows, and one polygon of each."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import FormatError
from naruto_vision.geometry import Mask, mask_from_rle, rle_from_polygons
from naruto_vision.recognition.coco import CocoObject, CocoScene


def mask_of(one: CocoObject, scene: CocoScene) -> Mask | None:
    """Return the mask of an object in the frame of its scene (H, W), bool; None if it has only a box."""
    rle = one.segmentation
    if rle is not None and not isinstance(rle, Mapping):
        try:
            rle = rle_from_polygons(rle, scene.height, scene.width)
        except ValueError as error:
            raise FormatError(scene.file_name, "polygons of whole objects", str(error)) from None
    mask = None if rle is None else mask_from_rle(rle)
    return mask if mask is not None and mask.any() else None


def row_runs(mask: Mask) -> list[int]:
    """Return the run lengths of a mask (H, W), bool, along its rows, background first."""
    flat = mask.ravel()
    runs: list[int] = np.diff(np.flatnonzero(flat[1:] != flat[:-1]) + 1, prepend=0, append=flat.size).tolist()
    return [0, *runs] if flat[0] else runs


def polygon_of_mask(mask: Mask) -> NDArray[np.float64]:
    """Return one polygon of a mask (H, W), bool, that is not empty: (P, 2), float64, x and y in edges of pixels.

    Its corners are the middles of the pixels' edges, so the centre of a pixel is inside exactly where the mask is, and
    its box is the mask's. Further parts and holes are joined to the first one where they are nearest, by two lines that
    coincide.
    """
    from scipy.spatial import cKDTree

    first, *others = _rings(mask)
    path = np.concatenate([first, first[:1]])
    for ring in others:
        distances, nearest = cKDTree(path).query(ring)
        start = int(distances.argmin())
        at = int(nearest[start])
        path = np.concatenate([path[: at + 1], np.roll(ring, -start, axis=0), ring[start : start + 1], path[at:]])
    return path[:-1]


def _rings(mask: Mask) -> list[NDArray[np.float64]]:
    """Return the outline of each part of a mask and behind it those of its holes, without points on straight lines."""
    from contourpy import contour_generator

    levels = np.pad(mask.astype(np.float64), 1)
    parts: Any = contour_generator(z=levels, name="serial", fill_type="OuterOffset").filled(0.5, 2.0)
    rings = []
    for points, ends in zip(*parts, strict=True):
        for start, end in pairwise(ends):
            ring = points[start : end - 1] - 0.5  # the last point is the first one
            after = np.roll(ring, -1, axis=0) - ring
            before = np.roll(after, 1, axis=0)
            rings.append(ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])
    return rings
