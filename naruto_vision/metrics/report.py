"""Reports as tables for people. Printing them is the caller's business."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from naruto_vision.metrics.intervals import Rate
from naruto_vision.metrics.scene_counts import SceneReport

TITLES = {
    "object_accuracy": "object accuracy",
    "honest_recall": "honest detection recall",
    "reference_recall": "reference recall (scenes with predictions only)",
    "class_given_matched": "class given matched",
    "precision": "precision",
}
"""What people call the figures of a report."""


def format_rate(rate: Rate, digits: int = 3) -> str:
    """Write a rate with its counts and its 95 % interval.

    Args:
        rate: Any rate.
        digits: Decimals.

    Returns:
        Such as ``45/62  0.726 [0.604, 0.821]``, or ``0/0  -`` where there is nothing to divide by.
    """
    if rate.value is None or rate.low is None or rate.high is None:
        return f"{rate.count}/{rate.total}  -"
    return f"{rate.count}/{rate.total}  {rate.value:.{digits}f} [{rate.low:.{digits}f}, {rate.high:.{digits}f}]"


def table_from_json(results: Mapping[str, Any], title: str = "Scenes") -> Table:
    """Lay out the JSON of a report, such as ``results.json``.

    Args:
        results: What ``SceneReport.as_json`` returns; ``intervals`` adds a column, other keys are passed over.
        title: What was measured.

    Returns:
        A table of the overall figures, then one row a class; its second column has counts and intervals.
    """
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
    """Write a figure that has no counts.

    Args:
        value: Any number, or None.

    Returns:
        Three decimals, or ``-``.
    """
    return "-" if value is None else f"{value:.3f}"


def format_interval(interval: Mapping[str, float] | None) -> str:
    """Write an interval of resampled scenes.

    Args:
        interval: With ``low`` and ``high``, or None.

    Returns:
        Such as ``[0.604, 0.821]``, or nothing.
    """
    return "" if interval is None else f"[{interval['low']:.3f}, {interval['high']:.3f}]"


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
