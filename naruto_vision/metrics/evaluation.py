"""Evaluation of a set of scenes: rates, an outcome for every box, box quality, upper bounds.

Also: intervals from a cluster bootstrap over scenes, and COCO's average precision by COCO's own code.
"""

import contextlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from naruto_vision.geometry import box_pixels, common_box, inclusive_iou_matrix, shared_pixel_matrix
from naruto_vision.metrics.scene import (
    INSIDE,
    Match,
    Matching,
    SceneCounts,
    SceneReport,
    add_counts,
    count_scene,
    match_boxes,
    match_matrix,
    overlap_matrix,
)
from naruto_vision.metrics.stats import Interval, Rate, bootstrap_ratios
from naruto_vision.records import UNKNOWN, Box, LabelledBox

MatchReason: TypeAlias = Literal["right", "wrong name", "unknown"]
"""A matched pair: the same label, another one, or "unknown" for an object that has a name."""

ObjectReason: TypeAlias = Literal["right", "wrong name", "unknown", "cut in parts", "swallowed", "missed"]
"""The outcome of a ground-truth object."""

PredictionReason: TypeAlias = Literal[
    "right", "wrong name", "unknown", "duplicate", "part", "too large", "background", "unnamed"
]
"""The outcome of a prediction."""

OBJECT_REASONS: tuple[ObjectReason, ...] = get_args(ObjectReason)
PREDICTION_REASONS: tuple[PredictionReason, ...] = get_args(PredictionReason)


@dataclass(frozen=True)
class ObjectVerdict:
    """One object of the ground truth, the prediction that was matched to it, and their inclusive IoU."""

    truth: LabelledBox
    reason: ObjectReason
    answer: LabelledBox | None = None
    iou: float = 0.0


@dataclass(frozen=True)
class PredictionVerdict:
    """One prediction and its outcome."""

    prediction: LabelledBox
    reason: PredictionReason


@dataclass(frozen=True)
class SceneVerdict:
    """One scene, with a reason for everything in it, in the order of the files."""

    objects: tuple[ObjectVerdict, ...]
    predictions: tuple[PredictionVerdict, ...]


@dataclass(frozen=True)
class ReasonCounts:
    """Counts per reason; they add up to the objects and to the predictions."""

    objects: Mapping[ObjectReason, int]
    predictions: Mapping[PredictionReason, int]

    def __post_init__(self) -> None:
        for reason in get_args(MatchReason):
            if self.objects[reason] != self.predictions[reason]:
                msg = f"reason {reason!r}: {self.objects[reason]} objects but {self.predictions[reason]} predictions"
                raise ValueError(msg)


def judge_scene(
    predictions: Sequence[LabelledBox],
    truths: Sequence[LabelledBox],
    iou_match: float = 0.5,
    matching: Matching = "box",
    match: Match = "iou",
) -> SceneVerdict:
    """Give every object and every prediction of one scene its reason.

    Matched pairs are ``right``, ``wrong name`` or ``unknown``. An object without a match is the first of these:

    - ``cut in parts``: two or more unmatched predictions lie in it, and their common box reaches the threshold, so that
      merging them would match it;
    - ``swallowed``: a prediction contains it (0.8 of its box), or reaches the threshold but matches another object;
    - ``missed``.

    A prediction without a match is the first of these: ``unnamed`` (called "unknown", so it is not counted),
    ``duplicate`` (it reaches the threshold with an object that has a better match), ``part`` (0.8 of it is in an
    object), ``too large`` (it contains 0.8 of an object), ``background``.
    """
    pairs = match_boxes(predictions, truths, iou_match, matching, match)
    guesses, objects = [item.box for item in predictions], [item.box for item in truths]
    iou, shared = inclusive_iou_matrix(guesses, objects), shared_pixel_matrix(guesses, objects)
    reaches = overlap_matrix(guesses, objects, iou_match, match) >= iou_match
    within = shared >= INSIDE * box_pixels(guesses)[:, None]  # the prediction is inside the object
    contains = shared >= INSIDE * box_pixels(objects)[None]  # the prediction contains the object
    reasons = {guess: _match_reason(predictions[guess], truths[true]) for guess, true in pairs}
    matches = {true: guess for guess, true in pairs}
    judged: list[ObjectVerdict] = []
    for column, truth in enumerate(truths):
        if column in matches:
            guess = matches[column]
            judged.append(ObjectVerdict(truth, reasons[guess], predictions[guess], float(iou[guess, column])))
            continue
        parts = [guesses[index] for index in np.flatnonzero(within[:, column]) if index not in reasons]
        swallowed = bool((contains[:, column] | reaches[:, column]).any())
        judged.append(ObjectVerdict(truth, _unfound(truth.box, parts, iou_match, swallowed)))
    return SceneVerdict(
        tuple(judged),
        tuple(
            PredictionVerdict(
                item, reasons.get(row) or _unmatched(item, (reaches[row].any(), within[row].any(), contains[row].any()))
            )
            for row, item in enumerate(predictions)
        ),
    )


def count_reasons(scenes: Iterable[SceneVerdict]) -> ReasonCounts:
    """Count the reasons of several scenes."""
    seen = list(scenes)
    objects = Counter(item.reason for scene in seen for item in scene.objects)
    predictions = Counter(item.reason for scene in seen for item in scene.predictions)
    return ReasonCounts(
        {reason: objects[reason] for reason in OBJECT_REASONS},
        {reason: predictions[reason] for reason in PREDICTION_REASONS},
    )


def _match_reason(prediction: LabelledBox, truth: LabelledBox) -> MatchReason:
    if prediction.label == truth.label:
        return "right"
    return "unknown" if prediction.label == UNKNOWN else "wrong name"


def _unfound(box: Box, parts: Sequence[Box], threshold: float, swallowed: bool) -> ObjectReason:
    if len(parts) > 1 and inclusive_iou_matrix([common_box(parts)], [box])[0, 0] >= threshold:
        return "cut in parts"
    return "swallowed" if swallowed else "missed"


def _unmatched(prediction: LabelledBox, overlaps: tuple[bool, bool, bool]) -> PredictionReason:
    """Decide by whether it reaches the threshold with an object, is inside one, or contains one."""
    if prediction.label == UNKNOWN:
        return "unnamed"
    kinds: tuple[PredictionReason, ...] = ("duplicate", "part", "too large")
    return next((kind for kind, found in zip(kinds, overlaps, strict=True) if found), "background")


_ON_OBJECT = 0.5  # half of the smaller box: most of the region is in the object, or most of the object in the region


@dataclass(frozen=True)
class SceneOutcome:
    """The counts of one scene, the reasons, and the objects that would be right with perfect boxes."""

    scene: str
    counts: SceneCounts
    verdict: SceneVerdict
    right_with_perfect_boxes: int

    @property
    def right_iou(self) -> float:
        """The IoUs of the right objects, added up."""
        return sum(item.iou for item in self.verdict.objects if item.reason == "right")

    def sums(self) -> dict[str, tuple[float, float]]:
        """Return the scene's contribution to the numerator and denominator of every figure."""
        counts = self.counts
        claims = counts.objects + counts.predictions
        return {
            "object_accuracy": (counts.right, counts.objects),
            "recall": (counts.matched, counts.objects),
            "reference_recall": (counts.matched, counts.objects_with_predictions),
            "class_given_matched": (counts.right, counts.matched),
            "precision": (counts.right, counts.predictions),
            "f1": (2 * counts.right, claims),
            "panoptic_quality": (2 * self.right_iou, claims),
        }


@dataclass(frozen=True)
class Bounds:
    """Upper bounds: object accuracy if one component were perfect."""

    perfect_boxes: Rate
    perfect_names: Rate
    perfect_merging: Rate

    def as_json(self) -> dict[str, Any]:
        """Return each bound as ``{value, count, total, low, high}``."""
        return {item.name: getattr(self, item.name).as_json() for item in fields(self)}


@dataclass(frozen=True)
class Quality:
    """Box quality of the right objects."""

    segmentation_quality: float | None
    panoptic_quality: float | None
    panoptic_by_class: float | None


@dataclass(frozen=True)
class Evaluation:
    """The outcome of every scene of the ground truth, in its order."""

    scenes: tuple[SceneOutcome, ...]
    iou_match: float = 0.5
    matching: Matching = "box"
    match: Match = "iou"

    @property
    def report(self) -> SceneReport:
        """The rates with their counts."""
        return SceneReport(add_counts(scene.counts for scene in self.scenes), self.iou_match, self.matching, self.match)

    @property
    def reasons(self) -> ReasonCounts:
        """Counts per reason."""
        return count_reasons(scene.verdict for scene in self.scenes)

    @property
    def bounds(self) -> Bounds:
        """Object accuracy if one component were perfect."""
        total = add_counts(scene.counts for scene in self.scenes)
        cut = self.reasons.objects["cut in parts"]
        boxed = sum(scene.right_with_perfect_boxes for scene in self.scenes)
        return Bounds(
            Rate(boxed, total.objects), Rate(total.matched, total.objects), Rate(total.right + cut, total.objects)
        )

    @property
    def quality(self) -> Quality:
        """Segmentation quality and panoptic quality."""
        total = add_counts(scene.counts for scene in self.scenes)
        overlap = sum(scene.right_iou for scene in self.scenes)
        shares = _class_qualities(self.scenes)
        everything = total.objects + total.predictions
        return Quality(
            overlap / total.right if total.right else None,
            2 * overlap / everything if everything else None,
            sum(shares.values()) / len(shares) if shares else None,
        )

    def right_objects(self) -> list[list[bool]]:
        """Return, for each scene and each of its objects, whether it is right, for comparing runs."""
        return [[item.reason == "right" for item in scene.verdict.objects] for scene in self.scenes]


def evaluate_scenes(
    truth: Mapping[str, Sequence[LabelledBox]],
    predictions: Mapping[str, Sequence[LabelledBox]],
    iou_match: float = 0.5,
    matching: Matching = "box",
    match: Match = "iou",
    advance: Callable[[], None] = lambda: None,
    shown: Mapping[str, Sequence[LabelledBox]] | None = None,
) -> Evaluation:
    """Evaluate predictions against the ground truth.

    Args:
        truth: Scene to its true boxes, inclusive pixels.
        predictions: Scene to predicted boxes; a scene that is missing counts as one without predictions.
        iou_match: Box IoU from which a pair may match, in [0, 1].
        matching: "box" matches by IoU alone, "label" only boxes of one label.
        match: "iou", or "contains": also a box that is mostly inside the other may match.
        advance: Called after each scene.
        shown: Scene to the boxes that are shown, whose names say who is there; None takes all predictions.

    Raises:
        ValueError: If ``iou_match`` is out of range.

    Examples:
        >>> import naruto_vision as nv
        >>> ayame = nv.LabelledBox((0, 0, 9, 9), "ayame", 0.9)
        >>> nv.evaluate_scenes({"a.png": [ayame], "b.png": [ayame]}, {"a.png": [ayame]}).report.object_accuracy.value
        0.5
    """
    if not 0.0 <= iou_match <= 1.0:
        raise ValueError(f"evaluate_scenes: expected iou_match in [0, 1], found {iou_match}")
    outcomes = []
    for scene, objects in truth.items():
        found = predictions.get(scene, ())
        counts = count_scene(
            found, objects, iou_match, matching, match, None if shown is None else shown.get(scene, ())
        )
        verdict = judge_scene(found, objects, iou_match, matching, match)
        outcomes.append(SceneOutcome(scene, counts, verdict, _right_with_perfect_boxes(found, objects, iou_match)))
        advance()
    return Evaluation(tuple(outcomes), iou_match, matching, match)


def _right_with_perfect_boxes(
    predictions: Sequence[LabelledBox], truths: Sequence[LabelledBox], iou_match: float
) -> int:
    """Pair as many objects as possible with overlapping predictions of their label."""
    guesses, objects = [item.box for item in predictions], [item.box for item in truths]
    smaller = np.minimum(box_pixels(guesses)[:, None], box_pixels(objects)[None])
    on_object = shared_pixel_matrix(guesses, objects) / smaller  # never below the IoU
    named = np.array([[guess.label == true.label for true in truths] for guess in predictions], dtype=np.float64)
    allowed = named.reshape(on_object.shape) * (on_object >= min(_ON_OBJECT, iou_match))
    return len(match_matrix(allowed, 1.0))


def _class_qualities(scenes: Sequence[SceneOutcome]) -> dict[str, float]:
    """Return the panoptic quality of every label that occurs or is predicted."""
    overlap: defaultdict[str, float] = defaultdict(float)
    members: Counter[str] = Counter()
    for scene in scenes:
        for item in scene.verdict.objects:
            members[item.truth.label] += 1
            overlap[item.truth.label] += item.iou if item.reason == "right" else 0.0
        for guess in scene.verdict.predictions:
            members[guess.prediction.label] += guess.reason not in {"unknown", "unnamed"}
    return {label: 2 * overlap[label] / count for label, count in members.items() if count}


def bootstrap_intervals(evaluation: Evaluation, replicates: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """Compute the interval of every figure that has a value, by resampling whole scenes."""
    sums = [scene.sums() for scene in evaluation.scenes]
    if not sums:
        return {}
    table = np.array([[*zip(*scene.values(), strict=True)] for scene in sums], dtype=np.float64)  # (S, 2, F)
    intervals = zip(sums[0], bootstrap_ratios(table, replicates, seed), strict=True)
    return {name: interval for name, interval in intervals if interval is not None}


def bootstrap_difference(
    first: Evaluation, second: Evaluation, replicates: int = 2000, seed: int = 0
) -> Interval | None:
    """Compute the interval of the second's object accuracy minus the first's; None without objects."""
    if [scene.scene for scene in first.scenes] != [scene.scene for scene in second.scenes]:
        raise ValueError("bootstrap_difference: expected two runs over the same scenes, found others")
    rows = [
        (late.counts.right - early.counts.right, early.counts.objects)
        for early, late in zip(first.scenes, second.scenes, strict=True)
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 2, 1)
    return bootstrap_ratios(table, replicates, seed, proportions=False)[0]


def coco_average_precision(
    truth: Mapping[str, Sequence[LabelledBox]], predictions: Mapping[str, Sequence[LabelledBox]]
) -> dict[str, float | None]:
    """Compute ``AP`` (mean over IoU 0.50 to 0.95), ``AP50`` and ``AP75`` over all labels, None without objects.

    Average precision ranks all predictions by score, so it measures the scores; the other figures use names only. A
    label that no object has, such as "unknown", is left out, and a prediction without a score ranks last. COCO takes
    the 100 best of a scene and label, and boxes are inclusive pixels.
    """
    names = ("AP", "AP50", "AP75")
    numbers = {scene: number for number, scene in enumerate(truth, start=1)}
    labels = sorted({item.label for items in truth.values() for item in items})
    classes = {label: number for number, label in enumerate(labels, start=1)}
    objects = [_coco_record(numbers[scene], classes, item) for scene, items in truth.items() for item in items]
    results = [
        _coco_record(numbers[scene], classes, item)
        for scene in truth
        for item in predictions.get(scene, ())
        if item.label in classes
    ]
    if not objects or not results:
        return dict.fromkeys(names, 0.0 if objects else None)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        sides = COCO(), COCO()
        for coco, records in zip(sides, (objects, results), strict=True):
            coco.dataset = {
                "images": [{"id": number} for number in numbers.values()],
                "categories": [{"id": number} for number in classes.values()],
                "annotations": [{**record, "id": number} for number, record in enumerate(records, start=1)],
            }
            coco.createIndex()
        evaluator = COCOeval(*sides, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: float(value) for name, value in zip(names, evaluator.stats[:3], strict=True)}


def _coco_record(image: int, classes: Mapping[str, int], item: LabelledBox) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box
    width, height = x2 - x1 + 1, y2 - y1 + 1
    return {
        "image_id": image,
        "category_id": classes[item.label],
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "iscrowd": 0,
        "score": float("-inf") if item.score is None else item.score,
    }
