"""Decide a region's identity, or "unknown", from its nearest gallery rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from naruto_vision.errors import InputError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.thresholds import DEFAULT_AIM, Aim, Thresholds, calibrate_thresholds, conformal_scores
from naruto_vision.geometry import box_pixels, inclusive_iou_matrix, shared_pixel_matrix
from naruto_vision.metrics.scene import INSIDE, MATCH
from naruto_vision.records import Identity, LabelledBox, Neighbour, ScenePrediction
from naruto_vision.segmentation.crops import Embedding

Rule: TypeAlias = Literal["vote", "top1", "max", "mean", "prototype", "centroid", "lda", "logreg"]
"""Rule that turns gallery rows into one name; see ``decide``."""

ROW_RULES: frozenset[Rule] = frozenset({"vote", "top1", "max"})
"""The rules that go by the nearest rows; the others need the scores of all classes."""

Decision: TypeAlias = Literal["auto", Rule]
"""A rule, or ``auto``: the one that the gallery has recorded; see ``recorded_rule``."""

_REACH = 0.05  # temperature; on synthetic validation scenes all values from 0.03 up to equal votes do as well


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
        raise ValueError("decide: expected at least one neighbour, found none")
    scores: Mapping[str, float]
    match decision:
        case "vote":
            scores = _best_of_each(neighbours)
            votes = count_votes(neighbours)
            label = max(votes, key=lambda name: votes[name])  # on a tie that of the nearest row, which comes first
        case "top1" | "max":
            scores = _best_of_each(neighbours)
            label = neighbours[0].label
        case "mean" | "prototype" | "centroid" | "lda" | "logreg":
            if not class_scores:
                raise ValueError(f"decide: expected the scores of all classes for {decision!r}, found none")
            scores = class_scores
            label = max(sorted(scores), key=lambda name: scores[name])
    score = scores[label]
    other = max((value for name, value in scores.items() if name != label), default=None)
    return Identity(
        label=label,
        score=score,
        known=thresholds.accepts(label, score),
        margin=None if other is None else score - other,
        neighbours=tuple(neighbours),
        p_value=thresholds.p_value(label, score),
    )


def _best_of_each(neighbours: Sequence[Neighbour]) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in neighbours:
        best.setdefault(row.label, row.score)
    return best


def count_votes(neighbours: Sequence[Neighbour]) -> dict[str, float]:
    """Return the weight of each label's votes under ``vote``, the label of the nearest row first."""
    votes: dict[str, float] = {}
    for row in neighbours:
        votes[row.label] = votes.get(row.label, 0.0) + math.exp((row.score - neighbours[0].score) / _REACH)
    return votes


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


def check_decision(thresholds: Thresholds, decision: str, embedding: Embedding = "crops") -> None:
    """Raise InputError if scenes chose the thresholds for another rule or embedding; the gallery's are chosen again."""
    if not thresholds.chosen or thresholds.source:
        return
    for option, found, chosen in (
        ("decision", decision, thresholds.decision or decision),
        ("embedding", embedding, thresholds.embedding or "crops"),
    ):
        if found != chosen:
            raise InputError(
                f"model.{option} {found}: the gallery's thresholds were chosen for {chosen}; choose them "
                f"again: naruto-vision validate --config scenes.yaml --model.{option} {found} --data.valid DIR"
            )


@dataclass(frozen=True)
class ScoredRegion:
    """The score of a region, or of a name in a scene, and whether the name is right."""

    label: str
    score: float
    right: bool


def score_regions(prediction: ScenePrediction, truth: Sequence[LabelledBox]) -> list[ScoredRegion]:
    """Compare every region of one scene with the ground truth; boxes match from an IoU of 0.5 on.

    A region that matches no true box, but holds one of its label (a figure around a face), is right; one that lies in
    such a box (a part of a character) is left out.
    """
    judged = []
    boxes, objects = [region.box for region in prediction.regions], [item.box for item in truth]
    overlap, shared = inclusive_iou_matrix(boxes, objects), shared_pixel_matrix(boxes, objects)
    labels = np.array([item.label for item in truth], dtype=object)
    for number, identity in enumerate(prediction.identities):
        own, row = labels == identity.label, overlap[number]
        matched = bool(len(row) and row.max() >= MATCH)
        right = own[int(row.argmax())] if matched else (own & (shared[number] >= INSIDE * box_pixels(objects))).any()
        part = (own & (shared[number] >= INSIDE * box_pixels(boxes)[number])).any()
        if matched or right or not part:
            judged.append(ScoredRegion(identity.label, identity.score, bool(right)))
    return judged


def score_names(prediction: ScenePrediction, truth: Sequence[LabelledBox], shown: Iterable[int]) -> list[ScoredRegion]:
    """Compare each name that the shown regions of a scene have, by its best score, with the names of the truth."""
    best: dict[str, float] = {}
    for identity in (prediction.identities[index] for index in shown):
        best[identity.label] = max(best.get(identity.label, identity.score), identity.score)
    there = {item.label for item in truth}
    return [ScoredRegion(label, score, label in there) for label, score in best.items()]


def thresholds_from(
    scored: Sequence[ScoredRegion],
    decision: str,
    aim: Aim = DEFAULT_AIM,
    regions: Sequence[ScoredRegion] = (),
    embedding: Embedding = "crops",
) -> Thresholds:
    """Choose the thresholds from the scored names of all validation scenes, in any order.

    Args:
        scored: From ``score_names``, or from ``score_regions`` to choose by regions.
        decision: The decision rule that named them.
        aim: What the thresholds are chosen for.
        regions: From ``score_regions``; those that are right calibrate the p-values. Without any ``scored`` does.
        embedding: How the regions were embedded.
    """
    ordered = sorted(scored, key=lambda record: (record.label, record.score, record.right))
    found = calibrate_thresholds(
        [record.score for record in ordered],
        [record.right for record in ordered],
        [record.label for record in ordered],
        aim=aim,
        decision=decision,
    )
    found = replace(found, embedding="" if embedding == "crops" else embedding)
    right = [record for record in regions if record.right]
    if not right:
        return found
    scores = np.array([record.score for record in right])
    return replace(found, scores=conformal_scores(scores, np.array([record.label for record in right])))
