"""Scenes: several characters in one image, with the truth about every visible pixel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from naruto_vision.records import Box, ImageArray, Mask
from naruto_vision.synthetic.attributes import Attributes, Cast, random_attributes
from naruto_vision.synthetic.backdrop import draw_backdrop
from naruto_vision.synthetic.figure import Extent, extent_of, paint, sketch_figure
from naruto_vision.synthetic.finish import finish, lay_over
from naruto_vision.synthetic.look import Look, random_look
from naruto_vision.synthetic.palette import between
from naruto_vision.synthetic.raster import Bytes, Layer
from naruto_vision.synthetic.sketch import PARTS


@dataclass(frozen=True)
class SyntheticImage:
    """An image of one character.

    Args:
        image: Shape (S, S, 3), uint8, RGB.
        mask: Shape (S, S), bool: the character's pixels.
    """

    image: ImageArray
    mask: Mask


def _framing(rng: np.random.Generator, extent: Extent, size: int) -> tuple[float, tuple[float, float]]:
    """Choose how much is seen: pixels a head unit, and where the head's centre lies."""
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
    """Draw one character.

    Args:
        attributes: Who it is.
        seed: Decides everything else: pose, framing, background, light. Equal seeds give equal pixels anywhere.
        size: Side of the image in pixels.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    look = random_look(rng)
    sketch = sketch_figure(attributes, look)
    scale, origin = _framing(rng, extent_of(sketch), size)
    image = draw_backdrop(rng, size, size)
    mask = np.zeros((size, size), dtype=np.bool_)
    layer = paint(sketch, look, scale, origin, (0, 0, size - 1, size - 1))
    if layer is not None:
        lay_over(image, layer)
        height, width = layer.parts.shape
        mask[layer.y : layer.y + height, layer.x : layer.x + width] = layer.parts > 0
    return SyntheticImage(finish(image, rng), mask)


Difficulty: TypeAlias = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class SyntheticObject:
    """One figure of a scene, as far as it can be seen.

    Args:
        label: The cast member's name; None for a stranger.
        attributes: Who it is.
        mask: Shape (S, S), bool: its visible pixels.
        parts: Part name ("head", "torso", "arms", "legs", "held") to its visible pixels, shape (S, S), bool;
            only parts that can be seen. The head has its hair, the legs what covers them.
        box: The tight box of ``mask``, inclusive pixels.
    """

    label: str | None
    attributes: Attributes
    mask: Mask
    parts: Mapping[str, Mask]
    box: Box


@dataclass(frozen=True)
class SyntheticScene:
    """A scene and its truth.

    Args:
        image: Shape (S, S, 3), uint8, RGB.
        difficulty: How crowded, cut and worn it is.
        objects: Its figures, back to front; their masks do not overlap.
    """

    image: ImageArray
    difficulty: Difficulty
    objects: tuple[SyntheticObject, ...]


@dataclass(frozen=True)
class _Plan:
    """What a difficulty means: counts, heights as shares of the side, and chances."""

    figures: tuple[int, int]
    strangers: float
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


@dataclass(frozen=True)
class _Figure:
    label: str | None
    attributes: Attributes
    layer: Layer


def _stranger(rng: np.random.Generator, cast: Cast, alike: float) -> Attributes:
    """Somebody who is not of the cast; at times in the colours of one who is."""
    while True:
        stranger = random_attributes(rng, avoid=cast.attributes)
        if float(rng.random()) >= alike:
            return stranger
        model = cast.attributes[int(rng.integers(len(cast)))]
        stranger = replace(
            stranger,
            hair_colour=model.hair_colour,
            top_colour=model.top_colour,
            bottom_colour=model.bottom_colour,
            accent=model.accent,
            skin=model.skin,
        )
        if not any(stranger.resembles(member) for member in cast.attributes):
            return stranger


def _people(rng: np.random.Generator, cast: Cast, plan: _Plan, *, known: bool) -> list[tuple[str | None, Attributes]]:
    count = int(rng.integers(plan.figures[0], plan.figures[1] + 1))
    order = [int(k) for k in rng.permutation(len(cast))]
    people: list[tuple[str | None, Attributes]] = []
    for k in range(count):
        # somebody known comes first, so that a scene with the cast never has strangers only
        strange = not known or k >= len(order) or (k > 0 and float(rng.random()) < plan.strangers)
        name = None if strange else cast.names[order[k]]
        people.append((name, _stranger(rng, cast, plan.alike) if name is None else cast.members[name]))
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
    # the head stays in the image: a figure without one is nobody
    x = min(max(x, 0.7 * scale), size - 0.7 * scale)
    y = max(feet - extent.feet * scale, 1.1 * scale)
    return paint(sketch, look, scale, (x, y), (0, 0, size - 1, size - 1))


def _owners(figures: list[_Figure], size: int) -> Bytes:
    """Which figure each pixel belongs to, from 1; 0 is the background: shape (size, size), uint8."""
    owners = np.zeros((size, size), dtype=np.uint8)
    for k, figure in enumerate(figures, 1):
        layer = figure.layer
        height, width = layer.parts.shape
        owners[layer.y : layer.y + height, layer.x : layer.x + width][layer.parts > 0] = k
    return owners


def _window(array: Bytes, layer: Layer) -> Bytes:
    height, width = layer.parts.shape
    return array[layer.y : layer.y + height, layer.x : layer.x + width]


def _hidden(figures: list[_Figure], owners: Bytes) -> int | None:
    """The first figure of which too little can be seen."""
    for k, figure in enumerate(figures, 1):
        seen = _window(owners, figure.layer) == k
        head = figure.layer.parts == PARTS.index("head")
        whole, visible = int((figure.layer.parts > 0).sum()), int(seen.sum())
        enough = visible >= max(_VISIBLE * whole, _LEAST * owners.size)
        if not enough or int((seen & head).sum()) < _HEAD_VISIBLE * int(head.sum()):
            return k - 1
    return None


def _box_of(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))


def _object(figure: _Figure, owners: Bytes, k: int) -> SyntheticObject:
    mask = owners == k
    layer = figure.layer
    parts: dict[str, Mask] = {}
    seen = _window(owners, layer) == k
    for number, name in enumerate(PARTS[1:], 1):
        part = seen & (layer.parts == number)
        if part.any():
            parts[name] = np.zeros_like(mask)
            parts[name][layer.y : layer.y + part.shape[0], layer.x : layer.x + part.shape[1]] = part
    return SyntheticObject(figure.label, figure.attributes, mask, parts, _box_of(mask))


def _draw_figures(
    rng: np.random.Generator, people: list[tuple[str | None, Attributes]], plan: _Plan, size: int
) -> list[_Figure]:
    """Draw everybody in the style of one artist, and order them by how near they stand."""
    common = random_look(rng, hue=10.0 * plan.wear)
    width = size / len(people)
    order = rng.permutation(len(people))
    figures: list[_Figure] = []
    for k, (label, attributes) in zip(order.tolist(), people, strict=True):
        look = replace(
            random_look(rng),
            line=common.line,
            line_share=common.line_share,
            shading=common.shading,
            light=common.light,
            hue=common.hue,
        )
        layer = _place(rng, attributes, look, plan, ((k + 0.5) * width, width, size))
        if layer is not None:
            figures.append(_Figure(label, attributes, layer))
    return sorted(figures, key=lambda figure: figure.layer.parts.shape[0] + figure.layer.y)


def draw_scene(
    seed: int, cast: Cast, *, size: int = 384, difficulty: Difficulty | None = None, strangers_only: bool = False
) -> SyntheticScene:
    """Draw a scene of one to five figures.

    A figure of which less than 35 % (or half of its head, or 400 pixels at 384) would be seen is left out.

    Args:
        seed: Decides everything; equal seeds give equal pixels anywhere.
        cast: Who can be in it; each at most once. Strangers never resemble one of them.
        size: Side of the image in pixels.
        difficulty: How crowded, cut and worn it is; None chooses.
        strangers_only: Whether nobody of the cast may be in it; otherwise about 15 % of scenes are so.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen: Difficulty = get_args(Difficulty)[int(rng.integers(3))]
    difficulty = difficulty or chosen
    plan = _PLANS[difficulty]
    known = float(rng.random()) >= _NOBODY_KNOWN and not strangers_only
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
