"""The body's measures, arms with sleeves, legs with their clothes. The frame has the head's centre at (0, 0)."""

from dataclasses import dataclass

from naruto_vision.synthetic.attributes import Attributes
from naruto_vision.synthetic.look import Look
from naruto_vision.synthetic.palette import CLOTH, SKIN, WHITE, Rgb, darker, lighter
from naruto_vision.synthetic.sketch import SIDES, Frame, Sketch, at, inside, moved, outline, turn

NECK = 1.18
"""Where the shoulders begin."""
_SHOE = "-0.26,-0.25 0.24,-0.25 0.42,0.1 0.4,0.3 -0.28,0.3"


@dataclass(frozen=True)
class Build:
    """Measures of a body in head units; widths are halves, ``arm`` is the length of upper arm and of forearm."""

    shoulder: float
    waist: float
    hip: float
    torso: float
    leg: float
    arm: float
    thick: float

    @property
    def crotch(self) -> float:
        """Where the legs begin."""
        return NECK + self.torso

    @property
    def feet(self) -> float:
        """Where the soles are."""
        return self.crotch + self.leg + 0.25


def build_of(attributes: Attributes, look: Look) -> Build:
    """Measures of a character in this look."""
    tall, boy = look.height, attributes.person == "boy"
    return Build(
        shoulder=0.66 + 0.2 * tall + (0.12 if boy else 0.0),
        waist=0.5 + 0.08 * tall + (0.1 if boy else 0.0),
        hip=0.58 + 0.1 * tall + (0.02 if boy else 0.06),
        torso=1.3 + 0.75 * tall,
        leg=1.15 + 1.75 * tall,
        arm=0.72 + 0.5 * tall,
        thick=0.21 + 0.03 * tall,
    )


def _draw_limb(sketch: Sketch, ink: int, length: float, top: float, end: float) -> None:
    """Draw a limb downwards from the frame's origin, with round ends of these half widths."""
    sketch.mirrored(ink, [(top * 0.3, -top), (top, -0.1), (end, length), (end * 0.5, length + end * 0.9)])


def draw_arm(
    sketch: Sketch, attributes: Attributes, build: Build, body: Frame, swing: tuple[float, float, int]
) -> Frame:
    """Draw one arm with its sleeve and hand, and return the frame of the hand.

    ``swing`` has the degrees outwards of the upper arm and of the forearm against it, and the side (-1 or 1).
    """
    upper_swing, lower_swing, side = swing
    sketch.part = "arms"
    skin, cloth = SKIN[attributes.skin], WHITE if attributes.top == "vest" else CLOTH[attributes.top_colour]
    shoulder = inside(body, turn(side * (build.shoulder - 0.08), NECK + 0.22, upper_swing, side))
    elbow = inside(shoulder, turn(0.0, build.arm, lower_swing))
    thick, long = build.thick, attributes.sleeves == "long"
    sketch.enter(elbow)
    fore = sketch.ink(skin)
    _draw_limb(sketch, fore, build.arm * 0.9, thick, thick * 0.85)
    sketch.oval(fore, 0.0, build.arm, thick * 1.12, thick * 1.12)
    sketch.oval(fore, thick * 0.9, build.arm * 0.94, thick * 0.4, thick * 0.6)
    upper = sketch.ink(cloth if long else skin, 0 if long else fore)
    if long:
        _draw_limb(sketch, upper, build.arm * 0.7, thick * 1.2, thick * (1.9 if attributes.top == "robe" else 1.25))
        cuff = [(-0.6, build.arm * 0.78), (0.6, build.arm * 0.78)]
        sketch.stroke(sketch.ink(lighter(cloth, 0.45), upper), cuff, 0.1, upper, taper=False)
    sketch.enter(shoulder)
    _draw_limb(sketch, upper, build.arm, thick * 1.2, thick * (1.2 if long else 1.0))
    if attributes.sleeves == "short":
        _draw_limb(sketch, sketch.ink(cloth), build.arm * 0.42, thick * 1.35, thick * 1.55)
    if attributes.top == "armor":
        sketch.oval(sketch.ink(lighter(CLOTH[attributes.top_colour], 0.25)), 0.0, 0.02, thick * 2.0, thick * 1.6)
    sketch.enter(body)
    return inside(elbow, turn(0.0, build.arm))


def hand_of(hand: Frame, body: Frame, side: int) -> Frame:
    """The upright frame at a hand: held things stay upright, however the arm swings."""
    x, y = at(hand, 0.0, 0.0)
    return (body[0] * side, body[1], x, body[3] * side, body[4], y)


def draw_legs(sketch: Sketch, attributes: Attributes, look: Look, build: Build, body: Frame) -> None:
    """Draw legs, shoes and legwear."""
    sketch.part = "legs"
    skin, cloth, bottom = SKIN[attributes.skin], CLOTH[attributes.bottom_colour], attributes.bottom
    shoe = darker(cloth, 0.35) if bottom == "none" else darker(CLOTH[attributes.accent], 0.3)
    for side, swing in zip(SIDES, look.legs, strict=True):
        sketch.enter(inside(body, turn(side * build.hip * 0.5, build.crotch - 0.1, swing * 0.6, side)))
        _draw_limb(sketch, sketch.ink(skin), build.leg, 0.3, 0.2)
        sketch.blob(sketch.ink(shoe), moved(outline(_SHOE), 0.0, build.leg))
        if bottom in {"pants", "shorts"}:
            _draw_trouser(sketch, cloth, build.leg, short=bottom == "shorts")
    sketch.enter(body)
    if bottom == "skirt":
        _draw_skirt(sketch, cloth, build, look.sway * 0.12)
    elif bottom != "none":
        seat = [(build.hip, -0.5), (build.hip + 0.05, 0.15), (0.2, 0.15)]
        sketch.mirrored(sketch.ink(cloth), moved(seat, 0.0, build.crotch))


def _draw_trouser(sketch: Sketch, cloth: Rgb, leg: float, *, short: bool) -> None:
    ink = sketch.ink(cloth)
    if short:
        top, end = leg * 0.42, leg * 0.5
        _draw_limb(sketch, ink, leg * 0.34, 0.36, 0.38)
        sketch.poly(sketch.ink(lighter(cloth, 0.35), ink), [(-0.5, top), (0.5, top), (0.5, end), (-0.5, end)], ink)
    else:
        _draw_limb(sketch, ink, leg * 0.84, 0.36, 0.29)
        sketch.stroke(sketch.ink(darker(cloth, 0.3), ink), [(-0.1, leg * 0.4), (0.2, leg * 0.45)], 0.07)


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
