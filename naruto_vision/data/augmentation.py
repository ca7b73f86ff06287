"""Augmentation of training images: pure functions of the image and a random generator.

They preserve identity (colours, hair, clothes, face) and vary side, framing, light, sharpness, occlusion, and the
flat background around a segmenter's cut-out.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import shape_of_xyxy, xyxy_from_mask
from naruto_vision.records import ImageArray, Mask

GROUNDS = (0, 128, 255)
"""The flat grey levels around a cut-out."""


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Sample a Bernoulli variable."""
    return bool(rng.random() < probability)


def random_crop(image: ImageArray, rng: np.random.Generator, *, smallest: float = 0.7) -> ImageArray:
    """Cut a window whose sides are each between ``smallest`` and all of the image's."""
    height, width = image.shape[:2]
    new_height, new_width = (max(1, round(side * rng.uniform(smallest, 1.0))) for side in (height, width))
    top = int(rng.integers(0, height - new_height + 1))
    left = int(rng.integers(0, width - new_width + 1))
    return image[top : top + new_height, left : left + new_width]


def change_light(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Change gamma, contrast and the balance of the channels a little."""
    gamma = rng.uniform(0.75, 1.33)
    gains = rng.uniform(0.9, 1.1) * rng.uniform(0.95, 1.05, size=3)  # larger shifts would change hair colours
    ramp = np.linspace(0.0, 1.0, 256)[:, None] ** gamma * 255.0 * gains + rng.uniform(-12, 12)
    table = np.clip(ramp, 0, 255).round().astype(np.uint8)[None]  # (1, 256, 3)
    lit: ImageArray = cv2.LUT(image, table)
    return lit


def soften(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Scale down and up again, to simulate a small figure cut from a large scene."""
    return lower_resolution(image, rng.uniform(0.4, 0.9))


def lower_resolution(image: ImageArray, part: float) -> ImageArray:
    """Scale both sides down to a part of them, and up again."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, round(width * part)), max(1, round(height * part))), interpolation=cv2.INTER_AREA)
    soft: ImageArray = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return soft


def occlude(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Occlude with one box or ellipse, of a random colour or of a background grey."""
    height, width = image.shape[:2]
    covered = np.ascontiguousarray(image.copy())
    x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
    half_width, half_height = (max(1, int(side * rng.uniform(0.08, 0.25))) for side in (width, height))
    ground = int(rng.choice(GROUNDS))
    colour = (ground,) * 3 if chance(rng, 0.5) else tuple(int(value) for value in rng.integers(0, 256, size=3))
    if chance(rng, 0.5):
        cv2.ellipse(covered, (x, y), (half_width, half_height), rng.uniform(0, 180), 0, 360, colour, cv2.FILLED)
    else:
        corners = (x - half_width, y - half_height), (x + half_width, y + half_height)
        cv2.rectangle(covered, *corners, colour, cv2.FILLED)
    return covered


def spotlight(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Keep a large rounded centre and fill the rest with grey: a cut-out without a mask."""
    height, width = image.shape[:2]
    kept = np.zeros((height, width), dtype=np.uint8)
    centre = int(width * rng.uniform(0.42, 0.58)), int(height * rng.uniform(0.42, 0.58))
    axes = int(width * rng.uniform(0.35, 0.6)), int(height * rng.uniform(0.45, 0.7))
    cv2.ellipse(kept, centre, axes, 0, 0, 360, 1, cv2.FILLED)
    ground = np.uint8(rng.choice(GROUNDS))
    return np.where(kept[..., None] > 0, image, ground).astype(np.uint8)


def _rough_mask(mask: Mask, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Dilate or erode a mask by a pixel or two, the usual error of a segmenter's mask."""
    radius = int(rng.integers(0, max(2, min(mask.shape) // 32 + 1)))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8)
    change = cv2.dilate if chance(rng, 0.6) else cv2.erode
    rough = change(mask.astype(np.uint8), kernel) > 0
    return rough if rough.any() else mask


def cut_out(image: ImageArray, mask: Mask, rng: np.random.Generator, *, flat: float = 0.7) -> ImageArray:
    """Crop to the figure, loosely or tightly, and usually fill its surroundings with grey, as segmenters do."""
    box = xyxy_from_mask(mask)
    if box is None:
        return image
    spare_rows, spare_columns = (side * rng.uniform(-0.06, 0.18, size=2) for side in shape_of_xyxy(box))
    top, left = max(0, int(box[1] - spare_rows[0])), max(0, int(box[0] - spare_columns[0]))
    # a tight crop of a figure one pixel high or wide would be empty
    bottom = max(top + 1, min(mask.shape[0], int(box[3] + spare_rows[1]) + 1))
    right = max(left + 1, min(mask.shape[1], int(box[2] + spare_columns[1]) + 1))
    if chance(rng, flat):
        ground = np.uint8(rng.choice(GROUNDS))
        image = np.where(_rough_mask(mask, rng)[..., None], image, ground).astype(np.uint8)
    return image[top:bottom, left:right]


def augment(image: ImageArray, rng: np.random.Generator, *, mirrored: bool = True) -> ImageArray:
    """Change a labelled training image at random; the same generator state gives the same image."""
    image = random_crop(image, rng) if chance(rng, 0.7) else image
    image = image[:, ::-1] if chance(rng, 0.5) and mirrored else image
    image = spotlight(image, rng) if chance(rng, 0.25) else image
    image = change_light(np.ascontiguousarray(image), rng) if chance(rng, 0.8) else image
    image = soften(image, rng) if chance(rng, 0.3) else image
    image = occlude(image, rng) if chance(rng, 0.25) else image
    return np.ascontiguousarray(image)
