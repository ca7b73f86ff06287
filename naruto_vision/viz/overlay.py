"""Which regions are shown, and how: tinted masks, outlines, name tags."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from naruto_vision.geometry import inclusive_iou_matrix, shared_pixels
from naruto_vision.io.text import score_text
from naruto_vision.records import Box, Identity, ImageArray, LabelledBox, Region, ScenePrediction
from naruto_vision.viz.fonts import text_font


@dataclass(frozen=True)
class OverlayConfig:
    """Which regions the overlay shows.

    Args:
        nms_iou: A region is dropped if the IoU of its box with a better one is at least this; the default is that of
            the reference system.
        top_k: Pick at most this many distinct regions; None shows all, and the next four have no effect.
        steps: Falling score thresholds: each pick uses the first one that some region reaches. The last default, -1,
            accepts every region: omit it to show fewer.
        pick_iou: The IoU of a pick's box with that of every earlier pick is below this.
        prefer_different_label: Prefer a label that was not picked yet, if its score is close enough (``within``).
        within: Most difference of that label's score from the best candidate's; ignored if it reaches the step.
        min_score: Show no region below this cosine.
        show_unknown: Show regions whose score is below the gallery's threshold, named "unknown".

    Raises:
        ValueError: If a number is out of its range, or there is no step.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.OverlayConfig(top_k=2, min_score=0.8).steps
        (0.8, 0.7, 0.6, -1.0)
    """

    nms_iou: float = 0.30
    top_k: int | None = None
    steps: tuple[float, ...] = (0.80, 0.70, 0.60, -1.0)
    pick_iou: float = 0.50
    prefer_different_label: bool = False
    within: float = 0.10
    min_score: float = -1.0
    show_unknown: bool = True

    def __post_init__(self) -> None:
        falling = list(self.steps) == sorted(self.steps, reverse=True) and self.steps
        if not falling or self.within < 0 or (self.top_k is not None and self.top_k < 0):
            found = f"steps {list(self.steps)}, top_k {self.top_k}, within {self.within}"
            raise ValueError(f"overlay: expected falling steps, top_k and within >= 0, found {found}")


def choose_for_overlay(prediction: ScenePrediction, settings: OverlayConfig) -> tuple[int, ...]:
    """Choose the regions of the overlay: greedy NMS, threshold, top-K picks.

    Known identities come before unknown ones, then higher scores before lower ones, so an unknown part never
    suppresses a named character.
    """
    identities = prediction.identities
    order = sorted(range(len(identities)), key=lambda i: (not identities[i].known, -identities[i].score, i))
    boxes = [region.box for region in prediction.regions]
    overlap = inclusive_iou_matrix(boxes, boxes)
    kept: list[int] = []
    for index in order:
        identity = identities[index]
        if identity.score < settings.min_score or not (identity.known or settings.show_unknown):
            continue
        if all(overlap[index, other] < settings.nms_iou for other in kept):
            kept.append(index)
    return tuple(kept if settings.top_k is None else _pick(kept, identities, overlap, settings))


def _pick(
    candidates: Sequence[int], identities: Sequence[Identity], overlap: NDArray[np.float64], settings: OverlayConfig
) -> list[int]:
    """Pick ``top_k`` of the candidates, which are sorted best first, by their IoU (N, N)."""
    picked: list[int] = []
    while len(picked) < (settings.top_k or 0):
        free = [
            index
            for index in candidates
            if index not in picked and all(overlap[index, other] < settings.pick_iou for other in picked)
        ]
        for known in (True, False):
            choice = _next_pick([i for i in free if identities[i].known == known], picked, identities, settings)
            if choice is not None:
                picked.append(choice)
                break
        else:
            break
    return picked


def _next_pick(
    free: Sequence[int], picked: Sequence[int], identities: Sequence[Identity], settings: OverlayConfig
) -> int | None:
    """Return the best of the free candidates at the first step that one reaches, or None."""
    if not free:
        return None
    best = free[0]
    step = next((step for step in settings.steps if identities[best].score >= step), None)
    if step is None:
        return None
    names = {identities[index].name for index in picked}
    if settings.prefer_different_label and identities[best].name in names:
        least = min(step, identities[best].score - settings.within)
        others = (i for i in free if identities[i].name not in names and identities[i].score >= least)
        return next(others, best)
    return best


def labelled_boxes(
    prediction: ScenePrediction, chosen: Sequence[int] | None = None, *, named: bool
) -> list[LabelledBox]:
    """Return all regions of a scene, or the chosen ones, under their names, "unknown" too, or their best labels."""
    pairs = list(zip(prediction.regions, prediction.identities, strict=True))
    return [
        LabelledBox(region.box, identity.name if named else identity.label, identity.score)
        for region, identity in (pairs if chosen is None else [pairs[index] for index in chosen])
    ]


UNLISTED = (150, 150, 150)
"""Colour of "unknown", and of labels without a colour."""
_TINT = 0.18  # visible, without recolouring the character
_GOLDEN = 0.618033988749895  # steps of the golden ratio keep neighbouring hues far apart

Colour = tuple[int, int, int]


def hex_colour(colour: Colour) -> str:
    """Write a colour as HTML does.

    Examples:
        >>> hex_colour((255, 128, 0))
        '#ff8000'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


def label_colours(labels: Sequence[str]) -> dict[str, Colour]:
    """Assign a distinct colour to every label."""
    colours = {}
    for index, label in enumerate(sorted(labels)):
        red, green, blue = colorsys.hsv_to_rgb((0.02 + index * _GOLDEN) % 1.0, 0.75, 0.95)
        colours[label] = (int(red * 255), int(green * 255), int(blue * 255))
    return colours


def _paint_mask(canvas: ImageArray, region: Region, colour: Colour, thickness: int) -> None:
    x1, y1, x2, y2 = region.box
    window = canvas[y1 : y2 + 1, x1 : x2 + 1]
    tinted = window[region.mask] * (1 - _TINT) + np.array(colour) * _TINT
    window[region.mask] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(
        region.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1)
    )
    cv2.drawContours(canvas, outlines, -1, colour, thickness, cv2.LINE_AA)


def place_tag(box: Box, tag: tuple[int, int], frame: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Return the box of a name tag (width, height) near its region's box that overlaps the ``taken`` ones least."""
    width, height = tag
    x1, y1, x2, y2 = box
    spots = [(x1, y1 - height), (x1, y1), (x1, y2 + 1), (x2 - width + 1, y1), (x2 - width + 1, y2 - height + 1)]
    spots += [(x1, y) for y in range(y1 + height, max(y2 - height, y1 + height) + 1, max(height, 1))]
    best: tuple[int, Box] | None = None
    for left, top in spots:
        left = min(max(left, 0), max(frame[0] - width, 0))
        top = min(max(top, 0), max(frame[1] - height, 0))
        spot = (left, top, left + width - 1, top + height - 1)
        cost = sum(shared_pixels(spot, other) for other in taken)
        if best is None or cost < best[0]:
            best = (cost, spot)
        if cost == 0:
            break
    return best[1] if best is not None else box


class DrawnRegion(NamedTuple):
    """A region of an overlay, its colour and the text of its tag; no tag without text."""

    region: Region
    colour: Colour
    text: str


class DrawnBox(NamedTuple):
    """A box of an overlay, its colour and the text of its tag; no tag without text."""

    box: Box
    colour: Colour
    text: str


def draw_boxes(image: ImageArray, drawn: Sequence[DrawnBox]) -> ImageArray:
    """Draw boxes with their tags over an image (H, W, 3), uint8; the first ones are on top."""
    canvas = image.copy()
    for (x1, y1, x2, y2), colour, _ in reversed(drawn):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, _line_width(image), cv2.LINE_AA)
    return _draw_tags(canvas, drawn)


def _line_width(image: ImageArray) -> int:
    side: int = min(image.shape[:2])
    return max(1, round(side / 320))


def draw_overlay(
    image: ImageArray, prediction: ScenePrediction, shown: Sequence[int], colours: Mapping[str, Colour]
) -> ImageArray:
    """Draw the shown regions over a scene: image (H, W, 3), uint8."""
    drawn = []
    for index in shown:
        identity = prediction.identities[index]
        colour = colours.get(identity.label, UNLISTED) if identity.known else UNLISTED
        text = f"{identity.name} {score_text(identity.score)}"
        drawn.append(DrawnRegion(prediction.regions[index], colour, text))
    return draw_regions(image, drawn)


def draw_regions(image: ImageArray, drawn: Sequence[DrawnRegion]) -> ImageArray:
    """Draw regions with their tags over an image (H, W, 3), uint8; the first ones are on top."""
    canvas, unit = image.copy(), _line_width(image)
    for region, colour, _ in reversed(drawn):
        _paint_mask(canvas, region, colour, unit)
        x1, y1, x2, y2 = region.box
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, unit, cv2.LINE_AA)
    return _draw_tags(canvas, [DrawnBox(each.region.box, each.colour, each.text) for each in drawn])


def _draw_tags(canvas: ImageArray, drawn: Sequence[DrawnBox]) -> ImageArray:
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    points = min(max(11, round(min(image.size) / 30)), 48)
    pad = max(2, points // 5)
    taken: list[Box] = []
    for box, colour, written in drawn:
        if not written:
            continue
        text, font = text_font(written, points)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        size = (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad)
        tag = place_tag(box, size, image.size, taken)
        taken.append(tag)
        pen.rectangle(tag, fill=colour)
        bright = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 140
        ink = (20, 20, 20) if bright else (255, 255, 255)
        pen.text((tag[0] + pad - left, tag[1] + pad - top), text, font=font, fill=ink)
    return np.array(image)
