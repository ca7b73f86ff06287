"""The text report of one analysed image: its regions in order, each with its prompt, its box and its description."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from naruto_vision.geometry import Box
from naruto_vision.io.text import printable

REPORT = "_analysis_report.txt"
"""Ending of the report's file name, behind the stem of the image."""

_RULE = "=" * 70
_NOTHING = "No significant objects or regions were identified for analysis."
_SILENT = "(no description)"


class ReportItem(NamedTuple):
    """One region of a report; ``source`` is what chose its prompt ("contour", "grid")."""

    box: Box
    source: str = ""
    point: tuple[float, float] | None = None
    description: str = ""


def analysis_report(scene: str, models: Sequence[str], items: Sequence[ReportItem], remarks: Sequence[str] = ()) -> str:
    """Write the report: title, models, a rule, then the numbered items, or a line that says that there are none.

    ``models`` are lines that say what segmented and described the image; item N is called DN in images; ``remarks`` are
    further lines at the end, such as relations between regions.
    """
    return "".join(f"{printable(line)}\n" for line in _lines(scene, models, items, remarks))


def _lines(scene: str, models: Sequence[str], items: Sequence[ReportItem], remarks: Sequence[str]) -> Iterator[str]:
    yield f"Deep Analysis Report for Image: {scene}"
    yield from models
    yield _RULE
    yield ""
    if not items:
        yield _NOTHING
    for number, item in enumerate(items, start=1):
        source = f" (Source: {item.source})" if item.source else ""
        yield f"--- Item {number}{source} ---"
        if item.point is not None:
            yield f"  Point of Interest: ({item.point[0]:g}, {item.point[1]:g})"
        yield f"  Bounding Box (x1,y1,x2,y2): {list(item.box)}"
        yield "  Description:"
        yield from (f"    {line}" for line in item.description.splitlines() or [_SILENT])
        yield ""
    yield from remarks
