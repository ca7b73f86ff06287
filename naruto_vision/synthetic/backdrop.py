"""Backgrounds: landscapes, interiors, towns, patterns and clutter."""

import math

import numpy as np

from naruto_vision.synthetic.palette import Rgb, any_colour, between, darker, lighter, mix
from naruto_vision.synthetic.raster import Bytes, Style, render
from naruto_vision.synthetic.sketch import Point, Sketch, box

_Rng = np.random.Generator
_SPOKES: list[Point] = [(round(math.cos(k * math.pi / 12), 6), round(math.sin(k * math.pi / 12), 6)) for k in range(25)]


def _below(y: float) -> list[Point]:
    """The unit-square image from a height downwards."""
    return [(-1, y), (2, y), (2, 2), (-1, 2)]


def _cloud(sketch: Sketch, ink: int, x: float, y: float, size: float) -> None:
    for u, v, r in ((-0.9, 0.1, 0.6), (0.0, -0.2, 0.8), (0.9, 0.1, 0.6), (0.0, 0.25, 1.0)):
        sketch.oval(ink, x + u * size, y + v * size, r * size, r * size * 0.62)


def _tree(sketch: Sketch, rng: _Rng, x: float, y: float, size: float) -> None:
    trunk = sketch.ink(mix((120, 84, 54), any_colour(rng), 0.2))
    top, wide, narrow = y - size, size * 0.15, size * 0.1
    sketch.poly(trunk, [(x - wide, y), (x - narrow, top), (x + narrow, top), (x + wide, y)])
    leaves = sketch.ink(mix((70, 150, 80), any_colour(rng), 0.45))
    if int(rng.integers(2)):
        _cloud(sketch, leaves, x, y - size * 1.3, size * 0.5)
    else:
        for k in range(3):
            w, v = size * (0.75 - 0.18 * k), y - size * (0.6 + 0.45 * k)
            sketch.poly(leaves, [(x - w, v), (x + w, v), (x, v - size * 0.75)])


def _sky(sketch: Sketch, rng: _Rng) -> None:
    top, low = any_colour(rng, 90), any_colour(rng, 130)
    first = sketch.ink(top)
    sketch.poly(first, _below(-1))
    for k in range(1, 5):
        y = 0.13 * k + between(rng, -0.03, 0.03)
        sketch.poly(sketch.ink(mix(top, low, k / 4), first), _below(y))
    cloud = sketch.ink(lighter(low, 0.7), first)
    for _ in range(int(rng.integers(0, 4))):
        _cloud(sketch, cloud, between(rng, 0, 1), between(rng, 0.02, 0.4), between(rng, 0.05, 0.12))
    if int(rng.integers(3)) == 0:
        size = between(rng, 0.05, 0.11)
        sun = sketch.ink(lighter(any_colour(rng, 150), 0.3), first)
        sketch.oval(sun, between(rng, 0, 1), between(rng, 0.05, 0.3), size, size)


def _outdoors(sketch: Sketch, rng: _Rng) -> None:
    _sky(sketch, rng)
    far = sketch.ink(mix(any_colour(rng), (150, 180, 190), 0.4))
    xs = [-1.0 + 3.0 * k / 8 for k in range(9)]
    sketch.blob(far, [(2.5, 2.0), (-1.5, 2.0), *((x, between(rng, 0.3, 0.62)) for x in xs)])
    ground = between(rng, 0.6, 0.8)
    near = sketch.ink(mix(any_colour(rng), (120, 170, 90), 0.45))
    sketch.blob(near, [(2.5, 2.0), (-1.5, 2.0), *((x, ground + between(rng, -0.04, 0.04)) for x in xs)])
    for _ in range(int(rng.integers(1, 5))):
        _tree(sketch, rng, between(rng, 0.0, 1.0), ground + between(rng, 0.0, 0.1), between(rng, 0.12, 0.34))
    tuft = sketch.ink(darker(mix(any_colour(rng), (100, 150, 80), 0.5)), near)
    for _ in range(int(rng.integers(4, 14))):
        x, y = between(rng, 0, 1), between(rng, ground + 0.04, 1)
        sketch.stroke(tuft, [(x, y), (x + 0.012, y - 0.04)], 0.014)


def _town(sketch: Sketch, rng: _Rng) -> None:
    _sky(sketch, rng)
    base, panes = any_colour(rng, 90, 200), lighter(any_colour(rng, 120), 0.3)
    x = -0.1
    while x < 1.0:
        wide, top = between(rng, 0.14, 0.3), between(rng, 0.08, 0.5)
        sketch.poly(sketch.ink(mix(base, any_colour(rng), 0.5)), box(x, top, wide, 2.0))
        pane = sketch.ink(panes)
        for row in range(3):
            for column in range(2):
                sketch.poly(pane, box(x + wide * (0.15 + 0.42 * column), top + 0.06 + row * 0.15, wide * 0.28, 0.085))
        x += wide
    sketch.poly(sketch.ink(any_colour(rng, 80, 180)), _below(between(rng, 0.74, 0.88)))


def _room(sketch: Sketch, rng: _Rng) -> None:
    wall, floor = any_colour(rng, 90), any_colour(rng, 70, 200)
    paper = sketch.ink(wall)
    sketch.poly(paper, _below(-1))
    if int(rng.integers(2)):
        stripe, step = sketch.ink(mix(wall, any_colour(rng), 0.25), paper), between(rng, 0.06, 0.16)
        for left, right in ((k * step, k * step + step * 0.45) for k in range(int(1.2 / step))):
            sketch.poly(stripe, [(left, -1), (right, -1), (right, 2), (left, 2)])
    y = between(rng, 0.68, 0.86)
    ground = sketch.ink(floor)
    sketch.poly(ground, _below(y))
    plank = sketch.ink(darker(floor, 0.2), ground)
    for x in (k * 0.1 for k in range(-4, 14)):
        sketch.stroke(plank, [(x, y), ((x - 0.5) * 2 + 0.5, y + 0.5)], 0.008, taper=False)
    for _ in range(int(rng.integers(1, 4))):
        slot = (between(rng, 0.0, 0.9), y, between(rng, 0.1, 0.26), between(rng, 0.14, 0.4))
        colour = any_colour(rng)
        (_window, _shelf, _poster, _plant)[int(rng.integers(4))](sketch, rng, slot, colour)


_Slot = tuple[float, float, float, float]
"""Left edge, floor, width and height of a piece of furniture."""


def _window(sketch: Sketch, rng: _Rng, slot: _Slot, colour: Rgb) -> None:
    x, _, wide, tall = slot
    y = between(rng, 0.05, 0.3)
    sketch.poly(sketch.ink(colour), box(x, y, wide, tall))
    pane = sketch.ink(lighter(any_colour(rng, 120), 0.3))
    for u in (0.06, 0.54):
        for v in (0.06, 0.54):
            sketch.poly(pane, box(x + u * wide, y + v * tall, wide * 0.4, tall * 0.4))


def _shelf(sketch: Sketch, rng: _Rng, slot: _Slot, colour: Rgb) -> None:
    x, floor, wide, tall = slot
    y = floor - tall
    sketch.poly(sketch.ink(colour), box(x, y, wide, tall + 0.03))
    for row in range(2):
        for k in range(5):
            height, bottom = tall * between(rng, 0.24, 0.36), y + tall * (0.46 + 0.48 * row)
            book = box(x + wide * (0.07 + 0.175 * k), bottom - height, wide * 0.15, height)
            sketch.poly(sketch.ink(any_colour(rng)), book)


def _poster(sketch: Sketch, rng: _Rng, slot: _Slot, colour: Rgb) -> None:
    x, _, wide, tall = slot
    y = between(rng, 0.05, 0.35)
    sketch.poly(sketch.ink(colour), box(x, y, wide, tall * 0.7))
    sketch.poly(sketch.ink(any_colour(rng)), box(x + 0.02, y + 0.02, wide - 0.04, tall * 0.7 - 0.04))
    sketch.oval(sketch.ink(any_colour(rng)), x + wide / 2, y + tall * 0.35, wide * 0.25, tall * 0.2)


def _plant(sketch: Sketch, rng: _Rng, slot: _Slot, colour: Rgb) -> None:
    x, floor, _, tall = slot
    pot = sketch.ink(colour)
    leaf = sketch.ink(mix((60, 150, 70), any_colour(rng), 0.35))
    for k in (-2, -1, 0, 1, 2):
        left, right = (x + k * 0.05 - 0.03, floor - tall * 0.7), (x + k * 0.06 + 0.03, floor - tall * 0.6)
        sketch.blob(leaf, [(x, floor - 0.08), left, (x + k * 0.08, floor - tall), right])
    top, base = floor - 0.1, floor + 0.03
    sketch.poly(pot, [(x - 0.07, top), (x + 0.07, top), (x + 0.05, base), (x - 0.05, base)])


def _pattern(sketch: Sketch, rng: _Rng) -> None:
    """Dots, slanting stripes, rays or a chequerboard."""
    one, other = any_colour(rng), any_colour(rng)
    paper = sketch.ink(one)
    sketch.poly(paper, _below(-1))
    ink = sketch.ink(mix(one, other, between(rng, 0.3, 1.0)), paper)
    step = between(rng, 0.09, 0.22)
    (_dots, _slants, _rays, _squares)[int(rng.integers(4))](sketch, rng, ink, step)


def _dots(sketch: Sketch, _: _Rng, ink: int, step: float) -> None:
    count = int(1.0 / step) + 2
    for k in range(count):
        for j in range(count):
            sketch.oval(ink, k * step + (step / 2 if j % 2 else 0), j * step, step * 0.28, step * 0.28)


def _slants(sketch: Sketch, rng: _Rng, ink: int, step: float) -> None:
    count, slope = int(1.0 / step) + 2, between(rng, -0.8, 0.8)
    for x in (k * step for k in range(-count, 2 * count)):
        sketch.poly(ink, [(x, 0), (x + step * 0.5, 0), (x + step * 0.5 + slope, 1), (x + slope, 1)])


def _rays(sketch: Sketch, rng: _Rng, ink: int, _: float) -> None:
    x, y = between(rng, 0.2, 0.8), between(rng, 0.2, 0.8)
    for k in range(0, 24, 2):
        (p, q), (u, v) = _SPOKES[k : k + 2]
        sketch.poly(ink, [(x, y), (x + 2 * p, y + 2 * q), (x + 2 * u, y + 2 * v)])


def _squares(sketch: Sketch, _: _Rng, ink: int, step: float) -> None:
    count = int(1.0 / step) + 2
    for k in range(count):
        for j in range(k % 2, count, 2):
            sketch.poly(ink, box(k * step, j * step, step, step))


def _draw_clutter(sketch: Sketch, rng: _Rng) -> None:
    """A few loose shapes anywhere, in any colour."""
    for _ in range(int(rng.integers(0, 7))):
        x, y, size = between(rng, 0, 1), between(rng, 0, 1), between(rng, 0.03, 0.12)
        ink = sketch.ink(any_colour(rng, 30, 255))
        match int(rng.integers(5)):
            case 0:
                sketch.oval(ink, x, y, size, size * between(rng, 0.5, 1.0))
            case 1:
                sketch.poly(ink, box(x, y, size * between(rng, 0.6, 2.0), size))
            case 2:
                sketch.poly(ink, [(x, y - size), (x + size, y + size), (x - size, y + size * between(rng, 0.2, 1.0))])
            case 3:
                ends = [(between(rng, 0, 1), between(rng, 0, 1)) for _ in range(2)]
                sketch.stroke(ink, [(x, y), *ends], size * 0.35)
            case _:  # a star
                reaches = zip(_SPOKES[:24:3], (1.2, 0.5) * 4, strict=True)
                sketch.poly(ink, [(x + size * reach * u, y + size * reach * v) for (u, v), reach in reaches])


def draw_backdrop(rng: _Rng, width: int, height: int) -> Bytes:
    """Draw a background: shape (height, width, 3), uint8, RGB."""
    sketch = Sketch()
    kinds = (_outdoors, _outdoors, _room, _room, _town, _pattern, _pattern, _pattern)
    kinds[int(rng.integers(8))](sketch, rng)
    _draw_clutter(sketch, rng)
    line = (1, 2, 2, 3)[int(rng.integers(4))]
    style = Style(line_width=line, line_colour=any_colour(rng, 20, 110), shading="flat", light=(-2, -3))
    layer = render(sketch, style, float(max(width, height)), (0.0, 0.0), (0, 0, width - 1, height - 1))
    if layer is None:  # the first outline of every background covers all of it
        return np.zeros((height, width, 3), dtype=np.uint8)
    return layer.colour
