"""How a region becomes the picture that an encoder sees."""

from dataclasses import dataclass

import numpy as np

from naruto_vision.records import Box, Mask, Picture, Region
from naruto_vision.segmentation.boxes import expand_xyxy


@dataclass(frozen=True)
class CropSettings:
    """How regions are cropped.

    Args:
        expand: How much of its own size the box grows before the cut, half on each side. With a cut-out it only
            matters when ``tight`` is off, since a tight crop goes back to the mask's own box.
        tight: Crop a cut-out to the mask's own box.
        pad: Border around a cut-out, as a share of the short side of the crop.
        pad_min: The border is at least so many pixels.
        background: Grey value from 0 to 255 that replaces everything outside the mask; None keeps the picture's
            own pixels, without border.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> region = Region((10, 10, 29, 29), np.ones((20, 20), bool))
        >>> crop_region(np.zeros((64, 64, 3), np.uint8), region, CropSettings(background=255)).shape
        (36, 36, 3)
    """

    expand: float = 0.18
    tight: bool = True
    pad: float = 0.10
    pad_min: int = 8
    background: int | None = 0

    def __post_init__(self) -> None:
        if min(self.expand, self.pad, self.pad_min) < 0:
            msg = f"crop: expected expand, pad and pad_min >= 0, found {self.expand}, {self.pad}, {self.pad_min}"
            raise ValueError(msg)
        if self.background is not None and not 0 <= self.background <= 255:
            msg = f"crop: expected a background from 0 to 255, found {self.background}"
            raise ValueError(msg)


def cut_out_rgba(picture: Picture, region: Region, expand: float = 0.0) -> Picture:
    """Cut a region out of its picture with a transparent surrounding.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        region: A region of this picture.
        expand: How much of its own size the box grows, half on each side.

    Returns:
        Shape (h, w, 4), uint8, RGBA: the window of the grown box; alpha is 255 on the mask and 0 elsewhere.
    """
    height, width = picture.shape[:2]
    window, mask = _window(picture, region, expand_xyxy(region.box, expand, width, height))
    return np.dstack([window, np.where(mask, np.uint8(255), np.uint8(0))])


def crop_region(picture: Picture, region: Region, settings: CropSettings | None = None) -> Picture:
    """Cut a region out of its picture.

    Only the window of the crop is touched, so that the cost does not grow with the picture.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        region: A region of this picture.
        settings: How; None takes the defaults.

    Returns:
        Shape (h, w, 3), uint8, RGB.
    """
    settings = settings or CropSettings()
    box, border = crop_layout(region, settings, picture.shape[1], picture.shape[0])
    window, mask = _window(picture, region, box)
    if settings.background is None:
        return np.ascontiguousarray(window)
    height, width = mask.shape
    shape = (height + 2 * border, width + 2 * border, 3)
    canvas = np.full(shape, settings.background, dtype=np.uint8)
    canvas[border : border + height, border : border + width][mask] = window[mask]
    return canvas


def crop_layout(region: Region, settings: CropSettings, width: int, height: int) -> tuple[Box, int]:
    """Tell what part of a picture a crop takes, and what goes around it.

    Args:
        region: A region of the picture.
        settings: How it is cropped.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        The window, inclusive pixels of the picture, and the border around it in pixels.
    """
    if settings.background is None:
        return expand_xyxy(region.box, settings.expand, width, height), 0
    box = expand_xyxy(region.box, 0.0 if settings.tight else settings.expand, width, height)
    short = min(box[2] - box[0], box[3] - box[1]) + 1
    return box, max(settings.pad_min, round(settings.pad * short))


def _window(picture: Picture, region: Region, box: Box) -> tuple[Picture, Mask]:
    x1, y1, x2, y2 = box
    left, top = region.box[0] - x1, region.box[1] - y1
    mask = np.zeros((y2 - y1 + 1, x2 - x1 + 1), dtype=np.bool_)
    mask[top : top + region.mask.shape[0], left : left + region.mask.shape[1]] = region.mask
    return picture[y1 : y2 + 1, x1 : x2 + 1], mask
