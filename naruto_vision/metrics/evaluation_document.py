"""An evaluation as JSON: for programs, and what the tables for people are laid out from."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from naruto_vision.metrics.comparison import Comparison
from naruto_vision.metrics.evaluation import Evaluation
from naruto_vision.metrics.resampling import Interval, bootstrap_intervals
from naruto_vision.records import LabelledBox

_DIGITS = 6


def evaluation_document(evaluation: Evaluation, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return everything that was measured.

    Args:
        evaluation: The scenes.
        replicates: How many sets of scenes are drawn for ``intervals``; 0 leaves them out.
        seed: Decides them.

    Returns:
        JSON values: the keys of ``results.json``, and ``quality``, ``reasons``, ``bounds`` and ``intervals``.
    """
    intervals = bootstrap_intervals(evaluation, replicates, seed) if replicates else {}
    return {
        **evaluation.report.as_json(),
        "quality": asdict(evaluation.quality),
        "reasons": asdict(evaluation.reasons),
        "bounds": evaluation.bounds.as_json(),
        "intervals": {name: asdict(interval) for name, interval in intervals.items()},
    }


def verdict_documents(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return every object and every prediction with its reason.

    Args:
        evaluation: The scenes.

    Returns:
        One JSON value a scene: ``{scene, objects: [{bbox, label, reason, answer, iou}], preds: [{bbox, label,
        score, reason}]}``; answer and iou are null where nothing was matched.
    """
    return [
        {
            "scene": scene.scene,
            "objects": [
                {
                    **_box(item.truth),
                    "reason": item.reason,
                    "answer": None if item.answer is None else item.answer.label,
                    "iou": None if item.answer is None else round(item.iou, _DIGITS),
                }
                for item in scene.verdict.objects
            ],
            "preds": [
                {**_box(item.prediction), "score": item.prediction.score, "reason": item.reason}
                for item in scene.verdict.predictions
            ],
        }
        for scene in evaluation.scenes
    ]


def _box(item: LabelledBox) -> dict[str, Any]:
    return {"bbox": list(item.box), "label": item.label}


def comparison_documents(
    comparisons: Sequence[Comparison], differences: Sequence[Interval | None] = ()
) -> list[dict[str, Any]]:
    """Return comparisons as JSON values.

    Args:
        comparisons: Any number of them.
        differences: Of each, the interval of the second's object accuracy minus the first's; none at all where
            only totals are known.

    Returns:
        One value each: names, p-values before and after correction, verdict, pairing and difference.
    """
    known = list(differences) or [None] * len(comparisons)
    return [
        {
            **asdict(item),
            "verdict": item.verdict,
            "difference": None if interval is None else asdict(interval),
        }
        for item, interval in zip(comparisons, known, strict=True)
    ]


def class_csv(results: Mapping[str, Any]) -> str:
    """Write the object accuracy of every class as CSV.

    Args:
        results: What ``evaluation_document`` returns.

    Returns:
        Header ``class,correct,total,accuracy`` and one line a class, sorted; accuracy has six decimals.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "correct", "total", "accuracy"])
    for label, record in results["per_class"].items():
        writer.writerow([label, record["count"], record["total"], f"{record['value']:.6f}"])
    return text.getvalue()
