"""Tops: the torso, what it wears and what is printed on it. The frame is the figure's."""

import math

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.body import NECK, Build
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.palette import CLOTH, SKIN, WHITE, darker, lighter
from naruto_vision.drawn.sketch import Point, Sketch


def _trunk(build: Build, grow: float = 0.0) -> list[Point]:
    shoulder, waist, hip, end = build.shoulder + grow, build.waist + grow, build.hip + grow, build.crotch
    return [
        (0.24, NECK - 0.08),
        (shoulder, NECK),
        (shoulder + 0.04, NECK + 0.3),
        (waist, NECK + build.torso * 0.62),
        (hip, end - 0.1),
        (hip, end + 0.02),
        (0.2, end + 0.06),
    ]


def draw_torso(sketch: Sketch, attributes: Attributes, look: Look, build: Build) -> None:
    """Draw neck, torso and top.

    Args:
        sketch: What to draw on, in the figure's frame.
        attributes: Who it is.
        look: How; skirts of dresses sway.
        build: Its measures.
    """
    sketch.part = "torso"
    skin, cloth = SKIN[attributes.skin], CLOTH[attributes.top_colour]
    ink = sketch.ink(cloth)
    if attributes.top in {"dress", "robe"}:
        _draw_gown(sketch, attributes, look, build, ink)
    sketch.mirrored(ink, _trunk(build, 0.06 if attributes.top in {"hoodie", "jacket"} else 0.0))
    _draw_pattern(sketch, attributes, build, ink)
    _draw_detail(sketch, attributes, build, ink)
    neck = sketch.ink(skin)
    sketch.blob(neck, [(-0.24, 0.7), (0.24, 0.7), (0.24, NECK), (0.12, NECK + 0.2), (-0.12, NECK + 0.2), (-0.24, NECK)])
    _draw_collar(sketch, attributes, ink)


def _draw_gown(sketch: Sketch, attributes: Attributes, look: Look, build: Build, ink: int) -> None:
    cloth, robe = CLOTH[attributes.top_colour], attributes.top == "robe"
    top, sway = NECK + build.torso * 0.55, look.sway * 0.15
    hem = build.crotch + build.leg * (0.88 if robe else 0.5)
    reach = build.hip + (0.3 if robe else 0.62)
    waist = build.waist
    sketch.blob(
        ink,
        [
            (-waist, top),
            (-waist, top),
            (waist, top),
            (waist, top),
            (build.hip + 0.25, build.crotch),
            (reach + sway, hem - 0.1),
            (reach + sway, hem - 0.1),
            (reach * 0.5 + sway, hem + 0.05),
            (sway, hem + 0.08),
            (sway - reach * 0.5, hem + 0.05),
            (sway - reach, hem - 0.1),
            (sway - reach, hem - 0.1),
            (-build.hip - 0.25, build.crotch),
        ],
    )
    fold = sketch.ink(darker(cloth, 0.28), ink)
    for k in (-1.6, -0.7, 0.7, 1.6):
        sketch.stroke(fold, [(k * 0.25, build.crotch - 0.1), (k * 0.5 + sway, hem + 0.1)], 0.09, ink)
    trim = sketch.ink(CLOTH[attributes.accent], ink)
    sketch.stroke(
        trim,
        [
            (sway - reach, hem - 0.2),
            (sway - reach * 0.5, hem - 0.06),
            (sway + reach * 0.5, hem - 0.06),
            (sway + reach, hem - 0.2),
        ],
        0.14,
        ink,
        taper=False,
    )


def _draw_pattern(sketch: Sketch, attributes: Attributes, build: Build, ink: int) -> None:
    accent = attributes.accent if attributes.accent != attributes.top_colour else "white"
    end = build.crotch + 0.1
    match attributes.pattern:
        case "striped":
            other = sketch.ink(CLOTH[accent], ink)
            for k in range(1, 9):
                y = NECK + 0.1 + k * 0.32
                if y < end + (0.9 if attributes.top in {"dress", "robe"} else 0.0):
                    sketch.poly(other, [(-1.8, y), (1.8, y), (1.8, y + 0.15), (-1.8, y + 0.15)], ink)
        case "dotted":
            other = sketch.ink(CLOTH[accent], ink)
            for row in range(6):
                for column in range(-2, 3):
                    x, y = column * 0.36 + (0.18 if row % 2 else 0.0), NECK + 0.3 + row * 0.32
                    sketch.oval(other, x, y, 0.095, 0.095, ink)
        case "star":
            points = []
            for k in range(10):
                reach, angle = (0.42 if k % 2 == 0 else 0.18), math.pi * k / 5
                points.append(
                    (
                        round(math.sin(angle), 6) * reach,
                        NECK + 0.2 + build.torso * 0.35 - round(math.cos(angle), 6) * reach,
                    )
                )
            sketch.poly(sketch.ink(CLOTH[accent], ink), points, ink)
        case "plain":
            pass


def _draw_detail(sketch: Sketch, attributes: Attributes, build: Build, ink: int) -> None:
    cloth, accent, end = CLOTH[attributes.top_colour], CLOTH[attributes.accent], build.crotch
    dark = sketch.ink(darker(cloth, 0.35), ink)
    match attributes.top:
        case "jacket":
            inner = sketch.ink(WHITE if attributes.top_colour != "white" else CLOTH["gray"], ink)
            sketch.poly(inner, [(-0.22, NECK - 0.1), (0.22, NECK - 0.1), (0.16, end + 0.2), (-0.16, end + 0.2)], ink)
            for side in (-1, 1):
                sketch.poly(
                    dark,
                    [
                        (side * 0.2, NECK),
                        (side * 0.48, NECK + 0.1),
                        (side * 0.34, NECK + 0.55),
                        (side * 0.18, NECK + 0.6),
                    ],
                    ink,
                )
                sketch.stroke(dark, [(side * 0.2, NECK), (side * 0.18, end + 0.1)], 0.06, ink, taper=False)
        case "vest":
            for side in (-1, 1):
                sketch.poly(
                    sketch.ink(WHITE, ink),
                    [(side * 0.1, NECK - 0.1), (side * 0.3, NECK - 0.1), (0.0, NECK + 0.62)],
                    ink,
                )
            for k in range(3):
                sketch.oval(dark, 0.0, NECK + 0.8 + 0.3 * k, 0.055, 0.055, ink)
        case "hoodie":
            y = end - 0.62
            sketch.poly(dark, [(-0.42, y), (0.42, y), (0.56, y + 0.42), (-0.56, y + 0.42)], ink)
            sketch.poly(
                sketch.ink(cloth, ink), [(-0.36, y + 0.05), (0.36, y + 0.05), (0.48, y + 0.37), (-0.48, y + 0.37)], ink
            )
        case "sweater":
            sketch.poly(dark, [(-1.2, end - 0.2), (1.2, end - 0.2), (1.2, end - 0.12), (-1.2, end - 0.12)], ink)
        case "armor":
            bright = sketch.ink(lighter(cloth, 0.4), ink)
            sketch.stroke(bright, [(-0.5, NECK + 0.35), (0.0, NECK + 0.75), (0.5, NECK + 0.35)], 0.12, ink)
            for k in range(2):
                y = NECK + build.torso * 0.62 + 0.25 * k
                sketch.stroke(dark, [(-1.0, y - 0.05), (0.0, y + 0.06), (1.0, y - 0.05)], 0.08, ink, taper=False)
        case "robe" | "dress":
            y = NECK + build.torso * 0.6
            belt = sketch.ink(accent)
            wide = build.waist + 0.04
            sketch.poly(belt, [(-wide, y), (wide, y), (wide + 0.02, y + 0.26), (-wide - 0.02, y + 0.26)])
        case "shirt":
            sketch.stroke(dark, [(-0.1, end - 0.5), (0.35, end - 0.6)], 0.06, ink)


def _draw_collar(sketch: Sketch, attributes: Attributes, ink: int) -> None:
    cloth, accent = CLOTH[attributes.top_colour], CLOTH[attributes.accent]
    match attributes.top:
        case "sweater":
            collar = sketch.ink(darker(cloth, 0.12))
            sketch.blob(
                collar, [(-0.34, 0.92), (0.34, 0.92), (0.38, NECK + 0.12), (0.0, NECK + 0.24), (-0.38, NECK + 0.12)]
            )
        case "hoodie":
            hood = sketch.ink(darker(cloth, 0.15))
            for side in (-1, 1):
                sketch.blob(
                    hood,
                    [
                        (side * 0.12, NECK + 0.3),
                        (side * 0.3, NECK - 0.15),
                        (side * 0.75, NECK - 0.2),
                        (side * 0.7, NECK + 0.15),
                        (side * 0.3, NECK + 0.42),
                    ],
                )
                sketch.stroke(
                    sketch.ink(WHITE, hood), [(side * 0.2, NECK + 0.3), (side * 0.22, NECK + 0.8)], 0.06, taper=False
                )
        case "robe":
            for side in (-1, 1):
                sketch.stroke(
                    sketch.ink(accent),
                    [(side * 0.34, NECK - 0.12), (side * 0.05, NECK + 0.4), (-side * 0.2, NECK + 0.8)],
                    0.16,
                    taper=False,
                )
        case "shirt" | "jacket" | "vest":
            collar = sketch.ink(lighter(cloth, 0.3) if attributes.top != "vest" else WHITE)
            for side in (-1, 1):
                sketch.poly(
                    collar,
                    [
                        (side * 0.02, NECK + 0.22),
                        (side * 0.24, NECK - 0.14),
                        (side * 0.44, NECK + 0.02),
                        (side * 0.26, NECK + 0.3),
                    ],
                )
        case "dress" | "armor":
            sketch.stroke(
                sketch.ink(accent), [(-0.3, NECK - 0.02), (0.0, NECK + 0.2), (0.3, NECK - 0.02)], 0.14, taper=False
            )
