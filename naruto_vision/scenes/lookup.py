"""Ask a gallery who is on a whole picture, or which of its pictures a text describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from naruto_vision.gallery.effort import QueryKind
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds
from naruto_vision.records import Identity, Neighbour, Vectors
from naruto_vision.scenes.decision import decide

VOTES = 20
"""How many gallery rows vote on a picture: as many as on a region of a scene."""


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
        query: The picture's path, or the text.
        kind: Which of the two.
        identity: Who it is, by the votes of the nearest rows. Cosines between texts and pictures are of another size
            than those between pictures, so a text's identity always counts as known.
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
        threshold: The lowest score at which a picture shows somebody known, as ``measure_bar`` finds it. (Those that
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
