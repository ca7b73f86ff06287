"""Reports as tables for people. Printing them is the caller's business."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from naruto_vision.metrics.intervals import Rate
from naruto_vision.metrics.scene_counts import SceneReport

_TITLES = {
    "object_accuracy": "object accuracy",
    "honest_recall": "honest detection recall",
    "reference_recall": "reference recall (scenes with predictions only)",
    "class_given_matched": "class given matched",
    "precision": "precision",
}


def format_rate(rate: Rate) -> str:
    """Write a rate with its counts and its 95 % interval.

    Args:
        rate: Any rate.

    Returns:
        Such as ``45/62  0.726 [0.604, 0.821]``, or ``0/0  -`` where there is nothing to divide by.
    """
    if rate.value is None or rate.low is None or rate.high is None:
        return f"{rate.count}/{rate.total}  -"
    return f"{rate.count}/{rate.total}  {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def table_from_json(results: Mapping[str, Any], title: str = "Scenes") -> Table:
    """Lay out the JSON of a report, such as ``results.json``.

    Args:
        results: What ``SceneReport.as_json`` returns; other keys are passed over.
        title: What was measured.

    Returns:
        A table of two columns: the overall figures, then one row a class.
    """
    missing = results["scenes"] - results["scenes_with_predictions"]
    table = Table(
        "figure",
        "count/total  value [95 % interval]",
        title=title,
        caption=f"{results['scenes']} scenes, {missing} without predictions; boxes match at IoU >= "
        f"{results['iou_match']:g}, one-to-one, before labels are looked at",
    )
    for name, words in _TITLES.items():
        table.add_row(words, format_rate(_rate(results[name])))
    table.add_section()
    for label, record in results["per_class"].items():
        table.add_row(f"  {label}", format_rate(_rate(record)))
    return table


def report_table(report: SceneReport, title: str = "Scenes") -> Table:
    """Lay out a report.

    Args:
        report: The figures.
        title: What was measured.

    Returns:
        A table of two columns: the overall figures, then one row a class.
    """
    return table_from_json(report.as_json(), title)


def _rate(record: Mapping[str, Any]) -> Rate:
    return Rate(int(record["count"]), int(record["total"]))
