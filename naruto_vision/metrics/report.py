"""An evaluation as JSON and as tables. Printing them is the caller's business."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from naruto_vision.metrics.bootstrap import Interval, bootstrap_intervals
from naruto_vision.metrics.evaluation import Evaluation
from naruto_vision.metrics.scene import SceneReport
from naruto_vision.metrics.stats import Comparison, Rate
from naruto_vision.records import LabelledBox

TITLES = {
    "object_accuracy": "object accuracy",
    "honest_recall": "detection recall",
    "reference_recall": "reference recall (scenes with predictions only)",
    "class_given_matched": "class given matched",
    "precision": "precision",
}
"""What people call the figures of a report."""


def format_rate(rate: Rate, digits: int = 3) -> str:
    """Write a rate with its counts and its 95 % interval."""
    if not rate.interval:
        return f"{rate.count}/{rate.total}  -"
    low, high = rate.interval
    return f"{rate.count}/{rate.total}  {rate.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table_from_json(results: Mapping[str, Any], title: str = "Scenes") -> Table:
    """Lay out the JSON of a report, such as ``results.json``."""
    missing = results["scenes"] - results["scenes_with_predictions"]
    intervals = results.get("intervals", {})
    table = Table(
        "figure",
        "count/total  value [95 % interval]",
        title=title,
        caption=f"{results['scenes']} scenes, {missing} without predictions; IoU >= {results['iou_match']:g}: "
        + str(results["rule"]),
    )
    if intervals:
        table.add_column("95 % over scenes")
    for name, words in TITLES.items():
        table.add_row(words, format_rate(_rate(results[name])), *_over_scenes(intervals, name))
    table.add_row("F1", format_value(results.get("f1")), *_over_scenes(intervals, "f1"))
    table.add_section()
    for label, record in results["per_class"].items():
        table.add_row(f"  {escape(label)}", format_rate(_rate(record)))
    return table


def _over_scenes(intervals: Mapping[str, Any], name: str) -> list[str]:
    """Return the cell of the third column, where there is one."""
    return [format_interval(intervals.get(name))] if intervals else []


def format_value(value: float | None) -> str:
    """Write a figure that has no counts."""
    return "-" if value is None else f"{value:.3f}"


def format_interval(interval: Mapping[str, float] | None) -> str:
    """Write an interval of resampled scenes."""
    return "" if interval is None else f"[{interval['low']:.3f}, {interval['high']:.3f}]"


def report_table(report: SceneReport, title: str = "Scenes") -> Table:
    """Lay out a report."""
    return table_from_json(report.as_json(), title)


def _rate(record: Mapping[str, Any]) -> Rate:
    return Rate(int(record["count"]), int(record["total"]))


_DIGITS = 6


def evaluation_document(evaluation: Evaluation, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return everything that was measured."""
    intervals = bootstrap_intervals(evaluation, replicates, seed) if replicates else {}
    return {
        **evaluation.report.as_json(),
        "quality": asdict(evaluation.quality),
        "reasons": asdict(evaluation.reasons),
        "bounds": evaluation.bounds.as_json(),
        "intervals": {name: asdict(interval) for name, interval in intervals.items()},
    }


def verdict_documents(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return every object and every prediction with its reason."""
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
    """Return comparisons as JSON values."""
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
    """Write the object accuracy of every class as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "correct", "total", "accuracy"])
    for label, record in results["per_class"].items():
        writer.writerow([label, record["count"], record["total"], f"{record['value']:.6f}"])
    return text.getvalue()


_MEANINGS = {
    "right": "found, with its own name",
    "wrong name": "found, with another's name",
    "unknown": 'found, and called "unknown"',
    "cut in parts": "found only in parts that would make it whole",
    "swallowed": "inside a region that is too large, or another's",
    "missed": "no region is it or holds it",
    "duplicate": "a second region of an object that has a better one",
    "part": "lies in an object",
    "too large": "holds an object and much else",
    "background": "named, but on nobody",
    "unnamed": 'called "unknown" and on nobody\'s box: claims nothing',
}
_BOUNDS = {
    "perfect_boxes": "every name kept, boxes perfect",
    "perfect_merging": "parts put together",
    "perfect_names": "every box kept, names perfect",
}
_CUTS = {
    "mask_recall": "figures that a region is",
    "only_pieces": "figures of which there are only pieces",
    "over_merged": "regions that run figures together",
}

_PAIRED = "exact McNemar test, object by object"
_DIFFERENCE = (
    "difference: the second's object accuracy minus the first's, over resampled scenes. It is not corrected for the "
    'number of pairs, so it may leave out 0 where the verdict is "not separable"; the verdict goes by p after Holm'
)
_UNPAIRED = "exact McNemar test at its least and largest p: totals do not tell which objects each run has right"


def reasons_table(results: Mapping[str, Any]) -> Table:
    """Lay out why objects were found or not, and what predictions were."""
    table = Table("reason", "count", "meaning", title="One reason for everything")
    table.columns[1].justify = "right"
    for kind, words in (("objects", "objects"), ("predictions", "predictions")):
        counts = results["reasons"][kind]
        for reason, count in counts.items():
            table.add_row(f"  {reason}", str(count), _MEANINGS[reason])
        table.add_row(f"all {words}", str(sum(counts.values())), "", style="bold", end_section=True)
    return table


def bounds_table(results: Mapping[str, Any]) -> Table:
    """Lay out the quality of the boxes and what perfection of one part would give."""
    table = Table("figure", "value", title="Boxes, and what would help")
    quality = results["quality"]
    panoptic = format_interval(results["intervals"].get("panoptic_quality"))
    table.add_row("mean IoU of the right objects", format_value(quality["segmentation_quality"]))
    table.add_row("panoptic quality of boxes", f"{format_value(quality['panoptic_quality'])} {panoptic}".strip())
    table.add_row("  mean over classes", format_value(quality["panoptic_by_class"]))
    for name, value in results.get("average_precision", {}).items():
        table.add_row(f"COCO {name}", format_value(value))
    table.add_section()
    table.add_row("object accuracy if", "")
    for name, words in _BOUNDS.items():
        record = results["bounds"][name]
        table.add_row(f"  {words}", format_rate(Rate(record["count"], record["total"])))
    return table


def fragments_table(results: Mapping[str, Any]) -> Table:
    """Lay out how the segmenter cut the figures."""
    counts = results["fragments"]
    table = Table("figure", "count/total  value [95 % interval]", title="How figures are cut (by masks)")
    for name, words in _CUTS.items():
        table.add_row(words, format_rate(Rate(counts[name]["count"], counts[name]["total"])))
    pieces = counts["fragments_per_object"]
    words = "-" if pieces is None else f"{pieces['count']}/{pieces['total']}  {pieces['value']:.3f} "
    table.add_row("pieces beside each figure", words + ("" if pieces is None else format_interval(pieces)))
    return table


def comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out whether runs can be told apart."""
    paired = all(item["pairing"] is not None for item in comparisons)
    table = Table("runs", "p", "p after Holm", "verdict at 0.05", title="Can they be told apart?")
    table.caption = _PAIRED if paired else _UNPAIRED
    if paired:
        table.add_column("right in one alone")
        table.add_column("difference, 95 % over scenes")
    for item in comparisons:
        cells = [escape(f"{item['first']} : {item['second']}")]
        cells += [_p_range(item[f"{kind}_low"], item[f"{kind}_high"]) for kind in ("p", "adjusted")]
        cells.append(item["verdict"])
        if paired:
            cells.append(f"{item['pairing']['only_first']} : {item['pairing']['only_second']}")
            cells.append(format_interval(item["difference"]))
        table.add_row(*cells)
    return table


def comparison_remarks(
    comparisons: Sequence[Mapping[str, Any]], runs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Say how the differences are to be read, and which runs lack scenes."""
    if any(item["difference"] is not None for item in comparisons):
        yield _DIFFERENCE
    for name, document in runs.items():
        lost = len(document["files"]["missing"]) + len(document["files"]["refused"])
        if lost:
            yield f"{name} lacks {lost} of {document['scenes']} scenes: every object of those counts against it above"


def _p_range(low: float, high: float) -> str:
    return f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"


def verdict_lines(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write every object, and every prediction that is nobody's, on a line of its own."""
    lines = []
    for scene in scenes:
        lines.append(str(scene["scene"]))
        for item in scene["objects"]:
            answer = "" if item["answer"] is None else f" as {item['answer']}, IoU {item['iou']:.3f}"
            lines.append(f"  object {item['label']} {item['bbox']}: {item['reason']}{answer}")
        lines += [
            f"  predicted {item['label']} {item['bbox']}: {item['reason']}"
            for item in scene["preds"]
            if item["reason"] not in {"right", "wrong name", "unknown"}
        ]
    return lines
