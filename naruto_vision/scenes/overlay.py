"""A picture of a scene's answer: tinted masks, outlines, and name tags that do not cover one another."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.files.fonts import text_font
from naruto_vision.metrics.boxes import shared_pixels
from naruto_vision.records import Box, Picture, Region, ScenePrediction

UNLISTED = (150, 150, 150)
"""Colour of whoever is unknown, or has no colour of their own."""
_TINT = 0.18  # enough to tell whose the mask is; a stronger tint would recolour the figure
_GOLDEN = 0.618033988749895  # steps of the golden ratio keep neighbouring hues far apart

Colour = tuple[int, int, int]


def label_colours(labels: Sequence[str]) -> dict[str, Colour]:
    """Give every label a colour of its own.

    Args:
        labels: The gallery's labels; their sorted order decides, so a label keeps its colour between runs.

    Returns:
        Label to RGB, each 0 to 255.
    """
    colours = {}
    for index, label in enumerate(sorted(labels)):
        red, green, blue = colorsys.hsv_to_rgb((0.02 + index * _GOLDEN) % 1.0, 0.75, 0.95)
        colours[label] = (int(red * 255), int(green * 255), int(blue * 255))
    return colours


def _paint_mask(canvas: Picture, region: Region, colour: Colour, thickness: int) -> None:
    x1, y1, x2, y2 = region.box
    window = canvas[y1 : y2 + 1, x1 : x2 + 1]
    tinted = window[region.mask] * (1 - _TINT) + np.array(colour) * _TINT
    window[region.mask] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(
        region.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1)
    )
    cv2.drawContours(canvas, outlines, -1, colour, thickness, cv2.LINE_AA)


def place_tag(box: Box, tag: tuple[int, int], frame: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Find a place for a name tag near its box.

    Args:
        box: The region's box, inclusive pixels.
        tag: Width and height of the tag in pixels.
        frame: Width and height of the picture in pixels.
        taken: Tags that stand already, inclusive pixels.

    Returns:
        The tag's inclusive box inside the frame (as far as it fits), covering as little of ``taken`` as can be:
        above the box, then inside its top, then below, then further down its sides.
    """
    width, height = tag
    x1, y1, x2, y2 = box
    spots = [(x1, y1 - height), (x1, y1), (x1, y2 + 1), (x2 - width + 1, y1), (x2 - width + 1, y2 - height + 1)]
    spots += [(x1, y) for y in range(y1 + height, max(y2 - height, y1 + height) + 1, max(height, 1))]
    best: tuple[int, Box] | None = None
    for left, top in spots:
        left = min(max(left, 0), max(frame[0] - width, 0))
        top = min(max(top, 0), max(frame[1] - height, 0))
        place = (left, top, left + width - 1, top + height - 1)
        cost = sum(shared_pixels(place, other) for other in taken)
        if best is None or cost < best[0]:
            best = (cost, place)
        if cost == 0:
            break
    return best[1] if best is not None else box


def draw_overlay(
    picture: Picture, prediction: ScenePrediction, shown: Sequence[int], colours: dict[str, Colour]
) -> Picture:
    """Draw the shown regions over a scene.

    Args:
        picture: The scene: shape (H, W, 3), uint8, RGB, upright.
        prediction: What was found in it.
        shown: Indices of the regions to draw, best first.
        colours: Label to RGB.

    Returns:
        A new picture of the same shape.
    """
    canvas = picture.copy()
    height, width = canvas.shape[:2]
    unit = max(1, round(min(height, width) / 320))
    known = prediction.identities
    for index in reversed(shown):
        colour = colours.get(known[index].label, UNLISTED) if known[index].known else UNLISTED
        _paint_mask(canvas, prediction.regions[index], colour, unit)
        x1, y1, x2, y2 = prediction.regions[index].box
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, unit, cv2.LINE_AA)
    image = Image.fromarray(canvas)
    _draw_tags(image, prediction, shown, colours)
    return np.array(image)


def _draw_tags(
    image: Image.Image, prediction: ScenePrediction, shown: Sequence[int], colours: dict[str, Colour]
) -> None:
    pen = ImageDraw.Draw(image)
    points = min(max(11, round(min(image.size) / 30)), 48)
    pad = max(2, points // 5)
    taken: list[Box] = []
    for index in shown:
        identity = prediction.identities[index]
        text, font = text_font(f"{identity.name} {identity.score:.2f}", points)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        size = (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad)
        place = place_tag(prediction.regions[index].box, size, image.size, taken)
        taken.append(place)
        colour = colours.get(identity.label, UNLISTED) if identity.known else UNLISTED
        pen.rectangle(place, fill=colour)
        bright = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 140
        ink = (20, 20, 20) if bright else (255, 255, 255)
        pen.text((place[0] + pad - left, place[1] + pad - top), text, font=font, fill=ink)
