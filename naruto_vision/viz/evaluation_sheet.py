"""The contact sheet of an evaluation: the scenes with most mistakes, every box in the colour of its reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.io.images import image_or_none, write_image
from naruto_vision.records import Box, ImageArray
from naruto_vision.viz.fonts import text_font
from naruto_vision.viz.overlay import Colour, place_tag
from naruto_vision.viz.sheets import FINE, GAP, HEAD, ContactSheet, Theme

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
_COLUMNS, _SIDE, _CAPTION, _LEGEND = 3, 400, 34, 26
_CARD = _SIDE + GAP  # a margin of half a gap around each scene


def worst_scenes(scenes: Sequence[Mapping[str, Any]], most: int = MOST) -> list[Mapping[str, Any]]:
    """Choose the scenes with most objects that are not right, and of these those with most superfluous claims."""

    def mistakes(scene: Mapping[str, Any]) -> tuple[int, int]:
        return (
            sum(item["reason"] != "right" for item in scene["objects"]),
            sum(item["reason"] in _CLAIMS for item in scene["preds"]),
        )

    bad = [scene for scene in scenes if mistakes(scene) > (0, 0)]
    return sorted(bad, key=lambda scene: (*(-count for count in mistakes(scene)), scene["scene"]))[:most]


def draw_evaluation_sheet(
    scenes: Sequence[Mapping[str, Any]], folder: Path, title: str = "", theme: Theme = "dark"
) -> tuple[ImageArray, int]:
    """Draw scenes with their boxes: true ones thick and with a tag, predicted ones that no object has thin."""
    columns = min(_COLUMNS, max(len(scenes), 2))  # a legend wants two
    rows, line = -(-len(scenes) // columns), _CARD + _CAPTION + GAP
    sheet = ContactSheet(columns * (_CARD + GAP) + GAP, HEAD + _LEGEND + rows * line, title, theme)
    _draw_legend(sheet, scenes)
    lost = 0
    for number, scene in enumerate(scenes):
        left, top = GAP + number % columns * (_CARD + GAP), HEAD + _LEGEND + number // columns * line
        cell = _scene_cell(scene, folder / scene["scene"])
        lost += cell is None
        sheet.card(left, top, _CARD, _CARD + _CAPTION, sheet.colours.card)
        sheet.tile(left + GAP // 2, top + GAP // 2, _SIDE, cell)
        _draw_caption(sheet, left + GAP // 2, top + GAP // 2 + _SIDE, scene)
    return sheet.finished(), lost


def _draw_caption(sheet: ContactSheet, x: int, top: int, scene: Mapping[str, Any]) -> None:
    objects = scene["objects"]
    right = sum(item["reason"] == "right" for item in objects)
    end = x + sheet.write(x + 4, top + 22, f"{right} of {len(objects)} right", 13, sheet.colours.ink, bold=True)
    sheet.write(end + 20, top + 22, str(scene["scene"]), 11, sheet.colours.dim, room=x + _SIDE - end - 24)


def _draw_legend(sheet: ContactSheet, scenes: Sequence[Mapping[str, Any]]) -> None:
    """Write every reason that occurs beside its colour, with how often it does; two lines if need be."""
    counts = Counter(item["reason"] for scene in scenes for item in scene["objects"])
    counts.update(item["reason"] for scene in scenes for item in scene["preds"] if item["reason"] in _CLAIMS)
    x, y = GAP + 4, HEAD - 4
    for reason, colour in REASON_COLOURS.items():
        if not counts[reason]:
            continue
        if x + 140 > sheet.size[0] - GAP:
            x, y = GAP + 4, y + 18
        sheet.card(x, y - 6, 12, 12, colour, radius=3)
        x += 18 + sheet.write(x + 18, y, f"{reason} {counts[reason]}", 12, sheet.colours.ink) + 20


def _scene_cell(scene: Mapping[str, Any], file: Path) -> ImageArray | None:
    """Scale a scene to its tile and draw its boxes, as fine as the sheet is drawn; None where it cannot be read."""
    pixels = image_or_none(file)
    if pixels is None:
        return None
    image = Image.fromarray(pixels)
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    cell = image.resize((size[0] * FINE, size[1] * FINE), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(cell)
    for item in scene["preds"]:
        if item["reason"] in _CLAIMS:
            pen.rectangle(_scaled(item["bbox"], scale), outline=REASON_COLOURS[item["reason"]], width=FINE)
    boxes = [_scaled(item["bbox"], scale) for item in scene["objects"]]
    for item, box in zip(scene["objects"], boxes, strict=True):
        pen.rectangle(box, outline=REASON_COLOURS[item["reason"]], width=3 * FINE)
    taken: list[Box] = []
    for item, box in zip(scene["objects"], boxes, strict=True):  # after all boxes: none crosses a tag
        _draw_tag(pen, item, box, cell.size, taken)
    return np.array(cell)


def _scaled(bbox: Sequence[int], scale: float) -> Box:
    """Scale a box to whole sheet pixels, then to the finer ones that are drawn: so its lines stay sharp."""
    x1, y1, x2, y2 = bbox  # inclusive: the far edge of the last pixel is one further
    left, top = int(x1 * scale) * FINE, int(y1 * scale) * FINE
    right, bottom = int((x2 + 1) * scale) * FINE - 1, int((y2 + 1) * scale) * FINE - 1
    return left, top, max(left, right), max(top, bottom)


def _draw_tag(
    pen: ImageDraw.ImageDraw, item: Mapping[str, Any], box: Box, frame: tuple[int, int], taken: list[Box]
) -> None:
    words = item["label"]
    if item["reason"] == "wrong name":
        words += f", called {item['answer']}"
    elif item["reason"] != "right":
        words += f": {item['reason']}"
    words, font = text_font(words, 12 * FINE)
    place = place_tag(box, (int(pen.textlength(words, font=font)) + 8 * FINE, 18 * FINE), frame, taken)
    taken.append(place)
    pen.rectangle(place, fill=REASON_COLOURS[item["reason"]])
    pen.text((place[0] + 4 * FINE, place[1] + 9 * FINE), words, (255, 255, 255), font, anchor="lm")


def write_sheet(scenes: Sequence[Mapping[str, Any]], folder: Path, path: Path, theme: Theme) -> str:
    """Draw the worst scenes; an older sheet goes away where there are none."""
    worst = worst_scenes(scenes)
    if not worst:
        path.unlink(missing_ok=True)  # an older one would tell of mistakes that are gone
        return "no scene has a mistake, so there is no sheet"
    title = f"the worst {len(worst)} of {len(scenes)} scenes" if len(worst) < len(scenes) else f"{len(worst)} scenes"
    sheet, lost = draw_evaluation_sheet(worst, folder, title, theme)
    write_image(path, sheet)
    gone = f"; {lost} of their images cannot be read in {folder}" if lost else ""
    return f"the {len(worst)} worst scenes are drawn in {path}{gone}"
