"""Hair: what lies behind the head, what falls over the brow, and what hangs at the sides, for each style."""

from naruto_vision.drawn.attributes import Attributes, HairStyle
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.outline import outline
from naruto_vision.drawn.palette import CLOTH, HAIR, darker, lighter
from naruto_vision.drawn.sketch import Sketch

_SIDES = (-1, 1)
_DOME = "-1.13,0.1 -1.2,-0.55 -0.8,-1.3 0,-1.42 0.8,-1.3 1.2,-0.55 1.13,0.1"
_BACK: dict[HairStyle, str] = {
    "short": "-0.75,0.85! -1.15,0.72! -1.05,0.5! -1.4,0.25! -1.15,0! -1.25,-0.6! 0,-1.3! "
    "1.25,-0.6! 1.15,0! 1.4,0.25! 1.05,0.5! 1.15,0.72! 0.75,0.85!",
    "bob": "0,-1.35 0.95,-1.25 1.35,-0.3 1.45,0.7 1.25,1.35 0.4,1.15 -0.4,1.15 -1.25,1.35 -1.45,0.7 -1.35,-0.3 "
    "-0.95,-1.25 0,-1.35",
    "long": "0,-1.35 0.95,-1.25 1.4,-0.2 1.45,1.6 1.5,3.3!~ 0.6,3.05~ -0.6,3.05~ -1.5,3.3!~ -1.45,1.6 -1.4,-0.2 "
    "-0.95,-1.25",
    "ponytail": "0.3,-1.2 0.9,-1.75 1.9,-1.5 2.2,-0.2~ 1.9,1~ 2.2,1.9!~ 1.4,1.2~ 1.35,0 0.9,-0.7",
    "spiky": "-1,0.6! -1.75,0.5! -1.25,0.05! -2,-0.35! -1.35,-0.6! -1.75,-1.35! -0.9,-1.2! -0.75,-2! -0.1,-1.4! "
    "0.35,-2.15! 0.7,-1.3! 1.5,-1.75! 1.3,-0.8! 2.05,-0.6! 1.3,-0.1! 1.8,0.4! 1,0.6!",
    "braid": "0,-1.3 0.9,-1.2 1.25,-0.3 1.15,0.4 0.7,0.7 0.2,0.75 -0.2,0.75 -0.7,0.7 -1.15,0.4 -1.25,-0.3 -0.9,-1.2 "
    "0,-1.3",
    "mohawk": "-0.4,-1 -0.75,-1.7 -0.7,-2.3! -0.2,-2 0,-2.6! 0.25,-2 0.75,-2.25! 0.7,-1.6 0.4,-1",
}
_PIGTAIL = "0.9,-0.75 1.4,-1.15 2.05,-0.6 2.15,0.7~ 1.85,1.9!~ 1.45,1~ 1.2,0.1"
_BACK_CURLS = "-1.25,0.55 1.25,0.55 -1.5,-0.1 1.5,-0.1 -1.4,-0.8 1.4,-0.8 -0.85,-1.4 0.85,-1.4 0,-1.6 0,-0.6"  # centres
_FRONT_CURLS = "-0.95,-0.55 0.95,-0.55 -0.5,-0.95 0.5,-0.95 0,-1.15 0,-0.75 -1.15,0.05 1.15,0.05"
_SWEPT = "1.06,0.35! 0.9,-0.4 0.4,-0.75 -0.1,-0.85! -0.6,-0.65 -0.9,-0.3 -1.06,0.35!"
_PARTED = "1.06,0.4! 0.85,-0.3 0.45,-0.25 0,-0.75! -0.45,-0.25 -0.85,-0.3 -1.06,0.4!"
_JAGGED = "1.08,0.42! 0.92,-0.35! 0.62,0! 0.42,-0.5! 0.12,0.05! -0.18,-0.5! -0.5,-0.05! -0.75,-0.4! -1.08,0.42!"
_BANGS: dict[HairStyle, str] = {
    "short": _JAGGED,
    "spiky": _JAGGED,
    "bob": "1,0.25 0.92,-0.15 0.86,-0.2 0.5,-0.2 0,-0.16 -0.5,-0.2 -0.86,-0.2 -0.92,-0.15 -1,0.25",
    "long": "1,0.3 0.85,-0.1! 0.62,-0.45! 0.3,-0.05! 0.05,-0.5! -0.3,-0.05! -0.62,-0.45! -0.85,-0.1! -1,0.3",
    "ponytail": _SWEPT,
    "bun": _SWEPT,
    "pigtails": _PARTED,
    "braid": _PARTED,
    "curly": "1.1,0.2 0.8,-0.25 0.5,-0.5 0.2,-0.2 -0.2,-0.5 -0.5,-0.2 -0.8,-0.5 -1.1,0.2",
    "mohawk": "1.05,-0.3 0.6,-0.78 0,-0.85 -0.6,-0.78 -1.05,-0.3",
}
"""The lower edge of the front hair, right to left."""
_CREST = "-0.32,-0.75 -0.45,-1.5 -0.35,-2! 0,-2.4! 0.35,-1.95! 0.45,-1.5 0.32,-0.75 0,-0.55!"
_TUFT = "-0.35,-1.2 -0.62,-1.6! -0.12,-1.42 0.2,-1.66! 0.25,-1.2"
_LOCKS: dict[HairStyle, str] = {
    "long": "0.92,-0.6 1.3,-0.4 1.36,0.9 1.15,2.1!~ 0.98,1",
    "bob": "0.88,-0.6 1.32,-0.5 1.42,0.7 1,1.32! 0.92,0.6",
}


def draw_back_hair(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Draw what lies behind the head; call it before the body.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
        look: How; loose hair sways.
    """
    sketch.part = "head"
    sway = look.sway * 0.25
    colour = HAIR[attributes.hair_colour]
    ink = sketch.ink(darker(colour, 0.16))
    match attributes.hair_style:
        case "pigtails":
            for side in _SIDES:
                sketch.blob(ink, outline(_PIGTAIL, side, sway))
        case "bun":
            sketch.oval(ink, 0.0, -1.55, 0.58, 0.52)
            sketch.stroke(sketch.ink(lighter(colour, 0.3), ink), outline("-0.3,-1.6 0,-1.85 0.3,-1.75"), 0.1)
        case "curly":
            for x, y in outline(_BACK_CURLS):
                sketch.oval(ink, x, y, 0.58, 0.56)
        case style:
            sketch.blob(ink, outline(_BACK[style], 1.0, sway))


def draw_front_hair(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Draw what falls over the brow and hangs at the sides; call it after the face.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
        look: How; loose hair sways.
    """
    sketch.part = "head"
    style, colour = attributes.hair_style, HAIR[attributes.hair_colour]
    ink = sketch.ink(darker(colour, 0.3) if style == "mohawk" else colour)
    shine = sketch.ink(lighter(colour, 0.45), ink)
    _draw_sides(sketch, attributes, look)
    shift = look.facing * 0.12
    sketch.blob(ink, [*outline(_DOME), *((x + shift * (1 - abs(x)), y) for x, y in outline(_BANGS[style]))])
    if style == "mohawk":
        sketch.blob(sketch.ink(colour), outline(_CREST))
        return
    if style == "curly":
        for x, y in outline(_FRONT_CURLS):
            sketch.oval(sketch.ink(colour), x, y, 0.4, 0.38)
    strand = sketch.ink(darker(colour, 0.28), ink)
    for x in (-0.6, 0.12, 0.66):
        sketch.stroke(strand, [(x * 0.82, -0.86), (x * 0.95, -0.66), (x, -0.4)], 0.045, ink)
    if style == "short":
        sketch.blob(sketch.ink(colour, ink), outline(_TUFT))
    sketch.stroke(shine, outline("-0.8,-0.82 -0.45,-1.02 -0.1,-1.05"), 0.14, ink)
    sketch.stroke(shine, outline("0.1,-1.05 0.35,-1.02 0.6,-0.92"), 0.1, ink)


def _draw_sides(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Locks, ties and braids, over the back hair and under the front hair."""
    colour, accent = HAIR[attributes.hair_colour], CLOTH[attributes.accent]
    ink = sketch.ink(colour)
    sway = look.sway * 0.2
    match attributes.hair_style:
        case "long" | "bob" as style:
            for side in _SIDES:
                sketch.blob(ink, outline(_LOCKS[style], side, sway))
        case "pigtails":
            tie = sketch.ink(accent)
            for side in _SIDES:
                sketch.oval(tie, side * 1.16, -0.72, 0.17, 0.2)
        case "ponytail":
            sketch.oval(sketch.ink(accent), 0.85, -1.12, 0.24, 0.2)
        case "braid":
            for k in range(5):
                x = 1.0 + sway * k * 0.4 + (0.07 if k % 2 else -0.07)
                sketch.oval(sketch.ink(colour), x, 0.65 + 0.42 * k, 0.3 - 0.02 * k, 0.3)
            sketch.oval(sketch.ink(accent), 1.0 + sway * 2, 2.62, 0.2, 0.14)
        case _:
            pass
