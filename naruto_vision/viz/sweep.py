"""Images of a sweep: its regions with the points that they come from, and its contours."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import ImageArray, Region
from naruto_vision.viz.overlay import Colour, DrawnRegion, draw_regions, label_colours

SOURCE_COLOURS: dict[str, Colour] = {"contour": (255, 0, 255), "grid": (255, 0, 0), "user": (0, 200, 255)}
_OTHER: Colour = (255, 200, 0)
_CYCLE: tuple[Colour, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
_GREEN: Colour = (0, 255, 0)
_DIMMED = 0.35  # of the image under contours


def draw_sweep(
    image: ImageArray, regions: Sequence[Region], points: Sequence[tuple[int, int]], sources: Sequence[str]
) -> ImageArray:
    """Draw regions with tags D1, D2, … and their points, coloured by source, over an image (H, W, 3), uint8, RGB."""
    names = [f"D{number}" for number in range(1, len(regions) + 1)]
    colours = label_colours(names)
    order = sorted(range(len(regions)), key=lambda index: regions[index].area)  # the smallest on top
    canvas = draw_regions(image, [DrawnRegion(regions[index], colours[names[index]], names[index]) for index in order])
    radius = max(2, round(min(image.shape[:2]) / 160))
    for point, source in zip(points, sources, strict=True):
        cv2.circle(canvas, point, radius + 1, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, point, radius, SOURCE_COLOURS.get(source, _OTHER), cv2.FILLED, cv2.LINE_AA)
    return canvas


def draw_contours(
    image: ImageArray, outlines: Sequence[NDArray[np.int32]], centroids: Sequence[tuple[int, int]]
) -> ImageArray:
    """Draw contours in six colours in turn, and centroids in green, over a darkened image (H, W, 3), uint8, RGB."""
    canvas = (image * _DIMMED).astype(np.uint8)
    for number, outline in enumerate(outlines):
        cv2.drawContours(canvas, [outline], -1, _CYCLE[number % len(_CYCLE)], 1)
    for centroid in centroids:
        cv2.circle(canvas, centroid, 3, _GREEN, cv2.FILLED)
    return canvas
