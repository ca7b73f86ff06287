"""Variants of gallery pictures: the same picture with another brightness curve."""

import hashlib

import cv2
import numpy as np

from naruto_vision.records import Picture

GAMMA = "gamma"
"""The ``aug`` of a row whose picture got another gamma."""

GAMMA_SPREAD = 0.05
GAMMA_RANGE = (0.85, 1.15)
_STREAM = 3  # keeps these numbers apart from those of training and sampling


def draw_gamma(path: str, seed: int) -> float:
    """Draw the exponent of one picture: normal around 1 with deviation 0.05, clipped to 0.85 and 1.15.

    Args:
        path: The picture's name; with the seed it decides, so neither order nor processes matter.
        seed: Any number from 0.
    """
    name = int.from_bytes(hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    value = np.random.default_rng([_STREAM, seed, name]).normal(1.0, GAMMA_SPREAD)
    return float(np.clip(value, *GAMMA_RANGE))


def apply_gamma(picture: Picture, gamma: float) -> Picture:
    """Raise every value, as a share of white, to a power.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        gamma: The exponent; above 1 darkens.

    Returns:
        Shape (H, W, 3), uint8, RGB.

    Example:
        >>> int(apply_gamma(np.full((1, 1, 3), 128, np.uint8), 1.15)[0, 0, 0])
        115
    """
    curve = np.round(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
    changed: Picture = cv2.LUT(picture, curve)
    return changed
