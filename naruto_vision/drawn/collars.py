"""Collars and hoods. The frame is the figure's."""

from collections.abc import Callable

from naruto_vision.drawn.attributes import Attributes, Top
from naruto_vision.drawn.body import NECK
from naruto_vision.drawn.outline import moved, outline
from naruto_vision.drawn.palette import CLOTH, WHITE, darker, lighter
from naruto_vision.drawn.sketch import Sketch

_SIDES = (-1, 1)


def _rolled(sketch: Sketch, attributes: Attributes) -> None:
    ink = sketch.ink(darker(CLOTH[attributes.top_colour], 0.12))
    sketch.blob(ink, [(-0.34, 0.92), (0.34, 0.92), (0.38, NECK + 0.12), (0.0, NECK + 0.24), (-0.38, NECK + 0.12)])


def _hood(sketch: Sketch, attributes: Attributes) -> None:
    hood = sketch.ink(darker(CLOTH[attributes.top_colour], 0.15))
    for side in _SIDES:
        cloth = outline("0.12,0.3 0.3,-0.15 0.75,-0.2 0.7,0.15 0.3,0.42", side)
        sketch.blob(hood, moved(cloth, 0.0, NECK))
        string = outline("0.2,0.3 0.22,0.8", side)
        sketch.stroke(sketch.ink(WHITE, hood), moved(string, 0.0, NECK), 0.06, taper=False)


def _crossed(sketch: Sketch, attributes: Attributes) -> None:
    for side in _SIDES:
        band = moved(outline("0.34,-0.12 0.05,0.4 -0.2,0.8", side), 0.0, NECK)
        sketch.stroke(sketch.ink(CLOTH[attributes.accent]), band, 0.16, taper=False)


def _pointed(sketch: Sketch, attributes: Attributes) -> None:
    ink = sketch.ink(WHITE if attributes.top == "vest" else lighter(CLOTH[attributes.top_colour], 0.3))
    for side in _SIDES:
        sketch.blob(ink, moved(outline("0.02,0.22! 0.24,-0.14! 0.44,0.02! 0.26,0.3!", side), 0.0, NECK))


def _round(sketch: Sketch, attributes: Attributes) -> None:
    neckline = moved(outline("-0.3,-0.02 0,0.2 0.3,-0.02"), 0.0, NECK)
    sketch.stroke(sketch.ink(CLOTH[attributes.accent]), neckline, 0.14, taper=False)


_DRAW: dict[Top, Callable[[Sketch, Attributes], None]] = {
    "shirt": _pointed,
    "jacket": _pointed,
    "vest": _pointed,
    "hoodie": _hood,
    "sweater": _rolled,
    "armor": _round,
    "dress": _round,
    "robe": _crossed,
}


def draw_collar(sketch: Sketch, attributes: Attributes) -> None:
    """Draw the collar of the top; call it after the neck.

    Args:
        sketch: What to draw on, in the figure's frame.
        attributes: Who it is.
    """
    _DRAW[attributes.top](sketch, attributes)
