"""What happens to a finished drawing: light, gamma, colour cast, screen-tone, blur and grain; and how layers meet."""

import cv2
import numpy as np

from naruto_vision.records import ImageArray
from naruto_vision.synthetic.raster import Bytes, Layer

_OPAQUE = 255
_LARGE = 160


def lay_over(image: ImageArray, layer: Layer) -> None:
    """Lay a drawn layer over an image, in place."""
    height, width = layer.alpha.shape
    under = image[layer.y : layer.y + height, layer.x : layer.x + width]
    edges = np.nonzero((layer.alpha > 0) & (layer.alpha < _OPAQUE))
    through = (_OPAQUE - layer.alpha[edges]).astype(np.uint16)[:, None]
    blended = ((under[edges] * through + 128) >> 8) + layer.colour[edges]
    cv2.copyTo(layer.colour, cv2.compare(layer.alpha, _OPAQUE, cv2.CMP_EQ), under)
    under[edges] = blended


def _curves(rng: np.random.Generator, strength: float) -> Bytes:
    """Gamma, gain and a colour cast: shape (1, 256, 3), uint8."""
    gamma = 1.0 + strength * (0.6 * float(rng.random()) - 0.25)
    gains = 1.0 + strength * (0.16 * rng.random(3) - 0.1)
    lift = strength * 26.0 * float(rng.random())
    base = np.round((np.arange(256) / 255.0) ** gamma, 6)[:, None]
    curve = lift + base * (255.0 - lift) * gains[None, :]
    return np.clip(np.rint(curve), 0, 255).astype(np.uint8)[None]


def _light(image: ImageArray, rng: np.random.Generator) -> None:
    """Darken one side smoothly, in place."""
    height, width = image.shape[:2]
    corners = rng.integers(165, 256, (2, 2), dtype=np.uint8)
    field = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint16)
    image[:] = (image * field[:, :, None]) >> 8


def _grain(image: ImageArray, rng: np.random.Generator, depth: int) -> ImageArray:
    """Add noise of up to ``2 ** depth`` levels."""
    height, width = image.shape[:2]
    noise = np.frombuffer(rng.bytes(height * width), dtype=np.uint8).reshape(height, width) >> (8 - depth)
    grey = cv2.merge([noise, noise, noise])
    lowered = cv2.subtract(image, np.full_like(image, 1 << (depth - 1)))
    return np.asarray(cv2.add(lowered, grey), dtype=np.uint8)


def _screen(image: ImageArray, rng: np.random.Generator) -> None:
    """Print dots over a band of the image, in place."""
    height, width = image.shape[:2]
    step = int(rng.integers(4, 8))
    top = int(rng.integers(0, height))
    band = image[top : top + int(rng.integers(height // 8, height // 2))]
    dots = np.zeros((step, step), dtype=np.uint8)
    dots[: step // 2, : step // 2] = int(rng.integers(20, 60))
    tile = np.tile(dots, (band.shape[0] // step + 1, width // step + 1))[: band.shape[0], :width]
    band[:] = cv2.subtract(band, cv2.merge([tile, tile, tile]))


def finish(image: ImageArray, rng: np.random.Generator, *, strength: float = 1.0) -> ImageArray:
    """Age a drawing as print, scan and compression would: shape (H, W, 3), uint8, RGB."""
    done = np.asarray(cv2.LUT(image, _curves(rng, strength)), dtype=np.uint8)
    chances = rng.random(4)
    if chances[0] < 0.4 * strength:
        _light(done, rng)
    if chances[1] < 0.2 * strength:
        _screen(done, rng)
    large = min(image.shape[:2]) >= _LARGE  # a small image has little detail to lose
    if chances[2] < (0.3 if large else 0.15) * strength:
        # means over odd counts never end in a half, so every machine rounds them alike
        done = np.asarray(cv2.blur(done, (3, 3)), dtype=np.uint8)
    if large and chances[2] < 0.1 * strength:
        done = np.asarray(cv2.blur(done, (3, 3)), dtype=np.uint8)
    if chances[3] < 0.6 * strength:
        done = _grain(done, rng, (3 if large else 2) + int(rng.integers(3)))
    return done
