"""Convert a character with a look to a sketch, and a sketch to a layer of pixels."""

from dataclasses import dataclass

from naruto_vision.records import Box
from naruto_vision.synthetic.attributes import Attributes
from naruto_vision.synthetic.body import NECK, Build, build_of, draw_arm, draw_legs, hand_of
from naruto_vision.synthetic.clothes import draw_back_extra, draw_held, draw_scarf, draw_torso
from naruto_vision.synthetic.head import draw_back_hair, draw_face, draw_front_hair, draw_head_wear, draw_mark
from naruto_vision.synthetic.look import Look
from naruto_vision.synthetic.palette import mix
from naruto_vision.synthetic.raster import Layer, Style, positions, render
from naruto_vision.synthetic.sketch import Frame, Sketch, inside, turn


def sketch_figure(attributes: Attributes, look: Look) -> Sketch:
    """Sketch one figure; its head's centre is near (0, 0), its feet near (0, ``build.feet``)."""
    sketch, build = Sketch(), build_of(attributes, look)
    # leaning turns the figure about its feet, flipping mirrors it
    body = inside(turn(0.0, build.feet, look.lean, -1.0 if look.flip else 1.0), turn(0.0, -build.feet))
    # the head rotates about the neck, so that it stays on the shoulders
    head = inside(inside(body, turn(0.0, NECK - 0.2, look.tilt)), turn(0.0, 0.2 - NECK))
    sketch.enter(body)
    draw_back_extra(sketch, attributes, look, build)
    sketch.enter(head)
    draw_back_hair(sketch, attributes, look)
    sketch.enter(body)
    draw_arm(sketch, attributes, build, body, (look.arms[0], look.arms[1], -1))
    draw_legs(sketch, attributes, look, build, body)
    draw_torso(sketch, attributes, look, build)
    _draw_front_arm(sketch, attributes, look, build, body)
    draw_scarf(sketch, attributes, look)
    sketch.enter(head)
    face = draw_face(sketch, attributes, look)
    draw_front_hair(sketch, attributes, look)
    draw_mark(sketch, attributes, look, face)
    draw_head_wear(sketch, attributes)
    return sketch


def _draw_front_arm(sketch: Sketch, attributes: Attributes, look: Look, build: Build, body: Frame) -> None:
    swing = (look.arms[2], look.arms[3], 1)
    if attributes.held != "none":
        # a discarded arm gives the hand's frame: the hand is drawn over the held thing
        hand = draw_arm(Sketch(), attributes, build, body, swing)
        sketch.enter(hand_of(hand, body, 1))
        draw_held(sketch, attributes)
        sketch.enter(body)
    draw_arm(sketch, attributes, build, body, swing)


def style_of(look: Look, scale: float) -> Style:
    """Convert a look's fractions of the head to supersampled pixels."""
    width = round(look.line * 2 * scale * 2)
    light = (round(look.light[0] * scale * 2), round(look.light[1] * scale * 2))
    return Style(
        line_width=max(2, min(width, 9)) if look.line else 1,
        line_colour=mix((120, 84, 92), (36, 28, 38), look.line_share),
        shading=look.shading,
        light=light,
        hue=look.hue,
    )


def paint(sketch: Sketch, look: Look, scale: float, origin: tuple[float, float], window: Box) -> Layer | None:
    """Draw a sketched figure."""
    return render(sketch, style_of(look, scale), scale, origin, window)


@dataclass(frozen=True)
class Extent:
    """Vertical extent of a figure above (negative) and below its head's centre, in head units."""

    top: float
    feet: float

    @property
    def height(self) -> float:
        """Total height."""
        return self.feet - self.top


def extent_of(sketch: Sketch) -> Extent:
    """Measure a sketched figure without drawing it."""
    _, y = positions(sketch)
    return Extent(float(y.min()), float(y.max()))
