"""A sketch: closed outlines with inks, collected back to front before rasterising.

Every outline is the control polygon of a closed quadratic B-spline; a point given twice is a sharp corner.
Coordinates are in head units: the head of a figure is about 2 wide, y points down.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal, TypeAlias

from naruto_vision.synthetic.palette import Rgb

Point: TypeAlias = tuple[float, float]
Frame: TypeAlias = tuple[float, float, float, float, float, float]
"""``(a, b, x, c, d, y)``: a point (u, v) goes to (a u + b v + x, c u + d v + y)."""

Part: TypeAlias = Literal["none", "head", "torso", "arms", "legs", "held"]
PARTS: tuple[Part, ...] = ("none", "head", "torso", "arms", "legs", "held")
"""Names of the parts; a part's index is its value in a part map."""

SIDES = (-1, 1)
IDENTITY: Frame = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
MAX_INKS = 126
_OCTAGON = [tuple(round(f(k * math.pi / 4) * 1.07, 6) for f in (math.cos, math.sin)) for k in range(8)]


def turn(x: float, y: float, degrees: float = 0.0, side: float = 1.0) -> Frame:
    """Make a frame at a point, whose downward axis swings outwards; side -1 is its mirror image."""
    angle = math.radians(degrees)
    cosine, sine = round(math.cos(angle), 6), round(math.sin(angle), 6)
    return (side * cosine, side * sine, x, -sine, cosine, y)


def inside(outer: Frame, inner: Frame) -> Frame:
    """Compose an inner frame with an outer one."""
    a, b, x, c, d, y = outer
    e, f, u, g, h, v = inner
    return (a * e + b * g, a * f + b * h, a * u + b * v + x, c * e + d * g, c * f + d * h, c * u + d * v + y)


def at(frame: Frame, x: float, y: float) -> Point:
    """Map a point of a frame to the outer frame."""
    return (frame[0] * x + frame[1] * y + frame[2], frame[3] * x + frame[4] * y + frame[5])


class Sketch:
    """Outlines and inks of one drawing, back to front.

    Examples:
        >>> sketch = Sketch()
        >>> sketch.oval(sketch.ink((255, 0, 0)), 0.0, 0.0, 1.0, 1.0)
        >>> len(sketch.shapes)
        1
    """

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.shapes: list[tuple[int, int, int, int]] = []  # length, ink, clip, frame
        self.frames: list[Frame] = [IDENTITY]
        self.colours: list[Rgb] = []
        self.parts: list[int] = []
        self.groups: list[int] = []
        self.part: Part = "none"

    def ink(self, colour: Rgb, like: int = 0) -> int:
        """Add an ink and return its number, from 1; no line is drawn between it and the older ink ``like``."""
        number = len(self.colours) + 1
        self.colours.append(colour)
        self.parts.append(PARTS.index(self.part))
        self.groups.append(self.groups[like - 1] if like else number)
        return number

    def enter(self, frame: Frame) -> None:
        """Set the current frame."""
        self.frames.append(frame)

    def blob(self, ink: int, points: Iterable[Point], clip: int = 0) -> None:
        """Add a smooth closed outline, drawn only over the ink ``clip`` where one is given."""
        before = len(self.points)
        self.points.extend(points)
        self.shapes.append((len(self.points) - before, ink, clip, len(self.frames) - 1))

    def poly(self, ink: int, points: Iterable[Point], clip: int = 0) -> None:
        """Add a closed outline with straight sides."""
        self.blob(ink, [point for point in points for _ in range(2)], clip)

    def oval(self, ink: int, x: float, y: float, across: float, down: float, clip: int = 0) -> None:
        """Add an ellipse."""
        self.blob(ink, [(x + across * u, y + down * v) for u, v in _OCTAGON], clip)

    def mirrored(self, ink: int, half: Sequence[Point]) -> None:
        """Add a smooth outline that is its own mirror image about x = 0."""
        self.blob(ink, [*half, *((-x, y) for x, y in reversed(half))])

    def stroke(self, ink: int, points: Sequence[Point], width: float, clip: int = 0, *, taper: bool = True) -> None:
        """Add an open brush stroke, thin at both ends where it tapers."""
        last = len(points) - 1
        left: list[Point] = []
        right: list[Point] = []
        for k, (x, y) in enumerate(points):
            (px, py), (qx, qy) = points[max(k - 1, 0)], points[min(k + 1, last)]
            dx, dy = qx - px, qy - py
            reach = width * (0.15 if taper and k in (0, last) else 0.5) / max(math.sqrt(dx * dx + dy * dy), 1e-6)
            left.append((x - dy * reach, y + dx * reach))
            right.append((x + dy * reach, y - dx * reach))
        self.blob(ink, [left[0], *left, left[-1], right[-1], *reversed(right), right[0]], clip)


# Outlines are texts such as "0.9,-0.75 2.15,0.7~ 1.85,1.9!~". A word is a control point; ``!`` makes it a sharp corner,
# ``~`` lets it move with the sway of hair and cloth.


@cache
def _parse(text: str) -> tuple[tuple[float, float, float], ...]:
    points: list[tuple[float, float, float]] = []
    for word in text.split():
        x, y = (float(number) for number in word.rstrip("!~").split(","))
        points += [(x, y, 1.0 if "~" in word else 0.0)] * (2 if "!" in word else 1)
    return tuple(points)


def outline(text: str, side: float = 1.0, sway: float = 0.0) -> list[Point]:
    """Read an outline: its mirror image for side -1, its ``~`` points moved to the right by ``sway``."""
    return [(side * x + sway * moves, y) for x, y, moves in _parse(text)]


def moved(points: Iterable[Point], x: float, y: float = 0.0) -> list[Point]:
    """Move points."""
    return [(u + x, v + y) for u, v in points]


def box(x: float, y: float, wide: float, tall: float) -> list[Point]:
    """Return the corners of a box, for ``Sketch.poly``."""
    return [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)]
