"""The head, back to front: hair behind it, face, front hair, face marks, head wear. The face is about 2 wide."""

from collections.abc import Callable

from naruto_vision.synthetic.attributes import Attributes, FaceMark, HairStyle, HeadWear
from naruto_vision.synthetic.look import Look
from naruto_vision.synthetic.palette import CLOTH, EYES, GOLD, HAIR, INK, SKIN, STEEL, WHITE, Rgb, darker, lighter, mix
from naruto_vision.synthetic.sketch import SIDES, Sketch, moved, outline

_GIRL = "0,-1.1 0.7,-1.05 1.03,-0.5 1.02,0.2 0.86,0.66 0.36,1.06 0.1,1.16"
_BOY = "0,-1.1 0.7,-1.05 1.03,-0.5 1.02,0.25 0.9,0.74 0.5,1.1 0.18,1.2"
_EYE_Y, _MOUTH_Y = 0.22, 0.8
_LID_SLOPES = {"angry": 0.1, "sad": -0.09}
_BROW_SLOPES = {"angry": 0.13, "sad": -0.12}
_CLOSED_MOUTHS = {
    "calm": ("-0.14,0 0,0.03 0.14,0", 0.06),
    "happy": ("-0.22,-0.05 -0.1,0.06 0.1,0.06 0.22,-0.05", 0.06),
    "angry": ("-0.16,0.06 0,-0.04 0.16,0.04", 0.07),
    "sad": ("-0.13,0.07 0,0 0.13,0.07", 0.06),
}
"""Middle line about the mouth's centre, and width."""


def draw_face(sketch: Sketch, attributes: Attributes, look: Look) -> int:
    """Draw ears, face, eyes, nose and mouth; return the ink of the skin."""
    sketch.part = "head"
    skin, girl, shift = SKIN[attributes.skin], attributes.person == "girl", look.facing * 0.2
    ear = sketch.ink(skin)
    for side in SIDES:
        sketch.oval(ear, side * 1.0 + look.facing * 0.06, 0.2, 0.16, 0.25)
    face = sketch.ink(skin)
    sketch.mirrored(face, outline(_GIRL if girl else _BOY))
    blush = sketch.ink(mix(skin, (240, 96, 96), 0.3 if girl else 0.14), face)
    for side in SIDES:
        sketch.oval(blush, side * 0.6 + shift, 0.58, 0.17, 0.09)
    line = sketch.ink(INK, face)
    _draw_eyes(sketch, attributes, look, (face, line))
    nose = sketch.ink(darker(skin, 0.45), face)
    sketch.stroke(nose, moved([(0.0, 0.5), (0.06, 0.58)], shift * 1.5), 0.06)
    _draw_mouth(sketch, look, shift * 1.2, (line, face))
    return face


def _draw_eyes(sketch: Sketch, attributes: Attributes, look: Look, inks: tuple[int, int]) -> None:
    face, line = inks
    colour = EYES[attributes.eye_colour]
    white, dark, light = (sketch.ink(own, face) for own in (WHITE, darker(colour, 0.4), lighter(colour, 0.12)))
    brow = sketch.ink(darker(HAIR[attributes.hair_colour], 0.45), face)
    for side in SIDES:
        wide = 1.0 - 0.22 * max(0.0, side * look.facing)  # the far eye is foreshortened
        x = side * 0.43 + look.facing * 0.2
        if attributes.face_mark == "eyepatch" and side == 1:
            continue
        if look.expression == "laughing":
            arch = outline("-0.25,0.3 -0.15,0.12 0.15,0.12 0.25,0.3")
            sketch.stroke(line, [(x + wide * u, v) for u, v in arch], 0.09)
        else:
            _draw_eye(sketch, attributes, look, (x, wide, side), (white, line, dark, light))
        _draw_brow(sketch, attributes, look, (x, side), brow)


def _draw_eye(
    sketch: Sketch, attributes: Attributes, look: Look, position: tuple[float, float, int], inks: tuple[int, ...]
) -> None:
    (x, wide, side), (white, line, dark, light), girl = position, inks, attributes.person == "girl"
    surprised = look.expression == "surprised"
    across, down = 0.25 * wide, (0.29 if girl else 0.23) * (1.18 if surprised else 1.0)
    iris, middle, y = (0.15 if surprised else 0.185) * wide, x + look.facing * 0.04, _EYE_Y
    sketch.oval(white, x, y, across, down)
    sketch.oval(dark, middle, y + 0.02, iris, down * 0.88)
    sketch.oval(light, middle, y + down * 0.33, iris * 0.82, down * 0.52)
    sketch.oval(line, middle, y + 0.03, iris * 0.42, down * 0.42)
    sketch.oval(white, middle - 0.07 * wide, y - down * 0.36, iris * 0.42, down * 0.28)
    sketch.oval(white, middle + 0.07 * wide, y + down * 0.42, iris * 0.24, down * 0.16)
    # the upper lid with its lashes is the strongest line of the face
    lid = y - down * (0.62 if look.expression in _LID_SLOPES else 0.86)
    slope, lash = _LID_SLOPES.get(look.expression, -0.02) * side, 0.13 if girl else 0.05
    start = (x - across - (lash if side < 0 else 0.0), lid + 0.14 - slope)
    end = (x + across + (lash if side > 0 else 0.0), lid + 0.14 - slope)
    arch = [(x + across * u, lid - 0.05 - slope / 2) for u in (-0.5, 0.5)]
    sketch.stroke(line, [start, *arch, end], 0.13 if girl else 0.1)


def _draw_brow(sketch: Sketch, attributes: Attributes, look: Look, position: tuple[float, int], brow: int) -> None:
    (x, side), slope = position, _BROW_SLOPES.get(look.expression, -0.03)
    y = -0.2 - (0.12 if look.expression in {"surprised", "laughing"} else 0.0)
    inner, outer = (x - side * 0.22, y + slope), (x + side * 0.26, y - slope * 0.6)
    middle = ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2 - 0.07)
    sketch.stroke(brow, [inner, middle, outer], 0.07 if attributes.person == "girl" else 0.11)


def _draw_mouth(sketch: Sketch, look: Look, x: float, inks: tuple[int, int]) -> None:
    (line, face), y = inks, _MOUTH_Y
    match look.expression:
        case "laughing":
            mouth, tongue = sketch.ink((150, 40, 52), face), sketch.ink((240, 120, 126), face)
            sketch.blob(line, moved(outline("-0.3136,-0.13! 0.3136,-0.13! 0.16,0.24 -0.16,0.24"), x, y))
            sketch.blob(mouth, moved(outline("-0.28,-0.1! 0.28,-0.1! 0.14,0.18 -0.14,0.18"), x, y))
            sketch.oval(tongue, x, y + 0.07, 0.1, 0.05)
        case "surprised":
            sketch.oval(line, x, y + 0.04, 0.1, 0.13)
            sketch.oval(sketch.ink((170, 60, 66), face), x, y + 0.05, 0.06, 0.09)
        case closed:
            text, width = _CLOSED_MOUTHS[closed]
            sketch.stroke(line, moved(outline(text), x, y), width)


_FRECKLES = "0.4,0.58 0.55,0.64 0.7,0.57 0.49,0.72 0.63,0.74 0.78,0.68"
_RING = "1,0 0.7,0.7 0,1 -0.7,0.7 -1,0 -0.7,-0.7 0,-1 0.7,-0.7 1,0"
_FRAME: Rgb = (46, 42, 52)


def _whiskers(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(darker(darker(skin, 0.3), 0.45), face)
    for side in SIDES:
        for k in (-1, 0, 1):
            y = 0.56 + 0.14 * k
            sketch.stroke(ink, [(shift + side * 0.5, y), (shift + side * 0.88, y + 0.06 * k - 0.03)], 0.055)


def _scar(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(mix(skin, (150, 40, 50), 0.65), face)
    sketch.stroke(ink, moved(outline("-0.66,-0.28 -0.5,0.2 -0.4,0.72"), shift), 0.1)
    for k in (0.0, 0.45, 0.65):
        sketch.stroke(ink, [(shift - 0.68 + k * 0.2, k - 0.02), (shift - 0.4 + k * 0.2, k - 0.08)], 0.05)


def _freckles(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(mix(skin, (150, 72, 30), 0.6), face)
    for side in SIDES:
        for x, y in outline(_FRECKLES, side):
            sketch.oval(ink, shift + x, y - 0.02, 0.04, 0.036)


def _diamond(sketch: Sketch, _: Rgb, __: int, shift: float) -> None:
    sketch.blob(sketch.ink((222, 40, 70)), moved(outline("0,-0.56! 0.12,-0.36! 0,-0.16! -0.12,-0.36!"), shift))


def _stripes(sketch: Sketch, skin: Rgb, face: int, shift: float) -> None:
    ink = sketch.ink(mix(skin, (30, 60, 150), 0.72), face)
    for side in SIDES:
        for y in (0.5, 0.68):
            sketch.blob(ink, moved(outline("0.42,0! 0.86,-0.06! 0.86,0.03! 0.42,0.09!", side), shift, y))


def _eyepatch(sketch: Sketch, _: Rgb, __: int, shift: float) -> None:
    ink = sketch.ink(_FRAME)
    sketch.stroke(ink, [(-1.0, -0.5), (shift + 0.3, -0.05), (1.02, 0.3)], 0.1, taper=False)
    sketch.oval(ink, shift + 0.43, 0.22, 0.32, 0.33)


def _glasses(sketch: Sketch, _: Rgb, __: int, shift: float) -> None:
    ink, ring = sketch.ink(_FRAME), outline(_RING)
    for side in SIDES:
        x = shift + side * 0.45
        inner = [(x + 0.33 * u, 0.24 + 0.31 * v) for u, v in reversed(ring)]
        sketch.blob(ink, [*((x + 0.39 * u, 0.24 + 0.37 * v) for u, v in ring), *inner])
        sketch.stroke(ink, [(shift + side * 0.83, 0.2), (side * 1.0, 0.12)], 0.06, taper=False)
    sketch.stroke(ink, [(shift - 0.1, 0.2), (shift + 0.1, 0.2)], 0.07, taper=False)


_MARKS: dict[FaceMark, Callable[[Sketch, Rgb, int, float], None]] = {
    "whiskers": _whiskers, "scar": _scar, "freckles": _freckles, "diamond": _diamond, "stripes": _stripes,
    "eyepatch": _eyepatch, "glasses": _glasses,
}  # fmt: skip
"""Each takes the skin's colour and ink, and how far the mark moves with the way the face looks."""


def draw_mark(sketch: Sketch, attributes: Attributes, look: Look, face: int) -> None:
    """Draw the face mark; after the hair, which would cover some of them."""
    sketch.part = "head"
    if attributes.face_mark != "none":
        _MARKS[attributes.face_mark](sketch, SKIN[attributes.skin], face, look.facing * 0.2)


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
    "short": _JAGGED, "spiky": _JAGGED, "ponytail": _SWEPT, "bun": _SWEPT, "pigtails": _PARTED, "braid": _PARTED,
    "bob": "1,0.25 0.92,-0.15 0.86,-0.2 0.5,-0.2 0,-0.16 -0.5,-0.2 -0.86,-0.2 -0.92,-0.15 -1,0.25",
    "long": "1,0.3 0.85,-0.1! 0.62,-0.45! 0.3,-0.05! 0.05,-0.5! -0.3,-0.05! -0.62,-0.45! -0.85,-0.1! -1,0.3",
    "curly": "1.1,0.2 0.8,-0.25 0.5,-0.5 0.2,-0.2 -0.2,-0.5 -0.5,-0.2 -0.8,-0.5 -1.1,0.2",
    "mohawk": "1.05,-0.3 0.6,-0.78 0,-0.85 -0.6,-0.78 -1.05,-0.3",
}  # fmt: skip
"""The lower edge of the front hair, right to left."""
_CREST = "-0.32,-0.75 -0.45,-1.5 -0.35,-2! 0,-2.4! 0.35,-1.95! 0.45,-1.5 0.32,-0.75 0,-0.55!"
_TUFT = "-0.35,-1.2 -0.62,-1.6! -0.12,-1.42 0.2,-1.66! 0.25,-1.2"
_LOCKS: dict[HairStyle, str] = {
    "long": "0.92,-0.6 1.3,-0.4 1.36,0.9 1.15,2.1!~ 0.98,1",
    "bob": "0.88,-0.6 1.32,-0.5 1.42,0.7 1,1.32! 0.92,0.6",
}


def draw_back_hair(sketch: Sketch, attributes: Attributes, look: Look) -> None:
    """Draw the back hair; before the body."""
    sketch.part = "head"
    colour, sway = HAIR[attributes.hair_colour], look.sway * 0.25
    ink = sketch.ink(darker(colour, 0.16))
    match attributes.hair_style:
        case "pigtails":
            for side in SIDES:
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
    """Draw the fringe and side locks; after the face."""
    sketch.part = "head"
    style, colour = attributes.hair_style, HAIR[attributes.hair_colour]
    ink = sketch.ink(darker(colour, 0.3) if style == "mohawk" else colour)
    shine = sketch.ink(lighter(colour, 0.45), ink)
    _draw_sides(sketch, attributes, look.sway * 0.2)
    shift = look.facing * 0.12
    sketch.blob(ink, [*outline(_DOME), *((x + shift * (1 - abs(x)), y) for x, y in outline(_BANGS[style]))])
    if style == "mohawk":
        sketch.blob(sketch.ink(colour), outline(_CREST))
        return
    for x, y in outline(_FRONT_CURLS) if style == "curly" else ():
        sketch.oval(sketch.ink(colour), x, y, 0.4, 0.38)
    strand = sketch.ink(darker(colour, 0.28), ink)
    for x in (-0.6, 0.12, 0.66):
        sketch.stroke(strand, [(x * 0.82, -0.86), (x * 0.95, -0.66), (x, -0.4)], 0.045, ink)
    if style == "short":
        sketch.blob(sketch.ink(colour, ink), outline(_TUFT))
    sketch.stroke(shine, outline("-0.8,-0.82 -0.45,-1.02 -0.1,-1.05"), 0.14, ink)
    sketch.stroke(shine, outline("0.1,-1.05 0.35,-1.02 0.6,-0.92"), 0.1, ink)


def _draw_sides(sketch: Sketch, attributes: Attributes, sway: float) -> None:
    """Locks, ties and braids, over the back hair and under the front hair."""
    colour, accent = HAIR[attributes.hair_colour], CLOTH[attributes.accent]
    ink = sketch.ink(colour)
    match attributes.hair_style:
        case "long" | "bob" as style:
            for side in SIDES:
                sketch.blob(ink, outline(_LOCKS[style], side, sway))
        case "pigtails":
            tie = sketch.ink(accent)
            for side in SIDES:
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


_BAND = "-1.2,-0.62 -0.6,-0.78 0.6,-0.78 1.2,-0.62! 1.18,-0.28! 0.6,-0.42 -0.6,-0.42 -1.18,-0.28! -1.2,-0.62"
_CAP = "-1.22,-0.5! -1.15,-1.2 -0.5,-1.62 0.5,-1.62 1.15,-1.2 1.22,-0.5! 0,-0.72"
_PEAK = "-1,-0.62! 0,-0.8 1,-0.62! 1.15,-0.3 0,-0.48 -1.15,-0.3"
_HORN = "0.4,-1.2 0.85,-1 1.3,-1.35 1.25,-2! 0.95,-1.5"
_CROWN = "-0.72,-1.1! 0.72,-1.1! 0.86,-1.85! 0.42,-1.5! 0,-2! -0.42,-1.5! -0.86,-1.85!"
_CONE = "-0.85,-0.95! -0.5,-1.7 0.1,-2.6 0.5,-2.55 0.5,-2 0.85,-0.95!"
_PETALS = "0,-0.25 0.24,-0.08 0.15,0.2 -0.15,0.2 -0.24,-0.08"
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
    sketch.blob(dome, outline(_CAP))
    sketch.oval(sketch.ink(WHITE, dome), 0.0, -1.12, 0.26, 0.24)
    sketch.blob(sketch.ink(darker(accent, 0.25)), outline(_PEAK))


def _bow(sketch: Sketch, accent: Rgb) -> None:
    bow, x = sketch.ink(accent), -0.55
    for side in SIDES:
        sketch.blob(bow, moved(outline("0,-1.3 0.3,-1.65 0.72,-1.72 0.72,-0.98 0.3,-1.02", side), x))
    sketch.oval(sketch.ink(darker(accent, 0.2)), x, -1.33, 0.15, 0.17)


def _horns(sketch: Sketch, ivory: Rgb) -> None:
    horn = sketch.ink(ivory)
    for side in SIDES:
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
    for side in SIDES:
        sketch.blob(outer, outline("0.3,-1.25! 1.12,-0.85! 1.12,-1.9!", side))
        sketch.blob(inner, outline("0.55,-1.25! 0.98,-1.02! 0.98,-1.6!", side))


_WEAR: dict[HeadWear, Callable[[Sketch, Rgb], None]] = {
    "headband": _headband, "cap": _cap, "bow": _bow, "horns": _horns, "ears": _ears, "crown": _crown,
    "flower": _flower, "hat": _hat,
}  # fmt: skip


def draw_head_wear(sketch: Sketch, attributes: Attributes) -> None:
    """Draw the head wear, last of all."""
    sketch.part = "head"
    if attributes.head_wear != "none":
        own = {"ears": HAIR[attributes.hair_colour], "horns": _IVORY}  # everything else is worn
        _WEAR[attributes.head_wear](sketch, own.get(attributes.head_wear, CLOTH[attributes.accent]))
