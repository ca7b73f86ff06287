"""From a sketch to pixels: integer arithmetic after the control points, so that all machines give equal pixels.

A sketch is filled, ink number by ink number, into one byte image of twice the size. Lines are where two groups of
inks meet, shade is where a group ends away from the light or is behind a nearer one; a palette turns the
bytes into colours and an exact 2 x 2 mean makes the edges smooth.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.records import Box
from naruto_vision.synthetic.palette import INK, Rgb, darker, rotate_hue
from naruto_vision.synthetic.sketch import MAX_INKS, Sketch

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int32]
Reals: TypeAlias = NDArray[np.float64]
Shading: TypeAlias = Literal["flat", "cel", "soft", "tone"]

_SHIFT = 4  # sixteenths of a supersampled pixel
_LINE = 127
_SOLID = 128  # minimum alpha of a figure's pixel
_SHADED = 128
_FINE = 40.0  # pixels per head unit above which two rounds of corner cutting are visible


@dataclass(frozen=True)
class Style:
    """How a sketch is inked and shaded; lengths are in supersampled pixels."""

    line_width: int = 3  # 1 draws no lines
    line_colour: Rgb = INK
    shading: Shading = "cel"  # in steps, soft, as screen-tone dots, or none
    light: tuple[int, int] = (-5, -7)  # step from a point towards the light (x, y), y down
    hue: float = 0.0  # rotation of all colours in degrees


class Layer(NamedTuple):
    """A drawn sketch, cut to its visible box: ``x`` and ``y`` are its corner in the image, in pixels."""

    x: int
    y: int
    colour: Bytes  # (h, w, 3), RGB times alpha
    alpha: Bytes  # (h, w)
    parts: Bytes  # (h, w), index in PARTS of the visible part; 0 is empty


def positions(sketch: Sketch) -> tuple[Reals, Reals]:
    """Control points of a sketch in its own coordinates."""
    points = np.array(sketch.points, dtype=np.float64)
    lengths = [shape[0] for shape in sketch.shapes]
    frames = np.array([sketch.frames[shape[3]] for shape in sketch.shapes], dtype=np.float64).repeat(lengths, axis=0)
    x, y = points[:, 0], points[:, 1]
    across = frames[:, 0] * x + frames[:, 1] * y + frames[:, 2]
    down = frames[:, 3] * x + frames[:, 4] * y + frames[:, 5]
    return across, down


def _place_points(sketch: Sketch, scale: float, origin: tuple[float, float]) -> Ints:
    """Control points in fixed-point supersampled image coordinates: shape (N, 2), int32."""
    across, down = positions(sketch)
    placed = np.stack([across * scale + origin[0], down * scale + origin[1]], axis=1)
    return np.rint(placed * (2 << _SHIFT)).astype(np.int32)


def _round_corners(points: Ints, starts: Ints, times: int) -> tuple[Ints, Ints]:
    """Cut the corners of all closed polygons at once (Chaikin), which tends to their quadratic B-splines."""
    for _ in range(times):
        following = np.arange(1, len(points) + 1)
        following[starts[1:] - 1] = starts[:-1]
        after = points[following]
        cut = np.empty((len(points), 2, 2), dtype=np.int32)
        cut[:, 0] = (3 * points + after + 2) >> 2
        cut[:, 1] = (points + 3 * after + 2) >> 2
        points, starts = cut.reshape(-1, 2), starts * 2
    return points, starts


def _fill_clipped(canvas: Bytes, outline: Ints, ink: int, clip: int) -> None:
    low = np.maximum(outline.min(axis=0) >> _SHIFT, 0)
    high = np.maximum((outline.max(axis=0) >> _SHIFT) + 2, 0)
    window = canvas[low[1] : high[1], low[0] : high[0]]
    if window.size:
        stencil = np.zeros_like(window)
        cv2.fillPoly(stencil, [outline - (low << _SHIFT).astype(np.int32)], 1, cv2.LINE_8, _SHIFT)
        cv2.bitwise_and(stencil, cv2.inRange(window, clip, clip), dst=stencil)
        window[stencil > 0] = ink


def _fill(sketch: Sketch, outlines: Ints, starts: Ints, shape: tuple[int, int]) -> Bytes:
    """Fill every outline with its ink's number: shape (2h, 2w), uint8."""
    canvas = np.zeros(shape, dtype=np.uint8)
    bounds = starts.tolist()
    for k, (_, ink, clip, _) in enumerate(sketch.shapes):
        outline = outlines[bounds[k] : bounds[k + 1]]
        if clip:
            _fill_clipped(canvas, outline, ink, clip)
        else:
            cv2.fillPoly(canvas, [outline], ink, cv2.LINE_8, _SHIFT)
    return canvas


def _beyond(groups: Bytes, step: tuple[int, int]) -> Bytes:
    """Each pixel's neighbour a step away: shape (H, W), uint8, edges repeated."""
    dx, dy = step
    height, width = groups.shape
    padded = cv2.copyMakeBorder(groups, abs(dy), abs(dy), abs(dx), abs(dx), cv2.BORDER_REPLICATE)
    return np.asarray(padded[abs(dy) + dy :, abs(dx) + dx :][:height, :width], dtype=np.uint8)


def _shade(groups: Bytes, style: Style) -> Bytes:
    """255 where a form turns away from the light or a nearer form throws its shadow: shape (H, W), uint8."""
    dx, dy = style.light
    shade = cv2.compare(_beyond(groups, (-dx, -dy)), groups, cv2.CMP_NE)
    cast = cv2.compare(_beyond(groups, (dx // 2, dy // 2)), groups, cv2.CMP_GT)
    shade = cv2.bitwise_or(shade, cast)
    if style.shading == "tone":
        rows, columns = np.indices(shade.shape, dtype=np.uint8, sparse=True)
        shade &= (((rows + columns) & 4) ^ ((rows - columns) & 4)) * np.uint8(63)
    return np.asarray(shade, dtype=np.uint8)


def _lines(groups: Bytes, style: Style) -> Bytes | None:
    """255 where two groups meet: shape (H, W), uint8; None for a style without lines."""
    if style.line_width < 2:
        return None
    kernel = np.ones((style.line_width, style.line_width), dtype=np.uint8)
    return np.asarray(cv2.compare(cv2.dilate(groups, kernel), cv2.erode(groups, kernel), cv2.CMP_NE), dtype=np.uint8)


def _inks(sketch: Sketch, style: Style) -> Bytes:
    """The palette: red, green and blue of each byte value, shape (3, 256), uint8; 0 is nothing."""
    palette = np.zeros((3, 256), dtype=np.uint8)
    shaded = [darker(colour, 0.3) for colour in sketch.colours]
    turned = rotate_hue(np.array([*sketch.colours, *shaded, style.line_colour], dtype=np.float64), style.hue)
    turned = np.clip(np.rint(turned), 0, 255).T
    count = len(sketch.colours)
    palette[:, 1 : count + 1] = turned[:, :count]
    palette[:, _SHADED + 1 : _SHADED + count + 1] = turned[:, count:-1]
    palette[:, _LINE] = turned[:, -1]
    return palette


def _halve(image: Bytes) -> Bytes:
    height, width = image.shape
    return np.asarray(cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def render(sketch: Sketch, style: Style, scale: float, origin: tuple[float, float], window: Box) -> Layer | None:
    """Draw the part of a sketch that lies in a window of the image; None if it is empty.

    ``scale`` is in pixels per head unit, ``origin`` is where the sketch's (0, 0) lies, in pixels.
    """
    if len(sketch.colours) > MAX_INKS:
        raise ValueError(f"sketch: expected at most {MAX_INKS} inks, found {len(sketch.colours)}")
    points = _place_points(sketch, scale, origin)
    margin = style.line_width
    low = np.maximum((points.min(axis=0) >> (_SHIFT + 1)) - margin, window[:2])
    high = np.minimum((points.max(axis=0) >> (_SHIFT + 1)) + margin, window[2:])
    if (high <= low).any():
        return None
    starts = np.cumsum([0, *(shape[0] for shape in sketch.shapes)]).astype(np.int32)
    points = points - (low << (_SHIFT + 1)).astype(np.int32)
    outlines, starts = _round_corners(points, starts, 3 if scale > _FINE else 2)
    width, height = (int(n) for n in (high - low + 1) * 2)
    filled = _fill(sketch, outlines, starts, (height, width))
    return Layer(int(low[0]), int(low[1]), *_ink(sketch, style, filled))


def _table(values: list[int]) -> Bytes:
    table = np.zeros(256, dtype=np.uint8)
    table[1 : len(values) + 1] = values
    return table


def _ink(sketch: Sketch, style: Style, filled: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    """Add lines and shade, colour, and halve: colour (h, w, 3), alpha (h, w) and parts (h, w), uint8."""
    groups = cv2.LUT(filled, _table(sketch.groups))
    parts = cv2.LUT(filled[::2, ::2], _table(sketch.parts))
    lines = _lines(groups, style)
    shade = None
    if style.shading != "flat":
        shade = cv2.bitwise_and(_shade(groups, style), cv2.compare(filled, 0, cv2.CMP_GT))
    if shade is not None and style.shading != "soft":
        filled = cv2.bitwise_or(filled, cv2.bitwise_and(shade, _SHADED))
    if lines is not None:
        filled = cv2.copyTo(np.full_like(filled, _LINE), lines, filled)
    red, green, blue = (_halve(cv2.LUT(filled, table)) for table in _inks(sketch, style))
    alpha = _halve(cv2.compare(filled, 0, cv2.CMP_GT))
    colour = cv2.merge([red, green, blue])
    if shade is not None and style.shading == "soft":
        _soften(colour, shade)
    # lines reach a little beyond the inks that they surround: those pixels belong to the nearest part
    reach = style.line_width // 2 + 1
    kernel = np.ones((reach, reach), dtype=np.uint8)
    parts = cv2.copyTo(parts, parts, cv2.dilate(parts, kernel))
    parts[alpha < _SOLID] = 0
    return colour, alpha, parts


def _soften(colour: Bytes, shade: Bytes) -> None:
    """Darken colours smoothly where there is shade, in place."""
    keep = 256 - ((cv2.blur(_halve(shade), (7, 7)).astype(np.uint16) * 5) >> 4)
    colour[:] = (colour * keep[:, :, None]) >> 8
