"""Outlines as short texts: ``"0.9,-0.75 2.15,0.7~ 1.85,1.9!~"``.

Each word is a control point. ``!`` makes it a sharp corner; ``~`` lets it move with the sway of hair and cloth.
"""

from collections.abc import Iterable
from functools import cache

from naruto_vision.drawn.sketch import Point


@cache
def _parse(text: str) -> tuple[tuple[float, float, float], ...]:
    points: list[tuple[float, float, float]] = []
    for word in text.split():
        x, y = (float(number) for number in word.rstrip("!~").split(","))
        points += [(x, y, 1.0 if "~" in word else 0.0)] * (2 if "!" in word else 1)
    return tuple(points)


def outline(text: str, side: float = 1.0, sway: float = 0.0) -> list[Point]:
    """Read an outline.

    Args:
        text: Its points.
        side: 1, or -1 for its mirror image about x = 0.
        sway: How far its ``~`` points move to the right.

    Returns:
        A control polygon for ``Sketch.blob``.
    """
    return [(side * x + sway * moves, y) for x, y, moves in _parse(text)]


def moved(points: Iterable[Point], x: float, y: float = 0.0) -> list[Point]:
    """Move points.

    Args:
        points: The points.
        x: How far to the right.
        y: How far down.
    """
    return [(u + x, v + y) for u, v in points]


def box(x: float, y: float, wide: float, tall: float) -> list[Point]:
    """Return the corners of a box, for ``Sketch.poly``.

    Args:
        x: Left edge.
        y: Upper edge.
        wide: Width.
        tall: Height.
    """
    return [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)]
