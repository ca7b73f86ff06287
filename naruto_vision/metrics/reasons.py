"""Why every object was found or not, and what became of every prediction: one reason each, and they add up."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from naruto_vision.metrics.boxes import box_pixels, common_box, inclusive_iou_matrix, shared_pixel_matrix
from naruto_vision.metrics.matching import Matching, match_boxes
from naruto_vision.records import UNKNOWN, Box, LabelledBox

INSIDE = 0.8
"""A box lies in another one when at least this share of its pixels does."""

MatchReason: TypeAlias = Literal["right", "wrong name", "unknown"]
"""A matched pair: the same label, another one, or "unknown" for an object that has a name."""

ObjectReason: TypeAlias = Literal["right", "wrong name", "unknown", "cut in parts", "swallowed", "missed"]
"""What became of an object of the ground truth."""

PredictionReason: TypeAlias = Literal[
    "right", "wrong name", "unknown", "duplicate", "part", "too large", "background", "unnamed"
]
"""What a prediction turned out to be."""

OBJECT_REASONS: tuple[ObjectReason, ...] = get_args(ObjectReason)
PREDICTION_REASONS: tuple[PredictionReason, ...] = get_args(PredictionReason)


@dataclass(frozen=True)
class ObjectVerdict:
    """One object of the ground truth.

    Args:
        truth: The object.
        reason: What became of it.
        answer: The prediction that was matched to it; None where none was.
        iou: Their inclusive IoU, in [0, 1]; 0 without an answer.
    """

    truth: LabelledBox
    reason: ObjectReason
    answer: LabelledBox | None = None
    iou: float = 0.0


@dataclass(frozen=True)
class PredictionVerdict:
    """One prediction.

    Args:
        prediction: The prediction.
        reason: What it turned out to be.
    """

    prediction: LabelledBox
    reason: PredictionReason


@dataclass(frozen=True)
class SceneVerdict:
    """One scene, with a reason for everything in it.

    Args:
        objects: The true objects, in their order.
        predictions: The predictions, in their order.
    """

    objects: tuple[ObjectVerdict, ...]
    predictions: tuple[PredictionVerdict, ...]


@dataclass(frozen=True)
class ReasonCounts:
    """How often each reason was given.

    Args:
        objects: Every object reason with its count; they add up to the objects.
        predictions: Every prediction reason with its count; they add up to the predictions.

    Raises:
        ValueError: If matched objects and matched predictions differ in number.
    """

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
) -> SceneVerdict:
    """Give every object and every prediction of one scene its reason.

    Matched pairs are ``right``, ``wrong name`` or ``unknown``. An object without a match is the first of these:

    - ``cut in parts``: two or more unmatched predictions lie in it, and the box around them reaches the bar, so
      that merging them would have found it;
    - ``swallowed``: a prediction holds it (0.8 of its box), or reaches the bar but was matched to another object;
    - ``missed``.

    A prediction without a match is the first of these: ``unnamed`` (called "unknown", so it claims nothing),
    ``duplicate`` (it reaches the bar with an object that has a better one), ``part`` (0.8 of it lies in an object),
    ``too large`` (it holds 0.8 of an object), ``background``.

    Args:
        predictions: What was predicted, inclusive pixels.
        truths: The true objects, inclusive pixels of the same picture.
        iou_match: Smallest inclusive IoU of a match, in [0, 1].
        matching: Whether labels help the matching.

    Returns:
        A verdict for each, in the order given.
    """
    pairs = match_boxes(predictions, truths, iou_match, matching)
    guesses, objects = [item.box for item in predictions], [item.box for item in truths]
    iou, shared = inclusive_iou_matrix(guesses, objects), shared_pixel_matrix(guesses, objects)
    reaches = iou >= iou_match
    within = shared >= INSIDE * box_pixels(guesses)[:, None]  # the prediction lies in the object
    holds = shared >= INSIDE * box_pixels(objects)[None]  # the prediction holds the object
    reasons = {guess: _match_reason(predictions[guess], truths[true]) for guess, true in pairs}
    answers = {true: guess for guess, true in pairs}
    judged: list[ObjectVerdict] = []
    for place, truth in enumerate(truths):
        if place in answers:
            guess = answers[place]
            judged.append(ObjectVerdict(truth, reasons[guess], predictions[guess], float(iou[guess, place])))
            continue
        parts = [guesses[index] for index in np.flatnonzero(within[:, place]) if index not in reasons]
        swallowed = bool((holds[:, place] | reaches[:, place]).any())
        judged.append(ObjectVerdict(truth, _unfound(truth.box, parts, iou_match, swallowed)))
    return SceneVerdict(
        tuple(judged),
        tuple(
            PredictionVerdict(
                item, reasons.get(row) or _unmatched(item, (reaches[row].any(), within[row].any(), holds[row].any()))
            )
            for row, item in enumerate(predictions)
        ),
    )


def count_reasons(scenes: Iterable[SceneVerdict]) -> ReasonCounts:
    """Count the reasons of several scenes.

    Args:
        scenes: Any number of them.

    Returns:
        Every reason with its count, also those that were never given.
    """
    seen = list(scenes)
    objects = Counter(item.reason for scene in seen for item in scene.objects)
    predictions = Counter(item.reason for scene in seen for item in scene.predictions)
    return ReasonCounts(
        {reason: objects[reason] for reason in OBJECT_REASONS},
        {reason: predictions[reason] for reason in PREDICTION_REASONS},
    )


def _match_reason(answer: LabelledBox, truth: LabelledBox) -> MatchReason:
    if answer.label == truth.label:
        return "right"
    return "unknown" if answer.label == UNKNOWN else "wrong name"


def _unfound(box: Box, parts: Sequence[Box], bar: float, swallowed: bool) -> ObjectReason:
    if len(parts) > 1 and inclusive_iou_matrix([common_box(parts)], [box])[0, 0] >= bar:
        return "cut in parts"
    return "swallowed" if swallowed else "missed"


def _unmatched(prediction: LabelledBox, overlaps: tuple[bool, bool, bool]) -> PredictionReason:
    """Judge by whether it reaches the bar with an object, lies in one, or holds one."""
    if prediction.label == UNKNOWN:
        return "unnamed"
    kinds: tuple[PredictionReason, ...] = ("duplicate", "part", "too large")
    return next((kind for kind, found in zip(kinds, overlaps, strict=True) if found), "background")
