"""Measuring how far an approximate index has to look, with queries made of the gallery's own rows."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.gallery.effort import Effort, Efforts, QueryKind
from naruto_vision.gallery.exact import best_places
from naruto_vision.gallery.trial import any_directions, like_pictures
from naruto_vision.records import Vectors

TARGETS: Mapping[QueryKind, float] = MappingProxyType({"image": 0.99, "text": 0.99})
"""Share of the ten true neighbours that is to be found.

Some real texts are harder than all that stands for them here: where those reach 0.99, tiny-clip's captions reach 0.96.
"""

QUERIES = 256
_COUNT = 10  # neighbours: the usual recall@10
_SLACK = 1e-5  # scores that differ by less are one score
_SEED = 20_011

Search: TypeAlias = Callable[[Vectors, int, int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""From queries (Q, D), how many neighbours and a width to scores and places, both (Q, K), places -1 for none."""


def measure_efforts(search: Search, vectors: Vectors, places: NDArray[np.int64], widths: Iterable[int]) -> Efforts:
    """Find the least width that reaches the targets, for pictures and for texts.

    Queries are rows of the gallery, moved as rows differ; the row itself does not count as found. Directions that know
    nothing of the rows stand for texts: the gallery's own encoder is not at hand here. What is found has to pass the
    target by the error of the measurement.

    Args:
        search: The index.
        vectors: Shape (N, D), float32, unit rows.
        places: Shape (Q,), int64: which rows to ask for.
        widths: Rising; where none of them reaches a target, the last one is taken.

    Returns:
        Kind of query to effort.
    """
    tried = list(widths)
    pictures = like_pictures(vectors, places, _SEED)
    texts = any_directions(len(places), vectors.shape[1], _SEED)
    nobody = np.full_like(places, -1)
    asked: dict[QueryKind, tuple[Vectors, NDArray[np.int64]]] = {"image": (pictures, places), "text": (texts, nobody)}
    return {kind: _least(search, vectors, own, queries, tried, TARGETS[kind]) for kind, (queries, own) in asked.items()}


def _least(
    search: Search,
    vectors: Vectors,
    places: NDArray[np.int64],
    queries: Vectors,
    widths: list[int],
    target: float,
) -> Effort:
    """Try widths until queries (Q, D) made of the rows at places (Q,), -1 for none, find the share ``target``."""
    count = min(_COUNT, len(vectors) - 1)
    worst = _others(*best_places(vectors, queries, count + 1), places)[:, count - 1 : count]  # the last one's score
    for width in widths:
        own = _others(*search(queries, count + 1, width), places)[:, :count]
        found = (own >= worst - _SLACK).mean(axis=1) if count else np.ones(len(queries))
        recall, error = float(found.mean()), float(found.std() / np.sqrt(len(found)))
        if recall - error >= target:
            break
    return Effort(width, recall, len(queries), len(vectors))


def _others(scores: NDArray[np.float32], places: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """Drop the row that a query was made of: scores and places (Q, K), own (Q,), to scores (Q, K), falling."""
    kept = np.where((places == own[:, None]) | (places < 0), -np.inf, scores)
    return np.asarray(-np.sort(-kept, axis=1), dtype=np.float32)
