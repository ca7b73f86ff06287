"""The contact sheet of an evaluation: the scenes with most mistakes, every box in the colour of its reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.errors import BadImageError, MissingPathError
from naruto_vision.files.images import read_image
from naruto_vision.records import Box, Picture
from naruto_vision.scenes.overlay import Colour, label_font, place_tag

MOST = 12
"""Scenes of one sheet: as many as can be looked at."""

REASON_COLOURS: Mapping[str, Colour] = {
    "right": (46, 160, 67),
    "wrong name": (235, 120, 20),
    "unknown": (120, 120, 120),
    "cut in parts": (150, 70, 200),
    "swallowed": (30, 110, 220),
    "missed": (220, 40, 50),
    "duplicate": (90, 180, 200),
    "part": (190, 130, 220),
    "too large": (110, 160, 235),
    "background": (205, 165, 30),
    "unnamed": (170, 170, 170),
}
"""Colour of each reason; those of objects first, then those that only predictions have."""

_CLAIMS = frozenset({"duplicate", "part", "too large", "background"})
_COLUMNS, _CELL, _CAPTION, _GAP, _HEAD = 3, 400, 26, 12, 64
_INK, _PAPER = (30, 32, 38), (250, 250, 250)


def worst_scenes(scenes: Sequence[Mapping[str, Any]], most: int = MOST) -> list[Mapping[str, Any]]:
    """Choose the scenes with most objects that are not right, and of these those with most superfluous claims.

    Args:
        scenes: What ``verdict_documents`` returns.
        most: At most so many.

    Returns:
        The worst first, equally bad ones by name; scenes without any mistake are left out.
    """

    def mistakes(scene: Mapping[str, Any]) -> tuple[int, int]:
        return (
            sum(item["reason"] != "right" for item in scene["objects"]),
            sum(item["reason"] in _CLAIMS for item in scene["preds"]),
        )

    bad = [scene for scene in scenes if mistakes(scene) > (0, 0)]
    return sorted(bad, key=lambda scene: (*(-count for count in mistakes(scene)), scene["scene"]))[:most]


def draw_evaluation_sheet(scenes: Sequence[Mapping[str, Any]], folder: Path) -> tuple[Picture, int]:
    """Draw scenes with their boxes: true ones thick and with a tag, predicted ones that no object has thin.

    Args:
        scenes: What ``worst_scenes`` returns.
        folder: The folder that the scenes' names are relative to.

    Returns:
        Shape (H, W, 3), uint8, RGB, and how many pictures were not found or cannot be read.
    """
    columns = min(_COLUMNS, max(len(scenes), 2))  # a legend wants two
    rows = -(-len(scenes) // columns)
    height = _HEAD + rows * (_CELL + _CAPTION + _GAP)
    sheet = Image.new("RGB", (columns * (_CELL + _GAP) + _GAP, height), _PAPER)
    _draw_legend(ImageDraw.Draw(sheet), scenes, sheet.width)
    lost = 0
    for number, scene in enumerate(scenes):
        left = _GAP + number % columns * (_CELL + _GAP)
        top = _HEAD + number // columns * (_CELL + _CAPTION + _GAP)
        cell = _scene_cell(scene, folder / scene["scene"])
        lost += cell is None
        pen = ImageDraw.Draw(sheet)
        if cell is None:
            pen.rectangle((left, top, left + _CELL - 1, top + _CELL - 1), fill=(225, 225, 225))
            pen.text((left + _CELL / 2, top + _CELL / 2), "picture not found", _INK, label_font(14), anchor="mm")
        else:
            sheet.paste(cell, (left, top + _CELL - cell.height))
        pen.text((left, top + _CELL + 4), _caption(scene), _INK, label_font(13, bold=False))
    return np.array(sheet), lost


def _caption(scene: Mapping[str, Any]) -> str:
    objects = scene["objects"]
    right = sum(item["reason"] == "right" for item in objects)
    name = scene["scene"]
    return f"{name if len(name) <= 32 else '…' + name[-31:]}: {right} of {len(objects)} right"


def _draw_legend(pen: ImageDraw.ImageDraw, scenes: Sequence[Mapping[str, Any]], width: int) -> None:
    """Write every reason that occurs in its colour, with how often it does."""
    counts = Counter(item["reason"] for scene in scenes for item in scene["objects"])
    counts.update(item["reason"] for scene in scenes for item in scene["preds"] if item["reason"] in _CLAIMS)
    font = label_font(13)
    x, y = _GAP, 10
    for reason, colour in REASON_COLOURS.items():
        if not counts[reason]:
            continue
        words = f"{reason} {counts[reason]}"
        length = 24 + int(pen.textlength(words, font=font))
        if x + length > width - _GAP:
            x, y = _GAP, y + 24
        pen.rectangle((x, y, x + 14, y + 14), fill=colour)
        pen.text((x + 20, y + 7), words, _INK, font, anchor="lm")
        x += length + 16


def _scene_cell(scene: Mapping[str, Any], file: Path) -> Image.Image | None:
    """Scale a scene into its cell and draw its boxes; None where it cannot be read."""
    try:
        picture = Image.fromarray(read_image(file))
    except (BadImageError, MissingPathError):
        return None
    scale = _CELL / max(picture.size)
    cell = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pen = ImageDraw.Draw(cell)
    for item in scene["preds"]:
        if item["reason"] in _CLAIMS:
            pen.rectangle(_scaled(item["bbox"], scale), outline=REASON_COLOURS[item["reason"]])
    boxes = [_scaled(item["bbox"], scale) for item in scene["objects"]]
    for item, box in zip(scene["objects"], boxes, strict=True):
        pen.rectangle(box, outline=REASON_COLOURS[item["reason"]], width=3)
    taken: list[Box] = []
    for item, box in zip(scene["objects"], boxes, strict=True):  # after all boxes: none crosses a tag
        _draw_tag(pen, item, box, cell.size, taken)
    return cell


def _scaled(bbox: Sequence[int], scale: float) -> Box:
    x1, y1, x2, y2 = bbox  # inclusive: the far edge of the last pixel is one further
    left, top = int(x1 * scale), int(y1 * scale)
    return left, top, max(left, int((x2 + 1) * scale) - 1), max(top, int((y2 + 1) * scale) - 1)


def _draw_tag(
    pen: ImageDraw.ImageDraw, item: Mapping[str, Any], box: Box, frame: tuple[int, int], taken: list[Box]
) -> None:
    words = item["label"]
    if item["reason"] == "wrong name":
        words += f", called {item['answer']}"
    elif item["reason"] != "right":
        words += f": {item['reason']}"
    font = label_font(12)
    place = place_tag(box, (int(pen.textlength(words, font=font)) + 8, 18), frame, taken)
    taken.append(place)
    pen.rectangle(place, fill=REASON_COLOURS[item["reason"]])
    pen.text((place[0] + 4, place[1] + 9), words, (255, 255, 255), font, anchor="lm")
