"""Legs, shoes and what covers them."""

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.body import Build, draw_limb
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.outline import moved, outline
from naruto_vision.drawn.palette import CLOTH, SKIN, Rgb, darker, lighter
from naruto_vision.drawn.sketch import Frame, Sketch, inside, turn

_SHOE = "-0.26,-0.25 0.24,-0.25 0.42,0.1 0.4,0.3 -0.28,0.3"


def draw_legs(sketch: Sketch, attributes: Attributes, look: Look, build: Build, body: Frame) -> None:
    """Draw legs, shoes and what covers them.

    Args:
        sketch: What to draw on.
        attributes: Who it is.
        look: How.
        build: Its measures.
        body: The figure's frame.
    """
    sketch.part = "legs"
    skin, cloth = SKIN[attributes.skin], CLOTH[attributes.bottom_colour]
    shoe = darker(cloth, 0.35) if attributes.bottom == "none" else darker(CLOTH[attributes.accent], 0.3)
    for side, swing in zip((-1, 1), look.legs, strict=True):
        sketch.enter(inside(body, turn(side * build.hip * 0.5, build.crotch - 0.1, swing * 0.6, side)))
        draw_limb(sketch, sketch.ink(skin), build.leg, 0.3, 0.2)
        sketch.blob(sketch.ink(shoe), moved(outline(_SHOE), 0.0, build.leg))
        match attributes.bottom:
            case "pants":
                _draw_trouser(sketch, cloth, build.leg)
            case "shorts":
                _draw_short(sketch, cloth, build.leg)
            case "skirt" | "none":
                pass
    sketch.enter(body)
    match attributes.bottom:
        case "pants" | "shorts":
            _draw_seat(sketch, sketch.ink(cloth), build)
        case "skirt":
            _draw_skirt(sketch, cloth, build, look.sway * 0.12)
        case "none":
            pass


def _draw_trouser(sketch: Sketch, cloth: Rgb, leg: float) -> None:
    ink = sketch.ink(cloth)
    draw_limb(sketch, ink, leg * 0.84, 0.36, 0.29)
    sketch.stroke(sketch.ink(darker(cloth, 0.3), ink), [(-0.1, leg * 0.4), (0.2, leg * 0.45)], 0.07)


def _draw_short(sketch: Sketch, cloth: Rgb, leg: float) -> None:
    ink, top, end = sketch.ink(cloth), leg * 0.42, leg * 0.5
    draw_limb(sketch, ink, leg * 0.34, 0.36, 0.38)
    sketch.poly(sketch.ink(lighter(cloth, 0.35), ink), [(-0.5, top), (0.5, top), (0.5, end), (-0.5, end)], ink)


def _draw_seat(sketch: Sketch, ink: int, build: Build) -> None:
    hip = build.hip
    half = [(hip, -0.5), (hip + 0.05, 0.15), (0.2, 0.15)]
    sketch.mirrored(ink, moved(half, 0.0, build.crotch))


def _draw_skirt(sketch: Sketch, cloth: Rgb, build: Build, sway: float) -> None:
    length, reach, waist = 0.45 + 0.28 * build.leg, build.hip + 0.5, build.waist + 0.02
    y, hem = build.crotch, build.crotch + length
    ink = sketch.ink(cloth)
    top = [(-waist, y - 0.35), (-waist, y - 0.35), (waist, y - 0.35), (waist, y - 0.35)]
    wave = [(reach, -0.1), (reach, -0.1), (reach * 0.5, 0.06), (0.0, 0.08), (-reach * 0.5, 0.06), (-reach, -0.1)]
    sketch.blob(ink, [*top, *moved([*wave, wave[-1]], sway, hem)])
    fold = sketch.ink(darker(cloth, 0.3), ink)
    for k in (-2, -1, 0, 1, 2):
        sketch.stroke(fold, [(k * 0.2, y), (k * 0.36 + sway, hem)], 0.07, ink)
    band = moved([(-reach - 0.1, -0.12), (0.0, 0.0), (reach + 0.1, -0.12)], sway, hem)
    sketch.stroke(sketch.ink(lighter(cloth, 0.5), ink), band, 0.09, ink, taper=False)
