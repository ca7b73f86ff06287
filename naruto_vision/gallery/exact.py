"""The search that needs nothing but NumPy: every inner product, as matrix products, and a quick choice of the best."""

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from naruto_vision.files.machine import cpu_features
from naruto_vision.gallery.effort import NO_EFFORTS, Efforts, QueryKind
from naruto_vision.records import Vectors

_ROWS = 16_384  # rows a matrix product: its scores for 256 queries, 16 MiB, are chosen from while they are in a cache
_QUERIES = 256
_GROUP = 64  # neighbouring scores whose largest stands for them in the first choice


def best_places(vectors: Vectors, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the rows with the largest inner products.

    A row among the best ``count`` is in one of the ``count`` groups of 64 with the largest maxima. So most scores are
    looked at once, by a running maximum, and only those groups are sorted out: choosing then costs a quarter of the
    matrix product instead of several times as much.

    Args:
        vectors: Shape (N, D), float32, unit rows.
        queries: Shape (Q, D), float32, unit rows.
        count: How many rows a query wants, 1 to N.

    Returns:
        Scores (Q, count), float32, falling, and places (Q, count), int64.
    """
    steps = range(0, len(queries), _QUERIES)
    found = [_best_of_all(vectors, queries[start : start + _QUERIES], count) for start in steps]
    if not found:
        return np.zeros((0, count), dtype=np.float32), np.zeros((0, count), dtype=np.int64)
    return np.concatenate([scores for scores, _ in found]), np.concatenate([places for _, places in found])


def _best_of_all(vectors: Vectors, queries: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Look at block after block of rows and keep the best (Q, count)."""
    found = []
    for start in range(0, len(vectors), _ROWS):
        products = _products(vectors[start : start + _ROWS], queries)
        scores, inside = _best_inside(products, count)
        found.append((scores, inside + start))
    best, where = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    if best.shape[1] > count:
        best, where = _largest(best, where, count)
    order = np.lexsort((where, -best), axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(where, order, axis=1)


def _products(vectors: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """Multiply rows (N, D) with queries (Q, D): (N, Q); this way round, few queries are quicker.

    A large product first copies its rows into another order, which takes as long as four queries do. BLAS leaves that
    out for products that are small enough.
    """
    rows, dim = vectors.shape
    height, most = _small_product()
    if len(queries) > most or rows % height:
        return np.asarray(vectors @ queries.T)
    grouped = vectors.reshape(rows // height, height, dim)
    return np.asarray((grouped @ queries.T).reshape(rows, len(queries)))


@cache
def _small_product() -> tuple[int, int]:
    """Return of how many rows small products are, and up to how many queries they are quicker than a large one.

    Measured at D = 512, 98,304 rows, milliseconds for 16, 24 and 40 queries: 26, 32 and 38 in products of 16 rows with
    AVX-512 (31, 37 and 45 in large ones); 38, 46 and 64 in products of 64 rows with AVX2 (39, 47 and 61 in large ones).
    """
    return (16, 40) if cpu_features()["AVX512"] else (64, 16)


def _best_inside(products: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the best ``count`` of each column of (N, Q) and where they are, in no order: (Q, at most count)."""
    rows, queries = products.shape
    groups = rows // _GROUP
    if 4 * count > groups or rows % _GROUP:  # little to gain, or the last block of all
        scores = np.ascontiguousarray(products.T)
        return _largest(scores, np.broadcast_to(np.arange(rows), scores.shape), min(count, rows))
    grouped = products.reshape(groups, _GROUP, queries)
    maxima = np.ascontiguousarray(grouped.max(axis=1).T)
    chosen = np.argpartition(maxima, -count, axis=1)[:, -count:]  # (Q, count)
    candidates = grouped[chosen, :, np.arange(queries)[:, None]].reshape(queries, -1)  # (Q, count * 64)
    places = (chosen[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(queries, -1)
    return _largest(candidates, places, count)


def _largest(
    scores: NDArray[np.float32], places: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keep the largest ``count`` of each row of (Q, N), with their places, in no order: both (Q, count)."""
    kept = np.argpartition(scores, -count, axis=1)[:, -count:]
    return np.take_along_axis(scores, kept, axis=1), np.take_along_axis(places, kept, axis=1)


class ExactIndex:
    """Every inner product, by NumPy.

    Args:
        vectors: Shape (N, D), float32, unit rows.
    """

    kind: Literal["exact"] = "exact"
    efforts: Efforts = NO_EFFORTS

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def search(
        self, queries: Vectors, count: int, kind: QueryKind = "image"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows with the largest inner products.

        Args:
            queries: Shape (Q, D), float32, unit rows.
            count: How many rows a query wants, 1 to N.
            kind: What the queries are; not looked at, for all rows are compared.

        Returns:
            Scores (Q, count), float32, falling, and places (Q, count), int64.
        """
        del kind
        return best_places(self._vectors, queries, count)

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
