"""From the neighbours of a region to who it is."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from naruto_vision.records import Identity, Neighbour

Decision: TypeAlias = Literal["vote", "top1", "max", "mean", "prototype"]
"""How gallery rows become one name; see ``decide``."""

_REACH = 0.05  # chosen on drawn validation scenes, where anything from 0.03 to even votes does as well


class UnknownRule(Protocol):
    """Tells whether a score is high enough to use a label."""

    def threshold(self, label: str) -> float | None:
        """Return the lowest cosine at which a label counts as known.

        Args:
            label: A label of the gallery.

        Returns:
            A cosine in [-1, 1], or None where none was calibrated.
        """
        ...


def decide(
    neighbours: Sequence[Neighbour],
    rule: UnknownRule,
    decision: Decision = "vote",
    class_scores: Mapping[str, float] | None = None,
) -> Identity:
    """Name a region.

    - ``vote``: the neighbours vote with ``exp((score - best score) / 0.05)``, so a row that is a twentieth further away
      counts a third: a class with many pictures cannot outvote a near row of a class with few. The score is that of
      the winner's nearest row.
    - ``top1`` and ``max``: the class of the best row. Both names are in use; the answer is the same.
    - ``mean``: the class whose rows have the highest mean cosine with the region. The score is that mean.
    - ``prototype``: the class whose mean direction is nearest. The score is the cosine with it.

    Args:
        neighbours: The region's gallery rows, best first, at least one.
        rule: The gallery's thresholds.
        decision: How.
        class_scores: For ``mean`` and ``prototype``, the region's score with every class.

    Returns:
        The label, its score, and the margin over the best of another label.

    Raises:
        ValueError: If there is no neighbour, or class scores are needed and absent.
    """
    if not neighbours:
        msg = "decide: expected at least one neighbour, found none"
        raise ValueError(msg)
    scores: Mapping[str, float]
    match decision:
        case "vote":
            scores = _best_of_each(neighbours)
            label = _most_votes(neighbours)
        case "top1" | "max":
            scores = _best_of_each(neighbours)
            label = neighbours[0].label
        case "mean" | "prototype":
            if not class_scores:
                msg = f"decide: expected the scores of all classes for {decision!r}, found none"
                raise ValueError(msg)
            scores = class_scores
            label = max(sorted(scores), key=lambda name: scores[name])
    score = scores[label]
    other = max((value for name, value in scores.items() if name != label), default=None)
    bar = rule.threshold(label)
    return Identity(
        label=label,
        score=score,
        known=bar is None or score >= bar,
        margin=None if other is None else score - other,
        neighbours=tuple(neighbours),
    )


def _best_of_each(neighbours: Sequence[Neighbour]) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in neighbours:
        best.setdefault(row.label, row.score)
    return best


def _most_votes(neighbours: Sequence[Neighbour]) -> str:
    votes: dict[str, float] = {}
    for row in neighbours:
        votes[row.label] = votes.get(row.label, 0.0) + math.exp((row.score - neighbours[0].score) / _REACH)
    return max(votes, key=lambda name: votes[name])  # on a tie the label of the nearer row, which came first
