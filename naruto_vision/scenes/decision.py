"""From the neighbours of a region to who it is, and from all regions to the ones worth showing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from naruto_vision.metrics.boxes import inclusive_iou_matrix
from naruto_vision.records import Identity, LabelledBox, Neighbour, ScenePrediction

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


def decide(neighbours: Sequence[Neighbour], rule: UnknownRule) -> Identity:
    """Name a region after its gallery rows: they vote, the nearer the louder.

    A row's vote is ``exp((score - best score) / 0.05)``, so a row that is a twentieth further away counts a third: a
    class with many pictures cannot outvote a near row of a class with few. With one neighbour it is the nearest row.

    Args:
        neighbours: The region's gallery rows, best first, at least one.
        rule: The gallery's thresholds.

    Returns:
        The label with most votes, the score of its best row, and the margin over the best row of another label.

    Raises:
        ValueError: If there is no neighbour.
    """
    if not neighbours:
        msg = "decide: expected at least one neighbour, found none"
        raise ValueError(msg)
    votes: dict[str, float] = {}
    for row in neighbours:
        votes[row.label] = votes.get(row.label, 0.0) + math.exp((row.score - neighbours[0].score) / _REACH)
    label = max(votes, key=lambda name: votes[name])  # on a tie the label of the nearer row, which came first
    score = next(row.score for row in neighbours if row.label == label)
    other = next((row.score for row in neighbours if row.label != label), None)
    bar = rule.threshold(label)
    return Identity(
        label=label,
        score=score,
        known=bar is None or score >= bar,
        margin=None if other is None else score - other,
        neighbours=tuple(neighbours),
    )


@dataclass(frozen=True)
class OverlaySettings:
    """Which regions people are shown.

    Args:
        nms_iou: A region is dropped when its box overlaps a better one at least this much; the default is
            the reference system's.
        top_k: Show at most this many regions; None shows all.
        min_score: Show no region below this cosine.
        show_unknown: Show regions that are nobody in the gallery, named "unknown".
    """

    nms_iou: float = 0.30
    top_k: int | None = None
    min_score: float = -1.0
    show_unknown: bool = True


def choose_for_overlay(prediction: ScenePrediction, settings: OverlaySettings) -> tuple[int, ...]:
    """Choose the regions that people are shown: greedy NMS, threshold, top-K.

    Known identities go before unknown ones, then higher scores before lower, so that an unknown part
    never hides a named figure.

    Args:
        prediction: One scene.
        settings: The limits.

    Returns:
        Indices into ``prediction.regions``, best first.
    """
    identities = prediction.identities
    order = sorted(range(len(identities)), key=lambda i: (not identities[i].known, -identities[i].score, i))
    boxes = [region.box for region in prediction.regions]
    overlap = inclusive_iou_matrix(boxes, boxes)
    kept: list[int] = []
    for index in order:
        identity = identities[index]
        if identity.score < settings.min_score or not (identity.known or settings.show_unknown):
            continue
        if all(overlap[index, other] < settings.nms_iou for other in kept):
            kept.append(index)
    return tuple(kept[: settings.top_k])


def labelled_boxes(prediction: ScenePrediction, *, named: bool) -> list[LabelledBox]:
    """Return a scene's regions as boxes, as measurement wants them.

    Args:
        prediction: One scene.
        named: Under the name that people are shown ("unknown" below the threshold), or under the best label.

    Returns:
        One box a region, in the same order.
    """
    return [
        LabelledBox(region.box, identity.name if named else identity.label, identity.score)
        for region, identity in zip(prediction.regions, prediction.identities, strict=True)
    ]
