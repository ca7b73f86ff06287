"""Name whole images and texts by a gallery; the open-set threshold for whole images.

Thresholds that were chosen on regions cut out of scenes do not fit whole images, which include their background; so
theirs is always chosen on the gallery's own images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import QueryKind
from naruto_vision.gallery.thresholds import DEFAULT_AIM, Aim, Thresholds, why_none
from naruto_vision.recognition.decision import Decision, recorded_rule
from naruto_vision.recognition.heads import VOTES, score_classes
from naruto_vision.recognition.negatives import search_allowed
from naruto_vision.recognition.open_set import gallery_thresholds
from naruto_vision.records import Identity, Neighbour, Vectors


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
        """Describe the identity and its evidence in one line."""
        identity = self.identity
        details = f"score {identity.score:.3f}"
        if identity.margin is not None:
            details += f", {abs(identity.margin):.3f} {'ahead of' if identity.margin >= 0 else 'behind'} the next label"
        if self.kind == "text":
            return f"best guess is {identity.label} ({details}; texts have no threshold)"
        if self.threshold is None:
            return f"{identity.label} ({details}; no threshold, so no image is unknown)"
        if identity.known:
            return f"{identity.label} ({details}; threshold {self.threshold:.3f})"
        return f"{identity.name}: best guess is {identity.label} ({details}), below the threshold {self.threshold:.3f}"

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
    decision: Decision = "auto",
) -> tuple[SearchResult, ...]:
    """Search the gallery with each query, and name the query.

    Args:
        gallery: The gallery to search.
        vectors: Shape (Q, D), float32, unit rows, embedded with the gallery's encoder.
        queries: Q paths or texts, which name the results.
        kind: Whether the queries are images or texts.
        k: How many rows a result shows, at least 1.
        votes: How many rows vote, at least 1.
        threshold: Images that score below it are unknown; from ``measure_threshold``, as the gallery's own thresholds
            were chosen on regions of scenes. None accepts every score, as for texts.
        decision: Rule that names an image; "auto" takes the one that the gallery has recorded. Texts are named by
            ``vote``, as classifiers know images only.

    Returns:
        One result per query, in order.

    Raises:
        ValueError: If there are not as many vectors as queries, or a number is below 1.
    """
    if len(vectors) != len(queries) or min(k, votes) < 1:
        msg = f"look_up: {len(vectors)} vectors for {len(queries)} queries, {k} rows shown and {votes} voting"
        raise ValueError(msg)
    rule = Thresholds(threshold if kind == "image" else None)
    results = []
    name_by = recorded_rule(gallery, decision) if kind == "image" else "vote"
    near, scores = search_allowed(gallery, vectors, max(k, votes), kind), score_classes(gallery, name_by, vectors)
    for query, searched, classes in zip(queries, near, scores, strict=True):
        identity, rows = searched.decide(rule, name_by, classes, votes=votes), searched.neighbours
        hits = tuple(Hit(rank, row, _margin(row, rows)) for rank, row in enumerate(rows[:k], start=1))
        results.append(SearchResult(query, kind, identity, rule.threshold(identity.label), hits))
    return tuple(results)


def _margin(row: Neighbour, rows: Sequence[Neighbour]) -> float | None:
    other = next((one.score for one in rows if one.label != row.label), None)
    return None if other is None else row.score - other


@dataclass(frozen=True)
class ImageThreshold:
    """The open-set threshold for whole images, with its evidence."""

    score: float | None = None
    searched: int = 0
    right: int = 0
    kept: int = 0
    rule: str = ""

    def __post_init__(self) -> None:
        if self.score is not None and not -1.0 <= self.score <= 1.0:
            raise ValueError(f"image threshold: expected a cosine in [-1, 1], found {self.score}")

    def sentence(self) -> str:
        """Describe in one line where the threshold comes from."""
        if not self.rule:
            return "threshold: as given" if self.score is not None else "no threshold, so no image is unknown"
        if self.score is None:
            return f"no threshold, so no image is unknown: {why_none(self.rule)}"
        return f"threshold {self.score:.3f}: {self.rule}"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        kept = self.kept / self.right if self.score is not None and self.right else None
        return {"score": self.score, "asked": self.searched, "right": self.right, "kept": kept, "rule": self.rule}


def measure_threshold(
    gallery: Gallery, votes: int = VOTES, decision: Decision = "auto", aim: Aim = DEFAULT_AIM
) -> ImageThreshold:
    """Choose the threshold for whole images from the gallery alone, as ``gallery_thresholds`` does.

    Args:
        gallery: The gallery; at most 600 of its rows are searched.
        votes: How many rows vote on an image, at least 1.
        decision: As in ``look_up``.
        aim: What the threshold is chosen for.
    """
    found = gallery_thresholds(gallery, recorded_rule(gallery, decision), aim, votes, whole=True)
    seen = found.counts.get("", {})
    searched, right, kept = (int(seen.get(name) or 0) for name in ("tested", "right", "right_kept"))
    score = None if found.default is None else min(max(found.default, -1.0), 1.0)
    return ImageThreshold(score, searched, right, kept, found.rule)
