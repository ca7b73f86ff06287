"""What a character wears on the head, holds in the hand, and has at neck or back."""

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.body import NECK, Build
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.palette import CLOTH, GOLD, HAIR, INK, STEEL, WHITE, WOOD, Rgb, darker, lighter
from naruto_vision.drawn.sketch import Sketch


def draw_head_wear(sketch: Sketch, attributes: Attributes) -> None:
    """Draw what is on the head; call it last in the head's frame.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
    """
    sketch.part = "head"
    accent = CLOTH[attributes.accent]
    match attributes.head_wear:
        case "headband":
            band = sketch.ink(accent)
            sketch.blob(
                band,
                [
                    (-1.2, -0.62),
                    (-0.6, -0.78),
                    (0.6, -0.78),
                    (1.2, -0.62),
                    (1.2, -0.62),
                    (1.18, -0.28),
                    (1.18, -0.28),
                    (0.6, -0.42),
                    (-0.6, -0.42),
                    (-1.18, -0.28),
                    (-1.18, -0.28),
                    (-1.2, -0.62),
                ],
            )
            knot = sketch.ink(darker(accent, 0.18))
            for end in (0.0, 0.34):
                sketch.poly(knot, [(1.06, -0.52), (1.26, -0.5), (1.56 + end, 0.38), (1.32 + end, 0.5)])
            sketch.oval(knot, 1.16, -0.48, 0.15, 0.17)
            gem = sketch.ink(STEEL)
            sketch.oval(gem, 0.0, -0.58, 0.2, 0.2)
            sketch.oval(sketch.ink(WHITE, gem), -0.06, -0.64, 0.07, 0.06)
        case "cap":
            dome = sketch.ink(accent)
            sketch.blob(
                dome,
                [
                    (-1.22, -0.5),
                    (-1.22, -0.5),
                    (-1.15, -1.2),
                    (-0.5, -1.62),
                    (0.5, -1.62),
                    (1.15, -1.2),
                    (1.22, -0.5),
                    (1.22, -0.5),
                    (0.0, -0.72),
                ],
            )
            sketch.oval(sketch.ink(WHITE, dome), 0.0, -1.12, 0.26, 0.24)
            sketch.blob(
                sketch.ink(darker(accent, 0.25)),
                [
                    (-1.0, -0.62),
                    (-1.0, -0.62),
                    (0.0, -0.8),
                    (1.0, -0.62),
                    (1.0, -0.62),
                    (1.15, -0.3),
                    (0.0, -0.48),
                    (-1.15, -0.3),
                ],
            )
        case "bow":
            bow = sketch.ink(accent)
            for side in (-1, 1):
                sketch.blob(
                    bow,
                    [
                        (-0.55, -1.3),
                        (-0.55 + side * 0.3, -1.65),
                        (-0.55 + side * 0.72, -1.72),
                        (-0.55 + side * 0.72, -0.98),
                        (-0.55 + side * 0.3, -1.02),
                    ],
                )
            sketch.oval(sketch.ink(darker(accent, 0.2)), -0.55, -1.33, 0.15, 0.17)
        case "horns":
            horn = sketch.ink((236, 222, 190))
            for side in (-1, 1):
                sketch.blob(
                    horn,
                    [
                        (side * 0.4, -1.2),
                        (side * 0.85, -1.0),
                        (side * 1.3, -1.35),
                        (side * 1.25, -2.0),
                        (side * 1.25, -2.0),
                        (side * 0.95, -1.5),
                    ],
                )
        case "ears":
            outer, inner = sketch.ink(HAIR[attributes.hair_colour]), sketch.ink((244, 170, 180))
            for side in (-1, 1):
                sketch.poly(outer, [(side * 0.3, -1.25), (side * 1.12, -0.85), (side * 1.12, -1.9)])
                sketch.poly(inner, [(side * 0.55, -1.25), (side * 0.98, -1.02), (side * 0.98, -1.6)])
        case "crown":
            gold = sketch.ink(GOLD)
            sketch.poly(
                gold,
                [(-0.72, -1.1), (0.72, -1.1), (0.86, -1.85), (0.42, -1.5), (0.0, -2.0), (-0.42, -1.5), (-0.86, -1.85)],
            )
            sketch.oval(sketch.ink(accent), 0.0, -1.32, 0.13, 0.13)
        case "flower":
            petal = sketch.ink(lighter(accent, 0.25))
            for u, v in ((0.0, -0.25), (0.24, -0.08), (0.15, 0.2), (-0.15, 0.2), (-0.24, -0.08)):
                sketch.oval(petal, 0.82 + u, -0.85 + v, 0.2, 0.2)
            sketch.oval(sketch.ink(GOLD), 0.82, -0.85, 0.14, 0.14)
        case "hat":
            sketch.blob(
                sketch.ink(accent),
                [
                    (-0.85, -0.95),
                    (-0.85, -0.95),
                    (-0.5, -1.7),
                    (0.1, -2.6),
                    (0.5, -2.55),
                    (0.5, -2.0),
                    (0.85, -0.95),
                    (0.85, -0.95),
                ],
            )
            sketch.oval(sketch.ink(accent), 0.0, -0.92, 1.65, 0.26)
            sketch.poly(sketch.ink(lighter(accent, 0.55)), [(-0.82, -1.2), (0.8, -1.2), (0.86, -0.98), (-0.86, -0.98)])
        case "none":
            pass


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
            hem = end + build.leg * 0.72
            cape = sketch.ink(accent)
            sketch.blob(
                cape,
                [
                    (-0.6, NECK - 0.1),
                    (0.6, NECK - 0.1),
                    (build.shoulder + 0.35, NECK + 0.3),
                    (1.5 + sway, hem),
                    (1.5 + sway, hem),
                    (0.7 + sway, hem - 0.2),
                    (sway, hem + 0.1),
                    (sway - 0.7, hem - 0.2),
                    (sway - 1.5, hem),
                    (sway - 1.5, hem),
                    (-build.shoulder - 0.35, NECK + 0.3),
                ],
            )
        case "wings":
            feather = sketch.ink(lighter(accent, 0.55))
            for side in (-1, 1):
                y = NECK + 0.6
                sketch.blob(
                    feather,
                    [
                        (side * u, y + v)
                        for u, v in (
                            (0.2, 0.1),
                            (1.0, -1.0),
                            (2.2, -1.5),
                            (2.2, -1.5),
                            (2.3, -0.4),
                            (2.05, -0.3),
                            (2.05, 0.3),
                            (1.7, 0.3),
                            (1.6, 0.8),
                            (1.1, 0.6),
                            (0.6, 0.7),
                        )
                    ],
                )
        case "tail":
            tail = sketch.ink(HAIR[attributes.hair_colour])
            sketch.stroke(
                tail,
                [
                    (0.2, end - 0.2),
                    (1.0, end + 0.5),
                    (1.75 + sway, end),
                    (1.6 + sway, end - 0.9),
                    (2.1 + sway, end - 1.5),
                ],
                0.46,
            )
        case "scarf" | "none":
            pass


def draw_scarf(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Draw a scarf, if there is one; call it after the torso.

    Args:
        sketch: What to draw on, in the figure's frame.
        attributes: Who it is.
        look: How; its end sways.
    """
    sketch.part = "torso"
    if attributes.extra == "scarf":
        accent, sway = CLOTH[attributes.accent], look.sway * 0.5
        end = sketch.ink(darker(accent, 0.12))
        sketch.blob(
            end,
            [
                (0.2, NECK),
                (0.6, NECK),
                (0.85 + sway, NECK + 1.35),
                (0.85 + sway, NECK + 1.35),
                (0.4 + sway, NECK + 1.45),
                (0.4 + sway, NECK + 1.45),
            ],
        )
        sketch.blob(
            sketch.ink(accent),
            [(-0.62, 0.88), (0.0, 0.98), (0.62, 0.88), (0.72, NECK + 0.12), (0.0, NECK + 0.36), (-0.72, NECK + 0.12)],
        )
    if attributes.extra == "cape":
        sketch.oval(sketch.ink(GOLD), 0.0, NECK + 0.22, 0.14, 0.14)


def draw_held(sketch: Sketch, attributes: Attributes) -> None:
    """Draw the held thing; the hand is drawn over it.

    Args:
        sketch: What to draw on, in the upright frame of the hand.
        attributes: Who it is.
    """
    sketch.part = "held"
    accent = CLOTH[attributes.accent]
    match attributes.held:
        case "sword":
            blade = sketch.ink(STEEL)
            sketch.poly(blade, [(-0.13, -0.3), (-0.13, -2.2), (0.0, -2.6), (0.13, -2.2), (0.13, -0.3)])
            sketch.poly(sketch.ink(WHITE, blade), [(-0.03, -0.3), (-0.03, -2.2), (0.03, -2.2), (0.03, -0.3)])
            sketch.poly(sketch.ink(GOLD), [(-0.42, -0.36), (0.42, -0.36), (0.42, -0.2), (-0.42, -0.2)])
            sketch.poly(sketch.ink(accent), [(-0.1, -0.2), (0.1, -0.2), (0.1, 0.4), (-0.1, 0.4)])
        case "staff":
            _pole(sketch, WOOD, -2.1, 1.6)
            orb = sketch.ink(accent)
            sketch.oval(orb, 0.0, -2.3, 0.36, 0.36)
            sketch.oval(sketch.ink(lighter(accent, 0.6), orb), -0.1, -2.4, 0.13, 0.12)
        case "book":
            cover = sketch.ink(accent)
            sketch.poly(cover, [(-0.55, -0.75), (0.55, -0.75), (0.55, 0.5), (-0.55, 0.5)])
            sketch.poly(sketch.ink(WHITE, cover), [(-0.36, -0.5), (0.36, -0.5), (0.36, -0.22), (-0.36, -0.22)])
            sketch.poly(
                sketch.ink(darker(accent, 0.3), cover), [(-0.55, -0.75), (-0.44, -0.75), (-0.44, 0.5), (-0.55, 0.5)]
            )
        case "balloon":
            sketch.stroke(sketch.ink(INK), [(0.0, 0.1), (0.1, -0.9), (0.0, -1.7)], 0.05, taper=False)
            balloon = sketch.ink(accent)
            sketch.blob(
                balloon,
                [
                    (0.0, -1.55),
                    (0.12, -1.75),
                    (0.72, -2.2),
                    (0.72, -2.9),
                    (0.3, -3.25),
                    (-0.3, -3.25),
                    (-0.72, -2.9),
                    (-0.72, -2.2),
                    (-0.12, -1.75),
                ],
            )
            sketch.oval(sketch.ink(lighter(accent, 0.6), balloon), -0.25, -2.75, 0.12, 0.2)
        case "ball":
            ball = sketch.ink(accent)
            sketch.oval(ball, 0.0, 0.25, 0.55, 0.55)
            sketch.stroke(sketch.ink(WHITE, ball), [(-0.5, 0.1), (0.0, 0.32), (0.5, 0.1)], 0.16, ball, taper=False)
        case "flag":
            _pole(sketch, WOOD, -2.5, 1.0)
            flag = sketch.ink(accent)
            sketch.blob(
                flag,
                [
                    (0.05, -2.45),
                    (0.05, -2.45),
                    (0.6, -2.65),
                    (1.1, -2.3),
                    (1.6, -2.45),
                    (1.6, -2.45),
                    (1.6, -1.55),
                    (1.6, -1.55),
                    (1.1, -1.4),
                    (0.6, -1.75),
                    (0.05, -1.55),
                    (0.05, -1.55),
                ],
            )
            sketch.oval(sketch.ink(WHITE, flag), 0.78, -2.03, 0.25, 0.25)
        case "umbrella":
            _pole(sketch, STEEL, -1.9, 0.4)
            shade = sketch.ink(accent)
            sketch.blob(
                shade,
                [
                    (-1.35, -1.5),
                    (-1.35, -1.5),
                    (-1.1, -2.3),
                    (0.0, -2.75),
                    (1.1, -2.3),
                    (1.35, -1.5),
                    (1.35, -1.5),
                    (0.9, -1.7),
                    (0.45, -1.5),
                    (0.45, -1.5),
                    (0.0, -1.72),
                    (-0.45, -1.5),
                    (-0.45, -1.5),
                    (-0.9, -1.7),
                ],
            )
            sketch.stroke(
                sketch.ink(lighter(accent, 0.4), shade), [(-0.45, -1.55), (-0.3, -2.3), (0.0, -2.6)], 0.09, shade
            )
        case "none":
            pass


def _pole(sketch: Sketch, colour: Rgb, top: float, end: float) -> None:
    sketch.poly(sketch.ink(colour), [(-0.08, top), (0.08, top), (0.08, end), (-0.08, end)])
