"""An evaluation's tables for people. Printing them is the caller's business."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from naruto_vision.metrics.intervals import Rate
from naruto_vision.metrics.report import format_interval, format_rate, format_value

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
    """Lay out why objects were found or not, and what predictions were.

    Args:
        results: What ``evaluation_document`` returns.

    Returns:
        A table of three columns; both parts add up to what they are of.
    """
    table = Table("reason", "count", "meaning", title="One reason for everything")
    table.columns[1].justify = "right"
    for kind, words in (("objects", "objects"), ("predictions", "predictions")):
        counts = results["reasons"][kind]
        for reason, count in counts.items():
            table.add_row(f"  {reason}", str(count), _MEANINGS[reason])
        table.add_row(f"all {words}", str(sum(counts.values())), "", style="bold", end_section=True)
    return table


def bounds_table(results: Mapping[str, Any]) -> Table:
    """Lay out the quality of the boxes and what perfection of one part would give.

    Args:
        results: What ``evaluation_document`` returns; ``average_precision`` adds rows.

    Returns:
        A table of two columns.
    """
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
    """Lay out how the segmenter cut the figures.

    Args:
        results: What ``evaluation_document`` returns, with ``fragments``: the JSON of ``FragmentCounts``.

    Returns:
        A table of two columns.
    """
    counts = results["fragments"]
    table = Table("figure", "count/total  value [95 % interval]", title="How figures are cut (by masks)")
    for name, words in _CUTS.items():
        table.add_row(words, format_rate(Rate(counts[name]["count"], counts[name]["total"])))
    pieces = counts["fragments_per_object"]
    words = "-" if pieces is None else f"{pieces['count']}/{pieces['total']}  {pieces['value']:.3f} "
    table.add_row("pieces beside each figure", words + ("" if pieces is None else format_interval(pieces)))
    return table


def comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out whether runs can be told apart.

    Args:
        comparisons: What ``comparison_documents`` returns.

    Returns:
        A table with one row for every two runs.
    """
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
    """Say how the differences are to be read, and which runs lack scenes.

    Args:
        comparisons: What ``comparison_documents`` returns.
        runs: Run to what ``evaluation_document`` returns, with its ``files``.

    Yields:
        Plain text lines.
    """
    if any(item["difference"] is not None for item in comparisons):
        yield _DIFFERENCE
    for name, document in runs.items():
        lost = len(document["files"]["missing"]) + len(document["files"]["refused"])
        if lost:
            yield f"{name} lacks {lost} of {document['scenes']} scenes: every object of those counts against it above"


def _p_range(low: float, high: float) -> str:
    return f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"


def verdict_lines(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write every object, and every prediction that is nobody's, on a line of its own.

    Args:
        scenes: What ``verdict_documents`` returns.

    Returns:
        Plain text lines, scene by scene.
    """
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
