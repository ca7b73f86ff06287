"""Tops: the torso, what it wears and what is printed on it. The frame is the figure's."""

from collections.abc import Callable

from naruto_vision.drawn.attributes import Attributes, Top
from naruto_vision.drawn.body import NECK, Build
from naruto_vision.drawn.collars import draw_collar
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.outline import moved, outline
from naruto_vision.drawn.palette import CLOTH, SKIN, WHITE, darker, lighter
from naruto_vision.drawn.prints import draw_print
from naruto_vision.drawn.sketch import Point, Sketch

_SIDES = (-1, 1)


def _trunk(build: Build, grow: float = 0.0) -> list[Point]:
    """The right half of the torso's outline."""
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
    ink = sketch.ink(CLOTH[attributes.top_colour])
    if attributes.top in {"dress", "robe"}:
        _draw_gown(sketch, attributes, look, build, ink)
    sketch.mirrored(ink, _trunk(build, 0.06 if attributes.top in {"hoodie", "jacket"} else 0.0))
    draw_print(sketch, attributes, build, ink)
    _draw_detail(sketch, attributes, build, ink)
    neck = [(-0.24, 0.7), (0.24, 0.7), (0.24, NECK), (0.12, NECK + 0.2), (-0.12, NECK + 0.2), (-0.24, NECK)]
    sketch.blob(sketch.ink(SKIN[attributes.skin]), neck)
    draw_collar(sketch, attributes)


def _draw_gown(sketch: Sketch, attributes: Attributes, look: Look, build: Build, ink: int) -> None:
    """The skirt of a dress or robe, with folds and a trim."""
    robe = attributes.top == "robe"
    top, sway, waist, crotch = NECK + build.torso * 0.55, look.sway * 0.15, build.waist, build.crotch
    hem = crotch + build.leg * (0.88 if robe else 0.5)
    reach = build.hip + (0.3 if robe else 0.62)
    half = [
        (build.hip + 0.25, crotch),
        (reach + sway, hem - 0.1),
        (reach + sway, hem - 0.1),
        (reach * 0.5 + sway, hem + 0.05),
    ]
    other = [
        (sway - reach * 0.5, hem + 0.05),
        (sway - reach, hem - 0.1),
        (sway - reach, hem - 0.1),
        (-build.hip - 0.25, crotch),
    ]
    sketch.blob(ink, [(-waist, top), (-waist, top), (waist, top), (waist, top), *half, (sway, hem + 0.08), *other])
    fold = sketch.ink(darker(CLOTH[attributes.top_colour], 0.28), ink)
    for k in (-1.6, -0.7, 0.7, 1.6):
        sketch.stroke(fold, [(k * 0.25, crotch - 0.1), (k * 0.5 + sway, hem + 0.1)], 0.09, ink)
    trim = [(-reach, -0.2), (-reach * 0.5, -0.06), (reach * 0.5, -0.06), (reach, -0.2)]
    sketch.stroke(sketch.ink(CLOTH[attributes.accent], ink), moved(trim, sway, hem), 0.14, ink, taper=False)


def _draw_detail(sketch: Sketch, attributes: Attributes, build: Build, ink: int) -> None:
    dark = sketch.ink(darker(CLOTH[attributes.top_colour], 0.35), ink)
    _DETAILS[attributes.top](sketch, attributes, build, (ink, dark))


def _draw_lapels(sketch: Sketch, attributes: Attributes, build: Build, inks: tuple[int, int]) -> None:
    (ink, dark), end = inks, build.crotch
    inner = sketch.ink(CLOTH["gray"] if attributes.top_colour == "white" else WHITE, ink)
    sketch.poly(inner, [(-0.22, NECK - 0.1), (0.22, NECK - 0.1), (0.16, end + 0.2), (-0.16, end + 0.2)], ink)
    for side in _SIDES:
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
    for side in _SIDES:
        sketch.blob(sketch.ink(WHITE, ink), moved(outline("0.1,-0.1! 0.3,-0.1! 0,0.62!", side), 0.0, NECK), ink)
    for k in range(3):
        sketch.oval(dark, 0.0, NECK + 0.8 + 0.3 * k, 0.055, 0.055, ink)


def _draw_belt(sketch: Sketch, attributes: Attributes, build: Build, _: tuple[int, int]) -> None:
    y, wide = NECK + build.torso * 0.6, build.waist + 0.04
    belt = [(-wide, y), (wide, y), (wide + 0.02, y + 0.26), (-wide - 0.02, y + 0.26)]
    sketch.poly(sketch.ink(CLOTH[attributes.accent]), belt)


def _draw_rib(sketch: Sketch, _: Attributes, build: Build, inks: tuple[int, int]) -> None:
    ink, dark = inks
    sketch.blob(dark, moved(outline("-1.2,-0.2! 1.2,-0.2! 1.2,-0.12! -1.2,-0.12!"), 0.0, build.crotch), ink)


def _draw_crease(sketch: Sketch, _: Attributes, build: Build, inks: tuple[int, int]) -> None:
    ink, dark = inks
    sketch.stroke(dark, moved([(-0.1, -0.5), (0.35, -0.6)], 0.0, build.crotch), 0.06, ink)


_DETAILS: dict[Top, Callable[[Sketch, Attributes, Build, tuple[int, int]], None]] = {
    "shirt": _draw_crease,
    "jacket": _draw_lapels,
    "hoodie": _draw_pocket,
    "vest": _draw_buttons,
    "sweater": _draw_rib,
    "armor": _draw_plates,
    "dress": _draw_belt,
    "robe": _draw_belt,
}
"""Each draws with the ink of the cloth and a darker one."""
