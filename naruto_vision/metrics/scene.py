"""One-to-one matching of boxes, and the counts and rates that follow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import box_pixels, inclusive_iou_matrix, shared_pixel_matrix
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import UNKNOWN, Box, LabelledBox

Matching: TypeAlias = Literal["box", "label"]
"""``box``: labels are not used. ``label``: among boxes above the threshold, right labels are preferred."""

Match: TypeAlias = Literal["iou", "contains"]
"""When a pair of boxes may match: ``iou``: by their IoU alone. ``contains``: also if one is mostly inside the other."""

MATCH = 0.5
"""Least IoU of boxes that match, where no other is asked for."""

INSIDE = 0.8
"""A box is inside another one if at least this fraction of its pixels is."""

_TIE = 1e-9
"""Spread of the tie-breaking cost: far below any IoU difference that matters, far above float64's rounding."""


def match_matrix(
    iou: NDArray[np.float64], threshold: float, right: NDArray[np.bool_] | None = None
) -> tuple[tuple[int, int], ...]:
    """Match rows to columns one-to-one, allowing only pairs whose IoU reaches the threshold.

    Criteria, in this order: most right pairs (if ``right`` is given), most pairs, largest total IoU, earlier rows.
    The threshold is applied before matching: dropping weak pairs afterwards loses pairs (for
    ``[[.5, .49], [.49, 0]]`` at 0.5 it would keep none instead of one).
    """
    allowed = iou >= threshold
    if not allowed.any():
        return ()
    count = len(iou)
    # A forbidden pair costs more than all others together. A larger constant would lose the digits of 1 - IoU,
    # and an infinite one makes scipy refuse a row in which all pairs are forbidden.
    forbidden = float(min(iou.shape) + 1)
    preference = np.arange(count, dtype=np.float64)[:, None] * (_TIE / count)
    cost = np.where(allowed, 1.0 - iou + preference, forbidden)
    if right is not None:
        cost -= (allowed & right) * forbidden**2  # one right pair outweighs any loss of other pairs
    from scipy.optimize import linear_sum_assignment  # takes a third of a second to import; predict never matches

    rows, columns = linear_sum_assignment(cost)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return tuple((row, column) for row, column in pairs if allowed[row, column])


def overlap_matrix(
    first: Sequence[Box], second: Sequence[Box], threshold: float = 0.5, match: Match = "iou"
) -> NDArray[np.float64]:
    """Return the inclusive IoU (N, M); with ``contains``, at least the threshold where one box is inside the other."""
    iou = inclusive_iou_matrix(first, second)
    if match == "iou":
        return iou
    smaller = np.minimum(box_pixels(first)[:, None], box_pixels(second)[None])
    return np.where(shared_pixel_matrix(first, second) >= INSIDE * smaller, np.maximum(iou, threshold), iou)


def match_boxes(
    predictions: Sequence[LabelledBox],
    truths: Sequence[LabelledBox],
    threshold: float = 0.5,
    matching: Matching = "box",
    match: Match = "iou",
) -> tuple[tuple[int, int], ...]:
    """Match the predictions of one scene to its objects.

    By boxes alone, or with as many right labels as boxes that reach the threshold allow. Ties go to the higher score,
    then to a fixed order of boxes and labels, so that the order of the two lists never changes the result.
    """
    order = sorted(range(len(predictions)), key=lambda index: _rank(predictions[index]))
    columns = sorted(range(len(truths)), key=lambda index: (truths[index].box, truths[index].label))
    iou = overlap_matrix([predictions[i].box for i in order], [truths[j].box for j in columns], threshold, match)
    right = None
    if matching == "label":
        names = np.array([truths[j].label for j in columns], dtype=object)
        right = np.array([predictions[i].label for i in order], dtype=object)[:, None] == names
    return tuple(sorted((order[row], columns[column]) for row, column in match_matrix(iou, threshold, right)))


def _rank(prediction: LabelledBox) -> tuple[float, Box, str]:
    score = float("-inf") if prediction.score is None else prediction.score
    return -score, prediction.box, prediction.label


RULES: Mapping[Matching, str] = {
    "box": "boxes are matched one-to-one before labels are looked at",
    "label": "boxes are matched one-to-one, with as many right labels as can be",
}


@dataclass(frozen=True)
class SceneCounts:
    """Counts of one scene, or of several together."""

    scenes: int = 0
    scenes_with_predictions: int = 0
    predictions: int = 0
    objects: int = 0
    objects_with_predictions: int = 0
    matched: int = 0
    right: int = 0
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    names_given: int = 0
    names_there: int = 0
    names_right: int = 0


_NUMBERS = tuple(item.name for item in fields(SceneCounts) if item.name != "classes")


@dataclass(frozen=True)
class SceneReport:
    """The rates of a set of scenes, and the rule by which its boxes were matched."""

    counts: SceneCounts
    iou_match: float = 0.5
    matching: Matching = "box"
    match: Match = "iou"

    @property
    def object_accuracy(self) -> Rate:
        """Objects found with the right label, of all objects."""
        return Rate(self.counts.right, self.counts.objects)

    @property
    def recall(self) -> Rate:
        """Objects found, of all objects; scenes without predictions stay in."""
        return Rate(self.counts.matched, self.counts.objects)

    @property
    def reference_recall(self) -> Rate:
        """Objects found, of those in scenes with predictions: optimistic, published by the reference system."""
        return Rate(self.counts.matched, self.counts.objects_with_predictions)

    @property
    def class_given_matched(self) -> Rate:
        """Found objects with the right label, of all found objects."""
        return Rate(self.counts.right, self.counts.matched)

    @property
    def precision(self) -> Rate:
        """Found objects with the right label, of all predictions; "unknown" is counted only if the truth has it too."""
        return Rate(self.counts.right, self.counts.predictions)

    @property
    def names_precision(self) -> Rate:
        """Names that a scene really has, of those given to its regions; each counts once a scene."""
        return Rate(self.counts.names_right, self.counts.names_given)

    @property
    def names_recall(self) -> Rate:
        """Names given to a scene's regions, of the names that it has; "unknown" is none."""
        return Rate(self.counts.names_right, self.counts.names_there)

    def names(self) -> dict[str, Rate]:
        """Return the rates of who is in a scene."""
        return {"names_precision": self.names_precision, "names_recall": self.names_recall}

    @property
    def per_class(self) -> dict[str, Rate]:
        """Object accuracy of each true label, sorted by label."""
        return {label: Rate(*pair) for label, pair in sorted(self.counts.classes.items())}

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and object accuracy, in [0, 1]; None without objects and named predictions."""
        total = self.counts.predictions + self.counts.objects
        return 2 * self.counts.right / total if total else None

    def rates(self) -> dict[str, Rate]:
        """Return the five overall rates under their names in ``results.json``, in reading order."""
        return {
            "object_accuracy": self.object_accuracy,
            "recall": self.recall,
            "reference_recall": self.reference_recall,
            "class_given_matched": self.class_given_matched,
            "precision": self.precision,
        }

    def as_json(self) -> dict[str, Any]:
        """Return JSON values: each rate as ``{value, count, total, low, high}``, and ``per_class`` by label."""
        return {
            **{name: rate.as_json() for name, rate in (self.rates() | self.names()).items()},
            "per_class": {label: rate.as_json() for label, rate in self.per_class.items()},
            "scenes": self.counts.scenes,
            "scenes_with_predictions": self.counts.scenes_with_predictions,
            "iou_match": self.iou_match,
            "f1": self.f1,
            "matching": self.matching,
            "match": self.match,
            "rule": RULES[self.matching] + ", also where one is mostly inside the other" * (self.match == "contains"),
        }


def count_scene(
    predictions: Sequence[LabelledBox],
    truths: Sequence[LabelledBox],
    iou_match: float = 0.5,
    matching: Matching = "box",
    match: Match = "iou",
    shown: Sequence[LabelledBox] | None = None,
) -> SceneCounts:
    """Match one scene's predicted boxes to its true ones, inclusive pixels, and count.

    The names of ``shown`` count as given to the scene; None takes those of all predictions.
    """
    pairs = match_boxes(predictions, truths, iou_match, matching, match)
    given, there = (
        {item.label for item in items} - {UNKNOWN} for items in (predictions if shown is None else shown, truths)
    )
    right = {true for guess, true in pairs if predictions[guess].label == truths[true].label}
    claims = sum(prediction.label != UNKNOWN for prediction in predictions)
    claims += sum(truths[index].label == UNKNOWN for index in right)
    classes = {
        label: (sum(truths[index].label == label for index in right), sum(truth.label == label for truth in truths))
        for label in sorted({truth.label for truth in truths})
    }
    return SceneCounts(
        scenes=1,
        scenes_with_predictions=int(bool(predictions)),
        predictions=claims,
        objects=len(truths),
        objects_with_predictions=len(truths) if predictions else 0,
        matched=len(pairs),
        right=len(right),
        classes=classes,
        names_given=len(given),
        names_there=len(there),
        names_right=len(given & there),
    )


def add_counts(parts: Iterable[SceneCounts]) -> SceneCounts:
    """Add up the counts of several scenes or processes."""
    parts = list(parts)
    totals = {name: sum(getattr(part, name) for part in parts) for name in _NUMBERS}
    classes: dict[str, tuple[int, int]] = {}
    for part in parts:
        for label, (right, total) in part.classes.items():
            before = classes.get(label, (0, 0))
            classes[label] = before[0] + right, before[1] + total
    return SceneCounts(**totals, classes=dict(sorted(classes.items())))
