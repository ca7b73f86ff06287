"""What ``evaluate`` prints: tables, what the folders lacked, and every box if asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from naruto_vision.metrics.evaluation_tables import (
    bounds_table,
    comparison_remarks,
    comparison_table,
    fragments_table,
    reasons_table,
    verdict_lines,
)
from naruto_vision.metrics.report import table_from_json

_SHOWN = 5  # names of scenes in one line


def print_evaluation(
    runs: Mapping[str, Mapping[str, Any]], compared: Sequence[Mapping[str, Any]], scenes: Sequence[Mapping[str, Any]]
) -> None:
    """Print the tables of every run, and how they compare.

    Args:
        runs: Run to what ``evaluation_document`` returns, with its ``files``.
        compared: What ``comparison_documents`` returns.
        scenes: What ``verdict_documents`` returns, or nothing.
    """
    console = Console()
    for name, document in runs.items():
        console.print(table_from_json(document, escape(name)))
        console.print(reasons_table(document))
        console.print(bounds_table(document))
        if "fragments" in document:
            console.print(fragments_table(document))
        for line in remarks(document["files"]):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if compared:
        console.print(comparison_table(compared))
        for line in comparison_remarks(compared, runs):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in verdict_lines(scenes):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def remarks(files: Mapping[str, Any]) -> list[str]:
    """Name the scenes without predictions, the files without a scene, and the files that were set aside.

    Args:
        files: ``missing``, ``unknown`` and ``refused`` of a run.

    Returns:
        Plain text lines, none where all is well.
    """
    lines = []
    for names, words, fate in (
        (files["missing"], "scenes without a file", "counted as scenes without predictions"),
        (files["unknown"], "files of no scene of the ground truth", "passed over"),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"{words}: {len(names)} ({fate}): {', '.join(names[:_SHOWN])}{more}")
    refused = files["refused"]
    if refused:
        lines.append(
            f"{len(refused)} of {files['seen']} files cannot be read; their scenes count as without predictions:"
        )
    return lines + [f"  {row['path']}: {row['reason']}" for row in refused]
