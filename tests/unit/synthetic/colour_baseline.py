"""What colour alone can tell: the baseline that the synthetic data must be too hard for."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import ImageArray, Vectors

_THUMBNAIL = 24
_BINS = (12, 6, 6)


def colour_features(image: ImageArray) -> NDArray[np.float32]:
    """Describe an image by its colours: a thumbnail and an HSV histogram, each of unit length.

    Args:
        image: Shape (H, W, 3), uint8, RGB.

    Returns:
        Shape (2160,), float32: 24 x 24 x 3 of the thumbnail, then 12 x 6 x 6 of the histogram; unit length.
    """
    thumbnail = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    histogram = np.sqrt(cv2.calcHist([hsv], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256]).ravel())
    thumbnail -= thumbnail.mean()
    parts = [part / max(float(np.linalg.norm(part)), 1e-6) for part in (thumbnail, histogram)]
    return (np.concatenate(parts) * np.float32(np.sqrt(0.5))).astype(np.float32)


def nearest_labels(known: Vectors, labels: Sequence[str], queries: Vectors) -> list[str]:
    """Name each query after its nearest known vector.

    Args:
        known: Shape (N, D), float32, unit rows.
        labels: N names.
        queries: Shape (Q, D), float32, unit rows.

    Returns:
        Q names.
    """
    return [labels[int(k)] for k in np.argmax(queries @ known.T, axis=1)]
