"""What is on a face: scars, paint, glasses. The frame is the head's."""

from collections.abc import Callable

from naruto_vision.drawn.attributes import Attributes, FaceMark
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.outline import moved, outline
from naruto_vision.drawn.palette import SKIN, Rgb, darker, mix
from naruto_vision.drawn.sketch import Sketch

_SIDES = (-1, 1)
_FRECKLES = "0.4,0.58 0.55,0.64 0.7,0.57 0.49,0.72 0.63,0.74 0.78,0.68"
_RING = "1,0 0.7,0.7 0,1 -0.7,0.7 -1,0 -0.7,-0.7 0,-1 0.7,-0.7 1,0"
_FRAME: Rgb = (46, 42, 52)


def _whiskers(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(darker(darker(skin, 0.3), 0.45), face)
    for side in _SIDES:
        for k in (-1, 0, 1):
            y = 0.56 + 0.14 * k
            sketch.stroke(ink, [(shift + side * 0.5, y), (shift + side * 0.88, y + 0.06 * k - 0.03)], 0.055)


def _scar(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(mix(skin, (150, 40, 50), 0.65), face)
    sketch.stroke(ink, moved(outline("-0.66,-0.28 -0.5,0.2 -0.4,0.72"), shift), 0.1)
    for k in (0.0, 0.45, 0.65):
        sketch.stroke(ink, [(shift - 0.68 + k * 0.2, k - 0.02), (shift - 0.4 + k * 0.2, k - 0.08)], 0.05)


def _freckles(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(mix(skin, (150, 72, 30), 0.6), face)
    for side in _SIDES:
        for x, y in outline(_FRECKLES, side):
            sketch.oval(ink, shift + x, y - 0.02, 0.04, 0.036)


def _diamond(sketch: Sketch, shift: float) -> None:
    sketch.blob(sketch.ink((222, 40, 70)), moved(outline("0,-0.56! 0.12,-0.36! 0,-0.16! -0.12,-0.36!"), shift))


def _stripes(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(mix(skin, (30, 60, 150), 0.72), face)
    for side in _SIDES:
        for y in (0.5, 0.68):
            sketch.blob(ink, moved(outline("0.42,0! 0.86,-0.06! 0.86,0.03! 0.42,0.09!", side), shift, y))


def _eyepatch(sketch: Sketch, shift: float) -> None:
    ink = sketch.ink(_FRAME)
    sketch.stroke(ink, [(-1.0, -0.5), (shift + 0.3, -0.05), (1.02, 0.3)], 0.1, taper=False)
    sketch.oval(ink, shift + 0.43, 0.22, 0.32, 0.33)


def _glasses(sketch: Sketch, shift: float) -> None:
    ink = sketch.ink(_FRAME)
    for side in _SIDES:
        x, ring = shift + side * 0.45, outline(_RING)
        outer = [(x + 0.39 * u, 0.24 + 0.37 * v) for u, v in ring]
        inner = [(x + 0.33 * u, 0.24 + 0.31 * v) for u, v in ring]
        sketch.blob(ink, [*outer, *reversed(inner)])
        sketch.stroke(ink, [(shift + side * 0.83, 0.2), (side * 1.0, 0.12)], 0.06, taper=False)
    sketch.stroke(ink, [(shift - 0.1, 0.2), (shift + 0.1, 0.2)], 0.07, taper=False)


_PAINTED: dict[FaceMark, Callable[[Sketch, Rgb, int, float], None]] = {
    "whiskers": _whiskers,
    "scar": _scar,
    "freckles": _freckles,
    "stripes": _stripes,
}
_WORN: dict[FaceMark, Callable[[Sketch, float], None]] = {
    "diamond": _diamond,
    "eyepatch": _eyepatch,
    "glasses": _glasses,
}


def draw_mark(sketch: Sketch, attributes: Attributes, look: Look, face: int) -> None:
    """Draw the face mark; call it after the hair, which would hide some of them.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
        look: How; the mark moves with the way the face looks.
        face: The ink of the skin.
    """
    mark, shift = attributes.face_mark, look.facing * 0.2
    sketch.part = "head"
    if mark in _PAINTED:
        _PAINTED[mark](sketch, SKIN[attributes.skin], face, shift)
    elif mark in _WORN:
        _WORN[mark](sketch, shift)
