"""Prompters: a grid of points, or given points and boxes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import ImageArray
from naruto_vision.segmentation.protocol import Prompter, Prompts


class GridPrompter(Prompter):
    """Prompts at the cell centres of a square grid, to segment everything.

    Args:
        points_per_side: Points per side; the grid has the square of this number.

    Raises:
        ValueError: If it is below 1.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> nv.GridPrompter(2)(np.zeros((40, 80, 3), np.uint8)).points[:, 0].tolist()
        [[20.0, 10.0], [60.0, 10.0], [20.0, 30.0], [60.0, 30.0]]
    """

    def __init__(self, points_per_side: int = 16) -> None:
        if points_per_side < 1:
            raise ValueError(f"grid prompter: expected points_per_side >= 1, found {points_per_side}")
        self.points_per_side = points_per_side

    def __call__(self, image: ImageArray) -> Prompts:
        """Return one positive point per prompt, row by row from the top left of an image (H, W, 3)."""
        height, width = image.shape[:2]
        centres = (np.arange(self.points_per_side) + 0.5) / self.points_per_side
        x, y = np.meshgrid(centres * width, centres * height)
        return point_prompts(np.stack([x.ravel(), y.ravel()], axis=-1))


class PointPrompter(Prompter):
    """Prompts at given points, each for a separate object.

    Examples:
        >>> import numpy as np
        >>> PointPrompter([(3, 4)])(np.zeros((8, 8, 3), np.uint8)).names
        ('point 3,4',)
    """

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self.points = np.asarray(points, dtype=np.float32).reshape(-1, 2)

    def __call__(self, image: ImageArray) -> Prompts:
        """Return the points that lie inside an image (H, W, 3), in the given order."""
        height, width = image.shape[:2]
        inside = ((self.points >= 0) & (self.points < (width, height))).all(axis=1)
        return point_prompts(self.points[inside])


class BoxPrompter(Prompter):
    """Prompts for the object inside each given box.

    Examples:
        >>> import numpy as np
        >>> BoxPrompter([(1, 2, 30, 40)])(np.zeros((20, 20, 3), np.uint8)).boxes.tolist()
        [[1.0, 2.0, 19.0, 19.0]]
    """

    def __init__(self, boxes: Sequence[tuple[float, float, float, float]]) -> None:
        self.boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)

    def __call__(self, image: ImageArray) -> Prompts:
        """Return the boxes, clipped to an image (H, W, 3); those outside it are left out."""
        height, width = image.shape[:2]
        clipped = self.boxes.clip(0, np.array([width - 1, height - 1] * 2, dtype=np.float32))
        meets = (self.boxes[:, :2] < (width, height)).all(axis=1) & (self.boxes[:, 2:] >= 0).all(axis=1)
        return box_prompts(clipped[meets])


def point_names(points: Sequence[Sequence[float]] | NDArray[np.floating]) -> tuple[str, ...]:
    """Return display names of prompts at N pairs of x and y in pixels of the upright image."""
    return tuple(f"point {x:.0f},{y:.0f}" for x, y in points)


def point_prompts(
    points: NDArray[np.floating], names: tuple[str, ...] = (), scores: NDArray[np.float32] | None = None
) -> Prompts:
    """Return a prompt for each of N points (N, 2) on an object each, by default named by their positions."""
    single = points.astype(np.float32)[:, None, :]
    return Prompts(single, np.ones(single.shape[:2], np.int64), None, names or point_names(points), scores=scores)


def box_prompts(
    boxes: NDArray[np.float32], names: tuple[str, ...] = (), scores: NDArray[np.float32] | None = None
) -> Prompts:
    """Return a prompt for each of N boxes (N, 4), by default named by their corners."""
    names = names or tuple("box " + ",".join(f"{value:g}" for value in box) for box in boxes)
    no_points = np.zeros((len(boxes), 0, 2), np.float32), np.zeros((len(boxes), 0), np.int64)
    return Prompts(*no_points, boxes, names, scores=scores)
