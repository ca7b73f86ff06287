"""Images of one character, scenes of several with pixel-wise ground truth, and the degradation of both."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.records import Box, ImageArray, Mask
from naruto_vision.synthetic.attributes import Attributes, Cast, random_attributes
from naruto_vision.synthetic.backdrop import draw_backdrop
from naruto_vision.synthetic.figure import Extent, extent_of, paint, sketch_figure
from naruto_vision.synthetic.look import Look, in_style, random_look
from naruto_vision.synthetic.palette import between
from naruto_vision.synthetic.raster import Bytes, Layer
from naruto_vision.synthetic.sketch import PARTS

Difficulty: TypeAlias = Literal["easy", "medium", "hard"]
_OPAQUE = 255
_LARGE = 160


class SyntheticImage(NamedTuple):
    """An image (S, S, 3), uint8, RGB of one character, and the mask (S, S), bool of its pixels."""

    image: ImageArray
    mask: Mask


class SyntheticObject(NamedTuple):
    """The visible part of one figure of a scene."""

    label: str | None  # the cast member's name; None for an unknown
    attributes: Attributes
    mask: Mask  # (S, S), bool
    parts: Mapping[str, Mask]  # (S, S), bool, of each visible part: head with hair, torso, arms, legs, held
    box: Box  # tight around the mask, inclusive pixels


class SyntheticScene(NamedTuple):
    """A scene and its ground truth."""

    image: ImageArray  # (S, S, 3), uint8, RGB
    difficulty: Difficulty  # how crowded, cut and degraded it is
    objects: tuple[SyntheticObject, ...]  # back to front; their masks do not overlap


def _framing(rng: np.random.Generator, extent: Extent, size: int) -> tuple[float, tuple[float, float]]:
    """Choose the framing: pixels per head unit, and the position of the head's centre."""
    kind, zoom = float(rng.random()), 0.85 + 0.35 * float(rng.random())
    across = size * (0.36 + 0.28 * float(rng.random()))
    if kind < 0.3:  # close-up: head and shoulders
        scale = size / 3.6 * zoom
        return scale, (across, size * (0.42 + 0.12 * float(rng.random())))
    if kind < 0.65:  # half figure
        scale = size / 5.4 * zoom
        return scale, (across, size * (0.3 + 0.12 * float(rng.random())))
    scale = size * 0.97 / extent.height * (0.75 + 0.3 * float(rng.random()))
    slack = size - extent.height * scale
    return scale, (across, slack * (0.2 + 0.6 * float(rng.random())) - extent.top * scale)


def draw_image(attributes: Attributes, seed: int, size: int = 128) -> SyntheticImage:
    """Draw one character as a close-up, half or whole figure; equal seeds give equal pixels on any machine."""
    rng = np.random.Generator(np.random.PCG64(seed))
    look = random_look(rng)
    sketch = sketch_figure(attributes, look)
    scale, origin = _framing(rng, extent_of(sketch), size)
    image = draw_backdrop(rng, size, size)
    mask = np.zeros((size, size), dtype=np.bool_)
    layer = paint(sketch, look, scale, origin, (0, 0, size - 1, size - 1))
    if layer is not None:
        lay_over(image, layer)
        _window(mask, layer)[:] = layer.parts > 0
    return SyntheticImage(finish(image, rng), mask)


def _window(array: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """The part of an image-sized array (S, S) that a layer covers: a view."""
    height, width = layer.parts.shape
    return array[layer.y : layer.y + height, layer.x : layer.x + width]


class _Plan(NamedTuple):
    """Parameters of a difficulty: counts, heights as fractions of the side, and probabilities."""

    figures: tuple[int, int]
    unknowns: float
    alike: float
    height: tuple[float, float]
    feet: tuple[float, float]
    drift: float
    wear: float


_PLANS: dict[Difficulty, _Plan] = {
    "easy": _Plan((1, 2), 0.1, 0.0, (0.62, 0.9), (0.88, 0.98), 0.1, 0.4),
    "medium": _Plan((2, 4), 0.25, 0.3, (0.52, 0.95), (0.86, 1.1), 0.3, 0.8),
    "hard": _Plan((3, 5), 0.35, 0.5, (0.46, 1.15), (0.82, 1.25), 0.45, 1.0),
}
_NOBODY_KNOWN = 0.15
_VISIBLE = 0.35
_HEAD_VISIBLE = 0.5
_LEAST = 400 / (384 * 384)


class _Figure(NamedTuple):
    label: str | None
    attributes: Attributes
    layer: Layer


def unknown_character(rng: np.random.Generator, cast: Cast, alike: float) -> Attributes:
    """Sample a character outside the cast, sometimes with a cast member's colours."""
    copied = ("hair_colour", "top_colour", "bottom_colour", "accent", "skin")
    while True:
        unknown = random_attributes(rng, avoid=cast.attributes)
        if float(rng.random()) >= alike:
            return unknown
        model = cast.attributes[int(rng.integers(len(cast)))]
        unknown = replace(unknown, **{name: getattr(model, name) for name in copied})
        if not any(unknown.resembles(member) for member in cast.attributes):
            return unknown


def _people(rng: np.random.Generator, cast: Cast, plan: _Plan, *, known: bool) -> list[tuple[str | None, Attributes]]:
    count = int(rng.integers(plan.figures[0], plan.figures[1] + 1))
    order = [int(k) for k in rng.permutation(len(cast))]
    people: list[tuple[str | None, Attributes]] = []
    for k in range(count):
        # the first figure is of the cast, so that no scene with it has unknowns only
        unknown = not known or k >= len(order) or (k > 0 and float(rng.random()) < plan.unknowns)
        name = None if unknown else cast.names[order[k]]
        people.append((name, unknown_character(rng, cast, plan.alike) if name is None else cast.members[name]))
    return people


def _place(
    rng: np.random.Generator, attributes: Attributes, look: Look, plan: _Plan, slot: tuple[float, float, int]
) -> Layer | None:
    """Draw one figure in its slot: middle and width of the slot, and the side of the image, in pixels."""
    middle, width, size = slot
    sketch = sketch_figure(attributes, look)
    extent = extent_of(sketch)
    scale = between(rng, *plan.height) * size / extent.height
    feet = between(rng, *plan.feet) * size
    x = middle + (float(rng.random()) - 0.5) * 2 * plan.drift * width
    # the head stays in the image: without one a figure is not recognisable
    x = min(max(x, 0.7 * scale), size - 0.7 * scale)
    y = max(feet - extent.feet * scale, 1.1 * scale)
    return paint(sketch, look, scale, (x, y), (0, 0, size - 1, size - 1))


def _owners(figures: list[_Figure], size: int) -> Bytes:
    """Which figure each pixel belongs to, from 1; 0 is the background: shape (size, size), uint8."""
    owners = np.zeros((size, size), dtype=np.uint8)
    for k, figure in enumerate(figures, 1):
        _window(owners, figure.layer)[figure.layer.parts > 0] = k
    return owners


def _hidden(figures: list[_Figure], owners: Bytes) -> int | None:
    """Index of the first figure with too little visible."""
    for k, figure in enumerate(figures, 1):
        seen = _window(owners, figure.layer) == k
        head = figure.layer.parts == PARTS.index("head")
        whole, visible = int((figure.layer.parts > 0).sum()), int(seen.sum())
        enough = visible >= max(_VISIBLE * whole, _LEAST * owners.size)
        if not enough or int((seen & head).sum()) < _HEAD_VISIBLE * int(head.sum()):
            return k - 1
    return None


def _object(figure: _Figure, owners: Bytes, k: int) -> SyntheticObject:
    mask, parts = owners == k, dict[str, Mask]()
    for number, name in enumerate(PARTS[1:], 1):
        part = _window(mask, figure.layer) & (figure.layer.parts == number)
        if part.any():
            parts[name] = np.zeros_like(mask)
            _window(parts[name], figure.layer)[:] = part
    return SyntheticObject(figure.label, figure.attributes, mask, parts, xyxy_from_mask(mask) or (0, 0, 0, 0))


def _draw_figures(
    rng: np.random.Generator, people: list[tuple[str | None, Attributes]], plan: _Plan, size: int
) -> list[_Figure]:
    """Draw all figures in one style, sorted by distance to the viewer, farthest first."""
    common = random_look(rng, hue=10.0 * plan.wear)
    width = size / len(people)
    order = rng.permutation(len(people))
    figures: list[_Figure] = []
    for k, (label, attributes) in zip(order.tolist(), people, strict=True):
        look = in_style(random_look(rng), common)
        layer = _place(rng, attributes, look, plan, ((k + 0.5) * width, width, size))
        if layer is not None:
            figures.append(_Figure(label, attributes, layer))
    return sorted(figures, key=lambda figure: figure.layer.parts.shape[0] + figure.layer.y)


def draw_scene(
    seed: int, cast: Cast, *, size: int = 384, difficulty: Difficulty | None = None, unknowns_only: bool = False
) -> SyntheticScene:
    """Draw a scene of one to five figures.

    A figure of which less than 35 % (or half of its head, or 400 pixels at 384) would be visible is left out.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen: Difficulty = get_args(Difficulty)[int(rng.integers(3))]
    difficulty = difficulty or chosen
    plan = _PLANS[difficulty]
    known = float(rng.random()) >= _NOBODY_KNOWN and not unknowns_only
    image = draw_backdrop(rng, size, size)
    figures = _draw_figures(rng, _people(rng, cast, plan, known=known), plan, size)
    owners = _owners(figures, size)
    while (hidden := _hidden(figures, owners)) is not None:
        del figures[hidden]
        owners = _owners(figures, size)
    for figure in figures:
        lay_over(image, figure.layer)
    objects = tuple(_object(figure, owners, k) for k, figure in enumerate(figures, 1))
    return SyntheticScene(finish(image, rng, strength=plan.wear), difficulty, objects)


def lay_over(image: ImageArray, layer: Layer) -> None:
    """Lay a drawn layer over an image, in place."""
    height, width = layer.alpha.shape
    under = image[layer.y : layer.y + height, layer.x : layer.x + width]
    edges = np.nonzero((layer.alpha > 0) & (layer.alpha < _OPAQUE))
    through = (_OPAQUE - layer.alpha[edges]).astype(np.uint16)[:, None]
    blended = ((under[edges] * through + 128) >> 8) + layer.colour[edges]
    cv2.copyTo(layer.colour, cv2.compare(layer.alpha, _OPAQUE, cv2.CMP_EQ), under)
    under[edges] = blended


def _curves(rng: np.random.Generator, strength: float) -> Bytes:
    """Gamma, gain and a colour cast: shape (1, 256, 3), uint8."""
    gamma = 1.0 + strength * (0.6 * float(rng.random()) - 0.25)
    gains = 1.0 + strength * (0.16 * rng.random(3) - 0.1)
    lift = strength * 26.0 * float(rng.random())
    base = np.round((np.arange(256) / 255.0) ** gamma, 6)[:, None]
    curve = lift + base * (255.0 - lift) * gains[None, :]
    return np.clip(np.rint(curve), 0, 255).astype(np.uint8)[None]


def _light(image: ImageArray, rng: np.random.Generator) -> None:
    """Darken one side smoothly, in place."""
    height, width = image.shape[:2]
    corners = rng.integers(165, 256, (2, 2), dtype=np.uint8)
    field = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint16)
    image[:] = (image * field[:, :, None]) >> 8


def _grain(image: ImageArray, rng: np.random.Generator, depth: int) -> ImageArray:
    """Add noise of up to ``2 ** depth`` levels."""
    height, width = image.shape[:2]
    noise = np.frombuffer(rng.bytes(height * width), dtype=np.uint8).reshape(height, width) >> (8 - depth)
    grey = cv2.merge([noise, noise, noise])
    lowered = cv2.subtract(image, np.full_like(image, 1 << (depth - 1)))
    return np.asarray(cv2.add(lowered, grey), dtype=np.uint8)


def _screen(image: ImageArray, rng: np.random.Generator) -> None:
    """Print dots over a band of the image, in place."""
    height, width = image.shape[:2]
    step = int(rng.integers(4, 8))
    top = int(rng.integers(0, height))
    band = image[top : top + int(rng.integers(height // 8, height // 2))]
    dots = np.zeros((step, step), dtype=np.uint8)
    dots[: step // 2, : step // 2] = int(rng.integers(20, 60))
    tile = np.tile(dots, (band.shape[0] // step + 1, width // step + 1))[: band.shape[0], :width]
    band[:] = cv2.subtract(band, cv2.merge([tile, tile, tile]))


def finish(image: ImageArray, rng: np.random.Generator, *, strength: float = 1.0) -> ImageArray:
    """Simulate print, scan and compression: shape (H, W, 3), uint8, RGB."""
    done = np.asarray(cv2.LUT(image, _curves(rng, strength)), dtype=np.uint8)
    chances = rng.random(4)
    if chances[0] < 0.4 * strength:
        _light(done, rng)
    if chances[1] < 0.2 * strength:
        _screen(done, rng)
    large = min(image.shape[:2]) >= _LARGE  # small images are degraded less
    if chances[2] < (0.3 if large else 0.15) * strength:
        # means over odd counts are never halves, so all machines round them alike
        done = np.asarray(cv2.blur(done, (3, 3)), dtype=np.uint8)
    if large and chances[2] < 0.1 * strength:
        done = np.asarray(cv2.blur(done, (3, 3)), dtype=np.uint8)
    if chances[3] < 0.6 * strength:
        done = _grain(done, rng, (3 if large else 2) + int(rng.integers(3)))
    return done
