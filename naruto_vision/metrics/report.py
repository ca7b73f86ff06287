"""An evaluation as JSON and as tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from naruto_vision.io.text import csv_text, printable
from naruto_vision.metrics.evaluation import Evaluation, bootstrap_intervals
from naruto_vision.metrics.scene import SceneReport
from naruto_vision.metrics.slices import find_slices
from naruto_vision.metrics.stats import Comparison, Interval, Rate
from naruto_vision.records import LabelledBox

TITLES = {
    "object_accuracy": "object accuracy",
    "recall": "detection recall",
    "reference_recall": "reference recall (scenes with predictions only)",
    "class_given_matched": "class given matched",
    "precision": "precision",
    "names_precision": "who is there: names given that are right",
    "names_recall": "who is there: names of a scene that are given",
}
"""Figure → its name in tables."""

_MEANINGS = {
    "right": "found, with its own name",
    "wrong name": "found, with another's name",
    "unknown": 'found, and called "unknown"',
    "cut in parts": "found only in parts whose common box matches it",
    "swallowed": "inside a region that is too large, or another's",
    "missed": "no region covers it",
    "duplicate": "a second region of an object with a better match",
    "part": "inside an object",
    "too large": "contains an object and much background",
    "background": "named, but matches no object",
    "unnamed": 'called "unknown" and matches no object: not counted',
}
_BOUNDS = {
    "perfect_boxes": "every name kept, boxes perfect",
    "perfect_merging": "parts merged",
    "perfect_names": "every box kept, names perfect",
}
_CUTS = {
    "mask_recall": "figures matched by a region",
    "only_pieces": "figures found only in pieces",
    "over_merged": "regions that merge figures",
}
_PAIRED = "exact McNemar test, object by object"
_DIFFERENCE = (
    "difference: the second's object accuracy minus the first's, over resampled scenes. It is not corrected for the "
    'number of pairs, so it may leave out 0 where the verdict is "not separable"; the verdict goes by p after Holm'
)
_UNPAIRED = "exact McNemar test at its least and largest p: totals do not say which objects each run has right"
_DIGITS = 6


def format_rate(rate: Rate, digits: int = 3) -> str:
    """Format a rate with its counts and its 95 % interval."""
    if not rate.interval:
        return f"{rate.count}/{rate.total}  -"
    low, high = rate.interval
    return f"{rate.count}/{rate.total}  {rate.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table_from_json(results: Mapping[str, Any], title: str = "Scenes") -> Table:
    """Make the table of a report's JSON, such as ``results.json``."""
    missing = results["scenes"] - results["scenes_with_predictions"]
    intervals = results.get("intervals") or None
    table = Table(
        "figure",
        "count/total  value [95 % interval]",
        title=title,
        caption=f"{results['scenes']} scenes, {missing} without predictions; IoU >= {results['iou_match']:g}: "
        + str(results["rule"]),
    )
    if intervals:
        table.add_column("95 % over scenes")
    figures = {name: (title, format_rate(_rate(results[name]))) for name, title in TITLES.items() if name in results}
    figures["f1"] = "F1", format_value(results.get("f1"))
    for name, cells in figures.items():
        table.add_row(*cells, *([format_interval(intervals.get(name))] if intervals else []))
    table.add_section()
    for label, record in results["per_class"].items():
        table.add_row(f"  {escape(printable(label, one_line=True))}", format_rate(_rate(record)))
    return table


def format_value(value: float | None) -> str:
    """Format a figure that has no counts."""
    return "-" if value is None else f"{value:.3f}"


def format_interval(interval: Mapping[str, float] | None) -> str:
    """Format a bootstrap interval."""
    return "" if interval is None else f"[{interval['low']:.3f}, {interval['high']:.3f}]"


def report_table(report: SceneReport, title: str = "Scenes") -> Table:
    """Make the table of a report."""
    return table_from_json(report.as_json(), title)


def _rate(record: Mapping[str, Any]) -> Rate:
    return Rate(int(record["count"]), int(record["total"]))


def evaluation_document(evaluation: Evaluation, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return all results as JSON values."""
    intervals = bootstrap_intervals(evaluation, replicates, seed) if replicates else {}
    return {
        **evaluation.report.as_json(),
        "quality": asdict(evaluation.quality),
        "reasons": asdict(evaluation.reasons),
        "bounds": evaluation.bounds.as_json(),
        "intervals": {name: asdict(interval) for name, interval in intervals.items()},
        "slices": [one.as_json() for one in find_slices(scene.verdict for scene in evaluation.scenes)],
    }


def weak_lines(results: Mapping[str, Any]) -> list[str]:
    """Name the parts of the objects of which fewer are right than of the others, by more than chance."""
    weak = [one for one in results["slices"] if one["weak"]]
    lines = [
        f"weak: {one['by']} {printable(one['name'], one_line=True)}: {format_rate(_rate(one['right']))} right, "
        f"all others {format_rate(_rate(one['rest']))}; p {one['p']:.4f}"
        for one in weak
    ]
    return [*lines, f"  Fisher's exact test after Holm over {len(results['slices'])} parts"] if weak else []


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
    known = differences or [None] * len(comparisons)
    return [
        {**asdict(item), "verdict": item.verdict, "difference": interval and asdict(interval)}
        for item, interval in zip(comparisons, known, strict=True)
    ]


def class_csv(results: Mapping[str, Any]) -> str:
    """Return the object accuracy of every class as CSV."""
    rows = [
        [label, record["count"], record["total"], f"{record['value']:.6f}"]
        for label, record in results["per_class"].items()
    ]
    return csv_text([["class", "correct", "total", "accuracy"], *rows])


def reasons_table(results: Mapping[str, Any]) -> Table:
    """Make the table of reasons of objects and predictions."""
    table = Table("reason", "count", "meaning", title="Objects and predictions by reason")
    table.columns[1].justify = "right"
    for kind, counts in results["reasons"].items():
        for reason, count in counts.items():
            table.add_row(f"  {reason}", str(count), _MEANINGS[reason])
        table.add_row(f"all {kind}", str(sum(counts.values())), "", style="bold", end_section=True)
    return table


def bounds_table(results: Mapping[str, Any]) -> Table:
    """Make the table of box quality and upper bounds."""
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
    for name, title in _BOUNDS.items():
        table.add_row(f"  {title}", format_rate(_rate(results["bounds"][name])))
    return table


def fragments_table(results: Mapping[str, Any]) -> Table:
    """Make the table of fragmented and merged figures."""
    counts = results["fragments"]
    table = Table("figure", "count/total  value [95 % interval]", title="How figures are cut (by masks)")
    for name, title in _CUTS.items():
        table.add_row(title, format_rate(_rate(counts[name])))
    pieces, cell = counts["fragments_per_object"], "-"
    if pieces is not None:
        cell = f"{pieces['count']}/{pieces['total']}  {pieces['value']:.3f} {format_interval(pieces)}"
    table.add_row("pieces per figure", cell)
    return table


def comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    """Make the table of whether runs differ significantly."""
    paired = all(item["pairing"] is not None for item in comparisons)
    table = Table("runs", "p", "p after Holm", "verdict at 0.05", title="Do the runs differ?")
    table.caption = _PAIRED if paired else _UNPAIRED
    if paired:
        table.add_column("right in one alone")
        table.add_column("difference, 95 % over scenes")
    for item in comparisons:
        cells = [escape(printable(f"{item['first']} : {item['second']}"))]
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
    """Explain the differences, and name the runs that lack scenes."""
    if any(item["difference"] is not None for item in comparisons):
        yield _DIFFERENCE
    for name, document in runs.items():
        lost = len(document["files"]["missing"]) + len(document["files"]["refused"])
        if lost:
            yield f"{name} lacks {lost} of {document['scenes']} scenes: every object of those counts against it above"


def _p_range(low: float, high: float) -> str:
    return f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"


def verdict_lines(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for every object, and for every prediction without one."""
    lines = []
    for scene in scenes:
        lines.append(str(scene["scene"]))
        for item in scene["objects"]:
            matched = "" if item["answer"] is None else f" as {item['answer']}, IoU {item['iou']:.3f}"
            lines.append(f"  object {item['label']} {item['bbox']}: {item['reason']}{matched}")
        lines += [
            f"  predicted {item['label']} {item['bbox']}: {item['reason']}"
            for item in scene["preds"]
            if item["reason"] not in {"right", "wrong name", "unknown"}
        ]
    return lines
