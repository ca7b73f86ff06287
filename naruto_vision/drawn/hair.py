"""Hair: what lies behind the head, what falls over the brow, and what hangs at the sides, for each style."""

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.palette import CLOTH, HAIR, darker, lighter
from naruto_vision.drawn.sketch import Point, Sketch

_DOME: tuple[Point, ...] = (
    (-1.13, 0.1),
    (-1.2, -0.55),
    (-0.8, -1.3),
    (0.0, -1.42),
    (0.8, -1.3),
    (1.2, -0.55),
    (1.13, 0.1),
)


def _sharp(points: list[Point]) -> list[Point]:
    return [point for point in points for _ in range(2)]


def draw_back_hair(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Draw what lies behind the head; call it before the body.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
        look: How; loose hair sways.
    """
    sketch.part = "head"
    sway = look.sway * 0.25
    ink = sketch.ink(darker(HAIR[attributes.hair_colour], 0.16))
    match attributes.hair_style:
        case "short":
            sketch.poly(
                ink,
                [
                    (-0.75, 0.85),
                    (-1.15, 0.72),
                    (-1.05, 0.5),
                    (-1.4, 0.25),
                    (-1.15, 0.0),
                    (-1.25, -0.6),
                    (0.0, -1.3),
                    (1.25, -0.6),
                    (1.15, 0.0),
                    (1.4, 0.25),
                    (1.05, 0.5),
                    (1.15, 0.72),
                    (0.75, 0.85),
                ],
            )
        case "bob":
            sketch.mirrored(ink, [(0.0, -1.35), (0.95, -1.25), (1.35, -0.3), (1.45, 0.7), (1.25, 1.35), (0.4, 1.15)])
        case "long":
            sketch.blob(
                ink,
                [
                    (0.0, -1.35),
                    (0.95, -1.25),
                    (1.4, -0.2),
                    (1.45, 1.6),
                    *_sharp([(1.5 + sway, 3.3)]),
                    (0.6 + sway, 3.05),
                    (-0.6 + sway, 3.05),
                    *_sharp([(-1.5 + sway, 3.3)]),
                    (-1.45, 1.6),
                    (-1.4, -0.2),
                    (-0.95, -1.25),
                ],
            )
        case "ponytail":
            sketch.blob(
                ink,
                [
                    (0.3, -1.2),
                    (0.9, -1.75),
                    (1.9, -1.5),
                    (2.2 + sway, -0.2),
                    (1.9 + sway, 1.0),
                    *_sharp([(2.2 + sway, 1.9)]),
                    (1.4 + sway, 1.2),
                    (1.35, 0.0),
                    (0.9, -0.7),
                ],
            )
        case "pigtails":
            for side in (-1, 1):
                sketch.blob(
                    ink,
                    [
                        (side * u + sway * w, v)
                        for u, v, w in (
                            (0.9, -0.75, 0),
                            (1.4, -1.15, 0),
                            (2.05, -0.6, 0),
                            (2.15, 0.7, 1),
                            (1.85, 1.9, 1),
                            (1.85, 1.9, 1),
                            (1.45, 1.0, 1),
                            (1.2, 0.1, 0),
                        )
                    ],
                )
        case "bun":
            sketch.oval(ink, 0.0, -1.55, 0.58, 0.52)
            sketch.stroke(
                sketch.ink(lighter(HAIR[attributes.hair_colour], 0.3), ink),
                [(-0.3, -1.6), (0.0, -1.85), (0.3, -1.75)],
                0.1,
            )
        case "curly":
            for u, v in (
                (-1.25, 0.55),
                (1.25, 0.55),
                (-1.5, -0.1),
                (1.5, -0.1),
                (-1.4, -0.8),
                (1.4, -0.8),
                (-0.85, -1.4),
                (0.85, -1.4),
                (0.0, -1.6),
                (0.0, -0.6),
            ):
                sketch.oval(ink, u, v, 0.58, 0.56)
        case "spiky":
            sketch.poly(
                ink,
                [
                    (-1.0, 0.6),
                    (-1.75, 0.5),
                    (-1.25, 0.05),
                    (-2.0, -0.35),
                    (-1.35, -0.6),
                    (-1.75, -1.35),
                    (-0.9, -1.2),
                    (-0.75, -2.0),
                    (-0.1, -1.4),
                    (0.35, -2.15),
                    (0.7, -1.3),
                    (1.5, -1.75),
                    (1.3, -0.8),
                    (2.05, -0.6),
                    (1.3, -0.1),
                    (1.8, 0.4),
                    (1.0, 0.6),
                ],
            )
        case "braid":
            sketch.mirrored(ink, [(0.0, -1.3), (0.9, -1.2), (1.25, -0.3), (1.15, 0.4), (0.7, 0.7), (0.2, 0.75)])
        case "mohawk":
            sketch.blob(
                ink,
                [
                    (-0.4, -1.0),
                    (-0.75, -1.7),
                    *_sharp([(-0.7, -2.3)]),
                    (-0.2, -2.0),
                    *_sharp([(0.0, -2.6)]),
                    (0.25, -2.0),
                    *_sharp([(0.75, -2.25)]),
                    (0.7, -1.6),
                    (0.4, -1.0),
                ],
            )


def _bangs(style: str) -> list[Point]:
    """The lower edge of the front hair, right to left."""
    match style:
        case "bob":
            return [
                (1.0, 0.25),
                (0.92, -0.15),
                (0.86, -0.2),
                (0.5, -0.2),
                (0.0, -0.16),
                (-0.5, -0.2),
                (-0.86, -0.2),
                (-0.92, -0.15),
                (-1.0, 0.25),
            ]
        case "long":
            return [
                (1.0, 0.3),
                *_sharp(
                    [
                        (0.85, -0.1),
                        (0.62, -0.45),
                        (0.3, -0.05),
                        (0.05, -0.5),
                        (-0.3, -0.05),
                        (-0.62, -0.45),
                        (-0.85, -0.1),
                    ]
                ),
                (-1.0, 0.3),
            ]
        case "spiky" | "short":
            return _sharp(
                [
                    (1.08, 0.42),
                    (0.92, -0.35),
                    (0.62, 0.0),
                    (0.42, -0.5),
                    (0.12, 0.05),
                    (-0.18, -0.5),
                    (-0.5, -0.05),
                    (-0.75, -0.4),
                    (-1.08, 0.42),
                ]
            )
        case "ponytail" | "bun":
            return [
                *_sharp([(1.06, 0.35)]),
                (0.9, -0.4),
                (0.4, -0.75),
                *_sharp([(-0.1, -0.85)]),
                (-0.6, -0.65),
                (-0.9, -0.3),
                *_sharp([(-1.06, 0.35)]),
            ]
        case "pigtails" | "braid":
            return [
                *_sharp([(1.06, 0.4)]),
                (0.85, -0.3),
                (0.45, -0.25),
                *_sharp([(0.0, -0.75)]),
                (-0.45, -0.25),
                (-0.85, -0.3),
                *_sharp([(-1.06, 0.4)]),
            ]
        case "curly":
            return [
                (1.1, 0.2),
                (0.8, -0.25),
                (0.5, -0.5),
                (0.2, -0.2),
                (-0.2, -0.5),
                (-0.5, -0.2),
                (-0.8, -0.5),
                (-1.1, 0.2),
            ]
        case _:
            return [(1.05, -0.3), (0.6, -0.78), (0.0, -0.85), (-0.6, -0.78), (-1.05, -0.3)]


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
    sketch.blob(ink, [*_DOME, *((x + shift * (1 - abs(x)), y) for x, y in _bangs(style))])
    if style == "mohawk":
        crest = sketch.ink(colour)
        sketch.blob(
            crest,
            [
                (-0.32, -0.75),
                (-0.45, -1.5),
                *_sharp([(-0.35, -2.0), (0.0, -2.4), (0.35, -1.95)]),
                (0.45, -1.5),
                (0.32, -0.75),
                *_sharp([(0.0, -0.55)]),
            ],
        )
        return
    if style == "curly":
        for u, v in (
            (-0.95, -0.55),
            (0.95, -0.55),
            (-0.5, -0.95),
            (0.5, -0.95),
            (0.0, -1.15),
            (0.0, -0.75),
            (-1.15, 0.05),
            (1.15, 0.05),
        ):
            sketch.oval(sketch.ink(colour), u, v, 0.4, 0.38)
    strand = sketch.ink(darker(colour, 0.28), ink)
    for x in (-0.6, 0.12, 0.66):
        sketch.stroke(strand, [(x * 0.82, -0.86), (x * 0.95, -0.66), (x, -0.4)], 0.045, ink)
    if style == "short":
        tuft = sketch.ink(colour, ink)
        sketch.blob(
            tuft, [(-0.35, -1.2), *_sharp([(-0.62, -1.6)]), (-0.12, -1.42), *_sharp([(0.2, -1.66)]), (0.25, -1.2)]
        )
    sketch.stroke(shine, [(-0.8, -0.82), (-0.45, -1.02), (-0.1, -1.05)], 0.14, ink)
    sketch.stroke(shine, [(0.1, -1.05), (0.35, -1.02), (0.6, -0.92)], 0.1, ink)


def _draw_sides(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    colour, accent = HAIR[attributes.hair_colour], CLOTH[attributes.accent]
    ink = sketch.ink(colour)
    sway = look.sway * 0.2
    match attributes.hair_style:
        case "long":
            for side in (-1, 1):
                sketch.blob(
                    ink,
                    [
                        (side * 0.92, -0.6),
                        (side * 1.3, -0.4),
                        (side * 1.36, 0.9),
                        *_sharp([(side * 1.15 + sway, 2.1)]),
                        (side * 0.98, 1.0),
                    ],
                )
        case "bob":
            for side in (-1, 1):
                sketch.blob(
                    ink,
                    [
                        (side * 0.88, -0.6),
                        (side * 1.32, -0.5),
                        (side * 1.42, 0.7),
                        *_sharp([(side * 1.0, 1.32)]),
                        (side * 0.92, 0.6),
                    ],
                )
        case "pigtails":
            tie = sketch.ink(accent)
            for side in (-1, 1):
                sketch.oval(tie, side * 1.16, -0.72, 0.17, 0.2)
        case "ponytail":
            sketch.oval(sketch.ink(accent), 0.85, -1.12, 0.24, 0.2)
        case "braid":
            for k in range(5):
                sketch.oval(
                    sketch.ink(colour),
                    1.0 + sway * k * 0.4 + (0.07 if k % 2 else -0.07),
                    0.65 + 0.42 * k,
                    0.3 - 0.02 * k,
                    0.3,
                )
            sketch.oval(sketch.ink(accent), 1.0 + sway * 2, 2.62, 0.2, 0.14)
        case _:
            pass
