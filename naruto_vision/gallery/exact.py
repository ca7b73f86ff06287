"""The search that needs nothing but NumPy."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import Vectors

_BLOCK = 1 << 24  # scores held at once: 64 MiB


class ExactIndex:
    """Every inner product, by NumPy.

    Args:
        vectors: Shape (N, D), float32, unit rows.
    """

    kind: Literal["exact"] = "exact"

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def search(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64.
        """
        step = max(1, _BLOCK // len(self._vectors))
        blocks = [self._block(queries[start : start + step], count) for start in range(0, len(queries), step)]
        return np.concatenate([scores for scores, _ in blocks]), np.concatenate([places for _, places in blocks])

    def _block(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        products = queries @ self._vectors.T
        places = np.argpartition(products, -count, axis=1)[:, -count:] if count < len(self._vectors) else None
        if places is None:
            places = np.broadcast_to(np.arange(count), products.shape)
        scores = np.take_along_axis(products, places, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1).astype(np.int64)

    def updated(self, vectors: Vectors, ids: NDArray[np.int64]) -> "ExactIndex":
        """Return an index of other vectors.

        Args:
            vectors: Shape (M, D), float32, unit rows.
            ids: Shape (M,), int64; not looked at.
        """
        del ids
        return ExactIndex(vectors)

    def to_bytes(self) -> None:
        """Return None: the vectors are the index."""
        return
