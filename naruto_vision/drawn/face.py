"""The face: its outline, eyes, brows and mouth. The frame is the head's; the face is about 2 wide."""

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.outline import moved, outline
from naruto_vision.drawn.palette import EYES, HAIR, INK, SKIN, WHITE, darker, lighter, mix
from naruto_vision.drawn.sketch import Point, Sketch

_GIRL = "0,-1.1 0.7,-1.05 1.03,-0.5 1.02,0.2 0.86,0.66 0.36,1.06 0.1,1.16"
_BOY = "0,-1.1 0.7,-1.05 1.03,-0.5 1.02,0.25 0.9,0.74 0.5,1.1 0.18,1.2"
_SIDES = (-1, 1)
_EYE_Y, _MOUTH_Y = 0.22, 0.8
_LID_SLOPES = {"angry": 0.1, "sad": -0.09}
_BROW_SLOPES = {"angry": 0.13, "sad": -0.12}
_LINES = {
    "calm": ("-0.14,0 0,0.03 0.14,0", 0.06),
    "happy": ("-0.22,-0.05 -0.1,0.06 0.1,0.06 0.22,-0.05", 0.06),
    "angry": ("-0.16,0.06 0,-0.04 0.16,0.04", 0.07),
    "sad": ("-0.13,0.07 0,0 0.13,0.07", 0.06),
}
"""Closed mouths: middle line about the mouth's centre, and width."""


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
    for side in _SIDES:
        sketch.oval(ear, side * 1.0 + look.facing * 0.06, 0.2, 0.16, 0.25)
    face = sketch.ink(skin)
    sketch.mirrored(face, outline(_GIRL if attributes.person == "girl" else _BOY))
    shift = look.facing * 0.2
    blush = sketch.ink(mix(skin, (240, 96, 96), 0.3 if attributes.person == "girl" else 0.14), face)
    for side in _SIDES:
        sketch.oval(blush, side * 0.6 + shift, 0.58, 0.17, 0.09)
    _draw_features(sketch, attributes, look, face)
    return face


def _draw_features(sketch: Sketch, attributes: Attributes, look: Look, face: int) -> None:
    shift = look.facing * 0.2
    line, white = sketch.ink(INK, face), sketch.ink(WHITE, face)
    colour = EYES[attributes.eye_colour]
    irises = (sketch.ink(darker(colour, 0.4), face), sketch.ink(lighter(colour, 0.12), face))
    brow = sketch.ink(darker(HAIR[attributes.hair_colour], 0.45), face)
    for side in _SIDES:
        wide = 1.0 - 0.22 * max(0.0, side * look.facing)  # the far eye is foreshortened
        x = side * 0.43 + shift
        if attributes.face_mark == "eyepatch" and side == 1:
            continue
        if look.expression == "laughing":
            arch = outline("-0.25,0.3 -0.15,0.12 0.15,0.12 0.25,0.3")
            sketch.stroke(line, [(x + wide * u, v) for u, v in arch], 0.09)
        else:
            _draw_eye(sketch, attributes, look, (x, wide), (white, line, *irises))
            _draw_lid(sketch, attributes, look, (x, wide, side), line)
        _draw_brow(sketch, attributes, look, (x, side), brow)
    nose = sketch.ink(darker(SKIN[attributes.skin], 0.45), face)
    sketch.stroke(nose, moved([(0.0, 0.5), (0.06, 0.58)], shift * 1.5), 0.06)
    _draw_mouth(sketch, look, shift * 1.2, (line, face))


def _eye_height(attributes: Attributes, look: Look) -> float:
    return (0.29 if attributes.person == "girl" else 0.23) * (1.18 if look.expression == "surprised" else 1.0)


def _draw_eye(
    sketch: Sketch, attributes: Attributes, look: Look, place: tuple[float, float], inks: tuple[int, int, int, int]
) -> None:
    x, wide = place
    white, line, dark, light = inks
    y, down = _EYE_Y, _eye_height(attributes, look)
    sketch.oval(white, x, y, 0.25 * wide, down)
    iris = (0.15 if look.expression == "surprised" else 0.185) * wide
    middle = x + look.facing * 0.04
    sketch.oval(dark, middle, y + 0.02, iris, down * 0.88)
    sketch.oval(light, middle, y + down * 0.33, iris * 0.82, down * 0.52)
    sketch.oval(line, middle, y + 0.03, iris * 0.42, down * 0.42)
    sketch.oval(white, middle - 0.07 * wide, y - down * 0.36, iris * 0.42, down * 0.28)
    sketch.oval(white, middle + 0.07 * wide, y + down * 0.42, iris * 0.24, down * 0.16)


def _draw_lid(sketch: Sketch, attributes: Attributes, look: Look, place: tuple[float, float, int], line: int) -> None:
    """The upper lid with its lashes, the strongest line of the face."""
    x, wide, side = place
    girl = attributes.person == "girl"
    across, down = 0.25 * wide, _eye_height(attributes, look)
    lid = _EYE_Y - down * (0.62 if look.expression in _LID_SLOPES else 0.86)
    slope = _LID_SLOPES.get(look.expression, -0.02) * side
    lash = 0.13 if girl else 0.05
    left, right = (lash, 0.0) if side < 0 else (0.0, lash)
    points: list[Point] = [
        (x - across - left, lid + 0.14 - slope),
        (x - across * 0.5, lid - 0.05 - slope / 2),
        (x + across * 0.5, lid - 0.05 - slope / 2),
        (x + across + right, lid + 0.14 - slope),
    ]
    sketch.stroke(line, points, 0.13 if girl else 0.1)


def _draw_brow(sketch: Sketch, attributes: Attributes, look: Look, place: tuple[float, int], brow: int) -> None:
    x, side = place
    slope = _BROW_SLOPES.get(look.expression, -0.03)
    y = -0.2 - (0.12 if look.expression in {"surprised", "laughing"} else 0.0)
    inner, outer = (x - side * 0.22, y + slope), (x + side * 0.26, y - slope * 0.6)
    middle = ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2 - 0.07)
    sketch.stroke(brow, [inner, middle, outer], 0.07 if attributes.person == "girl" else 0.11)


def _draw_mouth(sketch: Sketch, look: Look, x: float, inks: tuple[int, int]) -> None:
    line, face = inks
    y = _MOUTH_Y
    match look.expression:
        case "laughing":
            mouth, tongue = sketch.ink((150, 40, 52), face), sketch.ink((240, 120, 126), face)
            for ink, text in (
                (line, "-0.3136,-0.13! 0.3136,-0.13! 0.16,0.24 -0.16,0.24"),
                (mouth, "-0.28,-0.1! 0.28,-0.1! 0.14,0.18 -0.14,0.18"),
            ):
                sketch.blob(ink, moved(outline(text), x, y))
            sketch.oval(tongue, x, y + 0.07, 0.1, 0.05)
        case "surprised":
            sketch.oval(line, x, y + 0.04, 0.1, 0.13)
            sketch.oval(sketch.ink((170, 60, 66), face), x, y + 0.05, 0.06, 0.09)
        case closed:
            text, width = _LINES[closed]
            sketch.stroke(line, moved(outline(text), x, y), width)
