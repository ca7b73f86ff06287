"""Looking again, closer: a picture in overlapping windows, each of which fills the model's whole input."""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.records import Box, Picture
from naruto_vision.segmentation.base import Prompter, Prompts
from naruto_vision.segmentation.prompters import GridPrompter, point_names

_NEAR = 20  # pixels: a mask that ends so near to a window's edge is probably cut by it


@dataclass(frozen=True)
class Window:
    """A part of a picture.

    Args:
        left: First column.
        top: First row.
        right: One past the last column.
        bottom: One past the last row.
        layer: 0 for the whole picture, 1 for its four quarters, and so on.
    """

    left: int
    top: int
    right: int
    bottom: int
    layer: int = 0

    @property
    def area(self) -> int:
        """Pixels inside."""
        return (self.right - self.left) * (self.bottom - self.top)

    def cut(self, picture: Picture) -> Picture:
        """Return this part of a picture.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.

        Returns:
            Shape (bottom - top, right - left, 3), uint8; a view.
        """
        return picture[self.top : self.bottom, self.left : self.right]

    def moved(self, box: Box) -> Box:
        """Move a box from this window's pixels into the picture's.

        Args:
            box: Inclusive pixels of the window.
        """
        x1, y1, x2, y2 = box
        return x1 + self.left, y1 + self.top, x2 + self.left, y2 + self.top

    def cuts(self, box: Box, height: int, width: int) -> bool:
        """Say whether a mask probably goes on outside this window: it ends at the window's edge, not the picture's.

        Args:
            box: Of the mask, in inclusive pixels of the picture.
            height: Height of the picture in pixels.
            width: Width of the picture in pixels.
        """
        mine, whole = (self.left, self.top, self.right, self.bottom), (0, 0, width, height)
        sides = zip(box, mine, whole, strict=True)
        return any(abs(side - edge) <= _NEAR < abs(side - end) for side, edge, end in sides)


@dataclass(frozen=True)
class CropLayers:
    """How a picture is looked at in windows as well, which finds small things.

    Args:
        layers: How many times the windows are halved; each layer has four times the windows of the one before.
        points_divisor: Each layer's grid has so many times fewer points a side than the one before.
        overlap: Shared part of neighbouring windows in the first layer, as a share of the picture's short side.
        box_nms: Of two masks from different windows with a box IoU above this, the one from the larger window goes.

    Raises:
        InputError: If a number is out of its range.

    Example:
        >>> [(window.left, window.right) for window in CropLayers().windows(100, 100)]
        [(0, 100), (0, 67), (0, 67), (33, 100), (33, 100)]
    """

    layers: int = 1
    points_divisor: int = 2
    overlap: float = 512 / 1500
    box_nms: float = 0.7

    def __post_init__(self) -> None:
        if self.layers < 1 or self.points_divisor < 1 or not (0 <= self.overlap < 1 and 0 <= self.box_nms <= 1):
            msg = f"crop layers: expected layers and points_divisor >= 1, overlap and box_nms in [0, 1], found {self}"
            raise InputError(msg)

    def windows(self, height: int, width: int) -> list[Window]:
        """Cut a picture into windows, the whole picture first.

        Args:
            height: Height of the picture in pixels.
            width: Width of the picture in pixels.
        """
        windows = [Window(0, 0, width, height)]
        for layer in range(1, self.layers + 1):
            count = 2**layer
            shared = int(self.overlap * min(height, width) * 2 / count)
            wide, high = (math.ceil((shared * (count - 1) + side) / count) for side in (width, height))
            for column, row in product(range(count), repeat=2):
                left, top = column * (wide - shared), row * (high - shared)
                windows.append(Window(left, top, min(left + wide, width), min(top + high, height), layer))
        return windows

    def prompts(self, prompter: Prompter, picture: Picture, window: Window) -> Prompts:
        """Choose the prompts of one window.

        Args:
            prompter: Of the whole picture.
            picture: Shape (H, W, 3), uint8, RGB.
            window: Where to look.

        Returns:
            A coarser grid in the window's pixels, with names in the picture's pixels.

        Raises:
            InputError: If the prompter asks for certain things instead of everywhere.
        """
        if not isinstance(prompter, GridPrompter):
            msg = f"crop layers: expected a GridPrompter, which asks everywhere, found {type(prompter).__name__}"
            raise InputError(msg)
        coarser = GridPrompter(max(1, prompter.points_per_side // self.points_divisor**window.layer))
        prompts = coarser(window.cut(picture))
        return replace(prompts, names=point_names(prompts.points[:, 0] + np.array([window.left, window.top])))
