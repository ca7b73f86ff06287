"""What a scene with ground truth says about the scores: which were right, and which named nobody enrolled."""

from collections.abc import Sequence
from dataclasses import dataclass

from naruto_vision.gallery.thresholds import Thresholds, calibrate_thresholds
from naruto_vision.geometry import area_xyxy, inclusive_iou_matrix, shared_pixels
from naruto_vision.records import LabelledBox, ScenePrediction

_INSIDE = 0.8  # a region with this share of its box inside a figure's box is a part of that figure


@dataclass(frozen=True)
class ScoredRegion:
    """One region's score and whether naming it would have been right.

    Args:
        label: The best gallery label.
        score: Its cosine similarity.
        right: True where the region is an enrolled figure under its own label; False where it is an unknown,
            background, or an enrolled figure under another's label.
    """

    label: str
    score: float
    right: bool


def score_regions(
    prediction: ScenePrediction, truth: Sequence[LabelledBox], iou_match: float = 0.5
) -> list[ScoredRegion]:
    """Judge every region of one scene; parts of a figure that carry the figure's own label say nothing.

    Args:
        prediction: What was found.
        truth: The enrolled figures of the scene, inclusive boxes of the same frame.
        iou_match: Box IoU from which a region is the figure.
    """
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
    """Choose the thresholds from the judged regions of all validation scenes, whatever their order."""
    ordered = sorted(scored, key=lambda record: (record.label, record.score, record.right))
    return calibrate_thresholds(
        [record.score for record in ordered],
        [record.right for record in ordered],
        [record.label for record in ordered],
        decision=decision,
    )
