"""Rooms as backgrounds: wallpaper, floorboards and furniture."""

import numpy as np

from naruto_vision.drawn.chance import any_colour, between
from naruto_vision.drawn.outline import box
from naruto_vision.drawn.palette import Rgb, darker, lighter, mix
from naruto_vision.drawn.sketch import Sketch

_Rng = np.random.Generator
_Place = tuple[float, float, float, float]
"""Left edge, floor, width and height of a piece of furniture."""


def draw_room(sketch: Sketch, rng: _Rng) -> None:
    """Draw a wall, a floor and what stands there.

    Args:
        sketch: What to draw on; the picture is the unit square.
        rng: Where the choices come from; it moves on.
    """
    wall, floor = any_colour(rng, 90), any_colour(rng, 70, 200)
    paper = sketch.ink(wall)
    sketch.poly(paper, [(-1, -1), (2, -1), (2, 2), (-1, 2)])
    if int(rng.integers(2)):
        stripe, step = sketch.ink(mix(wall, any_colour(rng), 0.25), paper), between(rng, 0.06, 0.16)
        for k in range(int(1.2 / step)):
            sketch.poly(
                stripe, [(k * step, -1), (k * step + step * 0.45, -1), (k * step + step * 0.45, 2), (k * step, 2)]
            )
    y = between(rng, 0.68, 0.86)
    ground = sketch.ink(floor)
    sketch.poly(ground, [(-1, y), (2, y), (2, 2), (-1, 2)])
    plank = sketch.ink(darker(floor, 0.2), ground)
    for k in range(-4, 14):
        x = k * 0.1
        sketch.stroke(plank, [(x, y), ((x - 0.5) * 2 + 0.5, y + 0.5)], 0.008, taper=False)
    for _ in range(int(rng.integers(1, 4))):
        _furniture(sketch, rng, y)


def _furniture(sketch: Sketch, rng: _Rng, floor: float) -> None:
    place = (between(rng, 0.0, 0.9), floor, between(rng, 0.1, 0.26), between(rng, 0.14, 0.4))
    colour = any_colour(rng)
    match int(rng.integers(4)):
        case 0:
            _window(sketch, rng, place, colour)
        case 1:
            _shelf(sketch, rng, place, colour)
        case 2:
            _poster(sketch, rng, place, colour)
        case _:
            _plant(sketch, rng, place, colour)


def _window(sketch: Sketch, rng: _Rng, place: _Place, colour: Rgb) -> None:
    x, _, wide, tall = place
    y = between(rng, 0.05, 0.3)
    sketch.poly(sketch.ink(colour), box(x, y, wide, tall))
    pane = sketch.ink(lighter(any_colour(rng, 120), 0.3))
    for u in (0.06, 0.54):
        for v in (0.06, 0.54):
            sketch.poly(pane, box(x + u * wide, y + v * tall, wide * 0.4, tall * 0.4))


def _shelf(sketch: Sketch, rng: _Rng, place: _Place, colour: Rgb) -> None:
    x, floor, wide, tall = place
    y = floor - tall
    sketch.poly(sketch.ink(colour), box(x, y, wide, tall + 0.03))
    for row in range(2):
        for k in range(5):
            height, bottom = tall * between(rng, 0.24, 0.36), y + tall * (0.46 + 0.48 * row)
            book = box(x + wide * (0.07 + 0.175 * k), bottom - height, wide * 0.15, height)
            sketch.poly(sketch.ink(any_colour(rng)), book)


def _poster(sketch: Sketch, rng: _Rng, place: _Place, colour: Rgb) -> None:
    x, _, wide, tall = place
    y = between(rng, 0.05, 0.35)
    sketch.poly(sketch.ink(colour), box(x, y, wide, tall * 0.7))
    sketch.poly(sketch.ink(any_colour(rng)), box(x + 0.02, y + 0.02, wide - 0.04, tall * 0.7 - 0.04))
    sketch.oval(sketch.ink(any_colour(rng)), x + wide / 2, y + tall * 0.35, wide * 0.25, tall * 0.2)


def _plant(sketch: Sketch, rng: _Rng, place: _Place, colour: Rgb) -> None:
    x, floor, _, tall = place
    pot = sketch.ink(colour)
    leaf = sketch.ink(mix((60, 150, 70), any_colour(rng), 0.35))
    for k in (-2, -1, 0, 1, 2):
        left, right = (x + k * 0.05 - 0.03, floor - tall * 0.7), (x + k * 0.06 + 0.03, floor - tall * 0.6)
        sketch.blob(leaf, [(x, floor - 0.08), left, (x + k * 0.08, floor - tall), right])
    top, base = floor - 0.1, floor + 0.03
    sketch.poly(pot, [(x - 0.07, top), (x + 0.07, top), (x + 0.05, base), (x - 0.05, base)])
