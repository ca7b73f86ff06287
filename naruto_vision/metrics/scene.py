"""How well scenes were read, as whole numbers that add up: the functional twin of ``SceneAccuracy``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import inclusive_iou_matrix
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import UNKNOWN, LabelledBox

Matching: TypeAlias = Literal["box", "label"]
"""``box``: labels never help a match. ``label``: of boxes that overlap enough, a right label wins."""

_TIE = 1e-9
"""Spread of the tie-breaking cost: far below any difference of IoU that matters, far above float64's rounding."""


def match_matrix(
    iou: NDArray[np.float64], bar: float, right: NDArray[np.bool_] | None = None
) -> tuple[tuple[int, int], ...]:
    """Match rows to columns one-to-one, allowing only pairs whose IoU reaches the bar.

    Among all allowed matchings it takes one with the most right pairs, if it is told which are right, of these one
    with the most pairs, of these one with the largest total IoU, and of these one that prefers earlier rows. The bar
    acts before the matching: matching first and dropping weak pairs afterwards loses pairs (for
    ``[[.5, .49], [.49, 0]]`` at 0.5 it would keep none instead of one).

    Args:
        iou: Shape (N, M), float64, in [0, 1].
        bar: Smallest IoU of a pair, in [0, 1].
        right: Shape (N, M), bool: pairs that come before all others; None for none.

    Returns:
        Pairs (row, column), sorted by row.
    """
    allowed = iou >= bar
    if not allowed.any():
        return ()
    count = len(iou)
    # A forbidden pair costs more than all others together. A larger constant would swallow the digits of 1 - IoU,
    # and an infinite one makes scipy refuse a row in which everything is forbidden.
    forbidden = float(min(iou.shape) + 1)
    preference = np.arange(count, dtype=np.float64)[:, None] * (_TIE / count)
    cost = np.where(allowed, 1.0 - iou + preference, forbidden)
    if right is not None:
        cost -= (allowed & right) * (forbidden * forbidden)  # one right pair outweighs all that it may cost the others
    from scipy.optimize import linear_sum_assignment  # takes a third of a second to import; predict never matches

    rows, columns = linear_sum_assignment(cost)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return tuple((row, column) for row, column in pairs if allowed[row, column])


def match_boxes(
    predictions: Sequence[LabelledBox],
    truths: Sequence[LabelledBox],
    bar: float = 0.5,
    matching: Matching = "box",
) -> tuple[tuple[int, int], ...]:
    """Match the predictions of one scene to its objects.

    By their boxes alone ("box first"), or with as many right labels as boxes that reach the bar allow. Where two
    matchings are equally good, the prediction with the higher score wins; what is left is decided by a fixed order
    of boxes and labels, so that the order of the two lists never changes the result.

    Args:
        predictions: Boxes in inclusive pixels; a missing score counts as the lowest.
        truths: Boxes in inclusive pixels of the same image.
        bar: Smallest inclusive IoU of a pair, in [0, 1].
        matching: Whether labels help.

    Returns:
        Pairs (index in ``predictions``, index in ``truths``), sorted by the first.
    """
    order = sorted(range(len(predictions)), key=lambda index: _rank(predictions[index]))
    columns = sorted(range(len(truths)), key=lambda index: (truths[index].box, truths[index].label))
    iou = inclusive_iou_matrix([predictions[i].box for i in order], [truths[j].box for j in columns])
    right = None
    if matching == "label":
        names = np.array([truths[j].label for j in columns], dtype=object)
        right = np.array([predictions[i].label for i in order], dtype=object)[:, None] == names
    return tuple(sorted((order[row], columns[column]) for row, column in match_matrix(iou, bar, right)))


def _rank(prediction: LabelledBox) -> tuple[float, tuple[int, int, int, int], str]:
    score = float("-inf") if prediction.score is None else prediction.score
    return -score, prediction.box, prediction.label


RULES: Mapping[Matching, str] = {
    "box": "boxes are matched one-to-one before labels are looked at",
    "label": "boxes are matched one-to-one, with as many right labels as can be",
}


@dataclass(frozen=True)
class SceneCounts:
    """What was counted in one scene, or in several together.

    Args:
        scenes: Scenes.
        scenes_with_predictions: Scenes for which anything was predicted.
        predictions: Predicted boxes that name somebody, and those rightly called "unknown".
        objects: True objects of all scenes.
        objects_with_predictions: True objects of the scenes for which anything was predicted.
        matched: Objects whose box was found, whatever its label.
        right: Objects whose box was found and has the right label.
        classes: For each true label, its objects that are right and all its objects.
    """

    scenes: int = 0
    scenes_with_predictions: int = 0
    predictions: int = 0
    objects: int = 0
    objects_with_predictions: int = 0
    matched: int = 0
    right: int = 0
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneReport:
    """The figures of a set of scenes, each with its counts.

    Args:
        object_accuracy: Objects found with the right label, of all objects.
        honest_recall: Objects found, of all objects; scenes without predictions stay in.
        reference_recall: Objects found, of the objects of scenes for which anything was predicted. It flatters;
            it is here because the reference system publishes it.
        class_given_matched: Found objects with the right label, of all found objects.
        precision: Found objects with the right label, of all predictions; one called "unknown" claims nothing
            and is left out, unless the truth has an "unknown" there.
        per_class: Object accuracy of each true label, sorted by label.
        scenes: Scenes seen.
        scenes_with_predictions: Scenes for which anything was predicted.
        iou_match: Smallest inclusive IoU of a match.
        matching: Whether labels helped the matching.
    """

    object_accuracy: Rate
    honest_recall: Rate
    reference_recall: Rate
    class_given_matched: Rate
    precision: Rate
    per_class: Mapping[str, Rate]
    scenes: int
    scenes_with_predictions: int
    iou_match: float
    matching: Matching = "box"

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and object accuracy, in [0, 1]; None where there is neither object nor claim."""
        total = self.precision.total + self.object_accuracy.total
        return 2 * self.object_accuracy.count / total if total else None

    def rates(self) -> dict[str, Rate]:
        """Return the five overall figures by name, in the order in which people read them."""
        return {
            "object_accuracy": self.object_accuracy,
            "honest_recall": self.honest_recall,
            "reference_recall": self.reference_recall,
            "class_given_matched": self.class_given_matched,
            "precision": self.precision,
        }

    def as_json(self) -> dict[str, Any]:
        """Return JSON values: each figure as ``{value, count, total, low, high}``, and ``per_class`` by label."""
        return {
            **{name: rate.as_json() for name, rate in self.rates().items()},
            "per_class": {label: rate.as_json() for label, rate in self.per_class.items()},
            "scenes": self.scenes,
            "scenes_with_predictions": self.scenes_with_predictions,
            "iou_match": self.iou_match,
            "f1": self.f1,
            "matching": self.matching,
            "rule": RULES[self.matching],
        }


def count_scene(
    predictions: Sequence[LabelledBox],
    truths: Sequence[LabelledBox],
    iou_match: float = 0.5,
    matching: Matching = "box",
) -> SceneCounts:
    """Match one scene and count.

    Args:
        predictions: What was predicted, inclusive pixels; none at all is a scene without predictions.
        truths: The true objects, inclusive pixels of the same image.
        iou_match: Smallest inclusive IoU of a match, in [0, 1].
        matching: Whether labels help the matching.

    Returns:
        The counts of this scene.
    """
    pairs = match_boxes(predictions, truths, iou_match, matching)
    right = {true for guess, true in pairs if predictions[guess].label == truths[true].label}
    claims = sum(prediction.label != UNKNOWN for prediction in predictions)
    claims += sum(truths[index].label == UNKNOWN for index in right)
    classes = {
        label: (
            sum(truths[index].label == label for index in right),
            sum(truth.label == label for truth in truths),
        )
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
    )


def add_counts(parts: Iterable[SceneCounts]) -> SceneCounts:
    """Add up the counts of several scenes or processes.

    Args:
        parts: Any number of counts, none of which share a scene.

    Returns:
        Their sum; its classes are sorted.
    """
    parts = list(parts)
    labels = sorted({label for part in parts for label in part.classes})
    found = [[part.classes.get(label, (0, 0)) for part in parts] for label in labels]
    return SceneCounts(
        scenes=sum(part.scenes for part in parts),
        scenes_with_predictions=sum(part.scenes_with_predictions for part in parts),
        predictions=sum(part.predictions for part in parts),
        objects=sum(part.objects for part in parts),
        objects_with_predictions=sum(part.objects_with_predictions for part in parts),
        matched=sum(part.matched for part in parts),
        right=sum(part.right for part in parts),
        classes={
            label: (sum(right for right, _ in pairs), sum(total for _, total in pairs))
            for label, pairs in zip(labels, found, strict=True)
        },
    )


def scene_report(counts: SceneCounts, iou_match: float = 0.5, matching: Matching = "box") -> SceneReport:
    """Turn counts into rates.

    Args:
        counts: The counts of all scenes.
        iou_match: The bar with which they were made, for the record.
        matching: The matching with which they were made, for the record.

    Returns:
        The report; a rate whose total is 0 has the value None.
    """
    return SceneReport(
        object_accuracy=Rate(counts.right, counts.objects),
        honest_recall=Rate(counts.matched, counts.objects),
        reference_recall=Rate(counts.matched, counts.objects_with_predictions),
        class_given_matched=Rate(counts.right, counts.matched),
        precision=Rate(counts.right, counts.predictions),
        per_class={label: Rate(*pair) for label, pair in sorted(counts.classes.items())},
        scenes=counts.scenes,
        scenes_with_predictions=counts.scenes_with_predictions,
        iou_match=iou_match,
        matching=matching,
    )
