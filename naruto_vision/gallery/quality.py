"""Gates at enrolment: images that are blurred, tiny, cut off or grey among the others of a gallery.

Each gate compares an image with the gallery, so that a gallery of soft, small or black-and-white images keeps them.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import ImageArray, Vectors

REASONS = ("blurred", "tiny", "cut off", "grey")
"""Why a gate leaves an image out; the first that applies counts."""

_SIDE = 128  # pixels of the shorter side at which sharpness is measured
_LONGEST = 1024  # pixels of the longer side there
_SIGMA = 1.5  # pixels there
_FLAT = 6  # levels within which a line of pixels is padding
_BLURRED = 0.7  # drawn images and photographs have at most .60, one in 100 of small signs .63; blurred by 3 % .72
_SOFTER = 0.2  # above the median blur of the gallery
_TINY = 32  # pixels of the shorter side
_CUT = 0.6  # of the image is padding
_GREY = 8  # levels between the channels of the most colourful pixels; JPEG makes a few of them
_COMMON = 0.5  # of a class: what most of its images have is no flaw
_FEWEST = 3  # images that a class keeps


def measure_quality(image: ImageArray) -> Vectors:
    """Measure an image (H, W, 3), uint8, RGB: blur, shorter side, padding, colour: (4,), float32.

    Blur is in [0, 1], near 1 if the differences between neighbouring pixels, at a shorter side of 128 pixels, lose
    nothing by a further blur (after Crete et al., "The blur effect: perception and estimation", 2007). Padding is the
    share of the image in borders of one colour, colour the range of the channels in levels.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    scale = min(_SIDE / side, _LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    grey = cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), _SIGMA)
    detail, lost = 0.0, 0.0
    for axis in (0, 1):
        before, after = (np.abs(np.diff(values, axis=axis)) for values in (grey, soft))
        detail += float(before.sum()) / max(1, before.size)
        lost += float(np.maximum(before - after, 0.0).sum()) / max(1, before.size)
    padding = 1.0 - _unpadded(scaled) * _unpadded(scaled.transpose(1, 0, 2))
    colour = np.quantile(np.ptp(scaled[::4, ::4].reshape(-1, 3), axis=1), 0.95)
    return np.array([1.0 - lost / detail if detail else 1.0, side, padding, colour], dtype=np.float32)


def _unpadded(image: ImageArray) -> float:
    """Return the share of the rows between the first and the last that has more than one colour."""
    rows = np.flatnonzero(np.ptp(image, axis=1).max(axis=1) > _FLAT)
    return float(rows[-1] - rows[0] + 1) / len(image) if rows.size else 0.0


def gate_limits(qualities: Vectors) -> Vectors:
    """Return the limits (4,) of the gates for a gallery whose images have these qualities (N, 4).

    Blur and size have a fixed limit, and a distance from the gallery besides: 0.2 above its median blur, and a quarter
    of its median size. A gallery that is grey for the most part has no limit of colour.
    """
    blur, side, _, colour = np.median(qualities, axis=0).tolist()
    limits = max(_BLURRED, blur + _SOFTER), min(_TINY, side / 4), _CUT, _GREY if colour >= _GREY else 0
    return np.array(limits, dtype=np.float32)


def find_flaws(qualities: Vectors, limits: Vectors) -> NDArray[np.bool_]:
    """Say which gates the images (N, 4) fail: (N, 4), in the order of ``REASONS``."""
    above = np.array([True, False, True, False])
    flaws: NDArray[np.bool_] = np.where(above, qualities > limits, qualities < limits)
    return flaws


def failed_gates(qualities: Vectors, labels: Sequence[str]) -> list[str]:
    """Return why each of N images is left out of a gallery that is built from them; "" for those that stay.

    What more than half of a class has is no flaw there, and a class that would be left with fewer than three images
    keeps all.

    Args:
        qualities: Shape (N, 4), float32, from ``measure_quality``.
        labels: The class of each.
    """
    flaws, names = find_flaws(qualities, gate_limits(qualities)), np.asarray(labels, dtype=object)
    for label in set(labels):
        mine = names == label
        flaws[mine] &= flaws[mine].mean(axis=0) <= _COMMON
        if int((~flaws[mine].any(axis=1)).sum()) < _FEWEST:
            flaws[mine] = False
    return reasons_of(flaws)


def reasons_of(flaws: NDArray[np.bool_]) -> list[str]:
    """Name the first gate that each image fails, by its flaws (N, 4)."""
    return [REASONS[row.index(True)] if any(row) else "" for row in flaws.tolist()]
