"""Decide a region's identity, or "unknown", from its nearest gallery rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from naruto_vision.errors import InputError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import Thresholds, calibrate_thresholds
from naruto_vision.geometry import area_xyxy, inclusive_iou_matrix, shared_pixels
from naruto_vision.records import Identity, LabelledBox, Neighbour, ScenePrediction

Rule: TypeAlias = Literal["vote", "top1", "max", "mean", "prototype", "centroid", "lda", "logreg"]
"""Rule that turns gallery rows into one name; see ``decide``."""

ROW_RULES: frozenset[Rule] = frozenset({"vote", "top1", "max"})
"""The rules that go by the nearest rows; the others need the scores of all classes."""

Decision: TypeAlias = Literal["auto", Rule]
"""A rule, or ``auto``: the one that the gallery has recorded; see ``recorded_rule``."""

_REACH = 0.05  # temperature; on synthetic validation scenes all values from 0.03 up to equal votes do as well
_INSIDE = 0.8  # a region with this fraction of its box inside a character's box is a part of it


def decide(
    neighbours: Sequence[Neighbour],
    thresholds: Thresholds,
    decision: Rule = "vote",
    class_scores: Mapping[str, float] | None = None,
) -> Identity:
    """Name a region by its nearest entries, or call it unknown.

    - ``vote``: the neighbours vote with ``exp((score - best score) / 0.05)``, so a row that is 0.05 lower
      has a third of the weight: many far rows of one class cannot outvote a near row of another. The score is that
      of the winner's nearest row.
    - ``top1`` and ``max``: the class of the best row. The two names are synonyms.
    - ``mean``: the class whose rows have the highest mean cosine with the region. The score is that mean.
    - ``prototype``: the class whose mean direction is nearest. The score is the cosine with it.
    - ``centroid``, ``lda``, ``logreg``: the class that a classifier of the gallery's rows scores highest; see
      ``recognition.heads.Head``.
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
        case "mean" | "prototype" | "centroid" | "lda" | "logreg":
            if not class_scores:
                msg = f"decide: expected the scores of all classes for {decision!r}, found none"
                raise ValueError(msg)
            scores = class_scores
            label = max(sorted(scores), key=lambda name: scores[name])
    score = scores[label]
    other = max((value for name, value in scores.items() if name != label), default=None)
    threshold = thresholds.threshold(label)
    return Identity(
        label=label,
        score=score,
        known=threshold is None or score >= threshold,
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
    return max(votes, key=lambda name: votes[name])  # on a tie the label of the nearest row, which comes first


def recorded_rule(gallery: Gallery, decision: Decision = "auto") -> Rule:
    """Return the rule of a gallery: that of its thresholds, or else the best of its enrolment, or else ``vote``."""
    if decision != "auto":
        return decision
    chosen, noted = gallery.thresholds.chosen, gallery.note.get("heads") or {}
    found: Any = (gallery.thresholds.decision if chosen else noted.get("decision")) or "vote"
    if found not in get_args(Rule):
        msg = f"{gallery.folder or 'gallery'}: expected a decision of {', '.join(get_args(Rule))}, found {found!r}"
        raise InputError(msg)
    rule: Rule = found
    return rule


def check_decision(thresholds: Thresholds, decision: str) -> None:
    """Raise InputError if the thresholds were chosen on the scores of another decision rule."""
    if thresholds.chosen and thresholds.decision not in {"", decision}:
        msg = (
            f"model.decision {decision}: the gallery's thresholds were chosen for {thresholds.decision}; choose them "
            f"again: naruto-vision validate --config scenes.yaml --model.decision {decision} --data.valid DIR"
        )
        raise InputError(msg)


@dataclass(frozen=True)
class ScoredRegion:
    """One region's score and whether naming it would have been right."""

    label: str
    score: float
    right: bool


def score_regions(
    prediction: ScenePrediction, truth: Sequence[LabelledBox], iou_match: float = 0.5
) -> list[ScoredRegion]:
    """Compare every region of one scene with the ground truth; correctly labelled parts of a character are left out."""
    judged = []
    overlap = inclusive_iou_matrix([region.box for region in prediction.regions], [item.box for item in truth])
    for region, identity, row in zip(prediction.regions, prediction.identities, overlap, strict=True):
        if len(row) and row.max() >= iou_match:
            label = truth[int(row.argmax())].label
            judged.append(ScoredRegion(identity.label, identity.score, identity.label == label))
            continue
        part = any(
            item.label == identity.label and shared_pixels(region.box, item.box) / area_xyxy(region.box) >= _INSIDE
            for item in truth
        )
        if not part:
            judged.append(ScoredRegion(identity.label, identity.score, right=False))
    return judged


def thresholds_from(scored: Sequence[ScoredRegion], decision: str) -> Thresholds:
    """Choose the thresholds from the scored regions of all validation scenes, in any order."""
    ordered = sorted(scored, key=lambda record: (record.label, record.score, record.right))
    return calibrate_thresholds(
        [record.score for record in ordered],
        [record.right for record in ordered],
        [record.label for record in ordered],
        decision=decision,
    )
