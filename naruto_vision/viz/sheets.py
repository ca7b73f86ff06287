"""Contact sheets: rows of tiles, and pairs."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.io.images import image_or_none, write_image
from naruto_vision.records import Box, ImageArray
from naruto_vision.viz.fonts import text_font
from naruto_vision.viz.overlay import Colour, place_tag

Theme: TypeAlias = Literal["dark", "light"]

FINE = 2
"""Supersampling factor: sheets are drawn larger by it and scaled down, which smooths corners and letters."""
_LONGEST = 1000  # characters that are measured where the room is limited
GAP = 18
"""Sheet pixels between cards, and from a card's edge to its content."""
HEAD = 56
"""Height of the heading in sheet pixels."""
RADIUS = 12
"""Corner radius of cards and tiles in sheet pixels."""


@dataclass(frozen=True)
class SheetColours:
    """The colours of a theme."""

    ground: Colour
    card: Colour
    ink: Colour
    dim: Colour
    track: Colour


THEMES: Mapping[Theme, SheetColours] = {
    "dark": SheetColours((22, 24, 29), (34, 37, 44), (240, 242, 245), (150, 156, 168), (58, 62, 72)),
    "light": SheetColours((246, 247, 249), (255, 255, 255), (28, 30, 36), (112, 118, 130), (224, 227, 233)),
}


class ContactSheet:
    """A canvas with a heading; positions and lengths are in sheet pixels."""

    def __init__(self, width: int, height: int, title: str, theme: Theme) -> None:
        self.size = (width, height)
        self.colours = THEMES[theme]
        self._image = Image.new("RGB", (width * FINE, height * FINE), self.colours.ground)
        self._pen = ImageDraw.Draw(self._image)
        self.write(GAP + 4, HEAD // 2, title, 16, self.colours.dim, room=width - 2 * GAP - 4)

    def card(self, x: int, y: int, width: int, height: int, fill: Colour, *, radius: int = RADIUS) -> None:
        """Draw a filled box with round corners."""
        box = tuple(value * FINE for value in (x, y, x + width, y + height))
        self._pen.rounded_rectangle((box[0], box[1], box[2] - 1, box[3] - 1), radius * FINE, fill=fill)

    def write(
        self, x: int, y: int, text: str, size: int, ink: Colour, *, bold: bool = False, room: int | None = None
    ) -> int:
        """Write one line of text."""
        if room is not None and len(text) > _LONGEST:
            text = text[-_LONGEST:] if "/" in text and " " not in text else text[:_LONGEST]
        text, font = text_font(text, size * FINE, bold=bold)
        while room is not None and len(text) > 2 and self._pen.textlength(text, font=font) > room * FINE:
            text = "…" + text[2:] if "/" in text and " " not in text else text[:-2] + "…"
        self._pen.text((x * FINE, y * FINE), text, font=font, fill=ink, anchor="lm")
        return round(self._pen.textlength(text, font=font) / FINE)

    def tile(self, x: int, y: int, side: int, image: ImageArray | None, frame: Colour | None = None) -> None:
        """Fit a whole image into a square with round corners."""
        fine = side * FINE
        square = Image.new("RGB", (fine, fine), self.colours.track)
        if image is not None:
            resized = _fit(image, fine)
            square.paste(resized, ((fine - resized.width) // 2, (fine - resized.height) // 2))
        mask = Image.new("L", square.size)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, fine - 1, fine - 1), RADIUS * FINE, fill=255)
        self._image.paste(square, (x * FINE, y * FINE), mask)
        if image is None:
            self._note_absence(x * FINE + fine / 2, y * FINE + fine / 2)
        if frame is not None:
            box = (x * FINE, y * FINE, x * FINE + fine - 1, y * FINE + fine - 1)
            self._pen.rounded_rectangle(box, RADIUS * FINE, outline=frame, width=3 * FINE)

    def _note_absence(self, x: float, y: float) -> None:
        words, font = text_font("image", 13 * FINE, bold=False)
        for line, step in ((words, -10), ("not found", 10)):
            self._pen.text((x, y + step * FINE), line, font=font, fill=self.colours.dim, anchor="mm")

    def finished(self) -> ImageArray:
        """Return the sheet: shape (height, width, 3), uint8, RGB."""
        return np.array(self._image.reduce(FINE))


def _fit(image: ImageArray, side: int) -> Image.Image:
    """Scale an image so that its longer side is ``side`` pixels."""
    whole = Image.fromarray(image)
    scale = side / max(whole.size)
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    return whole if size == whole.size else whole.resize(size, Image.Resampling.LANCZOS)


TILE = 168
"""Side of a tile in sheet pixels."""

_CAPTION = 82
_HEADING = 40
_COLUMNS = 4  # least width of a sheet, so that the heading fits


def read_tile(file: Path | None) -> ImageArray | None:
    """Read an image at the size of a tile; None if it is missing or cannot be decoded."""
    image = None if file is None else image_or_none(file)
    return None if image is None else np.asarray(_fit(image, TILE * FINE))


@dataclass(frozen=True)
class Tile:
    """One image with its caption."""

    image: ImageArray | None
    label: str
    path: str = ""
    colour: Colour | None = None
    score: float | None = None
    note: str = ""


@dataclass(frozen=True)
class TileRow:
    """One row of a sheet."""

    heading: str
    accent: Colour | None
    first: Tile
    others: Sequence[Tile] = field(default=())
    quote: str = ""


def draw_rows(rows: Sequence[TileRow], title: str, theme: Theme = "dark") -> ImageArray:
    """Draw a contact sheet."""
    columns = max(1 + max((len(row.others) for row in rows), default=0), _COLUMNS)
    line = _HEADING + TILE + _CAPTION + GAP
    width = columns * (TILE + GAP) + 4 * GAP - 8  # one more gap follows the first tile
    sheet = ContactSheet(width, HEAD + line * len(rows) + GAP, title, theme)
    for number, row in enumerate(rows):
        _draw_row(sheet, HEAD + number * line, row)
    return sheet.finished()


def _draw_row(sheet: ContactSheet, top: int, row: TileRow) -> None:
    ink = sheet.colours
    accent = row.accent or ink.dim
    sheet.card(GAP, top, sheet.size[0] - 2 * GAP, _HEADING + TILE + _CAPTION, ink.card)
    sheet.card(GAP + 14, top + 14, 12, 12, accent, radius=6)
    sheet.write(GAP + 34, top + 20, row.heading, 14, ink.ink, bold=True, room=sheet.size[0] - 4 * GAP - 20)
    left, tiles = 2 * GAP - 4, top + _HEADING
    if row.quote:
        _draw_quote(sheet, left, tiles, row.quote)
    else:
        sheet.tile(left, tiles, TILE, row.first.image, accent)
    draw_caption(sheet, left, tiles + TILE, TILE, row.first)
    for position, tile in enumerate(row.others, start=1):
        x = left + GAP + position * (TILE + GAP)
        sheet.tile(x, tiles, TILE, tile.image)
        draw_caption(sheet, x, tiles + TILE, TILE, tile)


def _draw_quote(sheet: ContactSheet, x: int, y: int, quote: str) -> None:
    sheet.card(x, y, TILE, TILE, sheet.colours.track)
    lines = textwrap.wrap(f"“{quote}”", 17, max_lines=7, placeholder=" …")
    for number, words in enumerate(lines):
        middle = y + TILE // 2 + round((number - (len(lines) - 1) / 2) * 21)
        sheet.write(x + 12, middle, words, 14, sheet.colours.ink, room=TILE - 20)


def draw_caption(sheet: ContactSheet, x: int, top: int, room: int, tile: Tile) -> None:
    """Write the caption of an image: label, score as a bar and a number, note and path."""
    ink = sheet.colours
    if tile.colour is None:
        sheet.write(x, top + 18, tile.label, 13, ink.dim, bold=True, room=room)
    else:
        sheet.card(x, top + 12, 12, 12, tile.colour, radius=3)
        sheet.write(x + 19, top + 18, tile.label, 13, ink.ink, bold=True, room=room - 20)
    if tile.score is not None:
        share = min(max(tile.score, 0.0), 1.0)
        sheet.card(x, top + 31, room, 5, ink.track, radius=2)
        sheet.card(x, top + 31, max(5, round(room * share)), 5, tile.colour or ink.dim, radius=2)
    scored = "" if tile.score is None else f"{tile.score:.3f}"
    sheet.write(x, top + 46, "   ".join(filter(None, (scored, tile.note))), 11, ink.ink, room=room)
    sheet.write(x, top + (40 if not scored and not tile.note else 64), tile.path, 10, ink.dim, room=room)


def _card_grid(
    count: int, columns: int, size: tuple[int, int], title: str, theme: Theme, legend: int = 0
) -> tuple[ContactSheet, list[tuple[int, int]]]:
    """Make a sheet with a grid of empty cards below space for a legend; return it and the cards' corners."""
    (width, height), first = size, HEAD + legend
    rows = -(-count // columns)
    sheet = ContactSheet(columns * (width + GAP) + GAP, first + rows * (height + GAP), title, theme)
    corners = [(GAP + k % columns * (width + GAP), first + k // columns * (height + GAP)) for k in range(count)]
    for left, top in corners:
        sheet.card(left, top, width, height, sheet.colours.card)
    return sheet, corners


_PAIR_COLUMNS = 3
_PAIR_HEADING, _PAIR_CAPTION, _BETWEEN = 36, 58, 8
_PAIR_CARD = (2 * TILE + _BETWEEN + GAP, _PAIR_HEADING + TILE + _PAIR_CAPTION)


class SheetPair(NamedTuple):
    """Two tiles and their heading."""

    first: Tile
    second: Tile
    note: str


def pair_sheet(pairs: Sequence[SheetPair], title: str = "", theme: Theme = "dark") -> ImageArray:
    """Draw pairs in rows of three, as RGB."""
    sheet, corners = _card_grid(len(pairs), min(_PAIR_COLUMNS, len(pairs)), _PAIR_CARD, title, theme)
    for pair, (left, top) in zip(pairs, corners, strict=True):
        room = _PAIR_CARD[0] - GAP
        sheet.write(left + GAP // 2, top + 18, pair.note, 13, sheet.colours.ink, bold=True, room=room)
        for number, one in enumerate((pair.first, pair.second)):
            x, y = left + GAP // 2 + number * (TILE + _BETWEEN), top + _PAIR_HEADING
            sheet.tile(x, y, TILE, one.image)
            draw_caption(sheet, x, y + TILE, TILE, one)
    return sheet.finished()


MOST = 12
"""Scenes of one evaluation sheet."""

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
"""Colour of each outcome; those of objects first, then those of predictions only."""

_CLAIMS = frozenset({"duplicate", "part", "too large", "background"})
_SCENE_COLUMNS, _SIDE, _SCENE_CAPTION, _LEGEND = 3, 400, 34, 26


def worst_scenes(scenes: Sequence[Mapping[str, Any]], most: int = MOST) -> list[Mapping[str, Any]]:
    """Choose the scenes with the most wrong objects; ties go to the most false positives."""

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
    """Draw scenes with their boxes: ground truth thick and with a tag, unmatched predictions thin."""
    columns = min(_SCENE_COLUMNS, max(len(scenes), 2))  # the legend needs two
    size = (_SIDE + GAP, _SIDE + GAP + _SCENE_CAPTION)  # a margin of half a gap around each scene
    sheet, corners = _card_grid(len(scenes), columns, size, title, theme, _LEGEND)
    _draw_legend(sheet, scenes)
    lost = 0
    for scene, (left, top) in zip(scenes, corners, strict=True):
        cell = _scene_cell(scene, folder / scene["scene"])
        lost += cell is None
        sheet.tile(left + GAP // 2, top + GAP // 2, _SIDE, cell)
        _caption_scene(sheet, left + GAP // 2, top + GAP // 2 + _SIDE, scene)
    return sheet.finished(), lost


def _caption_scene(sheet: ContactSheet, x: int, top: int, scene: Mapping[str, Any]) -> None:
    objects = scene["objects"]
    right = sum(item["reason"] == "right" for item in objects)
    end = x + sheet.write(x + 4, top + 22, f"{right} of {len(objects)} right", 13, sheet.colours.ink, bold=True)
    sheet.write(end + 20, top + 22, str(scene["scene"]), 11, sheet.colours.dim, room=x + _SIDE - end - 24)


def _draw_legend(sheet: ContactSheet, scenes: Sequence[Mapping[str, Any]]) -> None:
    """Write each reason that occurs with its colour and count, on up to two lines."""
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
    """Scale a scene to its tile and draw its boxes at the supersampled size; None if it cannot be read."""
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
    for item, box in zip(scene["objects"], boxes, strict=True):  # after all boxes, so that none crosses a tag
        _draw_tag(pen, item, box, cell.size, taken)
    return np.array(cell)


def _scaled(bbox: Sequence[int], scale: float) -> Box:
    """Scale a box to whole sheet pixels, then to supersampled ones, so that its lines stay sharp."""
    x1, y1, x2, y2 = bbox  # inclusive, so the far edge of the last pixel is one more
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
    tag = place_tag(box, (int(pen.textlength(words, font=font)) + 8 * FINE, 18 * FINE), frame, taken)
    taken.append(tag)
    pen.rectangle(tag, fill=REASON_COLOURS[item["reason"]])
    pen.text((tag[0] + 4 * FINE, tag[1] + 9 * FINE), words, (255, 255, 255), font, anchor="lm")


def write_evaluation_sheet(scenes: Sequence[Mapping[str, Any]], folder: Path, path: Path, theme: Theme) -> str:
    """Draw the worst scenes and return a summary line; without any, remove an older sheet."""
    worst = worst_scenes(scenes)
    if not worst:
        path.unlink(missing_ok=True)
        return "no scene has a mistake, so there is no sheet"
    title = f"the worst {len(worst)} of {len(scenes)} scenes" if len(worst) < len(scenes) else f"{len(worst)} scenes"
    sheet, lost = draw_evaluation_sheet(worst, folder, title, theme)
    write_image(path, sheet)
    unreadable = f"; {lost} of their images cannot be read in {folder}" if lost else ""
    return f"the {len(worst)} worst scenes are drawn in {path}{unreadable}"
