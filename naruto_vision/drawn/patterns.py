"""Printed patterns as backgrounds, and loose clutter over any background."""

import numpy as np

from naruto_vision.drawn.chance import any_colour, between
from naruto_vision.drawn.outline import box
from naruto_vision.drawn.palette import mix
from naruto_vision.drawn.sketch import Point, Sketch

_Rng = np.random.Generator


def _spoke(k: int) -> Point:
    """The direction of one of 24 spokes."""
    angle = k * np.pi / 12
    return (round(float(np.cos(angle)), 6), round(float(np.sin(angle)), 6))


def draw_pattern(sketch: Sketch, rng: _Rng) -> None:
    """Draw dots, slanting stripes, rays or a chequerboard.

    Args:
        sketch: What to draw on; the picture is the unit square.
        rng: Where the choices come from; it moves on.
    """
    one, other = any_colour(rng), any_colour(rng)
    paper = sketch.ink(one)
    sketch.poly(paper, [(-1, -1), (2, -1), (2, 2), (-1, 2)])
    ink = sketch.ink(mix(one, other, between(rng, 0.3, 1.0)), paper)
    step = between(rng, 0.09, 0.22)
    count = int(1.0 / step) + 2
    match int(rng.integers(4)):
        case 0:
            _dots(sketch, ink, step)
        case 1:
            _slants(sketch, rng, ink, step)
        case 2:
            _rays(sketch, rng, ink)
        case _:
            for k in range(count):
                for j in range(k % 2, count, 2):
                    sketch.poly(ink, box(k * step, j * step, step, step))


def _dots(sketch: Sketch, ink: int, step: float) -> None:
    count = int(1.0 / step) + 2
    for k in range(count):
        for j in range(count):
            x, y = k * step + (step / 2 if j % 2 else 0), j * step
            sketch.oval(ink, x, y, step * 0.28, step * 0.28)


def _slants(sketch: Sketch, rng: _Rng, ink: int, step: float) -> None:
    count, slope = int(1.0 / step) + 2, between(rng, -0.8, 0.8)
    for k in range(-count, 2 * count):
        x = k * step
        sketch.poly(ink, [(x, 0), (x + step * 0.5, 0), (x + step * 0.5 + slope, 1), (x + slope, 1)])


def _rays(sketch: Sketch, rng: _Rng, ink: int) -> None:
    x, y = between(rng, 0.2, 0.8), between(rng, 0.2, 0.8)
    for k in range(0, 24, 2):
        (p, q), (u, v) = _spoke(k), _spoke(k + 1)
        sketch.poly(ink, [(x, y), (x + 2 * p, y + 2 * q), (x + 2 * u, y + 2 * v)])


def draw_clutter(sketch: Sketch, rng: _Rng) -> None:
    """Draw a few loose shapes anywhere, in any colour.

    Args:
        sketch: What to draw on; the picture is the unit square.
        rng: Where the choices come from; it moves on.
    """
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
            case _:
                _draw_star(sketch, ink, (x, y), size)


def _draw_star(sketch: Sketch, ink: int, middle: Point, size: float) -> None:
    points = []
    for k, reach in zip(range(0, 24, 3), (1.2, 0.5) * 4, strict=True):
        across, down = _spoke(k)
        points.append((middle[0] + size * reach * across, middle[1] + size * reach * down))
    sketch.poly(ink, points)
