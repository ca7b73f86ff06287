"""COCO's average precision of named boxes, by COCO's own code."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from naruto_vision.records import Box, LabelledBox

_FIGURES = ("AP", "AP50", "AP75")


def coco_average_precision(
    truth: Mapping[str, Sequence[LabelledBox]], predictions: Mapping[str, Sequence[LabelledBox]]
) -> dict[str, float | None]:
    """Compute AP over all labels, as COCO does for boxes.

    Average precision ranks all predictions by score, so it tells whether the scores are worth anything; the other
    figures look at names only. A label that no object has, such as "unknown", is left out, and a prediction without a
    score ranks last. COCO looks at the 100 best of a scene and label.

    Args:
        truth: Scene to its objects, inclusive pixels.
        predictions: Scene to what was predicted; scenes without ground truth are passed over.

    Returns:
        ``AP`` (mean over IoU 0.50 to 0.95), ``AP50`` and ``AP75``, each in [0, 1], or None without objects.
    """
    numbers = {scene: number for number, scene in enumerate(truth, start=1)}
    labels = {item.label for items in truth.values() for item in items}
    classes = {label: number for number, label in enumerate(sorted(labels), start=1)}
    annotations = [
        {"image_id": numbers[scene], "category_id": classes[item.label], "bbox": _xywh(item.box)}
        for scene, items in truth.items()
        for item in items
    ]
    results = [
        {
            "image_id": numbers[scene],
            "category_id": classes[item.label],
            "bbox": _xywh(item.box),
            "score": float("-inf") if item.score is None else item.score,
        }
        for scene in truth
        for item in predictions.get(scene, ())
        if item.label in classes
    ]
    return average_precision(list(numbers.values()), list(classes.values()), annotations, results)


def average_precision(
    images: Sequence[int],
    categories: Sequence[int],
    annotations: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> dict[str, float | None]:
    """Compute AP of records in COCO's own form."""
    if not annotations:
        return dict.fromkeys(_FIGURES)
    if not results:
        return dict.fromkeys(_FIGURES, 0.0)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth, answers = COCO(), COCO()
        for coco, records in ((truth, annotations), (answers, results)):
            coco.dataset = {
                "images": [{"id": number} for number in images],
                "categories": [{"id": number} for number in categories],
                "annotations": [_record(record, number) for number, record in enumerate(records, start=1)],
            }
            coco.createIndex()
        evaluator = COCOeval(truth, answers, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = (float(value) for value in evaluator.stats[:3])
    return {name: None if value < 0 else value for name, value in zip(_FIGURES, values, strict=True)}


def _record(record: Mapping[str, Any], number: int) -> dict[str, Any]:
    width, height = record["bbox"][2:]
    return {"area": width * height, "iscrowd": 0, **record, "id": number}


def _xywh(box: Box) -> list[int]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
