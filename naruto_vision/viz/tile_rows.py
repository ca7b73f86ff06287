"""A contact sheet in rows: one image or text that is asked about, then what it is compared with."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from naruto_vision.records import ImageArray
from naruto_vision.viz.contact_sheet import GAP, HEAD, ContactSheet, Theme
from naruto_vision.viz.overlay import Colour

TILE = 168
"""Side of a tile in sheet pixels."""

_CAPTION = 82
_HEADING = 40
_COLUMNS = 4  # a sheet is at least so wide, for a heading's sentence to fit


@dataclass(frozen=True)
class Tile:
    """One image with what stands below it.

    Args:
        image: Shape (H, W, 3), uint8, RGB; None where it is not there.
        label: In heavy letters.
        path: In small ones; "" for none.
        colour: RGB of the label's mark; None for no mark.
        score: Drawn as a bar and written, in [-1, 1]; None for none.
        note: Beside the score.
    """

    image: ImageArray | None
    label: str
    path: str = ""
    colour: Colour | None = None
    score: float | None = None
    note: str = ""


@dataclass(frozen=True)
class TileRow:
    """One row of a sheet.

    Args:
        heading: A sentence over it.
        accent: RGB of its mark and of the first image's frame; None is dim.
        first: What is asked about.
        others: What it is compared with.
        quote: A text that is asked about in place of an image; "" for none.
    """

    heading: str
    accent: Colour | None
    first: Tile
    others: Sequence[Tile] = field(default=())
    quote: str = ""


def draw_rows(rows: Sequence[TileRow], title: str, theme: Theme = "dark") -> ImageArray:
    """Draw a contact sheet.

    Args:
        rows: At least one.
        title: The sheet's heading.
        theme: Dark or light ground.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
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
    """Write what stands below an image: label, score as a bar and a number, note and path.

    Args:
        sheet: The canvas.
        x: Where it begins, in sheet pixels.
        top: The image's lower edge, in sheet pixels.
        room: The image's width, in sheet pixels.
        tile: What is written; its image is not looked at.
    """
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
