"""Tops with their prints and collars, held things, and items at neck or back. The frame is the figure's."""

from collections.abc import Callable

from naruto_vision.synthetic.attributes import WHOLE, Attributes, Held, Top
from naruto_vision.synthetic.body import NECK, Build
from naruto_vision.synthetic.look import Look
from naruto_vision.synthetic.palette import CLOTH, GOLD, HAIR, INK, SKIN, STEEL, WHITE, WOOD, Rgb, darker, lighter
from naruto_vision.synthetic.sketch import SIDES, Point, Sketch, moved, outline

_STAR = (
    "0,-0.42! 0.105801,-0.145623! 0.399444,-0.129787! 0.17119,0.055623! 0.24687,0.339787! "
    "0,0.18! -0.24687,0.339787! -0.17119,0.055623! -0.399444,-0.129787! -0.105801,-0.145623!"
)


def _trunk(build: Build, grow: float) -> list[Point]:
    """The right half of the torso's outline."""
    shoulder, waist, hip, end = build.shoulder + grow, build.waist + grow, build.hip + grow, build.crotch
    upper = [(0.24, NECK - 0.08), (shoulder, NECK), (shoulder + 0.04, NECK + 0.3), (waist, NECK + build.torso * 0.62)]
    return [*upper, (hip, end - 0.1), (hip, end + 0.02), (0.2, end + 0.06)]


def draw_torso(sketch: Sketch, attributes: Attributes, look: Look, build: Build) -> None:
    """Draw top, neck and collar."""
    sketch.part = "torso"
    colour = CLOTH[attributes.top_colour]
    ink = sketch.ink(colour)
    if attributes.top in WHOLE:
        _draw_gown(sketch, attributes, look, build, ink)
    sketch.mirrored(ink, _trunk(build, 0.06 if attributes.top in {"hoodie", "jacket"} else 0.0))
    _draw_print(sketch, attributes, build, ink)
    _DETAILS[attributes.top](sketch, attributes, build, (ink, sketch.ink(darker(colour, 0.35), ink)))
    neck = [(-0.24, 0.7), (0.24, 0.7), (0.24, NECK), (0.12, NECK + 0.2), (-0.12, NECK + 0.2), (-0.24, NECK)]
    sketch.blob(sketch.ink(SKIN[attributes.skin]), neck)
    _COLLARS[attributes.top](sketch, attributes)


def _draw_gown(sketch: Sketch, attributes: Attributes, look: Look, build: Build, ink: int) -> None:
    """The skirt of a dress or robe, with folds and a trim."""
    robe = attributes.top == "robe"
    top, sway, waist, crotch = NECK + build.torso * 0.55, look.sway * 0.15, build.waist, build.crotch
    hem, reach = crotch + build.leg * (0.88 if robe else 0.5), build.hip + (0.3 if robe else 0.62)
    right, left = (reach + sway, hem - 0.1), (sway - reach, hem - 0.1)
    half = [(build.hip + 0.25, crotch), right, right, (reach * 0.5 + sway, hem + 0.05)]
    other = [(sway - reach * 0.5, hem + 0.05), left, left, (-build.hip - 0.25, crotch)]
    sketch.blob(ink, [(-waist, top), (-waist, top), (waist, top), (waist, top), *half, (sway, hem + 0.08), *other])
    fold = sketch.ink(darker(CLOTH[attributes.top_colour], 0.28), ink)
    for k in (-1.6, -0.7, 0.7, 1.6):
        sketch.stroke(fold, [(k * 0.25, crotch - 0.1), (k * 0.5 + sway, hem + 0.1)], 0.09, ink)
    trim = [(-reach, -0.2), (-reach * 0.5, -0.06), (reach * 0.5, -0.06), (reach, -0.2)]
    sketch.stroke(sketch.ink(CLOTH[attributes.accent], ink), moved(trim, sway, hem), 0.14, ink, taper=False)


def _draw_print(sketch: Sketch, attributes: Attributes, build: Build, cloth: int) -> None:
    """Print stripes, dots or a star over the cloth; nothing for a plain one."""
    if attributes.pattern == "plain":
        return
    # a print in the colour of the cloth is invisible
    ink = sketch.ink(CLOTH[attributes.accent if attributes.accent != attributes.top_colour else "white"], cloth)
    if attributes.pattern == "star":
        sketch.blob(ink, moved(outline(_STAR), 0.0, NECK + 0.2 + build.torso * 0.35), cloth)
    elif attributes.pattern == "striped":
        end = build.crotch + (1.0 if attributes.top in WHOLE else 0.1)
        for y in (NECK + 0.1 + k * 0.32 for k in range(1, 9)):
            if y < end:
                sketch.poly(ink, [(-1.8, y), (1.8, y), (1.8, y + 0.15), (-1.8, y + 0.15)], cloth)
    else:
        for row in range(6):
            for column in range(-2, 3):
                x = column * 0.36 + (0.18 if row % 2 else 0.0)
                sketch.oval(ink, x, NECK + 0.3 + row * 0.32, 0.095, 0.095, cloth)


def _draw_lapels(sketch: Sketch, attributes: Attributes, build: Build, inks: tuple[int, int]) -> None:
    (ink, dark), end = inks, build.crotch
    inner = sketch.ink(CLOTH["gray"] if attributes.top_colour == "white" else WHITE, ink)
    sketch.poly(inner, [(-0.22, NECK - 0.1), (0.22, NECK - 0.1), (0.16, end + 0.2), (-0.16, end + 0.2)], ink)
    for side in SIDES:
        sketch.blob(dark, moved(outline("0.2,0! 0.48,0.1! 0.34,0.55! 0.18,0.6!", side), 0.0, NECK), ink)
        sketch.stroke(dark, [(side * 0.2, NECK), (side * 0.18, end + 0.1)], 0.06, ink, taper=False)


def _draw_pocket(sketch: Sketch, attributes: Attributes, build: Build, inks: tuple[int, int]) -> None:
    (ink, dark), y = inks, build.crotch - 0.62
    sketch.blob(dark, moved(outline("-0.42,0! 0.42,0! 0.56,0.42! -0.56,0.42!"), 0.0, y), ink)
    cloth = sketch.ink(CLOTH[attributes.top_colour], ink)
    sketch.blob(cloth, moved(outline("-0.36,0.05! 0.36,0.05! 0.48,0.37! -0.48,0.37!"), 0.0, y), ink)


def _draw_plates(sketch: Sketch, attributes: Attributes, build: Build, inks: tuple[int, int]) -> None:
    ink, dark = inks
    bright = sketch.ink(lighter(CLOTH[attributes.top_colour], 0.4), ink)
    sketch.stroke(bright, moved(outline("-0.5,0.35 0,0.75 0.5,0.35"), 0.0, NECK), 0.12, ink)
    for k in range(2):
        y = NECK + build.torso * 0.62 + 0.25 * k
        sketch.stroke(dark, moved(outline("-1,-0.05 0,0.06 1,-0.05"), 0.0, y), 0.08, ink, taper=False)


def _draw_buttons(sketch: Sketch, _: Attributes, __: Build, inks: tuple[int, int]) -> None:
    ink, dark = inks
    for side in SIDES:
        sketch.blob(sketch.ink(WHITE, ink), moved(outline("0.1,-0.1! 0.3,-0.1! 0,0.62!", side), 0.0, NECK), ink)
    for k in range(3):
        sketch.oval(dark, 0.0, NECK + 0.8 + 0.3 * k, 0.055, 0.055, ink)


def _draw_belt(sketch: Sketch, attributes: Attributes, build: Build, _: tuple[int, int]) -> None:
    y, wide = NECK + build.torso * 0.6, build.waist + 0.04
    belt = [(-wide, y), (wide, y), (wide + 0.02, y + 0.26), (-wide - 0.02, y + 0.26)]
    sketch.poly(sketch.ink(CLOTH[attributes.accent]), belt)


def _draw_rib(sketch: Sketch, _: Attributes, build: Build, inks: tuple[int, int]) -> None:
    sketch.blob(inks[1], moved(outline("-1.2,-0.2! 1.2,-0.2! 1.2,-0.12! -1.2,-0.12!"), 0.0, build.crotch), inks[0])


def _draw_crease(sketch: Sketch, _: Attributes, build: Build, inks: tuple[int, int]) -> None:
    sketch.stroke(inks[1], moved([(-0.1, -0.5), (0.35, -0.6)], 0.0, build.crotch), 0.06, inks[0])


_DETAILS: dict[Top, Callable[[Sketch, Attributes, Build, tuple[int, int]], None]] = {
    "shirt": _draw_crease, "jacket": _draw_lapels, "hoodie": _draw_pocket, "vest": _draw_buttons,
    "sweater": _draw_rib, "armor": _draw_plates, "dress": _draw_belt, "robe": _draw_belt,
}  # fmt: skip
"""Each draws with the ink of the cloth and a darker one."""


def _rolled(sketch: Sketch, attributes: Attributes) -> None:
    ink = sketch.ink(darker(CLOTH[attributes.top_colour], 0.12))
    sketch.blob(ink, [(-0.34, 0.92), (0.34, 0.92), (0.38, NECK + 0.12), (0.0, NECK + 0.24), (-0.38, NECK + 0.12)])


def _hood(sketch: Sketch, attributes: Attributes) -> None:
    hood = sketch.ink(darker(CLOTH[attributes.top_colour], 0.15))
    for side in SIDES:
        sketch.blob(hood, moved(outline("0.12,0.3 0.3,-0.15 0.75,-0.2 0.7,0.15 0.3,0.42", side), 0.0, NECK))
        string = moved(outline("0.2,0.3 0.22,0.8", side), 0.0, NECK)
        sketch.stroke(sketch.ink(WHITE, hood), string, 0.06, taper=False)


def _crossed(sketch: Sketch, attributes: Attributes) -> None:
    for side in SIDES:
        band = moved(outline("0.34,-0.12 0.05,0.4 -0.2,0.8", side), 0.0, NECK)
        sketch.stroke(sketch.ink(CLOTH[attributes.accent]), band, 0.16, taper=False)


def _pointed(sketch: Sketch, attributes: Attributes) -> None:
    ink = sketch.ink(WHITE if attributes.top == "vest" else lighter(CLOTH[attributes.top_colour], 0.3))
    for side in SIDES:
        sketch.blob(ink, moved(outline("0.02,0.22! 0.24,-0.14! 0.44,0.02! 0.26,0.3!", side), 0.0, NECK))


def _round(sketch: Sketch, attributes: Attributes) -> None:
    neckline = moved(outline("-0.3,-0.02 0,0.2 0.3,-0.02"), 0.0, NECK)
    sketch.stroke(sketch.ink(CLOTH[attributes.accent]), neckline, 0.14, taper=False)


_COLLARS: dict[Top, Callable[[Sketch, Attributes], None]] = {
    "shirt": _pointed, "jacket": _pointed, "vest": _pointed, "hoodie": _hood, "sweater": _rolled, "armor": _round,
    "dress": _round, "robe": _crossed,
}  # fmt: skip

_WING = "0.2,0.1 1,-1 2.2,-1.5! 2.3,-0.4 2.05,-0.3 2.05,0.3 1.7,0.3 1.6,0.8 1.1,0.6 0.6,0.7"


def draw_back_extra(sketch: Sketch, attributes: Attributes, look: Look, build: Build) -> None:
    """Draw capes, wings and tails; first in the figure's frame."""
    sketch.part = "torso"
    accent, sway, end = CLOTH[attributes.accent], look.sway * 0.4, build.crotch
    match attributes.extra:
        case "cape":
            _draw_cape(sketch, sketch.ink(accent), build, sway)
        case "wings":
            feather = sketch.ink(lighter(accent, 0.55))
            for side in SIDES:
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
    """Draw a scarf or a cape's clasp, if there is one; after the torso."""
    sketch.part = "torso"
    if attributes.extra == "scarf":
        accent, sway = CLOTH[attributes.accent], look.sway * 0.5
        right, left = (0.85 + sway, NECK + 1.35), (0.4 + sway, NECK + 1.45)
        sketch.blob(sketch.ink(darker(accent, 0.12)), [(0.2, NECK), (0.6, NECK), right, right, left, left])
        low = [(0.72, NECK + 0.12), (0.0, NECK + 0.36), (-0.72, NECK + 0.12)]
        sketch.blob(sketch.ink(accent), [(-0.62, 0.88), (0.0, 0.98), (0.62, 0.88), *low])
    if attributes.extra == "cape":
        sketch.oval(sketch.ink(GOLD), 0.0, NECK + 0.22, 0.14, 0.14)


_BLADE = "-0.13,-0.3! -0.13,-2.2! 0,-2.6! 0.13,-2.2! 0.13,-0.3!"
_BALLOON = "0,-1.55 0.12,-1.75 0.72,-2.2 0.72,-2.9 0.3,-3.25 -0.3,-3.25 -0.72,-2.9 -0.72,-2.2 -0.12,-1.75"
_CLOTH = "0.05,-2.45! 0.6,-2.65 1.1,-2.3 1.6,-2.45! 1.6,-1.55! 1.1,-1.4 0.6,-1.75 0.05,-1.55!"
_SCREEN = "-1.35,-1.5! -1.1,-2.3 0,-2.75 1.1,-2.3 1.35,-1.5! 0.9,-1.7 0.45,-1.5! 0,-1.72 -0.45,-1.5! -0.9,-1.7"


def _slab(sketch: Sketch, ink: int, left: float, top: float, right: float, bottom: float) -> None:
    sketch.poly(ink, [(left, top), (right, top), (right, bottom), (left, bottom)])


def _sword(sketch: Sketch, accent: Rgb) -> None:
    blade = sketch.ink(STEEL)
    sketch.blob(blade, outline(_BLADE))
    sketch.poly(sketch.ink(WHITE, blade), [(-0.03, -0.3), (-0.03, -2.2), (0.03, -2.2), (0.03, -0.3)])
    _slab(sketch, sketch.ink(GOLD), -0.42, -0.36, 0.42, -0.2)
    _slab(sketch, sketch.ink(accent), -0.1, -0.2, 0.1, 0.4)


def _staff(sketch: Sketch, accent: Rgb) -> None:
    _slab(sketch, sketch.ink(WOOD), -0.08, -2.1, 0.08, 1.6)
    orb = sketch.ink(accent)
    sketch.oval(orb, 0.0, -2.3, 0.36, 0.36)
    sketch.oval(sketch.ink(lighter(accent, 0.6), orb), -0.1, -2.4, 0.13, 0.12)


def _book(sketch: Sketch, accent: Rgb) -> None:
    cover = sketch.ink(accent)
    _slab(sketch, cover, -0.55, -0.75, 0.55, 0.5)
    _slab(sketch, sketch.ink(WHITE, cover), -0.36, -0.5, 0.36, -0.22)
    _slab(sketch, sketch.ink(darker(accent, 0.3), cover), -0.55, -0.75, -0.44, 0.5)


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
    _slab(sketch, sketch.ink(WOOD), -0.08, -2.5, 0.08, 1.0)
    flag = sketch.ink(accent)
    sketch.blob(flag, outline(_CLOTH))
    sketch.oval(sketch.ink(WHITE, flag), 0.78, -2.03, 0.25, 0.25)


def _umbrella(sketch: Sketch, accent: Rgb) -> None:
    _slab(sketch, sketch.ink(STEEL), -0.08, -1.9, 0.08, 0.4)
    screen = sketch.ink(accent)
    sketch.blob(screen, outline(_SCREEN))
    sketch.stroke(sketch.ink(lighter(accent, 0.4), screen), outline("-0.45,-1.55 -0.3,-2.3 0,-2.6"), 0.09, screen)


_HELD: dict[Held, Callable[[Sketch, Rgb], None]] = {
    "sword": _sword, "staff": _staff, "book": _book, "balloon": _balloon, "ball": _ball, "flag": _flag,
    "umbrella": _umbrella,
}  # fmt: skip


def draw_held(sketch: Sketch, attributes: Attributes) -> None:
    """Draw the held thing in the upright frame of the hand, which is drawn over it."""
    sketch.part = "held"
    if attributes.held != "none":
        _HELD[attributes.held](sketch, CLOTH[attributes.accent])
