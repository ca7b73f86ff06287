"""Backgrounds: skies, rooms, towns and patterns, with clutter. They say nothing about who stands before them."""

import cv2
import numpy as np

from naruto_vision.drawn.palette import Rgb, darker, lighter, mix
from naruto_vision.drawn.raster import Bytes, Style, render
from naruto_vision.drawn.sketch import Sketch

_Rng = np.random.Generator


def _colour(rng: _Rng, low: int = 60, high: int = 245) -> Rgb:
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return (red, green, blue)


def _u(rng: _Rng, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _cloud(sketch: Sketch, ink: int, x: float, y: float, size: float) -> None:
    for u, v, r in ((-0.9, 0.1, 0.6), (0.0, -0.2, 0.8), (0.9, 0.1, 0.6), (0.0, 0.25, 1.0)):
        sketch.oval(ink, x + u * size, y + v * size, r * size, r * size * 0.62)


def _tree(sketch: Sketch, rng: _Rng, x: float, y: float, size: float) -> None:
    trunk = sketch.ink(mix((120, 84, 54), _colour(rng), 0.2))
    sketch.poly(
        trunk, [(x - size * 0.15, y), (x - size * 0.1, y - size), (x + size * 0.1, y - size), (x + size * 0.15, y)]
    )
    leaves = sketch.ink(mix((70, 150, 80), _colour(rng), 0.45))
    if int(rng.integers(2)):
        _cloud(sketch, leaves, x, y - size * 1.3, size * 0.5)
    else:
        for k in range(3):
            w, v = size * (0.75 - 0.18 * k), y - size * (0.6 + 0.45 * k)
            sketch.poly(leaves, [(x - w, v), (x + w, v), (x, v - size * 0.75)])


def _outdoors(sketch: Sketch, rng: _Rng) -> None:
    _sky(sketch, rng)
    far = sketch.ink(mix(_colour(rng), (150, 180, 190), 0.4))
    xs = [-1.0 + 3.0 * k / 8 for k in range(9)]
    sketch.blob(far, [(2.5, 2.0), (-1.5, 2.0), *((x, _u(rng, 0.3, 0.62)) for x in xs)])
    ground = _u(rng, 0.6, 0.8)
    near = sketch.ink(mix(_colour(rng), (120, 170, 90), 0.45))
    sketch.blob(near, [(2.5, 2.0), (-1.5, 2.0), *((x, ground + _u(rng, -0.04, 0.04)) for x in xs)])
    for _ in range(int(rng.integers(1, 5))):
        _tree(sketch, rng, _u(rng, 0.0, 1.0), ground + _u(rng, 0.0, 0.1), _u(rng, 0.12, 0.34))
    tuft = sketch.ink(darker(mix(_colour(rng), (100, 150, 80), 0.5)), near)
    for _ in range(int(rng.integers(4, 14))):
        x, y = _u(rng, 0, 1), _u(rng, ground + 0.04, 1)
        sketch.stroke(tuft, [(x, y), (x + 0.012, y - 0.04)], 0.014)


def _sky(sketch: Sketch, rng: _Rng) -> None:
    top, low = _colour(rng, 90), _colour(rng, 130)
    first = sketch.ink(top)
    sketch.poly(first, [(-1, -1), (2, -1), (2, 2), (-1, 2)])
    for k in range(1, 5):
        y = 0.13 * k + _u(rng, -0.03, 0.03)
        sketch.poly(sketch.ink(mix(top, low, k / 4), first), [(-1, y), (2, y), (2, 2), (-1, 2)])
    cloud = sketch.ink(lighter(low, 0.7), first)
    for _ in range(int(rng.integers(0, 4))):
        _cloud(sketch, cloud, _u(rng, 0, 1), _u(rng, 0.02, 0.4), _u(rng, 0.05, 0.12))
    if int(rng.integers(3)) == 0:
        sun = _u(rng, 0.05, 0.11)
        sketch.oval(sketch.ink(lighter(_colour(rng, 150), 0.3), first), _u(rng, 0, 1), _u(rng, 0.05, 0.3), sun, sun)


def _room(sketch: Sketch, rng: _Rng) -> None:
    wall, floor = _colour(rng, 90), _colour(rng, 70, 200)
    paper = sketch.ink(wall)
    sketch.poly(paper, [(-1, -1), (2, -1), (2, 2), (-1, 2)])
    if int(rng.integers(2)):
        stripe, step = sketch.ink(mix(wall, _colour(rng), 0.25), paper), _u(rng, 0.06, 0.16)
        for k in range(int(1.2 / step)):
            sketch.poly(
                stripe, [(k * step, -1), (k * step + step * 0.45, -1), (k * step + step * 0.45, 2), (k * step, 2)]
            )
    y = _u(rng, 0.68, 0.86)
    ground = sketch.ink(floor)
    sketch.poly(ground, [(-1, y), (2, y), (2, 2), (-1, 2)])
    plank = sketch.ink(darker(floor, 0.2), ground)
    for k in range(-4, 14):
        x = k * 0.1
        sketch.stroke(plank, [(x, y), ((x - 0.5) * 2 + 0.5, y + 0.5)], 0.008, taper=False)
    for _ in range(int(rng.integers(1, 4))):
        _furniture(sketch, rng, y)


def _furniture(sketch: Sketch, rng: _Rng, floor: float) -> None:
    x, wide, tall = _u(rng, 0.0, 0.9), _u(rng, 0.1, 0.26), _u(rng, 0.14, 0.4)
    colour = _colour(rng)
    match int(rng.integers(4)):
        case 0:  # a window
            y = _u(rng, 0.05, 0.3)
            sketch.poly(sketch.ink(colour), _box(x, y, wide, tall))
            pane = sketch.ink(lighter(_colour(rng, 120), 0.3))
            for u in (0.06, 0.54):
                for v in (0.06, 0.54):
                    sketch.poly(pane, _box(x + u * wide, y + v * tall, wide * 0.4, tall * 0.4))
        case 1:  # a shelf of books
            y = floor - tall
            sketch.poly(sketch.ink(colour), _box(x, y, wide, tall + 0.03))
            for row in range(2):
                for k in range(5):
                    height = tall * _u(rng, 0.24, 0.36)
                    bottom = y + tall * (0.46 + 0.48 * row)
                    sketch.poly(
                        sketch.ink(_colour(rng)),
                        _box(x + wide * (0.07 + 0.175 * k), bottom - height, wide * 0.15, height),
                    )
        case 2:  # a picture or poster
            y = _u(rng, 0.05, 0.35)
            sketch.poly(sketch.ink(colour), _box(x, y, wide, tall * 0.7))
            sketch.poly(sketch.ink(_colour(rng)), _box(x + 0.02, y + 0.02, wide - 0.04, tall * 0.7 - 0.04))
            sketch.oval(sketch.ink(_colour(rng)), x + wide / 2, y + tall * 0.35, wide * 0.25, tall * 0.2)
        case _:  # a plant
            pot = sketch.ink(colour)
            leaf = sketch.ink(mix((60, 150, 70), _colour(rng), 0.35))
            for k in (-2, -1, 0, 1, 2):
                sketch.blob(
                    leaf,
                    [
                        (x, floor - 0.08),
                        (x + k * 0.05 - 0.03, floor - tall * 0.7),
                        (x + k * 0.08, floor - tall),
                        (x + k * 0.06 + 0.03, floor - tall * 0.6),
                    ],
                )
            sketch.poly(
                pot,
                [(x - 0.07, floor - 0.1), (x + 0.07, floor - 0.1), (x + 0.05, floor + 0.03), (x - 0.05, floor + 0.03)],
            )


def _box(x: float, y: float, wide: float, tall: float) -> list[tuple[float, float]]:
    return [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)]


def _town(sketch: Sketch, rng: _Rng) -> None:
    _sky(sketch, rng)
    base = _colour(rng, 90, 200)
    window_colour = lighter(_colour(rng, 120), 0.3)
    x = -0.1
    while x < 1.0:
        wide, top = _u(rng, 0.14, 0.3), _u(rng, 0.08, 0.5)
        wall = sketch.ink(mix(base, _colour(rng), 0.5))
        sketch.poly(wall, _box(x, top, wide, 2.0))
        pane = sketch.ink(window_colour)
        for row in range(3):
            for column in range(2):
                sketch.poly(pane, _box(x + wide * (0.15 + 0.42 * column), top + 0.06 + row * 0.15, wide * 0.28, 0.085))
        x += wide
    road = sketch.ink(_colour(rng, 80, 180))
    y = _u(rng, 0.74, 0.88)
    sketch.poly(road, [(-1, y), (2, y), (2, 2), (-1, 2)])


def _print(sketch: Sketch, rng: _Rng) -> None:
    one, other = _colour(rng), _colour(rng)
    paper = sketch.ink(one)
    sketch.poly(paper, [(-1, -1), (2, -1), (2, 2), (-1, 2)])
    ink = sketch.ink(mix(one, other, _u(rng, 0.3, 1.0)), paper)
    step = _u(rng, 0.09, 0.22)
    count = int(1.0 / step) + 2
    match int(rng.integers(4)):
        case 0:
            for k in range(count):
                for j in range(count):
                    x, y = k * step + (step / 2 if j % 2 else 0), j * step
                    sketch.oval(ink, x, y, step * 0.28, step * 0.28)
        case 1:
            slope = _u(rng, -0.8, 0.8)
            for k in range(-count, 2 * count):
                x = k * step
                sketch.poly(ink, [(x, 0), (x + step * 0.5, 0), (x + step * 0.5 + slope, 1), (x + slope, 1)])
        case 2:
            middle = (_u(rng, 0.2, 0.8), _u(rng, 0.2, 0.8))
            for k in range(0, 24, 2):
                u, v = _spoke(k), _spoke(k + 1)
                sketch.poly(
                    ink,
                    [
                        middle,
                        (middle[0] + 2 * u[0], middle[1] + 2 * u[1]),
                        (middle[0] + 2 * v[0], middle[1] + 2 * v[1]),
                    ],
                )
        case _:
            for k in range(count):
                for j in range(k % 2, count, 2):
                    sketch.poly(ink, _box(k * step, j * step, step, step))


def _spoke(k: int) -> tuple[float, float]:
    angle = k * np.pi / 12
    return (round(float(np.cos(angle)), 6), round(float(np.sin(angle)), 6))


def _clutter(sketch: Sketch, rng: _Rng) -> None:
    """Loose shapes anywhere, in any colour."""
    for _ in range(int(rng.integers(0, 7))):
        x, y, size = _u(rng, 0, 1), _u(rng, 0, 1), _u(rng, 0.03, 0.12)
        ink = sketch.ink(_colour(rng, 30, 255))
        match int(rng.integers(5)):
            case 0:
                sketch.oval(ink, x, y, size, size * _u(rng, 0.5, 1.0))
            case 1:
                sketch.poly(ink, _box(x, y, size * _u(rng, 0.6, 2.0), size))
            case 2:
                sketch.poly(ink, [(x, y - size), (x + size, y + size), (x - size, y + size * _u(rng, 0.2, 1.0))])
            case 3:
                sketch.stroke(
                    ink, [(x, y), (_u(rng, 0, 1), _u(rng, 0, 1)), (_u(rng, 0, 1), _u(rng, 0, 1))], size * 0.35
                )
            case _:
                points = [
                    (x + size * r * _spoke(k)[0], y + size * r * _spoke(k)[1])
                    for k, r in zip(range(0, 24, 3), (1.2, 0.5) * 4, strict=True)
                ]
                sketch.poly(ink, points)


def draw_backdrop(rng: _Rng, width: int, height: int) -> Bytes:
    """Draw a background.

    Args:
        rng: Where the choices come from; it moves on.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Returns:
        Shape (height, width, 3), uint8, RGB.
    """
    sketch = Sketch()
    match int(rng.integers(8)):
        case 0 | 1:
            _outdoors(sketch, rng)
        case 2 | 3:
            _room(sketch, rng)
        case 4:
            _town(sketch, rng)
        case _:
            _print(sketch, rng)
    _clutter(sketch, rng)
    size = max(width, height)
    line = (1, 2, 2, 3)[int(rng.integers(4))]
    style = Style(line_width=line, line_colour=_colour(rng, 20, 110), shading="flat", light=(-2, -3))
    layer = render(sketch, style, float(size), (0.0, 0.0), (0, 0, width - 1, height - 1))
    if layer is None:  # the first outline of every background covers all of it
        return np.zeros((height, width, 3), dtype=np.uint8)
    return layer.colour
