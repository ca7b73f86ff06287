"""The body's measures, its arms and their sleeves. The frame is the figure's: the head's centre is (0, 0)."""

from dataclasses import dataclass

from naruto_vision.drawn.attributes import Attributes
from naruto_vision.drawn.look import Look
from naruto_vision.drawn.palette import CLOTH, SKIN, WHITE, Rgb, lighter
from naruto_vision.drawn.sketch import Frame, Sketch, at, inside, turn


@dataclass(frozen=True)
class Build:
    """Measures of a body in head units.

    Args:
        shoulder: Half the shoulders' width.
        waist: Half the waist's width.
        hip: Half the hips' width.
        torso: Length of the torso.
        leg: Length of a leg.
        arm: Length of an upper arm, and of a forearm.
        thick: Half the width of an arm.
    """

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
        """Where the figure stands."""
        return self.crotch + self.leg + 0.25


NECK = 1.18
"""Where the shoulders begin."""


def build_of(attributes: Attributes, look: Look) -> Build:
    """Measure a character.

    Args:
        attributes: Who it is.
        look: How tall it is drawn.
    """
    tall = look.height
    boy = attributes.person == "boy"
    return Build(
        shoulder=0.66 + 0.2 * tall + (0.12 if boy else 0.0),
        waist=0.5 + 0.08 * tall + (0.1 if boy else 0.0),
        hip=0.58 + 0.1 * tall + (0.02 if boy else 0.06),
        torso=1.3 + 0.75 * tall,
        leg=1.15 + 1.75 * tall,
        arm=0.72 + 0.5 * tall,
        thick=0.21 + 0.03 * tall,
    )


def draw_limb(sketch: Sketch, ink: int, length: float, top: float, end: float) -> None:
    """Draw a limb downwards from the frame's origin, with round ends.

    Args:
        sketch: What to draw on, in the limb's frame.
        ink: Its ink.
        length: How far its lower end is.
        top: Half its width at the origin.
        end: Half its width at the lower end.
    """
    half = [(top * 0.3, -top), (top, -0.1), (end, length), (end * 0.5, length + end * 0.9)]
    sketch.mirrored(ink, half)


def draw_arm(
    sketch: Sketch, attributes: Attributes, build: Build, body: Frame, swing: tuple[float, float, int]
) -> Frame:
    """Draw one arm with its sleeve and hand.

    Args:
        sketch: What to draw on.
        attributes: Who it is.
        build: Its measures.
        body: The figure's frame.
        swing: Degrees outwards of the upper arm and of the forearm against it, and the side (-1 or 1).

    Returns:
        The frame of the hand, in the sketch's coordinates.
    """
    upper_swing, lower_swing, side = swing
    sketch.part = "arms"
    skin, cloth = SKIN[attributes.skin], _sleeve_colour(attributes)
    shoulder = inside(body, turn(side * (build.shoulder - 0.08), NECK + 0.22, upper_swing, side))
    elbow = inside(shoulder, turn(0.0, build.arm, lower_swing))
    thick, long = build.thick, attributes.sleeves == "long"
    wide = 1.9 if attributes.top == "robe" else 1.25
    sketch.enter(elbow)
    fore = sketch.ink(skin)
    draw_limb(sketch, fore, build.arm * 0.9, thick, thick * 0.85)
    sketch.oval(fore, 0.0, build.arm, thick * 1.12, thick * 1.12)
    sketch.oval(fore, thick * 0.9, build.arm * 0.94, thick * 0.4, thick * 0.6)
    upper = sketch.ink(cloth if long else skin, 0 if long else fore)
    if long:
        draw_limb(sketch, upper, build.arm * 0.7, thick * 1.2, thick * wide)
        sketch.stroke(
            sketch.ink(lighter(cloth, 0.45), upper),
            [(-0.6, build.arm * 0.78), (0.6, build.arm * 0.78)],
            0.1,
            upper,
            taper=False,
        )
    sketch.enter(shoulder)
    draw_limb(sketch, upper, build.arm, thick * 1.2, thick * (1.2 if long else 1.0))
    if attributes.sleeves == "short":
        short = sketch.ink(cloth)
        draw_limb(sketch, short, build.arm * 0.42, thick * 1.35, thick * 1.55)
    if attributes.top == "armor":
        pad = sketch.ink(lighter(CLOTH[attributes.top_colour], 0.25))
        sketch.oval(pad, 0.0, 0.02, thick * 2.0, thick * 1.6)
    sketch.enter(body)
    return inside(elbow, turn(0.0, build.arm))


def _sleeve_colour(attributes: Attributes) -> Rgb:
    if attributes.top == "vest":
        return WHITE
    return CLOTH[attributes.top_colour]


def hand_of(hand: Frame, body: Frame, side: int) -> Frame:
    """The upright frame at a hand: things are held straight, however the arm swings.

    Args:
        hand: The hand's frame.
        body: The figure's frame.
        side: 1 or -1.
    """
    x, y = at(hand, 0.0, 0.0)
    return (body[0] * side, body[1], x, body[3] * side, body[4], y)
