"""Detections against objects, checked against pycocotools and by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from naruto_vision.metrics.detection import detection_curve


def _random_images(seed: int) -> list[tuple]:
    rng, images = np.random.default_rng(seed), []
    for _ in range(6):
        truth = [
            tuple(int(v) for v in (x, y, x + w, y + h)) for x, y, w, h in rng.integers(5, 60, (rng.integers(0, 5), 4))
        ]
        boxes = [tuple(int(v + d) for v, d in zip(one, rng.integers(-3, 4, 4), strict=True)) for one in truth * 2]
        boxes += [(3, 3, 20, 20)]
        images.append((boxes, rng.permutation(len(boxes)).astype(np.float32) / 50, truth))
    return images


def test_one_object_is_matched_by_one_box() -> None:
    curve = detection_curve([([(0, 0, 9, 9), (0, 0, 9, 8)], np.array([0.4, 0.9], np.float32), [(0, 0, 9, 9)])])
    assert curve.recall(0.5) == 1.0
    assert curve.count(0.0) == 2
    assert curve.found.tolist() == [1, 1]
    assert curve.average_precision() == 1.0


def test_an_image_without_objects_counts_its_boxes() -> None:
    curve = detection_curve([([(0, 0, 9, 9)], np.array([0.4], np.float32), [])])
    assert (curve.objects, curve.count(0.1), curve.average_precision()) == (0, 1, 0.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_average_precision_is_near_cocos(seed: int) -> None:
    images = _random_images(seed)
    metric = MeanAveragePrecision(iou_thresholds=[0.5])
    for boxes, scores, truth in images:
        edges = [
            torch.tensor([[*b[:2], b[2] + 1, b[3] + 1] for b in some], dtype=torch.float32).view(-1, 4)
            for some in (boxes, truth)
        ]
        metric.update(
            [
                {
                    "boxes": edges[0],
                    "scores": torch.from_numpy(scores),
                    "labels": torch.zeros(len(boxes), dtype=torch.int64),
                }
            ],
            [{"boxes": edges[1], "labels": torch.zeros(len(truth), dtype=torch.int64)}],
        )
    # COCO takes the precision at 101 recalls, and matches a second box of an object with another object
    assert detection_curve(images).average_precision() == pytest.approx(float(metric.compute()["map"]), abs=0.03)


def test_the_threshold_keeps_what_finds_objects() -> None:
    boxes = [(0, 0, 9, 9), (20, 20, 29, 29), (40, 40, 49, 49), (60, 60, 69, 69)]
    curve = detection_curve([(boxes, np.array([0.9, 0.8, 0.3, 0.2], np.float32), boxes[:2])])
    assert curve.best_threshold() == pytest.approx(0.8)
    assert curve.recall(curve.best_threshold()) == 1.0
