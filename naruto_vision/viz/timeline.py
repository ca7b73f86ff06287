"""A timeline of a video: who is on screen when, one row per name."""

import math
from collections.abc import Mapping, Sequence

from naruto_vision.io.text import time_code
from naruto_vision.records import UNKNOWN, ImageArray
from naruto_vision.viz.overlay import UNLISTED, Colour
from naruto_vision.viz.sheets import GAP, HEAD, RADIUS, ContactSheet

Spans = Sequence[tuple[float, float]]
"""First and last second of each stretch of time."""

_ROW, _NAMES, _AXIS, _TOTALS = 34, 150, 780, 130  # sheet pixels
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def draw_timeline(
    title: str,
    rows: Mapping[str, Spans],
    totals: Mapping[str, float],
    duration: float,
    cuts: Sequence[float],
    colours: Mapping[str, Colour],
) -> ImageArray:
    """Draw who is on screen when.

    Args:
        title: The heading.
        rows: Name to the stretches of time, in seconds; names are drawn in this order.
        totals: Name to the seconds on screen, which stand at the end of the row.
        duration: Seconds of the video.
        cuts: Seconds of the cuts, which are thin lines.
        colours: Colour of each name.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
    width, height = _NAMES + _AXIS + _TOTALS + 2 * GAP, HEAD + _ROW * (max(len(rows), 1) + 1) + GAP
    sheet = ContactSheet(width, height, title, "light")
    left, scale = GAP + _NAMES, _AXIS / max(duration, 1e-6)
    bottom = HEAD + _ROW * max(len(rows), 1)
    if not rows:
        sheet.write(GAP, HEAD + _ROW // 2, "none", 14, sheet.colours.dim)
    for number, (name, spans) in enumerate(rows.items()):
        y = HEAD + _ROW * number
        sheet.write(GAP, y + _ROW // 2, name, 14, sheet.colours.ink, bold=name != UNKNOWN, room=_NAMES - GAP)
        sheet.card(left, y + 6, _AXIS, _ROW - 12, sheet.colours.track, radius=RADIUS // 3)
        for start, end in spans:
            x, wide = left + round(start * scale), max(2, round((end - start) * scale))
            sheet.card(x, y + 6, wide, _ROW - 12, colours.get(name, UNLISTED), radius=RADIUS // 3)
        share = f"{totals.get(name, 0.0):.1f} s  {totals.get(name, 0.0) / max(duration, 1e-6):.0%}"
        sheet.write(left + _AXIS + 12, y + _ROW // 2, share, 13, sheet.colours.dim)
    for cut in cuts:
        sheet.card(left + round(cut * scale), HEAD, 1, bottom - HEAD, sheet.colours.dim, radius=0)
    step = next((step for step in _STEPS if duration / step <= 10), 3600 * math.ceil(duration / 36_000))
    for tick in range(0, int(duration) + 1, step):
        sheet.write(
            left + round(tick * scale), bottom + _ROW // 2, time_code(tick).removesuffix(".000"), 12, sheet.colours.dim
        )
    return sheet.finished()
