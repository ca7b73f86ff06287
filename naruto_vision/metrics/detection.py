"""Metrics of class-agnostic boxes: recall, boxes per object, average precision, and a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import inclusive_iou_matrix
from naruto_vision.metrics.scene import MATCH
from naruto_vision.records import Box

Detections: TypeAlias = tuple[Sequence[Box], NDArray[np.float32], Sequence[Box]]
"""Boxes of one image in inclusive pixels, their scores (N,) in [0, 1], and the objects."""


@dataclass(frozen=True)
class DetectionCurve:
    """Detections of all images by falling score: score (N,), and how many objects are found down to each (N,)."""

    scores: NDArray[np.float64]
    found: NDArray[np.int64]
    objects: int

    def recall(self, threshold: float) -> float:
        """Return the fraction of objects found by boxes of at least this score."""
        count = self.count(threshold)
        return float(self.found[count - 1]) / max(1, self.objects) if count else 0.0

    def count(self, threshold: float) -> int:
        """Return the number of boxes of at least this score."""
        return int((self.scores >= threshold).sum())

    def average_precision(self) -> float:
        """Return the area under the precision envelope over recall (all points, as in PASCAL VOC 2010)."""
        precision = self.found / np.arange(1, len(self.found) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((envelope * np.diff(self.found, prepend=0)).sum() / max(1, self.objects))

    def best_threshold(self, beta: float = 3.0) -> float:
        """Return the score with the highest F-beta.

        3 weighs a missed object nine times as much as a needless box, which the gallery can still call unknown.
        """
        if not len(self.scores):
            return 0.5
        weight = beta * beta
        f_beta = (1 + weight) * self.found / (np.arange(1, len(self.found) + 1) + weight * self.objects)
        last = np.append(self.scores[1:] < self.scores[:-1], True)  # a threshold takes all boxes of equal score
        return float(self.scores[int(np.argmax(np.where(last, f_beta, -1.0)))])


def detection_curve(images: Sequence[Detections]) -> DetectionCurve:
    """Match boxes to objects one-to-one by an IoU of 0.5 or more, in each image by falling score."""
    scores, hits, objects = [], [], 0
    for boxes, confidence, truth in images:
        objects += len(truth)
        overlap = inclusive_iou_matrix(boxes, truth)
        for row in np.argsort(-confidence, kind="stable"):
            best = int(overlap[row].argmax()) if len(truth) else -1
            hit = best >= 0 and overlap[row, best] >= MATCH
            scores.append(float(confidence[row]))
            hits.append(hit)
            if hit:
                overlap[:, best] = -1.0
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ranked = np.asarray(hits, dtype=np.int64)[order] if len(order) else np.zeros(0, np.int64)
    return DetectionCurve(np.asarray(scores, dtype=np.float64)[order], ranked.cumsum(), objects)
