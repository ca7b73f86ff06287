"""What a character holds in the hand, and has at neck or back."""

from collections.abc import Callable

from naruto_vision.drawn.attributes import Attributes, Held
from naruto_vision.drawn.body import NECK, Build
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.outline import outline
from naruto_vision.drawn.palette import CLOTH, GOLD, HAIR, INK, STEEL, WHITE, WOOD, Rgb, darker, lighter
from naruto_vision.drawn.sketch import Sketch

_WING = "0.2,0.1 1,-1 2.2,-1.5! 2.3,-0.4 2.05,-0.3 2.05,0.3 1.7,0.3 1.6,0.8 1.1,0.6 0.6,0.7"
_BLADE = "-0.13,-0.3! -0.13,-2.2! 0,-2.6! 0.13,-2.2! 0.13,-0.3!"
_BALLOON = "0,-1.55 0.12,-1.75 0.72,-2.2 0.72,-2.9 0.3,-3.25 -0.3,-3.25 -0.72,-2.9 -0.72,-2.2 -0.12,-1.75"
_CLOTH = "0.05,-2.45! 0.6,-2.65 1.1,-2.3 1.6,-2.45! 1.6,-1.55! 1.1,-1.4 0.6,-1.75 0.05,-1.55!"
_SCREEN = "-1.35,-1.5! -1.1,-2.3 0,-2.75 1.1,-2.3 1.35,-1.5! 0.9,-1.7 0.45,-1.5! 0,-1.72 -0.45,-1.5! -0.9,-1.7"


def draw_back_extra(sketch: Sketch, attributes: Attributes, look: Look, build: Build) -> None:
    """Draw capes, wings and tails; call it first in the figure's frame.

    Args:
        sketch: What to draw on, in the figure's frame.
        attributes: Who it is.
        look: How; cloth sways.
        build: Its measures.
    """
    sketch.part = "torso"
    accent, sway, end = CLOTH[attributes.accent], look.sway * 0.4, build.crotch
    match attributes.extra:
        case "cape":
            _draw_cape(sketch, sketch.ink(accent), build, sway)
        case "wings":
            feather = sketch.ink(lighter(accent, 0.55))
            for side in (-1, 1):
                sketch.blob(feather, [(x, NECK + 0.6 + y) for x, y in outline(_WING, side)])
        case "tail":
            tail = [(0.2, end - 0.2), (1.0, end + 0.5), (1.75 + sway, end), (1.6 + sway, end - 0.9)]
            sketch.stroke(sketch.ink(HAIR[attributes.hair_colour]), [*tail, (2.1 + sway, end - 1.5)], 0.46)
        case "scarf" | "none":
            pass


def _draw_cape(sketch: Sketch, ink: int, build: Build, sway: float) -> None:
    hem, shoulder = build.crotch + build.leg * 0.72, build.shoulder + 0.35
    top = [(-0.6, NECK - 0.1), (0.6, NECK - 0.1), (shoulder, NECK + 0.3)]
    right, left = (1.5 + sway, hem), (sway - 1.5, hem)
    wave = [(0.7 + sway, hem - 0.2), (sway, hem + 0.1), (sway - 0.7, hem - 0.2)]
    sketch.blob(ink, [*top, right, right, *wave, left, left, (-shoulder, NECK + 0.3)])


def draw_scarf(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Draw a scarf or a cape's clasp, if there is one; call it after the torso.

    Args:
        sketch: What to draw on, in the figure's frame.
        attributes: Who it is.
        look: How; its end sways.
    """
    sketch.part = "torso"
    if attributes.extra == "scarf":
        accent, sway = CLOTH[attributes.accent], look.sway * 0.5
        right, left = (0.85 + sway, NECK + 1.35), (0.4 + sway, NECK + 1.45)
        sketch.blob(sketch.ink(darker(accent, 0.12)), [(0.2, NECK), (0.6, NECK), right, right, left, left])
        low = [(0.72, NECK + 0.12), (0.0, NECK + 0.36), (-0.72, NECK + 0.12)]
        sketch.blob(sketch.ink(accent), [(-0.62, 0.88), (0.0, 0.98), (0.62, 0.88), *low])
    if attributes.extra == "cape":
        sketch.oval(sketch.ink(GOLD), 0.0, NECK + 0.22, 0.14, 0.14)


def _slab(sketch: Sketch, ink: int, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    sketch.poly(ink, [(left, top), (right, top), (right, bottom), (left, bottom)])


def _sword(sketch: Sketch, accent: Rgb) -> None:
    blade = sketch.ink(STEEL)
    sketch.blob(blade, outline(_BLADE))
    sketch.poly(sketch.ink(WHITE, blade), [(-0.03, -0.3), (-0.03, -2.2), (0.03, -2.2), (0.03, -0.3)])
    _slab(sketch, sketch.ink(GOLD), (-0.42, -0.36, 0.42, -0.2))
    _slab(sketch, sketch.ink(accent), (-0.1, -0.2, 0.1, 0.4))


def _staff(sketch: Sketch, accent: Rgb) -> None:
    _slab(sketch, sketch.ink(WOOD), (-0.08, -2.1, 0.08, 1.6))
    orb = sketch.ink(accent)
    sketch.oval(orb, 0.0, -2.3, 0.36, 0.36)
    sketch.oval(sketch.ink(lighter(accent, 0.6), orb), -0.1, -2.4, 0.13, 0.12)


def _book(sketch: Sketch, accent: Rgb) -> None:
    cover = sketch.ink(accent)
    _slab(sketch, cover, (-0.55, -0.75, 0.55, 0.5))
    _slab(sketch, sketch.ink(WHITE, cover), (-0.36, -0.5, 0.36, -0.22))
    _slab(sketch, sketch.ink(darker(accent, 0.3), cover), (-0.55, -0.75, -0.44, 0.5))


def _balloon(sketch: Sketch, accent: Rgb) -> None:
    sketch.stroke(sketch.ink(INK), outline("0,0.1 0.1,-0.9 0,-1.7"), 0.05, taper=False)
    balloon = sketch.ink(accent)
    sketch.blob(balloon, outline(_BALLOON))
    sketch.oval(sketch.ink(lighter(accent, 0.6), balloon), -0.25, -2.75, 0.12, 0.2)


def _ball(sketch: Sketch, accent: Rgb) -> None:
    ball = sketch.ink(accent)
    sketch.oval(ball, 0.0, 0.25, 0.55, 0.55)
    sketch.stroke(sketch.ink(WHITE, ball), outline("-0.5,0.1 0,0.32 0.5,0.1"), 0.16, ball, taper=False)


def _flag(sketch: Sketch, accent: Rgb) -> None:
    _slab(sketch, sketch.ink(WOOD), (-0.08, -2.5, 0.08, 1.0))
    flag = sketch.ink(accent)
    sketch.blob(flag, outline(_CLOTH))
    sketch.oval(sketch.ink(WHITE, flag), 0.78, -2.03, 0.25, 0.25)


def _umbrella(sketch: Sketch, accent: Rgb) -> None:
    _slab(sketch, sketch.ink(STEEL), (-0.08, -1.9, 0.08, 0.4))
    screen = sketch.ink(accent)
    sketch.blob(screen, outline(_SCREEN))
    sketch.stroke(sketch.ink(lighter(accent, 0.4), screen), outline("-0.45,-1.55 -0.3,-2.3 0,-2.6"), 0.09, screen)


_HELD: dict[Held, Callable[[Sketch, Rgb], None]] = {
    "sword": _sword,
    "staff": _staff,
    "book": _book,
    "balloon": _balloon,
    "ball": _ball,
    "flag": _flag,
    "umbrella": _umbrella,
}


def draw_held(sketch: Sketch, attributes: Attributes) -> None:
    """Draw the held thing; the hand is drawn over it.

    Args:
        sketch: What to draw on, in the upright frame of the hand.
        attributes: Who it is.
    """
    sketch.part = "held"
    if attributes.held != "none":
        _HELD[attributes.held](sketch, CLOTH[attributes.accent])
