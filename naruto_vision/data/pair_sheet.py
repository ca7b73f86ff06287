"""A contact sheet of pairs of images, for eyes to judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from naruto_vision.io.images import image_or_none
from naruto_vision.records import ImageArray
from naruto_vision.viz.contact_sheet import GAP, HEAD, ContactSheet, Theme
from naruto_vision.viz.overlay import Colour
from naruto_vision.viz.tile_rows import TILE, Tile, draw_caption

_COLUMNS = 3
_HEADING, _CAPTION, _BETWEEN = 36, 58, 8
_CARD = 2 * TILE + _BETWEEN + GAP


class SheetImage(NamedTuple):
    """One image of a pair, and what is written below it.

    Args:
        file: The image file.
        label: Its class and where it stands.
        path: Its name.
        colour: RGB of the class.
    """

    file: Path
    label: str
    path: str
    colour: Colour


class SheetPair(NamedTuple):
    """Two images and what is written over them.

    Args:
        first: The one.
        second: The other.
        note: How they are alike.
    """

    first: SheetImage
    second: SheetImage
    note: str


def pair_sheet(pairs: Sequence[SheetPair], title: str = "", theme: Theme = "dark") -> ImageArray:
    """Draw pairs of images in rows of three.

    Args:
        pairs: At least one.
        title: The sheet's heading.
        theme: Dark or light ground.

    Returns:
        Shape (H, W, 3), uint8, RGB.
    """
    columns = min(_COLUMNS, len(pairs))
    line = _HEADING + TILE + _CAPTION + GAP
    sheet = ContactSheet(columns * (_CARD + GAP) + GAP, HEAD + -(-len(pairs) // columns) * line, title, theme)
    for number, pair in enumerate(pairs):
        left, top = GAP + number % columns * (_CARD + GAP), HEAD + number // columns * line
        sheet.card(left, top, _CARD, line - GAP, sheet.colours.card)
        sheet.write(left + GAP // 2, top + 18, pair.note, 13, sheet.colours.ink, bold=True, room=_CARD - GAP)
        for place, one in enumerate((pair.first, pair.second)):
            x, y = left + GAP // 2 + place * (TILE + _BETWEEN), top + _HEADING
            sheet.tile(x, y, TILE, image_or_none(one.file))
            draw_caption(sheet, x, y + TILE, TILE, Tile(None, one.label, one.path, one.colour))
    return sheet.finished()
