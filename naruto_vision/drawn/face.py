"""The face: its outline, eyes, brows, mouth and marks. The frame is the head's; the face is about 2 wide."""

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.palette import EYES, HAIR, INK, SKIN, WHITE, Rgb, darker, lighter, mix
from naruto_vision.drawn.sketch import Point, Sketch

_GIRL: tuple[Point, ...] = (
    (0.0, -1.1), (0.7, -1.05), (1.03, -0.5), (1.02, 0.2), (0.86, 0.66), (0.36, 1.06), (0.1, 1.16),
)  # fmt: skip
_BOY: tuple[Point, ...] = (
    (0.0, -1.1), (0.7, -1.05), (1.03, -0.5), (1.02, 0.25), (0.9, 0.74), (0.5, 1.1), (0.18, 1.2),
)  # fmt: skip


def draw_face(sketch: Sketch, attributes: Attributes, look: Look) -> int:
    """Draw ears, face, eyes, nose and mouth.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
        look: How.

    Returns:
        The ink of the skin.
    """
    skin = SKIN[attributes.skin]
    sketch.part = "head"
    ear = sketch.ink(skin)
    for side in (-1, 1):
        sketch.oval(ear, side * 1.0 + look.facing * 0.06, 0.2, 0.16, 0.25)
    face = sketch.ink(skin)
    sketch.mirrored(face, _GIRL if attributes.person == "girl" else _BOY)
    shift = look.facing * 0.2
    blush = sketch.ink(mix(skin, (240, 96, 96), 0.3 if attributes.person == "girl" else 0.14), face)
    for side in (-1, 1):
        sketch.oval(blush, side * 0.6 + shift, 0.58, 0.17, 0.09)
    _draw_features(sketch, attributes, look, face)
    return face


def _draw_features(sketch: Sketch, attributes: Attributes, look: Look, face: int) -> None:
    shift = look.facing * 0.2
    line = sketch.ink(INK, face)
    white = sketch.ink(WHITE, face)
    colour = EYES[attributes.eye_colour]
    irises = (sketch.ink(darker(colour, 0.4), face), sketch.ink(lighter(colour, 0.12), face))
    brow = sketch.ink(darker(HAIR[attributes.hair_colour], 0.45), face)
    for side in (-1, 1):
        width = 1.0 - 0.22 * max(0.0, side * look.facing)  # the far eye is foreshortened
        x = side * 0.43 + shift
        if attributes.face_mark == "eyepatch" and side == 1:
            continue
        _draw_eye(sketch, attributes, look, (x, width, side), (white, line, *irises))
        _draw_brow(sketch, attributes, look, (x, side), brow)
    sketch.stroke(
        darker_ink(sketch, SKIN[attributes.skin], face), [(shift * 1.5, 0.5), (shift * 1.5 + 0.06, 0.58)], 0.06
    )
    _draw_mouth(sketch, look, (shift * 1.2, line, face))


def darker_ink(sketch: Sketch, colour: Rgb, like: int) -> int:
    """Add a darker ink of a colour without a line around it.

    Args:
        sketch: Where to add it.
        colour: The colour to darken.
        like: The ink that it lies on.
    """
    return sketch.ink(darker(colour, 0.45), like)


def _draw_eye(
    sketch: Sketch, attributes: Attributes, look: Look, place: tuple[float, float, int], inks: tuple[int, int, int, int]
) -> None:
    x, wide, side = place
    white, line, dark, light = inks
    girl = attributes.person == "girl"
    across, down = 0.25 * wide, (0.29 if girl else 0.23) * (1.18 if look.expression == "surprised" else 1.0)
    if look.expression == "laughing":
        sketch.stroke(
            line, [(x - across, 0.3), (x - 0.6 * across, 0.12), (x + 0.6 * across, 0.12), (x + across, 0.3)], 0.09
        )
        return
    y = 0.22
    sketch.oval(white, x, y, across, down)
    iris = (0.185 if look.expression != "surprised" else 0.15) * wide
    middle = x + look.facing * 0.04
    sketch.oval(dark, middle, y + 0.02, iris, down * 0.88)
    sketch.oval(light, middle, y + down * 0.33, iris * 0.82, down * 0.52)
    sketch.oval(line, middle, y + 0.03, iris * 0.42, down * 0.42)
    sketch.oval(white, middle - 0.07 * wide, y - down * 0.36, iris * 0.42, down * 0.28)
    sketch.oval(white, middle + 0.07 * wide, y + down * 0.42, iris * 0.24, down * 0.16)
    lid = y - down * (0.62 if look.expression in {"angry", "sad"} else 0.86)
    slope = {"angry": 0.1, "sad": -0.09}.get(look.expression, -0.02) * side
    tail = side * (0.13 if girl else 0.05)
    sketch.stroke(
        line,
        [(x - across - min(tail, 0) * -1, lid + 0.14 - slope), (x - across * 0.5, lid - 0.05 - slope / 2),
         (x + across * 0.5, lid - 0.05 + slope / 2 * -1), (x + across + max(tail, 0), lid + 0.14 + slope * -1)],
        0.13 if girl else 0.1,
    )  # fmt: skip


def _draw_brow(sketch: Sketch, attributes: Attributes, look: Look, place: tuple[float, int], brow: int) -> None:
    x, side = place
    slope = {"angry": 0.13, "sad": -0.12, "surprised": -0.03}.get(look.expression, -0.03)
    y = -0.2 - (0.12 if look.expression in {"surprised", "laughing"} else 0.0)
    inner, outer = (x - side * 0.22, y + slope), (x + side * 0.26, y - slope * 0.6)
    middle = ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2 - 0.07)
    sketch.stroke(brow, [inner, middle, outer], 0.07 if attributes.person == "girl" else 0.11)


def _draw_mouth(sketch: Sketch, look: Look, place: tuple[float, int, int]) -> None:
    x, line, face = place
    y = 0.8
    match look.expression:
        case "calm":
            sketch.stroke(line, [(x - 0.14, y), (x, y + 0.03), (x + 0.14, y)], 0.06)
        case "happy":
            sketch.stroke(
                line, [(x - 0.22, y - 0.05), (x - 0.1, y + 0.06), (x + 0.1, y + 0.06), (x + 0.22, y - 0.05)], 0.06
            )
        case "laughing":
            mouth, tongue = sketch.ink((150, 40, 52), face), sketch.ink((240, 120, 126), face)
            corners = [(x - 0.28, y - 0.1), (x - 0.28, y - 0.1), (x + 0.28, y - 0.1), (x + 0.28, y - 0.1)]
            sketch.blob(
                line,
                [(u * 1.0 + (u - x) * 0.12, v - 0.03) for u, v in corners]
                + [(x + 0.16, y + 0.24), (x - 0.16, y + 0.24)],
            )
            sketch.blob(mouth, [*corners, (x + 0.14, y + 0.18), (x - 0.14, y + 0.18)])
            sketch.oval(tongue, x, y + 0.07, 0.1, 0.05)
        case "angry":
            sketch.stroke(line, [(x - 0.16, y + 0.06), (x, y - 0.04), (x + 0.16, y + 0.04)], 0.07)
        case "sad":
            sketch.stroke(line, [(x - 0.13, y + 0.07), (x, y), (x + 0.13, y + 0.07)], 0.06)
        case "surprised":
            sketch.oval(line, x, y + 0.04, 0.1, 0.13)
            sketch.oval(sketch.ink((170, 60, 66), face), x, y + 0.05, 0.06, 0.09)


def draw_mark(sketch: Sketch, attributes: Attributes, look: Look, face: int) -> None:
    """Draw the face mark; call it after the hair, which would hide some of them.

    Args:
        sketch: What to draw on, in the head's frame.
        attributes: Who it is.
        look: How.
        face: The ink of the skin.
    """
    shift = look.facing * 0.2
    skin = SKIN[attributes.skin]
    sketch.part = "head"
    match attributes.face_mark:
        case "whiskers":
            ink = darker_ink(sketch, darker(skin, 0.3), face)
            for side in (-1, 1):
                for k in (-1, 0, 1):
                    y = 0.56 + 0.14 * k
                    sketch.stroke(ink, [(shift + side * 0.5, y), (shift + side * 0.88, y + 0.06 * k - 0.03)], 0.055)
        case "scar":
            ink = sketch.ink(mix(skin, (150, 40, 50), 0.65), face)
            sketch.stroke(ink, [(shift - 0.66, -0.28), (shift - 0.5, 0.2), (shift - 0.4, 0.72)], 0.1)
            for k in (0.0, 0.45, 0.65):
                sketch.stroke(ink, [(shift - 0.68 + k * 0.2, k - 0.02), (shift - 0.4 + k * 0.2, k - 0.08)], 0.05)
        case "freckles":
            ink = sketch.ink(mix(skin, (150, 72, 30), 0.6), face)
            for side in (-1, 1):
                for u, v in ((0.4, 0.58), (0.55, 0.64), (0.7, 0.57), (0.49, 0.72), (0.63, 0.74), (0.78, 0.68)):
                    sketch.oval(ink, shift + side * u, v - 0.02, 0.04, 0.036)
        case "diamond":
            ink = sketch.ink((222, 40, 70))
            sketch.poly(ink, [(shift, -0.56), (shift + 0.12, -0.36), (shift, -0.16), (shift - 0.12, -0.36)])
        case "stripes":
            ink = sketch.ink(mix(skin, (30, 60, 150), 0.72), face)
            for side in (-1, 1):
                for y in (0.5, 0.68):
                    sketch.poly(
                        ink,
                        [
                            (shift + side * 0.42, y),
                            (shift + side * 0.86, y - 0.06),
                            (shift + side * 0.86, y + 0.03),
                            (shift + side * 0.42, y + 0.09),
                        ],
                    )
        case "glasses" | "eyepatch":
            _draw_worn(sketch, attributes, shift)
        case "none":
            pass


def _draw_worn(sketch: Sketch, attributes: Attributes, shift: float) -> None:
    ink = sketch.ink((46, 42, 52))
    if attributes.face_mark == "eyepatch":
        sketch.stroke(ink, [(-1.0, -0.5), (shift + 0.3, -0.05), (1.02, 0.3)], 0.1, taper=False)
        sketch.oval(ink, shift + 0.43, 0.22, 0.32, 0.33)
        return
    for side in (-1, 1):
        x, ring = (
            shift + side * 0.45,
            [(1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7)],
        )
        outer = [(x + 0.39 * u, 0.24 + 0.37 * v) for u, v in [*ring, (1, 0)]]
        inner = [(x + 0.33 * u, 0.24 + 0.31 * v) for u, v in [*ring, (1, 0)]]
        sketch.blob(ink, [*outer, *reversed(inner)])
        sketch.stroke(ink, [(shift + side * 0.83, 0.2), (side * 1.0, 0.12)], 0.06, taper=False)
    sketch.stroke(ink, [(shift - 0.1, 0.2), (shift + 0.1, 0.2)], 0.07, taper=False)
