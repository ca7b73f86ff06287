"""Images side by side with titles, and maps laid over images."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from naruto_vision.records import ImageArray
from naruto_vision.viz.fonts import text_font

_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_LONGEST = 1024  # pixels a side of a panel


def heat(image: ImageArray, values: NDArray[np.float32]) -> ImageArray:
    """Lay a map (H, W), in [0, 1], over an image (H, W, 3), uint8, blue to red, as much of one as of the other."""
    colours = cv2.applyColorMap((values * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    mixed = cv2.addWeighted(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), 0.5, image, 0.5, 0)
    return np.asarray(mixed, dtype=np.uint8)


def side_by_side(panels: Mapping[str, ImageArray]) -> ImageArray:
    """Put images of one size (H, W, 3), uint8, under their titles, each at most 1,024 pixels a side."""
    height, width = next(iter(panels.values())).shape[:2]
    scale = min(1.0, _LONGEST / max(height, width))
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    points = min(max(12, wide // 16), 32)
    top, gap = 2 * points, max(4, points // 3)
    canvas = Image.new("RGB", (len(panels) * (wide + gap) - gap, top + high), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for index, (title, image) in enumerate(panels.items()):
        left = index * (wide + gap)
        scaled = image if scale == 1 else cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
        canvas.paste(Image.fromarray(scaled), (left, top))
        text, font = text_font(title, points)
        pen.text((left + wide / 2, top / 2), text, font=font, fill=_INK, anchor="mm")
    return np.array(canvas)
