"""What a character wears on the head. The frame is the head's."""

from collections.abc import Callable

from naruto_vision.drawn.attributes import Attributes, HeadWear
from naruto_vision.drawn.outline import outline
from naruto_vision.drawn.palette import CLOTH, GOLD, HAIR, STEEL, WHITE, Rgb, darker, lighter
from naruto_vision.drawn.sketch import Sketch

_BAND = "-1.2,-0.62 -0.6,-0.78 0.6,-0.78 1.2,-0.62! 1.18,-0.28! 0.6,-0.42 -0.6,-0.42 -1.18,-0.28! -1.2,-0.62"
_DOME = "-1.22,-0.5! -1.15,-1.2 -0.5,-1.62 0.5,-1.62 1.15,-1.2 1.22,-0.5! 0,-0.72"
_PEAK = "-1,-0.62! 0,-0.8 1,-0.62! 1.15,-0.3 0,-0.48 -1.15,-0.3"
_HORN = "0.4,-1.2 0.85,-1 1.3,-1.35 1.25,-2! 0.95,-1.5"
_CROWN = "-0.72,-1.1! 0.72,-1.1! 0.86,-1.85! 0.42,-1.5! 0,-2! -0.42,-1.5! -0.86,-1.85!"
_CONE = "-0.85,-0.95! -0.5,-1.7 0.1,-2.6 0.5,-2.55 0.5,-2 0.85,-0.95!"
_PETALS = "0,-0.25 0.24,-0.08 0.15,0.2 -0.15,0.2 -0.24,-0.08"
_SIDES = (-1, 1)
_IVORY: Rgb = (236, 222, 190)


def _headband(sketch: Sketch, accent: Rgb) -> None:
    sketch.blob(sketch.ink(accent), outline(_BAND))
    knot = sketch.ink(darker(accent, 0.18))
    for end in (0.0, 0.34):
        sketch.poly(knot, [(1.06, -0.52), (1.26, -0.5), (1.56 + end, 0.38), (1.32 + end, 0.5)])
    sketch.oval(knot, 1.16, -0.48, 0.15, 0.17)
    gem = sketch.ink(STEEL)
    sketch.oval(gem, 0.0, -0.58, 0.2, 0.2)
    sketch.oval(sketch.ink(WHITE, gem), -0.06, -0.64, 0.07, 0.06)


def _cap(sketch: Sketch, accent: Rgb) -> None:
    dome = sketch.ink(accent)
    sketch.blob(dome, outline(_DOME))
    sketch.oval(sketch.ink(WHITE, dome), 0.0, -1.12, 0.26, 0.24)
    sketch.blob(sketch.ink(darker(accent, 0.25)), outline(_PEAK))


def _bow(sketch: Sketch, accent: Rgb) -> None:
    bow, x = sketch.ink(accent), -0.55
    for side in _SIDES:
        wing = ((0.0, -1.3), (0.3, -1.65), (0.72, -1.72), (0.72, -0.98), (0.3, -1.02))
        sketch.blob(bow, [(x + side * u, v) for u, v in wing])
    sketch.oval(sketch.ink(darker(accent, 0.2)), x, -1.33, 0.15, 0.17)


def _horns(sketch: Sketch, ivory: Rgb) -> None:
    horn = sketch.ink(ivory)
    for side in _SIDES:
        sketch.blob(horn, outline(_HORN, side))


def _crown(sketch: Sketch, accent: Rgb) -> None:
    sketch.blob(sketch.ink(GOLD), outline(_CROWN))
    sketch.oval(sketch.ink(accent), 0.0, -1.32, 0.13, 0.13)


def _flower(sketch: Sketch, accent: Rgb) -> None:
    petal = sketch.ink(lighter(accent, 0.25))
    for u, v in outline(_PETALS):
        sketch.oval(petal, 0.82 + u, -0.85 + v, 0.2, 0.2)
    sketch.oval(sketch.ink(GOLD), 0.82, -0.85, 0.14, 0.14)


def _hat(sketch: Sketch, accent: Rgb) -> None:
    sketch.blob(sketch.ink(accent), outline(_CONE))
    sketch.oval(sketch.ink(accent), 0.0, -0.92, 1.65, 0.26)
    sketch.poly(sketch.ink(lighter(accent, 0.55)), [(-0.82, -1.2), (0.8, -1.2), (0.86, -0.98), (-0.86, -0.98)])


def _ears(sketch: Sketch, hair: Rgb) -> None:
    outer, inner = sketch.ink(hair), sketch.ink((244, 170, 180))
    for side in _SIDES:
        sketch.poly(outer, [(side * 0.3, -1.25), (side * 1.12, -0.85), (side * 1.12, -1.9)])
        sketch.poly(inner, [(side * 0.55, -1.25), (side * 0.98, -1.02), (side * 0.98, -1.6)])


_DRAW: dict[HeadWear, Callable[[Sketch, Rgb], None]] = {
    "headband": _headband,
    "cap": _cap,
    "bow": _bow,
    "horns": _horns,
    "ears": _ears,
    "crown": _crown,
    "flower": _flower,
    "hat": _hat,
}


def draw_head_wear(sketch: Sketch, attributes: Attributes) -> None:
    """Draw what is on the head; call it last in the head's frame.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
    """
    sketch.part = "head"
    if attributes.head_wear != "none":
        own = {"ears": HAIR[attributes.hair_colour], "horns": _IVORY}  # everything else is worn
        _DRAW[attributes.head_wear](sketch, own.get(attributes.head_wear, CLOTH[attributes.accent]))
