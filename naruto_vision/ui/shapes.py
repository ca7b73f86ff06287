"""Outlines of masks as SVG."""

import cv2
import numpy as np

from naruto_vision.geometry import Mask
from naruto_vision.records import Region


def mask_path(mask: Mask, left: int = 0, top: int = 0) -> str:
    """Return the outlines of a mask (H, W), bool, whose upper left pixel is at (left, top), as an SVG path.

    Holes are part of it: fill it with ``fill-rule="evenodd"``.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    parts = []
    for outline in found:
        points = outline.reshape(-1, 2).tolist()
        if len(points) > 2:
            parts.append("M" + "L".join(f"{x} {y}" for x, y in points) + "Z")
    return "".join(parts)


def svg_path(region: Region) -> str:
    """Return the outlines of a region as an SVG path, in pixels of its image."""
    return mask_path(region.mask, region.box[0], region.box[1])
