"""One character a picture: close-up, half figure or whole figure before a cluttered background."""

from dataclasses import dataclass

import numpy as np

from naruto_vision.drawn.artist import Extent, extent_of, paint, sketch_figure
from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.backdrop import draw_backdrop
from naruto_vision.drawn.finish import finish, lay_over
from naruto_vision.drawn.look import random_look
from naruto_vision.records import Mask, Picture


@dataclass(frozen=True)
class DrawnPicture:
    """A picture of one character.

    Args:
        picture: Shape (S, S, 3), uint8, RGB.
        mask: Shape (S, S), bool: the character's pixels.
    """

    picture: Picture
    mask: Mask


def _framing(rng: np.random.Generator, extent: Extent, size: int) -> tuple[float, tuple[float, float]]:
    """Choose how much is seen: pixels a head unit, and where the head's centre lies."""
    kind, zoom = float(rng.random()), 0.85 + 0.35 * float(rng.random())
    across = size * (0.36 + 0.28 * float(rng.random()))
    if kind < 0.3:  # close-up: head and shoulders
        scale = size / 3.6 * zoom
        return scale, (across, size * (0.42 + 0.12 * float(rng.random())))
    if kind < 0.65:  # half figure
        scale = size / 5.4 * zoom
        return scale, (across, size * (0.3 + 0.12 * float(rng.random())))
    scale = size * 0.97 / extent.height * (0.75 + 0.3 * float(rng.random()))
    slack = size - extent.height * scale
    return scale, (across, slack * (0.2 + 0.6 * float(rng.random())) - extent.top * scale)


def draw_picture(attributes: Attributes, seed: int, size: int = 128) -> DrawnPicture:
    """Draw one character.

    Args:
        attributes: Who it is.
        seed: Decides everything else: pose, framing, background, light. Equal seeds give equal pixels anywhere.
        size: Side of the picture in pixels.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    look = random_look(rng)
    sketch = sketch_figure(attributes, look)
    scale, origin = _framing(rng, extent_of(sketch), size)
    picture = draw_backdrop(rng, size, size)
    mask = np.zeros((size, size), dtype=np.bool_)
    layer = paint(sketch, look, scale, origin, (0, 0, size - 1, size - 1))
    if layer is not None:
        lay_over(picture, layer)
        height, width = layer.parts.shape
        mask[layer.y : layer.y + height, layer.x : layer.x + width] = layer.parts > 0
    return DrawnPicture(finish(picture, rng), mask)
