"""What is printed on a top. The frame is the figure's."""

from naruto_vision.drawn.attributes import WHOLE, Attributes
from naruto_vision.drawn.body import NECK, Build
from naruto_vision.drawn.outline import moved, outline
from naruto_vision.drawn.palette import CLOTH
from naruto_vision.drawn.sketch import Sketch

_STAR = (
    "0,-0.42! 0.105801,-0.145623! 0.399444,-0.129787! 0.17119,0.055623! 0.24687,0.339787! "
    "0,0.18! -0.24687,0.339787! -0.17119,0.055623! -0.399444,-0.129787! -0.105801,-0.145623!"
)


def draw_print(sketch: Sketch, attributes: Attributes, build: Build, ink: int) -> None:
    """Print stripes, dots or a star over the cloth; nothing for a plain one.

    Args:
        sketch: What to draw on, in the figure's frame.
        attributes: Who it is.
        build: Its measures.
        ink: The ink of the cloth, which the print stays inside.
    """
    if attributes.pattern == "plain":
        return
    # a print in the colour of the cloth could not be seen
    colour = CLOTH[attributes.accent if attributes.accent != attributes.top_colour else "white"]
    other = sketch.ink(colour, ink)
    match attributes.pattern:
        case "striped":
            _stripes(sketch, other, build.crotch + (1.0 if attributes.top in WHOLE else 0.1), ink)
        case "dotted":
            _dots(sketch, other, ink)
        case "star":
            sketch.blob(other, moved(outline(_STAR), 0.0, NECK + 0.2 + build.torso * 0.35), ink)


def _stripes(sketch: Sketch, ink: int, end: float, cloth: int) -> None:
    for y in (NECK + 0.1 + k * 0.32 for k in range(1, 9)):
        if y < end:
            sketch.poly(ink, [(-1.8, y), (1.8, y), (1.8, y + 0.15), (-1.8, y + 0.15)], cloth)


def _dots(sketch: Sketch, ink: int, cloth: int) -> None:
    for row in range(6):
        for column in range(-2, 3):
            x = column * 0.36 + (0.18 if row % 2 else 0.0)
            sketch.oval(ink, x, NECK + 0.3 + row * 0.32, 0.095, 0.095, cloth)
