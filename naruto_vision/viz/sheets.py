"""Contact sheets: one ground, one kind of card, tile, caption and margin, dark or light; rows, and pairs."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from naruto_vision.io.images import image_or_none
from naruto_vision.records import ImageArray
from naruto_vision.viz.fonts import text_font
from naruto_vision.viz.overlay import Colour

Theme: TypeAlias = Literal["dark", "light"]

FINE = 2
"""Everything is drawn so many times as large and scaled down, which rounds corners and letters smoothly."""
GAP = 18
"""Sheet pixels between cards, and from a card's edge to what is in it."""
HEAD = 56
"""Height of the heading in sheet pixels."""
RADIUS = 12
"""Of the corners of cards and tiles, in sheet pixels."""


@dataclass(frozen=True)
class SheetColours:
    """What a theme consists of, each RGB."""

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
    """A canvas with a heading; every place and length is in sheet pixels."""

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
        """Write one line."""
        text, font = text_font(text, size * FINE, bold=bold)
        while room is not None and len(text) > 2 and self._pen.textlength(text, font=font) > room * FINE:
            text = "…" + text[2:] if "/" in text and " " not in text else text[:-2] + "…"
        self._pen.text((x * FINE, y * FINE), text, font=font, fill=ink, anchor="lm")
        return round(self._pen.textlength(text, font=font) / FINE)

    def tile(self, x: int, y: int, side: int, image: ImageArray | None, frame: Colour | None = None) -> None:
        """Put an image into a square, whole and with round corners."""
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
_COLUMNS = 4  # a sheet is at least so wide, for a heading's sentence to fit


def read_tile(file: Path | None) -> ImageArray | None:
    """Read an image at the size of a tile; None if it is not there or cannot be decoded."""
    image = None if file is None else image_or_none(file)
    return None if image is None else np.asarray(_fit(image, TILE * FINE))


@dataclass(frozen=True)
class Tile:
    """One image with what stands below it."""

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
    width = columns * (TILE + GAP) + 4 * GAP - 8  # the first stands one gap apart from the others
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
    for place, tile in enumerate(row.others, start=1):
        x = left + GAP + place * (TILE + GAP)
        sheet.tile(x, tiles, TILE, tile.image)
        draw_caption(sheet, x, tiles + TILE, TILE, tile)


def _draw_quote(sheet: ContactSheet, x: int, y: int, quote: str) -> None:
    sheet.card(x, y, TILE, TILE, sheet.colours.track)
    lines = textwrap.wrap(f"“{quote}”", 17, max_lines=7, placeholder=" …")
    for number, words in enumerate(lines):
        middle = y + TILE // 2 + round((number - (len(lines) - 1) / 2) * 21)
        sheet.write(x + 12, middle, words, 14, sheet.colours.ink, room=TILE - 20)


def draw_caption(sheet: ContactSheet, x: int, top: int, room: int, tile: Tile) -> None:
    """Write what stands below an image: label, score as a bar and a number, note and path."""
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


_PAIR_COLUMNS = 3
_PAIR_HEADING, _PAIR_CAPTION, _BETWEEN = 36, 58, 8
_PAIR_CARD = 2 * TILE + _BETWEEN + GAP


class SheetPair(NamedTuple):
    """Two tiles and what is written over them."""

    first: Tile
    second: Tile
    note: str


def pair_sheet(pairs: Sequence[SheetPair], title: str = "", theme: Theme = "dark") -> ImageArray:
    """Draw pairs in rows of three, as RGB."""
    columns = min(_PAIR_COLUMNS, len(pairs))
    line = _PAIR_HEADING + TILE + _PAIR_CAPTION + GAP
    sheet = ContactSheet(columns * (_PAIR_CARD + GAP) + GAP, HEAD + -(-len(pairs) // columns) * line, title, theme)
    for number, pair in enumerate(pairs):
        left, top = GAP + number % columns * (_PAIR_CARD + GAP), HEAD + number // columns * line
        sheet.card(left, top, _PAIR_CARD, line - GAP, sheet.colours.card)
        sheet.write(left + GAP // 2, top + 18, pair.note, 13, sheet.colours.ink, bold=True, room=_PAIR_CARD - GAP)
        for place, one in enumerate((pair.first, pair.second)):
            x, y = left + GAP // 2 + place * (TILE + _BETWEEN), top + _PAIR_HEADING
            sheet.tile(x, y, TILE, one.image)
            draw_caption(sheet, x, y + TILE, TILE, one)
    return sheet.finished()
