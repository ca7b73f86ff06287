"""Neighbours that do not depend on the index, the batch or the number asked for."""

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.effort import QueryKind
from naruto_vision.gallery.stores import VectorIndex
from naruto_vision.records import Vectors

_SPARE = 8  # rows beyond those asked for that the first look fetches
_CHUNK = 1 << 22  # numbers of float64 that scoring holds at once: 32 MiB


def exact_scores(vectors: Vectors, query: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compute cosine similarities that depend on nothing but the two vectors.

    A matrix product adds in an order that changes with its size, so equal pairs score differently in different
    batches; this sums each pair on its own in double precision and rounds once.

    Args:
        vectors: Shape (..., D), float32, unit rows.
        query: Broadcastable with ``vectors``, float64, unit rows.

    Returns:
        Shape (...), float32, in [-1, 1].
    """
    products = (vectors.astype(np.float64) * query).sum(axis=-1)
    return np.asarray(np.clip(products, -1.0, 1.0), dtype=np.float32)


def nearest_rows(
    index: VectorIndex, vectors: Vectors, queries: Vectors, count: int, kind: QueryKind = "image"
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Find each query's nearest rows, ordered by score and, where scores are equal, by place.

    The index only proposes. It is asked for more rows until its last proposal scores below the last wanted one by
    more than float32 can err, so that rows with equal scores are all there to be ordered.

    Args:
        index: An index of ``vectors``.
        vectors: Shape (N, D), float32, unit rows.
        queries: Shape (Q, D), float32, unit rows.
        count: How many rows a query wants, at least 1; more than N gives N.
        kind: What the queries are; an approximate index looks further for texts.

    Returns:
        For each query its scores (K,), float32, falling, and places (K,), int64.
    """
    total, dim = vectors.shape
    wanted = min(count, total)
    slack = 2.0 * dim * float(np.finfo(np.float32).eps)
    found: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = [(np.zeros(0, np.float32), np.zeros(0, np.int64))]
    found *= len(queries)
    pending, width = np.arange(len(queries)), min(wanted + _SPARE, total)
    while pending.size:
        scores, places = index.search(queries[pending], width, kind)
        open_ended = (scores[:, -1] >= scores[:, wanted - 1] - slack) & (places[:, -1] >= 0) & (width < total)
        closed = np.flatnonzero(~open_ended)
        step = max(1, _CHUNK // (width * dim))
        for start in range(0, closed.size, step):
            part = closed[start : start + step]
            ordered = _order(vectors, queries[pending[part]], places[part], wanted)
            for place, answer in zip(pending[part].tolist(), ordered, strict=True):
                found[place] = answer
        pending, width = pending[open_ended], min(4 * width, total)
    return found


def _order(
    vectors: Vectors, queries: Vectors, places: NDArray[np.int64], wanted: int
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Score proposals (Q, W) anew and keep the best ``wanted`` of each query, without the empty ones (-1)."""
    scores = exact_scores(vectors[places], queries.astype(np.float64)[:, None, :])
    scores[places < 0] = -np.inf
    order = np.lexsort((places, -scores), axis=-1)[:, :wanted]
    scores, places = np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
    return [(row[place >= 0], place[place >= 0]) for row, place in zip(scores, places, strict=True)]
