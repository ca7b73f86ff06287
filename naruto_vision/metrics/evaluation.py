"""Everything that is measured of a set of scenes: rates, reasons, quality of boxes, and what perfection would give."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from naruto_vision.metrics.boxes import box_pixels, shared_pixel_matrix
from naruto_vision.metrics.intervals import Rate
from naruto_vision.metrics.matching import Matching, match_matrix
from naruto_vision.metrics.reasons import ReasonCounts, SceneVerdict, count_reasons, judge_scene
from naruto_vision.metrics.scene_counts import SceneCounts, SceneReport, add_counts, count_scene, scene_report
from naruto_vision.records import LabelledBox

_ON_OBJECT = 0.5  # half of the smaller box: the region is chiefly of this object, or the object chiefly of this region


@dataclass(frozen=True)
class SceneOutcome:
    """What one scene came to.

    Args:
        scene: Its path relative to the pictures' folder.
        counts: What the rates are made of.
        verdict: A reason for every object and every prediction.
        right_with_perfect_boxes: Objects that would be right if only boxes were at fault.
    """

    scene: str
    counts: SceneCounts
    verdict: SceneVerdict
    right_with_perfect_boxes: int

    @property
    def right_iou(self) -> float:
        """The IoUs of the right objects, added up."""
        return sum(item.iou for item in self.verdict.objects if item.reason == "right")


@dataclass(frozen=True)
class Bounds:
    """Object accuracy if one part of the work were perfect: which part is worth mending.

    Args:
        perfect_boxes: Oracle masks. Every prediction keeps its label; its box becomes that of an object that it is
            on (they share half of the smaller box, or reach the bar), one-to-one, with as many right labels as can be.
        perfect_names: Oracle names. Every matched object gets its own label: the same as honest recall.
        perfect_merging: Every object that was cut in parts is put together, and every matched one keeps its answer;
            those put together are taken as right.
    """

    perfect_boxes: Rate
    perfect_names: Rate
    perfect_merging: Rate

    def as_json(self) -> dict[str, Any]:
        """Return each bound as ``{value, count, total, low, high}``."""
        return {
            "perfect_boxes": self.perfect_boxes.as_json(),
            "perfect_names": self.perfect_names.as_json(),
            "perfect_merging": self.perfect_merging.as_json(),
        }


@dataclass(frozen=True)
class Quality:
    """How tightly the right objects were boxed, together with how many there are.

    Args:
        segmentation_quality: Mean IoU of the right objects, in [0, 1]; None where none is right.
        panoptic_quality: Sum of those IoUs over ``right + wrong claims / 2 + objects not right / 2``, which is
            ``segmentation_quality`` times F1, all classes together. None where there is neither object nor claim.
            (Kirillov et al., CVPR 2019, here of boxes and with this report's matching)
        panoptic_by_class: The same for each label alone, then their mean, as the paper has it; None likewise.
    """

    segmentation_quality: float | None
    panoptic_quality: float | None
    panoptic_by_class: float | None


@dataclass(frozen=True)
class Evaluation:
    """A set of scenes, judged.

    Args:
        scenes: One outcome a scene of the ground truth, in its order.
        iou_match: Smallest inclusive IoU of a match.
        matching: Whether labels helped the matching.
    """

    scenes: tuple[SceneOutcome, ...]
    iou_match: float = 0.5
    matching: Matching = "box"

    @property
    def report(self) -> SceneReport:
        """The rates with their counts."""
        return scene_report(add_counts(scene.counts for scene in self.scenes), self.iou_match, self.matching)

    @property
    def reasons(self) -> ReasonCounts:
        """How often each reason was given."""
        return count_reasons(scene.verdict for scene in self.scenes)

    @property
    def bounds(self) -> Bounds:
        """Object accuracy if one part of the work were perfect."""
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
        """Return, for each scene and each of its objects, whether it is right: what two runs are compared by."""
        return [[item.reason == "right" for item in scene.verdict.objects] for scene in self.scenes]


def evaluate_scenes(
    truth: Mapping[str, Sequence[LabelledBox]],
    predictions: Mapping[str, Sequence[LabelledBox]],
    iou_match: float = 0.5,
    matching: Matching = "box",
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Hold predictions against the ground truth.

    Args:
        truth: Scene to its objects, inclusive pixels.
        predictions: Scene to what was predicted; a scene that is not in it counts as one without predictions, and
            scenes without ground truth are passed over.
        iou_match: Smallest inclusive IoU of a match, in [0, 1].
        matching: Whether labels help the matching.
        advance: Called after each scene, for a progress bar.

    Returns:
        Every scene's outcome.

    Raises:
        ValueError: If the bar is outside [0, 1].

    Example:
        >>> ayame = LabelledBox((0, 0, 9, 9), "ayame", 0.9)
        >>> evaluate_scenes({"a.png": [ayame], "b.png": [ayame]}, {"a.png": [ayame]}).report.object_accuracy.value
        0.5
    """
    if not 0.0 <= iou_match <= 1.0:
        msg = f"evaluate_scenes: expected iou_match in [0, 1], found {iou_match}"
        raise ValueError(msg)
    outcomes = []
    for scene, objects in truth.items():
        found = predictions.get(scene, ())
        outcomes.append(
            SceneOutcome(
                scene,
                count_scene(found, objects, iou_match, matching),
                judge_scene(found, objects, iou_match, matching),
                _right_with_perfect_boxes(found, objects, iou_match),
            )
        )
        advance()
    return Evaluation(tuple(outcomes), iou_match, matching)


def _right_with_perfect_boxes(
    predictions: Sequence[LabelledBox], truths: Sequence[LabelledBox], iou_match: float
) -> int:
    """Pair as many objects as can be with predictions of their label that are on them."""
    guesses, objects = [item.box for item in predictions], [item.box for item in truths]
    smaller = np.minimum(box_pixels(guesses)[:, None], box_pixels(objects)[None])
    on_object = shared_pixel_matrix(guesses, objects) / smaller  # never below the IoU
    named = np.array([[guess.label == true.label for true in truths] for guess in predictions], dtype=np.float64)
    allowed = named.reshape(on_object.shape) * (on_object >= min(_ON_OBJECT, iou_match))
    return len(match_matrix(allowed, 1.0))


def _class_qualities(scenes: Sequence[SceneOutcome]) -> dict[str, float]:
    """Return the panoptic quality of every label that occurs or is claimed."""
    overlap: defaultdict[str, float] = defaultdict(float)
    members: Counter[str] = Counter()
    for scene in scenes:
        for item in scene.verdict.objects:
            members[item.truth.label] += 1
            overlap[item.truth.label] += item.iou if item.reason == "right" else 0.0
        for guess in scene.verdict.predictions:
            members[guess.prediction.label] += guess.reason not in {"unknown", "unnamed"}
    return {label: 2 * overlap[label] / count for label, count in members.items() if count}
