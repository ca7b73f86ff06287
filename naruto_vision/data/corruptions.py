"""Corruptions of images at five severities: pure functions of the image, the strength and a random generator.

None moves anything, so the boxes of a scene stay true. Lengths of blur and occlusion are shares of the image.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import cv2
import numpy as np

from naruto_vision.data.augmentation import lower_resolution
from naruto_vision.records import ImageArray

Apply: TypeAlias = Callable[[ImageArray, float, np.random.Generator], ImageArray]
"""Corrupts an image by a strength, at random."""


def salt_and_pepper(image: ImageArray, amount: float, rng: np.random.Generator) -> ImageArray:
    """Make a share of the pixels, in [0, 1], white or black in all channels, half each and the odd one white."""
    pixels = image.reshape(-1, 3).copy()
    chosen = rng.permutation(len(pixels))[: round(amount * len(pixels))]
    pixels[chosen[::2]], pixels[chosen[1::2]] = 255, 0
    return pixels.reshape(image.shape)


def _blur(image: ImageArray, share: float, _rng: np.random.Generator) -> ImageArray:
    blurred: ImageArray = cv2.GaussianBlur(image, (0, 0), max(0.1, share * min(image.shape[:2])))
    return blurred


def _noise(image: ImageArray, deviation: float, rng: np.random.Generator) -> ImageArray:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * deviation
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def _jpeg(image: ImageArray, quality: float, _rng: np.random.Generator) -> ImageArray:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def _gamma(image: ImageArray, gamma: float, rng: np.random.Generator) -> ImageArray:
    power = gamma if rng.random() < 0.5 else 1 / gamma
    table = (np.linspace(0.0, 1.0, 256) ** power * 255).round().astype(np.uint8)
    return table[image]


def _resize(image: ImageArray, share: float, _rng: np.random.Generator) -> ImageArray:
    return lower_resolution(image, share)


def _occlusion(image: ImageArray, share: float, rng: np.random.Generator) -> ImageArray:
    """Cover a rectangle of the image's proportions with grey."""
    height, width = image.shape[:2]
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    covered = image.copy()
    covered[top : top + tall, left : left + wide] = 128
    return covered


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption: what its strength is, and the strengths of severities 1 to 5."""

    unit: str
    strengths: tuple[float, float, float, float, float]
    apply: Apply


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "salt-and-pepper": Corruption("share of pixels", (0.02, 0.05, 0.1, 0.2, 0.4), salt_and_pepper),
        "blur": Corruption("sigma, share of the shorter side", (0.005, 0.01, 0.02, 0.03, 0.05), _blur),
        "noise": Corruption("standard deviation of 255", (10, 20, 40, 60, 90), _noise),
        "jpeg": Corruption("quality", (30, 15, 10, 5, 2), _jpeg),
        "gamma": Corruption("gamma, or 1 / gamma", (1.5, 2, 2.5, 3, 4), _gamma),
        "resize": Corruption("share of the side", (0.5, 0.25, 0.15, 0.1, 0.06), _resize),
        "occlusion": Corruption("share of the image", (0.1, 0.2, 0.3, 0.4, 0.5), _occlusion),
    }
)
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(image: ImageArray, kind: str, severity: int, *, name: str = "", seed: int = 0) -> ImageArray:
    """Corrupt an image by a key of ``CORRUPTIONS`` at a severity of 1 to 5; 0 returns the image itself.

    Name, seed and kind seed the generator, so that an image is corrupted alike in whatever order images come; a larger
    severity extends a smaller one.
    """
    if severity == 0:
        return image
    one = CORRUPTIONS[kind]
    digest = hashlib.sha256(f"{seed}/{kind}/{name}".encode("utf-8", "surrogateescape")).digest()
    rng = np.random.default_rng(np.frombuffer(digest, np.uint32))
    return one.apply(image, one.strengths[severity - 1], rng)
