"""Name whole images and texts by a gallery; the open-set threshold for whole images.

The gallery's own thresholds are chosen on regions cut out of scenes. Whole images include their background and score
differently, so their threshold is measured by leave-one-out: each gallery image is searched among the others.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import QueryKind
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.recognition.decision import decide
from naruto_vision.records import Identity, Neighbour, Vectors

VOTES = 20
"""How many gallery rows vote on an image: as many as on a region of a scene."""
KEPT = 0.95
"""Fraction of the correctly named gallery images that reach the threshold."""
_SEARCHED = 500  # gallery images: enough to estimate a 5 % quantile
_FEWEST = 20  # correct ones: with fewer, 5 % of them is none


@dataclass(frozen=True)
class Hit:
    """A gallery row near a query."""

    rank: int
    neighbour: Neighbour
    margin: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of one neighbour."""
        row = self.neighbour
        scored = {"rank": self.rank, "id": row.row, "label": row.label, "score": row.score}
        return {**scored, "margin": self.margin, "path": row.path}


@dataclass(frozen=True)
class SearchResult:
    """The identity and the neighbours of one query."""

    query: str
    kind: QueryKind
    identity: Identity
    threshold: float | None
    hits: tuple[Hit, ...]

    def sentence(self) -> str:
        """Say in one line who it is and why."""
        identity = self.identity
        figures = f"score {identity.score:.3f}"
        if identity.margin is not None:
            figures += f", {abs(identity.margin):.3f} {'ahead of' if identity.margin >= 0 else 'behind'} the next label"
        if self.kind == "text":
            return f"best guess is {identity.label} ({figures}; texts have no threshold)"
        if self.threshold is None:
            return f"{identity.label} ({figures}; no threshold, so nobody is unknown)"
        if identity.known:
            return f"{identity.label} ({figures}; threshold {self.threshold:.3f})"
        return f"{identity.name}: best guess is {identity.label} ({figures}), below the threshold {self.threshold:.3f}"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of one query."""
        identity = self.identity
        who = {"name": identity.name, "label": identity.label, "score": identity.score, "margin": identity.margin}
        known = identity.known if self.kind == "image" else None
        answer = {**who, "known": known, "threshold": self.threshold}
        neighbours = [hit.as_json() for hit in self.hits]
        return {"query": self.query, "kind": self.kind, "answer": answer, "neighbours": neighbours}


def look_up(
    gallery: Gallery,
    vectors: Vectors,
    queries: Sequence[str],
    kind: QueryKind,
    *,
    k: int = 5,
    votes: int = VOTES,
    threshold: float | None = None,
) -> tuple[SearchResult, ...]:
    """Find each query's nearest gallery rows and name it by their votes.

    Args:
        gallery: The gallery.
        vectors: Shape (Q, D), float32, unit rows, of the gallery's encoder.
        queries: Q paths or texts, for the results.
        kind: What they are.
        k: How many rows a result shows, at least 1.
        votes: How many rows vote, at least 1.
        threshold: The lowest score at which an image is known, as ``measure_threshold`` finds it; None counts every
            score, as for texts. (Those of the gallery were chosen on regions of scenes.)

    Returns:
        One result a query, in order.

    Raises:
        ValueError: If there are not as many vectors as queries, or a number is below 1.
    """
    if len(vectors) != len(queries) or min(k, votes) < 1:
        msg = f"look_up: {len(vectors)} vectors for {len(queries)} queries, {k} rows shown and {votes} voting"
        raise ValueError(msg)
    rule = Thresholds(threshold if kind == "image" else None)
    results = []
    for query, rows in zip(queries, gallery.search(vectors, max(k, votes), kind), strict=True):
        identity = decide(rows[:votes], rule)
        hits = tuple(Hit(rank, row, _margin(row, rows)) for rank, row in enumerate(rows[:k], start=1))
        results.append(SearchResult(query, kind, identity, rule.threshold(identity.label), hits))
    return tuple(results)


def _margin(row: Neighbour, rows: Sequence[Neighbour]) -> float | None:
    other = next((one.score for one in rows if one.label != row.label), None)
    return None if other is None else row.score - other


@dataclass(frozen=True)
class ImageThreshold:
    """The lowest score at which a whole image is known, with its evidence."""

    score: float | None = None
    searched: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if self.score is not None and not -1.0 <= self.score <= 1.0:
            msg = f"image threshold: expected a cosine in [-1, 1], found {self.score}"
            raise ValueError(msg)

    def sentence(self) -> str:
        """Say in one line where the threshold comes from."""
        if not self.searched:
            return "threshold: as given" if self.score is not None else "no threshold: nobody is unknown"
        evidence = f"of {self.searched} gallery images searched among the others, {self.right} are named correctly"
        if self.score is None:
            return f"no threshold, nobody is unknown: {evidence}, too few to choose one"
        return f"threshold {self.score:.3f}: {evidence}, and {KEPT:.0%} of these reach it"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        kept = KEPT if self.searched else None
        return {"score": self.score, "asked": self.searched, "right": self.right, "kept": kept}


def measure_threshold(gallery: Gallery, votes: int = VOTES) -> ImageThreshold:
    """Find the score that 95 % of the correctly named gallery images reach, each searched among the others.

    Rows of the same image, its variants among them, do not vote for it. Near duplicates (frames of one shot) raise the
    threshold; they are better left out at enrolment.

    Args:
        gallery: The gallery.
        votes: How many rows vote on an image, at least 1.
    """
    count = len(gallery)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _SEARCHED)).round().astype(np.int64)).tolist()
    ids, paths = gallery.ids, Counter(row.path for row in gallery.rows if row.path)
    most = max((paths[gallery.rows[number].path] for number in chosen), default=0) or 1
    scores = []
    for number, rows in zip(chosen, gallery.search(gallery.vectors[chosen], votes + most), strict=True):
        others = _others(gallery.rows[number], ids[number], rows)[:votes]
        named = decide(others, Thresholds()) if others else None
        if named is not None and named.label == gallery.rows[number].label:
            scores.append(named.score)
    score = float(np.clip(np.quantile(scores, 1 - KEPT), -1.0, 1.0)) if len(scores) >= _FEWEST else None
    return ImageThreshold(score, len(chosen), len(scores))


def _others(own: GalleryRow, own_id: int, rows: Sequence[Neighbour]) -> list[Neighbour]:
    return [row for row in rows if row.row != own_id and (row.path != own.path or not own.path)]
