"""Ask a gallery who is on a whole image, or which of its images a text describes."""

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

KEPT = 0.95
"""Share of the rightly named gallery images that reach the bar."""

_ASKED = 500  # images: enough to place a twentieth of them, and one search
_FEWEST = 20  # right ones: with fewer, a twentieth of them is none


@dataclass(frozen=True)
class ImageBar:
    """The lowest score at which a whole image counts as known.

    Args:
        score: A cosine in [-1, 1]; None where too few gallery images are there to tell, or none was wanted.
        asked: Gallery images that were asked of the others.
        right: Those of them that got their own label.

    Raises:
        ValueError: If the score is not a cosine.
    """

    score: float | None = None
    asked: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if self.score is not None and not -1.0 <= self.score <= 1.0:
            msg = f"image bar: expected a cosine in [-1, 1], found {self.score}"
            raise ValueError(msg)

    def sentence(self) -> str:
        """Say in one line where the bar comes from."""
        if not self.asked:
            return "known from: as given" if self.score is not None else "no bar: nobody is unknown"
        evidence = f"of {self.asked} gallery images asked of the others, {self.right} are named right"
        if self.score is None:
            return f"nobody is unknown: {evidence}, too few to tell"
        return f"known from {self.score:.3f}: {evidence}, and {KEPT:.0%} of these score as much"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        return {"score": self.score, "asked": self.asked, "right": self.right, "kept": KEPT if self.asked else None}


def measure_bar(gallery: Gallery, votes: int) -> ImageBar:
    """Ask gallery images of the others, and find the score that nineteen of twenty rightly named ones reach.

    An image's own rows, its variants among them, do not answer for it. What looks alike in the gallery raises the
    bar: near duplicates (frames of one shot) are better left out when it is enrolled.

    Args:
        gallery: The gallery.
        votes: How many rows vote on an image, at least 1.

    Returns:
        The bar, the same for the same gallery.
    """
    count = len(gallery)
    places = np.unique(np.linspace(0, count - 1, min(count, _ASKED)).round().astype(np.int64)).tolist()
    ids, paths = gallery.ids, Counter(row.path for row in gallery.rows if row.path)
    most = max((paths[gallery.rows[place].path] for place in places), default=0) or 1
    found = gallery.search(gallery.vectors[places], votes + most)
    scores = []
    for place, rows in zip(places, found, strict=True):
        others = _others(gallery.rows[place], ids[place], rows)[:votes]
        answer = decide(others, Thresholds()) if others else None
        if answer is not None and answer.label == gallery.rows[place].label:
            scores.append(answer.score)
    bar = float(np.clip(np.quantile(scores, 1 - KEPT), -1.0, 1.0)) if len(scores) >= _FEWEST else None
    return ImageBar(bar, len(places), len(scores))


def _others(own: GalleryRow, own_id: int, rows: Sequence[Neighbour]) -> list[Neighbour]:
    return [row for row in rows if row.row != own_id and (row.path != own.path or not own.path)]


VOTES = 20
"""How many gallery rows vote on an image: as many as on a region of a scene."""


@dataclass(frozen=True)
class Hit:
    """One gallery row near a query.

    Args:
        rank: 1 for the nearest.
        neighbour: The row.
        margin: Its score minus the best score of another label among the rows that were looked at; negative behind
            such a row, None where they all have one label.

    Raises:
        ValueError: If the rank is below 1.
    """

    rank: int
    neighbour: Neighbour
    margin: float | None

    def __post_init__(self) -> None:
        if self.rank < 1:
            msg = f"hit: expected a rank of 1 or more, found {self.rank}"
            raise ValueError(msg)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of one neighbour."""
        row = self.neighbour
        facts = {"rank": self.rank, "id": row.row, "label": row.label, "score": row.score}
        return {**facts, "margin": self.margin, "path": row.path}


@dataclass(frozen=True)
class Answer:
    """What a gallery says to one query.

    Args:
        query: The image's path, or the text.
        kind: Which of the two.
        identity: Who it is, by the votes of the nearest rows. Cosines between texts and images are of another size
            than those between images, so a text's identity always counts as known.
        threshold: The lowest score at which somebody is known; None where there is none, and for texts.
        hits: The nearest rows, nearest first.
    """

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
            return f"{identity.label} ({figures}; without a threshold nobody is unknown)"
        if identity.known:
            return f"{identity.label} ({figures}; known from {self.threshold:.3f})"
        return f"{identity.name}: best guess is {identity.label} ({figures}), known only from {self.threshold:.3f}"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values of one query."""
        identity = self.identity
        who = {"name": identity.name, "label": identity.label, "score": identity.score, "margin": identity.margin}
        known = identity.known if self.kind == "image" else None
        answer = {**who, "known": known, "threshold": self.threshold}
        return {
            "query": self.query,
            "kind": self.kind,
            "answer": answer,
            "neighbours": [hit.as_json() for hit in self.hits],
        }


def look_up(
    gallery: Gallery,
    vectors: Vectors,
    queries: Sequence[str],
    kind: QueryKind,
    *,
    k: int = 5,
    votes: int = VOTES,
    threshold: float | None = None,
) -> tuple[Answer, ...]:
    """Find each query's nearest gallery rows and say who it is.

    Args:
        gallery: Whom to look for.
        vectors: Shape (Q, D), float32, unit rows, of the gallery's encoder.
        queries: Q paths or texts, for the answers.
        kind: What they are.
        k: How many rows an answer shows, at least 1.
        votes: How many rows vote on who it is, at least 1.
        threshold: The lowest score at which an image shows somebody known, as ``measure_bar`` finds it. (Those that
            the gallery keeps were chosen on cut-out regions of scenes.) None counts every score, as for texts.

    Returns:
        One answer a query, in order.

    Raises:
        ValueError: If there are not as many vectors as queries, or a number is below 1.
    """
    if len(vectors) != len(queries) or min(k, votes) < 1:
        msg = f"look_up: {len(vectors)} vectors for {len(queries)} queries, {k} rows shown and {votes} voting"
        raise ValueError(msg)
    rule = Thresholds(threshold if kind == "image" else None)
    answers = []
    for query, rows in zip(queries, gallery.search(vectors, max(k, votes), kind), strict=True):
        identity = decide(rows[:votes], rule)
        hits = tuple(Hit(rank, row, _margin(row, rows)) for rank, row in enumerate(rows[:k], start=1))
        answers.append(Answer(query, kind, identity, rule.threshold(identity.label), hits))
    return tuple(answers)


def _margin(row: Neighbour, rows: Sequence[Neighbour]) -> float | None:
    other = next((one.score for one in rows if one.label != row.label), None)
    return None if other is None else row.score - other
