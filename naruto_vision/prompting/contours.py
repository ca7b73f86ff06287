"""Points to ask at: centroids of the contours of an image, then a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.errors import InputError
from naruto_vision.records import ImageArray
from naruto_vision.segmentation.prompts import point_prompts
from naruto_vision.segmentation.protocol import Prompter, Prompts

Source: TypeAlias = Literal["contour", "grid"]

_BLUR, _CANNY = (5, 5), (100, 200)  # the reference system's


class SweepPoints(NamedTuple):
    """The points of an image in the order in which they are asked, and the contours that they come from."""

    points: NDArray[np.int64]  # (N, 2), x and y in pixels of the upright image
    sources: tuple[Source, ...]
    reduced: NDArray[np.int64]  # (N, 2), the points in pixels of the reduced image
    outlines: Sequence[NDArray[np.int32]]  # largest first, in pixels of the reduced image
    size: tuple[int, int]  # height and width of the reduced image

    @property
    def centroids(self) -> list[tuple[int, int]]:
        """The points of contours, x and y in pixels of the reduced image."""
        count = self.sources.count("contour")
        return [(x, y) for x, y in self.reduced[:count].tolist()]


@dataclass(frozen=True)
class ContourPrompter(Prompter):
    """Prompts at the centroids of contours, largest first, then at a grid.

    Contours are the external ones of Canny edges (thresholds 100 and 200) of the blurred grey image. A centroid that
    leaves the image is clipped to it. Of equal points the first is kept.

    Args:
        grid: Columns and rows of the grid, whose points are the cell centres, column by column; 0 x 0 for none.
        max_contours: Points from contours at most.
        max_size: Width and height to which a larger image is reduced to find contours; its shape is kept.

    Raises:
        InputError: If a number is below 0, or ``max_size`` below 1.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> image = np.zeros((40, 60, 3), np.uint8)
        >>> image[10:30, 5:25] = 255
        >>> nv.ContourPrompter(grid=(2, 1))(image).names
        ('contour 14,19', 'grid 15,20', 'grid 45,20')
    """

    grid: tuple[int, int] = (14, 12)
    max_contours: int = 500
    max_size: tuple[int, int] = (640, 480)

    def __post_init__(self) -> None:
        if min(*self.grid, self.max_contours) < 0 or min(self.max_size) < 1:
            msg = f"contour prompter: expected no negative number and max_size of at least 1x1, found {self}"
            raise InputError(msg)

    def __call__(self, image: ImageArray) -> Prompts:
        """Return one positive point per prompt for an image (H, W, 3)."""
        return self.prompts(self.find(image))

    def reduce(self, image: ImageArray) -> ImageArray:
        """Scale an image (H, W, 3), uint8, down to ``max_size``; a smaller one is returned as it is."""
        (height, width), (most_wide, most_high) = image.shape[:2], self.max_size
        scale = min(most_wide / width, most_high / height)
        if scale >= 1:
            return image
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    def find(self, image: ImageArray) -> SweepPoints:
        """Find the points of an image (H, W, 3), uint8, RGB."""
        small = self.reduce(image)
        height, width = small.shape[:2]
        outlines = find_contours(small)
        centroids = [point for each in outlines if (point := centroid(each)) is not None]
        first = _distinct(np.array(centroids, np.int64).reshape(-1, 2).clip(0, (width - 1, height - 1)))
        first = first[: self.max_contours]
        reduced = _distinct(np.concatenate([first, self._grid_points(height, width)]))  # contours stay before the grid
        scale = np.array(image.shape[1::-1]) / (width, height)
        points = ((reduced + 0.5) * scale).astype(np.int64)
        contours: tuple[Source, ...] = ("contour",)
        grid: tuple[Source, ...] = ("grid",)
        sources = contours * len(first) + grid * (len(points) - len(first))
        return SweepPoints(points, sources, reduced, outlines, (height, width))

    def _grid_points(self, height: int, width: int) -> NDArray[np.int64]:
        columns, rows = self.grid
        x = (np.arange(columns) + 0.5) / max(columns, 1) * width
        y = (np.arange(rows) + 0.5) / max(rows, 1) * height
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)

    @staticmethod
    def prompts(found: SweepPoints) -> Prompts:
        """Return the prompts of points."""
        rows = zip(found.sources, found.points.tolist(), strict=True)
        return point_prompts(found.points.astype(np.float32), tuple(f"{source} {x},{y}" for source, (x, y) in rows))


def find_contours(image: ImageArray) -> list[NDArray[np.int32]]:
    """Find the external contours of an image's edges, largest area first; points (N, 1, 2), x and y."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), _BLUR, 0)
    outlines, _ = cv2.findContours(cv2.Canny(grey, *_CANNY), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return sorted((np.asarray(each, np.int32) for each in outlines), key=cv2.contourArea, reverse=True)


def centroid(outline: NDArray[np.int32]) -> tuple[int, int] | None:
    """Return the centroid of a contour; None of one without area."""
    moments = cv2.moments(outline)
    area = moments["m00"]
    return (int(moments["m10"] / area), int(moments["m01"] / area)) if area else None


def _distinct(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop repeated points (N, 2); the first of each stays, in the given order."""
    return np.array(list(dict.fromkeys(map(tuple, points.tolist()))), np.int64).reshape(-1, 2)
